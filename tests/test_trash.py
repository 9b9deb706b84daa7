"What is deleted, brought back, and purged; and what happens when a process dies on the way."

import math
import os
import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from on_disk import memory_disk, tree, unprivileged

from cjm_media_storage.files import Disk
from cjm_media_storage.storage import (
    Conflict,
    ContentStore,
    CorruptObject,
    LocksUnreliable,
    MissingObject,
    NoSpace,
    ObjectInUse,
    ObjectNotFound,
    ReadOnlyStore,
    SourceChanged,
    StoreBusy,
    UnsafePath,
    hash_bytes,
)

POSTER = b"a poster"
HASH = hash_bytes(POSTER)
DAY = 86_400


@pytest.fixture(params=[Disk(), Disk(hardlink=False)], ids=["links", "no links"])
def store(request, tmp_path):
    with ContentStore(tmp_path / "store", disk=request.param, exclusive=True) as store:
        yield store


@pytest.fixture
def poster(store):
    "An object with all that may be said of one"
    stored = store.put(POSTER, extension="jpg", source="https://example.org/a.jpg", provider="TMDB", owner="movie:1")
    store.add_source(HASH, "/films/poster.jpg")
    return stored


@pytest.fixture
def clock(monkeypatch):
    "A clock that the test sets"
    now = [1_000_000_000.0]
    monkeypatch.setattr("cjm_media_storage.trash.time.time", lambda: now[0])
    return now


def facts(store):
    "All that the index says, but for times that a restore sets anew"
    objects = store._index.database.fetch(
        "SELECT id, digest, namespace, extension, size, created_at, state FROM objects"
    )
    return objects, store.sources(HASH), store.references(HASH)


def in_trash(store):
    return sorted(path.name for path in store.trash.folder.rglob("*") if path.is_file())


def test_restore_brings_back_file_sources_and_references_exactly(store, poster):
    before = facts(store), tree(store), poster.path.stat()
    (item,) = store.delete(HASH, "wrong poster", force=True)
    assert (HASH in store, len(store), tree(store)) == (False, 0, [])
    assert store.sources(HASH) == store.references(HASH) == store.references(owner="movie:1") == []
    assert (item.hash, item.namespace, item.reason, item.size) == (HASH, "assets", "wrong poster", len(POSTER))
    with pytest.raises(ObjectNotFound):
        store.read(HASH)
    with pytest.raises(ObjectNotFound):
        store.add_reference(HASH, "movie:2")
    store.trash.restore(item)
    after = poster.path.stat()
    assert (facts(store), tree(store)) == before[:2]
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before[2].st_ino, 0o100444, before[2].st_mtime_ns)
    assert (len(store.trash), in_trash(store), store.read(HASH, verify=True)) == (0, [], POSTER)


def test_the_same_bytes_put_again_bring_it_back(store, poster):
    before = facts(store)
    store.delete(HASH, force=True)
    again = store.put(POSTER, extension="png")
    assert (again.created, again.path, again.extension) == (True, poster.path, "jpg")
    assert facts(store) == before
    assert (len(store.trash), in_trash(store), store.read(HASH, verify=True)) == (0, [], POSTER)


def test_each_namespace_is_deleted_by_itself(store):
    for namespace in ("assets", "actors"):
        store.put(POSTER, namespace=namespace)
    store.delete(HASH, namespace="actors")
    assert store.get(HASH).namespace == "assets"
    store.put(b"another", namespace="actors")
    assert len(store.delete(HASH)) == 1
    store.trash.restore(HASH)
    assert sorted(entry.namespace for entry in store if entry.hash == HASH) == ["actors", "assets"]


def test_one_that_is_needed_stops_the_delete_in_all_namespaces(store):
    store.put(POSTER, namespace="actors")
    store.put(POSTER, owner="movie:1")
    with pytest.raises(ObjectInUse):
        store.delete(HASH)
    store.remove_reference(HASH, "movie:1")
    store.put(POSTER, namespace="actors", owner="actor:1")
    with pytest.raises(ObjectInUse):
        store.delete(HASH)
    assert (len(store), len(store.trash)) == (2, 0)


