"""What is left in stores of others, and in ours, after the power was cut: `sudo .venv/bin/python tests/power_table.py`
measures it, and writes POWER.md, which README.md shows."""

import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from peers import SIZE, TOOLS
from power_cuts import KINDS, CannotMount, powered

COUNT = 40  # Objects of each tool
TIMEOUT = 60  # Seconds for a program
PROGRAM, PAGE = Path(__file__).with_name("peers.py"), Path(__file__).with_name("POWER.md")


@dataclass(frozen=True)
class Count:
    "Of the objects that a tool acknowledged before the power was cut, how many are right afterwards"

    acknowledged: int
    right: int


class DidNotRun(Exception):
    "A tool could not be tried, and why"


@contextmanager
def running(what, name, disk, *rest):
    "A program of peers.py, and the file of its complaints"
    command = [sys.executable, PROGRAM, what, name, disk.folder, *map(str, rest)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stderr=errors, text=True, **pipes) as program,
    ):
        try:
            yield program, errors
        finally:
            program.kill()


def why(errors):
    "The last line of a program's complaints"
    errors.seek(0)
    return (errors.read().strip().splitlines() or ["it said nothing"])[-1][:200]


def fill_until_the_power_is_cut(name, disk):
    "Keys that were acknowledged"
    with running("fill", name, disk, COUNT) as (program, errors):
        keys = program.stdout.readline().split()
        disk.cut_power()
        if not keys:
            program.wait(TIMEOUT)
            raise DidNotRun(why(errors))
    disk.mount_again()
    return keys


def count_right(name, disk, keys):
    "Keys whose bytes are right"
    with running("read", name, disk) as (program, errors):
        answers = program.communicate(" ".join(keys), timeout=TIMEOUT)[0].split()
        if len(answers) != len(keys):
            raise DidNotRun(f"while reading: {why(errors)}")
    return answers.count("1")


def cut_power_on(name, kind, folder):
    "Try a tool on a file system of its own"
    try:
        TOOLS[name].version()
        with powered(kind, folder) as disk:
            keys = fill_until_the_power_is_cut(name, disk)
            return Count(len(keys), count_right(name, disk, keys))
    except PackageNotFoundError as e:
        raise DidNotRun(f"{e.name} is not installed") from e


def cells(name, kind):
    "What a row says of one file system"
    with tempfile.TemporaryDirectory() as folder:
        try:
            count = cut_power_on(name, kind, Path(folder))
        except (CannotMount, DidNotRun) as e:
            return [f"did not run: {e}", "", ""]
    return [str(count.acknowledged), str(count.right), str(count.acknowledged - count.right)]


def row(name):
    "A line of the table"
    try:
        version = TOOLS[name].version()
    except PackageNotFoundError:
        version = ""
    return [name, version, *(cell for kind in KINDS for cell in cells(name, kind))]


def head():
    "What the columns are"
    counts = ("acknowledged", "right", "lost or wrong")
    return ["tool", "version", *(f"{kind}: {count}" for kind in KINDS for count in counts)]


def table():
    "All tools, in Markdown"
    rule = ["---"] * 2 + ["---:"] * (len(head()) - 2)
    return "".join(f"| {' | '.join(line)} |\n" for line in [head(), rule, *map(row, TOOLS)])


def machine():
    "What it was measured on"
    virtual = "hypervisor" in Path("/proc/cpuinfo").read_text()
    kernel = platform.release().partition("-")[0]
    return (
        f"{'virtual machine' if virtual else 'machine'} with {os.cpu_count()} cores ({platform.machine()}), "
        f"{platform.system()} {kernel}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def page():
    "The table, and when and where it was measured"
    today = datetime.now(UTC).date()
    return f"{table()}\n{COUNT} objects of {SIZE // 1000} kB a tool; {today}, on a {machine()}.\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE.read_text(), end="")
