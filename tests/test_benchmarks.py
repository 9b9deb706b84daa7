"The benchmarks run, so that they do not rot. What they measure in a moment says nothing."

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import harness, hashing, scale, telling
from benchmarks.__main__ import GROUPS
from benchmarks.harness import PATIENCE, ROOM, NotHere, Target, Work, as_json, measure, table

pytestmark = pytest.mark.slow

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
    outcome = measure(work, 4, tmp_path)
    turns = {"ours": ["ours", "ours is cleaned up"], "other": ["other", "other is cleaned up"]}
    rounds = [order[at : at + 4] for at in range(0, 16, 4)]
    both = [turns["ours"] + turns["other"], turns["other"] + turns["ours"]]
    assert len(order) == 16 and all(each in rounds for each in both) and all(each in both for each in rounds)
    assert len(outcome.runs["other"].wall) == 4 and outcome.ratio("other") > 0


def test_a_ratio_is_that_of_the_rounds_and_is_compared_with_its_target(tmp_path):
    slow, fast = iter([4.0, 40.0, 6.0]), iter([2.0, 10.0, 3.0])
    contenders = {"ours": hashing.simply(lambda: next(fast)), "other": hashing.simply(lambda: next(slow))}
    outcome = measure(Work("work", "times", 6, contenders, [Target("other", 2.5)]), 3, tmp_path)
    assert (outcome.rate("ours"), outcome.ratio("other")) == (2.0, 2.0)
    assert "ours is x 2.00 of x 2.5: MISSED" in "\n".join(table(outcome))


def test_another_way_of_ours_is_compared_with_the_same_targets(tmp_path):
    walls = {"ours": 4.0, "ours, 4 processes": 1.0, "other": 2.0, "raw": 3.2}
    contenders = {name: hashing.simply(lambda wall=wall: wall) for name, wall in walls.items()}
    work = Work(
        "work", "times", 1, contenders, [Target("other", 0.9), Target("raw", 0.5)], also="ours, 4 processes", bare="raw"
    )
    outcome = measure(work, 1, tmp_path)
    target, of_raw = as_json(outcome)["targets"]
    assert target == {"other": "other", "wanted": 0.9, "measured": 0.5, "also": 2.0, "bare": 0.625}
    assert (of_raw["measured"], of_raw["bare"]) == (0.8, None)
    told = "\n".join(table(outcome))
    assert "of x 0.9: MISSED; ours, 4 processes: x 2.00; raw: x 0.62\n" in told and told.count("; raw: ") == 1
    assert not work.may_rest("ours, 4 processes") and not work.may_rest("raw")


def test_free_memory_is_filled_before_whoever_writes_begins(tmp_path, monkeypatch):
    free = iter([harness.FREE + (3 << 20), harness.FREE, harness.FREE + (1 << 20)])
    monkeypatch.setattr(harness, "_free_memory", lambda: next(free))
    rest, sizes = harness.Rest(tmp_path), []
    contenders = {"ours": hashing.simply(lambda: sizes.append((tmp_path / "zeros").stat().st_size))}
    measure(Work("work", "times", 1, contenders, writes=True), 3, tmp_path, rest)
    assert sizes == [3 << 20, 3 << 20, 4 << 20]
    assert (tmp_path / "zeros").stat().st_blocks == 0


