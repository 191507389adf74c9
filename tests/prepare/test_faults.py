"""What happens to a cache when the world does not hold still: nothing is lost, nothing half-written is read, the next run mends it."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from chests import chest, save_nifti

from copdvae.errors import CopdvaeError
from copdvae.files import replacing, write_text
from copdvae.prepare import cached, scans
from copdvae.prepare.cached import load_subject
from copdvae.prepare.ingest import ingest
from copdvae.prepare.settings import IngestConfig

SMALL = IngestConfig(grid=32)  # 99 KB a subject
INGEST = (
    "import sys; from pathlib import Path; from copdvae.errors import CopdvaeError\n"
    "from copdvae.prepare.ingest import ingest; from copdvae.prepare.settings import IngestConfig\n"
    "try: ingest(Path(sys.argv[1]), Path(sys.argv[2]), IngestConfig(grid=32))\n"
    "except CopdvaeError as error: print(error); raise SystemExit(1)"
)


def contents(cache: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(cache.iterdir())}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A manifest of four subjects, and what an undisturbed run makes of it: only to be read."""
    folder = tmp_path_factory.mktemp("study")
    for k in range(4):
        save_nifti(folder / f"ct/P{k}/insp.nii", chest(0.92 + 0.03 * k, seed=k))
    (folder / "manifest.csv").write_text("subject_id,insp_path\n" + "".join(f"P{k},ct/P{k}/insp.nii\n" for k in range(4)))
    ingest(folder / "manifest.csv", folder / "cache", SMALL)
    return folder / "manifest.csv", contents(folder / "cache")


@pytest.fixture
def own(study, tmp_path) -> Path:
    """A copy of the study without its cache, to be disturbed: its manifest."""
    shutil.copytree(study[0].parent / "ct", tmp_path / "study/ct")
    return Path(shutil.copy(study[0], tmp_path / "study/manifest.csv"))


@contextmanager
def disk(folder: Path, options: str):
    """A file system of its own, where mounting is allowed."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_stops_the_run_with_whole_files_and_a_larger_one_goes_on(study, tmp_path):
    manifest, whole = study
    with disk(tmp_path / "disk", "size=256k") as small:
        with pytest.raises(CopdvaeError, match="cannot be written: No space left on device"):
            ingest(manifest, small / "cache", SMALL)
        found = contents(small / "cache")
        assert len(found) == 2
        assert found.items() <= whole.items()
        shutil.copytree(small / "cache", tmp_path / "cache")
    result = ingest(manifest, tmp_path / "cache", SMALL)
    assert (result.made, result.kept) == (2, 2)
    assert contents(tmp_path / "cache") == whole


def test_a_limit_on_a_files_size_does_the_same(study, tmp_path):
    """For where nothing can be mounted: the kernel refuses to let any file grow beyond 64 KB."""
    manifest, whole = study
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n" + INGEST
    done = subprocess.run([sys.executable, "-c", limited, manifest, tmp_path / "cache"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "cannot be written: File too large" in done.stdout
    assert not list((tmp_path / "cache").iterdir())
    ingest(manifest, tmp_path / "cache", SMALL)
    assert contents(tmp_path / "cache") == whole


def test_a_disk_that_is_full_keeps_the_table_that_was_there(study, tmp_path):
    manifest, _ = study
    with disk(tmp_path / "disk", "size=600k") as small:
        ingest(manifest, small / "cache", SMALL)
        (small / "cache/index.csv").write_text("of an earlier run")
        with pytest.raises(OSError, match="No space"):
            (small / "ballast").write_bytes(bytes(1 << 20))
        with pytest.raises(CopdvaeError, match=r"index\.csv cannot be written: No space left on device; what was there"):
            ingest(manifest, small / "cache", SMALL)
        assert (small / "cache/index.csv").read_text() == "of an earlier run"
        assert not list((small / "cache").glob(".*"))


@pytest.fixture
def nobody():
    """Root may write anywhere: be someone else for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_whole_cache_that_is_read_only_is_used_as_it_is(study, tmp_path):
    manifest, whole = study
    with disk(tmp_path / "disk", "size=2m") as place:
        shutil.copytree(manifest.parent / "cache", place / "cache")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        result = ingest(manifest, place / "cache", SMALL)
        assert (result.made, result.kept, len(result.index)) == (0, 4, 4)
        assert contents(place / "cache") == whole


