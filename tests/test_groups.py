"A group of contents: the order of calls that makes it durable, by each way of syncing; what fails alone, or together."

import errno
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
from on_disk import memory_disk, staged, tree, unprivileged
from recording import Recorder, calls

from cjm_media_storage import kernel
from cjm_media_storage import memo as memo_module
from cjm_media_storage.contents import Job
from cjm_media_storage.files import Disk
from cjm_media_storage.groups import LINK_ITEMS, Group
from cjm_media_storage.ingest import SMALL
from cjm_media_storage.layout import digest_of
from cjm_media_storage.maintenance import verify
from cjm_media_storage.staging import Staging, boot_id
from cjm_media_storage.storage import (
    ContentStore,
    CorruptObject,
    HashMismatch,
    InvalidNamespace,
    MissingObject,
    NoSpace,
    PutItem,
    SourceError,
    StoreBusy,
    StoreUnavailable,
    TooLarge,
    UnsafePath,
    hash_bytes,
    hash_file,
)
from cjm_media_storage.terms import check_terms
from cjm_media_storage.workers import Turns, Workers

WAYS = [{}, {"syncfs": False}, {"hardlink": False}, {"folder_sync": False}, {"syncfs": False, "hardlink": False}]


@pytest.fixture(params=WAYS, ids=str)
def recorded(request, tmp_path):
    "A store that writes down what it does"
    with ContentStore(tmp_path / "recorded", disk=Recorder(**request.param)) as store:
        write = store._index.database.transaction

        def transaction(durable=True):
            calls.append(("commit", (durable,)))
            return write(durable)

        store._index.database.transaction = transaction
        store.put(b"the first makes what there is once")
        calls.clear()
        yield store


def steps(order):
    "The order of steps, each once for all calls that follow one another, of those that count"
    names = {"sync_filesystem": "sync", "sync_file": "sync", "sync_folder": "sync", "rename_new": "link"}
    short = [names.get(name, name) for name, _ in order]
    short = [name for name in short if name in ("write", "sync", "link", "commit", "acknowledge")]
    return [name for n, name in enumerate(short) if n == 0 or short[n - 1] != name]


def check_order(store, contents, durability="batch", **options):
    calls.clear()
    results = []
    for outcome in store.put_many(contents, durability=durability, **options):
        calls.append(("acknowledge", ()))
        results.append(outcome.result)
    return results, steps(calls)


def test_the_order_of_a_durable_group(recorded):
    results, order = check_order(recorded, [b"a poster", b"a portrait", b"a still"])
    assert [result.created for result in results] == [True] * 3
    assert order == ["write", "sync", "link", "sync", "commit", "acknowledge"]


def test_each_sync_covers_what_was_done_before_it(recorded):
    results, _ = check_order(recorded, [b"a poster", b"a portrait"])
    first_link = next(n for n, (name, _) in enumerate(calls) if name in ("link", "rename_new"))
    linked = {os.fspath(args[0]) for name, args in calls if name in ("link", "rename_new")}
    commit = calls.index(("commit", (True,)))
    disk = recorded.parts.disk
    if disk.syncfs:
        assert [name for name, _ in calls].count("sync_filesystem") == 2
        return
    assert linked <= {os.fspath(args[0]) for name, args in calls[:first_link] if name == "sync_file"}
    if disk.folder_sync:
        folders = {args[0] for name, args in calls[first_link:commit] if name == "sync_folder"}
        for result in results:
            assert {*result.path.parents[:2]} <= folders


def test_a_c_library_without_syncfs_syncs_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "_find", lambda name: None)
    with ContentStore(tmp_path / "store", disk=Recorder()) as store:
        store.put(b"a still")
        _, order = check_order(store, [b"a poster", b"a portrait"])
    assert order == ["write", "sync", "link", "sync", "acknowledge"]
    assert "sync_filesystem" not in [name for name, _ in calls]


@pytest.mark.parametrize("missing", [0, 1])
def test_the_order_test_sees_a_missing_sync(tmp_path, missing):
    class Careless(Recorder):
        def sync_filesystem(self, fd):
            count.append(fd)
            if len(count) - 1 == missing:
                raise AssertionError("left out")

    count = []
    with ContentStore(tmp_path / "store", disk=Careless()) as store, pytest.raises(AssertionError):
        list(store.put_many([b"a poster"]))


def test_what_is_known_is_neither_written_nor_synced(recorded, tmp_path):
    names = []
    for n in range(20):
        names.append(tmp_path / f"{n}.jpg")
        names[-1].write_bytes(b"poster %d" % n)
    check_order(recorded, names)
    for _ in range(2):
        results, order = check_order(recorded, names)
        assert ({result.created for result in results}, order) == ({False}, ["acknowledge"])


def test_of_what_is_there_nothing_is_written_and_only_the_rest_waits_for_the_disk(recorded, tmp_path):
    poster, portrait = tmp_path / "poster.jpg", tmp_path / "portrait.jpg"
    poster.write_bytes(b"a poster")
    portrait.write_bytes(b"a portrait")
    recorded.put(poster)
    assert check_order(recorded, [poster])[1] == ["acknowledge"]
    results, order = check_order(recorded, [poster, portrait])
    assert [result.created for result in results] == [False, True]
    assert order == ["write", "sync", "link", "sync", "commit", "acknowledge"]
    assert results[0] == recorded.put(poster)  # told as by a single put


@pytest.mark.parametrize(
    "options, changed",
    [({}, 0), ({"owner": "movie:603"}, 1), ({"provider": "TMDB"}, 1), ({"namespace": "actors"}, 1)],
    ids=str,
)
def test_whatever_there_is_to_write_of_what_is_there_is_written(recorded, tmp_path, options, changed):
    poster = tmp_path / "poster.jpg"
    poster.write_bytes(b"a poster")
    recorded.put(poster)
    check_order(recorded, [poster], **options)
    assert [name for name, _ in calls].count("commit") == changed


def test_what_is_there_is_touched_when_it_was_not_used_for_long(recorded, tmp_path, monkeypatch):
    poster = tmp_path / "poster.jpg"
    poster.write_bytes(b"a poster")
    recorded.put(poster)
    recorded._index.database.execute("UPDATE objects SET used_at = used_at - 3600")
    assert check_order(recorded, [poster])[1] == ["commit", "acknowledge"]


