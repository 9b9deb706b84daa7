"What only the index knows, in a file that outlives it."

import json
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from on_disk import query

from cjm_media_storage import snapshots
from cjm_media_storage.files import Disk
from cjm_media_storage.locks import FileLock
from cjm_media_storage.rebuilding import newest_snapshot
from cjm_media_storage.snapshots import check_snapshot, kept_snapshots, read_snapshot, snapshot
from cjm_media_storage.storage import ContentStore, CorruptDatabase, NoSpace, StoreBusy, UnsupportedFormat, hash_bytes

POSTER = b"a poster"
HASH = hash_bytes(POSTER)
DAY = 86400.0


@pytest.fixture
def filled(store):
    "A store with facts of all kinds, some with paths that are no text"
    store.put(POSTER, extension="jpg", source=os.fsdecode(b"/films/caf\xe9.jpg"), provider="scanner", owner="movie:1")
    store.put(POSTER, namespace="actors", owner='the "first"\nactor')
    store.delete(store.put(b"an old poster").hash, reason="old")
    sql = (
        "INSERT INTO publications (object_id, path, link_mode, created_at, wanted) VALUES (1, ?, 'copy', 1.5, 'a.jpg')"
    )
    store._index.database.execute(sql, (b"/films/\xff.jpg",))
    return store


def age(store, days):
    "Let a store be older"
    then = time.time() - days * DAY
    os.utime(store.root / ".store" / "format.json", (then, then))


def taken(store):
    "Names of the snapshots that a store has taken by itself"
    return [path.name for path in kept_snapshots(store.root / ".store" / "backup")]


# ---- the file


def test_every_line_stands_for_itself_and_comes_back(filled, tmp_path):
    path = snapshot(filled, tmp_path / "snapshot.jsonl")
    first, *lines, last = map(json.loads, path.read_text().splitlines())
    assert (first["store"], first["counts"]) == (filled.id, filled.stats())
    assert last["end"] == len(lines)
    facts = list(read_snapshot(path))
    assert [fact["kind"] for fact in facts] == [line["kind"] for line in lines]
    assert all({"digest", "namespace"} <= fact.keys() and "id" not in fact for fact in facts)
    for kind, column, table in (("source", "location", "sources"), ("publication", "path", "publications")):
        stored = query(filled.root / ".store" / "index.db", f"SELECT {column} FROM {table} ORDER BY id")
        assert [(fact[column],) for fact in facts if fact["kind"] == kind] == stored
    (trashed,) = [fact for fact in facts if fact["kind"] == "trash"]
    assert (trashed["reason"], trashed["retention"], trashed["digest"]) == (
        "old",
        30.0,
        hash_bytes(b"an old poster")[7:],
    )


def test_a_torn_snapshot_is_recognised_wherever_it_was_torn(filled, tmp_path):
    whole = snapshot(filled, tmp_path / "snapshot.jsonl").read_bytes()
    torn = tmp_path / "torn.jsonl"
    lines = whole.splitlines(keepends=True)
    content = whole.rstrip()  # a snapshot that lost its last line feed alone has lost no fact
    torn_at = [whole[:end] for end in range(0, len(content), 40)]
    without_a_line = [b"".join(lines[:n] + lines[n + 1 :]) for n in range(9)]
    damages = [*torn_at, content[:-1], *without_a_line, whole.replace(b"scanner", b"Scanner"), b"\xff\n", b"[]\n{}\n"]
    for damage in damages:
        torn.write_bytes(damage)
        with pytest.raises(CorruptDatabase):
            check_snapshot(torn)


def test_a_snapshot_of_a_later_release_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "VERSION", 2)
    path = snapshot(store, tmp_path / "snapshot.jsonl")
    monkeypatch.setattr(snapshots, "VERSION", 1)
    with pytest.raises(UnsupportedFormat):
        check_snapshot(path)


def test_a_snapshot_shows_one_moment(store, tmp_path):
    class Meanwhile(Disk):
        def create(self, path, *args):
            writer = threading.Thread(target=store.put, args=(b"put meanwhile",))
            writer.start()
            writer.join()
            return super().create(path, *args)

    store.put(POSTER, owner="movie:1")
    with ContentStore(store.root, disk=Meanwhile()) as other:
        path = snapshot(other, tmp_path / "snapshot.jsonl")
    assert (check_snapshot(path)["counts"]["objects"], len(list(read_snapshot(path))), len(store)) == (1, 2, 2)