def test_deleting_twice(store, poster):
    store.delete(HASH, force=True)
    with pytest.raises(ObjectNotFound):
        store.delete(HASH, force=True)
    with pytest.raises(ObjectNotFound):
        store.trash.restore(hash_bytes(b"never here"))


def test_an_object_whose_file_is_gone_can_be_deleted_but_not_restored(store, poster):
    poster.path.unlink()
    (item,) = store.delete(HASH, force=True)
    with pytest.raises(MissingObject):
        store.trash.restore(item)
    assert len(store.trash) == 1
    assert store.put(POSTER).created and len(store.references(HASH)) == 1


# ---- retention


def test_fault_48_retention_of_nothing_and_of_ages(store, poster, clock):
    for wrong in (-1, math.nan, "30"):
        with pytest.raises(ValueError, match="number of days"):
            store.delete(HASH, retention_days=wrong, force=True)
    assert HASH in store
    (item,) = store.delete(HASH, retention_days=10**400, force=True)
    clock[0] += 10**12
    assert store.trash.purge() == []
    store.trash.keep(item, 0)
    assert [gone.hash for gone in store.trash.purge(dry_run=True)] == [HASH]
    assert [gone.hash for gone in store.trash.purge()] == [HASH]
    assert (len(store.trash), in_trash(store), store.stats()["references"]) == (0, [], 0)
    assert store._index.database.fetch("SELECT * FROM objects") == []


def test_fault_47_retention_counts_from_the_time_that_was_written_down(store, poster, clock):
    store.delete(HASH, force=True)
    os.utime(store.trash.folder / "assets" / poster.path.name, (0, 0))  # a file of 1970 is as young
    for passed, gone in ((-10 * DAY, 0), (29.9 * DAY, 0), (30 * DAY, 1)):
        clock[0] = 1_000_000_000.0 + passed
        assert len(store.trash.purge()) == gone


def test_kept_for_ever(store, poster, clock):
    (item,) = store.delete(HASH, retention_days=None, force=True)
    clock[0] += 10**12
    assert store.trash.purge() == [] and item.retention_days is None
    assert [gone.hash for gone in store.trash.purge(everything=True)] == [HASH]


