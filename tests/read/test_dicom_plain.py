"""Headers read without pydicom are what pydicom reads, or are left to it."""

import dataclasses
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_writers import write_series
from pydicom.data import get_testdata_file, get_testdata_files
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from copdvae.errors import ReadError
from copdvae.phantom.scan import Scanner
from copdvae.phantom.write import write_dicom
from copdvae.read import dicom_files, dicom_header, dicom_index
from copdvae.read.dicom_files import read_file
from copdvae.read.dicom_plain import FIRST_BYTES, KEYWORDS, LONG_TYPES, SHORT_TYPES, plain_header, tag_of
from copdvae.read.dicom_protocol import TAGS, read_protocol

MUTANTS = 1500
BUNDLED = [
    "CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "MR_small.dcm", "MR_truncated.dcm", "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm", "image_dfl.dcm", "no_meta.dcm", "badVR.dcm", "meta_missing_tsyntax.dcm", "rtplan.dcm", "reportsi.dcm",
    "nested_priv_SQ.dcm", "JPEG2000.dcm", "dicomdirtests/98892001/CT5N/2062", "dicomdirtests/77654033/CT2/17106",
    "dicomdirtests/98892001/CT2N/6293",
]  # fmt: skip


def outcome(path):
    """What reading says, in a form that can be compared."""
    try:
        found = read_file(path)
    except ReadError as error:
        return error.reason, str(error)
    if isinstance(found, str):
        return found
    slices = [{field.name: getattr(slice_, field.name) for field in dataclasses.fields(slice_) if field.compare} for slice_ in found]
    return [{key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in line.items()} for line in slices], [
        protocol_of(slice_) for slice_ in found
    ]


def protocol_of(slice_):
    try:
        return read_protocol(slice_)
    except ReadError as error:
        return error.reason


def assert_both_agree(path, monkeypatch) -> bool:
    """Whether the file was plain."""
    plain = plain_header(path.read_bytes()[:FIRST_BYTES]) is not None
    ours = outcome(path)
    with monkeypatch.context() as patched:
        patched.setattr(dicom_files, "plain_header", lambda data: None)
        theirs = outcome(path)
    assert ours == theirs
    return plain


def bundled(name):
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom has no {name}")
    return Path(path)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_files_are_read_as_by_pydicom(name, monkeypatch):
    assert_both_agree(bundled(name), monkeypatch)


def test_a_scanners_header_is_plain(monkeypatch):
    """Or all of this would be for nothing: GE's has private groups and sequences."""
    assert assert_both_agree(bundled("CT_small.dcm"), monkeypatch)


def test_phantom_series_are_plain(tmp_path, monkeypatch):
    scanner = Scanner(site=0, scanner=1, offset_hu=0.0, kernel="sharp", noise_hu=16.0, spacing=(5.0, 4.5, 4.5))
    write_dicom(tmp_path, np.zeros((3, 8, 8), np.int16), np.zeros(3), scanner, "S1", "insp", 0)
    assert all(assert_both_agree(path, monkeypatch) for path in sorted(tmp_path.iterdir()))


