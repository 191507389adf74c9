"""One visit of one subject: what is to be prepared, how that went, and how to tell of it without saying whose scan it is."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from copdvae.errors import CopdvaeError, printable
from copdvae.prepare.settings import IngestConfig
from copdvae.read.manifest import SERIES

CHANNELS = ("insp", "exp")


@dataclass(frozen=True)
class Task:
    """One visit of one subject."""

    row: dict[str, str]  # of the manifest
    root: Path
    cache: Path
    config: IngestConfig

    @property
    def key(self) -> tuple[str, str]:
        return self.row["subject_id"], self.row["visit"]

    @property
    def file(self) -> Path:
        """Named by a hash: a subject's id may hold anything, and never becomes part of a path."""
        return self.cache / f"{hashlib.sha256(json.dumps(self.key).encode()).hexdigest()[:20]}.safetensors"

    @property
    def paths(self) -> dict[str, Path]:
        """Manifest column to absolute path, for those given."""
        columns = ("insp_path", "exp_path", "mask_path", "exp_mask_path")
        return {column: self.root / self.row[column] for column in columns if self.row[column]}

    def series(self, column: str) -> str | None:
        """The series named for a column's scan."""
        return self.row.get(SERIES.get(column, ""), "") or None


@dataclass(frozen=True)
class Outcome:
    key: tuple[str, str]
    state: str  # "made", "kept" or "rejected"
    reason: str = ""
    detail: str = ""


class Rejection(CopdvaeError):
    """Why one subject cannot be used, although each of its scans was read."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


def without_paths(text: str, paths: dict[str, Path]) -> str:
    """`text` with the scans' paths, and the files inside them, replaced by the manifest's column: people's names hide in file names."""
    for column, path in paths.items():
        inside = sorted(path.rglob("*"), key=lambda inner: len(str(inner)), reverse=True) if path.is_dir() else []
        for inner in inside:  # whole, whatever signs its name holds; a deeper one before its folder
            if inner.name in text or printable(inner.name) in text:
                for form in {str(inner), str(path.resolve() / inner.relative_to(path))}:
                    text = text.replace(form, column).replace(printable(form), column)
        for form in {str(path), str(path.resolve())}:
            text = re.sub(re.escape(printable(form)) + r"(/[^:;,]*(?=[:;,]))?", column, text.replace(form, column))
        for name in sorted({path.name, *(printable(inner.name) for inner in inside)}, key=len, reverse=True):
            if len(name) > 2 and not name.isdigit() and name not in CHANNELS:  # "3" and "exp" are words of our own too
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", column if name == path.name else "a file", text)
    return text
