"""What the command line adds to the functions that it calls."""

import sys

import pytest
from typer.testing import CliRunner

from copdvae import report as package
from copdvae.cli import app
from copdvae.study import packaged_config


def called(*words: str):
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(("words", "hidden"), [((), 0), (("--small-cells", "10"), 10)])
def test_the_report_hides_as_many_as_it_is_told(monkeypatch, tmp_path, words, hidden):
    asked = []
    monkeypatch.setattr(sys.modules[package.__name__], "report", lambda out, small_cells: asked.append((out, small_cells)) or out)
    done = called("report", str(packaged_config("demo.yaml")), "--root", str(tmp_path), *words)
    assert done.exit_code == 0, done.output
    assert asked == [(tmp_path, hidden)]


def test_a_report_can_hide_no_negative_number():
    assert called("report", str(packaged_config("demo.yaml")), "--small-cells", "-1").exit_code == 2
