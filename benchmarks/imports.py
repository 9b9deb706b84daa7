"What a program waits for before its first line"

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.harness import Prepare, Target, Work
from benchmarks.hashing import simply
from benchmarks.material import Material


def _import(modules: str, times: int) -> Prepare:
    "Import in fresh processes, less the start of Python"
    code = f"import time; began = time.perf_counter()\nimport {modules}\nprint(time.perf_counter() - began)"

    def seconds() -> float:
        command = [sys.executable, "-c", code]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(times)]
        return sum(float(run.stdout) for run in runs)

    return simply(seconds)


def works(material: Material) -> Iterator[Work]:
    "Compiled files are there"
    times = 1 if material.scale.name == "tiny" else 5
    floor = "the four of the standard library"
    contenders = {
        "ours": _import("cjm_media_storage.storage", times),
        floor: _import("sqlite3, json, hashlib, dataclasses", times),
    }
    yield Work("import", "imports", times, contenders, [Target(floor, 1 / 1.3)], "in a fresh process, warm")
