"""PartedVAE's settings for its three image sets.  Paper D, Table 6; the authors' code for CelebA's classes (the table prints seven numbers)
and the attention's steepness (2e-4 a step, from 1 to 8). A key is a setting of `PartedVAEConfig`; "short" is for runs of a thousand steps.
"""

from typing import Any

STEEPNESS_STEPS = 35_000

PRESETS: dict[str, dict[str, Any]] = {
    "mnist": {
        "values": (10,), "gamma_c": 15, "gamma_h": 30, "gamma_z": 15, "gamma_u": 15, "gamma_bc": 30,
        "capacity_z": 7, "capacity_u": 7, "capacity_steps": 100_000, "overlap": 0.15, "steepness_steps": STEEPNESS_STEPS,
    },
    "dsprites": {
        "values": (3,), "gamma_c": 100, "gamma_h": 10, "gamma_z": 50, "gamma_u": 50, "gamma_bc": 10,
        "capacity_z": 30, "capacity_u": 5, "capacity_steps": 300_000, "overlap": 0.1, "steepness_steps": STEEPNESS_STEPS,
    },
    "celeba": {
        "values": (4, 3, 2, 3, 2, 2, 2, 2), "gamma_c": 2000, "gamma_h": 10, "gamma_z": 1000, "gamma_u": 1000, "gamma_bc": 500,
        "capacity_z": 30, "capacity_u": 15, "capacity_steps": 125_000, "overlap": 0.2, "steepness_steps": STEEPNESS_STEPS,
    },
    "short": {"capacity_steps": 500, "steepness_steps": 500},
}  # fmt: skip


def preset(name: str, labelled: bool) -> dict[str, Any]:
    """A preset's settings; where labels are told, the classes are theirs."""
    chosen = dict(PRESETS[name])
    values = chosen.pop("values", None)
    return chosen if labelled or values is None else chosen | {"labels": None, "values": values}
