"""Whether the page of a thousand subjects scrolls smoothly in Chromium.

    python tests/benchmarks/qc_scroll.py [--subjects 1000] [--runs 3] [--out docs/benchmarks/qc.json] [--pictures FOLDER]

The subjects are a few phantom ones at the default grid, each moved and made noisy anew, one in ten with a warning, and some that were
rejected. The page is written, opened in headless Chromium (1400 x 1000, no GPU) and scrolled from top to bottom `PIXELS` a frame; the time
between animation frames is kept, and the time that the page's own thread is held up (long tasks, over 50 ms). To tell the page's share from
the machine's, an empty page of the same length is scrolled the same way, in the same session.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from machine import machine
from made_study import cached_many, few_subjects, linked_manifest

from copdvae.prepare.ingest import ingest
from copdvae.prepare.settings import IngestConfig
from copdvae.read.manifest import read_manifest
from copdvae.report import qc

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import browser

GRID, BASE, SEED = 64, 6, 0
PIXELS = 120  # a frame: 7200 a second, a fast wheel; a subject is some 150 high
SMOOTH_MS = 34  # two frames at 60 Hz
SCROLL = """
const [pixels, done] = arguments, times = [], tasks = [];
new PerformanceObserver(list => tasks.push(...list.getEntries().map(entry => entry.duration))).observe({type: "longtask", buffered: false});
let last = null;
const step = now => {
  if (last !== null) times.push(now - last);
  last = now;
  const end = document.documentElement.scrollHeight - innerHeight;
  if (scrollY >= end - 1) return setTimeout(() => done({times: times, tasks: tasks, height: end + innerHeight}), 200);
  scrollTo({top: scrollY + pixels, behavior: "instant"});
  requestAnimationFrame(step);
};
scrollTo(0, 0);
requestAnimationFrame(step);
"""
LOADED = """
const done = arguments[0], look = () => {
  const entry = performance.getEntriesByType("navigation")[0];  // its end is known only after the event
  if (entry.loadEventEnd) done([entry.domContentLoadedEventEnd, entry.loadEventEnd]); else setTimeout(look, 20);
};
look();
"""
REJECTED = [("missing_slice", "no"), ("no_lungs", "no"), ("truncated", "yes")]


def make_page(folder: Path, subjects: int) -> tuple[Path, float]:
    """The page of `subjects` cached ones and a fiftieth of that rejected, and the seconds that writing it took."""
    base = few_subjects(folder / "phantom", BASE, GRID, SEED)
    linked_manifest(folder, folder / "phantom" / "ct" / "S0001", subjects)
    config = IngestConfig(grid=GRID)
    rows = read_manifest(folder / "manifest.csv").scans.to_dict("records")
    cached_many(base, folder, rows, config, SEED)
    ingest(folder / "manifest.csv", folder / "cache", config)
    lost = [(f"R{k:03d}", "1", "ingest", *REJECTED[k % 3]) for k in range(subjects // 50)]
    left_out = pd.DataFrame(lost, columns=["subject_id", "visit", "stage", "reason", "expected"]).assign(
        detail="what was found and expected"
    )
    begun = time.perf_counter()
    page = qc("a thousand", folder / "cache", folder, left_out)
    return page, time.perf_counter() - begun


def summary(found: dict) -> dict:
    times = np.array(found["times"])
    return {
        "frames": len(times),
        "median_ms": round(float(np.median(times)), 1),
        "p95_ms": round(float(np.percentile(times, 95)), 1),
        "longest_ms": round(float(times.max()), 1),
        f"over_{SMOOTH_MS}_ms": int((times > SMOOTH_MS).sum()),
        "long_tasks": len(found["tasks"]),
        "long_tasks_ms": round(float(sum(found["tasks"])), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "benchmarks" / "qc.json")
    parser.add_argument("--pictures", type=Path, help="folder for screenshots")
    parser.add_argument("--folder", type=Path, help="where the study is made, and found again; by default a temporary one")
    options = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        page, seconds = (folder / "qc.html", None) if (folder / "qc.html").exists() else make_page(folder, options.subjects)
        empty, loads, runs, empties, sorts = folder / "empty.html", [], [], [], []
        with browser(timeout_s=500) as chromium:
            chromium.size(1400, 1000)
            for _ in range(options.runs):
                chromium.open(page)
                loads.append([round(value) for value in chromium.wait_for(LOADED)])
                found = chromium.wait_for(SCROLL, PIXELS)
                runs.append(summary(found))
                sorts.append(round(chromium.run(SORT)))
                empty.write_text(f"<!doctype html><body style='height:{found['height']}px'>", encoding="utf-8")
                chromium.open(empty)
                empties.append(summary(chromium.wait_for(SCROLL, PIXELS)))
            if options.pictures:
                look(chromium, page, options.pictures)
            version = chromium.version
        size = page.stat().st_size
    result = {
        "subjects": options.subjects, "rejected": options.subjects // 50, "grid": GRID, "seed": SEED, "page_mb": round(size / 1e6, 2),
        "seconds_to_write": seconds and round(seconds, 1), "height_px": found["height"], "chromium": version, "pixels_a_frame": PIXELS,
        "content_loaded_and_load_ms": loads, "scrolled": runs, "an_empty_page_scrolled": empties, "sort_ms": sorts,
        "machine": before, "load_after": machine()["load"],
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


SORT = """
const sort = document.getElementById("sort"), begun = performance.now();
sort.value = "f2";
sort.dispatchEvent(new Event("change"));
document.body.offsetHeight;
return performance.now() - begun;
"""


def look(chromium, page: Path, folder: Path) -> None:
    """Screenshots at two widths, at the top and further down."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, width, height in (("desktop", 1400, 1000), ("narrow", 420, 900)):
        chromium.size(width, height)
        chromium.open(page)
        chromium.picture(folder / f"{name}.png")
        chromium.run("scrollTo(0, 30000)")
        time.sleep(2)
        chromium.picture(folder / f"{name}_below.png")


if __name__ == "__main__":
    main()
