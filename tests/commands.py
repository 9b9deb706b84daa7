"The command `media-storage`, run in this process for speed, and in one of its own where that counts"

import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

PROGRAM = [sys.executable, "-W", "error", "-m", "cjm_media_storage.cli"]


@dataclass
class Printed:
    "What a command left"

    code: int
    raw: bytes
    err: str

    @property
    def out(self):
        return self.raw.decode()

    @property
    def lines(self):
        "What it printed as JSON lines"
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def one(self):
        "The one JSON object that it printed"
        (line,) = self.lines
        return line


class Command:
    "Runs commands in this process"

    def __init__(self, monkeypatch, captured):
        self._monkeypatch, self._captured = monkeypatch, captured

    def forget_store(self):
        "From now on no store is named by the environment"
        self._monkeypatch.delenv("MEDIA_STORAGE_STORE")

    def __call__(self, *args):
        from cjm_media_storage.cli import main

        self._captured.readouterr()
        self._monkeypatch.setattr("sys.argv", ["media-storage", *map(os.fspath, map(str, args))])
        with pytest.raises(SystemExit) as ended:
            main()
        sys.stdout.flush()
        out, err = self._captured.readouterr()
        return Printed(ended.value.code or 0, out, err.decode())


def run(*args, **options):
    "Run a command in a process of its own"
    done = subprocess.run([*PROGRAM, *map(os.fsencode, args)], capture_output=True, timeout=60, **options)
    assert b"Traceback" not in done.stderr
    return Printed(done.returncode, done.stdout, done.stderr.decode())
