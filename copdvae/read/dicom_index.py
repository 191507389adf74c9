"""Headers by the hundred thousand: of each file of a PACS export only what tells whose it is, what it shows and where it lies.

A header is read as far as ImageOrientationPatient (0020,0037), its values as bytes, and nothing is checked that reading the series will.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.filereader import read_partial
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from copdvae.errors import ReadError
from copdvae.read import dicom_files as one
from copdvae.read.dicom_choice import Candidate, is_axial
from copdvae.read.dicom_files import Deflated, HeaderStream, quiet, read_file, series_name
from copdvae.read.dicom_plain import ENCAPSULATED, FIRST_BYTES, LONG_TYPES, SHORT_TYPES, SYNTAX, U2, U2_U2, U4
from copdvae.read.dicom_protocol import NO_CONTRAST, Protocol, breath_of, sharpness, token

LAST = int(Tag("ImageOrientationPatient"))
KEYWORDS = (
    "MediaStorageSOPClassUID",
    "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "Modality", "Manufacturer", "InstitutionName", "SeriesDescription",
    "ManufacturerModelName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "ContrastBolusAgent", "BodyPartExamined",
    "SliceThickness", "ProtocolName", "ConvolutionKernel", "StudyInstanceUID", "SeriesInstanceUID", "ImagePositionPatient",
    "ImageOrientationPatient",
)  # fmt: skip
TAGS = {keyword: int(Tag(keyword)) for keyword in KEYWORDS}
WANTED = {SYNTAX, *TAGS.values()}
PLAIN_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
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
        """One slice more."""
        self.count += 1
        self.derived += derived
        if position is not None:
            self.low, self.high = np.minimum(self.low, position), np.maximum(self.high, position)
        if orientation is not None:
            self.across += not is_axial([orientation])

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
    for path in files:
        header = read_index_header(path)
        if isinstance(header, str):
            if header in (DAMAGED, UNREADABLE):
                found.broken.append((path, header))
            else:
                found.left_out[header] += 1
            continue
        uid = header["SeriesInstanceUID"]
        series = found.series.get(uid)
        if series is None:
            series = found.series[uid] = new_series(header)
        series.folders[path.parent] = series.folders.get(path.parent, 0) + 1
        if header["SOPClassUID"] in one.ENHANCED_CT:
            add_frames(series, path, found)
        else:
            position, orientation = numbers_in(header["ImagePositionPatient"], 3), numbers_in(header["ImageOrientationPatient"], 6)
            series.add(position, orientation, header["ImageType"].upper().startswith("DERIVED"))
    return found


def read_index_header(path: Path) -> dict[str, str] | str:
    """The values of `KEYWORDS` as text, or in a word why this is no CT slice."""
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(FIRST_BYTES)
    except OSError:
        return UNREADABLE
    part10 = start[128:132] == b"DICM"
    if not part10 and start[:2] not in one.DATASET_STARTS:
        return one.FOREIGN
    raw = quick_values(start) if part10 else None
    if raw is None:
        try:
            raw = careful_values(path, part10)
        except Deflated:
            return one.OBJECT
        except one.PARSE_ERRORS:
            return DAMAGED if part10 else one.FOREIGN
    values = {keyword: raw[tag].decode("latin-1").strip("\0 ") if tag in raw else "" for keyword, tag in TAGS.items()}
    kind, image_type = values["SOPClassUID"] or values["MediaStorageSOPClassUID"], values["ImageType"].upper()
    values["SOPClassUID"] = kind
    if not kind:
        return DAMAGED if part10 else one.FOREIGN
    if kind not in (one.CT, *one.ENHANCED_CT) or values["Modality"] not in ("CT", ""):
        return one.CAPTURE if kind.startswith(one.CAPTURES) else one.OBJECT
    return one.SCOUT if any(scout in image_type for scout in one.SCOUTS) else values


def quick_values(data: bytes) -> dict[int, bytes] | None:
    """The values of `TAGS` in a file's first bytes; None for whatever is not plainly written: pydicom takes five times as long."""
    found, place, last, end, explicit = {}, 132, 0, len(data) - 12, True
    while place < end:
        group, element = U2_U2.unpack_from(data, place)
        tag = group << 16 | element
        if last >> 16 == 2 != group:  # after the meta group, which is always explicit
            syntax = found.pop(SYNTAX, b"").decode("latin-1").strip("\0 ")
            if syntax not in PLAIN_SYNTAXES and not syntax.startswith(ENCAPSULATED):
                return None
            explicit = syntax != ImplicitVRLittleEndian
        if tag > LAST:
            return found
        if tag <= last:
            return None
        last = tag
        if not explicit:
            (length,) = U4.unpack_from(data, place + 4)
            place += 8
        elif data[place + 4 : place + 6] in SHORT_TYPES:
            (length,) = U2.unpack_from(data, place + 6)
            place += 8
        elif data[place + 4 : place + 6] in LONG_TYPES:
            (length,) = U4.unpack_from(data, place + 8)
            place += 12
        else:
            return None
        if tag in WANTED:
            found[tag] = data[place : place + length]
        place += length
    return None  # the bytes end first, or a value without a length leads past them


def careful_values(path: Path, part10: bool) -> dict[int, bytes]:
    """The same by pydicom, however the file is written."""
    with HeaderStream(path) as stream, quiet:
        dataset = read_partial(stream, lambda tag, *_: tag > LAST, specific_tags=list(TAGS.values()), force=not part10)
        parts = (dataset.file_meta, dataset)
        values = ((tag, part.get_item(tag).value) for tag in TAGS.values() for part in parts if tag in part)
        return {tag: value if isinstance(value, bytes) else str(value or "").encode("latin-1", "replace") for tag, value in values}


def numbers_in(text: str, size: int) -> np.ndarray | None:
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        return None
    return values if len(values) == size and np.isfinite(values).all() else None


def new_series(header: dict[str, str]) -> IndexedSeries:
    words = {"manufacturer": "Manufacturer", "model": "ManufacturerModelName", "kernel": "ConvolutionKernel"}
    shown: dict[str, str | float] = {"contrast": "" if header["ContrastBolusAgent"].upper() in NO_CONTRAST else "yes"}
    shown |= {name: word for name, keyword in words.items() if (word := shown_words(header[keyword]))}
    if (thickness := numbers_in(header["SliceThickness"], 1)) is not None:
        shown["slice_thickness_mm"] = float(thickness[0])
    breath = breath_of(header["SeriesDescription"]) or breath_of(header["ProtocolName"])
    patient = token(header["PatientID"] and f"{header['PatientID']}\\{header['IssuerOfPatientID']}")
    study = token(header["StudyInstanceUID"])
    return IndexedSeries(
        uid=header["SeriesInstanceUID"],
        patient=patient,
        person=(token(header["PatientBirthDate"]), token(header["PatientSex"])),
        study=study,
        date=header["StudyDate"],
        institution=token(header["InstitutionName"]),
        body_part=header["BodyPartExamined"].upper(),
        protocol=Protocol(shown, breath, sharpness(str(shown.get("kernel", ""))), patient, study),
    )


def shown_words(text: str) -> str:
    """As `plain` shows a header's words: printable, on one line, 64 characters at most."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text.replace("\\", " ")).split())[:64]


def add_frames(series: IndexedSeries, path: Path, found: Index) -> None:
    """The frames of an Enhanced CT, whose places stand in their functional groups."""
    try:
        frames = read_file(path)
    except ReadError:
        found.broken.append((path, DAMAGED))
        return
    for frame in [] if isinstance(frames, str) else frames:
        series.add(frame.position, frame.orientation, frame.derived)
