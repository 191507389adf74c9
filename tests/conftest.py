"""Shared fixtures. Tests make their own data; those marked `data` look for real files and say so where they skip."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Several workers share the cores: with as many OpenMP threads each as there are cores, they wait for one another, some six times as long.
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if workers > 1:  # before torch is imported, which reads it once
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // workers)))

settings.register_profile("copdvae", deadline=None)  # a slow machine is no failure
settings.load_profile("copdvae")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real CTs and tables, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("COPDVAE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "PROVENANCE.md").is_file():
        pytest.skip(f"no real data at {folder}; set COPDVAE_DATA")
    return folder
