import shutil

import pytest
from fake_study import fake_study


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A whole study's files; not to be changed."""
    return fake_study(tmp_path_factory.mktemp("study") / "out", subjects=160, seeds=2, size=12, bootstrap=20)


@pytest.fixture
def study(whole, tmp_path):
    """A copy of them, to spoil."""
    return shutil.copytree(whole, tmp_path / "out")