def test_a_cache_that_cannot_be_written_is_no_subjects_fault(study, tmp_path):
    manifest, _ = study
    with disk(tmp_path / "disk", "size=2m") as place:
        (place / "cache").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        with pytest.raises(CopdvaeError, match="cannot be written: Read-only file system"):
            ingest(manifest, place / "cache", SMALL)
        with pytest.raises(CopdvaeError, match="cannot make this folder for the cache: Read-only file system"):
            ingest(manifest, place / "other", SMALL)


def test_a_folder_that_may_not_be_written_to_is_said_in_one_line(nobody):
    for folder in ("/", "/deep/below"):
        with pytest.raises(CopdvaeError, match=r"a\.txt cannot be written: (Permission denied|Read-only file system)"):
            write_text(Path(folder) / "a.txt", "text")


@pytest.mark.parametrize("when", ["hashed", "read"])
def test_a_scan_that_vanishes_costs_its_own_subject_alone_and_comes_back(study, own, tmp_path, monkeypatch, when):
    _, whole = study
    victim = own.parent / "ct/P1/insp.nii"

    def vanishing(function):
        def call(path, *rest, **options):
            if path == victim:
                victim.unlink()
            return function(path, *rest, **options)

        return call

    module, name = {"hashed": (cached, "source_hash"), "read": (scans, "read_ct")}[when]
    with monkeypatch.context() as patched:
        patched.setattr(module, name, vanishing(getattr(module, name)))
        result = ingest(own, tmp_path / "cache", SMALL)
    assert list(result.index["subject_id"]) == ["P0", "P2", "P3"]
    assert result.rejected[["subject_id", "reason"]].to_numpy().tolist() == [["P1", "not_found"]]
    shutil.copy(study[0].parent / "ct/P1/insp.nii", victim)
    again = ingest(own, tmp_path / "cache", SMALL)
    assert (again.made, again.kept) == (1, 3)
    assert contents(tmp_path / "cache") == whole


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES, errno.ENOENT])
def test_a_disk_that_refuses_to_read_costs_one_subject(study, tmp_path, monkeypatch, number):
    manifest, _ = study
    monkeypatch.setattr(scans, "prepare_scan", refuse_to_read(number))
    result = ingest(manifest, tmp_path / "cache", SMALL)
    assert set(result.rejected["reason"]) == {"unreadable"}
    assert set(result.rejected["detail"]) == {os.strerror(number)}
    assert len(result.rejected) == 4


def refuse_to_read(number: int):
    def read(*_):
        raise OSError(number, os.strerror(number), "/somewhere/SMITH")

    return read


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "another's", "gone"])
def test_a_cached_file_that_is_not_what_was_written_is_made_again(study, tmp_path, damage):
    """Also one whose length is right, which safetensors would read."""
    manifest, whole = study
    cache = Path(shutil.copytree(manifest.parent / "cache", tmp_path / "cache"))
    file, other, *_ = sorted(cache.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[-1000] ^= 1
        file.write_bytes(content)
        load_subject(file)
    elif damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "another's":
        file.write_bytes(other.read_bytes())
    else:
        file.unlink()
    result = ingest(manifest, cache, SMALL)
    assert (result.made, result.kept) == (1, 3)
    assert contents(cache) == whole


def test_two_runs_at_once_on_one_cache_end_with_the_same_bytes(study, tmp_path):
    manifest, whole = study
    command = [sys.executable, "-c", INGEST, manifest, tmp_path / "cache"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert contents(tmp_path / "cache") == whole


def test_a_reader_never_sees_half_a_file(tmp_path):
    """One writes the same file again and again, the other reads it all the while."""
    path, sizes, done = tmp_path / "a", set(), threading.Event()
    write_text(path, "x" * 100_000)

    def read():
        while not done.is_set():
            sizes.add(len(path.read_bytes()))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        write_text(path, "x" * 100_000)
    done.set()
    reader.join()
    assert sizes == {100_000}


def test_a_run_on_another_machine_loses_nothing_to_this_one(study, tmp_path):
    """Process numbers mean nothing across machines that share a disk: only its own machine removes a temporary file."""
    manifest, whole = study
    (tmp_path / "cache").mkdir()
    theirs = tmp_path / "cache/.x.safetensors.h01234567.999999999.tmp"
    theirs.write_text("half of it")
    ingest(manifest, tmp_path / "cache", SMALL)
    assert theirs.read_text() == "half of it"
    theirs.unlink()
    assert contents(tmp_path / "cache") == whole
    with replacing(tmp_path / "a") as temporary:
        assert temporary.name.split(".")[-2] == str(os.getpid())
        temporary.touch()
