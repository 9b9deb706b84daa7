"Verifying: each kind of damage by its word, nothing changed, and nothing false while others work."

import errno
import itertools
import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from damage import fill, overwrite
from on_disk import unprivileged

from cjm_media_storage import looking, verifying
from cjm_media_storage.layout import object_path
from cjm_media_storage.looking import LEVELS
from cjm_media_storage.repairing import repair
from cjm_media_storage.storage import (
    ContentStore,
    InvalidHash,
    InvalidNamespace,
    ObjectNotFound,
    StoreUnavailable,
    hash_bytes,
)
from cjm_media_storage.verifying import verify


def kinds(report):
    return [problem.kind for problem in report.problems]


def states(store):
    "Everything that can be known of the files of a store from outside, but for when they were read"
    facts = {}
    for path in store.root.rglob("*"):
        stat = path.lstat()
        if not path.name.endswith("-shm"):
            facts[path] = (stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns)
    return facts


@pytest.mark.parametrize("level", LEVELS)
def test_a_store_in_order(store, level):
    fill(store, 40)
    report = verify(store, level)
    assert (report.ok, report.complete, report.checked, report.skipped, report.unavailable) == (True, True, 40, 0, "")
    assert report.bytes == (sum(each.size for each in store) if level == "hash" else 0)


@pytest.mark.parametrize("damage", [b"A POSTER", b"", b"a longer poster"])
def test_fault_30_wrong_bytes_are_corrupt(store, damage):
    result = store.put(b"a poster", extension="jpg")
    times = os.stat(result.path)
    overwrite(result.path, damage)
    os.utime(result.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    (problem,) = verify(store).problems
    assert (problem.kind, problem.hash, problem.namespace, problem.size) == ("corrupt", result.hash, "assets", 8)
    assert problem.path == result.path.relative_to(store.root).as_posix()
    assert hash_bytes(damage) in problem.detail
    assert kinds(verify(store, "size")) == (["corrupt"] if len(damage) != 8 else [])
    assert verify(store, "presence").ok


def test_fault_31_what_is_no_file_is_a_corrupt_layout_and_the_run_goes_on(store, tmp_path):
    results = fill(store, 5)
    folder, link, pipe, above = (result.path for result in results[:4])
    for path in (folder, link, pipe):
        path.unlink()
    folder.mkdir()
    (tmp_path / "copy").write_bytes(b"object 1")
    link.symlink_to(tmp_path / "copy")  # with the right bytes
    os.mkfifo(pipe)
    shutil.rmtree(above.parent)
    above.parent.write_bytes(b"")
    for level in LEVELS:
        report = verify(store, level)
        details = {problem.path: problem.detail for problem in report.problems if problem.kind == "corrupt"}
        shard = above.parent.relative_to(store.root).as_posix()
        words = ["a folder", "a link", "a device or pipe", f"a file at {shard}"]
        assert sorted(details.values()) == sorted(f"corrupt layout: {each}" for each in words)
        assert (report.checked, report.complete) == (5, True)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_folder_that_is_a_link_is_told_and_not_followed(store, tmp_path, level):
    path = store.put(b"a poster").path
    place = path.parents[level - 1]
    place.rename(tmp_path / "outside")
    place.symlink_to(tmp_path / "outside")
    for each in LEVELS:
        report = verify(store, each, hashes=[hash_bytes(b"a poster")])
        assert kinds(report) == ["corrupt"] and "a link at" in report.problems[0].detail
        assert set(kinds(verify(store, each))) == {"corrupt"}


def test_fault_38_who_publishes_a_corrupt_object_is_named(store, tmp_path):
    result = store.put(b"a poster", extension="jpg")
    (object_id,) = store._index.database.fetch("SELECT id FROM objects")[0]
    for name in (b"caf\xe9.jpg", b"poster.jpg"):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.link(result.path, path)
        store._index.database.execute(
            "INSERT INTO publications (object_id, path, link_mode, created_at) VALUES (?, ?, 'hardlink', 0)",
            (object_id, path if b"\xe9" in name else path.decode()),
        )
    overwrite(tmp_path / "poster.jpg", b"A POSTER")
    report = verify(store)
    assert kinds(report) == ["corrupt"]
    for name in ("poster.jpg", os.fsdecode(b"caf\xe9.jpg")):
        assert f"published at {tmp_path / name}" in report.problems[0].detail
    str(report).encode()


@pytest.mark.parametrize("loss", ["moved", "unmounted", "replaced"])
def test_fault_42_a_store_that_goes_away_in_the_middle_has_no_missing_objects(tmp_path, loss):
    place = tmp_path / "disk"
    place.mkdir()
    if loss == "unmounted":
        mount = ["mount", "-t", "tmpfs", "tmpfs", place]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("mounting needs root")
    with ContentStore(place / "store") as store:
        fill(store, 800)

        def lose(checked, read):
            if not place.exists() or not (place / "store" / "assets").exists():
                return
            if loss == "unmounted":
                subprocess.run(["umount", "--lazy", place], check=True)
            else:
                place.rename(tmp_path / "elsewhere")
            if loss == "replaced":
                ContentStore(place / "store").close()

        report = verify(store, threads=1, progress=lose, record=True)
        assert 0 < report.checked < 800
        assert (report.problems, report.ok, report.complete) == ((), False, False)
        assert report.unavailable in str(report) and str(store.root) in report.unavailable


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT])
def test_fault_42_errors_of_a_network_disk_stop_the_run(store, monkeypatch, number):
    fill(store, 200)
    really, count = looking.open_regular, []

    def lost(path):
        count.append(path)
        if len(count) > 50:
            raise OSError(number, os.strerror(number), path)
        return really(path)

    monkeypatch.setattr(looking, "open_regular", lost)
    report = verify(store, threads=1)
    assert (report.problems, report.complete) == ((), False)
    assert os.strerror(number) in report.unavailable
    monkeypatch.undo()
    assert verify(store).ok


