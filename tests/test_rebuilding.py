"A lost index, made again."

import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from on_disk import memory_disk, query, tree, unprivileged
from test_schema import VERSION_1

from cjm_media_storage.files import Disk
from cjm_media_storage.guarding import IndexDatabase
from cjm_media_storage.layout import digest_of, object_path
from cjm_media_storage.locks import FileLock
from cjm_media_storage.rebuilding import rebuild_index
from cjm_media_storage.renewing import NewIndex
from cjm_media_storage.snapshots import check_snapshot, facts_of, read_snapshot, snapshot
from cjm_media_storage.storage import (
    ContentStore,
    CorruptDatabase,
    LocksUnreliable,
    NoSpace,
    ReadOnlyStore,
    StorageError,
    StoreBusy,
    StoreUnavailable,
    hash_bytes,
)

POSTER, OLD, LATER = b"a poster", b"an old poster", b"a later poster"
HASH = hash_bytes(POSTER)
KILL = """
import os, signal, sys
from cjm_media_storage.files import Disk

class Mortal(Disk):
    "Dies at its call number `left`"
    left = int(sys.argv[1])

def mortal(name):
    def call(self, *args, **options):
        Mortal.left -= 1
        if Mortal.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(Disk, name)(self, *args, **options)
    return call

syncs = ("sync_file", "sync_folder", "sync_filesystem")
for name in ("rename", "rename_new", "unlink", "link", *syncs, "write", "make_folder"):
    setattr(Mortal, name, mortal(name))
"""


@pytest.fixture
def root(tmp_path):
    "A closed store with two objects, one of them in the trash, and a snapshot"
    with ContentStore(tmp_path / "store") as store:
        store.put(POSTER, extension="jpg", source=os.fsdecode(b"/films/caf\xe9.jpg"), owner="movie:1", role="poster")
        store.delete(
            store.put(OLD, namespace="actors", source="https://example.org/old", owner="actor:1").hash, force=True
        )
        sql = "INSERT INTO publications (object_id, path, link_mode, created_at) VALUES (1, ?, 'copy', 1.5)"
        store._index.database.execute(sql, (b"/films/\xff.jpg",))
        store._index.database.execute("UPDATE objects SET created_at = 1000 + id")
        store._index.database.execute("UPDATE trash SET retention = NULL, trashed_at = 7")
        snapshot(store)
    return tmp_path / "store"


def database(root):
    return root / ".store" / "index.db"


def facts(root):
    "All that an index knows, but for its numbers and for when objects were used and checked"
    with ContentStore(root, create=False) as store, store._index.database.reading() as con:
        columns = ("kind", "digest", "namespace", "extension", "location", "owner", "role", "path", "origin", "reason")
        columns += ("trashed_at", "retention", "created_at", "first_seen", "last_seen", "link_mode", "size", "state")
        return [{column: fact.get(column) for column in columns} for fact in facts_of(con)]


def test_fault_44_all_comes_back_from_tree_and_snapshot(root):
    before = facts(root)
    for name in ("index.db", "memo.db"):
        (root / ".store" / name).unlink()
    report = rebuild_index(root)
    assert facts(root) == before
    assert (report.objects, report.trashed, report.kept, report.unused, report.complete) == (1, 1, None, None, True)
    with ContentStore(root) as store:
        store.trash.restore(hash_bytes(OLD))
        assert [reference.owner for reference in store.references(hash_bytes(OLD))] == ["actor:1"]
        assert not store.put(POSTER).created


def test_fault_44_the_tree_alone_gives_the_objects(root):
    shutil.rmtree(root / ".store" / "backup")
    database(root).write_bytes(b"no database")
    report = rebuild_index(root)
    assert (report.objects, report.trashed, report.sources, report.snapshot) == (1, 1, 0, None)
    assert (report.kept / "index.db").read_bytes() == b"no database"
    with ContentStore(root) as store:
        assert store.read(HASH, verify=True) == POSTER
        assert [item.retention_days for item in store.trash] == [30.0]


def test_fault_44_of_several_snapshots_the_newest_whole_one_is_taken(root):
    folder = root / ".store" / "backup"
    (found,) = folder.glob("index-*.jsonl")
    good = found.rename(folder / "index-20000101T000000Z.jsonl")
    (folder / "index-20010101T000000Z.jsonl").write_bytes(good.read_bytes())
    (folder / "index-20020101T000000Z.jsonl").write_bytes(good.read_bytes()[:-10])
    database(root).unlink()
    assert rebuild_index(root).snapshot.name == "index-20010101T000000Z.jsonl"
    with pytest.raises(CorruptDatabase):
        rebuild_index(root, snapshot=folder / "index-20020101T000000Z.jsonl")


