"What a program waits for before its first line"

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Prepare, Steps, Target, Work
from benchmarks.material import Material


def _import(modules: str, times: int) -> Prepare:
    "Import in fresh processes, less the start of Python"
    code = f"import time; began = time.perf_counter()\n{modules}\nprint(time.perf_counter() - began)"
    command = [sys.executable, "-c", code]

    def prepare(folder: Path) -> Steps:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}

        def seconds() -> float:
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            return float(run.stdout)

        seconds()  # which compiles
        yield lambda: sum(seconds() for _ in range(times))

    return prepare


def works(material: Material) -> Iterator[Work]:
    "Compiled files are there"
    times = 1 if material.scale.name == "tiny" else 5
    floor = "the four of the standard library"
    names = {
        "import": "import cjm_media_storage.storage",
        "import of a result storage": "from cjm_media_storage.storage import MediaAnalysisStorage",
        "import of the store": "from cjm_media_storage.storage import ContentStore",
    }
    for name, code in names.items():
        contenders = {
            "ours": _import(code, times),
            floor: _import("import sqlite3, json, hashlib, dataclasses", times),
        }
        yield Work(name, "imports", times, contenders, [Target(floor, 1 / 1.3)], "in a fresh process, warm")