CHANGES = {
    "multi-valued kernel": (lambda d: setattr(d, "ConvolutionKernel", ["Br40d", "3"]), True),
    "padding": (lambda d: setattr(d, "PixelPaddingValue", 63536), True),
    "empty numbers": (lambda d: setattr(d, "SliceThickness", None), True),
    "spaces": (lambda d: setattr(d, "ImagePositionPatient", ["  1.50", "-2e1 ", "+3."]), True),
    "numbers that are none": (lambda d: setattr(d, "RescaleSlope", ""), True),
    "a patient in two parts": (lambda d: setattr(d, "PatientID", "A\\B"), False),
    "accents": (lambda d: d.update({"SpecificCharacterSet": "ISO_IR 100", "SeriesDescription": "Ex\u00e4men"}), True),
    "accents, UTF-8": (lambda d: d.update({"SpecificCharacterSet": "ISO_IR 192", "SeriesDescription": "\u0141\u00f3d\u017a \u80ba"}), True),
    "accents in a code": (lambda d: d.update({"SpecificCharacterSet": "ISO_IR 100", "RescaleType": "\u00e4"}), True),
    "accents of another set": (
        lambda d: d.update({"SpecificCharacterSet": "ISO_IR 101", "SeriesDescription": "\u0141\u00f3d\u017a"}),
        False,
    ),
    "accents of two sets": (
        lambda d: d.update({"SpecificCharacterSet": ["ISO_IR 100", "ISO 2022 IR 87"], "SeriesDescription": "Ex\u00e4men"}),
        False,
    ),
    "accents elsewhere": (lambda d: d.update({"SpecificCharacterSet": "ISO_IR 100", "PatientName": "M\u00fcller"}), True),
    "zeros before a number": (lambda d: setattr(d, "AcquisitionNumber", "007"), True),
    "a contrast agent": (lambda d: setattr(d, "ContrastBolusAgent", "IOPAMIDOL 300"), True),
    "derived": (lambda d: setattr(d, "ImageType", ["DERIVED", "SECONDARY", "AXIAL"]), True),
    "burnt in": (lambda d: setattr(d, "BurnedInAnnotation", "YES"), True),
}  # fmt: skip
WRITINGS = {"explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian}


def in_syntax(syntax, change):
    """A `change` for `write_series`, in a file written so."""

    def both(dataset, number):
        dataset.file_meta.TransferSyntaxUID = syntax
        change(dataset, number)

    return both


@pytest.mark.parametrize("syntax", WRITINGS)
@pytest.mark.parametrize("name", CHANGES)
def test_values_of_many_kinds_are_as_by_pydicom(name, syntax, tmp_path, monkeypatch):
    change, plain = CHANGES[name]
    write_series(tmp_path, [0, 5], change=in_syntax(WRITINGS[syntax], lambda dataset, _: change(dataset)))
    assert [assert_both_agree(path, monkeypatch) for path in sorted(tmp_path.iterdir())] == [plain] * 2


CT, LITTLE_ENDIAN = b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.1.2.1\0"
HEADER = {
    "MediaStorageSOPClassUID": CT, "MediaStorageSOPInstanceUID": b"1.2.3.4\0", "TransferSyntaxUID": LITTLE_ENDIAN,
    "ImageType": b"ORIGINAL\\PRIMARY\\AXIAL", "SOPClassUID": CT, "SOPInstanceUID": b"1.2.3.4\0", "Modality": b"CT", "PatientID": b"P1",
    "SliceThickness": b"1.0 ", "ConvolutionKernel": b"B30f", "StudyInstanceUID": b"1.2.9\0", "SeriesInstanceUID": b"1.2.5\0",
    "AcquisitionNumber": b"3 ", "ImagePositionPatient": b"1\\2\\3 ", "ImageOrientationPatient": b"1\\0\\0\\0\\1\\0 ",
    "SamplesPerPixel": b"\1\0", "Rows": b"\4\0", "Columns": b"\4\0", "PixelSpacing": b"1\\1 ", "BitsAllocated": b"\x10\0",
    "BitsStored": b"\x10\0", "HighBit": b"\x0f\0", "PixelRepresentation": b"\1\0", "PixelPaddingValue": b"\x30\xf8",
    "RescaleIntercept": b"-1024 ", "RescaleSlope": b"1 ", "RescaleType": b"HU",
}  # fmt: skip
BYTES = [
    b"", b" ", b"  ", b"\0", b"\0\0", b"\0\0\0\0", b"    ", b"\0" * 8, b" \0", b"\0 ", b"\x30\xf8", b"\1\0\2\0", b"0 ", b"00",
    b"-0", b"+0", b"0.0 ", b"0\0", b"0\\0 ", b"1 ", b" 1", b" 1 ", b"1\0", b"1\0 ", b"01", b"+1", b"-1", b"1.", b".5", b"1.0 ",
    b"1e1 ", b"1e400 ", b"1_0 ", b"1,5 ", b"nan ", b"inf ", b"99999999999", b"9007199254740993", b"00000000000000001024",
    b"-1024.5\0", b"1\\", b"\\1", b"\\", b"\\\\", b"1 \\2\\3", b"1\\2 \\3\0", b"1\\\\3", b"1\\2 ", b"1\\0\\0\\0\\1\\0 ", b"YES ",
    b"yes", b"NO\\YES ", b"NO \\YES", b"AB \\CD", b"AB\0\\CD", b" AB\\CD", b"AB\\ CD", b"AB  ", b"AB ", b"A\0", b"\0A",
    b"A\0\0B", b"A~B", b"A'B\\C ", b"A\tB", b"A\x1b$B", b"\xc4B", b"LOCALIZER ", b"DERIVED \\X ", b"HU ", b"CT\0", b"MR",
    b"GBK ", b"ISO_IR 100", b"ISO_IR 13 ", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"ISO_IR 100\\ISO 2022 IR 87 ", b"utf_16",
    b"cp037 ", CT, CT[:-1], CT[:-1] + b" ", LITTLE_ENDIAN, b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.5\0", b"1.2\0\0",
    b"1.2\\1.3", b"1.2 ", b" 1.2", b".", struct.pack("<d", 1.5),
]  # fmt: skip


def written(keyword, kind, raw, implicit=False):
    """A file of `HEADER`, byte by byte, one element of it in another way."""
    syntax = {"TransferSyntaxUID": b"1.2.840.10008.1.2\0"} if implicit else {}
    values = {tag_of(name): (dictionary_VR(tag_of(name)).encode()[:2], each) for name, each in (HEADER | syntax).items()}
    values = dict(sorted((values | {tag_of(keyword): (kind, raw)}).items()))
    meta = b"".join(packed(tag, *value) for tag, value in values.items() if tag >> 16 == 2)
    rest = b"".join(packed(tag, *value, implicit) for tag, value in values.items() if tag >> 16 != 2)
    start = bytes(128) + b"DICM" + packed(0x00020000, b"UL", struct.pack("<L", len(meta)))
    return start + meta + rest + packed(0x7FE00010, b"OW", bytes(32), implicit)


def packed(tag, kind, raw, implicit=False):
    if implicit:
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(raw)) + raw
    length = struct.pack("<H", len(raw)) if kind in SHORT_TYPES else struct.pack("<HL", 0, len(raw))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind + length + raw


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_every_value_of_every_type_is_as_by_pydicom_or_left_to_it(keyword, tmp_path, monkeypatch):
    """Nothing is plain in a type that is not the dictionary's, empty or not."""
    path, plain = tmp_path / "a.dcm", set()
    for kind in sorted(SHORT_TYPES | LONG_TYPES):
        for raw in BYTES:
            content = written(keyword, kind, raw)
            if plain_header(content) is not None:  # or pydicom reads it either way
                path.write_bytes(content)
                assert assert_both_agree(path, monkeypatch), (kind, raw)
                plain.add(kind)
    assert plain == set(dictionary_VR(tag_of(keyword)).encode().split(b" or "))


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_every_value_without_a_type_is_as_by_pydicom_or_left_to_it(keyword, tmp_path, monkeypatch):
    path, plain = tmp_path / "a.dcm", 0
    for raw in BYTES:
        content = written(keyword, dictionary_VR(tag_of(keyword)).encode()[:2], raw, implicit=True)
        if plain_header(content) is not None:
            path.write_bytes(content)
            assert assert_both_agree(path, monkeypatch), raw
            plain += 1
    assert plain


