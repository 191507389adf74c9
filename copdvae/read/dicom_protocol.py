"""How a series was made: scanner, kernel, contrast, breath.  Of its names and descriptions only what is on a list gets out of here."""

import hashlib
import re
import secrets
from dataclasses import dataclass

import pydicom
from pydicom.tag import Tag

from copdvae.errors import ReadError
from copdvae.read.dicom_header import PARSE_ERRORS, Header, HeaderStream, Slice, identity, number, plain, quiet

TAGS = [Tag(keyword) for keyword in (
    "Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "KVP", "SliceThickness", "Exposure", "ContrastBolusAgent",
    "ContrastBolusAgentSequence", "SeriesDescription", "ProtocolName", "PatientID", "StudyInstanceUID",
)]  # fmt: skip
ENHANCED = (
    ("CTReconstructionSequence", "ConvolutionKernel"), ("CTXRayDetailsSequence", "KVP"), ("PixelMeasuresSequence", "SliceThickness"),
    ("CTExposureSequence", "ExposureInmAs"),
)  # fmt: skip
NO_CONTRAST = ("", "NO", "NONE", "N", "WITHOUT", "NATIVE", "0")
BREATHS = {
    "insp": re.compile(r"(?<![a-z])(insp(i|ir[a-z]*)?|inhal[a-z]*|einatm[a-z]*|tlc)(?![a-z])"),
    "exp": re.compile(r"(?<![a-z])(exp(i|ir[a-z]*)?|exspir[a-z]*|exhal[a-z]*|ausatm[a-z]*|espir[a-z]*|frc)(?![a-z])"),
}

# How sharp a kernel is, by its maker's own names: only the order counts, and only within one maker.
GE = {
    "SOFT": 20, "STANDARD": 35, "STND": 35, "STD": 35, "STD+": 38, "CHEST": 45, "DETAIL": 50, "LUNG": 65, "BONE": 70, "BONEPLUS": 80,
    "EDGE": 90, "ULTRA": 95,
}  # fmt: skip
PHILIPS = {
    "A": 30, "SA": 30, "B": 40, "SB": 40, "C": 45, "SC": 45, "UA": 45, "UB": 50, "UC": 55, "YA": 55, "YB": 60, "L": 65, "YC": 65, "D": 70,
    "YD": 75, "E": 80,
}  # fmt: skip
CANON = {"FC0": 40, "FC1": 40, "FC2": 42, "FC3": 75, "FC4": 45, "FC5": 70, "FC8": 85}
SHARP = {"siemens": 50, "ge": 65, "philips": 55, "canon": 70}  # from here on edges are enhanced: not for densitometry
KEY = secrets.token_bytes(16)  # of this process: what it makes means nothing to any other


@dataclass(frozen=True)
class Protocol:
    header: dict[str, str | float]  # may be written
    breath: str  # "insp", "exp", or "" where the description says neither or both
    sharpness: tuple[str, int] | None  # maker and how sharp the kernel is; None for an unknown one
    patient: str = ""  # equal for equal PatientIDs within this process, "" for none: for comparison, never to be written
    study: str = ""  # the same of the StudyInstanceUID


def read_protocol(slice_: Slice) -> Protocol:
    """The protocol as far as the header of one slice knows it; of the contrast agent only whether there was one."""
    path = slice_.path
    if slice_.header is not None and slice_.frame is None:
        return protocol_of(slice_.header)
    try:
        with quiet, HeaderStream(path) as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=TAGS, force=True)
            if slice_.frame is not None:
                from copdvae.read.dicom_frames import group_values

                for keyword, group in group_values(slice_, ENHANCED):
                    if (value := group.get(keyword)) is not None:
                        setattr(dataset, "Exposure" if keyword == "ExposureInmAs" else keyword, value)
            return protocol_of(dataset)
    except PARSE_ERRORS:
        raise ReadError(f"{path}: begins as DICOM and is damaged or breaks off; copy it again or take it out", "damaged_file") from None


def protocol_of(dataset: Header) -> Protocol:
    contrast = plain(dataset.get("ContrastBolusAgent")).upper() not in NO_CONTRAST or bool(dataset.get("ContrastBolusAgentSequence"))
    words = {"manufacturer": "Manufacturer", "model": "ManufacturerModelName", "kernel": "ConvolutionKernel"}
    numbers = {"kvp": "KVP", "slice_thickness_mm": "SliceThickness", "exposure_mas": "Exposure"}
    header: dict[str, str | float] = {"contrast": "yes" if contrast else ""}
    header |= {name: word for name, keyword in words.items() if (word := plain(dataset.get(keyword)))}
    header |= {name: value for name, keyword in numbers.items() if (value := number(dataset, keyword)) is not None}
    return Protocol(
        header=header,
        breath=breath_of(plain(dataset.get("SeriesDescription"))) or breath_of(plain(dataset.get("ProtocolName"))),
        sharpness=sharpness(str(header.get("kernel", ""))),
        patient=token(identity(dataset, "PatientID")),
        study=token(identity(dataset, "StudyInstanceUID")),
    )


def token(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=KEY, digest_size=12).hexdigest() if text else ""


def breath_of(description: str) -> str:
    """Whether a description says inspiration or expiration; "" where it says neither, or both."""
    said = [breath for breath, words in BREATHS.items() if words.search(description.lower())]
    return said[0] if len(said) == 1 else ""


def sharpness(kernel: str) -> tuple[str, int] | None:
    """The maker that a kernel's name belongs to, and how sharp it is there; None for a name that is not known."""
    name = kernel.upper().split()[0] if kernel.split() else ""
    if found := re.fullmatch(r"[BIHUDTQJ][A-Z]{0,2}(\d{2})[A-Z]?", name):  # B31f, I70f, Br40d, Bl57
        return "siemens", int(found[1])
    if name in GE:
        return "ge", GE[name]
    if name in PHILIPS:
        return "philips", PHILIPS[name]
    return ("canon", CANON[name[:3]]) if re.fullmatch(r"FC\d\d", name) and name[:3] in CANON else None


def is_sharp(kernel: str) -> bool:
    """Whether a kernel enhances edges, as far as its name is known."""
    known = sharpness(kernel)
    return known is not None and known[1] >= SHARP[known[0]]
