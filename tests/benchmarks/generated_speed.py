"""How long 10,000 images 64 x 64 of each generated set take, drawn at random rows of its grid.

    python tests/benchmarks/generated_speed.py [--runs 3] [--out docs/benchmarks/generated.json]

Each run is a process of its own, so that nothing drawn before is kept; the clock starts after the imports. One thread does the work.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

SETS = {"blobs": 102_400, "sprites": 737_280, "scenes": 480_000}
IMAGES = 10_000


def measure(name: str) -> dict:
    """One run in this process."""
    import importlib

    import numpy as np

    draw = getattr(importlib.import_module(f"copdvae.generated.{name}"), name)
    rows = np.random.default_rng(0).integers(0, SETS[name], IMAGES)
    wall, cpu = time.perf_counter(), time.process_time()
    shape = draw(rows).image.shape
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert shape[0] == IMAGES
    assert shape[2:] == (64, 64)
    return {"seconds": wall, "cpu_seconds": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "benchmarks" / "generated.json")
    parser.add_argument("--child", choices=SETS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child)))
        return
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found: dict[str, list[dict]] = {name: [] for name in SETS}
    for _ in range(options.runs):
        for name, each in found.items():
            output = subprocess.run([sys.executable, __file__, "--child", name], env=one_thread, check=True, capture_output=True, text=True)
            each.append(json.loads(output.stdout))
            print(f"{name:<8} {each[-1]['seconds']:6.2f} s, {each[-1]['cpu_seconds']:6.2f} s of the processor", flush=True)
    import numpy

    result = {
        "images": IMAGES,
        "size": [64, 64],
        "seed": 0,
        "median": {name: {key: statistics.median(run[key] for run in each) for key in each[0]} for name, each in found.items()},
        "each": found,
        "load_of_the_machine": os.getloadavg(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads_used": 1},
        "versions": {"python": platform.python_version(), "numpy": numpy.__version__},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
