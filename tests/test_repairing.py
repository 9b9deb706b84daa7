"Repairing: every kind of damage healed from whatever has the bytes, and no byte thrown away."

import os
import threading

import pytest
from damage import damage, hows, lose_rows, quarantined, repaired
from on_disk import tree, unprivileged

from cjm_media_storage.repairing import repair
from cjm_media_storage.storage import ContentStore, StoreBusy, StoreUnavailable, hash_bytes
from cjm_media_storage.verifying import verify

POSTER = b"a poster"
HASH = hash_bytes(POSTER)


def test_fault_32_foreign_files_are_never_touched(store):
    shard = store.put(POSTER).path.parent
    for name in (".DS_Store", "Thumbs.db", ".nfs001"):
        (shard / name).write_bytes(b"x")
    (store.root / "lost+found").mkdir()
    done = repaired(store)
    assert hows(done) == ["leave"] * 4 and done.ok
    assert sorted(os.listdir(shard))[:3] == [".DS_Store", ".nfs001", HASH[7:]]


def test_fault_45_what_an_older_index_does_not_know_is_adopted_and_missing_ones_are_kept(store):
    old = store.put(b"old", extension="jpg", owner="movie:1")
    actor = store.put(POSTER, namespace="actors", extension="png")
    new = store.put(b"new", extension="mkv")
    lose_rows(store, actor, new)
    old.path.unlink()
    done = repaired(store)
    assert sorted(hows(done)) == ["adopt", "adopt", "leave"]
    assert store.get(actor.hash).path == actor.path and store.get(new.hash).path == new.path
    assert [reference.hash for reference in store.references(owner="movie:1")] == [old.hash]
    assert verify(store).counts == {"missing": 1}


def test_fault_43_what_may_not_be_read_is_left(open_folder):
    with ContentStore(open_folder / "store", folder_mode=0o777) as store:
        result = store.put(POSTER)
        result.path.chmod(0)
        with unprivileged():
            planned = repair(store)
        result.path.chmod(0o444)
    assert hows(planned) == ["leave"] and planned.found.counts == {"unreadable": 1}


def test_fault_42_nothing_is_repaired_in_a_store_that_is_away(store):
    report = verify(store)
    store.root.rename(store.root.with_name("elsewhere"))
    for options in ({}, {"report": report}, {"dry_run": False}):
        with pytest.raises((StoreUnavailable, OSError)):
            repair(store, **options)
    store.root.with_name("elsewhere").rename(store.root)


