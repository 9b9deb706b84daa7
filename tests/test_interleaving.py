"""Pairs of operations that may race, with one of them stopped at every point in turn while the other does all of its
own. What both say, and what is there then, is as if one had come after the other (races.py has the few exceptions).

`--hypothesis-profile=long` tries all pairs of operations, at every statement and opened file, too, and with a kill."""

import json
import shutil
import tempfile
from itertools import product
from pathlib import Path

import pytest
import races
import result_races
from programs import Program

pytestmark = pytest.mark.slow

SERVER = "import sys\nfrom interleaving import serve\nserve(sys.argv[1])"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "A process that forks those which race, warm, and without threads"
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path_factory.mktemp("races")))
    program = Program(tmp_path_factory.mktemp("programs"))
    process = program.start(SERVER, folder)
    yield process
    program.end(process)
    shutil.rmtree(folder)


@pytest.fixture
def race(server):
    "Race two operations, and give the points where the first was stopped"

    def run(before, first, second, stage="races", **options):
        asked = {"stage": stage, "before": before, "first": first, "second": second, **options}
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        told = json.loads(server.stdout.readline())
        assert told["wrong"] == [], f"{len(told['wrong'])} of {len(told['points'])} are wrong"
        return told["points"]

    return run


MARKED, CONDEMNED, LINKED = "after the commit of UPDATE objects SET", "before the commit of INSERT INTO trash", "link"


def has(points, *wanted):
    "Was it stopped at each of these?"
    return all(any(point.startswith(each) for point in points) for each in wanted)


# ---- garbage collection


@pytest.mark.parametrize("second", ["put", "put_many", "refer", "pin"])
def test_fault_26_gc_after_its_mark_and_somebody_who_wants_the_object(race, second):
    assert has(race("live", "collect", second), MARKED, CONDEMNED, "rename an object to the trash")


def test_fault_26_gc_and_a_restore(race):
    assert race("trashed", "collect", "restore")
    assert has(race("trashed", "restore", "collect"), "link the trash to an object", "unlink the trash")


@pytest.mark.parametrize("first", ["put", "refer"])
def test_fault_26_somebody_who_wants_a_condemned_object_and_gc(race, first):
    assert has(race("condemned", first, "collect"), "before the commit")


# ---- ingest


@pytest.mark.parametrize(("before", "second"), [("new", "collect"), ("trashed", "purge"), ("new", "rebuild")])
def test_fault_26_put_before_its_link_and_whoever_clears_up(race, before, second):
    assert has(race(before, "put", second), "rename_new staging to an object", "before the commit of")


@pytest.mark.parametrize("before", ["new", "untracked"])
def test_fault_24_put_before_its_link_and_the_same_put(race, before):
    points = race(before, "put", "put")
    assert has(points, "create staging", "rename_new staging to an object", "before the commit of")
    assert not has(points, "unlink staging")  # it has no staged name any more


def test_fault_26_put_and_a_delete(race):
    assert race("live", "put", "delete")
    assert has(race("live", "delete", "put"), CONDEMNED, "rename an object to the trash", "after a lock was let go")


# ---- the trash


@pytest.mark.parametrize("second", ["put", "restore", "refer"])
def test_fault_27_purge_before_its_unlink_and_somebody_who_wants_the_object(race, second):
    assert has(race("trashed", "purge", second), "unlink the trash", "after the commit of DELETE FROM")


@pytest.mark.parametrize("second", ["refer", "restore", "pin", "publish"])
def test_fault_27_delete_between_its_mark_and_its_rename(race, second):
    assert has(race("live", "delete", second), CONDEMNED, "rename an object to the trash")


@pytest.mark.parametrize("second", ["put", "delete"])
def test_restore_before_its_link(race, second):
    assert has(race("trashed", "restore", second), "link the trash to an object", "before the commit")


def test_what_a_purge_of_all_overtakes_is_still_told(race):
    assert has(race("live, and a person's file", "overwrite", "purge"), "rename a publication to the trash")


def test_fault_27_whoever_reads_what_is_being_deleted_is_told_so(race):
    "At every statement: a file that is gone since the index was asked is no damage"
    assert has(race("live", "read", "delete", fine=True), "open an object", "while it is read")
    assert has(race("live", "read_all", "delete", fine=True), "open_without_links an object")
    assert race("live", "publish", "delete")


