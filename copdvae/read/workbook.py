"""Cells of an Excel workbook (XLSX).  openpyxl reads it, a row at a time, once each part has been counted.

openpyxl makes an object of every cell, merged cell and style that a part names: a small file can ask for billions, claim a sheet of
17 billion cells, or define entities that grow. What is counted here is what a part holds; what it claims of itself is not looked at.
"""

import warnings
import zipfile
import zlib
from datetime import datetime, time
from itertools import zip_longest
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.parsers import expat

from copdvae.errors import ReadError
from copdvae.read.limits import CHUNK, TABLE_BYTES, TABLE_CELLS, most_of, of_the_disk, too_large

CELL_TAGS = frozenset(("row", "c", "v", "f", "is", "si", "t", "r", "rPr", "phoneticPr"))
OTHER_TAGS = 100_000  # of all others; Excel allows 65,490 styles
TAGS = 5 * TABLE_CELLS
ROWS, COLUMNS = 1 << 20, 1 << 14  # of a sheet, in Excel
OPEN_ERRORS = (
    zipfile.BadZipFile, zlib.error, ParseError, expat.ExpatError, KeyError, ValueError, TypeError, IndexError, AttributeError, EOFError,
    OverflowError, NotImplementedError, RuntimeError,
)  # fmt: skip


def read_workbook(path: Path, sheet: str | None) -> list[list[str]]:
    """Cells of the one sheet that has any, as they were last calculated: rows of one length, "" where empty."""
    try:
        check_parts(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl's quote cells
            return read_sheet(path, sheet)
    except OPEN_ERRORS:
        raise ReadError(f"{path}: not an Excel workbook that can be read (damaged, or with a password?)", "unreadable_table") from None
    except OSError as error:
        if of_the_disk(error):
            raise
        raise ReadError(f"{path}: an archive without a workbook in it", "unreadable_table") from None


def read_sheet(path: Path, sheet: str | None) -> list[list[str]]:
    from openpyxl import load_workbook  # only here: a third of a second, and most tables are text

    values = load_workbook(path, read_only=True, data_only=True, keep_links=False)
    formulas = load_workbook(path, read_only=True, data_only=False, keep_links=False)
    try:
        for book in (values, formulas):
            for tab in book.worksheets:
                tab.reset_dimensions()
        tabs = {tab.title: tab for tab in values.worksheets if tab.sheet_state == "visible" or tab.title == sheet}
        if sheet is not None and sheet not in tabs:
            raise ReadError(f"{path}: no sheet {sheet!r}; it has {', '.join(tabs)}", "no_sheet")
        filled = [title for title, tab in tabs.items() if any(cell is not None for row in tab.iter_rows(values_only=True) for cell in row)]
        if sheet is None and len(filled) > 1:
            raise ReadError(
                f"{path}: {len(filled)} sheets with something on them ({', '.join(filled)}); say which (`sheet: ...`)", "several_sheets"
            )
        if not filled:
            return []
        chosen = sheet or filled[0]
        return read_cells(path, tabs[chosen], formulas[chosen])
    finally:
        values.close()
        formulas.close()


def read_cells(path: Path, values: Any, formulas: Any) -> list[list[str]]:
    """`values` is the sheet as calculated, `formulas` the same as written."""
    rows: list[list[str]] = []
    width = 0
    written = formulas.iter_rows(values_only=True)
    for number, (row, texts) in enumerate(zip_longest(values.iter_rows(), written, fillvalue=()), start=1):
        if any(cell.value is None and isinstance(text, str) and text.startswith("=") for cell, text in zip(row, texts, strict=False)):
            raise ReadError(f"{path}: row {number} has a formula whose value was never saved; open it in Excel and save it", "formula")
        rows.append([cell_text(cell) for cell in row])
        width = max(width, len(row))
        if (width + 8) * number > TABLE_CELLS:  # a row takes memory without a cell, too
            raise too_large(path, f"over {TABLE_CELLS:,} cells")
    return [row + [""] * (width - len(row)) for row in rows]


def cell_text(cell: Any) -> str:
    """What the cell shows: whole numbers without a point, zeros that a format such as 00000 puts in front."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and set(cell.number_format) == {"0"}:
        return str(value).zfill(len(cell.number_format))
    if isinstance(value, datetime | time):
        return value.isoformat()
    return str(value)


def check_parts(path: Path) -> None:
    """Refuse a workbook that says more than its size allows, or has what no spreadsheet writes."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        size = sum(part.file_size for part in parts)
        if size > min(2 * TABLE_BYTES, most_of(path.stat().st_size)):
            raise too_large(path, f"{size:,} bytes")
        for part in parts:
            Counter(path).count(archive, part)


class Counter:
    """What one part of a workbook holds, as far as it is XML."""

    def __init__(self, path: Path):
        self.path, self.tags, self.others, self.row, self.column, self.cells = path, 0, 0, 0, (0, ""), 0

    def count(self, archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
        parser = expat.ParserCreate(namespace_separator="}")
        parser.StartElementHandler = self.start
        parser.StartDoctypeDeclHandler = self.refuse_doctype
        with archive.open(part) as stream:
            try:
                while data := stream.read(CHUNK):
                    parser.Parse(data, False)
            except expat.ExpatError:  # a picture, or broken: then no reader gets further
                return

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.tags += 1
        tag = name.rpartition("}")[2]
        if tag == "c":
            self.cells += 1
            letters = attributes.get("r", "").rstrip("0123456789")
            place = (len(letters), letters)
            if (letters and place <= self.column) or len(letters) > 3 or self.cells > COLUMNS:
                raise self.strange("rows or cells out of their order, or beyond a sheet's end")
            self.column = place
        elif tag == "row":
            self.column, self.cells = (0, ""), 0
            row = int(attributes.get("r", self.row + 1))
            if not self.row < row <= ROWS:
                raise self.strange("rows or cells out of their order, or beyond a sheet's end")
            self.row = row
        elif tag not in CELL_TAGS:
            self.others += 1
        if self.tags > TAGS or self.others > OTHER_TAGS:
            raise too_large(self.path, f"over {TAGS if self.tags > TAGS else OTHER_TAGS:,} parts of a sheet")

    def refuse_doctype(self, *_: object) -> None:
        raise self.strange("an XML document type, which no spreadsheet program writes")

    def strange(self, what: str) -> ReadError:
        return ReadError(f"{self.path}: {what}; save it in Excel again", "unreadable_table")