def test_a_file_that_has_types_against_its_word_is_left_to_pydicom(tmp_path, monkeypatch):
    """And the other way round."""
    for implicit, syntax in ((False, b"1.2.840.10008.1.2\0"), (True, LITTLE_ENDIAN)):
        path = tmp_path / "a.dcm"
        path.write_bytes(written("TransferSyntaxUID", b"UI", syntax, implicit))
        assert not assert_both_agree(path, monkeypatch)


@pytest.mark.parametrize(
    ("keyword", "kind", "raw", "field", "value"),
    [
        ("AcquisitionNumber", b"IS", b"0 ", "acquisition", ""),
        ("NumberOfFrames", b"IS", b"0 ", "frames", 1),
        ("PixelRepresentation", b"IS", b"00", "bits", dicom_header.Bits(16, 16, 15, False)),
        ("HighBit", b"IS", b"0 ", "bits", dicom_header.Bits(16, 16, 15, True)),
        ("RescaleIntercept", b"FD", bytes(8), "intercept", 0.0),
        ("PixelPaddingValue", b"SL", bytes(4), "padding", (0.0, 0.0)),
        ("PixelPaddingValue", b"US", bytes(2), "padding", (0.0, 0.0)),
        ("PatientID", b"DS", b"1.", "patient", "1."),
        ("RescaleType", b"LO", b"AB \\CD", "rescale_type", "AB CD"),
    ],
)
def test_zeros_and_foreign_types_have_the_value_that_pydicom_gives(keyword, kind, raw, field, value, tmp_path, monkeypatch):
    path = tmp_path / "a.dcm"
    path.write_bytes(written(keyword, kind, raw))
    assert_both_agree(path, monkeypatch)
    (slice_,) = read_file(path)
    assert getattr(slice_, field) == value


