import shutil

import pytest
from fake_study import fake_study

SOME = ("vae", "supervised", "pairwise", "pairwise-insp")


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A whole study's files; not to be changed."""
    return fake_study(tmp_path_factory.mktemp("study") / "out", subjects=120, seeds=2, size=8, bootstrap=20, methods=SOME)


@pytest.fixture
def study(whole, tmp_path):
    """A copy of them, to spoil."""
    return shutil.copytree(whole, tmp_path / "out")
