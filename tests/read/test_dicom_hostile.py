"""Files that want memory, time, other files, or a name in a log: none of it is given, and what is sound beside them is read."""

import logging
import os
import re
import struct
import sys
import threading
import time
import tracemalloc
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_writers import assert_reads_the_world, setting, write_series
from pydicom.uid import EnhancedCTImageStorage, RLELossless
from test_dicom import refused

from copdvae.errors import ReadError
from copdvae.read import check_ct, dicom_header, read_ct
from copdvae.read.dicom_files import read_file
from copdvae.read.dicom_header import OBJECT, quiet
from copdvae.read.dicom_index import index_files, read_index_header

CT = b"1.2.840.10008.5.1.4.1.1.2\0"
EXPLICIT, DEFLATED = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"


@contextmanager
def bounded(megabytes: float = 32, seconds: float = 5):
    """Python's memory, and this process's time."""
    tracemalloc.start()
    start = time.process_time()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 2**20
        assert time.process_time() - start < seconds
    finally:
        tracemalloc.stop()


def element(group: int, number: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
    """One explicit little endian data element; `length` may lie."""
    length = len(value) if length is None else length
    head = struct.pack("<HH", group, number)
    long = kind in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    return head + kind + (struct.pack("<HL", 0, length) if long else struct.pack("<H", length)) + value


def meta(syntax: bytes, kind: bytes = CT, as_type: bytes = b"UI") -> bytes:
    return element(2, 2, b"UI", kind) + element(2, 0x10, as_type, syntax)


def part10(dataset: bytes, syntax: bytes = EXPLICIT) -> bytes:
    return bytes(128) + b"DICM" + meta(syntax) + dataset


def bomb(megabytes: int = 300) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join([*(packer.compress(bytes(2**20)) for _ in range(megabytes)), packer.flush()])


@pytest.fixture(scope="module")
def small_bomb() -> bytes:
    packed = bomb()
    assert len(packed) < 400_000
    return packed


@pytest.mark.parametrize("way", ["part 10", "no preamble", "a type that hides the syntax"])
def test_a_deflate_bomb_is_refused_in_no_time_and_no_space(tmp_path, small_bomb, way):
    start = {
        "part 10": bytes(128) + b"DICM" + meta(DEFLATED),
        "no preamble": meta(DEFLATED),
        "a type that hides the syntax": bytes(128) + b"DICM" + meta(DEFLATED, as_type=b"UN"),
    }[way]
    (tmp_path / "bomb.dcm").write_bytes(start + small_bomb)
    with bounded():
        refused(tmp_path, "deflated", "deflated DICOM, which can unpack to any size")
        assert read_index_header(tmp_path / "bomb.dcm") == OBJECT


def test_a_bomb_that_is_no_ct_by_its_own_word_is_left_out_unopened(tmp_path, small_bomb):
    report = b"1.2.840.10008.5.1.4.1.1.88.11\0"
    write_series(tmp_path)
    (tmp_path / "bomb.dcm").write_bytes(bytes(128) + b"DICM" + meta(DEFLATED, report) + small_bomb)
    with bounded():
        assert_reads_the_world(read_ct(tmp_path))


def nested(depth: int, length: int = 0xFFFFFFFF) -> bytes:
    """Sequences in sequences, (0040,A730), without lengths or with them."""
    inner = b""
    for _ in range(depth):
        if length == 0xFFFFFFFF:
            item = b"\xfe\xff\x00\xe0" + struct.pack("<L", length) + inner + b"\xfe\xff\x0d\xe0" + bytes(4)
            inner = element(0x0040, 0xA730, b"SQ", item + b"\xfe\xff\xdd\xe0" + bytes(4), length)
        else:
            item = b"\xfe\xff\x00\xe0" + struct.pack("<L", len(inner)) + inner
            inner = element(0x0040, 0xA730, b"SQ", item)
    return inner


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0])
def test_sequences_nested_without_end_are_refused_or_passed_over(tmp_path, length):
    folder = write_series(tmp_path)
    path = sorted(folder.iterdir())[2]
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(data[:place] + nested(5000, length) + data[place:])
    with bounded(megabytes=64):
        if length:  # pydicom reads what has no length, nested or not
            refused(folder, "damaged_file", "damaged or breaks off")
        else:
            assert_reads_the_world(read_ct(folder))


