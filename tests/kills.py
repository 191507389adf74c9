"""`copdvae ingest` and `copdvae train` killed at many moments, and started again: nothing is lost, nothing half-written is read.

    python tests/kills.py --kills 25 --aimed 5 --out docs/benchmarks/kills.json

A kill is SIGKILL to the command and all its processes. Its moment is a share of the processor time that the command takes undisturbed: the
k-th of n kills falls at random into the k-th n-th of it, however busy the machine is. Aimed kills come as soon as some temporary file is
there, the first, second ... one by chance. After each, every file that has its final name is whole; then the same command is run to its
end, keeps what there was, and leaves the same bytes as without a kill and no temporary file.

Commands are forked from this process, which has imported all of copdvae: else every other kill would come while Python starts, when there
is nothing to lose. What they run is the command line's own `main`.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import yaml
from safetensors import SafetensorError, safe_open

STUDY = {
    "name": "kills",
    "data": {"manifest": "manifest.csv", "phenotypes": "phenotypes.csv", "truth": "truth.csv", "planted": "planted.csv"},
    "ingest": {"grid": 32},
    "split": {"train": 4, "validation": 2, "test": "rest"},
    "network": {"widths": [4, 8, 8], "hidden": 16, "u": 1, "v": 9},
    "train": {"steps": 60, "batch": 4, "save_every": 3, "log_every": 1, "threads": 1, "device": "cpu"},
    "methods": [{"method": {"method": "vae"}}],
}
TIMED = ("seconds", "seconds_a_step", "data_share")  # of run.json: how long it took is no result
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Kill:
    stage: str  # "ingest, 1 worker" ...
    aimed: bool
    moment: float  # share of the whole; of an aimed one, the temporary file's number
    killed: bool  # False: the command ended before
    writing: int  # temporary files that it left
    there: int  # files with their final names after it
    wrong: str  # "" or what is wrong


@dataclass(frozen=True)
class Stage:
    """A command, with the study file that gives it an output folder of its own."""

    name: str
    root: Path
    command: tuple[str, ...]
    cache: str = ""  # of another output folder, where this command only reads it

    def prepare(self, out: str) -> list[str]:
        """The command's words, once its study file is there."""
        study = STUDY | {"out": out, "cache": f"{self.cache or out}/cache"}
        file = self.root / f"{out}.yaml"
        file.write_text(yaml.safe_dump(study))
        if self.cache:
            (self.root / out).mkdir()
            (self.root / out / "split.csv").write_bytes((self.root / self.cache / "split.csv").read_bytes())
        return [self.command[0], str(file), *self.command[1:]]


def digest(path: Path) -> str:
    if path.name == "run.json":
        facts = json.loads(path.read_text())
        return json.dumps({key: value for key, value in facts.items() if key not in TIMED}, sort_keys=True)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    """Every file under a folder, temporary ones and locks apart: its digest."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".tmp") and path.name != ".lock"]
    return {str(path.relative_to(folder)): digest(path) for path in files}


def temporary(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.tmp"))


def processor_seconds(group: int) -> float:
    """Of all processes of a group that are running."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += (int(words[11]) + int(words[12])) if int(words[2]) == group else 0
    return total / TICK


def start(words: list[str], said: Path) -> int:
    """Run `copdvae WORDS` in a process and a group of its own, its stderr in a file; its number, which is the group's, too."""
    process = os.fork()
    if process:
        return process
    code: object = 1
    try:
        from copdvae import cli

        os.setsid()
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv = ["copdvae", *words]
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001  a child must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(bool(code)))


