"""Several processes that train one network together; alone, all of this does nothing.

    torchrun --nproc-per-node 2 -m copdvae.cli train STUDY

Every process takes a batch of its own in each step (so a step sees `batch` images times the number of processes), gradients are averaged,
and the first process alone writes. Batch normalisation sees each process's own batch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


def started_together() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def together() -> Iterator[None]:
    """Join the processes that torchrun started with this one, if it did."""
    if not started_together():
        yield
        return
    if (own := int(os.environ["LOCAL_RANK"])) < torch.cuda.device_count():  # a run on the CPU may have more processes than GPUs
        torch.cuda.set_device(own)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def cores() -> int:
    """The cores that this process may use, which on a shared machine can be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def anywhere(yes: bool) -> bool:
    """Whether any process says yes: the same answer in all of them."""
    if count() == 1:
        return yes
    answer = torch.tensor(int(yes))
    dist.all_reduce(answer, dist.ReduceOp.MAX)
    return bool(answer)


def average(values: list[Tensor]) -> None:
    """Replace values by their means over the processes."""
    for value in values if count() > 1 else []:
        dist.all_reduce(value)
        value /= count()