def test_what_is_read_is_in_memory_when_a_run_begins_whoever_filled_it(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(harness, "_read", order.append)
    contenders = {"ours": hashing.simply(lambda: order.append("run"))}
    measure(
        Work("work", "times", 1, contenders, writes=True, reads=["a", "b"]), 1, tmp_path, lambda: order.append("rest")
    )
    assert order == ["rest", "a", "b", "run"]


def test_who_is_not_here_is_named_and_stops_nobody(tmp_path):
    def absent(folder):
        raise NotHere("it is not installed")
        yield

    outcome = measure(Work("work", "times", 1, {"ours": hashing.simply(lambda: None), "peer": absent}), 2, tmp_path)
    assert outcome.ratio("peer") is None
    assert "not here: it is not installed" in "\n".join(table(outcome))


def test_a_large_file_is_emptied_after_its_round_and_all_that_was_written_after_the_work(tmp_path):
    def prepare(folder: Path):
        sizes.append([path.stat().st_size for path in sorted(tmp_path.glob("*/*"))])
        (folder / "small").write_bytes(b"small")
        (folder / "large").write_bytes(bytes(ROOM + 1))
        (folder / "large").chmod(0o444)
        yield lambda: None

    sizes = []
    measure(Work("work", "times", 1, {"ours": prepare}), 2, tmp_path)
    assert sizes == [[], [0, 5]]
    assert [path.stat().st_size for path in tmp_path.glob("*/*")] == [0] * 4


def test_who_takes_long_rests_unless_a_target_needs_every_round(tmp_path):
    slow = hashing.simply(lambda: PATIENCE + 1)
    contenders = {"ours": slow, "aimed at": slow, "shown": slow}
    outcome = measure(Work("work", "times", 1, contenders, [Target("aimed at", 1.0)]), 3, tmp_path)
    assert [len(runs.wall) for runs in outcome.runs.values()] == [3, 3, 1]
    assert outcome.ratio("shown") == 1.0


# ---- growth


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    "All works at two sizes, in this process"
    folder = tmp_path_factory.mktemp("scale")
    (folder / "large.mkv").write_bytes(bytes(3 << 20))
    sizes = [
        (0, 3 << 20, scale.LARGE_FILE),
        (0, 20, scale.STORE + scale.RESULTS),
        (20, 50, scale.STORE + scale.RESULTS),
    ]
    return {
        (work.name, size): scale._do(work.name, scale.Place(folder, before, size))
        for before, size, works in sizes
        for work in works
    }


@pytest.mark.parametrize("name", scale.WORKS)
def test_each_work_counts_what_is_there(grown, name):
    runs = [run for (work, _), run in grown.items() if work == name]
    assert all(run.count > 0 and run.seconds > 0 and run.memory > 1 << 20 for run in runs)
    if scale.WORKS[name].unit in ("object", "row"):
        assert [run.count for run in runs] in ([20, 50], [20, 30])


def test_a_store_grows_in_processes_of_their_own_and_is_gone_at_the_end(tmp_path):
    told = tmp_path / "told.json"
    options = ["list", "--sizes", "5", "9", "--large", "2000000", "--folder", tmp_path, "--json", told]
    command = [sys.executable, "-m", "benchmarks.scale", *options]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120).stdout
    works = {work["name"]: work["runs"] for work in json.loads(told.read_text())["works"]}
    assert [run["count"] for run in works["list"]] == [5, 9] and [run["count"] for run in works["put_many"]] == [5, 4]
    assert all(1 << 20 < run["memory"] < scale.MEMORY for runs in works.values() for run in runs)
    assert all(name in shown for name in works) and "verify, size" not in works
    assert list(tmp_path.iterdir()) == [told]


def measured(size, seconds, memory=0):
    return scale.Measured(size, 1, seconds, seconds, memory)


@pytest.mark.parametrize(
    "last, faults",
    [
        (measured(1_000_000, 1.9), []),
        (measured(1_000_000, 2.1), ["grows by 2.1, which is more than 2.0"]),
        (measured(1_000_000, 1.0, 100_000_001), ["takes more than 100 MB"]),
    ],
)
def test_what_grows_faster_than_a_search_or_takes_much_memory_is_a_fault(last, faults):
    growth = scale.Growth(scale.STORE[0], [measured(10_000, 1.0), last])
    assert growth.faults == faults
    assert ("FAULT" in "".join(scale.table([growth]))) == bool(faults)


# ---- what is told


def shown_on(page):
    "All the Markdown that a notebook has computed"
    cells = json.loads((ROOT / "nbs" / page).read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", []) if "data" in output]
    return "".join("".join(output["data"].get("text/markdown", "")) for output in outputs)


def test_the_pages_and_the_readme_say_what_the_files_say():
    told, growth = telling.results("ratios"), telling.results("scale")
    readme, shown = (ROOT / "README.md").read_text(), shown_on("901_speed.ipynb")
    assert telling.beside_table(telling.results("servers")) in shown
    assert telling.figures(told, growth) in readme
    assert telling.figures(told, growth) in shown and telling.targets_table(told) in shown
    assert telling.machine(told) in shown and telling.machine(growth) in shown


def test_results_carry_what_they_depend_on_and_name_nobody():
    wanted = {"date", "cores", "processor", "system", "file system", "Python", "SQLite"}
    for told in map(telling.results, ("ratios", "scale", "servers")):
        assert wanted <= told["machine"].keys()
        assert not any(name in json.dumps(told) for name in (platform.node(), "/tmp", "/home", "/root"))


def test_a_missed_target_is_told():
    def told(measured, also):
        target = {"other": "floor", "wanted": 0.85, "measured": measured, "also": also, "bare": 0.7}
        return {"works": [{"name": "put_many", "targets": [target]}]}

    assert "| **0.50, missed** |  | 0.70 |" in telling.targets_table(told(0.5, None))
    assert "| **0.50, missed** | 0.90 | 0.70 |" in telling.targets_table(told(0.5, 0.9))
