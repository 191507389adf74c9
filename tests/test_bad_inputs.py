"""docs/BAD_INPUTS.md names tests that are there and codes that are explained, for each of its sixty rows."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (DOCS / "BAD_INPUTS.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| \d+ \|", line)
]


@cache
def named_in(file: str) -> set[str]:
    """The names of a module's tests as pytest has them, without parameters; none of those that are skipped or expected to fail."""
    found = set()
    for node in ast.parse((TESTS / file).read_text(encoding="utf-8")).body:
        inside = [(f"{node.name}::", inner) for inner in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
        for before, test in inside:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_") and not given_up(test):
                found.add(before + test.name)
    return found


def given_up(test: ast.FunctionDef) -> bool:
    return any(mark in ast.unparse(decorator) for decorator in test.decorator_list for mark in ("mark.skip(", "mark.xfail"))


def test_there_are_sixty_rows_in_order():
    assert [int(row[0]) for row in ROWS] == list(range(1, 61))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_test_of_a_row_is_there_and_each_code_is_explained(row):
    _, _, done, codes, tests = row
    assert len(done) >= 4
    named = re.findall(r"`([^`]+)`", tests)
    assert named
    for name in named:
        file, _, test = name.partition("::")
        assert test in named_in(file), name
    explained = re.findall(r"^\| `([a-z0-9_]+)` \|", (DOCS / "REASONS.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`([^`]+)`", codes)) <= set(explained)


def test_a_test_that_is_not_there_or_is_not_run_is_noticed():
    here = named_in("test_bad_inputs.py")
    assert "test_there_are_sixty_rows_in_order" in here
    assert "test_nothing" not in here
    assert "TestGaps::test_wide_gaps_are_never_filled" in named_in("read/test_dicom_stack.py")
    assert given_up(ast.parse("@pytest.mark.xfail(strict=True)\ndef test_a(): pass").body[0])
    assert not given_up(ast.parse("@pytest.mark.slow\ndef test_a(): pass").body[0])