def test_fault_43_what_may_not_be_read_is_unreadable(open_folder):
    with ContentStore(open_folder / "store", folder_mode=0o777, object_mode=0o444) as store:
        results = fill(store, 10)
        results[0].path.chmod(0)
        results[1].path.parent.chmod(0)
        with unprivileged():
            report = verify(store)
            presence = verify(store, "presence")
        results[1].path.parent.chmod(0o777)
        results[0].path.chmod(0o444)
    assert report.counts == {"unreadable": 3}  # the file, the one in the folder, and the folder
    assert presence.counts == {"unreadable": 2}
    assert report.complete and report.checked == 10


def test_fault_45_an_older_index_leaves_untracked_and_a_newer_one_missing_objects(store):
    old = store.put(b"old")
    backup = store.root / ".store" / "index.old"
    store.close()
    shutil.copy(store.root / ".store" / "index.db", backup)
    with ContentStore(store.root) as again:
        new = again.put(b"new")
    newer = shutil.copy(store.root / ".store" / "index.db", store.root / ".store" / "index.new")
    shutil.copy(backup, store.root / ".store" / "index.db")
    with ContentStore(store.root) as older:
        (problem,) = verify(older).problems
        assert (problem.kind, problem.hash) == ("untracked", new.hash)
    shutil.copy(newer, store.root / ".store" / "index.db")
    new.path.unlink()
    with ContentStore(store.root) as ahead:
        (problem,) = verify(ahead).problems
        assert (problem.kind, problem.hash) == ("missing", new.hash)
        assert {each.hash for each in ahead} == {old.hash, new.hash}


def test_fault_56_a_size_that_the_index_has_wrong_is_decided_by_the_bytes(store):
    store.put(b"a poster")
    store._index.database.execute("UPDATE objects SET size = 7")
    report = verify(store, "size")
    assert report.ok and report.bytes == 8
    assert verify(store).ok


@pytest.mark.parametrize("level", LEVELS)
def test_verifying_changes_nothing(store, level):
    results = fill(store, 10)
    overwrite(results[0].path, b"x")
    results[1].path.unlink()
    store._index.database.execute("DELETE FROM objects WHERE digest = ?", (results[2].hash[7:],))
    (store.root / "assets" / ".DS_Store").write_bytes(b"x")
    before, rows = states(store), store._index.database.fetch("SELECT * FROM objects")
    assert not verify(store, level).ok
    assert states(store) == before
    assert store._index.database.fetch("SELECT * FROM objects") == rows


def test_only_what_was_found_right_is_marked(store):
    results = fill(store, 10)
    overwrite(results[0].path, b"x")
    results[1].path.unlink()
    for level in ("presence", "size"):
        verify(store, level, record=True)
    assert store._index.database.fetch("SELECT count(*) FROM objects WHERE checked_at > 0") == [(0,)]
    report = verify(store, record=True)
    marked = store._index.database.fetch("SELECT digest FROM objects WHERE checked_at = ?", (report.started_at,))
    assert {digest for (digest,) in marked} == {result.hash[7:] for result in results[2:]}


@pytest.mark.parametrize("budget", [{"bytes": 1}, {"seconds": 0.5}])
def test_a_budget_goes_to_what_was_verified_longest_ago(store, monkeypatch, budget):
    fill(store, 100)
    really = verifying.tasks_of
    monkeypatch.setattr(verifying, "tasks_of", lambda entries, **options: really(entries, count=30))
    counts, unchecked = [], []
    for night in range(4):
        clock = itertools.chain([0.0, 0.0], itertools.repeat(1.0))  # it begins, begins one piece of work, and is late
        times = {"time": lambda night=night: 1000.0 + night, "monotonic": lambda clock=clock: next(clock)}
        monkeypatch.setattr(verifying, "time", SimpleNamespace(**times))
        counts.append(verify(store, record=True, threads=1, **budget).checked)
        unchecked += store._index.database.fetch("SELECT count(*) FROM objects WHERE checked_at = 0")[0]
    assert counts == [30] * 4
    assert unchecked == [70, 40, 10, 0]
    marks = store._index.database.fetch("SELECT checked_at, count(*) FROM objects GROUP BY 1 ORDER BY 1")
    assert marks == [(1000.0, 10), (1001.0, 30), (1002.0, 30), (1003.0, 30)]


