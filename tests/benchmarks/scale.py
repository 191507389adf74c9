"""Ten thousand subjects: seconds and memory of `validate`, of `ingest` where all is cached, of the report and of the subjects' page.

    python tests/benchmarks/scale.py [--subjects 10000] [--fewer 1000] [--out docs/benchmarks/scale.json] [--folder FOLDER]

Each subject has two DICOM folders of three slices of its own, hard links of one phantom subject's (the manifest refuses one path twice),
and a row drawn from a phantom's phenotypes; files were just written, so that their headers are in the system's memory. Cached subjects are
phantom ones at 32^3, moved and made noisy anew. The report's study is made up (tests/report/fake_study.py): five methods, three seeds. All
is done twice, for `--fewer` and for `--subjects`, to see what memory grows with. Seconds are those on the clock and, as other work may run
beside, those of the processors.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from machine import machine
from made_study import SLICES, cached_many, few_subjects, linked_manifest, many_phenotypes

from copdvae.prepare.settings import IngestConfig
from copdvae.read.manifest import read_manifest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from browser import browser, missing
from fake_study import fake_study

GRID, BASE, SEED = 32, 6, 0
STUDY = {"name": "scale", "ingest": {"grid": GRID}, "methods": [{"method": {"method": "vae"}}]}
LOADED = """
const done = arguments[0], look = () => {
  const entry = performance.getEntriesByType("navigation")[0];  // its end is known only after the event
  if (entry.loadEventEnd) done([entry.domContentLoadedEventEnd, entry.loadEventEnd]); else setTimeout(look, 20);
};
look();
"""
INDEX = """if 1:
    import sys
    from pathlib import Path
    from copdvae.prepare.ingest import make_index, write_changed
    from copdvae.prepare.settings import IngestConfig
    from copdvae.prepare.task import Outcome, Task
    from copdvae.read.manifest import read_manifest
    root = Path(sys.argv[1])
    rows = read_manifest(root / "manifest.csv").scans.to_dict("records")
    tasks = [Task(row, root, root / "cache", IngestConfig(grid=int(sys.argv[2]))) for row in rows]
    write_changed(root / "index_again.csv", make_index(tasks, [Outcome(task.key, "kept") for task in tasks]))
    assert (root / "index_again.csv").read_bytes() == (root / "cache" / "index.csv").read_bytes()
"""
REPORT = "import sys; from pathlib import Path; from copdvae.report import report; report(Path(sys.argv[1]))"


def measure(arguments: list, log: Path) -> dict:
    """Run a command of Python's; its seconds, and the largest process's memory at its highest."""
    code = f"""if 1:
        import json, os, resource, subprocess, sys, time
        begun = time.perf_counter()
        code = subprocess.run([sys.executable, *{list(map(str, arguments))!r}]).returncode
        times = os.times()
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(json.dumps([code, time.perf_counter() - begun, times.children_user + times.children_system, peak / 2**20]))
    """
    with log.open("w") as said:
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=said, text=True, check=True)
    exit_code, seconds, processor, peak = json.loads(done.stdout.splitlines()[-1])
    if exit_code not in (0, 3):
        raise SystemExit(f"{arguments} ended with {exit_code}:\n{log.read_text()[-3000:]}")
    return {"seconds": round(seconds, 1), "processor_seconds": round(processor, 1), "peak_rss_gib": round(peak, 2)}


def make_study(root: Path, phantom: Path, base: list, subjects: int) -> None:
    """Manifest, phenotypes, cache and study file."""
    root.mkdir(parents=True)
    linked_manifest(root, phantom / "ct" / "S0001", subjects)
    people = pd.read_csv(phantom / "phenotypes.csv", dtype=str).fillna("")
    sound = people[~people["sid"].isin(pd.read_csv(phantom / "planted.csv")["subject_id"])]
    many_phenotypes(sound, subjects, np.random.default_rng(SEED)).to_csv(root / "phenotypes.csv", index=False)
    cached_many(base, root, read_manifest(root / "manifest.csv").scans.to_dict("records"), IngestConfig(grid=GRID), SEED)
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY))


def commands(root: Path, fake: Path, log: Path) -> dict:
    """Each command's seconds and memory, in the order in which a study needs them."""
    copdvae = ["-m", "copdvae.cli"]
    found = {"validate": measure([*copdvae, "validate", root], log)}
    found["ingest, all cached"] = measure([*copdvae, "ingest", root], log)
    found["ingest, all cached"]["index_mb"] = size(root / "cache" / "index.csv")
    found["index.csv alone"] = measure(["-c", INDEX, root, GRID], log)  # imports and reading the manifest included, as in all of these
    found["qc"] = measure([*copdvae, "qc", root], log) | {"page_mb": size(root / "qc.html")}
    found["report"] = measure(["-c", REPORT, fake], log) | {"page_mb": size(fake / "report.html")}
    found["imports alone"] = measure(["-c", "import copdvae.run"], log)
    return found


def size(file: Path) -> float:
    return round(file.stat().st_size / 1e6, 2)


def open_pages(pages: dict[str, Path]) -> dict:
    """Milliseconds until each page's content and all of it is loaded, and until a frame is drawn after its end was scrolled to."""
    if missing():
        return {"skipped": missing()}
    found = {}
    with browser(timeout_s=500) as chromium:
        chromium.size(1400, 1000)
        for name, page in pages.items():
            chromium.open(page)
            loaded = [round(value) for value in chromium.wait_for(LOADED)]
            end = chromium.wait_for(
                "const done = arguments[0], begun = performance.now(); scrollTo(0, document.documentElement.scrollHeight);"
                "requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begun)))"
            )
            found[name] = {
                "content_loaded_and_load_ms": loaded,
                "drawn_after_a_jump_to_its_end_ms": round(end),
                "errors": chromium.messages(),
            }
        found["chromium"] = chromium.version
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--fewer", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "benchmarks" / "scale.json")
    parser.add_argument("--folder", type=Path, help="where the studies are made, and found again; by default a temporary one")
    options = parser.parse_args()
    before, sizes = machine(), {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        base = few_subjects(folder / "phantom", BASE, GRID, SEED)
        pages = {}
        for subjects in (options.fewer, options.subjects):
            root, fake = folder / f"study{subjects}", folder / f"fake{subjects}"
            if not (root / "study.yaml").exists():
                make_study(root, folder / "phantom", base, subjects)
            if not fake.exists():
                fake_study(fake, subjects, seeds=3, size=24, bootstrap=10)
            sizes[subjects] = commands(root, fake, folder / "log")
            pages = {"report": fake / "report.html", "qc": root / "qc.html"}
            print(json.dumps(sizes[subjects], indent=1), flush=True)
        opened = open_pages(pages)
    result = {
        "grid": GRID, "slices_a_scan": SLICES, "scans_a_subject": 2, "seed": SEED, "phantom_subjects": BASE, "subjects": sizes,
        "opened": opened, "niceness": os.nice(0), "machine": before, "load_after": machine()["load"],
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(opened, indent=1))


if __name__ == "__main__":
    main()
