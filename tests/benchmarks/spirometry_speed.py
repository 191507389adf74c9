"""How long `copdvae spirometry` takes on every row of NHANES 2007-2012, from the start of the command to its end, for each reference.

    python tests/benchmarks/spirometry_speed.py [--table FILE] [--runs 7]      writes docs/benchmarks/spirometry.json

Runs of the references alternate, each a process of its own; `grading` is the part of it that is neither Python's start nor imports.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

DATA = Path(os.environ.get("COPDVAE_DATA", Path(__file__).parents[3] / "shared" / "data"))
TABLE = "spirometry/nhanes_2007_2012_spirometry.csv.gz"
REFERENCES = ("gli-global", "gli2012", "nhanes3")
GRADE = """
import sys, time
from pathlib import Path
from copdvae.read.tables import read_table
from copdvae.spirometry.columns import config_from_options
from copdvae.spirometry.table import grade_table, write_table
begun = time.perf_counter()
people = read_table(Path(sys.argv[1]), None)
write_table(grade_table(people, config_from_options(people, sys.argv[2], None, None, None, ""), False).table, Path(sys.argv[3]))
print(len(people), time.perf_counter() - begun)
"""


def seconds_of(command: list[str]) -> tuple[float, str]:
    begun = time.perf_counter()
    output = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - begun, output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=DATA / TABLE)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/spirometry.json"))
    options = parser.parse_args()
    before = machine()
    command: dict[str, list[float]] = {name: [] for name in REFERENCES}
    grading: dict[str, list[float]] = {name: [] for name in REFERENCES}
    rows = 0
    with tempfile.TemporaryDirectory() as temporary:
        out = str(Path(temporary) / "graded.csv")
        for _ in range(options.runs):
            for name in REFERENCES:
                asked = ["spirometry", str(options.table), "--reference", name, "--out", out]
                command[name].append(seconds_of(["-m", "copdvae.cli", *asked])[0])
                count, inside = seconds_of(["-c", GRADE, str(options.table), name, out])[1].split()
                rows, grading[name] = int(count), [*grading[name], float(inside)]
    result = {
        "what": "seconds of `copdvae spirometry`, medians",
        "table": options.table.name, "rows": rows, "runs": options.runs,
        "command_s": {name: round(statistics.median(each), 3) for name, each in command.items()},
        "grading_s": {name: round(statistics.median(each), 3) for name, each in grading.items()},
        "each_command_s": {name: [round(value, 3) for value in each] for name, each in command.items()},
        "machine": before,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
