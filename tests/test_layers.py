"""Data flows one way: a module imports only from modules to its left."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import copdvae

ORDER = (
    "errors", "config", "files", "spirometry", "read", "prepare", "phantom", "generated", "dataset", "supervision", "networks",
    "objectives", "methods", "batches", "checkpoint", "processes", "loop", "collapse", "train", "encode", "generate", "pictures", "metrics",
    "evaluate", "predict", "report", "study", "tables", "run", "doctor", "cli",
)  # fmt: skip
ROOT = Path(copdvae.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py" and "configs" not in path.parts)


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path, text: str) -> set[str]:
    """The layers that a module imports from, at its top or inside a function."""
    names: set[str] = set()
    package = ["copdvae", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (above, node.module or "") if part)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    layers = {name.split(".")[1] for name in names if name.startswith("copdvae.")}
    return {name for name in layers if (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()}  # not `__version__`


def test_every_module_has_a_place_in_the_order():
    assert {layer(path) for path in MODULES} <= set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_modules_to_its_left(path):
    place = ORDER.index(layer(path))
    above = {name for name in imported(path, path.read_text(encoding="utf-8")) if ORDER.index(name) > place}
    assert not above, f"{path.relative_to(ROOT)} imports from {', '.join(sorted(above))}"


@pytest.mark.parametrize(
    "line",
    [
        "from copdvae.train import Run", "import copdvae.train", "from copdvae import train",
        "def f():\n    from ..train import Run", "from .. import train",
    ],
)  # fmt: skip
def test_no_way_to_write_an_import_goes_unseen(line):
    assert imported(ROOT / "networks" / "made_up.py", line) == {"train"}


def test_the_command_line_waits_for_no_large_library():
    """`copdvae --help` must answer at once."""
    code = "import sys, copdvae.cli; print(*{'torch', 'monai', 'pandas', 'numpy', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
