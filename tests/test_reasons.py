"""docs/REASONS.md has every reason that is ever given."""

import ast
import re
from pathlib import Path

import pytest

import copdvae

ROOT = Path(copdvae.__file__).parent
TEXT = (ROOT.parent / "docs/REASONS.md").read_text(encoding="utf-8")
LISTED = {
    word for line in TEXT.splitlines() for word in re.findall(r"`([a-z0-9_]+)`", line.split("|")[1] if line.startswith("|") else line)
}
RAISED = ("ReadError", "Rejection", "LungError", "Problem", "Finding", "Outcome")
NO_REASONS = {"made", "kept", "rejected", "name", "phenotypes"}  # words of the same look in the same calls
DICOM = {"dicom.py", "dicom_files.py", "geometry.py", "index.py"}  # their section is above


def reasons(path: Path) -> set[str]:
    """Words that look like a reason in what raises one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in RAISED:
            values = [*node.args, *[keyword.value for keyword in node.keywords]]
            values += [part for value in values if isinstance(value, ast.IfExp) for part in (value.body, value.orelse)]
            found |= {
                value.value
                for value in values
                if isinstance(value, ast.Constant) and re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", str(value.value))
            }
        if isinstance(node, ast.Return | ast.Yield) and isinstance(node.value, ast.Tuple) and path.name == "manifest.py":
            found |= {
                part.value
                for part in node.value.elts
                if isinstance(part, ast.Constant) and "_" in str(part.value) and " " not in part.value
            }
    return found - NO_REASONS


MODULES = [path for path in sorted(ROOT.rglob("*.py")) if path.name not in DICOM and reasons(path)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_reason_is_explained(path):
    columns = {"subject_id", "insp_path", "exp_path", "mask_path", "exp_mask_path"}
    assert reasons(path) - LISTED - columns == set()


def test_reasons_are_found_where_they_are_known_to_be():
    assert {"truncated", "decompression_bomb", "out_of_memory", "mask_grid"} <= reasons(ROOT / "read/voxels.py")
    assert "outside_study" in reasons(ROOT / "read/manifest.py")
    assert "exp_not_smaller" in reasons(ROOT / "prepare/ingest.py")