def test_the_time_of_a_check_may_lie_in_the_future(store):
    fill(store, 10)
    store._index.database.execute("UPDATE objects SET checked_at = 1e12 WHERE id > 5")
    assert verify(store, record=True).checked == 10
    assert store._index.database.fetch("SELECT count(*) FROM objects WHERE checked_at >= 1e12") == [(0,)]


def test_each_object_is_looked_at_once_though_it_is_marked_meanwhile(store, monkeypatch):
    monkeypatch.setattr(verifying, "PAGE", 3)
    fill(store, 50)
    assert [verify(store, record=True, threads=1).checked for _ in range(3)] == [50] * 3


def test_a_namespace_a_prefix_and_hashes_narrow_the_scope(store):
    results = fill(store, 30)
    actor = store.put(b"object 1", namespace="actors")
    assert verify(store, namespace="actors").checked == 1
    assert verify(store, hashes=[actor.hash]).checked == 2
    assert verify(store, hashes=[actor.hash], namespace="actors").checked == 1
    assert verify(store, hashes=[]).checked == 0
    for length in (1, 5, 64):
        prefix = results[3].hash[: 7 + length]
        assert verify(store, prefix=prefix).checked == sum(each.hash.startswith(prefix) for each in store)


def test_bad_arguments_are_refused(store):
    for options, error in [
        ({"level": "all"}, ValueError),
        ({"prefix": "AB"}, InvalidHash),
        ({"prefix": ""}, InvalidHash),
        ({"namespace": ".."}, InvalidNamespace),
        ({"namespace": ""}, InvalidNamespace),
        ({"hashes": ["x"]}, InvalidHash),
        ({"hashes": [hash_bytes(b"never stored")]}, ObjectNotFound),
    ]:
        with pytest.raises(error):
            verify(store, **options)


def test_progress_is_told_and_may_stop_the_run(store):
    fill(store, 100)
    told = []
    verify(store, threads=1, progress=lambda *args: told.append(args))
    assert told[-1] == (100, sum(each.size for each in store)) and told == sorted(told)

    def stop(checked, read):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(store, threads=1, record=True, progress=stop)
    (marked,) = store._index.database.fetch("SELECT count(*) FROM objects WHERE checked_at > 0")[0]
    assert marked == verifying.TASK_ITEMS


WORKING = """
import contextlib, sys
from cjm_media_storage.storage import ContentStore, ObjectNotFound
store = ContentStore(sys.argv[1])
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    content = b"content %d" % (number % 7)
    result = store.put(content, namespace=sys.argv[3])
    assert store.read(result.hash, verify=True) == content
    if number % 3:
        store.delete(result.hash, namespace=sys.argv[3])
        if number % 3 == 2:
            with contextlib.suppress(ObjectNotFound):  # the other one purged it
                store.trash.restore(result.hash)
        elif number % 12 == 1:
            store.trash.purge(everything=True)
store.close()
"""


def test_what_others_put_delete_restore_and_purge_meanwhile_is_no_problem(store, program):
    fill(store, 20)
    others = [program.start(WORKING, store.root, 150, name) for name in ("assets", "actors")]
    assert [other.stdout.readline() for other in others] == ["ready\n"] * 2
    runs = 0
    while any(other.poll() is None for other in others):
        report = verify(store, LEVELS[runs % 3], record=True)
        assert report.problems == (), report
        runs += 1
    for other in others:
        program.end(other)
    assert runs > 3 and verify(store).ok


def test_the_store_must_be_there(store):
    store.root.rename(store.root.with_name("elsewhere"))
    assert StoreUnavailable(str(store.root)).args[0] in verify(store).unavailable
    store.root.with_name("elsewhere").rename(store.root)


def test_fault_41_a_store_that_cannot_be_written_to_is_verified(place):
    with ContentStore(place.path / "store") as store:
        results = fill(store, 5)
        overwrite(results[0].path, b"x")
        results[1].path.unlink()
        (store.root / object_path("assets", hash_bytes(b"lost")[7:], "")).parent.mkdir(parents=True)
        (store.root / object_path("assets", hash_bytes(b"lost")[7:], "")).write_bytes(b"lost")
    with place.read_only(), ContentStore(place.path / "store") as store:
        assert verify(store).counts == {"missing": 1, "corrupt": 1, "untracked": 1}
        assert [action.how for action in repair(store).plan] == ["quarantine", "leave", "adopt"]