def test_without_durability_nothing_is_synced(recorded):
    _, order = check_order(recorded, [b"a poster", b"a portrait"], durability="none")
    assert order == ["write", "link", "commit", "acknowledge"]
    assert ("commit", (False,)) in calls
    assert {entry.boot for entry in recorded._index.select("digest <> ''")} == {"", boot_id()}


def test_without_durability_what_is_adopted_is_not_synced(recorded):
    recorded.put(b"a poster")
    recorded._index.database.execute("DELETE FROM objects")
    results, order = check_order(recorded, [b"a poster"], durability="none")
    assert (results[0].created, order) == (True, ["write", "commit", "acknowledge"])


# ---- when a group is full


def groups(store, contents, durability="batch"):
    "How many groups contents make, with one thread and tasks of one"
    calls.clear()
    assert all(outcome.result for outcome in store.put_many(contents, durability=durability, threads=1))
    return [name for name, _ in calls].count("commit")


@pytest.mark.parametrize("durability", ["batch", "none"])
def test_a_group_is_full_when_it_has_many_contents(recorded, monkeypatch, durability):
    for name, size in (("groups.GROUP_ITEMS", 10), ("batches.ITEMS_PER_TASK", 1)):
        monkeypatch.setattr(f"cjm_media_storage.{name}", size)
    assert groups(recorded, [b"poster %d" % n for n in range(20)], durability) == 2


@pytest.mark.parametrize("size", ["GROUP_BYTES", "GROUP_HELD"])
def test_a_group_is_full_when_it_has_many_bytes_on_the_disk_or_in_memory(recorded, tmp_path, monkeypatch, size):
    monkeypatch.setattr(f"cjm_media_storage.groups.{size}", 50)
    monkeypatch.setattr("cjm_media_storage.batches.ITEMS_PER_TASK", 1)
    contents = [b"poster %d" % n for n in range(20)]
    if size == "GROUP_BYTES":
        for n, content in enumerate(contents):
            (tmp_path / str(n)).write_bytes(content)
        contents = [tmp_path / str(n) for n in range(20)]
    assert groups(recorded, contents) > 1  # how many depends on how far its thread was


def test_the_bytes_of_known_streams_are_counted(recorded, monkeypatch):
    "They stay in memory until the group is stored, because they might be needed"
    contents = [b"poster %d" % n for n in range(20)]
    list(recorded.put_many(contents))
    monkeypatch.setattr("cjm_media_storage.groups.GROUP_HELD", 50)
    monkeypatch.setattr("cjm_media_storage.batches.ITEMS_PER_TASK", 1)
    assert groups(recorded, [PutItem(iter([content]), source="https://example.org") for content in contents]) > 1


# ---- a disk that fails

fails = {}  # The calls that fail, and how many of them go well before


class Failing(Disk):
    "A disk on which a sync fails, once"

    def sync_filesystem(self, fd):
        what = "sync_bytes" if threading.current_thread().name.startswith("flush") else "sync_names"
        self.fail(what, super().sync_filesystem, fd)

    def sync_file(self, path):
        self.fail("sync_file", super().sync_file, path)

    def sync_folder(self, path):
        self.fail("sync_folder", super().sync_folder, path)

    def fail(self, name, sync, what):
        if name in fails:
            fails[name] -= 1
            if fails[name] < 0:
                del fails[name]
                raise OSError(errno.EIO, "Input/output error")
        sync(what)


@pytest.fixture
def small_groups(monkeypatch):
    "Groups of five"
    monkeypatch.setattr("cjm_media_storage.groups.GROUP_ITEMS", 5)
    monkeypatch.setattr("cjm_media_storage.batches.ITEMS_PER_TASK", 5)


@pytest.mark.parametrize(
    ("disk", "call", "before"),
    [
        (Failing(), "sync_bytes", 0),
        (Failing(), "sync_names", 0),
        (Failing(syncfs=False), "sync_file", 3),
        (Failing(syncfs=False), "sync_folder", 3),
    ],
    ids=["bytes", "names", "one file", "one folder"],
)
def test_a_sync_that_fails_fails_its_group_and_no_other(tmp_path, small_groups, disk, call, before):
    contents = [b"poster %d" % n for n in range(15)]
    with ContentStore(tmp_path / "store", disk=disk) as store:
        store.parts.staging.claim()  # its folder is synced, too
        fails[call] = before
        outcomes = list(store.put_many(contents))
        assert fails == {}
        assert [outcome.result is not None for outcome in outcomes] == [False] * 5 + [True] * 10
        assert {outcome.error.errno for outcome in outcomes[:5]} == {errno.EIO}
        assert (len(store), staged(store)) == (10, [])
        assert sum(outcome.result.created for outcome in store.put_many(contents)) == 5
        assert all(store.read(hash_bytes(content), verify=True) == content for content in contents)


def test_bytes_get_a_name_after_their_sync_while_groups_overtake_one_another(tmp_path, small_groups):
    "The bytes of a group are synced by a thread of their own, maybe while the group before gets its names"
    written, synced, named = set(), {}, []

    class Watching(Disk):
        def create(self, path, mode=0o600):
            written.add(os.fspath(path))
            return super().create(path, mode)

        def sync_filesystem(self, fd):
            covered = set(written)  # what was written before it began
            super().sync_filesystem(fd)
            for path in covered:
                synced.setdefault(path, threading.current_thread().name)

        def rename_new(self, source, target):
            named.append(synced.get(os.fspath(source)))
            super().rename_new(source, target)

    with ContentStore(tmp_path / "store", disk=Watching()) as store:
        assert all(outcome.result for outcome in store.put_many([b"poster %d" % n for n in range(30)]))
    assert len(named) == 30 and None not in named and "flush-0" in named


def test_nobody_takes_away_what_is_being_synced(store):
    "The end of a group that fails closes the file that its sync goes by"
    group, order = Group(store._putting, "batch"), []
    group.stop.set()
    group.flushed = SimpleNamespace(exception=lambda: order.append("synced"))
    group.discard = lambda: order.append("discarded")
    group.store()
    Group.discard(group)
    assert order == ["synced", "discarded"]


