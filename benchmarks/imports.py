"What a program waits for before its first line"

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Prepare, Steps, Target, Work
from benchmarks.material import Material
from cjm_media_storage.storage import ContentStore


def _compiled(folder: Path) -> dict[str, str]:
    "An environment in which compiled files are kept in `folder`"
    return {**os.environ, "PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}


def _import(modules: str, times: int) -> Prepare:
    "Import in fresh processes, less the start of Python"
    code = f"import time; began = time.perf_counter()\n{modules}\nprint(time.perf_counter() - began)"
    command = [sys.executable, "-c", code]

    def prepare(folder: Path) -> Steps:
        environment = _compiled(folder)

        def seconds() -> float:
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            return float(run.stdout)

        seconds()  # which compiles
        yield lambda: sum(seconds() for _ in range(times))

    return prepare


def _run(*command: str, times: int) -> Prepare:
    "Start a program, and wait for its end; beside an empty store"

    def prepare(folder: Path) -> Steps:
        environment, store = _compiled(folder / "compiled"), folder / "store"
        ContentStore(store).close()

        def runs(count: int) -> None:
            for _ in range(count):
                subprocess.run([sys.executable, *command], cwd=store, env=environment, capture_output=True, check=True)

        runs(1)  # which compiles
        yield lambda: runs(times)

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
    command = ("-c", "from cjm_media_storage.cli import main; main()")
    for name in ("--version", "ls"):
        contenders = {
            "ours": _run(*command, name, times=times),
            "python -c pass": _run("-c", "pass", times=times),
            "python -c 'import typer'": _run("-c", "import typer", times=times),
        }
        note = "a fresh process, warm; the store is empty"
        yield Work(f"media-storage {name}", "starts", times, contenders, note=note)
