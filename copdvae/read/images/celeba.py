"""CelebA, aligned and cropped (Liu, Luo, Wang & Tang 2015): 202,599 faces 218 x 178, 40 attributes each.

http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html: `img_align_celeba/000001.jpg` and so on; `list_attr_celeba.txt`: the number of images,
the attributes' names, then a file's name and 40 times 1 or -1 (here: 1 or 0). Read where they are beside it: `identity_CelebA.txt` (file,
person) as `group`, `list_eval_partition.txt` (file, 0 training, 1 validation, 2 test) as `held_out`. Paper C: 64 x 64, "crop and align" not
said further; D: 218 x 178.
"""

from pathlib import Path

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.images.image_set import ImageSet, rows_to_keep
from copdvae.read.images.pictures import read_pictures

ATTRIBUTES = 40
NATIVE = (218, 178)  # height, width


def read_celeba(folder: Path, keep: np.ndarray | None = None, size: tuple[int, int] | None = None) -> ImageSet:
    """CelebA from the folder that has the lists and `img_align_celeba`; `keep` chooses rows, in its order.

    All of them take 24 GB as they are and 2.5 GB at 64 x 64.
    """
    folder = Path(folder)
    listed = folder / "list_attr_celeba.txt"
    names, files, values = read_attributes(listed)
    rows = rows_to_keep(listed, keep, len(files))
    person, part = (read_column(folder / name, files) for name in ("identity_CelebA.txt", "list_eval_partition.txt"))
    pictures = folder / "img_align_celeba"
    there = {path.name for path in pictures.glob("*.jpg")} if pictures.is_dir() else set()
    lost = [files[row] for row in rows if files[row] not in there]
    if lost:
        raise ReadError(f"{pictures}: {len(lost):,} of {len(rows):,} pictures of {listed.name} missing, {lost[0]} first", "no_file")
    image = read_pictures([pictures / files[row] for row in rows], "JPEG", [NATIVE], 3, size)
    return ImageSet(
        "celeba", image, values[rows], names, (2,) * ATTRIBUTES,
        group=None if person is None else person[rows], held_out=None if part is None else part[rows] == 2,
    )  # fmt: skip


def read_attributes(path: Path) -> tuple[tuple[str, ...], list[str], np.ndarray]:
    """The attributes' names, the files' names, and 1 or 0 for each: (N, 40)."""
    lines = read_lines(path)
    names = tuple(lines[1].split()) if len(lines) > 1 else ()
    rows = [line.split() for line in lines[2:]]
    if len(names) != ATTRIBUTES or not lines[0].isdecimal():
        raise ReadError(f"{path}: {len(names)} attributes, expected a count, then {ATTRIBUTES} names, then the rows", "wrong_layout")
    if len(rows) != int(lines[0]):
        raise ReadError(f"{path}: {len(rows):,} rows, its first line says {int(lines[0]):,}; fetch it again", "truncated")
    wrong = next((number for number, row in enumerate(rows, 3) if len(row) != 1 + ATTRIBUTES or not set(row[1:]) <= {"1", "-1"}), None)
    if wrong is not None:
        raise ReadError(f"{path}: line {wrong} is not a file's name and {ATTRIBUTES} times 1 or -1", "wrong_layout")
    values = np.array([[value == "1" for value in row[1:]] for row in rows], dtype=float)
    return names, [row[0] for row in rows], values.reshape(-1, ATTRIBUTES)


def read_column(path: Path, files: list[str]) -> np.ndarray | None:
    """The number that belongs to each of `files`, (N,) int64; None where there is no such list."""
    if not path.is_file():
        return None
    pairs = [line.split() for line in read_lines(path)]
    if any(len(pair) != 2 or not pair[1].isdecimal() for pair in pairs) or (found := dict(pairs)).keys() != set(files):
        raise ReadError(f"{path}: not a name and a number for each image of list_attr_celeba.txt", "wrong_layout")
    return np.array([int(found[name]) for name in files], dtype=np.int64)


def read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise ReadError(f"{path}: no such file", "no_file")
    return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