def test_purging_many_goes_on_in_slices(store, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.trash.SLICE", 3)
    for n in range(10):
        store.delete(store.put(b"%d" % n).hash, retention_days=0)
    assert [item.id for item in store.trash] == [item.id for item in store.trash.purge()]
    assert (len(store.trash), in_trash(store)) == (0, [])


# ---- faults


def test_fault_49_the_place_is_taken(store, poster):
    (item,) = store.delete(HASH, force=True)
    poster.path.write_bytes(b"somebody else's")
    store.trash.restore(item)
    assert store.read(HASH, verify=True) == POSTER
    (kept,) = (store.root / ".store" / "quarantine").iterdir()
    assert kept.read_bytes() == b"somebody else's"


def test_fault_49_the_trashed_file_is_gone(store, poster):
    (item,) = store.delete(HASH, force=True)
    (store.trash.folder / "assets" / poster.path.name).unlink()
    with pytest.raises(MissingObject):
        store.trash.restore(item)
    assert HASH not in store


def test_fault_49_the_trashed_bytes_are_others(store, poster):
    (item,) = store.delete(HASH, force=True)
    trashed = store.trash.folder / "assets" / poster.path.name
    trashed.chmod(0o644)
    trashed.write_bytes(b"bit rot.")
    with pytest.raises(CorruptObject):
        store.trash.restore(item)
    (kept,) = (store.root / ".store" / "quarantine").iterdir()
    assert (kept.read_bytes(), HASH in store) == (b"bit rot.", False)
    assert store.put(POSTER).created  # and the facts come back with the right bytes
    assert len(store.sources(HASH)) == 2


def test_fault_29_who_reads_reads_on(store, poster):
    with store.open(HASH) as file:
        store.delete(HASH, retention_days=0, force=True)
        store.trash.purge()
        assert file.read() == POSTER


def test_fault_57_without_locks_nothing_is_deleted(tmp_path):
    disk = Disk(flock=False)
    with ContentStore(tmp_path / "store", disk=disk) as store:
        store.put(POSTER)
        with pytest.raises(LocksUnreliable, match="exclusive=True"):
            store.delete(HASH)
        assert store.read(HASH) == POSTER
    with ContentStore(tmp_path / "store", disk=disk, exclusive=True) as store:
        assert store.delete(HASH)


WORK = """
import os, sys
from cjm_media_storage.files import Disk
from cjm_media_storage.storage import ContentStore
disk = Disk()
store = ContentStore(sys.argv[1])
calls, last = [0], int(sys.argv[3])
class Dies(Disk):
    pass
def counted(name):
    real = getattr(Disk, name)
    def call(self, *args, **named):
        calls[0] += 1
        if calls[0] == last:
            os._exit(9)
        return real(self, *args, **named)
    return call
for name in ("rename", "rename_new", "unlink", "link", "sync_folder", "sync_file", "make_folder"):
    setattr(Dies, name, counted(name))
transaction = store._index.database.transaction
import contextlib
@contextlib.contextmanager
def dying():
    calls[0] += 1
    if calls[0] == last:
        os._exit(9)
    with transaction() as con:
        yield con
store._index.database.transaction = dying
for part in (store.trash, store._objects):
    part._disk = Dies()
what, hash = sys.argv[2], sys.argv[4]
if what == "delete":
    store.delete(hash, force=True)
elif what == "restore":
    store.trash.restore(hash)
elif what == "purge":
    store.trash.purge(everything=True)
print("done")
"""


@pytest.mark.parametrize("what", ["delete", "restore", "purge"])
def test_fault_21_killed_on_the_way(tmp_path, program, what):
    root, step, said = tmp_path / "store", 0, ""
    while said != "done":
        step += 1
        shutil.rmtree(root, ignore_errors=True)
        with ContentStore(root) as store:
            store.put(POSTER, source="https://example.org/a.jpg", owner="movie:1")
            if what != "delete":
                store.delete(HASH, force=True)
        killed = program.start(WORK, root, what, step, HASH)
        said, error = map(str.strip, killed.communicate())
        assert not error, error
        assert (killed.returncode, said) in {(0, "done"), (9, "")}
        with ContentStore(root) as store:
            live, here = HASH in store, len(store.trash)
            assert live + here == (0 if what == "purge" and not in_trash(store) and not here else 1), step
            if live:
                assert store.read(HASH, verify=True) == POSTER
            elif here and in_trash(store):
                store.trash.restore(HASH)
                assert store.read(HASH, verify=True) == POSTER
            else:
                assert what == "purge"
            assert store._index.database.fetch("SELECT 1 FROM objects WHERE state = 'trashing'") == []
            store.put(POSTER)
            assert store.read(HASH, verify=True) == POSTER
    assert step > 3


def test_a_full_disk_leaves_the_object_where_it_was(tmp_path, monkeypatch):
    with ContentStore(tmp_path / "store") as store:
        stored = store.put(POSTER)

        def full(*args):
            raise NoSpace("trash")

        monkeypatch.setattr(Disk, "rename", full)
        with pytest.raises(NoSpace):
            store.delete(HASH)
        assert (HASH in store, len(store.trash), stored.path.exists()) == (True, 0, True)


def test_a_place_that_cannot_be_looked_at_is_not_taken_for_empty(open_folder):
    with unprivileged(), ContentStore(open_folder / "store") as store:
        stored = store.put(POSTER)
        stored.path.parent.chmod(0)
        with pytest.raises(ReadOnlyStore):
            store.delete(HASH)
        stored.path.parent.chmod(0o755)
        assert (store.read(HASH), len(store.trash)) == (POSTER, 0)


def test_fault_27_a_reference_against_a_delete(tmp_path):
    "Whoever comes first wins, and the other is told"
    with ContentStore(tmp_path / "store") as store, ThreadPoolExecutor(2) as pool:
        for n in range(40):
            hash = store.put(b"%d" % n).hash
            refer, delete = pool.submit(store.add_reference, hash, "movie:1"), pool.submit(store.delete, hash)
            assert [type(refer.exception()), type(delete.exception())] in (
                [type(None), ObjectInUse],
                [ObjectNotFound, type(None)],
            )
            assert (hash in store) == (refer.exception() is None)


def test_of_two_deletes_one_is_told_that_it_came_too_late(tmp_path):
    with ContentStore(tmp_path / "store") as store, ThreadPoolExecutor(2) as pool:
        for n in range(40):
            hash = store.put(b"%d" % n).hash
            deletes = [pool.submit(store.delete, hash) for _ in range(2)]
            ends = [delete.exception() or len(delete.result()) for delete in deletes]
            assert sorted(map(str, ends)) == ["1", str(ObjectNotFound(hash))]


def test_fault_26_a_delete_against_a_put_of_the_same_bytes(tmp_path):
    with ContentStore(tmp_path / "store") as store, ThreadPoolExecutor(3) as pool:
        store.put(POSTER)
        for _ in range(40):
            puts = [pool.submit(store.put, POSTER) for _ in range(2)]
            delete = pool.submit(store.delete, HASH)
            for put in puts:
                assert put.exception() is None
            assert isinstance(delete.exception(), None | ObjectNotFound)
            assert store.read(HASH, verify=True) == POSTER if HASH in store else len(store.trash) == 1
            assert store.put(POSTER).path.read_bytes() == POSTER


# ---- files that are no objects


def test_a_persons_own_file_goes_and_comes_back(store, mine):
    before = mine.stat()
    item = store.trash.take_file(mine, "replaced")
    assert (mine.exists(), item.hash, item.origin, item.reason) == (False, "", str(mine), "replaced")
    assert [each.id for each in store.trash] == [item.id]
    mine.write_bytes(b"another")
    with pytest.raises(Conflict):
        store.trash.restore(item, outside=True)
    mine.unlink()
    store.trash.restore(item, outside=True)
    after = mine.stat()
    assert (mine.read_bytes(), after.st_mode, after.st_mtime, after.st_ino) == (
        b"my own poster",
        before.st_mode,
        1000,
        before.st_ino,
    )
    assert (len(store.trash), in_trash(store)) == (0, [])


def test_a_file_inside_the_store_comes_back_after_the_root_moved(store, tmp_path):
    stray = store.root / "assets" / "ab" / "stray"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    item = store.trash.take_file(stray, "untracked")
    assert item.origin == "assets/ab/stray"
    store.close()
    store.root.rename(tmp_path / "moved")
    with ContentStore(tmp_path / "moved") as moved:
        moved.trash.restore(item)
    assert (tmp_path / "moved" / "assets" / "ab" / "stray").read_bytes() == b"stray"


def test_a_link_is_taken_and_not_what_it_leads_to(store, mine, tmp_path):
    link = tmp_path / "link.jpg"
    link.symlink_to(mine)
    item = store.trash.take_file(link, "replaced")
    assert mine.exists() and not link.is_symlink()
    store.trash.restore(item, outside=True)
    assert os.readlink(link) == str(mine)


def test_a_file_that_cannot_be_taken_stays(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.trash.take_file(tmp_path / "nothing", "gone")
    assert (len(store.trash), in_trash(store)) == (0, [])


@pytest.fixture
def other_disk(tmp_path):
    "Another file system"
    with memory_disk(tmp_path / "other_disk", "4m") as folder:
        yield folder


def test_fault_23_a_file_from_another_disk(store, other_disk):
    mine = other_disk / "mine.jpg"
    mine.write_bytes(b"my own poster")
    os.utime(mine, (1000, 1000))
    item = store.trash.take_file(mine, "replaced")
    assert not mine.exists()
    store.trash.restore(item, outside=True)
    assert (mine.read_bytes(), mine.stat().st_mtime, in_trash(store)) == (b"my own poster", 1000, [])


def test_a_file_that_never_came_is_forgotten(tmp_path, mine):
    with ContentStore(tmp_path / "store") as store:
        item = store.trash.take_file(mine, "replaced")
        os.rename(next(store.trash.folder.rglob("*.jpg")), mine)  # as if the power was cut before the rename
    with ContentStore(tmp_path / "store") as store:
        assert len(store.trash) == 0
        with pytest.raises(ObjectNotFound):
            store.trash.restore(item, outside=True)
    assert mine.read_bytes() == b"my own poster"


def test_an_item_that_came_back_is_not_taken_for_a_later_one(store):
    first, second = store.put(b"first").hash, store.put(b"second").hash
    (item,) = store.delete(first)
    store.trash.restore(item)
    (later,) = store.delete(second)
    assert later.id == item.id
    with pytest.raises(ObjectNotFound):
        store.trash.keep(item, 0)
    with pytest.raises(ObjectNotFound):
        store.trash.restore(item)
    assert (store.trash.purge(), list(store.trash)) == ([], [later])


class Hooked(Disk):
    "A disk on which something else happens just before, or after, some call"

    def __init__(self, name, work, before=True, **abilities):
        super().__init__(**abilities)
        call = getattr(self, name)

        def hooked(*args):
            if before:
                work(*(Path(each) if isinstance(each, str) else each for each in args))
            result = call(*args)
            if not before:
                work(*(Path(each) if isinstance(each, str) else each for each in args))
            return result

        object.__setattr__(self, name, hooked)


def test_what_is_being_purged_is_no_longer_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.parts.LOCK_TIMEOUT", 0)
    told = []

    def keep(path):
        if path.is_relative_to(other.trash.folder):
            with pytest.raises(StoreBusy) as error:
                other.trash.keep(item)
            told.append(error)

    with (
        ContentStore(tmp_path / "store") as other,
        ContentStore(tmp_path / "store", disk=Hooked("unlink", keep)) as store,
    ):
        (item,) = store.delete(store.put(POSTER).hash, retention_days=0)
        assert (store.trash.purge(), len(told)) == ([item], 1)
        monkeypatch.undo()
        with pytest.raises(ObjectNotFound):
            store.trash.keep(item)


def test_a_folder_in_the_place_of_an_object_stops_no_purge(store, poster):
    poster.path.unlink()
    poster.path.mkdir()
    (poster.path / "notes.txt").write_text("mine")
    store.delete(HASH, force=True)
    store.delete(store.put(b"another").hash)
    assert len(store.trash.purge(everything=True)) == 2
    assert (len(store.trash), in_trash(store)) == (0, [])
    (kept,) = (store.root / ".store" / "quarantine").iterdir()
    assert (kept / "notes.txt").read_text() == "mine"


def test_fault_11_nothing_is_taken_through_a_link_that_leads_out(store, poster, tmp_path):
    poster.path.parent.rename(tmp_path / "outside")
    poster.path.parent.symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafePath):
        store.delete(HASH, force=True)
    assert (HASH in store, len(store.trash), poster.path.read_bytes()) == (True, 0, POSTER)


DIE_IN_DELETE = """
import os, sys
from cjm_media_storage.files import Disk
from cjm_media_storage.storage import ContentStore
store = ContentStore(sys.argv[1], disk=Disk(flock=sys.argv[2] == "locks"), exclusive=True)
hash = store.put(b"a poster").hash
store.trash._move = lambda moves: os._exit(9)
store.delete(hash)
"""


def test_fault_41_a_delete_was_killed_where_nothing_may_be_written_now(place, program):
    program.start(DIE_IN_DELETE, place.path / "store", "locks").communicate()
    with place.read_only(), ContentStore(place.path / "store") as store:
        assert len(store) == 0
    with ContentStore(place.path / "store") as store:
        assert store.read(HASH) == POSTER


def test_fault_57_a_delete_was_killed_where_locks_do_not_work(tmp_path, program):
    program.start(DIE_IN_DELETE, tmp_path, "no locks").communicate()
    with ContentStore(tmp_path, disk=Disk(flock=False)) as store:
        assert store.put(POSTER).path.read_bytes() == POSTER


def test_an_object_that_never_came_to_the_trash_is_not_purged(tmp_path, program):
    with ContentStore(tmp_path) as store:
        program.start(DIE_IN_DELETE, tmp_path, "locks").communicate()
        assert (store.trash.purge(everything=True), store.read(HASH)) == ([], POSTER)


@pytest.mark.parametrize("locks", ["none", "for everybody"])
def test_fault_26_a_delete_against_a_put_in_one_process_where_locks_do_not_work(tmp_path, monkeypatch, locks):
    if locks == "for everybody":
        monkeypatch.setattr("cjm_media_storage.files.fcntl.flock", lambda fd, how: None)
    puts = []

    def put(source, target):
        if target.is_relative_to(store.trash.folder):
            puts.append(pool.submit(store.put, POSTER))
            wait(puts, timeout=0.2)  # it is not done before the delete is

    disk = Hooked("rename", put, flock=locks != "none")
    with ThreadPoolExecutor(1) as pool, ContentStore(tmp_path / "store", disk=disk, exclusive=True) as store:
        store.put(POSTER)
        store.delete(HASH)
        assert puts[0].result().path.read_bytes() == store.read(HASH) == POSTER
        assert in_trash(store) == []


def test_a_file_on_another_disk_that_is_saved_again_stays(tmp_path, other_disk):
    mine = other_disk / "mine.jpg"
    mine.write_bytes(b"my own poster")

    def save(folder):
        if folder.name == ".files":
            mine.write_bytes(b"my newer poster")

    with ContentStore(tmp_path / "store", disk=Hooked("sync_folder", save, before=False)) as store:
        with pytest.raises(SourceChanged):
            store.trash.take_file(mine, "replaced")
        assert (mine.read_bytes(), len(store.trash), in_trash(store)) == (b"my newer poster", 0, [])


@pytest.mark.parametrize("where", ["other disk", "no links"])
def test_fault_49_a_file_that_is_saved_while_another_is_restored_to_its_place(tmp_path, other_disk, where):
    mine = (other_disk if where == "other disk" else tmp_path) / "mine.jpg"
    mine.write_bytes(b"my own poster")

    def save(path, *_):
        if restoring:
            mine.write_bytes(b"my newer poster")

    call = "keep_times" if where == "other disk" else "link"
    restoring = []
    with ContentStore(tmp_path / "store", disk=Hooked(call, save, hardlink=where != "no links")) as store:
        item = store.trash.take_file(mine, "replaced")
        restoring.append(item)
        with pytest.raises(Conflict):
            store.trash.restore(item, outside=True)
        assert (mine.read_bytes(), list(store.trash), len(in_trash(store))) == (b"my newer poster", [item], 1)


def test_what_is_in_the_trash_is_not_counted_as_live(tmp_path):
    with ContentStore(tmp_path / "store") as store:
        for n in range(3):
            store.put(b"%d" % n * 10, source=f"https://example.org/{n}", owner="movie:1")
        gone = store.put(b"gone", source="https://example.org/gone", owner="movie:1").hash
        store.delete(gone, force=True)
        counts = {"objects": 3, "bytes": 30, "sources": 3, "references": 3, "publications": 0, "trashed": 1}
        assert store.stats() == counts
    assert ContentStore(tmp_path / "empty").stats() == dict.fromkeys(counts, 0)