@pytest.fixture
def small_disk(tmp_path):
    "A file system of 8 MB"
    with memory_disk(tmp_path / "small_disk", "8m") as folder:
        yield folder


@pytest.mark.parametrize("disk", [Disk(), Disk(syncfs=False)], ids=["whole", "one by one"])
def test_fault_20_a_disk_that_fills_up_in_the_middle_of_a_batch(small_disk, small_groups, disk):
    contents = [os.urandom(500_000) for _ in range(30)]
    with ContentStore(small_disk / "store", disk=disk) as store:
        outcomes = list(store.put_many(contents))
        stored = [outcome.content for outcome in outcomes if outcome.result]
        assert 0 < len(stored) < 30
        assert {type(outcome.error) for outcome in outcomes if not outcome.result} == {NoSpace}
        assert staged(store) == []
        assert all(store.read(hash_bytes(content), verify=True) == content for content in stored)
    with ContentStore(small_disk / "store") as store:
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        results = [outcome.result.created for outcome in store.put_many(contents)]
        assert (len(store), len(tree(store)), sum(results)) == (30, 30, 30 - len(stored))


def test_a_store_that_was_moved_away_is_no_failure_of_each_content(tmp_path):
    with ContentStore(tmp_path / "store") as store:
        store.put(b"a poster")
        store.root.rename(tmp_path / "elsewhere")
        with pytest.raises(StoreUnavailable):
            list(store.put_many([b"a portrait"]))
        (tmp_path / "elsewhere").rename(store.root)


@pytest.mark.parametrize("moment", ["staged", "locked"])
def test_nor_is_one_that_is_moved_away_between_two_steps_of_its_second_group(
    tmp_path, monkeypatch, small_groups, moment
):
    @contextmanager
    def moved(name):
        reached.append(name)
        if reached.count(moment) < 2 or name != moment:
            yield
            return
        store.root.rename(tmp_path / "elsewhere")
        try:
            yield
        finally:
            (tmp_path / "elsewhere").rename(store.root)

    @contextmanager
    def locked():
        with shared(), moved("locked"):
            yield

    def staged(self):
        for task in self.tasks:
            task.result()
        with moved("staged"):
            write(self)

    write, reached = Group.store, []
    monkeypatch.setattr(Group, "store", staged)
    with ContentStore(tmp_path / "store", disk=Disk(syncfs=False)) as store:
        shared = store.parts.lock.shared
        monkeypatch.setattr(store.parts.lock, "shared", locked)
        with pytest.raises(StoreUnavailable):
            list(store.put_many([b"poster %d" % n for n in range(6)]))
        assert reached[:3] == ["staged", "locked", "staged"]


# ---- what fails alone


def test_fault_14_a_file_that_may_not_be_read_does_not_stop_its_group(open_folder):
    for name in ("private.jpg", "poster.jpg"):
        (open_folder / name).write_bytes(name.encode())
    (open_folder / "private.jpg").chmod(0)
    names = ["private.jpg", "poster.jpg", "gone.jpg", "store", "nul\0name"]
    with unprivileged(), ContentStore(open_folder / "store") as store:
        outcomes = list(store.put_many(open_folder / name for name in names))
        assert [type(outcome.error) for outcome in outcomes] == [SourceError, type(None), *[SourceError] * 3]
        assert isinstance(outcomes[0].error.__cause__, PermissionError)
        assert (outcomes[1].result.hash, len(tree(store)), staged(store)) == (hash_bytes(b"poster.jpg"), 1, [])


def test_each_content_has_its_own_facts_and_limits(store, tmp_path):
    (tmp_path / "film.mkv").write_bytes(b"a film")
    items = [
        PutItem(b"a poster", source="https://example.org/a.jpg", provider="TMDB", owner="movie:1", role="poster"),
        PutItem(tmp_path / "film.mkv", namespace="films", expected_hash=hash_bytes(b"a film"), expected_size=6),
        PutItem(b"another", expected_hash=hash_bytes(b"a film")),
        PutItem(b"too large", max_size=3),
        PutItem(b"", allow_empty=False),
        PutItem(b"lost", namespace="../up"),
        b"plain",
    ]
    outcomes = list(store.put_many(items, provider="everybody"))
    assert [outcome.content for outcome in outcomes] == items
    errors = [type(outcome.error) for outcome in outcomes]
    nothing = type(None)
    assert errors == [nothing, nothing, HashMismatch, TooLarge, SourceError, InvalidNamespace, nothing]
    (source,) = store.sources(hash_bytes(b"a poster"))
    assert (source.location, source.provider, source.extension) == ("https://example.org/a.jpg", "TMDB", "jpg")
    assert [reference.owner for reference in store.references(hash_bytes(b"a poster"))] == ["movie:1"]
    assert outcomes[1].result.path.relative_to(store.root).parts[0] == "films"
    assert [source.provider for source in store.sources(hash_bytes(b"a film"))] == ["everybody"]
    assert (len(store), staged(store)) == (3, [])
    with pytest.raises(InvalidNamespace):
        store.put_many([], namespace="../up")


@pytest.mark.parametrize("size", [1000, 3 * SMALL])
def test_fault_12_a_file_of_a_group_that_changes_while_it_is_read(store, tmp_path, monkeypatch, size):
    names = [tmp_path / f"{n}.wav" for n in range(3)]
    for name in names:
        name.write_bytes(os.urandom(size))
    read = os.readv
    copy = Disk.copy

    def growing(name):
        if os.path.samefile(name, names[1]):
            with names[1].open("ab") as file:
                file.write(b"more")

    monkeypatch.setattr(os, "readv", lambda fd, views: (growing(f"/proc/self/fd/{fd}"), read(fd, views))[1])
    monkeypatch.setattr(
        Disk, "copy", lambda self, fd, *args: (growing(f"/proc/self/fd/{fd}"), copy(self, fd, *args))[1]
    )
    monkeypatch.setattr(Disk, "clone", lambda self, source, target: False)
    outcomes = list(store.put_many(names))
    assert [type(outcome.error).__name__ for outcome in outcomes] == ["NoneType", "SourceChanged", "NoneType"]
    assert (len(store), staged(store)) == (2, [])


