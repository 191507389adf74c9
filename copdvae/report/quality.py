"""The page to check a study's subjects by: everyone that was ingested with slices and mask, and everyone that was refused with the reason.

One HTML page, whole in itself like the report, made from what `ingest` left: `index.csv`, the cached subjects, who was left out. Beside it
`qc.csv` has a line a subject, which the report counts. Neither holds a path or anything from a header. The page is written subject by
subject: what it needs of memory is one of them and the tables.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from copdvae import __version__
from copdvae.errors import CopdvaeError, coded, reason_of
from copdvae.files import as_csv, digest_of, read_csv, replacing, write_csv
from copdvae.prepare.cached import load_subject
from copdvae.prepare.describe import OUTLINES
from copdvae.prepare.seal import broken
from copdvae.report.page import environment
from copdvae.report.shown import number
from copdvae.report.thumbnails import thumbnails
from copdvae.report.words import SPLITS

PER_GROUP = 10  # subjects that the browser draws or leaves out together; it looks at every group in every frame
MOST_DRAWN = 2000  # subjects with pictures: some 30 MB of page
INDEX_TEXT = ("subject_id", "visit", "file", "channels", "site", "scanner", "kernel", "warnings", "insp_mask", "exp_mask")
FIGURES = {  # column of index.csv: what it is called, decimals
    "insp_lung_volume_l": ("Volume in, l", 2),
    "exp_over_insp_volume": ("Volume out / in", 2),
    "emphysema_pct": ("LAA-950, %", 1),
    "insp_perc15_hu": ("Perc15, HU", 0),
    "gas_trapping_pct": ("LAA-856 out, %", 1),
}
STATES = {"rejected": "Rejected", "left_out": "Left out", "kept": "Kept"}  # left out: nothing is wrong with a scan
OTHER_VISIT = coded("the study uses another visit than this one", "other_visit")
INPUTS = '<meta name="copdvae-inputs" content="{}">'
Pairs = Collection[tuple[str, str]]  # subject_id and visit
COLUMNS = ("subject_id", "visit", "split", "state", "expected", "flags", "why")


@dataclass(frozen=True)
class Entry:
    """One visit of a subject as the page shows it."""

    subject: str
    visit: str
    split: str
    state: str  # a key of STATES
    expected: bool  # left out, and the study says so itself
    flags: tuple[str, ...]  # codes of reasons and warnings
    why: tuple[str, ...]  # and their sentences
    file: str = ""  # in the cache, "" where there is none
    breaths: tuple[str, ...] = ()
    mask: str = ""
    figures: tuple[float | None, ...] = ()  # in the order of FIGURES

    @property
    def order(self) -> tuple:
        """Where it stands on the page: refusals that nobody expected, then the most flags, last those that were expected."""
        return self.expected, list(STATES).index(self.state), -len(self.flags), self.subject, self.visit


def qc(
    study: str, cache: Path, out: Path, left_out: pd.DataFrame, used: Pairs | None = None, pictures: int = MOST_DRAWN, renew: bool = True
) -> Path:
    """Write `out`/qc.html and qc.csv of the study so called; return the page's path.

    `left_out`: subject_id, visit, stage, reason, detail, expected. `used`: the visits that take part (None: all that were ingested).
    `pictures`: how many subjects are drawn, in the page's order. Without `renew` a page that was made of the same tables and cached files
    stays, however many are drawn on it.
    """
    if not (cache / "index.csv").is_file():
        raise CopdvaeError(f"{cache.name}/index.csv: no such file: nothing is ingested yet; run `copdvae ingest` first")
    index, split = read_csv(cache / "index.csv", text=INDEX_TEXT), parts_of(out / "split.csv")
    part = "" if used is None else str(sorted(used))
    files = str([stamp(cache / name) for name in index["file"]])
    digest = digest_of(__version__, study, as_csv(index), as_csv(left_out), str(sorted(split.items())), part, files)
    page = out / "qc.html"
    if not renew and page.is_file() and (out / "qc.csv").is_file() and made_of(page, digest):
        return page
    entries = sorted(entries_of(index, left_out, split, used), key=lambda entry: entry.order)
    write_csv(out / "qc.csv", as_table(entries))
    template = environment().get_template("qc.html.j2")
    with replacing(page) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.writelines(template.generate(content(entries, cache, pictures) | {"study": study, "digest": digest}))
    return page


def parts_of(path: Path) -> dict[str, str]:
    """Each subject's part of the split, as far as there is one."""
    if not path.is_file():
        return {}
    table = read_csv(path)
    return dict(zip(table["subject_id"], table["split"], strict=True))


def made_of(page: Path, digest: str) -> bool:
    with page.open("rb") as stream:  # bytes: a damaged page need not be text
        return INPUTS.format(digest).encode() in stream.read(2000)


def stamp(file: Path) -> tuple[str, int, int]:
    """What tells a cached file that was made again from the one before; reading them all would take long."""
    try:
        found = file.stat()
    except OSError:
        return file.name, -1, -1
    return file.name, found.st_size, found.st_mtime_ns


