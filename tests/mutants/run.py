"""Break each objective on purpose and see that a test fails.

    python tests/mutants/run.py [NAME ...] [--out docs/benchmarks/mutants.csv]

A break is an entry of tests/mutants/NAME.yaml: what it is, the file, the text that is there once, the text that takes its place, and the
tests that should notice. Each is tried in a copy of the package; an entry whose text is not found, or whose tests pass, is a failure.
Where NAMEs are given, only their rows of an existing table are made anew.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).parents[2]
COLUMNS = ["name", "break", "outcome", "copdvae", "torch"]


def outcome(mutant: dict) -> str:
    """`caught by ...`, or what is wrong, of one break."""
    text = (ROOT / mutant["file"]).read_text()
    if text.count(mutant["find"]) != 1:
        return f"NOT TRIED: its text is there {text.count(mutant['find'])} times, expected once"
    done = tested(mutant, text.replace(mutant["find"], mutant["replace"]))
    failed = [line.split(" - ")[0].removeprefix("FAILED ") for line in done.stdout.splitlines() if line.startswith("FAILED")]
    if done.returncode == 0:
        return "SURVIVED"
    if done.returncode != 1 or not failed:
        return f"NOT TRIED: pytest ended with {done.returncode}: {done.stdout[-300:]}"
    if not passes_whole(failed[0]):
        return f"NOT TRIED: {failed[0]} fails without the break too"
    return f"caught by {failed[0]}"


@cache
def passes_whole(test: str) -> bool:
    """Whether a test passes on a copy in which nothing is broken; asked once a test."""
    whole = "pyproject.toml"
    return tested({"file": whole, "tests": [test]}, (ROOT / whole).read_text()).returncode == 0


def tested(mutant: dict, text: str) -> subprocess.CompletedProcess:
    """The entry's tests on a copy of the package in which its file reads `text`."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("copdvae", "tests", "configs", "pyproject.toml"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        (copy / mutant["file"]).write_text(text)
        environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant["tests"]]
        return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    files = sorted(path for path in Path(__file__).parent.glob("*.yaml") if not options.names or path.stem in options.names)
    mutants = [{"name": path.stem} | entry for path in files for entry in yaml.safe_load(path.read_text())]
    kept = pd.read_csv(options.out) if options.names and options.out and options.out.is_file() else pd.DataFrame(columns=COLUMNS)
    kept = kept[~kept["name"].isin([path.stem for path in files])]
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = []
        for mutant, found in zip(mutants, pool.map(outcome, mutants), strict=True):
            rows.append((mutant["name"], mutant["break"], found, version("copdvae"), version("torch")))
            print(f"{mutant['name']:<16} {mutant['break']:<60} {found}", flush=True)
            if options.out:  # as they come: all of them take half an hour
                table = pd.concat([kept, pd.DataFrame(rows, columns=COLUMNS)])
                table.sort_values("name", kind="stable").to_csv(options.out, index=False)
    raise SystemExit(any(not row[2].startswith("caught") for row in rows))


if __name__ == "__main__":
    main()
