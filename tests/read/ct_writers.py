"""Small CTs whose right reading is known: the HU at a place in the patient is a formula of its LPS millimetres.

However voxels are stored, a right reading has `hu[z, y, x] == world_hu(affine @ (x, y, z, 1))`.
"""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

COORDINATES = (4, 5, 6)  # sizes along x, y, z
AXIAL = [1, 0, 0, 0, 1, 0]


def world_hu(places: np.ndarray) -> np.ndarray:
    """HU at LPS places (..., 3) in mm: -960 to 700 or so over the volumes below, all whole numbers where steps are."""
    return np.rint(places[..., 0] + 10 * places[..., 1] + 60 * places[..., 2] - 960)


def lps_affine(axes: tuple[int, int, int] = (0, 1, 2), signs: tuple[int, int, int] = (1, 1, 1)) -> tuple[np.ndarray, tuple[int, int, int]]:
    """An affine (i, j, k) -> LPS of a box of COORDINATES voxels of 2 x 3 x 5 mm from (0, 0, 0), and its sizes along i, j, k.

    Stored axis n runs along world axis `axes[n]`, backwards where `signs[n]` is -1.
    """
    affine, steps = np.eye(4), (2.0, 3.0, 5.0)
    affine[:3, :3] = 0
    for stored, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, stored] = sign * steps[world]
        if sign < 0:
            affine[world, 3] = steps[world] * (COORDINATES[world] - 1)
    return affine, (COORDINATES[axes[0]], COORDINATES[axes[1]], COORDINATES[axes[2]])


def stored_voxels(affine: np.ndarray, sizes: tuple[int, int, int]) -> np.ndarray:
    """World HU at every stored voxel, (k, j, i)."""
    k, j, i = np.indices(sizes[::-1])
    return world_hu((np.stack([i, j, k, np.ones_like(i)], axis=-1) @ affine.T)[..., :3])


def assert_reads_the_world(volume, tolerance: float = 0) -> None:
    """Every voxel of a read volume has the HU of its place, and its axes run left, back and up."""
    direction = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    assert (np.diag(direction) > 0.8).all()
    np.testing.assert_allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), volume.spacing[::-1], rtol=1e-6)
    assert volume.hu.dtype in (np.float32, np.int16)
    assert volume.hu.flags.c_contiguous
    np.testing.assert_allclose(volume.hu, stored_voxels(volume.affine, volume.hu.shape[::-1]), atol=tolerance)


def write_series(
    folder: Path,
    depths: list[float] | None = None,
    *,
    orientation: list[float] = AXIAL,
    sizes: tuple[int, int] = (5, 4),
    pixel_spacing: tuple[float, float] = (3.0, 2.0),
    corner: tuple[float, float, float] = (0, 0, 0),
    change: Callable[[Dataset, int], object] = lambda dataset, number: None,
    series: str = "1.2.3.4",
    first: int = 0,
    raw: Callable[[np.ndarray], np.ndarray] = lambda hu: hu + 1024,
    world: Callable[[np.ndarray], np.ndarray] = world_hu,
    along: list[float] | None = None,
) -> Path:
    """Write one slice a depth, `sizes` rows x columns, HU from `world`; `change` breaks a slice before writing.

    Depths are mm along the slices' normal, or along the vector `along`, as where the table moves through a tilted gantry.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.reshape(orientation, (2, 3)).astype(float)
    for number, depth in enumerate([0, 5, 10, 15, 20, 25] if depths is None else depths):
        position = np.array(corner) + depth * (np.cross(row, column) if along is None else np.array(along))
        j, i = np.indices(sizes)
        places = position + i[..., None] * pixel_spacing[1] * row + j[..., None] * pixel_spacing[0] * column
        dataset = ct_slice(raw(world(places)), position, orientation, pixel_spacing, series, first + number)
        change(dataset, number)
        dataset.save_as(folder / f"{(number * 7) % 100:02d}_{series.replace('.', '-')}_{first}.dcm", enforce_file_format=True)
    return folder


def setting(only: int | None = None, **values):
    """A `change` for `write_series`: set (None: remove) header values of every slice, or of the one numbered `only`."""

    def change(dataset: Dataset, number: int) -> None:
        for keyword, value in values.items():
            if only is None or only == number:
                if value is None:
                    delattr(dataset, keyword)
                else:
                    setattr(dataset, keyword, value)

    return change


def ct_slice(pixels: np.ndarray, position, orientation, pixel_spacing, series: str, number: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{series}.{number + 1}"
    dataset.SeriesInstanceUID = series
    dataset.StudyInstanceUID = "1.2.3"
    dataset.PatientID, dataset.PatientName = "SECRET-ID", "SECRET^NAME"
    dataset.PatientBirthDate, dataset.AccessionNumber, dataset.PatientAddress = "19500513", "SECRET-ACC", "SECRET street"
    dataset.ReferringPhysicianName, dataset.OperatorsName, dataset.InstitutionName = "SECRET^DOC", "SECRET^OP", "SECRET hospital"
    dataset.StudyDescription, dataset.SeriesDescription, dataset.ProtocolName = "SECRET study", "SECRET series", "SECRET protocol"
    dataset.private_block(0x0099, "SECRET block", create=True).add_new(1, "LO", "SECRET private")
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber = 100 - number
    dataset.ImagePositionPatient = [f"{value:.9g}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.10g}" for value in orientation]
    dataset.PixelSpacing = list(pixel_spacing)
    dataset.SliceThickness = 2
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = pixels.astype("<i4").astype("<u2").tobytes()
    return dataset


def write_nifti(path: Path, affine: np.ndarray, sizes: tuple[int, int, int], dtype: type = np.int16, **header) -> Path:
    """A NIfTI (RAS) of the world's HU, stored as `affine` (LPS) says; `header` sets raw header fields."""
    image = nibabel.Nifti1Image(stored_voxels(affine, sizes).astype(dtype).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, 1)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def write_itk(path: Path, affine: np.ndarray, sizes: tuple[int, int, int], dtype: type = np.int16, compress: bool = False) -> Path:
    """A NRRD or MetaImage, by its suffix, of the world's HU, stored as `affine` (LPS) says."""
    image = sitk.GetImageFromArray(stored_voxels(affine, sizes).astype(dtype))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=compress)
    return path