def test_fault_50_a_snapshot_of_many_rows_needs_little_memory(store, program):
    sql = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        INSERT INTO objects (digest, namespace, extension, size, mtime_ns, created_at)
        SELECT printf('%064x', i), 'assets', 'jpg', i, 0, 0 FROM n"""
    store._index.database.execute(sql)
    more = program(
        """
        import resource, sys
        from cjm_media_storage.snapshots import check_snapshot, read_snapshot, snapshot
        from cjm_media_storage.storage import ContentStore
        with ContentStore(sys.argv[1]) as store:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            path = snapshot(store)
            assert check_snapshot(path)["counts"]["objects"] == sum(1 for _ in read_snapshot(path)) == 100_000
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """,
        store.root,
    )
    assert int(more) < 20_000  # kB


# ---- by itself


def test_the_newest_three_are_kept_and_nothing_else_is_touched(store):
    folder = store.root / ".store" / "backup"
    mine = ["index.jsonl", "index-2020.jsonl", "index.db.v1.20200101T000000Z.backup", "unused-20200101T000000Z.jsonl"]
    folder.mkdir()
    for name in [*mine, *(f"index-2020010{day}T000000Z.jsonl" for day in range(1, 6))]:
        (folder / name).touch()
    (folder / "index-20200101T000000Z.jsonl.12.0123abcd.part").touch()  # of a process that was killed
    (folder / "index-29990101T000000Z.jsonl").touch()  # before the clock was set right
    new = snapshot(store).name
    assert taken(store) == ["index-20200104T000000Z.jsonl", "index-20200105T000000Z.jsonl", new]
    assert sorted(os.listdir(folder)) == sorted([*mine, *taken(store)])


def test_a_young_store_takes_none(tmp_path):
    for number in range(3):
        with ContentStore(tmp_path) as store:
            store.put(b"%d" % number)
    assert taken(store) == []


def test_one_is_taken_with_the_first_change_of_a_day(store):
    age(store, 2)
    store.put(POSTER)
    store.put(b"another")
    store.close()
    assert len(taken(store)) == 1
    with ContentStore(store.root) as again:
        again.put(b"a third")
    assert len(taken(store)) == 1


def test_one_is_taken_at_the_close_of_a_store_that_was_open_for_days(store):
    store.put(POSTER)
    age(store, 2)
    store.close()
    (path,) = kept_snapshots(store.root / ".store" / "backup")
    assert check_snapshot(path)["counts"]["objects"] == 1


def test_an_open_store_looks_again_after_an_hour(store, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("cjm_media_storage.snapshots.time.monotonic", lambda: now[0])
    store.put(POSTER)
    age(store, 2)
    store.put(b"another")
    assert store.parts.snapshots._thread is None
    now[0] += 3601
    store.put(b"a third")
    store.parts.snapshots._thread.join()
    assert len(taken(store)) == 1


def test_who_only_reads_takes_none(store):
    store.put(POSTER)
    with ContentStore(store.root) as reader:
        age(store, 2)
        assert reader.read(HASH) == POSTER
    assert taken(store) == []


def test_a_snapshot_from_the_future_says_nothing(store):
    age(store, 2)
    snapshot(store).rename(store.root / ".store" / "backup" / "index-29990101T000000Z.jsonl")
    store.put(POSTER)
    store.close()
    assert len(taken(store)) == 2


def test_a_snapshot_from_the_future_is_older_than_any_other(store):
    snapshot(store).rename(store.root / ".store" / "backup" / "index-29990101T000000Z.jsonl")
    newest = snapshot(store)
    assert kept_snapshots(newest.parent)[-1] == newest == newest_snapshot(newest.parent)


def test_only_one_process_takes_one(store, caplog):
    age(store, 2)
    with FileLock(store.root / ".store" / "snapshot.lock").exclusive():
        store.put(POSTER)
        store.close()
    assert (taken(store), caplog.records) == ([], [])


def test_who_asks_for_one_waits_for_another_that_is_being_taken(store):
    lock = FileLock(store.root / ".store" / "snapshot.lock")
    with ContentStore(store.root, timeout=0.01) as hasty, lock.exclusive(), pytest.raises(StoreBusy):
        snapshot(hasty)
    with ThreadPoolExecutor() as pool:
        with lock.exclusive():
            waits = pool.submit(snapshot, store)
            with pytest.raises(TimeoutError):
                waits.result(timeout=0.1)
        assert waits.result().exists()


def test_a_failure_is_a_warning(store, caplog):
    class Full(Disk):
        def create(self, path, *args):
            if os.path.basename(path).startswith("index-"):
                raise NoSpace(os.fspath(path))
            return super().create(path, *args)

    age(store, 2)
    with caplog.at_level(logging.WARNING), ContentStore(store.root, disk=Full()) as other:
        assert other.put(POSTER).created
    assert taken(store) == [] and {record.levelname for record in caplog.records} == {"WARNING"}
    assert "no snapshot" in caplog.text
    with ContentStore(store.root) as other:  # once there is room
        other.put(b"another")
    assert len(taken(store)) == 1


def test_a_program_that_never_closes_its_store_has_one(store, program):
    age(store, 2)
    program(
        """
        import sys
        from cjm_media_storage.storage import ContentStore
        store = ContentStore(sys.argv[1])
        store.put(b"a poster")
        """,
        store.root,
    )
    (path,) = kept_snapshots(store.root / ".store" / "backup")
    assert check_snapshot(path)["counts"]["objects"] == 1


def test_a_fork_while_one_is_taken(store, program):
    age(store, 2)
    said = program(
        """
        import os, sys, warnings
        from cjm_media_storage.storage import ContentStore
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside a thread
        store = ContentStore(sys.argv[1])
        store.put(b"a poster")
        child = os.fork()
        store.put(b"%d" % (child == 0))
        if child == 0:
            store.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        store.close()
        print("both")
        """,
        store.root,
    )
    assert (said, len(store)) == ("both", 3)
    assert all(check_snapshot(path) for path in kept_snapshots(store.root / ".store" / "backup"))
