"""Who trains, who validates, who tests.  By subject, never by scan: all visits of a subject are on one side.

Subjects are sorted by (GOLD, site, subject), each level in an order drawn from the seed, and dealt one after the other to the part that is
furthest behind its share. Every stretch of that order, so every GOLD stage, and every site within a stage, is dealt in proportion to
within two subjects, and the totals are exact. The order comes from hashes of the names, so the table's row order does not matter.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from copdvae import __version__
from copdvae.config import Config
from copdvae.errors import ConfigError
from copdvae.files import digest_of, unescape, write_csv, write_json
from copdvae.read.tables import read_table

PARTS = ("train", "validation", "test")
UNUSED = "unused"  # in a split.csv written by hand: subjects that take no part at all
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Count | Fraction | Literal["rest"]  # 240 subjects, 0.7 of them, or who is left


class SplitConfig(Config):
    """Fractions with a decimal point, numbers of subjects without; one part at most may take the rest."""

    train: Share = 0.7
    validation: Share = 0.1
    test: Share = "rest"
    seed: int = Field(default=0, ge=0)
    held_out_sites: tuple[str, ...] = ()  # their subjects are the test part, and nobody else; `test` is then not used

    @model_validator(mode="after")
    def _adds_up(self) -> "SplitConfig":
        shares = self.shares().values()
        rests = sum(share == "rest" for share in shares)
        fractions = sum(share for share in shares if isinstance(share, float))
        only_fractions = all(isinstance(share, float) for share in shares)
        if rests > 1:
            raise ValueError("only one part can take the rest")
        if fractions > 1 + 1e-9 or (only_fractions and not self.held_out_sites and fractions < 1 - 1e-9):
            raise ValueError(f"the fractions add up to {fractions:g}, not 1; give one part as rest")
        if only_fractions and fractions == 0:
            raise ValueError("no part gets any subject")
        return self

    def shares(self) -> dict[str, int | float | str]:
        """What is dealt out to subjects of the sites that are not held out."""
        parts = PARTS[:2] if self.held_out_sites else PARTS
        return {part: getattr(self, part) for part in parts}


def split(table: pd.DataFrame, config: SplitConfig) -> pd.DataFrame:
    """One row a subject, columns `subject_id` and `split`, sorted by subject_id.

    `table` has `subject_id` and, where known, `gold`, `site` and `visit`; a subject with several visits counts by the first of them.
    """
    people = gather(table)
    held_out = {subject for subject, person in people.items() if not person.sites.isdisjoint(config.held_out_sites)}
    if missing := set(config.held_out_sites).difference(*(person.sites for person in people.values())):
        raise ConfigError(f"split.held_out_sites: no subject is from {', '.join(sorted(missing))}")
    order = sorted(set(people) - held_out, key=lambda subject: place(subject, people[subject], config.seed))

    counts = count_parts(len(order), config)
    parts, goal = list(counts), np.array(list(counts.values()))
    dealt, chosen = np.zeros(len(parts)), dict.fromkeys(held_out, "test")
    for number, subject in enumerate(order, start=1):
        behind = int(np.argmax(goal * number / len(order) - dealt))
        dealt[behind] += 1
        chosen[subject] = parts[behind]
    return pd.DataFrame(sorted(chosen.items()), columns=["subject_id", "split"])


class Person(NamedTuple):
    gold: str  # of the first visit, "" where unknown
    site: str
    sites: frozenset[str]  # of all visits


def gather(table: pd.DataFrame) -> dict[str, Person]:
    """One person a subject, whatever the order of the rows."""
    rows = table.reindex(columns=["subject_id", "visit", "gold", "site"]).to_dict("records")
    lines = sorted(
        (as_text(row["subject_id"]), as_text(row["visit"]), as_text(row["gold"], number=True), as_text(row["site"])) for row in rows
    )
    people: dict[str, Person] = {}
    for subject, _, gold, site in lines:
        if not subject:
            raise ConfigError("the table to split has a row without subject_id")
        first = people.get(subject)
        people[subject] = first._replace(sites=first.sites | {site}) if first else Person(gold, site, frozenset({site}))
    return people


def as_text(value: Any, number: bool = False) -> str:
    """A cell as text, "" where missing; 2, 2.0 and "2" are one number."""
    if pd.isna(value) or value == "":
        return ""
    return f"{float(value):g}" if number else str(value)


def place(subject: str, person: Person, seed: int) -> tuple[str, str, str]:
    """Where a subject stands in the order that is dealt from."""
    site = digest_of(f"{seed} site", person.gold, person.site)
    return digest_of(f"{seed} gold", person.gold), site, digest_of(f"{seed} subject", subject)


def count_parts(n: int, config: SplitConfig) -> dict[str, int]:
    """Subjects in each part, adding up to `n`; fractions are rounded by largest remainder."""
    shares = config.shares()
    exact = {part: float(share if isinstance(share, int) else share * n) for part, share in shares.items() if not isinstance(share, str)}
    if config.held_out_sites and all(isinstance(share, float) for share in shares.values()):
        total = sum(exact.values())  # .7 and .1 of all become 7 to 1 of those who are left
        exact = {part: count * n / total for part, count in exact.items()}
    counts = {part: int(count + 1e-9) for part, count in exact.items()}
    rest = [part for part, share in shares.items() if share == "rest"]
    wanted = n if not rest else round(sum(exact.values()))
    for part in sorted(exact, key=lambda part: (counts[part] - exact[part], part)):
        if sum(counts.values()) < wanted and isinstance(shares[part], float):
            counts[part] += 1
    if rest:
        counts[rest[0]] = n - sum(counts.values())
    if sum(counts.values()) != n or min(counts.values()) < 0:
        asked = ", ".join(f"{part} {share}" for part, share in shares.items())
        raise ConfigError(f"split: {asked} does not fit {n} subjects; give one part as rest")
    if not counts["train"]:
        raise ConfigError(f"split: none of {n} subjects would train")
    return {part: counts[part] for part in shares}


def write_split(table: pd.DataFrame, config: SplitConfig, path: Path) -> pd.DataFrame:
    """Split and save as `path` (split.csv), with its hash and settings in split.json beside it; or take the split that is there.

    A split.csv made with the same settings stays, so that runs made with it stay comparable; if subjects came or went since, that is an
    error. Other settings make it anew. A split.csv that was written or changed by hand is used as it is, once checked.
    """
    note = path.with_suffix(".json")
    made: pd.DataFrame | None = None
    if path.is_file():
        found = read_split(path)
        record = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
        if record.get("content") == content_hash(found):
            if record.get("config") == config.plain():
                check_subjects(found, table, path)
                return found
        else:
            check_subjects(found, table, path)
            made = split(table, config)
            if not made.equals(found):
                return found
            # else ours, and the note is missing: an earlier run was killed between the two files
    if made is None:
        made = split(table, config)
        write_csv(path, made)
    counts = Counter(made["split"])
    record = {"config": config.plain(), "content": content_hash(made), "copdvae_version": __version__}
    write_json(note, {**record, "subjects": {part: counts[part] for part in PARTS}})
    return made


def read_split(path: Path) -> pd.DataFrame:
    """Columns `subject_id` and `split`; raises where a subject is on two sides or on none that is known."""
    table = read_table(path)
    if missing := {"subject_id", "split"} - set(table):
        raise ConfigError(f"{path}: no column {' or '.join(sorted(missing))}; expected subject_id and split")
    found = pd.DataFrame({"subject_id": list(map(unescape, table["subject_id"])), "split": list(table["split"])})
    if strange := sorted(set(found["split"]) - {*PARTS, UNUSED}):
        raise ConfigError(f"{path}: split is {', '.join(map(repr, strange))}; expected {', '.join(PARTS)}")
    twice = [subject for subject, rows in Counter(found["subject_id"]).items() if rows > 1]
    if twice:
        raise ConfigError(f"{path}: {len(twice)} subjects have more than one row, such as {twice[0]}; expected one each")
    return found


def check_subjects(found: pd.DataFrame, table: pd.DataFrame, path: Path) -> None:
    listed, wanted = set(found["subject_id"]), set(table["subject_id"].astype(str))
    if listed != wanted:
        changes = {"new": sorted(wanted - listed), "gone": sorted(listed - wanted)}
        told = [f"{len(names)} {word} ({', '.join(names[:3])}{' ...' * (len(names) > 3)})" for word, names in changes.items() if names]
        raise ConfigError(
            f"{path}: the subjects changed since it was made: {', '.join(told)}. Delete it to split anew; runs made with it then start anew"
        )


def content_hash(table: pd.DataFrame) -> str:
    return digest_of(table.sort_values("subject_id").to_csv(index=False, lineterminator="\n"))
