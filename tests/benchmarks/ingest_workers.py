"""How much faster two workers ingest than one, and whether a worker's memory grows with the number of subjects.

    python tests/benchmarks/ingest_workers.py [--subjects 64] [--runs 3] [--out docs/benchmarks/ingest_workers.json]

Every subject's scan is the first LIDC case of the real data (512 x 512 x 133) in a folder of its own, hard links to one copy. Runs with
one worker and with two alternate, each `ingest` in a process of its own, imports not counted with one worker and counted in the workers
with two. Memory is the largest of any process's peaks of the resident set, above what a process holds after its imports.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from ingest_speed import ONE_THREAD, int16_bytes, only_slices, resident
from machine import machine


def make_study(folder: Path, subjects: int, slices: Path) -> Path:
    rows = ["subject_id,insp_path"]
    for number in range(subjects):
        scan = folder / f"scan{number:04d}"
        scan.mkdir()
        for file in slices.iterdir():
            os.link(file, scan / file.name)
        rows.append(f"S{number:04d},{scan.name}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def measure(manifest: Path, workers: int) -> dict:
    """One ingest in this process, and the peak of whichever of its processes needed most."""
    import psutil
    import SimpleITK  # noqa: F401  readers import it when they are called

    from copdvae.prepare.ingest import ingest
    from copdvae.prepare.settings import IngestConfig
    from copdvae.read import dicom  # noqa: F401

    imports = resident("VmRSS")
    peaks: dict[int, int] = {}
    done = threading.Event()

    def watch() -> None:
        this = psutil.Process()
        while not done.wait(0.5):  # more often, this would take a worker's time; a process keeps its own peak
            for process in (this, *this.children(recursive=True)):
                with suppress(OSError, StopIteration):  # it ended
                    peaks[process.pid] = resident("VmHWM", process.pid)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        result = ingest(manifest, Path(cache), IngestConfig(grid=128), workers)
        seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return {"seconds": seconds, "subjects": result.made, "peak_bytes": max(peaks.values()) - imports}


def child(manifest: Path, workers: int) -> dict:
    command = [sys.executable, __file__, "--child", str(workers), "--manifest", str(manifest)]
    output = subprocess.run(command, env=os.environ | ONE_THREAD, check=True, capture_output=True, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    print(f"{workers} workers, {found['subjects']} subjects: {found['seconds']:.1f} s, {found['peak_bytes'] / 1e6:.0f} MB", file=sys.stderr)
    return found


def compare(subjects: int, runs: int) -> dict:
    before = machine()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        slices = folder / "slices"
        slices.mkdir()
        only_slices(None, slices)
        many, few = folder / "many", folder / "few"
        for study in (many, few):
            study.mkdir()
        whole, part = make_study(many, subjects, slices), make_study(few, max(2, subjects // 8), slices)
        size = int16_bytes(slices)
        found: dict[str, list[dict]] = {"one": [], "two": []}
        for _ in range(runs):
            for name, workers in (("one", 1), ("two", 2)):
                found[name].append(child(whole, workers))
        small = child(part, 2)
    seconds = {name: median(run["seconds"] for run in each) for name, each in found.items()}
    peaks = {name: median(run["peak_bytes"] for run in each) for name, each in found.items()}
    return {
        "subjects": subjects,
        "runs": runs,
        "median_seconds": seconds,
        "two_over_one": seconds["one"] / seconds["two"],
        "int16_bytes": size,
        "peak_over_int16_volume": {name: peak / size for name, peak in peaks.items()},
        "peak_over_int16_volume_of_an_eighth_of_the_subjects": small["peak_bytes"] / size,
        "machine": before,
        "each": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "benchmarks" / "ingest_workers.json")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--manifest", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.manifest, options.child)))
        return
    result = compare(options.subjects, options.runs)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"two workers are {result['two_over_one']:.2f} times as fast as one; peak {result['peak_over_int16_volume']} int16 volumes")


if __name__ == "__main__":
    main()
