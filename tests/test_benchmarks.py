"The benchmarks run, so that they do not rot. What they measure in a moment says nothing."

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import hashing
from benchmarks.__main__ import GROUPS
from benchmarks.harness import NotHere, Target, Work, measure, table

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_runs_and_tells_of_every_target(group, tmp_path):
    "In a process of its own: some of the others leave descriptors open"
    told = tmp_path / "told.json"
    options = ["--scale", "tiny", "--rounds", "1", "--folder", tmp_path, "--json", told]
    command = [sys.executable, "-m", "benchmarks", group, *options]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120).stdout
    works = json.loads(told.read_text())["works"]
    assert works and all(work["contenders"]["ours"]["wall"][0] > 0 for work in works)
    assert all(work["name"] in shown for work in works)
    assert list(tmp_path.iterdir()) == [told]  # all that was written is gone


def test_contenders_take_turns_in_fresh_folders(tmp_path):
    order = []

    def contender(name):
        def prepare(folder: Path):
            assert not list(folder.iterdir())
            (folder / "written").touch()
            yield lambda: order.append(name)
            order.append(f"{name} is cleaned up")

        return prepare

    work = Work("work", "times", 1, {"ours": contender("ours"), "other": contender("other")})
    outcome = measure(work, 2, tmp_path)
    assert order == ["ours", "ours is cleaned up", "other", "other is cleaned up"] * 2
    assert len(outcome.runs["other"].wall) == 2 and outcome.ratio("other") > 0


def test_a_ratio_is_that_of_the_rounds_and_is_compared_with_its_target(tmp_path):
    slow, fast = iter([4.0, 40.0, 6.0]), iter([2.0, 10.0, 3.0])
    contenders = {"ours": hashing.simply(lambda: next(fast)), "other": hashing.simply(lambda: next(slow))}
    outcome = measure(Work("work", "times", 6, contenders, [Target("other", 2.5)]), 3, tmp_path)
    assert (outcome.rate("ours"), outcome.ratio("other")) == (2.0, 2.0)
    assert "ours is x 2.00 of x 2.5: MISSED" in "\n".join(table(outcome))


def test_who_is_not_here_is_named_and_stops_nobody(tmp_path):
    def absent(folder):
        raise NotHere("it is not installed")
        yield

    outcome = measure(Work("work", "times", 1, {"ours": hashing.simply(lambda: None), "peer": absent}), 2, tmp_path)
    assert outcome.ratio("peer") is None
    assert "not here: it is not installed" in "\n".join(table(outcome))
