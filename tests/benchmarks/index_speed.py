"""How many files a second `copdvae index` goes through: walk, headers, grouping and the manifest's writing, in one process.

    python tests/benchmarks/index_speed.py [--patients 60] [--runs 7] [--out docs/benchmarks/index.json]

The tree holds an inspiratory and an expiratory series of 100 slices a patient, made from the header of pydicom's CT_small (a GE scanner's,
private groups and all), in folders three deep, and a scout and a text beside each. Once, the headers are read by pydicom alone, to compare.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import pydicom
from machine import machine
from pydicom.data import get_testdata_file

from copdvae.prepare.index import index
from copdvae.read import dicom_index

SLICES = 100


def write_tree(folder: Path, patients: int) -> int:
    """Returns the number of files. A series' slices differ in a few fields of constant length, put in place in the bytes of the first."""
    files = 0
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    for patient in range(patients):
        for number, words in enumerate(("INSP", "EXP")):
            place = folder / f"patient{patient:04d}" / "study" / f"series{number}"
            place.mkdir(parents=True)
            dataset.PatientID, dataset.StudyInstanceUID = f"P{patient}", f"1.2.826.0.1.{patient}"
            dataset.SeriesInstanceUID, dataset.SeriesDescription = f"1.2.826.0.1.{patient}.{number}", f"CHEST {words}"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{patient}.{number}.90001"
            dataset.ImagePositionPatient = ["-158.13580", "-179.03579", "7777.7770"]
            dataset.save_as(place / "0.dcm", enforce_file_format=True)
            first = (place / "0.dcm").read_bytes()
            for n in range(1, SLICES + 1):
                slice_ = first.replace(b"7777.7770", f"{1000 + 3 * n}.0000".encode()).replace(b".90001", f".{90001 + n}".encode())
                (place / f"{n}.dcm").write_bytes(slice_)
            (place / "0.dcm").unlink()
            files += SLICES
        scout = pydicom.dcmread(place / "1.dcm")
        scout.ImageType, scout.SeriesInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], f"1.2.826.0.1.{patient}.9"
        scout.save_as(place / "scout.dcm", enforce_file_format=True)
        (place / "README").write_text("nothing")
        files += 2
    return files


def timed(folder: Path, out: Path) -> float:
    out.unlink(missing_ok=True)
    start = time.perf_counter()
    index(folder, out)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "benchmarks" / "index.json")
    options = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "tree"
        files = write_tree(folder, options.patients)
        out = Path(temporary) / "manifest.csv"
        runs = [timed(folder, out) for _ in range(options.runs)]
        rows = len(out.read_text().splitlines()) - 1
        quick = dicom_index.plain_header
        dicom_index.plain_header = lambda *_: None
        by_pydicom = timed(folder, out)
        dicom_index.plain_header = quick
    median = statistics.median(runs)
    result = {
        "files": files, "rows": rows, "runs": options.runs, "seconds": runs, "files_per_second": files / median,
        "files_per_second_worst": files / max(runs), "files_per_second_by_pydicom": files / by_pydicom, "machine": before,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    speed, pydicoms = result["files_per_second"], result["files_per_second_by_pydicom"]
    print(f"{files} files, {rows} rows: {speed:.0f} a second, {pydicoms:.0f} by pydicom alone")


if __name__ == "__main__":
    main()