def test_inner_spaces_go_from_words_and_stay_in_codes():
    assert plain_header(written("ConvolutionKernel", b"SH", b"AB \\CD ")).get("ConvolutionKernel") == ("AB", "CD")
    assert plain_header(written("ImageType", b"CS", b"AB \\CD ")).get("ImageType") == ("AB ", "CD")


@pytest.mark.parametrize("plain", [True, False])
def test_a_file_with_empty_class_uids_is_damaged(plain, tmp_path, monkeypatch):
    """And no other object, which would be left out in silence."""
    if not plain:
        monkeypatch.setattr(dicom_files, "plain_header", lambda data: None)
    content, path = written("SOPClassUID", b"UI", b""), tmp_path / "a.dcm"
    path.write_bytes(content.replace(CT, bytes(len(CT))))
    assert plain_header(path.read_bytes()) is not None
    with pytest.raises(ReadError) as caught:
        read_file(path)
    assert caught.value.reason == "damaged_file"


def test_letters_of_a_set_that_is_pythons_are_left_to_pydicom():
    assert plain_header(written("SpecificCharacterSet", b"CS", b"ISO_IR 100")) is not None
    assert plain_header(written("SpecificCharacterSet", b"CS", b"utf_16")) is None


@pytest.mark.parametrize("syntax", WRITINGS)
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("depth", [1, 3, 20])
def test_sequences_are_passed_over(depth, undefined, syntax, tmp_path, monkeypatch):
    def add(dataset, number):
        item = Dataset()
        for _ in range(depth):
            outer = Dataset()
            outer.StudyDescription = "within"
            outer.ReferencedStudySequence = Sequence([item, item] if depth < 10 else [item])
            outer["ReferencedStudySequence"].is_undefined_length = undefined
            item.is_undefined_length_sequence_item = undefined
            item = outer
        item.is_undefined_length_sequence_item = undefined
        dataset.ProcedureCodeSequence = Sequence([item])
        dataset["ProcedureCodeSequence"].is_undefined_length = undefined
        private = dataset.private_block(0x0009, "SOMEBODY", create=True)
        private.add_new(1, "SQ", [Dataset()])
        dataset[0x00091001].is_undefined_length = undefined

    write_series(tmp_path, [0, 5], change=in_syntax(WRITINGS[syntax], add))
    for path in sorted(tmp_path.iterdir()):
        assert assert_both_agree(path, monkeypatch) == (depth < 10 or not undefined)


def test_a_long_header_and_one_that_breaks_off_are_left_to_pydicom(tmp_path, monkeypatch):
    write_series(tmp_path, [0, 5], change=lambda dataset, _: setattr(dataset, "ImageComments", "x" * (FIRST_BYTES + 10)))
    for path in sorted(tmp_path.iterdir()):
        assert not assert_both_agree(path, monkeypatch)
    content = bundled("CT_small.dcm").read_bytes()
    for length in (0, 100, 132, 200, 1000, 3000, 6000):
        (tmp_path / "cut.dcm").write_bytes(content[:length])
        assert not assert_both_agree(tmp_path / "cut.dcm", monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["CT_small.dcm", "explicit", "implicit"])
def test_a_file_with_bytes_changed_at_random_is_read_as_by_pydicom(source, tmp_path, monkeypatch):
    """Above all: nothing that pydicom refuses may pass, and no value may differ."""
    path = bundled(source) if source not in WRITINGS else written_series(tmp_path / "series", WRITINGS[source])
    content = path.read_bytes()
    header = content.index(b"\xe0\x7f\x10\x00") + 12
    chance, path, plain = random.Random(7), tmp_path / "mutant.dcm", 0
    for _ in range(MUTANTS):
        changed = bytearray(content[: header + 600])
        for _ in range(chance.choice((1, 1, 2, 5))):
            place = chance.randrange(header)
            changed[place] = chance.choice((chance.randrange(256), changed[place] ^ 1 << chance.randrange(8), 0, 0x20, 0x5C, 0x2D))
        path.write_bytes(bytes(changed))
        plain += assert_both_agree(path, monkeypatch)
        assert_index_agrees(path)
    assert MUTANTS / 10 < plain < MUTANTS  # both ways were taken


