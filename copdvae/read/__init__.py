"""Readers: CT volumes, label maps and tables from outside, checked once and refused by name.

The format follows from the path: a folder is a DICOM series, `.nii` and `.nii.gz` are NIfTI, `.nrrd` and `.nhdr` NRRD,
`.mha` and `.mhd` MetaImage.
"""

import hashlib
from pathlib import Path
from types import ModuleType

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.options import PLAIN, ReadConfig
from copdvae.read.volume import Volume

FORMATS = {".nii": "nifti", ".nii.gz": "nifti", ".nrrd": "nrrd", ".nhdr": "nrrd", ".mha": "metaimage", ".mhd": "metaimage"}


def read_ct(path: Path, series: str | None = None, config: ReadConfig = PLAIN, breath: str = "") -> Volume:
    """Read the one CT at `path`. Raises `ReadError` on anything else.

    Of a DICOM folder with several series, `series` names one; `config` says how to choose otherwise, and what may be resampled; `breath`,
    "insp" or "exp", says which scan is wanted where descriptions tell the two apart.
    """
    from copdvae.read.geometry import check_hu

    volume = _reader(path, series).read_volume(Path(path), *_of_a_folder(path, series, config, breath))
    check_hu(volume.hu, Path(path))
    return volume


def check_ct(path: Path, series: str | None = None, config: ReadConfig = PLAIN, breath: str = "") -> dict:
    """What the headers of the CT at `path` say, without its voxels: `reader`, `shape` and `spacing_mm` (z, y, x), `header`, `warnings`.

    Raises the same `ReadError` as `read_ct` for everything that headers and file sizes show. Of a DICOM folder also `series`, what to call
    the one that was chosen, and `patient` and `study`: equal for equal ones within this process, for comparison and never to be written.
    """
    return _reader(path, series).check_headers(Path(path), *_of_a_folder(path, series, config, breath))


def read_labels(path: Path, like: Volume) -> np.ndarray:
    """The integer label map at `path` (z, y, x), on the voxel grid of `like`; `ReadError` if it is empty or on another grid."""
    path = Path(path)
    if path.is_dir():
        raise ReadError(f"{path}: a folder; give the label map as .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd", "unknown_format")
    labels, affine = _reader(path, None).read_label_map(path, like.hu.shape)
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*np.subtract(labels.shape[::-1], 1), 1]
    apart = float(np.linalg.norm(corners @ (affine - like.affine).T, axis=1).max())
    if apart > 0.1 * min(like.spacing):
        raise ReadError(
            f"{path}: corners lie up to {apart:.2f} mm from the CT's; make it on the CT's grid (origin, spacing, axes)", "mask_grid"
        )
    if not labels.any():
        raise ReadError(f"{path}: every label is 0; expected a mask with some voxels set", "empty_mask")
    return labels


def source_hash(path: Path) -> str:
    """16 hexadecimal digits that change with the contents of the CT's files, and not with their names or order."""
    from copdvae.read.files import regular_files

    path = Path(path)
    digests = []
    for file in regular_files(path) if path.is_dir() else _reader(path, None).files(path):
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16]


def _reader(path: Path, series: str | None) -> ModuleType:
    """The module that reads `path`; imported here, because `copdvae --help` must not wait for SimpleITK."""
    path = Path(path)
    if not path.exists():
        raise ReadError(f"{path}: no such file or folder", "not_found")
    if path.is_dir():
        from copdvae.read import dicom

        return dicom
    if series is not None:
        raise ReadError(f"{path}: a series can be named in a DICOM folder only", "unknown_format")
    name = path.name.lower()
    kind = next((FORMATS[suffix] for suffix in FORMATS if name.endswith(suffix)), None)
    if kind is None or not path.is_file():
        raise ReadError(f"{path}: expected a DICOM folder or a file that ends in {', '.join(FORMATS)}", "unknown_format")
    if kind == "nifti":
        from copdvae.read import nifti

        return nifti
    from copdvae.read import metaimage

    return metaimage


def _of_a_folder(path: Path, series: str | None, config: ReadConfig, breath: str) -> tuple:
    """What only the reader of DICOM folders is told: other files hold one scan."""
    return (series, config, breath) if Path(path).is_dir() else ()
