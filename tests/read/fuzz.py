"""Sound files with a few bytes changed, by the thousand: each is read right or refused.

    python tests/read/fuzz.py --mutants 20000 --out docs/benchmarks/fuzz.json

Mutant number n is a function of the seed and n. A process of its own reads them, one after the other, and is started again after one that
kills it. The kernel holds each to ten seconds of processor time (SIGPROF) and a gibibyte of memory (RLIMIT_AS), and the watching process to
two minutes by the clock. What is read is compared with what another library reads at the same place in the patient.
"""

import argparse
import gzip
import io
import json
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from bombs import forget_peak, peak_bytes
from ct_writers import lps_affine, stored_voxels, write_itk, write_nifti, write_series

HANG_S = 10.0
MOST_BYTES = 1 << 30
ROUND = 500  # mutants until results are written
NUMBERS = (0, 1, 2, 7, 16, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
WORDS = (
    b"0", b"-1", b"-0", b"1e308", b"-1e-308", b"nan", b"inf", b"99999999999999999999", b"2147483648", b"65536", b"", b"True", b"None",
    b"1 1 1", b"x" * 300, b"\0", b"\xff", b"\xef\xbb\xbf", b"%d", b"../..", b"LIST", b"'", b'"', b",", b";", b"\n", b"\t", b"- ", b": ",
    b"[", b"{", b"&a ", b"*a", b"!!", b"(", b")",
)  # fmt: skip


def change(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """One to six changes of a kind that files meet, or that an enemy would make."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        # Headers come first, and are what matters: half of all changes are within the first five hundred bytes.
        end = len(out) if rng.random() < 0.5 else min(len(out), 500)
        place, span = rng.randrange(max(1, end)), rng.choice((1, 1, 2, 4, 8, 30, 200))
        kind = rng.randrange(11)
        if kind == 0 and out:
            out[place % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[place : place + 1] = bytes([rng.choice((0, 1, 32, 48, 127, 128, 255))])
        elif kind == 2:
            size = rng.choice((2, 4, 8))
            value = rng.choice(NUMBERS) * rng.choice((1, 1, -1)) % (1 << 8 * size)
            out[place : place + size] = value.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 3:
            del out[place : place + span]
        elif kind == 4:
            out[place:place] = out[place : place + span]
        elif kind == 5:
            out[place:place] = rng.randbytes(span)
        elif kind == 6:
            del out[rng.randrange(len(out) + 1) :]
        elif kind == 7:
            out[place : place + span] = other[place : place + span]
        elif kind == 8:
            found = list(re.finditer(rb"-?\d+(\.\d+)?", bytes(out[:4000])))
            if found:
                match = rng.choice(found)
                out[match.start() : match.end()] = rng.choice(WORDS)
        elif kind == 9:
            out[place:place] = rng.choice(WORDS)
        else:
            lines = bytes(out).split(b"\n")
            first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[first], lines[second] = (lines[second], lines[first]) if rng.random() < 0.5 else (lines[first], lines[first])
            out = bytearray(b"\n".join(lines))
    return bytes(out)


def inside(packed: Callable[[bytes], bytes], unpacked: Callable[[bytes], bytes]) -> Callable[[bytes, random.Random, bytes], bytes]:
    """Changes of what a container holds; one in three of the container itself."""

    def mutate(data: bytes, rng: random.Random, other: bytes) -> bytes:
        return change(data, rng, other) if rng.random() < 1 / 3 else packed(change(unpacked(data), rng, other))

    return mutate


def change_part(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """A workbook with one of its parts changed."""
    if rng.random() < 1 / 3:
        return change(data, rng, other)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as written:
        names = archive.namelist()
        chosen = rng.choice(names)
        for name in names:
            part = archive.read(name)
            written.writestr(name, change(part, rng, part[::-1]) if name == chosen else part)
    return out.getvalue()


in_gzip = inside(lambda data: gzip.compress(data, 1, mtime=0), gzip.decompress)


# ---- sound files: a folder for each, one of its files is changed, one is read


def dicom(folder: Path, syntax: str = "explicit") -> tuple[Path, Path]:
    from pydicom import dcmread, dcmwrite
    from pydicom.uid import ImplicitVRLittleEndian, RLELossless

    write_series(folder, sizes=(16, 16) if syntax == "rle" else (5, 4))  # GDCM reads no smaller RLE
    for path in sorted(folder.iterdir()):
        dataset = dcmread(path)
        if syntax == "implicit":
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        if syntax == "rle":
            dataset.compress(RLELossless, generate_instance_uid=False)
        dcmwrite(path, dataset, enforce_file_format=True)
    return folder, sorted(folder.iterdir())[2]


def one(make: Callable[[Path], object], name: str) -> Callable[[Path], tuple[Path, Path]]:
    def made(folder: Path) -> tuple[Path, Path]:
        make(folder / name)
        return folder / name, folder / name

    return made


def nifti_qform(path: Path) -> None:
    import nibabel

    affine, sizes = lps_affine((1, 0, 2), (-1, 1, -1))
    image = nibabel.Nifti1Image(stored_voxels(affine, sizes).astype(np.float32).transpose(2, 1, 0), None)
    image.set_qform(np.diag([-1, -1, 1, 1]) @ affine, 1)
    image.header.set_slope_inter(1, 0)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"SECRET^NAME"))
    nibabel.save(image, path)


def nifti_2(path: Path) -> None:
    import nibabel

    affine, sizes = lps_affine()
    nibabel.save(nibabel.Nifti2Image(stored_voxels(affine, sizes).astype(">i2").transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine), path)


def phenotypes(path: Path, delimiter: str = ",") -> None:
    header = [
        "sid",
        "gender",
        "age_visit",
        "Height_CM",
        "race",
        "FEV1_utah",
        "FVC_utah",
        "FEV1_FVC_utah",
        "FEV1pp_utah",
        "finalGold",
        "note",
    ]
    rows = [[f"S{k:02d}", 1 + k % 2, 50 + k, 160 + k, 1, 2.4, 3.2, 0.75, 80, 0, '"a note"'] for k in range(9)]
    path.write_text("\n".join(delimiter.join(map(str, row)) for row in [header, *rows]) + "\n")


def workbook(path: Path) -> None:
    import openpyxl

    phenotypes(path.with_suffix(".csv"))
    book = openpyxl.Workbook()
    for line in path.with_suffix(".csv").read_text().splitlines():
        book.active.append([float(word) if re.fullmatch(r"[\d.]+", word) else word for word in line.split(",")])
    book.save(path)
    path.with_suffix(".csv").unlink()


def manifest(folder: Path) -> tuple[Path, Path]:
    for name in "abcd":
        (folder / f"{name}.nii").touch()
    path = folder / "manifest.csv"
    path.write_text("subject_id,visit,insp_path,exp_path,site\nP1,1,a.nii,b.nii,A\nP2,1,c.nii,,B\nP3,2,./d.nii,,B\n")
    return path, path


def settings(path: Path) -> None:
    from copdvae.study import packaged_config

    path.write_bytes(packaged_config("demo.yaml").read_bytes())


def beside(suffix: str, change_data: bool = False) -> Callable[[Path], tuple[Path, Path]]:
    def made(folder: Path) -> tuple[Path, Path]:
        path = write_itk(folder / f"scan{suffix}", *lps_affine(), compress=change_data)
        return path, next(file for file in folder.iterdir() if (file != path) == change_data)

    return made


def labels(path: Path) -> None:
    write_nifti(path, *lps_affine())


# name: how often, how to make it, how to change it, how to read it
FORMATS: dict[str, tuple[int, Callable, Callable, str]] = {
    "dicom": (5, dicom, change, "ct"),
    "dicom, implicit": (2, lambda folder: dicom(folder, "implicit"), change, "ct"),
    "dicom, rle": (2, lambda folder: dicom(folder, "rle"), change, "ct"),
    "nii": (3, one(lambda path: write_nifti(path, *lps_affine()), "scan.nii"), change, "ct"),
    "nii, qform": (2, one(nifti_qform, "scan.nii"), change, "ct"),
    "nii.gz": (2, one(nifti_qform, "scan.nii.gz"), in_gzip, "ct"),
    "nifti 2": (1, one(nifti_2, "scan.nii"), change, "ct"),
    "nrrd": (3, one(lambda path: write_itk(path, *lps_affine((2, 0, 1), (1, -1, 1))), "scan.nrrd"), change, "ct"),
    "nrrd, gzip": (1, one(lambda path: write_itk(path, *lps_affine(), compress=True), "scan.nrrd"), change, "ct"),
    "nhdr": (1, beside(".nhdr"), change, "ct"),
    "nhdr, data": (1, beside(".nhdr", True), in_gzip, "ct"),
    "mha": (3, one(lambda path: write_itk(path, *lps_affine((2, 0, 1), (1, -1, 1))), "scan.mha"), change, "ct"),
    "mha, zlib": (1, one(lambda path: write_itk(path, *lps_affine(), compress=True), "scan.mha"), change, "ct"),
    "mhd": (1, beside(".mhd"), change, "ct"),
    "labels": (1, one(labels, "mask.nii"), change, "labels"),
    "csv": (3, one(phenotypes, "p.csv"), change, "phenotypes"),
    "csv, semicolon": (1, one(lambda path: phenotypes(path, ";"), "p.csv"), change, "phenotypes"),
    "csv.gz": (1, one(lambda path: path.write_bytes(gzip.compress(_text(path))), "p.csv.gz"), in_gzip, "phenotypes"),
    "manifest": (2, manifest, change, "manifest"),
    "xlsx": (1, one(workbook, "p.xlsx"), change_part, "phenotypes"),
    "yaml": (3, one(settings, "study.yaml"), change, "yaml"),
}
TURN = [name for name, (weight, *_) in FORMATS.items() for _ in range(weight)]


def _text(path: Path) -> bytes:
    plain = path.with_name("plain.csv")
    phenotypes(plain)
    data = plain.read_bytes()
    plain.unlink()
    return data


class Sound:
    """The sound files of every format, in memory."""

    def __init__(self, folder: Path):
        self.files: dict[str, tuple[dict[str, bytes], str, str]] = {}
        for name, (_, make, _, _) in FORMATS.items():
            own = folder / name
            own.mkdir()
            read, changed = make(own)
            files = {file.name: file.read_bytes() for file in own.iterdir()}
            self.files[name] = files, "" if read == own else read.name, changed.name

    def mutant(self, number: int, seed: int, folder: Path) -> tuple[str, Path]:
        """Write mutant `number`; its format, and the path to read."""
        rng = random.Random(f"{seed} {number}")
        name = rng.choice(TURN)
        files, read, changed = self.files[name]
        folder.mkdir()
        for file, data in files.items():
            others = [content for other, content in files.items() if other != file] or [data[::-1]]
            (folder / file).write_bytes(FORMATS[name][2](data, rng, others[0]) if file == changed else data)
        return name, folder / read if read else folder


# ---- reading, and what another library reads


def outcome(name: str, path: Path) -> str:
    """`read`, a reason, or what is wrong in capitals."""
    from copdvae.errors import CopdvaeError, ReadError

    try:
        return READERS[FORMATS[name][3]](path)
    except ReadError as error:
        return error.reason
    except CopdvaeError as error:
        return type(error).__name__
    except Exception:  # noqa: BLE001  that is what is looked for
        return "RAISED " + traceback.format_exc(limit=-3)


def read_scan(path: Path) -> str:
    from copdvae.read import check_ct, read_ct, source_hash

    volume = read_ct(path)
    check_ct(path)
    source_hash(path)
    direction = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    if (
        volume.hu.dtype not in (np.float32, np.int16)
        or not np.isfinite(volume.hu).all()
        or volume.hu.min() < -1024
        or not (np.diag(direction) > 0.8).all()
    ):
        return f"WRONG volume: {volume.hu.dtype} {volume.hu.shape} from {volume.hu.min()}, {volume.affine.tolist()}"
    try:
        slabs = dicom_slabs(path) if path.is_dir() else nifti_slabs(path) if ".nii" in path.name else itk_slabs(path)
    except Exception:  # noqa: BLE001  the other library has its own mind
        return "read, unchecked"
    return compared(volume, slabs)


def compared(volume, slabs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Whether every voxel has the value of a slab, (values, their LPS places (..., 3)), that lies there."""
    covered, filled = np.zeros(volume.hu.shape, bool), np.zeros(volume.hu.shape, bool)
    back = np.linalg.inv(volume.affine)
    for values, places in slabs:
        places = np.nan_to_num(places, nan=1e9, posinf=1e9, neginf=1e9).clip(-1e9, 1e9)  # nowhere
        index = places @ back[:3, :3].T + back[:3, 3]
        whole = np.rint(index).astype(int)
        there = (np.abs(index - whole) < 0.05).all(axis=-1) & (whole >= 0).all(axis=-1) & (whole < volume.hu.shape[::-1]).all(axis=-1)
        x, y, z = whole[there].T
        with np.errstate(over="ignore"):
            wanted = np.maximum(values[there], -1024).astype(np.float32)
        covered[z, y, x] = True
        filled[z, y, x] |= np.isclose(volume.hu[z, y, x], wanted, rtol=1e-5, atol=1e-3)
    wrong = covered & ~filled
    if wrong.any():
        return f"WRONG in {wrong.sum()} of {wrong.size} voxels, first {np.argwhere(wrong)[0].tolist()}"
    return "read" if covered.all() else "read, unchecked"


def nifti_slabs(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    import nibabel

    image = nibabel.load(path)
    values = np.asarray(image.dataobj, dtype=np.float64)
    values = values.reshape(values.shape[:3])
    scale = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
    affine = np.diag([-scale, -scale, scale, 1]) @ (image.get_sform() if image.header["sform_code"] > 0 else image.get_qform())
    return [(values, np.moveaxis(np.indices(values.shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3])]


def itk_slabs(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    import SimpleITK as sitk

    if b"CompressedData = True" in path.read_bytes() and b"\nCompressedDataSize = " not in path.read_bytes():
        raise ValueError("SimpleITK says 'Uncompress failed' and gives what memory held")
    name = "NrrdImageIO" if path.read_bytes().startswith(b"NRRD") else "MetaImageIO"
    image = sitk.ReadImage(str(path), imageIO=name)
    values = sitk.GetArrayFromImage(image).astype(np.float64).transpose(2, 1, 0)
    edges = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return [(values, np.moveaxis(np.indices(values.shape), 0, -1) @ edges.T + image.GetOrigin())]


def dicom_slabs(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    import warnings

    import pydicom

    slabs = []
    for path in folder.iterdir():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(path, force=True)
                raw = dataset.pixel_array.astype(np.float64)
                row, column = np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3))
                down, across = (float(step) for step in dataset.PixelSpacing)
                j, i = np.indices(raw.shape)
                places = np.array(dataset.ImagePositionPatient, float) + i[..., None] * across * row + j[..., None] * down * column
                slabs.append((raw * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept), places))
        except Exception:  # noqa: BLE001  a file that our reader may have left out
            continue
    return slabs


def read_mask(path: Path) -> str:
    from copdvae.read import read_labels
    from copdvae.read.volume import Volume

    affine, sizes = lps_affine()
    ct = Volume(np.zeros(sizes[::-1], np.float32), (5, 3, 2), affine)
    found = read_labels(path, ct)
    return "read" if found.shape == ct.hu.shape and found.dtype.kind in "iu" else f"WRONG labels {found.shape} {found.dtype}"


def read_people(path: Path) -> str:
    from copdvae.read.phenotypes import PhenotypesConfig, read_phenotypes
    from copdvae.read.tables import read_table

    table = read_table(path)
    if not all(isinstance(cell, str) and cell == cell.strip() for cell in table.to_numpy().ravel()):
        return "WRONG cells"
    if table.columns.has_duplicates or not table.index.is_monotonic_increasing or table.index.min() < 2:
        return "WRONG rows or columns"
    found = read_phenotypes(path, PhenotypesConfig())
    sound = found.table["fev1_l"].dropna()
    return "read" if found.table.index.is_unique and sound.between(0.2, 8).all() else "WRONG measures"


def read_list(path: Path) -> str:
    from copdvae.read.manifest import read_manifest

    study = read_manifest(path)
    for row in study.scans.to_dict("records"):
        if not (study.root / row["insp_path"]).resolve().is_relative_to(study.root) or not row["subject_id"]:
            return f"WRONG row {row}"
    return "read"


def read_settings(path: Path) -> str:
    from copdvae.study import Study, load_study

    study = load_study(path)
    return "read" if Study.parse(study.plain()) == study else "WRONG settings"


READERS = {"ct": read_scan, "labels": read_mask, "phenotypes": read_people, "manifest": read_list, "yaml": read_settings}


# ---- one process that reads, and one that watches it


def work(first: int, last: int, seed: int, keep: Path | None) -> None:
    """Read mutants from `first` to before `last`; a line of JSON before and after each."""
    import nibabel  # noqa: F401  imports are not a mutant's doing
    import openpyxl  # noqa: F401
    import pydicom  # noqa: F401
    import SimpleITK as sitk

    import copdvae.read.dicom
    import copdvae.read.phenotypes
    import copdvae.study  # noqa: F401

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    size = next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES, size + MOST_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sound").mkdir()
        sound = Sound(Path(folder) / "sound")
        for name, (files, read, _) in sound.files.items():
            own = Path(folder) / "sound" / name
            found = outcome(name, own / read if read else own)
            assert found == "read", f"{name}: the sound file is {found}"
            assert files
        for number in range(first, last):
            place = Path(folder) / str(number)
            name, path = sound.mutant(number, seed, place)
            print(json.dumps([number, name]), flush=True)
            before, started = forget_peak(), time.process_time()
            signal.setitimer(signal.ITIMER_PROF, HANG_S)  # its signal ends a process, and no code of Python's has to run for it
            found = outcome(name, path)
            signal.setitimer(signal.ITIMER_PROF, 0)
            print(json.dumps([number, name, found, time.process_time() - started, peak_bytes() - before]), flush=True)
            if found[0].isupper() and keep is not None and found != "ConfigError":
                place.rename(keep / f"{number}")
            else:
                for file in place.iterdir():
                    file.unlink()
                place.rmdir()


def watch(
    first: int,
    last: int,
    seed: int,
    keep: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    each: Callable[[list[tuple], bytes], None] = lambda results, said: None,
) -> tuple[list[tuple], bytes]:
    """(number, format, outcome, seconds, bytes) of every mutant, and all that the readers said on stderr.

    `say` hears of what is wrong, `each` of all results so far, after every one.
    """
    results: list[tuple] = []
    said = b""
    while first < last:
        command = [sys.executable, __file__, "--worker", str(first), str(last), "--seed", str(seed)]
        command += ["--keep", str(keep)] if keep else []
        with tempfile.TemporaryFile() as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            running, clock = "", threading.Timer(1200, process.kill)  # imports and the sound files
            clock.start()
            for line in process.stdout or ():
                clock.cancel()
                found = json.loads(line)
                if len(found) == 2:
                    first, running = found[0], found[1]
                    clock = threading.Timer(12 * HANG_S, process.kill)  # a busy machine may stand still
                    clock.start()
                else:
                    results.append(tuple(found))
                    first, running = found[0] + 1, ""
                    each(results, said)
                    if found[2][0].isupper() and found[2] != "ConfigError":
                        say(f"{found[0]} {found[1]}: {found[2]}")
            clock.cancel()
            ended = process.wait()
            errors.seek(0)
            own = errors.read()
        said += own
        if running:
            results.append((first, running, f"DIED with {ended}: {own[-500:].decode(errors='replace')}", HANG_S, 0))
            say(str(results[-1]))
            first += 1
        elif ended:
            raise RuntimeError(f"the reading process ended with {ended}: {own[-2000:].decode(errors='replace')}")
    return results, said


def wrong(results: list[tuple]) -> list[tuple]:
    """Mutants that were neither read right nor refused, or took too long or too much, or were refused only after asking for too much."""
    sound = [r for r in results if r[2] == "ConfigError" or not (r[2][0].isupper() or r[2] == "out_of_memory")]
    return [r for r in results if r not in sound or r[3] > HANG_S or r[4] > MOST_BYTES]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="Folder for mutants that are read wrong.")
    parser.add_argument("--worker", type=int, nargs=2)
    options = parser.parse_args()
    if options.worker:
        work(*options.worker, options.seed, options.keep)
        return
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()

    def write(results: list[tuple], said: bytes) -> None:
        if len(results) % ROUND and len(results) < options.mutants:
            return
        kept = record(results, said, options.seed, time.perf_counter() - started)
        if options.out:
            options.out.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        print(f"{len(results)} mutants, {kept['wrong']} wrong, {kept['seconds']} s", flush=True)

    results, said = watch(0, options.mutants, options.seed, options.keep, lambda line: print(line, flush=True), write)
    write(results, said)
    for number, name, found, seconds, size in sorted(results, key=lambda result: -result[4])[:5]:
        print(f"{number} {name}: {size / 2**20:.0f} MiB, {seconds:.2f} s, {found[:60]}")
    raise SystemExit(bool(wrong(results)) or b"SECRET" in said)


def record(results: list[tuple], said: bytes, seed: int, seconds: float) -> dict:
    """What is kept of a run: counts by format and outcome, and the extremes."""
    bad = wrong(results)
    by_format: dict[str, Counter] = {name: Counter() for name in FORMATS}
    for _, name, found, _, _ in results:
        by_format[name][found.split("\n")[0][:60]] += 1
    slowest, largest = max(results, key=lambda result: result[3]), max(results, key=lambda result: result[4])
    return {
        "mutants": len(results), "seed": seed, "seconds": round(seconds, 1), "wrong": len(bad), "names_on_stderr": said.count(b"SECRET"),
        "read_right": sum(r[2] == "read" for r in results), "read_unchecked": sum(r[2] == "read, unchecked" for r in results),
        "refused": sum(not r[2].startswith("read") for r in results) - sum(not r[2].startswith("read") for r in bad),
        "limits": {"processor_s": HANG_S, "mib": MOST_BYTES >> 20},
        "slowest": {"mutant": slowest[0], "format": slowest[1], "processor_s": round(slowest[3], 2)},
        "largest": {"mutant": largest[0], "format": largest[1], "mib": round(largest[4] / 2**20, 1)},
        "outcomes": {name: dict(sorted(counts.items())) for name, counts in by_format.items()}, "versions": versions(),
    }  # fmt: skip


def versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    names = ("copdvae", "numpy", "pandas", "nibabel", "pydicom", "SimpleITK", "openpyxl", "PyYAML")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


if __name__ == "__main__":
    main()