def written_series(folder, syntax):
    write_series(folder, [0, 5], change=in_syntax(syntax, lambda dataset, _: setattr(dataset, "PixelPaddingValue", 63536)))
    return min(folder.iterdir())


def assert_index_agrees(path):
    """Of what `copdvae index` reads; whether it was plain."""
    plain = plain_header(path.read_bytes()[:FIRST_BYTES], dicom_index.TYPES, dicom_index.LAST + 1)
    if plain is None:
        return False
    by_pydicom = dicom_index.careful_header(path, True)
    for keyword in dicom_index.KEYWORDS:
        value = by_pydicom.get(keyword, by_pydicom.file_meta.get(keyword)) or None
        value = None if value is None else tuple(value) if isinstance(value, MultiValue) else value
        ours = plain.get(keyword) or None
        assert ours == value or str(ours) == str(value), keyword
    return True


def test_what_the_index_reads_is_what_pydicom_reads(tmp_path):
    """On every file that comes with pydicom, and on a study written without types, with accents."""
    assert sum(assert_index_agrees(path) for path in map(Path, get_testdata_files()) if is_part10(path)) > 60
    accents = {"SpecificCharacterSet": "ISO_IR 100", "InstitutionName": "H\u00f4pital", "PatientID": "J\u00f6 1", "PatientSex": "F"}
    for syntax in WRITINGS.values():
        write_series(tmp_path / syntax, [0, 5], change=in_syntax(syntax, lambda dataset, _: dataset.update(accents)))
        assert all(assert_index_agrees(path) for path in (tmp_path / syntax).iterdir())


def is_part10(path):
    return path.is_file() and path.read_bytes()[128:132] == b"DICM"


def test_every_keyword_that_is_asked_for_is_known():
    asked = {pydicom.datadict.keyword_for_tag(tag) for tag in (*dicom_files.SLICE_TAGS, *TAGS)}
    assert asked <= set(KEYWORDS)


# What the index makes of headers that only pydicom reads


def indexed(tmp_path, *contents):
    """The index of files, each a series of its own unless it says otherwise."""
    for number, content in enumerate(contents):
        own = content.replace(b"1.2.5\0", b"1.2.%d\0" % (6 + number))
        (tmp_path / f"{number}.dcm").write_bytes(own)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return dicom_index.index_files(sorted(tmp_path.glob("*.dcm")))


def changed(*changes):
    """`written` with several elements changed; a name of a set of letters first."""
    (keyword, kind, raw), *rest = changes
    content = written(keyword, kind, raw)
    for keyword, kind, raw in rest:
        content = with_element(content, keyword, kind, raw)
    return content


def with_element(content, keyword, kind, raw):
    """Put in its place, before the first element of a higher tag."""
    tag, place = tag_of(keyword), content.index(b"\x08\x00\x08\x00CS")
    while True:
        group, number = struct.unpack_from("<HH", content, place)
        short = content[place + 4 : place + 6] in SHORT_TYPES
        length = struct.unpack_from("<H", content, place + 6)[0] + 8 if short else struct.unpack_from("<L", content, place + 8)[0] + 12
        there = group << 16 | number
        if there >= tag:
            return content[:place] + packed(tag, kind, raw) + content[place + length * (there == tag) :]
        place += length


def item(*elements):
    inner = b"".join(elements)
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner


@pytest.mark.parametrize("letters", [b"ISO_IR 192", b"ISO_IR 13 ", b"GB18030 ", b"\\ISO 2022 IR 87 "])
def test_patients_whose_letters_cannot_be_told_are_told_apart_by_bytes(letters, tmp_path):
    contents = [
        changed(("PatientID", b"LO", name), ("SpecificCharacterSet", b"CS", letters)) for name in (b"J\xf6rg1\x1b$", b"J\xfcrg1\x1b$")
    ]
    one, two = indexed(tmp_path, *contents).series.values()
    assert one.patient != two.patient
    first, second = (read_file(path)[0] for path in sorted(tmp_path.glob("*.dcm")))
    assert first.patient != second.patient
    assert read_protocol(first).patient != read_protocol(second).patient


