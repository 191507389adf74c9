"""Whether runs on a GPU come out the same twice, and stopped and resumed, with networks of real size: docs/benchmarks/resume_cuda.csv.

python tests/benchmarks/resume_cuda.py

With cuDNN as it is by default, and with `torch.backends.cudnn.deterministic`, which training sets on a GPU; here it is set before each run.
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny import made_cohort, run_config

from copdvae import train as training
from copdvae.errors import Stopped
from copdvae.files import write_csv
from copdvae.networks import NetworkConfig

CASES = [(32, "conv", "pairwise", "on"), (32, "conv", "pairwise", "off"), (48, "resnet", "pairwise", "on"), (64, "conv", "vae", "on")]
STEPS, STOP = 100, 57


def checkpoint(config, cohort, folder: Path, stop_at: int = STEPS + 1) -> dict[str, torch.Tensor]:
    """Everything that a run ends with: weights, buffers, optimizer states."""
    asked = iter([False] * (stop_at - 1) + [True] * STEPS)
    try:
        training.train_run(cohort, config, folder, lambda line: None, lambda: next(asked))
    except Stopped:
        training.train_run(cohort, config, folder, lambda line: None)
    return load_file(folder / config.id / "checkpoint.safetensors")


def main() -> None:
    rows = []
    for size, kind, method, bf16 in CASES:
        cohort = made_cohort(count=60, size=(size,) * 3)
        config = run_config(method, steps=STEPS, batch=16, save_every=40, log_every=20, device="cuda", bf16=bf16)
        config = config.model_copy(update={"network": NetworkConfig(kind=kind)})
        for deterministic in (False, True):
            training.DETERMINISTIC = deterministic
            with tempfile.TemporaryDirectory() as folder:
                whole, again = (checkpoint(config, cohort, Path(folder) / name) for name in ("whole", "again"))
                parts = checkpoint(config, cohort, Path(folder) / "parts", STOP)
            for what, other in (("run twice", again), (f"stopped at {STOP} of {STEPS}, resumed", parts)):
                same = all(torch.equal(whole[key], other[key]) for key in whole)
                settings = {"grid": size, "kind": kind, "method": method, "bf16": bf16, "deterministic": deterministic}
                rows.append(
                    settings | {"what": what, "same_bytes": same, "device": torch.cuda.get_device_name(), "torch": torch.__version__}
                )
    write_csv(Path("docs/benchmarks/resume_cuda.csv"), table := pd.DataFrame(rows))
    print(table.to_string())


if __name__ == "__main__":
    main()
