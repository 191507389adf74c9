"""Files that are either whole or not there: written under a temporary name beside the target, synced, then renamed.

A table that a spreadsheet opens must not run what a subject's id says. Text that begins like a formula gets an apostrophe in front, which
a spreadsheet shows as text; `read_csv` takes it away again, and text that had one keeps it.
"""

import errno
import hashlib
import json
import math
import os
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from copdvae.errors import CopdvaeError

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
MISSING = ["", "nan", "NaN"]  # as numbers are written that are not there
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
HOST = "h" + hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]  # a process number says nothing on another machine


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block ends well, and vanishes when it does not.

    Raises `CopdvaeError` where the disk is full or may not be written to.
    """
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise CopdvaeError(f"{path.name} cannot be written: {os.strerror(error.errno)}; what was there before is still there") from None


def leftovers(folder: Path) -> list[Path]:
    """Temporary files of processes that ended before they could rename or remove them."""
    found = []
    for file in sorted(folder.glob(".*.tmp")):
        *_, host, process, _ = file.name.split(".")
        elsewhere = len(host) == len(HOST) and host.startswith("h") and host != HOST
        if process.isdigit() and not elsewhere and not is_alive(int(process)):
            found.append(file)
    return found


def sweep(folder: Path) -> None:
    """Delete the temporary files that `replacing` left in a folder when its process was killed; nobody else's."""
    for file in leftovers(folder):
        if f".{HOST}." in file.name:
            with suppress(OSError):
                file.unlink()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # a file's name need not be text


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    write_text(path, as_csv(table))


def as_csv(table: pd.DataFrame) -> str:
    return without_formulas(table).to_csv(index=False, lineterminator="\n")


def read_csv(path: Path, text: Collection[str] | None = None) -> pd.DataFrame:
    """A table that `write_csv` wrote: the columns `text` (None: all) as text, "" where empty; the others as pandas takes them.

    Raises `CopdvaeError` where the file is empty, as one is that was copied to a full disk.
    """
    try:
        columns = list(pd.read_csv(path, nrows=0, dtype=str).columns)
    except pd.errors.EmptyDataError:
        found = f"{path.parent.name}/{path.name}: nothing in it; expected a table with a header"
        raise CopdvaeError(f"{found}: delete it and run again what writes it") from None
    words = [column for column in columns if text is None or unescape(column) in text]
    none = {column: MISSING for column in columns if column not in words}
    table = pd.read_csv(path, dtype=dict.fromkeys(words, str), keep_default_na=False, na_values=none)
    marked = [column for column in words if table[column].str.startswith("'").any()]  # few are, and a call a cell takes long
    return table.assign(**{column: table[column].map(unescape) for column in marked}).rename(columns=unescape)


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table with text that a spreadsheet would run marked as text: what starts like a formula and is no number."""
    safe = table.rename(columns={column: escape(str(column)) for column in table.columns})
    for column in safe.columns:
        if pd.api.types.is_numeric_dtype(safe[column]):
            continue
        words = {word: escape(word) for word in safe[column].unique() if isinstance(word, str)}
        if any(word != escaped for word, escaped in words.items()):
            safe[column] = safe[column].map(lambda word, words=words: words.get(word, word) if isinstance(word, str) else word)
    return safe


def escape(word: str) -> str:
    if not word.lstrip("'").startswith(FORMULA_STARTS) or is_number(word):
        return word
    return "'" + word


def unescape(word: str) -> str:
    """What `escape` was given."""
    return word[1:] if word.startswith("'") and word.lstrip("'").startswith(FORMULA_STARTS) else word


def is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def write_with(path: Path, writer: Callable[[Path], Any]) -> None:
    """Let a library write the file by name."""
    with replacing(path) as temporary:
        writer(temporary)


def in_order(content: bytes) -> bytes:
    """The safetensors bytes with the header's keys in one order: the library's own order changes from process to process."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    ordered = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ordered += b" " * (-len(ordered) % 8)
    return len(ordered).to_bytes(8, "little") + ordered + content[8 + length :]


def digest_of(*parts: bytes | str) -> str:
    """Twelve hex digits of a SHA-256 over the parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:12]