@pytest.mark.parametrize(
    "keyword",
    ["PatientID", "InstitutionName", "StudyDate", "PatientSex", "Manufacturer", "ConvolutionKernel", "BodyPartExamined", "SliceThickness"],
)
@pytest.mark.parametrize(
    "inner",
    [
        packed(0x00080018, b"UI", b"SECRET^NAME\0"), packed(0x00100010, b"PN", b"SECRET^NAME "),
        packed(0x00280009, b"UL", b"SECRET^NAME 1234567890123"),
    ],
    ids=["uid", "name", "length"],
)  # fmt: skip
def test_a_sequence_in_a_words_place_says_nothing_and_stops_nothing(keyword, inner, tmp_path, capfd):
    found = indexed(tmp_path, written(keyword, b"SQ", item(inner)), written("Modality", b"CS", b"CT"))
    assert len(found.series) + len(found.broken) == 2
    shown = [series.protocol.header for series in found.series.values()]
    for path in sorted(tmp_path.glob("*.dcm")):
        try:
            (slice_,) = read_file(path)
            shown.append(read_protocol(slice_).header)
        except ReadError as error:
            shown.append(str(error))
    assert "SECRET" not in str(shown) + "".join(capfd.readouterr())


@pytest.mark.parametrize(("letters", "raw"), [(b"utf_7 ", b"+2AA-"), (b"unicode_escape", b"\\ud800")])
def test_words_that_no_encoding_holds_stop_nothing(letters, raw, tmp_path):
    odd = [changed((keyword, b"LO", raw), ("SpecificCharacterSet", b"CS", letters)) for keyword in ("PatientID", "InstitutionName")]
    found = indexed(tmp_path, *odd, written("Modality", b"CS", b"CT"))
    assert len(found.series) + len(found.broken) == 3


@pytest.mark.parametrize(
    ("keyword", "raw"), [("InstitutionName", b"Clinic\\Radiology"), ("PatientSex", b"F\\F "), ("StudyDate", b"20010101\\20010102 ")]
)
def test_values_of_several_parts_are_one_thing_however_they_are_read(keyword, raw, tmp_path):
    kind = dictionary_VR(tag_of(keyword)).encode()
    plainly, carefully = written(keyword, kind, raw), changed((keyword, kind, raw), ("ConvolutionKernel", b"SH", b" B30f "))
    assert plain_header(plainly, dicom_index.TYPES, dicom_index.LAST + 1) is not None
    assert plain_header(carefully, dicom_index.TYPES, dicom_index.LAST + 1) is None
    one, two = indexed(tmp_path, plainly, carefully).series.values()
    assert (one.institution, one.person, one.date) == (two.institution, two.person, two.date)


def test_blanks_and_other_types_are_no_other_patient(tmp_path):
    ids = [changed(("PatientID", b"LO", raw), ("IssuerOfPatientID", b"LO", issuer)) for raw, issuer in ((b"P1", b"A "), (b" P1 ", b" A"))]
    series = indexed(tmp_path, *ids, changed(("PatientID", b"OB", b"P1"), ("IssuerOfPatientID", b"LO", b"A "))).series.values()
    assert len({each.patient for each in series}) == 1


def test_an_exposure_without_end_is_no_damage(tmp_path):
    assert len(indexed(tmp_path, written("Exposure", b"IS", b"1e400 "), written("Exposure", b"IS", b"inf ")).series) == 2


def test_places_written_as_binary_numbers_are_read(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(written("ImagePositionPatient", b"FD", struct.pack("<ddd", 1, 2, 3)))
    (slice_,) = read_file(path)
    assert slice_.position.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "items",
    [
        item(b"1234"), item(packed(0x00080018, b"UI", b"1.2\0")[:-2]), item(packed(0x00080005, b"CS", b"ISO_IR 100")),
        item() + b"\xfe\xff\x0d\xe0\4\0\0\0" + bytes(4), item(b"\xfe\xff\x0d\xe0" + bytes(4)),
    ],
    ids=["no_element", "overrun", "letters", "an_end_of_some_length", "an_end_in_a_length"],
)  # fmt: skip
def test_items_that_do_not_end_where_they_say_are_left_to_pydicom(items, tmp_path, monkeypatch):
    content = written("Modality", b"CS", b"CT").replace(
        packed(0x00080060, b"CS", b"CT"),
        packed(0x00080060, b"CS", b"CT") + b"\x08\x00\x11\x11SQ\0\0\xff\xff\xff\xff" + items + b"\xfe\xff\xdd\xe0" + bytes(4),
    )
    assert plain_header(content) is None
    (tmp_path / "a.dcm").write_bytes(content)
    assert not assert_both_agree(tmp_path / "a.dcm", monkeypatch)