def test_what_the_old_index_still_tells_is_not_lost(root):
    with ContentStore(root) as store:
        store.put(LATER, source="https://example.org/later", owner="movie:2")
    report = rebuild_index(root)
    with ContentStore(root) as store:
        assert [reference.owner for reference in store.references()] == ["movie:1", "movie:2"]
    assert query(report.kept / "index.db", "SELECT count(*) FROM objects") == [(3,)]


def test_fault_45_an_index_of_last_week_learns_of_what_came_since(root, tmp_path):
    shutil.copy(database(root), tmp_path / "backup.db")
    with ContentStore(root) as store:
        store.put(LATER, owner="movie:2")
        store.trash.restore(hash_bytes(OLD))
        snapshot(store)
    shutil.copy(tmp_path / "backup.db", database(root))
    with ContentStore(root) as store:  # it opens, and knows nothing of them
        assert hash_bytes(LATER) not in store
    report = rebuild_index(root)
    assert (report.objects, report.trashed, report.missing) == (3, 0, 0)
    with ContentStore(root) as store:
        assert store.read(hash_bytes(LATER)) == LATER and store.read(hash_bytes(OLD)) == OLD
        assert [reference.owner for reference in store.references(hash_bytes(LATER))] == ["movie:2"]


def test_fault_45_an_index_newer_than_the_files_loses_no_fact(root):
    path = root / object_path("assets", HASH[7:], "jpg")
    path.unlink()
    report = rebuild_index(root)
    assert (report.objects, report.missing, report.missing_hashes) == (0, 1, (HASH,))
    assert [fact["kind"] for fact in read_snapshot(report.unused)] == [
        "object",
        "source",
        "reference",
        "publication",
    ] * 2
    with ContentStore(root) as store:
        store.put(POSTER, extension="jpg")
    assert rebuild_index(root, snapshot=report.unused).complete
    with ContentStore(root) as store:
        assert [reference.owner for reference in store.references(HASH)] == ["movie:1"]


def test_fault_44_an_index_of_the_first_version_is_read(root):
    shutil.rmtree(root / ".store" / "backup")
    database(root).unlink()
    with closing(sqlite3.connect(database(root), isolation_level=None)) as con:
        for statement in VERSION_1:
            con.execute(statement)
        con.execute("INSERT INTO objects VALUES (7, ?, 'assets', 'jpg', 8, 9, 10.5)", (HASH[7:],))
        con.execute("INSERT INTO object_references VALUES (4, 7, 'movie:9', 'poster', 3.5)")
    rebuild_index(root)
    with ContentStore(root) as store:
        assert [reference.owner for reference in store.references(HASH)] == ["movie:9"]


def test_what_is_wrong_in_the_tree_is_left_as_it_is(root):
    wrong = {
        object_path("assets", hash_bytes(b"right")[7:], "png"): "corrupt",
        f"assets/{HASH[7:]}.gif": "misplaced",
        "assets/Thumbs.db": "foreign",
        ".store/trash/assets/" + HASH[7:] + ".jpg": "foreign",  # it is live
    }
    for path in wrong:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(POSTER)
    report = rebuild_index(root)
    assert {found.path: found.problem for found in report.left_out} == wrong
    assert report.problems == {"corrupt": 1, "misplaced": 1, "foreign": 2}
    assert all((root / path).read_bytes() == POSTER for path in wrong)
    assert report.objects == 1


def test_by_name_and_size_alone_nothing_is_believed_before_it_is_read(root):
    path = root / object_path("assets", HASH[7:], "jpg")
    path.chmod(0o644)
    path.write_bytes(b"A POSTER")
    assert rebuild_index(root, level="size").objects == 1
    with ContentStore(root) as store:
        assert store.put(POSTER).link_mode == "copy"  # healed
        assert store.read(HASH, verify=True) == POSTER
    with pytest.raises(ValueError, match="level"):
        rebuild_index(root, level="quick")


# ---- others, and the end in the middle


def test_who_has_the_store_open_learns_of_it(root):
    with ContentStore(root) as store:
        rebuild_index(root)
        for write in (lambda: store.put(LATER), lambda: store.add_reference(HASH, "movie:3")):
            with pytest.raises(StoreUnavailable, match="replaced"):
                write()
    with ContentStore(root) as store:
        assert store.put(LATER).created and len(store) == 2
        assert [reference.owner for reference in store.references(HASH)] == ["movie:1"]


def test_only_one_maintains_a_store(root, monkeypatch):
    with FileLock(root / ".store" / "maintenance.lock").exclusive(), pytest.raises(StoreBusy):
        rebuild_index(root)
    monkeypatch.setattr("cjm_media_storage.rebuilding.LOCK_TIMEOUT", 0.0)
    with FileLock(root / ".store" / "lock").shared(), pytest.raises(StoreBusy):  # somebody is putting
        rebuild_index(root)
    with pytest.raises(LocksUnreliable):
        rebuild_index(root, disk=Disk(flock=False))
    assert rebuild_index(root, disk=Disk(flock=False), exclusive=True).objects == 1
    with pytest.raises(StoreUnavailable):
        rebuild_index(root.parent / "nothing")


