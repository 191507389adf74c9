"""Subjects in several processes, each with one thread: one that is killed takes only its own subject with it."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_end

from copdvae.prepare.task import Outcome, Task

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")}


def run_in_processes(tasks: list[Task], workers: int, work: Callable[[Task], Outcome]) -> Iterator[Outcome]:
    """Outcomes as they come. Where a process dies, each subject then in work is tried again alone; one that dies alone too is rejected."""
    todo, suspects = list(reversed(tasks)), []
    while todo or suspects:
        alone = bool(suspects)
        waiting = [suspects.pop()] if alone else todo
        lost: list[Task] = []
        with environment(ONE_THREAD), pool(1 if alone else workers) as executor:
            running: dict[Future[Outcome], Task] = {}
            while (waiting and not lost) or running:
                while waiting and not lost and len(running) < 2 * workers:
                    task = waiting.pop()
                    try:
                        running[executor.submit(work, task)] = task
                    except BrokenProcessPool:
                        lost.append(task)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        lost.append(task)
        if alone and lost:
            yield Outcome(lost[0].key, "rejected", "worker_died", "the process that prepared this subject was killed (out of memory?)")
        else:
            suspects += lost


def pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)


def end_with_parent() -> None:
    """Let this worker end when the process that started it is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait_for_end([parent.sentinel]), os._exit(1)), daemon=True).start()


@contextmanager
def environment(settings: dict[str, str]) -> Iterator[None]:
    """Variables that new processes see."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
