"""MNIST and Fashion-MNIST: IDX files written byte by byte here, and the real ones."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from copdvae.errors import ReadError
from copdvae.read.images.mnist import read_fashion_mnist, read_mnist

IMAGES = {"train": np.arange(3 * 784, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28), "t10k": np.full((2, 28, 28), 9, np.uint8)}
LABELS = {"train": np.array([5, 0, 9], np.uint8), "t10k": np.array([7, 2], np.uint8)}


def idx(array: np.ndarray) -> bytes:
    """The format as MNIST's page has it: 0, 0, 8, axes; sizes, big-endian; data."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def write(folder, zipped: bool = True):
    folder.mkdir(exist_ok=True)
    for part in IMAGES:
        for kind, array in (("images-idx3", IMAGES[part]), ("labels-idx1", LABELS[part])):
            name = f"{part}-{kind}-ubyte"
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return folder


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("read", "name"), [(read_mnist, "mnist"), (read_fashion_mnist, "fashion_mnist")])
def test_images_come_with_their_labels_those_held_out_last(tmp_path, read, name, zipped):
    found = read(write(tmp_path / "P0042", zipped))
    np.testing.assert_array_equal(found.image, np.concatenate([IMAGES["train"], IMAGES["t10k"]])[:, None])
    assert found.image.dtype == np.uint8
    assert found.factors.tolist() == [[5], [0], [9], [7], [2]]
    assert found.held_out.tolist() == [False, False, False, True, True]
    assert (found.name, found.names, found.sizes, found.cyclic, found.group) == (name, ("label",), (10,), {}, None)


TRAIN = "train-images-idx3-ubyte"
BREAKS = {
    "cut short": (lambda raw: raw[:-1], "2,351 bytes of data, expected 2,352", "truncated"),
    "too long": (lambda raw: raw + b"\0", "more than 2,352 bytes", "truncated"),
    "no data": (lambda raw: raw[:7], "header", "truncated"),
    "empty": (lambda raw: b"", "starts with", "not_idx"),
    "a page instead": (lambda raw: b"<html>404</html>", "not IDX", "not_idx"),
    "floats": (lambda raw: raw[:2] + b"\x0d" + raw[3:], "not IDX", "not_idx"),
    "other rows": (lambda raw: idx(np.zeros((3, 56, 14), np.uint8)), "28 x 28", "wrong_shape"),
    "fewer images": (lambda raw: idx(np.zeros((2, 28, 28), np.uint8)), "2 images, labels of shape", "wrong_shape"),
    "a monstrous claim": (lambda raw: raw[:4] + struct.pack(">3i", 2**31 - 1, 28, 28) + raw[16:], "cannot hold", "truncated"),
    "a negative claim": (lambda raw: raw[:4] + struct.pack(">3i", -3, -28, 28) + raw[16:], "cannot hold", "truncated"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("damage", "words", "reason"), BREAKS.values(), ids=BREAKS)
def test_a_broken_file_is_refused_by_name(tmp_path, damage, words, reason, zipped):
    folder = write(tmp_path / "P0042", zipped)
    raw = damage(idx(IMAGES["train"]))
    (folder / (f"{TRAIN}.gz" if zipped else TRAIN)).write_bytes(gzip.compress(raw) if zipped else raw)
    with pytest.raises(ReadError, match=words) as caught:
        read_mnist(folder)
    assert "P0042" in str(caught.value)
    assert caught.value.reason == reason


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: raw[: len(raw) // 2], lambda raw: b"PK" + raw[2:]])
def test_a_broken_gzip_is_refused_by_name(tmp_path, damage):
    path = write(tmp_path / "P0042") / f"{TRAIN}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ReadError, match=r"P0042.*not a whole gzip"):
        read_mnist(path.parent)


def test_labels_beyond_nine_and_missing_files_are_refused(tmp_path):
    folder = write(tmp_path / "P0042")
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array([1, 10], np.uint8))))
    with pytest.raises(ReadError, match="P0042: a label 10 in t10k, expected 0 to 9"):
        read_mnist(folder)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ReadError, match=r"P0042: neither t10k-labels-idx1-ubyte.gz nor"):
        read_mnist(folder)


@pytest.mark.data
@pytest.mark.parametrize(
    ("read", "name", "digest", "first"),
    [
        # Published digests of the unzipped training images: MNIST's and the one of the official Fashion-MNIST file.
        (read_mnist, "mnist", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", [5, 0, 4, 1, 9]),
        (read_fashion_mnist, "fashion_mnist", None, [9, 0, 0, 3, 0]),
    ],
)
def test_the_real_files_have_60_000_and_10_000_images(real_data, read, name, digest, first):
    found = read(real_data / "images" / name)
    assert found.image.shape == (70_000, 1, 28, 28)
    assert found.held_out.sum() == 10_000
    assert not found.held_out[:60_000].any()
    assert found.factors[:5, 0].tolist() == first
    labels = found.factors[:, 0]
    if name == "fashion_mnist":
        assert np.bincount(labels.astype(int)).tolist() == [7_000] * 10
        return
    head = bytes([0, 0, 8, 3]) + struct.pack(">3i", 60_000, 28, 28)
    assert hashlib.sha256(head + found.image[:60_000].tobytes()).hexdigest() == digest
    zero, one = (found.image[labels == digit].mean(axis=0)[0, 14, 14] for digit in (0, 1))
    assert zero < 20 < 200 < one  # a zero is hollow in the middle, a one is not: rows and columns lie as they should