def test_fault_28_the_second_repair_is_told_to_wait(store, program):
    other = program.start(
        """
        import sys
        from cjm_media_storage.storage import ContentStore
        with ContentStore(sys.argv[1]) as store, store.parts.maintenance():
            print("held", flush=True)
            sys.stdin.read()
        """,
        store.root,
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(StoreBusy):
        repair(store, dry_run=False)
    assert repair(store).ok
    program.end(other)
    assert repair(store, dry_run=False).ok


def test_fault_56_a_wrong_size_in_the_index_is_no_damage(store):
    store.put(POSTER)
    store._index.database.execute("UPDATE objects SET size = 7")
    assert repaired(store).plan == () and store.read(HASH) == POSTER


def test_a_report_of_yesterday_does_no_harm(store):
    results = [store.put(b"object %d" % number) for number in range(4)]
    damage(results[0].path, b"damaged!")
    results[1].path.unlink()
    results[2].path.rename(store.root / "assets" / results[2].hash[7:])
    lose_rows(store, results[3])
    report = verify(store)
    for number in (0, 1):
        store._putting.heal(b"object %d" % number, store._index.entries(results[number].hash[7:])[0])
    store.put(b"object 3")
    (store.root / "assets" / results[2].hash[7:]).rename(results[2].path)
    before = tree(store), quarantined(store)
    done = repair(store, report=report, dry_run=False)
    assert (tree(store), quarantined(store)) == before
    assert verify(store).ok and len(done.outcomes) == 5


REPAIRING = """
import logging, sys
from cjm_media_storage.repairing import repair
from cjm_media_storage.storage import ContentStore
logging.disable(logging.WARNING)
with ContentStore(sys.argv[1]) as store:
    print("ready", flush=True)
    while sys.stdin.readline().strip():
        report = repair(store, donors=[sys.argv[2]], dry_run=False)
        print(len(report.plan), flush=True)
"""


def test_verify_and_repair_in_two_processes_do_not_disturb_each_other(store, tmp_path, program):
    results = [store.put(b"object %d" % number) for number in range(30)]
    backup = tmp_path / "backup"
    backup.mkdir()
    for number in range(30):
        (backup / str(number)).write_bytes(b"object %d" % number)
    other = program.start(REPAIRING, store.root, backup)
    assert other.stdout.readline() == "ready\n"
    for _ in range(3):
        for result in results[:10]:
            damage(result.path, b"OBJECT 0")
        for result in results[10:20]:
            result.path.unlink()
        damaged = {result.hash for result in results[:20]}
        other.stdin.write("go\n")
        other.stdin.flush()
        planned = threading.Event()
        reader = threading.Thread(target=lambda event=planned: (other.stdout.readline(), event.set()))
        reader.start()
        while not planned.is_set():
            report = verify(store)
            assert {problem.hash for problem in report.problems} <= damaged
            assert set(report.counts) <= {"corrupt", "missing"}
        reader.join()
        assert verify(store).ok
    program.end(other, "\n")
    assert quarantined(store).count(b"OBJECT 0") == 30


KILLED = """
import logging, os, shutil, signal, sys
from pathlib import Path
from recording import Watched
from cjm_media_storage.repairing import repair
from cjm_media_storage.storage import ContentStore
from cjm_media_storage.verifying import verify

logging.disable(logging.WARNING)
damaged, work, backup, expected = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4].split()
contents = {b"object 1", b"object 2", sys.argv[5].encode()}
left = [10**9]

class Deadly(Watched):
    def around(self, name, call, args, options):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)

for count in range(200):
    shutil.copytree(damaged, work)
    if not (child := os.fork()):
        with ContentStore(work, disk=Deadly()) as store:
            left[0] = count
            repair(store, donors=[backup], dry_run=False)
            left[0] = 10**9
        os._exit(0)
    _, status = os.waitpid(child, 0)
    kept = {path.read_bytes() for path in work.rglob("*") if path.is_file() and len(path.name) > 60}
    assert kept >= contents, (count, contents - kept)
    with ContentStore(work) as store:
        assert store.stats()["objects"] >= 2
        repair(store, donors=[backup], dry_run=False)
        assert list(verify(store).counts) == expected, (count, verify(store))
    shutil.rmtree(work)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
print(count)
"""


@pytest.mark.parametrize("step", ["heal", "quarantine", "move"])
def test_a_repair_that_is_killed_at_any_change_of_the_disk_loses_nothing(store, tmp_path, program, step):
    results = [store.put(b"object %d" % number, extension="jpg") for number in range(3)]
    path, backup = results[0].path, tmp_path / "backup"
    backup.mkdir()
    if step == "move":
        lose_rows(store, results[0])
        path.rename(store.root / "assets" / path.name)
    else:
        damage(path, b"OBJECT 0")
    if step == "heal":
        (backup / "copy").write_bytes(b"object 0")
    store.close()
    expected, kept = ("missing" if step == "quarantine" else ""), ("object 0" if step == "move" else "OBJECT 0")
    assert int(program(KILLED, store.root, tmp_path / "work", backup, expected, kept)) > 3


def test_errors_of_one_object_do_not_stop_the_run(store, monkeypatch):
    results = [store.put(b"object %d" % number) for number in range(3)]
    lose_rows(store, *results)
    really = store._putting.adopt

    def adopt(path, *args):
        if path == results[1].path:
            raise OSError(5, "Input/output error")
        return really(path, *args)

    monkeypatch.setattr(store._putting, "adopt", adopt)
    done = repair(store, dry_run=False)
    assert sorted(outcome.state for outcome in done.outcomes) == ["done", "done", "failed"]
    assert "Input/output error" in str(done) and not done.ok