def test_functional_groups_nested_without_end_are_refused(tmp_path):
    folder = write_series(tmp_path, change=setting(SOPClassUID=EnhancedCTImageStorage))
    for path in folder.iterdir():
        data = path.read_bytes()
        place = data.index(b"\xe0\x7f\x10\x00OW")
        item = b"\xfe\xff\x00\xe0" + struct.pack("<L", 0xFFFFFFFF) + nested(5000) + b"\xfe\xff\x0d\xe0" + bytes(4)
        groups = element(0x5200, 0x9229, b"SQ", item + b"\xfe\xff\xdd\xe0" + bytes(4), 0xFFFFFFFF)
        path.write_bytes(data[:place] + groups + data[place:])
    with bounded(megabytes=64), pytest.raises(ReadError) as caught:
        read_ct(folder)
    assert caught.value.reason in ("damaged_file", "multi_frame")


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (element(0x0008, 0x0018, b"UI", b"1.2", 0xFFFE), "damaged_file"),
        (element(0x0009, 0x1010, b"UN", b"", 0xFFFFFFFE), "truncated"),
        (element(0x0028, 0x0030, b"UT", b"", 0xFFFFFFF0), "damaged_file"),
        (element(0x0009, 0x1010, b"UN", b"", 0xFFFFFFFF), "damaged_file"),
        (element(0x0009, 0x1010, b"OB", b"", 0xFFFFFFFF), "damaged_file"),
    ],
    ids=["short", "skipped", "wanted", "no end", "no end, bytes"],
)
def test_a_header_that_claims_more_than_there_is_costs_little(tmp_path, middle, reason, monkeypatch):
    monkeypatch.setattr(dicom_header, "READS_LIMIT", 10_000)  # a part of what is allowed, because tracing memory takes time
    monkeypatch.setattr(dicom_header, "HEADER_LIMIT", 8 * 2**20)
    start = element(0x0008, 0x0016, b"UI", CT)
    path = tmp_path / "a.dcm"
    path.write_bytes(part10(start + middle))
    os.truncate(path, 2**31)  # sparse: two gigabytes of nothing follow
    with bounded(megabytes=24):
        with pytest.raises(ReadError) as caught:
            read_file(path)
        assert caught.value.reason == reason


@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x7FFFFFFE, 41])
def test_pixels_that_claim_another_length_are_bounded(tmp_path, length):
    path = sorted(write_series(tmp_path).iterdir())[2]
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00OW") + 8
    path.write_bytes(data[:place] + struct.pack("<L", length) + data[place + 4 :])
    with bounded():
        assert_reads_the_world(read_ct(tmp_path))  # all pixels are there: the claim of more changes nothing


@pytest.mark.parametrize("length", [0xFFFFFFF0, 0x7FFFFFFE, 0])
def test_compressed_fragments_that_claim_another_length_are_refused_in_bounded_time(tmp_path, length):
    for path in write_series(tmp_path, sizes=(64, 64)).iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    data = path.read_bytes()
    place = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xe0\x7f\x10\x00OB") + 20) + 4  # the first fragment, after the offset table
    path.write_bytes(data[:place] + struct.pack("<L", length) + data[place + 4 :])
    with bounded():
        refused(tmp_path, "bad_compression", r"\(RLE Lossless\) cannot be decoded", headers_show_it=False)


def test_what_a_dicomdir_or_a_uid_names_is_never_opened_or_written(tmp_path):
    evil = setting(SeriesInstanceUID="../../evil", StudyInstanceUID="/etc/evil")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = write_series(tmp_path / "scan", change=evil)
        write_series(tmp_path / "outside", [30], first=6, change=evil)
    directory = b"1.2.840.10008.1.3.10\0\0"
    record = element(4, 0x1500, b"CS", b"..\\outside\\42_..dcm")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + meta(EXPLICIT, directory) + element(4, 0x1220, b"SQ", record))
    before = sorted(tmp_path.rglob("*"))
    volume = read_ct(folder)
    assert_reads_the_world(volume)
    assert len(volume.hu) == 6
    assert sorted(tmp_path.rglob("*")) == before


def test_a_program_in_the_preamble_is_passed_over(tmp_path):
    folder = write_series(tmp_path)
    for path, start in zip(
        sorted(folder.iterdir()), (b"MZ\x90\x00", b"\x7fELF", b"#!/bin/sh\n", b"%PDF-1.7", b"PK\x03\x04", b"II*\0"), strict=True
    ):
        path.write_bytes(start.ljust(128, b"\0") + path.read_bytes()[128:])
    assert_reads_the_world(read_ct(folder))