def entries_of(index: pd.DataFrame, left_out: pd.DataFrame, split: dict[str, str], used: Pairs | None = None) -> list[Entry]:
    """Everyone who was ingested or refused; a subject whose phenotypes are unsound has one entry with both."""
    used = set(zip(index["subject_id"], index["visit"], strict=True)) if used is None else set(used)
    taking_part = {subject for subject, _ in used}
    refused: dict[str, list[dict[str, str]]] = {}
    for row in left_out.fillna("").astype(str).to_dict("records"):
        refused.setdefault(row["subject_id"], []).append({str(key): value for key, value in row.items()})
    entries = []
    for row in index.to_dict("records"):
        lacking = [line for line in refused.get(row["subject_id"], []) if line["stage"] != "ingest"]
        takes_part = (row["subject_id"], row["visit"]) in used and not lacking
        expected = all(line["expected"] == "yes" for line in lacking) if lacking else row["subject_id"] in taking_part
        warnings = [OTHER_VISIT] * (not takes_part and not lacking) + split_warnings(row["warnings"])
        entries.append(
            Entry(
                subject=row["subject_id"],
                visit=row["visit"],
                split=split.get(row["subject_id"], "") if takes_part else "",
                state="kept" if takes_part else "left_out",
                expected=not takes_part and expected,
                flags=unique([line["reason"] for line in lacking] + [reason_of(warning) for warning in warnings]),
                why=unique([line["detail"] for line in lacking] + of_both([without_code(warning) for warning in warnings])),
                file=row["file"],
                breaths=tuple(row["channels"].split("+")),
                mask=", ".join(dict.fromkeys(row[name] for name in ("insp_mask", "exp_mask") if row.get(name))),
                figures=tuple(known(row.get(name)) for name in FIGURES),
            )
        )
    cached = {entry.subject for entry in entries}
    for subject, lines in refused.items():
        by_visit: dict[str, list[dict[str, str]]] = {}
        for line in lines:
            if line["stage"] == "ingest" or subject not in cached:
                by_visit.setdefault(line.get("visit", ""), []).append(line)
        for visit, own in by_visit.items():
            expected = all(line["expected"] == "yes" for line in own)
            reasons, details = (unique(line[name] for line in own) for name in ("reason", "detail"))
            state = "rejected" if any(line["stage"] == "ingest" for line in own) else "left_out"
            entries.append(Entry(subject, visit, "", state, expected, reasons, details))
    return entries


def known(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def unique(words: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in words if word))


def split_warnings(text: str) -> list[str]:
    """The warnings of a row of index.csv, which ends each with its code and puts "; " between them."""
    return [part for part in re.split(r"(?<=\w\]); ", text) if part]


def of_both(remarks: list[str]) -> list[str]:
    """What is said of inspiration and of expiration in the same words is said once."""
    insp, exp = ({said.removeprefix(breath) for said in remarks if said.startswith(breath)} for breath in ("insp: ", "exp: "))
    both = {f"{breath}: {words}": f"insp and exp: {words}" for words in insp & exp for breath in ("insp", "exp")}
    return list(unique(both.get(said, said) for said in remarks))


def without_code(warning: str) -> str:
    return re.sub(r" \[[a-z0-9_]+\]$", "", warning)


def as_table(entries: list[Entry]) -> pd.DataFrame:
    """qc.csv: flags are codes, with spaces between them."""
    rows = [
        (
            entry.subject, entry.visit, entry.split, entry.state, "yes" if entry.expected else "no" if entry.state != "kept" else "",
            " ".join(entry.flags), "; ".join(entry.why),
        )
        for entry in entries
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def content(entries: list[Entry], cache: Path, pictures: int) -> dict[str, Any]:
    """What the template shows; its subjects come one by one."""
    states = Counter(entry.state for entry in entries)
    flags = Counter(flag for entry in entries for flag in entry.flags)
    able = sum(bool(entry.file) for entry in entries)
    return {
        "version": __version__,
        "counts": [(state, name, states[state]) for state, name in STATES.items() if states[state]],
        "splits": [(part, name) for part, name in SPLITS.items() if any(entry.split == part for entry in entries)],
        "flags": sorted(flags.items(), key=lambda flag: (-flag[1], flag[0])),
        "unflagged": sum(not entry.flags for entry in entries),
        "total": len(entries),
        "unit": "visits" if len({entry.subject for entry in entries}) < len(entries) else "subjects",
        "drawn": min(pictures, able),
        "able": able,
        "sorts": list(enumerate(name for name, _ in FIGURES.values())),
        "legend": [(name, colour) for name, colour in OUTLINES.values()],
        "per_group": PER_GROUP,
        "entries": shown(entries, cache, pictures),
    }


def shown(entries: list[Entry], cache: Path, pictures: int) -> Iterator[dict[str, Any]]:
    """Each entry for the template, the first `pictures` of those that can be drawn with their pictures."""
    left = pictures
    for entry in entries:
        drawn, why = None, entry.why
        if entry.file and left > 0:
            left -= 1
            try:
                image, lung, _ = load_subject(cache / entry.file)
                if broken(cache / entry.file):  # a byte that changed on the disk makes another picture, not an error
                    raise CopdvaeError(f"{entry.file}: not what ingest wrote")
                drawn = thumbnails(image, lung)
            except (CopdvaeError, OSError):
                why = (*why, "its cached file cannot be read or is damaged: ingest again")
        figures = [
            {"name": name, "place": place, "value": value, "text": number(value, digits)}
            for place, ((name, digits), value) in enumerate(zip(FIGURES.values(), entry.figures, strict=False))
        ]
        yield {
            "subject": entry.subject, "visit": entry.visit, "split": entry.split, "part": SPLITS.get(entry.split, entry.split),
            "state": entry.state, "expected": entry.expected, "flags": entry.flags, "why": why, "drawn": drawn,
            "breaths": entry.breaths, "mask": entry.mask, "figures": figures, "picture_left_out": bool(entry.file) and drawn is None,
        }  # fmt: skip