# ---- all that `put` promises


@pytest.mark.parametrize("disk", [Disk(**way) for way in WAYS], ids=str)
def test_fault_24_the_same_bytes_many_times_in_a_group(tmp_path, disk):
    items = [b"a poster", PutItem(b"a poster", namespace="actors"), PutItem(b"a poster", extension="jpg"), b"a poster"]
    with ContentStore(tmp_path / "store", disk=disk) as store:
        results = [outcome.result for outcome in store.put_many(items * 3)]
        assert [result.created for result in results] == [True, True] + [False] * 10
        assert results[1].link_mode == ("hardlink" if disk.hardlink else "copy")
        assert (len(store), len(tree(store)), staged(store)) == (2, 2, [])
        assert {result.path.relative_to(store.root).as_posix() for result in results} == set(tree(store))


@pytest.mark.parametrize("disk", [Disk(**way) for way in WAYS], ids=str)
def test_fault_30_a_group_heals_and_adopts_and_brings_back_from_the_trash(tmp_path, disk):
    contents = [b"wrong bytes in its place", b"no row", b"in the trash", b"missing", b"new"]
    with ContentStore(tmp_path / "store", disk=disk) as store:
        paths = [store.put(content).path for content in contents[:4]]
        paths[0].chmod(0o644)
        paths[0].write_bytes(b"WRONG")
        store._index.database.execute("DELETE FROM objects WHERE digest = ?", (paths[1].name,))
        store.delete(hash_bytes(contents[2]))
        paths[3].unlink()
        results = [outcome.result for outcome in store.put_many(contents)]
        assert [result.created for result in results] == [False, True, True, False, True]
        assert [result.link_mode for result in results] == ["copy", "none", "copy", "copy", "copy"]
        assert all(store.read(hash_bytes(content), verify=True) == content for content in contents)
        assert [path.read_bytes() for path in (store.root / ".store" / "quarantine").iterdir()] == [b"WRONG"]
        trash = [path for path in (store.root / ".store" / "trash").rglob("*") if path.is_file()]
        assert (len(store.trash), trash) == (0, [])
        assert (len(tree(store)), staged(store)) == (5, [])


def test_what_comes_back_from_the_trash_came_when_it_came_first(store):
    first = store.put(b"a poster")
    store.delete(first.hash)
    (outcome,) = store.put_many([b"a poster"])
    assert outcome.result.created and outcome.result.created_at == first.created_at == store.get(first.hash).created_at


def test_files_that_are_moved_or_inside_the_store(store, tmp_path):
    film, stored = tmp_path / "film.mkv", store.put(b"a poster").path
    film.write_bytes(b"a film")
    items = [PutItem(film, move=True), stored, PutItem(stored, move=True), PutItem(b"bytes", move=True)]
    outcomes = list(store.put_many(items))
    assert [type(outcome.error).__name__ for outcome in outcomes] == ["NoneType", "NoneType", *["SourceError"] * 2]
    assert (outcomes[0].result.link_mode, film.exists(), store.read(hash_bytes(b"a film"))) == (
        "move",
        False,
        b"a film",
    )
    assert (outcomes[1].result.created, store.sources(hash_bytes(b"a poster"))) == (False, [])
    link = tmp_path / "link"
    link.symlink_to(stored)
    for follow, error in ((True, type(None)), (False, SourceError)):
        (outcome,) = store.put_many([link], follow_symlinks=follow)
        assert type(outcome.error) is error
    assert store.sources(hash_bytes(b"a poster")) == []  # no name of an object is where it comes from


@pytest.mark.parametrize("size", [1000, SMALL + 1])
def test_streams_and_files_and_bytes(store, tmp_path, size):
    contents = [os.urandom(size) for _ in range(4)]
    names = [tmp_path / str(n) for n in range(4)]
    for name, content in zip(names, contents, strict=True):
        name.write_bytes(content)

    def forms():
        return [contents[0], names[1], iter([contents[2]]), open(names[3], "rb")]

    for created in (True, False):
        with (given := forms())[3]:
            results = [outcome.result for outcome in store.put_many(given)]
        assert [(result.hash, result.created) for result in results] == [(hash_bytes(c), created) for c in contents]
    assert [store.read(result.hash) == content for result, content in zip(results, contents, strict=True)] == [True] * 4


# ---- known files


@pytest.fixture
def remembered(store, tmp_path, monkeypatch):
    "Files that are in the store, and in its memo"
    monkeypatch.setattr(memo_module, "RACY", 0)
    names = [tmp_path / f"{n}.jpg" for n in range(5)]
    for n, name in enumerate(names):
        name.write_bytes(b"poster %d" % n)
    assert sum(outcome.result.created for outcome in store.put_many(names)) == 5
    return names