NAMES = ["a b", "a;b", "a\nb", "a'b\"c", "=1+1", "-rf", "\x1b[31mred", "Ünïcödé", "x" * 200, "\udcff\udcfe", "a:b, c"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_folder_or_file_is_read_and_can_be_printed(tmp_path, name):
    folder = write_series(tmp_path / name)
    for path in folder.iterdir():
        path.rename(folder / f"{name[:100]}{path.name}")
    assert_reads_the_world(read_ct(folder))
    path = sorted(folder.iterdir())[0]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ReadError) as caught:
        read_ct(folder)
    assert str(caught.value).isprintable()
    assert str(caught.value).encode()


def test_a_tree_of_any_depth_and_loops_of_links_end(tmp_path):
    deep = tmp_path / "/".join(["d"] * 300)
    folder = write_series(deep)
    (folder / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(deep)
    assert_reads_the_world(read_ct(tmp_path))


class TestNobodysName:
    """pydicom quotes bad values in warnings, logs and exceptions; so does ITK on stderr."""

    BAD = ("DA", "TM", "IS", "DS", "CS", "UI", "AS")

    def write(self, folder: Path) -> Path:
        """Values that their types do not allow, each with a name in it."""
        marks = dict(KVP="1234567890", Exposure="1234567890", PatientBirthDate="19500513", InstanceNumber=1234567890, StudyID="1234567890")
        for path in write_series(folder, change=setting(**marks)).iterdir():
            data = path.read_bytes().replace(b"1234567890", b"SECRET^JON").replace(b"19500513", b"SECRET50")
            path.write_bytes(data)
        return folder

    def test_nothing_is_shown_of_a_header_that_pydicom_complains_about(self, tmp_path, caplog, capfd):
        caplog.set_level(logging.DEBUG)
        folder = self.write(tmp_path)
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            volume, checked = read_ct(folder), check_ct(folder)
            index_files(sorted(folder.iterdir()))
        text = " ".join(str(warning.message) for warning in shown) + caplog.text + "".join(capfd.readouterr())
        assert "SECRET" not in text + repr(volume.header) + repr(volume.warnings) + repr(checked)
        assert not shown

    def test_nor_by_one_of_several_threads_when_another_is_done(self, tmp_path):
        """Filters and loggers are the process's: the first thread to end must not switch the others' warnings on."""
        folder = self.write(tmp_path)
        (path, *_) = sorted(folder.iterdir())
        inside, done = threading.Event(), threading.Event()

        def other():
            with quiet:
                inside.set()
                done.wait(5)

        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            filters = list(warnings.filters)
            thread = threading.Thread(target=other)
            thread.start()
            inside.wait(5)
            read_file(path)  # ends first, and must not give the filters back
            assert logging.getLogger("pydicom").disabled
            warnings.warn("SECRET", stacklevel=1)
            assert not shown
            done.set()
            thread.join()
            assert not logging.getLogger("pydicom").disabled
            assert list(warnings.filters) == filters
            warnings.warn("heard", stacklevel=1)
            assert len(shown) == 1

    def test_no_traceback_holds_the_exception_that_quoted_it(self, tmp_path):
        folder = self.write(tmp_path)
        path = sorted(folder.iterdir())[0]
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(ReadError) as caught:
            read_ct(folder)
        error = caught.value
        assert error.__suppress_context__ or error.__context__ is None

    def test_all_planted_identifiers_stay_out_of_what_a_good_reading_gives(self, tmp_path):
        folder = write_series(tmp_path, change=setting(Manufacturer="MAKER", ContrastBolusAgent="SECRET agent", ImageComments="SECRET"))
        volume, checked = read_ct(folder, breath="insp"), check_ct(folder, breath="insp")
        said = repr((volume.header, volume.warnings, volume.patient, volume.study, checked))
        assert "MAKER" in said
        assert not re.search(r"SECRET|1950|1\.2\.3\.4", said)


def test_the_tokens_of_patient_and_study_are_of_this_process_alone(tmp_path):
    """Nothing that could be looked up: another process has other tokens for the same patient."""
    import subprocess

    folder = write_series(tmp_path)
    code = f"from copdvae.read import check_ct; print(check_ct({str(folder)!r})['patient'])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    own = check_ct(folder)["patient"]
    assert own == check_ct(folder)["patient"]
    assert len(own) == len(other)
    assert own != other
    assert np.unique([own, other]).size == 2