def test_a_meta_group_that_begins_otherwise_and_an_early_delimiter_are_left_to_pydicom():
    content = written("Modality", b"CS", b"CT")
    assert plain_header(content) is not None
    assert plain_header(content.replace(b"\2\0\0\0UL\4\0", b"\2\0\1\0UL\4\0", 1)) is None
    place = content.index(b"\x08\x00\x08\x00CS")
    delimited = content[:place] + b"\xfe\xff\x0d\xe0" + bytes(4) + content[place:]
    assert plain_header(delimited) is None
    assert plain_header(delimited, dicom_index.TYPES, dicom_index.LAST + 1) is None


OTHERS = {
    0x00080001: b"UL", 0x00080012: b"DA", 0x00081032: b"SQ", 0x00081140: b"SQ", 0x00082112: b"SQ", 0x00090010: b"LO", 0x00091001: b"UN",
    0x00091002: b"SQ", 0x00100010: b"PN", 0x00101010: b"AS", 0x00181271: b"FD", 0x00200000: b"UL", 0x00204000: b"LT", 0x00280106: b"US",
    0x00290010: b"LO", 0x00291010: b"OB", 0x00400275: b"SQ", 0x60003000: b"OW", 0x7FE00008: b"OF",
}  # fmt: skip


def end_of(tag, length=0):
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)


def drawn_element(chance, tag, kind, implicit, depth):
    """An element of any value; a sequence with items with and without lengths, which may be wrong."""
    if kind != b"SQ":
        return packed(tag, kind, chance.choice(BYTES), implicit)
    items = b""
    for _ in range(chance.choice((0, 1, 2)) if depth else 0):
        inside = sorted(chance.sample(sorted(OTHERS.items()), chance.randrange(4)))
        inner = b"".join(drawn_element(chance, *each, implicit, depth - 1) for each in inside)
        if chance.random() < 0.5:
            items += end_of(0xFFFEE000, 0xFFFFFFFF) + inner + end_of(0xFFFEE00D, chance.choice((0,) * 20 + (4,)))
        else:
            items += end_of(0xFFFEE000, max(0, len(inner) + chance.choice((0,) * 20 + (-2, 4)))) + inner
    if chance.random() < 0.5:
        return packed(tag, kind, items, implicit)
    start = packed(tag, kind, b"", implicit)
    return start[:-4] + b"\xff\xff\xff\xff" + items + end_of(0xFFFEE0DD)


def drawn_file(chance):
    implicit = chance.random() < 0.5
    syntax = {"TransferSyntaxUID": b"1.2.840.10008.1.2\0"} if implicit else {}
    elements = {}
    for name, raw in (HEADER | syntax).items():
        tag, odd = tag_of(name), name != "TransferSyntaxUID" and chance.random() < 0.02
        elements[tag] = packed(tag, dictionary_VR(tag).encode()[:2], chance.choice(BYTES) if odd else raw, implicit and tag >> 16 != 2)
    for tag, kind in chance.sample(sorted(OTHERS.items()), chance.randrange(5)):
        elements[tag] = drawn_element(chance, tag, kind, implicit, 3)
    if chance.random() < 0.4:
        elements[0x00080005] = packed(
            0x00080005, b"CS", chance.choice((b"ISO_IR 100", b"ISO_IR 192", b"GB18030 ", b"ISO_IR 13 ")), implicit
        )
    parts = [elements[tag] for tag in sorted(elements)]
    if chance.random() < 0.1:
        parts.insert(chance.randrange(len(parts)), chance.choice((end_of(0xFFFEE00D), end_of(0xFFFEE000), parts[-1], b"\0\0")))
    meta = packed(0x00020000, b"UL", bytes(4))
    return bytes(128) + b"DICM" + meta + b"".join(parts) + packed(0x7FE00010, b"OW", bytes(32), implicit)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_files_of_any_structure_are_read_as_by_pydicom(seed, tmp_path, monkeypatch):
    """Sequences in sequences, ends in the wrong place, words in any letters: with types and without."""
    chance, path, plain = random.Random(seed), tmp_path / "drawn.dcm", 0
    for _ in range(MUTANTS):
        path.write_bytes(drawn_file(chance))
        plain += assert_both_agree(path, monkeypatch)
        assert_index_agrees(path)
    assert MUTANTS / 10 < plain < MUTANTS