@pytest.mark.parametrize("disk", [Disk(), Disk(hardlink=False)], ids=["links", "no links"])
def test_the_old_index_is_kept_with_its_log(root, program, disk):
    died = program.start(
        """
        import os, sys
        from cjm_media_storage.storage import ContentStore
        store = ContentStore(sys.argv[1])
        store.put(b"a later poster", owner="movie:2")
        os._exit(0)
        """,
        root,
    )
    program.end(died)
    files = {name: (root / ".store" / name).read_bytes() for name in ("index.db", "index.db-wal")}
    report = rebuild_index(root, disk=disk)
    assert {name: (report.kept / name).read_bytes() for name in files} == files
    assert sorted(os.listdir(root / ".store"))[:4] == ["backup", "format.json", "index.db", "lock"]
    with ContentStore(root) as store:
        assert [reference.owner for reference in store.references(hash_bytes(LATER))] == ["movie:2"]


def test_who_writes_meanwhile_loses_nothing_that_was_acknowledged(root, program):
    with ContentStore(root) as store:
        list(store.put_many(b"%d" % number for number in range(500)))
    writer = program.start(
        """
        import sys
        from cjm_media_storage.storage import ContentStore, StoreUnavailable
        store, number = ContentStore(sys.argv[1]), 0
        try:
            while True:
                store.add_reference(sys.argv[2], f"actor:{number}")
                number += 1
                print(number, flush=True)
        except StoreUnavailable:
            pass
        """,
        root,
        HASH,
    )
    for _ in range(5):
        writer.stdout.readline()
    rebuild_index(root)
    count = int(program.end(writer).splitlines()[-1])
    with ContentStore(root) as store:
        owners = {reference.owner for reference in store.references(HASH)}
    assert owners == {"movie:1", *(f"actor:{number}" for number in range(count))}


