"""How long one 512 x 512 CT takes from DICOM to its cached file, beside SimpleITK's bare read and a MONAI chain that only resamples.

    python tests/benchmarks/ingest_speed.py [--series FOLDER] [--runs 7] [--out docs/benchmarks/ingest.json]

All read the same folder of .dcm files (by default the first LIDC case of the real data), one thread. copdvae does all that `ingest` does
for a subject: digest of the source, header checks, pixels, lungs, densitometry, 128 voxels a side, the file written. SimpleITK names the
series' files and reads their pixels, no more. Runs alternate, each in a process of its own: the clock starts after the imports and, for
SimpleITK, after a first read ("warm"); memory is the peak of the resident set above what the imports hold.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")}
GRID = 128
DATA = Path(os.environ.get("COPDVAE_DATA", Path(__file__).parents[3] / "shared" / "data"))
ARCHIVE = "ct/lidc_idri_0001_full_dicom.tar.xz"


def copdvae_chain():
    import SimpleITK  # noqa: F401  readers import it when they are called

    from copdvae.prepare.cached import load_subject
    from copdvae.prepare.ingest import prepare_subject
    from copdvae.prepare.settings import IngestConfig
    from copdvae.prepare.task import Task
    from copdvae.read import dicom  # noqa: F401
    from copdvae.read.manifest import COLUMNS

    def run(folder: Path):
        row = dict.fromkeys(COLUMNS, "") | {"subject_id": "LIDC-0001", "insp_path": folder.name}
        with tempfile.TemporaryDirectory() as cache:
            task = Task(row, folder.parent, Path(cache), IngestConfig(grid=GRID))
            outcome = prepare_subject(task)
            assert outcome.state == "made", outcome
            return load_subject(task.file)[0].shape[1:]

    return run


def scan_chain():
    import SimpleITK  # noqa: F401

    from copdvae.prepare.scans import prepare_scan
    from copdvae.prepare.settings import IngestConfig
    from copdvae.read import dicom  # noqa: F401

    return lambda folder: prepare_scan(folder, config=IngestConfig(grid=GRID)).scan.image.shape


def simpleitk_chain():
    import SimpleITK as sitk

    return lambda folder: sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))).GetSize()


def monai_chain():
    from monai.data import PydicomReader
    from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Orientation, Resize, Spacing
    from torch import set_num_threads

    set_num_threads(1)
    chain = Compose(
        [LoadImage(PydicomReader()), EnsureChannelFirst(), Orientation("LPS", labels=None), Spacing((1, 1, 1)), Resize((GRID, GRID, GRID))]
    )
    return lambda folder: tuple(chain(str(folder)).shape[1:])


CHAINS = {"copdvae": copdvae_chain, "scan": scan_chain, "simpleitk": simpleitk_chain, "monai": monai_chain}


def resident(name: str, process: int | str = "self") -> int:
    """VmRSS (now) or VmHWM (peak) of a process, in bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def measure(chain: str, folder: Path) -> dict:
    """One run in this process."""
    run = CHAINS[chain]()
    if chain == "simpleitk":
        run(folder)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    shape = run(folder)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert chain == "simpleitk" or tuple(shape) == (GRID,) * 3, shape
    return {"seconds": wall, "cpu_seconds": cpu, "peak_bytes": resident("VmHWM") - before}


def int16_bytes(folder: Path) -> int:
    import pydicom

    first = pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)
    return 2 * first.Rows * first.Columns * len(list(folder.glob("*.dcm")))


def only_slices(series: Path | None, folder: Path) -> None:
    """Put the series' .dcm files, and nothing else, into `folder`."""
    if series is not None:
        for path in series.rglob("*.dcm"):
            shutil.copy(path, folder / path.name)
        return
    with tarfile.open(DATA / ARCHIVE) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(".dcm") and (stream := archive.extractfile(member)):
                (folder / Path(member.name).name).write_bytes(stream.read())


def compare(series: Path | None, runs: int) -> dict:
    from machine import machine

    before = machine()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        only_slices(series, folder)
        found: dict[str, list[dict]] = {name: [] for name in CHAINS}
        for number in range(runs):
            for name in CHAINS:
                command = [sys.executable, __file__, "--child", name, "--series", str(folder)]
                output = subprocess.run(command, env=os.environ | ONE_THREAD, check=True, capture_output=True, text=True).stdout
                found[name].append(json.loads(output.splitlines()[-1]))
                seconds = " ".join(f"{key} {value:.3g}" for key, value in found[name][-1].items())
                print(f"run {number + 1} {name:<9} {seconds}", file=sys.stderr, flush=True)
        size = int16_bytes(folder)
        slices = len(list(folder.glob("*.dcm")))
    medians = {name: {key: statistics.median(run[key] for run in each) for key in each[0]} for name, each in found.items()}
    return {
        "slices": slices,
        "int16_mb": size / 1e6,
        "grid": GRID,
        "runs": runs,
        "median": medians,
        "times_simpleitk": medians["copdvae"]["seconds"] / medians["simpleitk"]["seconds"],
        "times_simpleitk_cpu": medians["copdvae"]["cpu_seconds"] / medians["simpleitk"]["cpu_seconds"],
        "times_as_fast": medians["monai"]["seconds"] / medians["scan"]["seconds"],
        "times_as_fast_cpu": medians["monai"]["cpu_seconds"] / medians["scan"]["cpu_seconds"],
        "times_as_fast_with_digest_and_file": medians["monai"]["seconds"] / medians["copdvae"]["seconds"],
        "peak_over_int16_volume": {name: each["peak_bytes"] / size for name, each in medians.items()},
        "threads": 1,
        "machine": before,
        "each": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=Path, help="folder with one series of .dcm files")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "benchmarks" / "ingest.json")
    parser.add_argument("--child", choices=CHAINS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.series)))
        return
    result = compare(options.series, options.runs)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, each in result["median"].items():
        print(f"{name:<8} {each['seconds']:7.2f} s   peak {result['peak_over_int16_volume'][name]:.2f} x the int16 volume")
    print(f"{result['times_as_fast']:.1f} times as fast as MONAI's chain, {result['times_simpleitk']:.1f} times SimpleITK's read")


if __name__ == "__main__":
    main()
