"""What is wrong with an installation, and with what a study has on the disk. Reads everything, changes nothing.

A study's cache is compared with itself: each file with the digest that `ingest` put into it, and `index.csv` with the files.
"""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from copdvae import __version__
from copdvae.errors import CopdvaeError
from copdvae.files import HOST, leftovers, read_csv
from copdvae.prepare.cached import load_metadata
from copdvae.prepare.seal import broken
from copdvae.study import Study

PYTHON = (3, 11)
LEAST_FREE_GB = 2.0  # on the disk of a study: a cache of a thousand subjects at 64^3, and its runs
TABLES = {"index.csv": ("subject_id", "visit", "file"), "rejected.csv": ("subject_id", "reason")}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    found: str
    problem: str = ""  # what is wrong and what to do, "" where it is right


def doctor(study: Study | None = None) -> list[Check]:
    """All checks of the installation, and of `study` where one is given, in the order in which they matter."""
    return [*installation(), *([] if study is None else of_study(study))]


def installation() -> Iterator[Check]:
    found = platform.python_version()
    too_old = "" if sys.version_info >= PYTHON else f"needs {'.'.join(map(str, PYTHON))} or newer"
    yield Check("python", found, too_old)
    yield Check("copdvae", __version__)
    for requirement in requires("copdvae") or []:
        yield from packages(requirement)
    yield device()


def packages(requirement: str) -> Iterator[Check]:
    """A line such as `torch>=2.6`, or `h5py>=3.10; extra == "images"`: an extra may be missing, and is named."""
    matched = re.match(r"([A-Za-z0-9._-]+)(?:\[.*\])?>=([0-9.]+)(?:.*extra == ['\"](\w+)['\"])?", requirement)
    if matched is None or matched[3] == "dev":
        return
    name, least, extra = matched.groups()
    try:
        found = version(name)
    except PackageNotFoundError:
        extra_only = f"not installed: pip install 'copdvae[{extra}]' where it is wanted" if extra else "not installed"
        yield Check(name, extra_only, "" if extra else f"not installed; pip install '{name}>={least}'")
        return
    yield Check(name, found, "" if numbers(found) >= numbers(least) else f"needs {least} or newer; pip install --upgrade {name}")


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0])[:3])


def device() -> Check:
    if find_spec("torch") is None:
        return Check("device", "none", "PyTorch cannot be found")
    import torch  # only here: it takes seconds

    names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return Check("device", ", ".join(names) or f"CPU, {os.cpu_count()} cores")


def of_study(study: Study) -> Iterator[Check]:
    """The study's folders, tables and cached subjects."""
    for name, folder in (("root", study.root), ("cache", study.root / study.cache), ("out", study.root / study.out)):
        yield writable(name, folder)
    free = shutil.disk_usage(existing(study.root)).free / 1e9
    yield Check("disk", f"{free:.1f} GB free", "" if free >= LEAST_FREE_GB else f"less than {LEAST_FREE_GB:g} GB free; make room")
    for name, path in (("manifest", study.data.manifest), ("phenotypes", study.data.phenotypes)):
        there = (study.root / path).is_file()
        made = study.phantom is not None and not there
        yield Check(name, "there" if there else "made by `copdvae run`" if made else "missing", "" if there or made else f"no file {path}")
    out = study.root / study.out
    if found := [file for folder in (out, *out.glob("runs/*")) for file in leftovers(folder) if f".{HOST}." in file.name]:
        yield Check("unfinished results", f"{len(found)}", "of a run that was killed; `copdvae run` removes them")
    cache = study.root / study.cache
    if (cache / "index.csv").is_file() or any(cache.glob("*.safetensors")):
        yield from of_cache(cache)
    else:
        yield Check("cache", "empty: `copdvae ingest` fills it")


def of_cache(cache: Path) -> Iterator[Check]:
    """Everything in a cache: tables, subjects, and what does not belong there."""
    listed: dict[str, tuple[str, str]] = {}
    for name, columns in TABLES.items():
        try:
            table = read_csv(cache / name)
            lacking = [column for column in columns if column not in table]
        except (OSError, ValueError, CopdvaeError) as error:
            yield Check(name, "unreadable", f"{type(error).__name__}; run `copdvae ingest` again")
            continue
        yield Check(name, f"{len(table)} rows", f"no column {', '.join(lacking)}; run `copdvae ingest` again" if lacking else "")
        if name == "index.csv" and not lacking:
            listed = {row["file"]: (row["subject_id"], row["visit"]) for row in table.to_dict("records")}

    files = {path.name: path for path in sorted(cache.glob("*.safetensors"))}
    for name, owner in listed.items():
        if problem := "listed and not there" if name not in files else of_subject(files[name], owner):
            yield Check(f"subject {owner[0]}{f', visit {owner[1]}' * bool(owner[1])}", name, f"{problem}; run `copdvae ingest` again")
    yield Check("subjects", f"{len(listed)} listed, {len(files)} cached")
    if strangers := sorted(set(files) - set(listed)):
        yield Check("cached and not listed", f"{len(strangers)} files", f"{', '.join(strangers[:3])}: of an earlier manifest; delete them")
    if found := leftovers(cache):
        yield Check("unfinished files", f"{len(found)}", "of a run that was killed; `copdvae ingest` removes them")


def of_subject(file: Path, owner: tuple[str, str]) -> str:
    """What is wrong with one cached file, "" for nothing."""
    try:
        if problem := broken(file):
            return problem
        metadata = load_metadata(file)
    except (OSError, CopdvaeError):
        return "it cannot be read"
    return "" if (metadata.get("subject_id"), metadata.get("visit")) == owner else "it is another subject's"


def writable(name: str, folder: Path) -> Check:
    place = existing(folder)
    right = os.access(place, os.W_OK | os.X_OK) and not os.statvfs(place).f_flag & os.ST_RDONLY
    return Check(name, "can be written" if right else "read-only", "" if right else f"{folder} cannot be written to")


def existing(folder: Path) -> Path:
    """`folder`, or the nearest one above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def as_text(checks: list[Check]) -> str:
    """A line a check; what is wrong is marked."""
    width = max(len(check.name) for check in checks)
    return "\n".join(
        f"{'WRONG' if check.problem else 'ok':<6} {check.name:<{width}}  {check.found}{f': {check.problem}' * bool(check.problem)}"
        for check in checks
    )
