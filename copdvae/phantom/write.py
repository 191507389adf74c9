"""Write a scan as a DICOM series or a NIfTI file.  Arrays are (z, y, x) int16 HU, foot first; geometry is LPS in mm."""

import hashlib
import io
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import PYDICOM_ROOT_UID, UID, CTImageStorage, ExplicitVRLittleEndian

from copdvae.phantom.scan import KERNELS, SCANNERS, Scanner

STORED_ZERO = -1024  # HU of a stored 0


def made_uid(*parts: object) -> UID:
    """A UID that follows from `parts`: the same study has the same UIDs."""
    digest = hashlib.sha256("/".join(map(str, ("copdvae phantom", *parts))).encode()).digest()
    return UID(f"{PYDICOM_ROOT_UID}{int.from_bytes(digest[:12], 'big') | 1 << 95}")  # 26 + 29 digits: room for a slice's


def write_dicom(folder: Path, hu: np.ndarray, origin: np.ndarray, scanner: Scanner, subject: str, breath: str, seed: int) -> None:
    """One file a slice, head first as scanners number them. `origin` is the first voxel's (x, y, z)."""
    folder.mkdir(parents=True, exist_ok=True)
    series = made_uid(seed, subject, breath)
    # pydicom writes one slice; the others differ from it in four fields of constant length, which are put in place.
    marks = [b"1111111.11111111", b"2222222.22222222", b"3333333.33333333", b"-444444444"]  # none can be part of a UID
    template = one_slice(hu.shape[1:], scanner, subject, breath, seed, series, [mark.decode() for mark in marks])
    head, pixels = template[: -2 * hu[0].size], hu.astype("<i2") - STORED_ZERO
    for number, k in enumerate(range(len(hu) - 1, -1, -1), start=1):
        place = origin + np.array([0, 0, k * scanner.spacing[0]])
        values = [f"{value:16.6f}".encode() for value in place] + [f"{number:10d}".encode()]
        text = head.replace(f"{series}.9999".encode(), f"{series}.{1000 + number}".encode())
        for mark, value in zip(marks, values, strict=True):
            text = text.replace(mark, value)
        (folder / f"{number:04d}.dcm").write_bytes(text + pixels[k].astype("<i2").tobytes())


def one_slice(plane: tuple[int, ...], scanner: Scanner, subject: str, breath: str, seed: int, series: str, marks: list[str]) -> bytes:
    """A DICOM file with `marks` where position (x, y, z) and number go, and pixels of zero at its end."""
    maker, model = SCANNERS[scanner.scanner]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(f"{series}.9999")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = made_uid("implementation")
    out = Dataset()
    out.file_meta = meta
    out.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    out.SOPClassUID = CTImageStorage
    out.SOPInstanceUID = f"{series}.9999"
    out.StudyDate = out.SeriesDate = out.StudyTime = out.AccessionNumber = ""
    out.Modality = "CT"
    out.Manufacturer, out.ManufacturerModelName = maker, model
    out.StudyDescription = "synthetic chest"
    out.SeriesDescription = {"insp": "INSP", "exp": "EXP"}[breath] + f" {scanner.spacing[0]:.1f} {KERNELS[scanner.kernel]}"
    out.PatientName, out.PatientID = f"PHANTOM^{subject}", f"PHANTOM-{subject}"
    out.PatientBirthDate = out.PatientSex = out.ReferringPhysicianName = ""
    out.BodyPartExamined = "CHEST"
    out.SliceThickness = f"{scanner.spacing[0]:.4f}"
    out.KVP = str(scanner.kvp)
    out.XRayTubeCurrent = str(int(200 * (16 / scanner.noise_hu) ** 2))
    out.ConvolutionKernel = KERNELS[scanner.kernel]
    out.PatientPosition = "FFS"
    out.StudyInstanceUID = made_uid(seed, subject)
    out.SeriesInstanceUID = series
    out.StudyID, out.SeriesNumber = "1", "2" if breath == "exp" else "1"
    out.AcquisitionNumber, out.InstanceNumber = "1", marks[3]
    out.ImagePositionPatient = marks[:3]
    out.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    out.FrameOfReferenceUID = made_uid(seed, subject, breath, "frame")
    out.PositionReferenceIndicator = ""
    out.SamplesPerPixel, out.PhotometricInterpretation = 1, "MONOCHROME2"
    out.Rows, out.Columns = plane
    out.PixelSpacing = [f"{scanner.spacing[1]:.4f}", f"{scanner.spacing[2]:.4f}"]
    out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = 16, 16, 15, 1
    out.RescaleIntercept, out.RescaleSlope, out.RescaleType = str(STORED_ZERO), "1", "HU"
    out.PixelData = bytes(2 * int(np.prod(plane)))
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, out, enforce_file_format=True)
    return buffer.getvalue()


def write_nifti(path: Path, hu: np.ndarray, affine: np.ndarray) -> None:
    """Compressed NIfTI-1; `affine` takes voxel (x, y, z) to LPS mm, NIfTI wants RAS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.ascontiguousarray(hu.transpose(2, 1, 0)), np.diag([-1, -1, 1, 1]) @ affine)
    image.header.set_xyzt_units("mm")
    part = path.with_name("part-" + path.name)
    nibabel.save(image, part)
    part.replace(path)
