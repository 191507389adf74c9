"""Seconds and memory of whole commands, as a user starts them.

    python tests/benchmarks/command_speed.py demo [FOLDER]       writes docs/benchmarks/demo.json: the four-method demo, 720 subjects
    python tests/benchmarks/command_speed.py phantom [FOLDER]    writes docs/benchmarks/phantom.json: 300 subjects at 64^3 with DICOM

Give it the cores that it is to be measured on: `taskset -c 0,1 python ...`, with CUDA_VISIBLE_DEVICES="" for the CPU alone. Memory is
that of the command and all processes below it together, looked at twice a second: `pss` counts what they share once, `rss` once for each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from machine import machine

COMMANDS = {
    "demo": lambda folder: ["demo", folder],
    "phantom": lambda folder: ["phantom", folder, "--subjects", "300", "--size", "64", "--seed", "0", "--format", "dicom"],
}
PAUSE_S = 0.5


def memory(process: psutil.Process) -> tuple[int, int]:
    """Bytes of a process and all below it: shared pages counted once (pss), and once for each process (rss)."""
    pss = rss = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            found = one.memory_full_info()
        except psutil.Error:  # it has just ended
            continue
        pss, rss = pss + found.pss, rss + found.rss
    return pss, rss


def measure(arguments: list[str], log: Path) -> dict:
    """Run `copdvae ARGUMENTS`; seconds, peaks, its last words."""
    with log.open("w") as said:
        begun = time.perf_counter()
        process = psutil.Popen([sys.executable, "-m", "copdvae.cli", *arguments], stdout=subprocess.PIPE, stderr=said, text=True)
        pss = rss = 0
        while process.poll() is None:
            try:
                now = memory(process)
            except psutil.Error:
                break
            pss, rss = max(pss, now[0]), max(rss, now[1])
            time.sleep(PAUSE_S)
        printed = process.stdout.read()
        process.wait()
    return {
        "seconds": round(time.perf_counter() - begun, 1),
        "peak_pss_gib": round(pss / 2**30, 2),
        "peak_rss_gib": round(rss / 2**30, 2),
        "exit_code": process.returncode,
        "printed": printed.splitlines(),
    }


def stages(log: Path) -> list[str]:
    """The lines of a command's messages that say what a stage did."""
    return [line for line in log.read_text().splitlines() if line.startswith(("phantom: ", "ingest: "))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("folder", nargs="?", type=Path, help="where it writes; by default a temporary one")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or Path("docs/benchmarks") / f"{options.command}.json"
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / options.command
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = folder.parent / f"{folder.name}.log"
        arguments = [str(argument) for argument in COMMANDS[options.command](folder)]
        before = machine()
        result = measure(arguments, log)
        result["printed"] = [line.replace(str(folder), folder.name) for line in result["printed"]]
        result["stages"] = stages(log)
    command = " ".join(["copdvae", *arguments]).replace(str(folder), "FOLDER")
    result = {"command": command} | result | {"machine": before, "load_after": machine()["load"]}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