def kill(words: list[str], said: Path, due: Callable[[int], bool], pause: float) -> bool:
    """Start the command and kill it with all its processes when it is due; False where it ended before."""
    process = start(words, said)
    ended = 0
    while not (ended := os.waitpid(process, os.WNOHANG)[0]) and not due(process):
        time.sleep(pause)
    if not ended:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
    until = time.monotonic() + 30
    while group_is_alive(process) and time.monotonic() < until:  # its workers end a moment later on a busy machine
        time.sleep(0.02)
    return not ended


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def finish(words: list[str], said: Path) -> tuple[int, str, float]:
    """Exit code, stderr and processor seconds of the command, undisturbed."""
    _, status, used = os.wait4(start(words, said), 0)
    return os.waitstatus_to_exitcode(status), said.read_text(), used.ru_utime + used.ru_stime


def half_written(out: Path, whole: dict[str, str]) -> str:
    """What is wrong with a file that has its final name, though the command was killed; "" for nothing.

    A run's checkpoint, weights and log are written again and again: each is whole, and no other than what its own reader takes.
    """
    for name, found in contents(out).items():
        path = out / name
        if name not in whole:
            return f"{name} is no file of an undisturbed run"
        if path.suffix == ".safetensors" and "runs" in path.parts:
            try:
                with safe_open(path, "numpy") as stored:
                    for key in stored.keys():  # noqa: SIM118  not a dict
                        stored.get_tensor(key)
            except SafetensorError as error:
                return f"{name}: {error}"
        elif path.name == "log.csv":
            if not path.read_text().endswith("\n"):
                return f"{name} is cut short"
        elif found != whole[name]:
            return f"{name} is not what an undisturbed run writes"
    return ""


def lost(stage: Stage, out: Path, before: dict[str, str], step: int, said: str) -> str:
    """What the next run made again although it was there; "" for nothing."""
    if stage.command[0] == "ingest":
        subjects = sum(name.endswith(".safetensors") for name in before)
        kept = re.search(r"(\d+) kept from before", said)
        return "" if kept and int(kept[1]) == subjects else f"{subjects} subjects were there, {kept and kept[1]} were kept"
    first = re.search(r"step (\d+)/", said)
    finished = any(name.endswith("run.json") for name in before)
    if finished:
        return f"trained again from step {first[1]} after it was finished" if first else ""
    return "" if not first or int(first[1]) >= step else f"a checkpoint of step {step} was there, training went on from {first[1]}"


def step_of(out: Path) -> int:
    """The step of the checkpoint that is there; 0 for none."""
    for path in out.glob("runs/*/checkpoint.safetensors"):
        with safe_open(path, "numpy") as stored:
            return json.loads((stored.metadata() or {})["facts"])["step"]
    return 0


def try_one(stage: Stage, out: str, due: Callable[[int], bool], pause: float, whole: dict[str, str]) -> tuple[bool, int, int, str]:
    """Kill, look, start again, look again: whether it was killed, temporary files, whole files, what is wrong."""
    words, folder, heard = stage.prepare(out), stage.root / out, stage.root / f"{out}.txt"
    killed = kill(words, heard, due, pause)
    before, writing, step = contents(folder), len(temporary(folder)), 0
    wrong = half_written(folder, whole)
    if not wrong:
        step = step_of(folder)
        code, said, _ = finish(words, heard)
        if code:
            wrong = f"the next run ended with {code}: {said[-300:]}"
        elif contents(folder) != whole:
            names = [name for name in {**whole, **contents(folder)} if whole.get(name) != contents(folder).get(name)]
            wrong = f"other bytes than an undisturbed run's: {names}"
        elif temporary(folder):
            wrong = f"temporary files are left: {[path.name for path in temporary(folder)]}"
        else:
            wrong = lost(stage, folder, before, step, said)
    return killed, writing, len(before), wrong


