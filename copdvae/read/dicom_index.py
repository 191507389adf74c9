"""Headers by the hundred thousand: of each file of a PACS export only what tells whose it is, what it shows and where it lies.

A header is read as far as ImageOrientationPatient (0020,0037), and nothing is checked that reading the series will.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydicom.filereader import read_partial

from copdvae.errors import ReadError
from copdvae.read.dicom_choice import Candidate, is_axial
from copdvae.read.dicom_files import read_file
from copdvae.read.dicom_header import (
    DATASET_STARTS,
    ENHANCED_CT,
    FOREIGN,
    OBJECT,
    PARSE_ERRORS,
    Deflated,
    Header,
    HeaderStream,
    identity,
    is_derived,
    kind_of,
    numbers,
    plain,
    quiet,
    series_name,
    why_not,
)
from copdvae.read.dicom_plain import FIRST_BYTES, plain_header, tag_of, types_of
from copdvae.read.dicom_protocol import Protocol, protocol_of, token

LAST = tag_of("ImageOrientationPatient")
KEYWORDS = (
    "MediaStorageSOPClassUID", "TransferSyntaxUID",
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "StudyDate", "Modality", "Manufacturer", "InstitutionName", "SeriesDescription",
    "ManufacturerModelName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "ContrastBolusAgent",
    "ContrastBolusAgentSequence", "BodyPartExamined", "SliceThickness", "KVP", "ProtocolName", "Exposure", "ConvolutionKernel",
    "StudyInstanceUID", "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient",
)  # fmt: skip
IDENTITIES = (
    "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "InstitutionName",
)  # fmt: skip
TYPES = types_of(KEYWORDS)
DAMAGED, UNREADABLE = "damaged DICOM", "not readable"


@dataclass
class IndexedSeries:
    """What the files of one series say. Patient, study and institution are tokens, good for nothing but comparison within this process."""

    uid: str
    patient: str
    person: tuple[str, str]  # birth date and sex, the same
    study: str
    date: str  # of the study, for their order alone: it is never shown
    institution: str
    body_part: str
    protocol: Protocol
    folders: dict[Path, int] = field(default_factory=dict)  # each with the number of its files
    low: np.ndarray = field(default_factory=lambda: np.full(3, np.inf))  # corner of the box of its slices' positions, mm
    high: np.ndarray = field(default_factory=lambda: np.full(3, -np.inf))
    across: int = 0  # slices that do not lie across the body
    derived: int = 0
    count: int = 0

    def add(self, position: np.ndarray | None, orientation: np.ndarray | None, derived: bool) -> None:
        """One slice more: mm, direction cosines."""
        self.count += 1
        self.derived += derived
        if position is not None:
            self.low, self.high = np.minimum(self.low, position), np.maximum(self.high, position)
        if orientation is not None:
            self.across += not lies_across(tuple(orientation.tolist()))

    @property
    def folder(self) -> Path:
        """The deepest one that holds all its files."""
        first, *rest = self.folders
        while not all(other.is_relative_to(first) for other in rest):
            first = first.parent
        return first

    def candidate(self) -> Candidate:
        coverage = float(np.linalg.norm(self.high - self.low)) if np.isfinite(self.low).all() else 0.0
        axial, derived = 2 * self.across <= self.count, 2 * self.derived > self.count
        return Candidate(series_name(self.uid), self.uid, self.protocol, axial, derived, coverage, self.count)


@dataclass
class Index:
    series: dict[str, IndexedSeries] = field(default_factory=dict)  # CT, by SeriesInstanceUID
    left_out: Counter[str] = field(default_factory=Counter)  # other files, by what they are
    broken: list[tuple[Path, str]] = field(default_factory=list)  # those that could be CT and cannot be read


def index_files(files: Iterable[Path]) -> Index:
    found = Index()
    with quiet:  # pydicom quotes a value whenever it is asked for
        for path in files:
            why = add_file(found, path)
            if why in (DAMAGED, UNREADABLE):
                found.broken.append((path, why))
            elif why:
                found.left_out[why] += 1
    return found


def add_file(found: Index, path: Path) -> str:
    """Put a CT slice to its series; in a word why this is none, or ""."""
    header = read_index_header(path)
    if isinstance(header, str):
        return header
    try:
        add_slice(found, path, header)
    except PARSE_ERRORS:
        return DAMAGED
    return ""


def add_slice(found: Index, path: Path, header: Header) -> None:
    uid = str(header.get("SeriesInstanceUID") or "")
    series = found.series.get(uid) or new_series(uid, header)
    enhanced, derived = kind_of(header) in ENHANCED_CT, is_derived(header.get("ImageType"))
    position, orientation = numbers(header, "ImagePositionPatient", 3), numbers(header, "ImageOrientationPatient", 6)
    found.series[uid] = series
    series.folders[path.parent] = series.folders.get(path.parent, 0) + 1
    if enhanced:
        add_frames(series, path, found)
    else:
        series.add(position, orientation, derived)


def read_index_header(path: Path) -> Header | str:
    """The values of `KEYWORDS`, or in a word why this is no CT slice. The caller keeps pydicom quiet."""
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(FIRST_BYTES)
    except OSError:
        return UNREADABLE
    part10 = start[128:132] == b"DICM"
    if not part10 and start[:2] not in DATASET_STARTS:
        return FOREIGN
    try:
        header = plain_header(start, TYPES, LAST + 1) or careful_header(path, part10)
        return (why_not(header) or header) if kind_of(header) else DAMAGED if part10 else FOREIGN
    except Deflated:
        return OBJECT
    except PARSE_ERRORS:
        return DAMAGED if part10 else FOREIGN


def careful_header(path: Path, part10: bool) -> Header:
    """The same by pydicom, however the file is written."""
    with HeaderStream(path) as stream:
        return read_partial(stream, lambda tag, *_: tag > LAST, specific_tags=list(TYPES), force=not part10)


@lru_cache(maxsize=256)
def lies_across(orientation: tuple[float, ...]) -> bool:
    return is_axial([np.array(orientation)])


def new_series(uid: str, header: Header) -> IndexedSeries:
    patient, issuer, born, sex, study, date, institution = (identity(header, keyword) for keyword in IDENTITIES)
    patient = token(patient and f"{patient}\\{issuer}")
    return IndexedSeries(
        uid=uid,
        patient=patient,
        person=(token(born), token(sex)),
        study=token(study),
        date=date,
        institution=token(institution),
        body_part=plain(header.get("BodyPartExamined")).upper(),
        protocol=replace(protocol_of(header), patient=patient),
    )


def add_frames(series: IndexedSeries, path: Path, found: Index) -> None:
    """The frames of an Enhanced CT, whose places stand in their functional groups."""
    try:
        frames = read_file(path)
    except ReadError:
        found.broken.append((path, DAMAGED))
        return
    for frame in [] if isinstance(frames, str) else frames:
        series.add(frame.position, frame.orientation, frame.derived)
