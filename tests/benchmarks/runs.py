"""What finished runs say of themselves, for the files that keep a measurement."""

import json
from pathlib import Path

KEPT = (
    "id", "label", "seed", "grid", "subjects", "pairs", "parameters", "best", "collapse", "seconds", "seconds_a_step", "data_share",
    "device", "torch", "python", "version", "config",
)  # fmt: skip


def facts_of_runs(folders: list[Path]) -> list[dict]:
    """The kept part of each run.json; no test score is in it."""
    return [{key: facts.get(key) for key in KEPT} for facts in (json.loads((folder / "run.json").read_text()) for folder in folders)]
