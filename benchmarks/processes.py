"Bulk work by other processes, which is what an executor is for: each has an interpreter of its own"

import contextlib
import importlib
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.hashing import THREADS

PROCESSES = 2 * THREADS  # While one waits for the disk, another works
BY_PROCESSES = f"ours, {PROCESSES} processes"
_USED = ("batches", "maintenance", "spreading", "storage")  # Modules, so that their import is not measured


def _ready(_: int) -> int:
    "Import what is needed, and say who did"
    for name in _USED:
        importlib.import_module(f"cjm_media_storage.{name}")
    return os.getpid()


@contextlib.contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    "Twice as many as there are threads elsewhere, all of them started"
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as executor:
        while len(set(executor.map(_ready, range(8 * PROCESSES)))) < PROCESSES:
            pass
        yield executor
