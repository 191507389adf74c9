"""docs/REASONS.md and the code say the same codes."""

import ast
import re
from pathlib import Path

import pytest

import copdvae

ROOT = Path(copdvae.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "REASONS.md"
CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAKERS = {
    "ReadError": 1,
    "Rejection": 1,
    "LungError": 1,
    "Finding": 1,
    "coded": 1,
    "Problem": 2,
    "Outcome": 2,
    "problem": 2,
}  # the code's place
COLUMNS = {"subject_id", "visit", "insp_path", "exp_path", "mask_path", "exp_mask_path", "series", "exp_series"}


def constants(node: ast.AST | None) -> set[str]:
    """Every text that an expression can be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    return constants(node.body) | constants(node.orelse) if isinstance(node, ast.IfExp) else set()


def is_sentence(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value)


def codes_in(text: str) -> set[str]:
    """Codes handed to what raises or lists, and those returned or yielded beside a sentence: (sentence, code) or (code, sentence)."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in MAKERS and len(node.args) > MAKERS[name]:
                found |= constants(node.args[MAKERS[name]])
            found |= {value for keyword in node.keywords if keyword.arg == "reason" for value in constants(keyword.value)}
        elif isinstance(node, ast.Return | ast.Yield) and isinstance(node.value, ast.Tuple) and any(map(is_sentence, node.value.elts)):
            found |= {value for part in node.value.elts for value in constants(part)}
        elif isinstance(node, ast.FunctionDef) and node.name == "reason":  # a property that gives one
            found |= {value for part in ast.walk(node) if isinstance(part, ast.Return) for value in constants(part.value)}
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Tuple) and isinstance(node.iter, ast.Tuple):
            names = [getattr(name, "id", "") for name in node.target.elts]
            if "reason" in names:
                rows = [row.elts for row in node.iter.elts if isinstance(row, ast.Tuple)]
                found |= {value for row in rows for value in constants(row[names.index("reason")])}
    return {code for code in found if CODE.fullmatch(code)} - COLUMNS


def in_code() -> set[str]:
    """Codes of the readers and of what prepares a study or shows it; spirometry's are in docs/SPIROMETRY.md."""
    files = [path for folder in ("read", "prepare") for path in (ROOT / folder).rglob("*.py")]
    files += [ROOT / "predict.py", ROOT / "report" / "quality.py"]
    return set().union(*(codes_in(path.read_text(encoding="utf-8")) for path in files)) | {"unreadable"}


def on_page() -> list[str]:
    return re.findall(r"^\| `([a-z0-9_]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_code_is_on_the_page_once_and_every_one_on_the_page_is_in_the_code():
    assert sorted(in_code()) == sorted(on_page())


def test_each_line_says_what_was_found_and_what_to_do():
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            _, code, found, todo, _ = (part.strip() for part in re.split(r"(?<!\\)\|", line))
            assert len(found) > 10, code
            assert len(todo) > 5, code


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('raise ReadError("a b", "one")', {"one"}),
        ('raise ReadError(f"{x}", "one" if x else "two")', {"one", "two"}),
        ('yield row, "insp_path", "bad_row", "the row is bad"', {"bad_row"}),
        ('return "it is bad", "bad_row"', {"bad_row"}),
        ('warnings.append(coded(f"{n} slices", "few"))', {"few"}),
        ('for name, reason in (("a", "no_a"), ("b", "no_b")):\n    pass', {"no_a", "no_b"}),
        ('print("one", "two")', set()),
    ],
)
def test_no_way_to_give_a_code_goes_unseen(text, found):
    assert codes_in(text) == found