def test_who_is_writing_for_too_long_stops_it(root, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.replacing.LOCK_TIMEOUT", 0.0)
    with ContentStore(root) as store, store._index.database.transaction(), pytest.raises(StoreBusy):
        rebuild_index(root)


def test_fault_44_killed_at_any_step_no_fact_of_the_old_index_is_lost(root, quick, program):
    shutil.rmtree(root / ".store" / "backup")
    before, step, codes = facts(root), 0, []
    text = KILL + "from cjm_media_storage.rebuilding import rebuild_index\nrebuild_index(sys.argv[2], disk=Mortal())\n"
    while not codes or codes[-1]:
        copy = quick / f"copy-{step}"
        shutil.copytree(root, copy)
        process = program.start(text, step, copy)
        process.communicate()
        codes.append(process.returncode)
        if not _opens(copy):
            rebuild_index(copy)
        assert facts(copy) == before
        step += 1
    assert len(codes) > 10 and set(codes[:-1]) == {-signal.SIGKILL}


def test_a_full_disk_does_not_leave_the_facts_of_the_old_index_out(tmp_path):
    with memory_disk(tmp_path / "disk", "24m") as folder:
        with ContentStore(folder / "store") as store:
            hash = store.put(POSTER).hash
            for number in range(30):
                store.add_reference(hash, f"{number}:" + 20_000 * "x")
        room = os.statvfs(folder)
        (folder / "full").write_bytes(bytes(room.f_bavail * room.f_frsize - 1_000_000))
        with pytest.raises(NoSpace):
            rebuild_index(folder / "store")
        (folder / "full").unlink()
        assert rebuild_index(folder / "store").references == 30


def test_a_store_whose_path_is_no_text(root, tmp_path):
    place = root.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    shutil.rmtree(place / ".store" / "backup")
    assert rebuild_index(place).references == 1


def test_the_facts_of_two_rebuildings_within_a_second_are_kept(root, monkeypatch):
    monkeypatch.setattr(
        "cjm_media_storage.rebuilding.time", SimpleNamespace(gmtime=lambda: time.gmtime(0), strftime=time.strftime)
    )
    shutil.rmtree(root / ".store" / "backup")
    (root / object_path("assets", HASH[7:], "jpg")).unlink()
    reports = [rebuild_index(root)]
    shutil.rmtree(root / ".store" / "trash")
    reports.append(rebuild_index(root))
    owners = [[fact["owner"] for fact in read_snapshot(each.unused) if fact["kind"] == "reference"] for each in reports]
    assert owners == [["movie:1"], ["actor:1"]]


def test_the_names_of_what_is_found_are_durable_too(root):
    synced = []

    class Noting(Disk):
        def sync_folder(self, path):
            synced.append(Path(path))
            super().sync_folder(path)

    rebuild_index(root, disk=Noting(syncfs=False))
    folder = (root / object_path("assets", HASH[7:], "jpg")).parent
    assert {folder, folder.parent, folder.parent.parent, root, root / ".store" / "trash" / "actors"} <= set(synced)


@pytest.mark.parametrize("level, syncs", [("hash", 1), ("size", 0)])
def test_where_the_file_system_can_be_synced_it_is_once_before_the_index_has_its_name(root, level, syncs):
    order = []

    class Noting(Disk):
        def sync_filesystem(self, fd):
            assert os.path.samestat(os.fstat(fd), os.stat(root))
            order.append("synced")
            super().sync_filesystem(fd)

        def sync_file(self, path):
            assert ".store" in Path(path).parts
            super().sync_file(path)

        def link(self, source, target):
            order.append(Path(target).name)
            super().link(source, target)

    disk = Noting()
    if not disk.can_sync_filesystem:
        pytest.skip("this system cannot sync a file system as a whole")
    assert rebuild_index(root, level=level, disk=disk).objects == 1
    assert order[:syncs] == ["synced"] * syncs and order[-1] == "index.db"
    assert "synced" not in order[syncs:]


def test_fault_44_killed_at_any_step_the_store_needs_it_again_or_is_whole(root, quick, program):
    database(root).write_bytes(b"no database")
    step, codes = 0, []
    while not codes or codes[-1]:
        copy = quick / f"copy-{step}"
        shutil.copytree(root, copy)
        text = (
            KILL + "from cjm_media_storage.rebuilding import rebuild_index\nrebuild_index(sys.argv[2], disk=Mortal())\n"
        )
        process = program.start(text, step, copy)
        process.communicate()
        codes.append(process.returncode)
        if not _opens(copy):
            rebuild_index(copy)
        with ContentStore(copy) as store:
            assert store.read(HASH, verify=True) == POSTER
            assert [reference.owner for reference in store.references(HASH)] == ["movie:1"]
            assert [item.hash for item in store.trash] == [hash_bytes(OLD)]
        assert b"no database" in {path.read_bytes() for path in copy.glob(".store/backup/index.db.*/index.db")}
        step += 1
    assert len(codes) > 10 and set(codes[:-1]) == {-signal.SIGKILL}


def _opens(root):
    "Does the store open? If not, it must ask for a rebuild"
    try:
        ContentStore(root, create=False).close()
    except StorageError as e:
        assert type(e).__name__ in ("IndexMissing", "IndexCorrupt")
        return False
    return True


def test_what_cannot_be_written_changes_nothing(root):
    before = tree(ContentStore(root)), database(root).read_bytes()

    class Locked(Disk):
        def link(self, source, target):
            raise ReadOnlyStore(os.fspath(target))

    with pytest.raises(ReadOnlyStore):
        rebuild_index(root, disk=Locked())
    with ContentStore(root) as store:
        assert (tree(store), database(root).read_bytes()) == before


def test_an_unreadable_folder_is_told(open_folder):
    with unprivileged():
        with ContentStore(open_folder / "store") as store:
            store.put(POSTER, owner="movie:1")
        (open_folder / "store" / "assets").chmod(0)
        report = rebuild_index(open_folder / "store")
        (open_folder / "store" / "assets").chmod(0o755)
    assert (report.problems, report.missing) == ({"unreadable": 1}, 1)
    assert check_snapshot(report.unused)


def test_fault_50_many_facts_need_little_memory(root, program):
    with closing(IndexDatabase(database(root))) as index:
        index.execute("""WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
            INSERT INTO sources (object_id, location, provider, extension, first_seen, last_seen)
            SELECT 1 + i % 2, 'https://example.org/' || i, '', '', 0, 0 FROM n""")
    more = program(
        """
        import resource, sys
        from cjm_media_storage.rebuilding import rebuild_index
        from cjm_media_storage.storage import ContentStore
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        report = rebuild_index(sys.argv[1])
        assert report.sources == 25_001, report
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """,
        root,
    )
    assert int(more) < 25_000  # kB


def test_a_rebuilding_asks_for_objects_in_the_order_in_which_it_found_them(tmp_path, monkeypatch):
    def recalled(new, con, fact):
        told.append((fact["kind"], fact["digest"]))
        return recall(new, con, fact)

    told, recall = [], NewIndex.recall
    monkeypatch.setattr(NewIndex, "recall", recalled)
    with ContentStore(tmp_path / "store") as store:
        put = [digest_of(store.put(b"%d" % n, source=f"https://example.org/{n}").hash) for n in range(9)]
    rebuild_index(tmp_path / "store")
    assert [digest for kind, digest in told if kind == "object"] == sorted(put) != put
    assert [digest for kind, digest in told if kind == "source"] == put