def test_fault_29_a_reader_is_not_disturbed(race):
    assert has(race("trashed", "read", "restore", fine=True), "SELECT")
    assert has(race("live", "pin", "delete"), "create a pin", "while it is pinned")


# ---- publications


@pytest.mark.parametrize("second", ["delete", "collect", "unpublish", "sync"])
def test_publish_before_its_rename(race, second):
    assert has(race("published" if second == "unpublish" else "live", "publish", second), "before the commit")


# ---- maintenance and the cache


def test_fault_44_rebuild_and_a_put(race):
    assert has(race("new", "rebuild", "put"), "link the index to the index", "unlink the index")


@pytest.mark.parametrize("first", ["put_many", "delete"])
def test_fault_44_whoever_goes_on_and_a_rebuild(race, first):
    assert has(race("live", first, "rebuild"), "before the commit")


def test_a_put_and_a_move(race):
    assert has(race("new", "put", "move"), "rename_new staging to an object")


def test_a_purge_and_a_move(race):
    "What was purged is told, although the store is elsewhere by then"
    assert has(race("trashed", "purge", "move"), "unlink the trash", "after a lock was let go")


def test_fault_28_two_maintain(race):
    assert race("damaged", "collect", "heal")


def test_an_eviction_and_somebody_who_needs_the_object(race):
    assert has(race("live", "evict", "refer"), "unlink the trash")


# ---- results


@pytest.mark.parametrize("kind", ["analysis", "processing"])
@pytest.mark.parametrize(
    ("first", "second"), [("save", "replace"), ("save", "delete"), ("delete", "save"), ("save_many", "newest")]
)
def test_fault_60_two_who_write_results(race, kind, first, second):
    alone = (kind, first) == ("analysis", "save")  # one statement, which SQLite begins and commits by itself
    steps = ["after INSERT INTO analysis_jobs"] if alone else ["BEGIN IMMEDIATE", "after the commit of"]
    assert has(race(kind, first, second, stage="result_races"), *steps)


@pytest.mark.parametrize("kind", ["analysis", "processing"])
def test_a_walk_through_results_and_who_writes_them(race, kind):
    assert race(kind, "walk", "save_many", stage="result_races", fine=True)


@pytest.mark.parametrize("second", ["migrate", "save", "first_writes", "last_writes"])
def test_fault_61_a_file_of_an_older_program_is_brought_up_to_date_while_others_write(race, second):
    assert race("processing old", "migrate", second, stage="result_races")
    assert race("processing old", second, "migrate", stage="result_races") or second == "save"


# ---- all of it


LONG = {
    "races": (races.OPERATIONS, races.BEFORE),
    "result_races": (result_races.OPERATIONS, ["analysis", "processing", "analysis old", "processing old"]),
}


def all_pairs():
    "Each beginning and first operation, of the store and of the results"
    return [(stage, *each) for stage, (operations, befores) in LONG.items() for each in product(befores, operations)]


def pytest_generate_tests(metafunc):
    if "beginning" in metafunc.fixturenames:
        long = metafunc.config.getoption("hypothesis_profile") == "long"
        metafunc.parametrize("beginning", all_pairs() if long else [], ids=lambda each: ", ".join(each))


@pytest.mark.parametrize("fine", [False, True], ids=["plain", "fine"])
def test_every_pair(race, beginning, fine):
    stage, before, first = beginning
    for second in LONG[stage][0]:
        race(before, first, second, stage=stage, fine=fine)


@pytest.mark.parametrize(
    ("before", "first", "second"),
    [("trashed", "put", "purge"), ("live", "delete", "put"), ("trashed", "restore", "put")],
)
def test_fault_21_killed_while_another_works(race, before, first, second):
    "What the other was told stays true, and what was killed is done or not"
    assert race(before, first, second, killed=True)


def test_every_pair_of_which_one_is_killed(race, beginning):
    stage, before, first = beginning
    for second in LONG[stage][0] if first in races.KILLED else ():
        race(before, first, second, stage=stage, killed=True)
