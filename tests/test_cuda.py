"""Training on a GPU, where there is one: the same promises as on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import NAMES, made_cohort, run_config

from copdvae.encode import encode
from copdvae.errors import Stopped
from copdvae.objectives import embedding
from copdvae.train import train_run, use_bf16

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
ARTEFACTS = ("weights.safetensors", "checkpoint.safetensors", "log.csv")
TOGETHER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from copdvae import processes
from copdvae.train import train_run
from tiny import made_cohort, run_config

with processes.together():
    train_run(made_cohort(), run_config("pairwise", steps=6, device="auto"), Path(sys.argv[1]), print)
"""


@pytest.fixture(autouse=True)
def hasty_embedding(monkeypatch):
    monkeypatch.setattr(embedding, "STEPS", 10)


def silent(line):
    pass


def contents(folder):
    return {name: (folder / name).read_bytes() for name in ARTEFACTS}


@pytest.mark.parametrize("bf16", ["on", "off"])
@pytest.mark.parametrize("method", NAMES)
def test_stopping_and_resuming_on_a_gpu_gives_the_same_bytes(tmp_path, method, bf16):
    cohort, config = made_cohort(), run_config(method, steps=6, device="cuda", bf16=bf16)
    whole = train_run(cohort, config, tmp_path / "whole", silent)
    asked = iter([False] * 2 + [True] * 1000)
    with pytest.raises(Stopped):
        train_run(cohort, config, tmp_path / "parts", silent, lambda: next(asked))
    assert contents(train_run(cohort, config, tmp_path / "parts", silent)) == contents(whole)


def test_a_gpu_is_chosen_and_bf16_with_it_where_it_has_it(tmp_path):
    folder = train_run(made_cohort(), run_config("vae", device="auto"), tmp_path, silent)
    assert json.loads((folder / "run.json").read_text())["device"] == torch.cuda.get_device_name()
    assert use_bf16("auto", "cuda") == torch.cuda.is_bf16_supported()


@pytest.mark.parametrize("method", ["vae", "beta_vae", "pairwise"])
def test_a_gpu_without_bf16_does_what_the_cpu_does(tmp_path, method):
    """One step from the same weights on the same batch, with noise of its own: terms that hold none agree, where no step goes before."""
    logs = {}
    for device in ("cpu", "cuda"):
        folder = train_run(made_cohort(), run_config(method, steps=1, device=device, bf16="off"), tmp_path / device, silent)
        logs[device] = json.loads((folder / "run.json").read_text())["last_log"]
    assert set(logs["cpu"]) == set(logs["cuda"])
    for name in ("kl", "kl_u", "kl_v"):
        if name in logs["cpu"]:
            np.testing.assert_allclose(logs["cuda"][name], logs["cpu"][name], rtol=1e-3, atol=1e-5)


def test_latents_encoded_on_a_gpu_are_those_of_the_cpu(tmp_path, monkeypatch):
    cohort = made_cohort()
    folder = train_run(cohort, run_config("vae", device="auto"), tmp_path, silent)
    there = encode(cohort.subjects, folder, cohort.split)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    here = encode(cohort.subjects, folder, cohort.split)
    np.testing.assert_allclose(there.filter(regex="^z_"), here.filter(regex="^z_"), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_one_process_under_torchrun_does_what_one_alone_does(tmp_path):
    (tmp_path / "it.py").write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", str(tmp_path / "it.py")]
    done = subprocess.run(
        [*command, str(tmp_path / "together"), str(Path(__file__).parent)], capture_output=True, text=True, timeout=300, check=False,
        env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    config = run_config("pairwise", steps=6, device="auto")
    facts = json.loads((tmp_path / "together" / config.id / "run.json").read_text())
    assert facts["device"] == torch.cuda.get_device_name()
    assert facts["processes"] == 1
