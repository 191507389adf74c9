"""Two processes on one machine, as torchrun starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import made_cohort, run_config
from torch import nn

from copdvae import processes
from copdvae.train import train_run

TESTS = Path(__file__).parent
BEGIN = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import torch
from tiny import *
from copdvae import processes
from copdvae.errors import Stopped
from copdvae.train import train_run
"""
GRADIENT = """
network = NETWORK.model_copy(update={"norm": "group"})  # batch statistics are each process's own
torch.distributions.Normal.rsample = lambda q: q.loc

def gradient(batch):
    net, objective = made_pair(METHODS[0](), network)
    objective(net, batch, 0).by_player["model"].backward()
    return [weight.grad for weight in net.parameters()]

with processes.together():
    assert processes.count() == 2
    ours = gradient(made_batch(METHODS[0](), seed=processes.rank()))
    processes.average(ours)
    parts = [made_batch(METHODS[0](), seed=seed) for seed in (0, 1)]
    joint = gradient(Batch(*[torch.cat([getattr(part, name) for part in parts]) for name in ("image", "lung", "present")]))
    for mine, expected in zip(ours, joint):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-3)
    assert processes.anywhere(processes.rank() == 1) and not processes.anywhere(False)
assert processes.count() == 1 and processes.rank() == 0
"""
TRAIN = """
from pathlib import Path
folder, stops = Path(sys.argv[1]), sys.argv[2:]
with processes.together():
    asked = iter(range(1000))
    wish = lambda: processes.rank() == 1 and str(next(asked)) in stops  # one process alone is asked to stop
    try:
        train_run(made_cohort(), run_config(sys.argv[0].split("_")[-1][:-3], steps=6), folder, print, wish)
    except Stopped as stop:
        print(stop)
"""


def torchrun(folder: Path, code: str, *arguments: str, name: str = "it_vae.py") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(BEGIN + code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(folder / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_their_joint_batch(tmp_path):
    torchrun(tmp_path, GRADIENT)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vae", "pairwise"])
def test_a_run_of_two_processes_stops_together_and_goes_on_to_the_same_bytes(tmp_path, method):
    name = f"it_{method}.py"
    lines = torchrun(tmp_path, TRAIN, str(tmp_path / "whole"), name=name)
    assert lines.count("step 5/6") == 1, "one process tells"
    assert torchrun(tmp_path, TRAIN, str(tmp_path / "parts"), "2", name=name).count("stopped at step 3 of 6") == 2
    torchrun(tmp_path, TRAIN, str(tmp_path / "parts"), name=name)
    config = run_config(method, steps=6)
    whole, parts = tmp_path / "whole" / config.id, tmp_path / "parts" / config.id
    for file in ("weights.safetensors", "checkpoint.safetensors", "log.csv"):
        assert (whole / file).read_bytes() == (parts / file).read_bytes()
    assert json.loads((whole / "run.json").read_text())["processes"] == 2
    alone = train_run(made_cohort(), config, tmp_path / "alone", lambda line: None)
    assert (alone / "log.csv").read_bytes() != (whole / "log.csv").read_bytes(), "the second process added nothing"


def test_alone_nothing_is_shared():
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.full((3,), 2.0)
    with processes.together():
        processes.average([weight.grad])
        assert processes.rank() == 0
        assert processes.count() == 1
        assert processes.anywhere(True)
        assert not processes.anywhere(False)
    assert torch.equal(weight.grad, torch.full((3,), 2.0))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes to cores")
def test_only_the_cores_that_a_process_may_use_count():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert processes.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert processes.cores() == len(allowed)