def kills_of(stage: Stage, count: int, aimed: int, seed: int, say: Callable[[Kill], None]) -> tuple[list[Kill], float]:
    """Kill a stage `count` times at random moments and `aimed` times while it writes; and its processor seconds undisturbed."""
    rng, label = random.Random(f"{seed} {stage.name}"), stage.name.replace(",", "").replace(" ", "_")
    code, said, seconds = finish(stage.prepare(f"{label}_whole"), stage.root / f"{label}.txt")
    if code:
        raise SystemExit(f"{stage.name} undisturbed ended with {code}: {said[-1000:]}")
    whole, found = contents(stage.root / f"{label}_whole"), []
    while (k := sum(one.killed for one in found)) < count + aimed and len(found) < 2 * (count + aimed):
        out = f"{label}_{len(found)}"
        folder = stage.root / out
        if k < count:
            again = bool(found) and not found[-1].killed  # it ended before: another moment, anywhere
            moment = round(rng.random() if again else (k + rng.random()) / count, 3)
            outcome = try_one(stage, out, lambda group, at=moment * seconds: processor_seconds(group) >= at, 0.02, whole)
        else:
            moment, seen = rng.randrange(1, len(whole) + 1), set()

            def writing(_: int, folder: Path = folder, nth: int = int(moment), seen: set[tuple[str, int]] = seen) -> bool:
                for path in temporary(folder):
                    with suppress(FileNotFoundError):  # written meanwhile
                        seen.add((path.name, path.stat().st_ino))
                return len(seen) >= nth

            outcome = try_one(stage, out, writing, 0.0, whole)
        found.append(Kill(stage.name, k >= count, moment, *outcome))
        say(found[-1])
    return found, seconds


def stages(root: Path) -> list[Stage]:
    """Ingest with one worker and with two, and train, on one synthetic study of eight subjects."""
    make = ["phantom", str(root), "--subjects", "8", "--size", "64", "--format", "nifti", "--workers", "1"]
    one, two = (Stage(f"ingest, {n}", root, ("ingest", "--workers", n[0])) for n in ("1 worker", "2 workers"))
    for words in (lambda: make, lambda: one.prepare("prepared")):
        code, said, _ = finish(words(), root.with_suffix(".txt"))
        if code:
            raise SystemExit(f"the study could not be made: {code}: {said[-1000:]}")
    return [one, two, Stage("train", root, ("train",), cache="prepared")]


def record(found: list[Kill], seconds: dict[str, float], seed: int) -> dict:
    names = ("copdvae", "torch", "numpy", "safetensors", "pyarrow", "nibabel")
    return {
        "seed": seed, "kills": sum(one.killed for one in found), "ended_before": sum(not one.killed for one in found),
        "during_a_write": sum(one.killed and one.writing > 0 for one in found), "wrong": sum(bool(one.wrong) for one in found),
        "processor_s": {name: round(value, 2) for name, value in seconds.items()}, "each": [asdict(one) for one in found],
        "versions": {"python": platform.python_version()} | {name: version(name) for name in names},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=25, help="Of ingest, half of them with two workers; and as many of train.")
    parser.add_argument("--aimed", type=int, default=5, help="More of each, that come while a file is being written.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before torch is imported: no threads where a fork is to come
    import copdvae.cli
    import copdvae.run  # noqa: F401  all that a command imports; here, so that workers of ingest need not

    found: list[Kill] = []
    seconds: dict[str, float] = {}

    def say(one: Kill) -> None:
        found.append(one)
        print(one, flush=True)
        if options.out:
            options.out.write_text(json.dumps(record(found, seconds, options.seed), indent=1, sort_keys=True) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        for stage, share in zip(stages(Path(folder) / "study"), ((1, 2), (1, 2), (1, 1)), strict=True):
            count = [-(-number * share[0] // share[1]) for number in (options.kills, options.aimed)]
            if stage.name == "ingest, 2 workers":
                count = [options.kills - count[0], options.aimed - count[1]]
            _, seconds[stage.name] = kills_of(stage, *count, options.seed, say)
    if options.out:
        options.out.write_text(json.dumps(record(found, seconds, options.seed), indent=1, sort_keys=True) + "\n")
    raise SystemExit(any(one.wrong for one in found))


if __name__ == "__main__":
    main()
