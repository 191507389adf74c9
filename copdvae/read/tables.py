"""Read a table of any usual make as text: CSV, TSV, TXT (also gzipped), XLSX. Nothing is converted; ids keep their zeros."""

import csv
import gzip
import io
import zlib
from collections import Counter
from itertools import islice
from pathlib import Path

import pandas as pd

from copdvae.errors import ReadError
from copdvae.read.limits import TABLE_BYTES, TABLE_CELLS, most_of, read_within, too_large
from copdvae.read.workbook import read_workbook

MISSING_TEXT = frozenset({"", ".", "NA", "N/A", "n/a", "NaN", "nan", "#N/A", "NULL", "null"})
DELIMITERS = ("\t", ";", "|", ",")  # in this order where a file splits as well at two of them
TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SNIFFED_ROWS = 200
SUFFIX_MESSAGE = "a table ends in .csv, .tsv, .txt (each also .gz) or .xlsx"


def read_table(path: Path, sheet: str | None = None) -> pd.DataFrame:
    """The table as stripped text, "" for missing, on an index of spreadsheet row numbers (the header is row 1, blank rows are left out).

    `attrs["notes"]` lists what was assumed in reading (a delimiter, an encoding). `sheet` chooses one of a workbook's.
    """
    path = Path(path)
    if not path.is_file():
        raise ReadError(f"{path}: no such file", "no_file")
    suffix = path.suffixes[-2:][0].lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix in TEXT_SUFFIXES:
        rows, notes = split_text(path, read_text(path))
    elif path.suffix.lower() in (".xlsx", ".xlsm"):
        rows, notes = [[tidy(cell) for cell in row] for row in read_workbook(path, sheet)], []
    else:
        raise ReadError(f"{path}: {SUFFIX_MESSAGE}, this in {path.suffix or 'nothing'}; save it as one of them", "unknown_table")
    if sheet is not None and suffix in TEXT_SUFFIXES:
        raise ReadError(f"{path}: has no sheets, and sheet {sheet!r} was asked for", "no_sheet")
    return frame(path, rows, notes)


def frame(path: Path, rows: list[list[str]], notes: list[str]) -> pd.DataFrame:
    """Header and rows, checked: (row number, cells) with equal lengths and unlike names."""
    kept = [(number, cells) for number, cells in enumerate(rows, start=1) if any(cells)]
    if not kept:
        raise ReadError(f"{path}: is empty", "empty_table")
    (_, header), *body = kept
    header = header[: max(i for i, name in enumerate(header, start=1) if name)]
    width = len(header)
    if not body:
        raise ReadError(f"{path}: a header and no row below it", "empty_table")
    ragged = [(number, len(cells)) for number, cells in body if len(cells) < width or any(cells[width:])]
    if ragged:
        number, found = ragged[0]
        raise ReadError(
            f"{path}: row {number} has {found} fields, the header {width} ({len(ragged)} such rows); is a delimiter in a value not quoted?",
            "ragged_table",
        )
    doubled = [name for name, count in Counter(header).items() if name and count > 1]
    if doubled:
        raise ReadError(f"{path}: columns named alike: {', '.join(map(repr, doubled))}; rename or remove one of each", "duplicate_column")
    names = [name or f"unnamed_{place}" for place, name in enumerate(header, start=1)]
    table = pd.DataFrame([cells[:width] for _, cells in body], columns=names, index=[number for number, _ in body], dtype=object)
    table.attrs["notes"] = notes
    return table


def read_text(path: Path) -> bytes:
    """The file's bytes, unzipped."""
    size = path.stat().st_size
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as stream:
            return read_within(stream, path, min(TABLE_BYTES, most_of(size)))  # pyright: ignore[reportArgumentType]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ReadError(f"{path}: not a whole gzip file ({error})", "bad_gzip") from None


def split_text(path: Path, raw: bytes) -> tuple[list[list[str]], list[str]]:
    """Rows of stripped cells, and what was assumed."""
    encoding, notes = find_encoding(path, raw)
    rows, cells = [], 0
    try:
        delimiter = find_delimiter(raw, encoding)
        for row in csv.reader(lines(raw, encoding), delimiter=delimiter):
            rows.append([tidy(cell) for cell in row])
            cells += len(row) + 8  # a row takes memory without a cell, too
            if cells > TABLE_CELLS:
                raise too_large(path, f"over {TABLE_CELLS:,} cells")
    except csv.Error as error:
        raise ReadError(f"{path}: not a table of text ({error})", "unreadable_table") from None
    if delimiter != {".tsv": "\t"}.get(path.suffix.lower(), ","):
        notes.append(f"the table: fields split at {delimiter!r}")
    return rows, notes


def tidy(cell: str) -> str:
    cell = cell.strip().replace("\r\n", "\n").replace("\r", "\n")  # the csv module would write a lone return without quotes
    return "" if cell in MISSING_TEXT else cell


def lines(raw: bytes, encoding: str) -> io.TextIOWrapper:
    """Lines as `csv` wants them; a quarter of the memory of a StringIO."""
    return io.TextIOWrapper(io.BytesIO(raw), encoding, newline="")


def find_encoding(path: Path, raw: bytes) -> tuple[str, list[str]]:
    """A byte order mark decides, then UTF-8; what is neither is taken for Latin-1 and that is announced."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in raw[:200]:  # UTF-16 without its mark: ASCII names have every other byte zero
        encoding = "utf-16-be" if raw[:1] == b"\0" else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8-sig":
            raise ReadError(f"{path}: neither UTF-8 nor UTF-16 text; save it as CSV UTF-8", "unreadable_table") from None
        return "latin-1", ["the table: not UTF-8, read as Latin-1; look at names with accents"]
    return encoding, ["the table: read as UTF-16"] if encoding.startswith("utf-16") else []


def find_delimiter(raw: bytes, encoding: str) -> str:
    """The delimiter at which most rows have as many fields (two or more) as the header; a comma where there is one column."""
    best, chosen = 0.0, ","
    for delimiter in DELIMITERS:
        rows = [row for row in islice(csv.reader(lines(raw, encoding), delimiter=delimiter), SNIFFED_ROWS) if row]
        if not rows or len(rows[0]) < 2:
            continue
        share = round(sum(len(row) == len(rows[0]) for row in rows) / len(rows), 2)
        if share > best:
            best, chosen = share, delimiter
    return chosen