def test_unchanged_files_are_not_read_again(store, remembered, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.arrivals.read_small", None)
    remembered[3].chmod(0o600)  # another time of change: it is not known
    results = store.put_many(remembered[:3])
    assert [outcome.result.created for outcome in results] == [False] * 3
    with pytest.raises(TypeError):
        list(store.put_many(remembered))


@pytest.fixture
def linked(monkeypatch):
    "The contents of groups that had to be looked at once more, to be given a name"
    really, found = Group._link_some, []

    def told(group, entries, jobs):
        found.extend(job.content for job in jobs)
        really(group, entries, jobs)

    monkeypatch.setattr(Group, "_link_some", told)
    return found


@pytest.mark.parametrize("again", ["batch", "none"])
@pytest.mark.parametrize("first", ["batch", "none"])
def test_what_is_there_as_it_is_to_be_takes_no_further_step(store, linked, first, again):
    assert [outcome.result.created for outcome in store.put_many([b"a poster"], durability=first)] == [True]
    linked.clear()
    contents = [b"a poster", b"a still", b"a poster"]
    results = [outcome.result for outcome in store.put_many(contents, durability=again)]
    assert [result.created for result in results] == [False, True, False]
    assert linked == (contents if (first, again) == ("none", "batch") else [b"a still"])


def test_what_is_just_being_deleted_is_not_there(store, linked):
    store.put(b"a poster")
    store._index.database.execute("UPDATE objects SET state = 'trashing'")
    assert [outcome.result.created for outcome in store.put_many([b"a poster"])] == [True]
    assert linked == [b"a poster"] and hash_bytes(b"a poster") in store


def test_nothing_is_collected_while_contents_are_looked_for(store, monkeypatch):
    store.put(b"a poster")
    really, seen = store.parts.objects.is_as_stored, []

    def look(*args):
        with pytest.raises(StoreBusy), store.parts.lock.exclusive():
            pass
        seen.append(args)
        return really(*args)

    monkeypatch.setattr(store.parts.objects, "is_as_stored", look)
    assert [outcome.result.created for outcome in store.put_many([b"a poster"])] == [False]
    assert len(seen) == 1


def test_fault_42_a_store_that_is_exchanged_before_its_lock_is_had(store, tmp_path, monkeypatch):
    store.put(b"a poster")
    really, elsewhere = store._putting.lock.shared, tmp_path / "elsewhere"

    def exchanged():
        if not elsewhere.exists():
            store.root.rename(elsewhere)
            shutil.copytree(elsewhere, store.root)
        return really()

    monkeypatch.setattr(store._putting.lock, "shared", exchanged)
    with pytest.raises(StoreUnavailable):
        list(store.put_many([b"a poster"]))


def test_fault_11_what_is_known_behind_a_link_fails_alone(store, tmp_path):
    poster = store.put(b"a poster")
    store.put(b"a still")
    shard = poster.path.parent
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    outcomes = list(store.put_many([b"a poster", b"a still"]))
    assert [type(outcome.error) for outcome in outcomes] == [UnsafePath, type(None)]


def test_files_are_remembered_though_there_is_nothing_to_store(store, remembered, monkeypatch):
    store._putting.memo._database.execute("DELETE FROM memo")
    list(store.put_many(remembered))
    monkeypatch.setattr("cjm_media_storage.arrivals.read_small", None)
    assert [outcome.result.created for outcome in store.put_many(remembered)] == [False] * 5


def test_known_bytes_cost_no_temporary_file(store, remembered, monkeypatch):
    monkeypatch.setattr(Staging, "new", None)
    monkeypatch.setattr(Staging, "_write", None)
    with ContentStore(store.root, memo=False) as forgetful:
        contents = [*remembered, b"poster 1", iter([b"poster 2"])]
        assert [outcome.result.created for outcome in forgetful.put_many(contents)] == [False] * 7


@pytest.fixture
def unread(monkeypatch):
    "Nothing is read, and nothing linked"
    monkeypatch.setattr("cjm_media_storage.arrivals.read_small", None)
    monkeypatch.setattr(Group, "_link_some", None)


@pytest.mark.parametrize("durability", ["batch", "none"])
def test_of_what_is_known_for_long_only_the_use_is_written(store, remembered, unread, monkeypatch, durability):
    monkeypatch.setattr("cjm_media_storage.entries.USED", 0.0)
    store._index.database.execute("UPDATE objects SET used_at = 5.0, condemned_at = 6.0")
    contents = [*remembered, remembered[0], PutItem(b"poster 1")]
    results = [outcome.result for outcome in store.put_many(contents, durability=durability)]
    assert [result.created for result in results] == [False] * 7
    assert [result.path for result in results[:5]] == [store.path(hash_file(name)) for name in remembered]
    for name in remembered:
        (entry,) = store._index.entries(digest_of(hash_file(name)))
        assert entry.used_at > 1e9 and entry.condemned_at is None


def test_a_use_is_as_durable_as_the_group(store, remembered, unread, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.entries.USED", 0.0)
    really, asked = store._index.database.transaction, []

    def transaction(durable=True):
        asked.append(durable)
        return really(durable)

    monkeypatch.setattr(store._index.database, "transaction", transaction)
    for durability in ("batch", "none"):
        list(store.put_many(remembered, durability=durability))
    assert asked == [True, False]


def test_nothing_is_collected_while_uses_are_written(store, remembered, unread, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.entries.USED", 0.0)
    really, seen = store._index.mark_used, []

    def mark_used(*args):
        with pytest.raises(StoreBusy), store.parts.lock.exclusive():
            pass
        seen.append(args)
        return really(*args)

    monkeypatch.setattr(store._index, "mark_used", mark_used)
    list(store.put_many(remembered))
    assert len(seen) == 1


def test_what_is_taken_away_before_its_use_is_written_is_stored_again(store, remembered, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.entries.USED", 0.0)
    really, gone = store._index.mark_used, hash_file(remembered[2])

    def touch(*args):
        with ContentStore(store.root) as other:
            other.delete(gone)
        assert gone not in store
        return really(*args)

    monkeypatch.setattr(store._index, "mark_used", touch)
    # The other would wait for ever for whoever holds the lock: it deletes before that.
    monkeypatch.setattr(store._putting.lock, "shared", nullcontext)
    outcomes = list(store.put_many(remembered))
    assert [outcome.result and outcome.result.created for outcome in outcomes] == [False, False, True, False, False]
    assert store.read(gone) == b"poster 2"


def test_a_file_whose_path_gave_something_else_meanwhile_is_a_source_anew(store, remembered):
    list(store.put_many([PutItem(b"another", source=remembered[0])]))
    list(store.put_many(remembered))
    assert store.sources(hash_bytes(b"poster 0"))[-1].last_seen > store.sources(hash_bytes(b"another"))[-1].last_seen


def test_known_contents_with_something_to_be_written_take_all_steps(store, remembered, linked):
    asked = [
        PutItem(remembered[0], owner="movie:603"),
        PutItem(remembered[1], namespace="actors"),
        PutItem(remembered[2], provider="TMDB"),
        PutItem(remembered[3], source="https://example.org/3.jpg"),
    ]
    results = [outcome.result for outcome in store.put_many(asked)]
    assert [result.created for result in results] == [False, True, False, False]
    assert len(linked) == 4
    assert [reference.owner for reference in store.references(results[0].hash)] == ["movie:603"]
    assert "TMDB" in {source.provider for source in store.sources(results[2].hash)}
    assert "https://example.org/3.jpg" in {source.location for source in store.sources(results[3].hash)}
    linked.clear()
    list(store.put_many(asked[1:]))
    assert linked == []


@pytest.fixture
def submitted(monkeypatch):
    "How many contents were given to other threads, and for which step"
    really, found = Workers.submit, []

    def submit(self, function, *args):
        if args and self._threads:
            found.append((function.__name__, len(args[0])))
        return really(self, function, *args)

    monkeypatch.setattr(Workers, "submit", submit)
    return found


def test_known_files_need_no_other_thread(store, remembered, submitted, tmp_path, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.batches.ITEMS_PER_TASK", 2)
    list(store.put_many(remembered))
    assert submitted == []
    new = [tmp_path / f"new {n}.jpg" for n in range(4)]
    for name in new:
        name.write_bytes(name.name.encode())
    list(store.put_many([remembered[0], new[0], *remembered[1:3], *new[1:]]))
    # The first task has one that must be read; from then on, all is done by those who read.
    assert submitted == [("read_all", 1), ("receive", 2), ("receive", 2), ("receive", 1)]


def test_without_a_memo_nothing_is_looked_at_twice(store, submitted):
    with ContentStore(store.root, memo=False) as forgetful:
        list(forgetful.put_many([b"a poster"]))
    assert submitted == [("receive", 1)]


def test_a_store_that_fails_while_files_are_recognised_is_raised_after_what_was_stored(store, remembered, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.batches.ITEMS_PER_TASK", 1)
    monkeypatch.setattr("cjm_media_storage.groups.GROUP_ITEMS", 2)
    really, calls = store._index.last_given, []

    def last_given(places):
        calls.append(places)
        if len(calls) == 3:
            raise StoreBusy(str(store.root))
        return really(places)

    monkeypatch.setattr(store._index, "last_given", last_given)
    told = []
    with pytest.raises(StoreBusy):
        for outcome in store.put_many(remembered):
            told.append(outcome.result.created)
    assert told == [False, False] and len(calls) == 3


@pytest.mark.parametrize("shared", [False, True])
def test_what_was_durable_is_made_so_again_though_nothing_else_of_the_group_is(recorded, shared):
    "Its row says that it is"
    recorded.put(b"a poster", namespace="actors" if shared else "assets")
    lost = recorded.put(b"a poster").path
    lost.unlink()
    calls.clear()
    (outcome,) = recorded.put_many([b"a poster"], durability="none")
    assert outcome.error is None and not outcome.result.created and lost.read_bytes() == b"a poster"
    if recorded.parts.disk.folder_sync:
        assert str(lost.parent) in {os.fspath(args[0]) for name, args in calls if name == "sync_folder"}
    assert recorded._index.entries(digest_of(outcome.result.hash))[0].boot == ""


def test_files_that_the_memo_knows_and_the_store_has_lost(store, remembered):
    for n in range(2):
        store.delete(hash_bytes(b"poster %d" % n))
    store.trash.purge(everything=True)
    (store.path(hash_bytes(b"poster 2"))).unlink()
    rotten = store.path(hash_bytes(b"poster 3"))
    rotten.chmod(0o644)
    rotten.write_bytes(b"rotten")
    results = [outcome.result for outcome in store.put_many(remembered)]
    assert [result.created for result in results] == [True, True, False, False, False]
    assert [result.link_mode for result in results] == ["copy"] * 4 + ["none"]
    assert all(store.read(hash_bytes(b"poster %d" % n), verify=True) for n in range(5))


def between_two_looks(monkeypatch, change):
    "Have `change` done when a group has found out which of its contents must be read after all"
    read_after_all = Group._store_unread

    def changed(group, jobs):
        change()
        read_after_all(group, jobs)

    monkeypatch.setattr(Group, "_store_unread", changed)


def test_a_file_that_is_lost_at_both_ends_fails_alone(store, remembered, monkeypatch):
    "The memo knows it, the store has lost it, and it is gone itself when it is to be read after all"
    store.path(hash_bytes(b"poster 2")).unlink()
    between_two_looks(monkeypatch, lambda: remembered[2].unlink(missing_ok=True))
    outcomes = list(store.put_many(remembered))
    assert [outcome.result is not None for outcome in outcomes] == [True, True, False, True, True]
    assert isinstance(outcomes[2].error, SourceError)


def test_what_is_read_after_all_is_synced_before_it_gets_its_name(recorded):
    recorded.put(b"a poster").path.unlink()
    results, order = check_order(recorded, [b"a poster"])
    assert [result.link_mode for result in results] == ["copy"]
    assert order == ["write", "sync", "link", "sync", "commit", "acknowledge"]


def test_nothing_is_made_of_what_was_not_read_after_all(store, tmp_path):
    "All was to stop at the very moment: what was known of the content says nothing of its bytes"
    path = store.put(b"a poster").path
    (tmp_path / "poster.jpg").write_bytes(b"a poster")
    group = Group(store._putting, "batch")
    (job,) = group.jobs = [Job(str(tmp_path / "poster.jpg"), str(tmp_path / "poster.jpg"), check_terms())]
    group.receive(group.jobs)
    path.unlink()
    assert job.staged is None and job.incoming is not None and job.incoming.data is None
    read = group.read

    def stopped(*args):
        group.stop.set()
        read(*args)

    group.read = stopped
    group.store()
    assert group.stop.is_set() and not job.ended and not path.exists()


def test_new_contents_take_the_short_way_to_their_names(tmp_path, monkeypatch):
    "All but the second of the same bytes, and where files are synced one by one"
    monkeypatch.setattr(Group, "_link", None)
    contents = [b"a poster", b"a still"]
    with ContentStore(tmp_path / "whole") as store:
        assert [outcome.result.created for outcome in store.put_many(contents)] == [True, True]
        for never in ([b"a film", b"a film"], []):
            with pytest.raises(TypeError) if never else nullcontext():
                list(store.put_many(never))
    with ContentStore(tmp_path / "each", disk=Disk(syncfs=False)) as store, pytest.raises(TypeError):
        list(store.put_many(contents))


def test_fault_11_a_folder_that_becomes_a_link_while_a_group_is_stored(store, remembered, tmp_path, monkeypatch):
    "It was looked at while the lock was held, which says nothing of later"
    object = store.path(hash_bytes(b"poster 2"))
    object.unlink()
    outside = tmp_path / "outside"

    def exchange():
        if not outside.exists():
            object.parent.rename(outside)
            object.parent.symlink_to(outside)

    between_two_looks(monkeypatch, exchange)
    outcomes = list(store.put_many(remembered))
    assert isinstance(outcomes[2].error, UnsafePath) and list(outside.iterdir()) == []
    assert all(outcome.result for outcome in outcomes if outcome is not outcomes[2])


def test_the_row_of_what_was_adopted_has_the_time_of_the_file_that_is_there(store):
    path = store.put(b"a poster").path
    store.delete(hash_bytes(b"a poster"))
    store.trash.purge(everything=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a poster")
    os.utime(path, ns=(0, 10**9))
    assert all(outcome.result.created for outcome in store.put_many([b"a poster"]))
    assert [entry.mtime_ns for entry in store._index.entries(hash_bytes(b"a poster")[7:])] == [10**9]


def test_a_large_file_that_is_not_stored_leaves_nothing_in_staging(store, tmp_path, monkeypatch):
    (tmp_path / "film.mkv").write_bytes(os.urandom(SMALL + 1))

    def busy(digests):
        raise StoreBusy("index.db")

    monkeypatch.setattr(store._index, "live", busy)
    with pytest.raises(StoreBusy):
        list(store.put_many([tmp_path / "film.mkv"]))
    assert staged(store) == []


def test_a_known_stream_whose_object_vanishes_before_the_group_is_stored(store, monkeypatch):
    path = store.put(b"a poster").path
    look = store._putting.look

    def vanishing(*args):
        path.unlink(missing_ok=True)
        return look(*args)

    monkeypatch.setattr(store._putting, "look", vanishing)
    (outcome,) = store.put_many([iter([b"a poster"])])
    assert (outcome.result.created, path.read_bytes()) == (False, b"a poster")


def test_another_source_of_known_files_is_written_down(store, remembered):
    list(store.put_many(remembered, provider="TMDB", owner="movie:1"))
    for n in range(5):
        assert {source.provider for source in store.sources(hash_bytes(b"poster %d" % n))} == {"", "TMDB"}
        assert [reference.owner for reference in store.references(hash_bytes(b"poster %d" % n))] == ["movie:1"]


# ---- without durability


def doubtful(store):
    "Make the store's unsynced objects those of another start of the machine"
    store._index.database.execute("UPDATE objects SET boot = 'another' WHERE boot <> ''")


def boots(store):
    return {entry.boot for entry in store._index.select("digest <> ''")}


@pytest.mark.parametrize("many", [False, True])
def test_what_was_not_synced_is_read_before_it_is_believed(store, many):
    contents = [b"right", b"wrong", b"gone"]
    if many:
        paths = [outcome.result.path for outcome in store.put_many(contents, durability="none")]
    else:
        paths = [store.put(content, durability="none").path for content in contents]
    assert boots(store) == {boot_id()}
    doubtful(store)
    before = os.stat(paths[1])
    paths[1].chmod(0o644)
    paths[1].write_bytes(b"WRONG")
    os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    paths[2].unlink()
    assert store.read(hash_bytes(b"right")) == b"right"
    for read in (store.read, store.path):
        with pytest.raises(CorruptObject):
            read(hash_bytes(b"wrong"))
        with pytest.raises(MissingObject):
            read(hash_bytes(b"gone"))
    assert store._index.entries(hash_bytes(b"right")[7:])[0].boot == ""
    assert [outcome.result.created for outcome in store.put_many(contents)] == [False] * 3
    assert boots(store) == {""}
    assert all(store.read(hash_bytes(content), verify=True) == content for content in contents)


@pytest.mark.parametrize("again", ["put", "put_many"])
@pytest.mark.parametrize("namespace", ["assets", "actors"])
@pytest.mark.parametrize("way", [{}, {"syncfs": False}], ids=str)
def test_what_was_not_synced_is_made_durable_by_the_next_durable_put(tmp_path, again, namespace, way):
    with ContentStore(tmp_path / "store", disk=Recorder(**way)) as store:
        path = store.put(b"a poster", durability="none").path
        calls.clear()
        if again == "put":
            result = store.put(b"a poster", namespace=namespace)
        else:
            (result,) = (outcome.result for outcome in store.put_many([b"a poster"], namespace=namespace))
        assert result.created == (namespace == "actors")
        assert boots(store) == {""}
        synced = {args[0] for name, args in calls if name in ("sync_file", "sync_folder")}
        assert {path, *path.parents[:4]} <= synced


def test_what_was_durable_stays_so(store):
    path = store.put(b"a poster").path
    store.put(b"in the trash")
    store.delete(hash_bytes(b"in the trash"))
    store.put(b"a poster", durability="none")
    path.unlink()
    for outcome in store.put_many([b"a poster", b"in the trash"], durability="none"):
        assert outcome.result.link_mode == "copy"
    assert boots(store) == {""}
    store.put(b"a cache's", durability="none")
    assert boots(store) == {"", boot_id()}


def test_a_doubtful_object_that_is_right_is_durable_from_then_on(tmp_path):
    with ContentStore(tmp_path / "store", disk=Recorder()) as store:
        path = store.put(b"a poster", durability="none").path
        doubtful(store)
        calls.clear()
        store.put(b"a poster", durability="none")
        assert boots(store) == {""}
        synced = {args[0] for name, args in calls if name in ("sync_file", "sync_folder")}
        assert {path, *path.parents[:4]} <= synced


def test_a_moved_file_is_always_synced(store, tmp_path):
    (tmp_path / "film.mkv").write_bytes(b"a film")
    store.put(tmp_path / "film.mkv", move=True, durability="none")
    assert boots(store) == {""}


def test_an_unknown_durability(store):
    for call in (store.put, store.put_many):
        with pytest.raises(ValueError, match="durability is one of"):
            call(b"a poster", durability="very")
    with pytest.raises(ValueError):
        store.put(b"a poster", durability="batch")


@pytest.mark.parametrize("known", [b"a poster", b"a newer poster"])
def test_what_a_location_gave_last_in_a_group_is_its_newest(store, known):
    "Whichever of them is new to the store"
    url = "https://example.org/poster.jpg"
    store.put(known, source="https://example.org/another.jpg")
    contents = [PutItem(b"a poster", source=url), PutItem(b"a newer poster", source=url)]
    assert all(outcome.result for outcome in store.put_many(contents))
    assert [source.hash for source in store.find_by_source(url)] == [hash_bytes(item.content) for item in contents]


def test_the_source_of_a_file_has_the_extension_that_it_has_there(store, tmp_path):
    for name in ("film.mkv", "still"):
        (tmp_path / name).write_bytes(name.encode())
    list(store.put_many([tmp_path / "film.mkv", PutItem(tmp_path / "still", extension="png")]))
    for name, extension in (("film.mkv", "mkv"), ("still", "png")):
        assert [source.extension for source in store.sources(hash_bytes(name.encode()))] == [extension]


def test_fault_24_somebody_else_is_faster_and_calls_it_by_another_extension(store, monkeypatch):
    "Between the look at what is there, and the commit"
    unsaid = store._index.unsaid

    def faster(*args):
        with ContentStore(store.root) as other:
            assert other.put(b"a poster", extension="png").created
        return unsaid(*args)

    monkeypatch.setattr(store._index, "unsaid", faster)
    (outcome,) = store.put_many([PutItem(b"a poster", extension="jpg")])
    result = outcome.result
    assert (result.created, result.extension, result.path) == (False, "png", store.path(result.hash))
    assert result.path.suffix == ".png"


def test_a_program_without_a_standard_input_syncs_as_any_other_and_leaks_no_descriptor(tmp_path, program):
    "Descriptor 0 is one like any other there"
    said = program(
        """
        import os, sys
        from cjm_media_storage.files import Disk
        from cjm_media_storage.storage import ContentStore

        class Recorder(Disk):
            def sync_filesystem(self, fd):
                synced.append(fd)
                super().sync_filesystem(fd)

        synced = []
        with ContentStore(sys.argv[1], disk=Recorder()) as store:
            list(store.put_many([b"the first opens what stays open"]))
            os.close(0)
            synced.clear()
            before = os.listdir("/proc/self/fd")
            for n in range(3):
                list(store.put_many([b"poster %d" % n]))
            print(os.listdir("/proc/self/fd") == before, synced)
        """,
        tmp_path / "store",
    )
    assert said == "True [0, 0, 0, 0, 0, 0]"  # bytes and names of each


# ---- taking turns


def test_readers_stand_aside_for_what_is_mostly_python_and_for_no_wait(store, tmp_path, monkeypatch):
    order = []

    class Told(Turns):
        @contextmanager
        def together(self):
            with self._told("together"), super().together():
                yield

        @contextmanager
        def alone(self):
            with self._told("alone"), super().alone():
                yield

        @contextmanager
        def _told(self, name):
            order.append(name)
            yield
            order.append("end")

    def told(name):
        really = getattr(Group, name)

        def tell(*args):
            order.append(name)
            return really(*args)

        monkeypatch.setattr(Group, name, tell)

    for name in ("recognise", "_read_and_stage", "settle", "_sync", "_link_all", "_commit", "_remember"):
        told(name)
    (tmp_path / "poster.jpg").write_bytes(b"a poster")
    group = Group(store._putting, "batch", turns=Told())
    group.jobs = [Job(path, path, check_terms()) for path in [tmp_path / "poster.jpg"]]
    group.receive(group.jobs)
    group.store()
    assert " ".join(order) == (
        "recognise together settle end together _read_and_stage end _sync alone _link_all end _sync"
        " _commit alone end alone _remember end"
    )


def threads_that_link(monkeypatch, begin=lambda: None):
    "The threads that give names to the bytes of each digest; each of them calls `begin` first"
    really, found, all_of_them = Group._link_some, {}, set()

    def link(group, entries, jobs):
        if (here := threading.current_thread()) not in all_of_them:
            all_of_them.add(here)
            begin()
        for job in jobs:
            found.setdefault(job.digest, set()).add(here)
        really(group, entries, jobs)

    monkeypatch.setattr(Group, "_link_some", link)
    return found


def test_two_threads_give_names_and_all_of_a_digest_come_from_one(store, monkeypatch):
    found = threads_that_link(monkeypatch, partial(threading.Barrier(2).wait, 10))  # else one might do it all
    contents = [b"poster %d" % (n // 2) for n in range(2 * LINK_ITEMS)]
    outcomes = list(store.put_many(contents, threads=2))
    assert [outcome.result.created for outcome in outcomes] == [True, False] * LINK_ITEMS
    assert len(found) == LINK_ITEMS and all(len(threads) == 1 for threads in found.values())
    assert len(set.union(*found.values())) == 2 and verify(store).ok


@pytest.mark.parametrize("count, threads", [(LINK_ITEMS - 1, 2), (2 * LINK_ITEMS, 1)])
def test_one_thread_gives_names_to_few_or_where_there_is_no_other(store, monkeypatch, count, threads):
    found = threads_that_link(monkeypatch)
    assert all(outcome.result for outcome in store.put_many([b"%d" % n for n in range(count)], threads=threads))
    assert len(found) == count and len(set.union(*found.values())) == 1


def test_what_ends_the_store_on_one_thread_is_raised(store, monkeypatch):
    really = store.parts.objects.make_way

    def make_way(final, seen):
        if final.endswith(hash_bytes(b"poster 7")[-64:]):
            raise StoreUnavailable(str(store.root), "the disk is away")
        return really(final, seen)

    monkeypatch.setattr(store.parts.objects, "make_way", make_way)
    with pytest.raises(StoreUnavailable):
        list(store.put_many([b"poster %d" % n for n in range(2 * LINK_ITEMS)], threads=2))
    assert {problem.kind for problem in verify(store).problems} <= {"untracked"} and len(store) == 0
