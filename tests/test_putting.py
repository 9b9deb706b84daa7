"How content becomes an object: adopted, moved, put by many at once; and what must never be taken for one, or away."

import dataclasses
import io
import itertools
import os
import pickle
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from on_disk import staged, tree
from recording import Recorder, calls

from cjm_media_storage.files import Disk
from cjm_media_storage.staging import Staging
from cjm_media_storage.storage import (
    ContentStore,
    CorruptObject,
    HashMismatch,
    MissingObject,
    PutResult,
    SourceChanged,
    SourceError,
    StoreUnavailable,
    hash_bytes,
)

POSTER = b"a poster"
HASH = hash_bytes(POSTER)


@pytest.mark.parametrize("disk", [Disk(), Disk(hardlink=False)], ids=["links", "no links"])
def test_fault_24_many_threads_put_the_same_bytes(tmp_path, disk):
    with ContentStore(tmp_path / "store", disk=disk) as store, ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: store.put(POSTER * 1000), range(40)))
        assert sum(result.created for result in results) == 1
        assert ({result.hash for result in results}, len(store), len(tree(store))) == ({results[0].hash}, 1, 1)


def test_fault_24_many_processes_put_the_same_bytes(tmp_path, program):
    said = program(
        """
        import sys
        from cjm_media_storage.storage import ContentStore
        from concurrent.futures import ThreadPoolExecutor
        from together import in_processes

        def work(n):
            with ContentStore(sys.argv[1]) as store, ThreadPoolExecutor(4) as pool:
                results = list(pool.map(lambda _: store.put(b"a poster" * 1000), range(8)))
            return sum(result.created for result in results), {result.hash for result in results}

        print(sorted(in_processes(4, work), key=lambda result: result[0]))
        """,
        tmp_path / "store",
    )
    hashes = {hash_bytes(POSTER * 1000)}
    assert said == str([(0, hashes)] * 3 + [(1, hashes)])
    with ContentStore(tmp_path / "store") as store:
        assert (len(store), len(tree(store)), staged(store)) == (1, 1, [])


# ---- sources inside the store


def test_fault_10_a_source_inside_the_store(store):
    stored = store.put(POSTER, extension="jpg")
    again = store.put(stored.path)
    assert (again.path, again.created, store.sources(HASH)) == (stored.path, False, [])
    with pytest.raises(SourceError, match="outside the store"):
        store.put(stored.path, move=True)
    store._index.database.execute("DELETE FROM objects")  # a file that the index does not know: adopted, not copied
    inode = stored.path.stat().st_ino
    adopted = store.put(stored.path)
    assert (adopted.created, adopted.path, stored.path.stat().st_ino) == (True, stored.path, inode)
    assert len(tree(store)) == 1


def test_what_is_adopted_is_durable(store):
    path = store.put(POSTER, extension="jpg").path
    store._index.database.execute("DELETE FROM objects")
    assert store.parts.putting.adopt(path, "assets", "jpg", in_place=True).path == path
    assert {entry.boot for entry in store._index.entries(path.stem)} == {""}  # else it would be that of this start


def test_what_is_adopted_costs_no_temporary_file(store, monkeypatch):
    path = store.put(POSTER).path
    store._index.database.execute("DELETE FROM objects")
    for name in ("new", "_write"):
        monkeypatch.setattr(Staging, name, None)
    assert store.put(path).created


def test_a_link_among_the_objects_is_not_adopted(store, tmp_path):
    (tmp_path / "poster").write_bytes(POSTER)
    link = store.put(b"another").path.with_name(HASH[7:])
    link.symlink_to(tmp_path / "poster")
    with pytest.raises(SourceError):
        store.parts.putting.adopt(link, "assets", "", in_place=False)


def rot(path):
    "Change bytes, and no size or time"
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().upper())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_is_healed_is_read_whatever_the_index_tells_of_it(store):
    path = store.put(POSTER).path
    rot(path)
    (entry,) = store._index.entries(HASH[7:])
    with pytest.raises(HashMismatch):
        store.parts.putting.heal(b"another", entry)
    assert store.parts.putting.heal(POSTER, entry).hash == HASH
    assert path.read_bytes() == POSTER


def test_a_donor_keeps_its_file_and_may_write_to_it(store, tmp_path):
    donor = tmp_path / "donor.jpg"
    donor.write_bytes(POSTER)
    path = store.put(POSTER).path
    path.unlink()
    (entry,) = store._index.entries(HASH[7:])
    assert store.parts.putting.heal(donor, entry).path == path
    donor.write_bytes(b"edited by its owner")
    assert (path.read_bytes(), store.sources(HASH)) == (POSTER, [])


def test_a_link_is_no_donor(store, tmp_path):
    (tmp_path / "poster").write_bytes(POSTER)
    (tmp_path / "link").symlink_to("poster")
    store.put(POSTER).path.unlink()
    (entry,) = store._index.entries(HASH[7:])
    with pytest.raises(SourceError):
        store.parts.putting.heal(tmp_path / "link", entry)


def test_what_is_adopted_is_read_whatever_is_remembered_of_it(store):
    store.put(b"another")
    path = store.put(POSTER).path
    store._index.database.execute("DELETE FROM objects WHERE digest = ?", (HASH[7:],))
    store.parts.memo.remember(os.stat(path), hash_bytes(b"another"), time.time_ns() + 10**10)
    assert store.parts.putting.adopt(path, "assets", "", in_place=True).hash == HASH


def test_what_is_put_again_comes_back_from_the_trash_as_it_was(store):
    first = store.put(POSTER, extension="jpg")
    store.delete(HASH)
    again = store.put(POSTER, extension="png")
    assert dataclasses.replace(again, link_mode=first.link_mode) == first
    assert (len(store.trash), store.read(HASH, verify=True), len(tree(store))) == (0, POSTER, 1)
    assert not any(path.is_file() for path in (store.root / ".store" / "trash").rglob("*"))


def test_a_store_that_is_moved_away_while_bytes_are_read_takes_nothing(tmp_path):
    root, other = tmp_path / "store", tmp_path / "other"
    ContentStore(other).close()

    def poster():
        root.rename(tmp_path / "moved")
        other.rename(root)
        yield POSTER

    with ContentStore(root) as store:
        with pytest.raises(StoreUnavailable):
            store.put(poster())
        assert (len(store), tree(store)) == (0, [])


# ---- where the same bytes are elsewhere, and what is synced


@pytest.mark.parametrize("lost", ["actors", "assets"])
def test_bytes_are_linked_from_the_namespace_that_has_them(store, lost):
    paths = {namespace: store.put(POSTER, namespace=namespace).path for namespace in ("actors", "assets")}
    paths[lost].unlink()
    assert store.put(POSTER, namespace="posters").link_mode == "hardlink"


def test_bytes_that_were_not_durable_are_so_before_they_are_linked_from_elsewhere(store):
    store.put(POSTER, durability="none")
    assert store.put(POSTER, namespace="actors").link_mode == "hardlink"
    assert {entry.boot for entry in store._index.entries(HASH[7:])} == {""}


def test_fault_24_somebody_else_is_faster_and_calls_it_by_another_extension(store, monkeypatch):
    commit = store._index.commit

    def faster(*args, **options):
        with ContentStore(store.root) as other:
            assert other.put(POSTER, extension="png").created
        return commit(*args, **options)

    monkeypatch.setattr(store._index, "commit", faster)
    result = store.put(POSTER, extension="jpg")
    assert (result.created, result.extension, result.path) == (False, "png", store.path(HASH))


@pytest.mark.parametrize("shared", range(5))
def test_folders_that_somebody_left_are_durable_only_if_they_hold_what_is(tmp_path, shared):
    "Who made them may not have lived to sync them; a durable object tells of the folders above it"
    contents = (b"%d" % n for n in itertools.count())
    beginning, next_digit = HASH[7:][:shared], HASH[7:][shared]
    digests = ((content, hash_bytes(content)[7:]) for content in contents)
    other = next(c for c, digest in digests if digest.startswith(beginning) and digest[shared] != next_digit)
    with ContentStore(tmp_path / "store", disk=Recorder(syncfs=False)) as store:
        store.put(other)
        folder = store.root / "assets" / HASH[7:9] / HASH[9:11]
        folder.mkdir(parents=True, exist_ok=True)
        calls.clear()
        assert store.put(POSTER).path.parent == folder
        synced = {args[0] for name, args in calls if name == "sync_folder"}
    assert synced == {folder, *folder.parents[: 2 - shared // 2]}


# ---- move


def test_a_moved_file_has_its_final_name_and_no_other(store, tmp_path):
    source = tmp_path / "poster.jpg"
    source.write_bytes(POSTER)
    inode = source.stat().st_ino
    result = store.put(source, move=True)
    assert (result.link_mode, result.path.stat().st_ino, source.exists()) == ("move", inode, False)
    assert result.path.stat().st_mode & 0o777 == 0o444
    assert [each.location for each in store.sources(HASH)] == [str(source)]
    source.write_bytes(POSTER)
    assert (store.put(source, move=True).link_mode, source.exists()) == ("none", False)


def test_a_file_that_is_named_as_its_object_is_moved(store, tmp_path):
    "As one that comes from another store"
    source = tmp_path / HASH[7:]
    source.write_bytes(POSTER)
    assert (store.put(source, move=True).path.name, source.exists()) == (source.name, False)


def test_a_file_with_another_name_is_copied_before_it_is_removed(store, tmp_path):
    source, other = tmp_path / "poster.jpg", tmp_path / "other"
    source.write_bytes(POSTER)
    os.link(source, other)
    assert (store.put(source, move=True).link_mode, source.exists()) == ("copy", False)
    other.write_bytes(b"edited by the other name")
    assert store.read(HASH) == POSTER


def test_a_move_that_fails_leaves_the_file_as_it_was(store, tmp_path):
    source = tmp_path / "poster.jpg"
    source.write_bytes(POSTER)
    source.chmod(0o640)
    with pytest.raises(ValueError):
        store.put(source, move=True, owner="")
    with pytest.raises(HashMismatch):
        store.put(source, move=True, expected_hash=hash_bytes(b"other"))
    store._objects.link = None  # fails after the file was made read-only
    with pytest.raises(TypeError):
        store.put(source, move=True)
    assert (source.read_bytes(), source.stat().st_mode & 0o777) == (POSTER, 0o640)


@pytest.mark.parametrize("name", ["poster.jpg", "other", "nowhere"], ids=["a file", "a link", "a link to nothing"])
def test_what_takes_the_place_of_a_file_that_cannot_be_moved_keeps_its_permissions(store, tmp_path, name):
    "Those of the file that was to be moved were given to somebody else's, wherever a link led"
    source, other = tmp_path / "poster.jpg", tmp_path / "other"
    source.write_bytes(POSTER)
    other.write_bytes(b"somebody else's")
    other.chmod(0o600)

    def replaced(*args):
        source.unlink()
        if name == source.name:
            other.rename(source)
        else:
            source.symlink_to(name)
        raise OSError("a disk that fails")

    store._objects.link = replaced
    with pytest.raises(OSError, match="a disk that fails"):
        store.put(source, move=True)
    assert (other if other.exists() else source).stat().st_mode & 0o777 == 0o600


def test_a_move_that_fails_after_the_link_leaves_the_file_read_only(tmp_path):
    "It is the object by then, for whoever puts the same bytes next: nobody may write to it by its old name"
    source = tmp_path / "poster"
    source.write_bytes(POSTER)
    with ContentStore(tmp_path / "store") as store:
        store._index.commit = None
        with pytest.raises(TypeError):
            store.put(source, move=True)
    with ContentStore(tmp_path / "store") as store:
        assert (store.put(POSTER).path.samefile(source), source.stat().st_mode & 0o777) == (True, 0o444)
        assert (store.put(source, move=True).link_mode, source.exists()) == ("none", False)
        assert store.read(HASH) == POSTER


def test_a_move_without_hard_links_copies(tmp_path):
    source = tmp_path / "poster.jpg"
    source.write_bytes(POSTER)
    with ContentStore(tmp_path / "store", disk=Disk(hardlink=False)) as store:
        assert store.put(source, move=True).link_mode in ("copy", "reflink")
        assert (source.exists(), store.read(HASH), staged(store)) == (False, POSTER, [])


@pytest.mark.parametrize("disk", [Disk(), Disk(hardlink=False)], ids=["links", "no links"])
def test_what_is_no_file_cannot_be_moved(tmp_path, disk):
    (tmp_path / "file").write_bytes(POSTER)
    (tmp_path / "link").symlink_to("file")
    with ContentStore(tmp_path / "store", disk=disk) as store:
        for content in (POSTER, io.BytesIO(POSTER), tmp_path / "link", tmp_path):
            with pytest.raises(SourceError):
                store.put(content, move=True)
        assert (tmp_path / "link").is_symlink() and tree(store) == []


# ---- what must not become an object, and what must not be removed


def test_fault_10_what_is_no_object_inside_the_store_is_copied(store):
    "The index was linked as an object and made read-only, and changed with the next put"
    store.put(POSTER)
    notes = store.root / "assets" / "notes.txt"
    notes.write_bytes(b"somebody's notes")
    for path in (store.root / ".store" / "index.db", notes):
        mode = path.stat().st_mode
        result = store.put(path)
        assert (result.path.samefile(path), path.stat().st_mode) == (False, mode)
        store.put(b"more rows")
        assert store.read(result.hash, verify=True)


@pytest.mark.parametrize("disk", [Disk(), Disk(hardlink=False)], ids=["links", "no links"])
def test_fault_10_an_untracked_object_is_adopted_by_whatever_name(tmp_path, disk):
    with ContentStore(tmp_path / "store", disk=disk) as store:
        path = store.put(POSTER).path
        link = tmp_path / "poster"
        link.symlink_to(path)
        for name in (path, link):
            store._index.database.execute("DELETE FROM objects")
            assert (store.put(name).path, path.is_symlink()) == (path, False)
        with pytest.raises(SourceError):
            store.put(link, follow_symlinks=False)


def test_fault_12_a_file_that_is_replaced_while_it_is_moved(tmp_path):
    source, newer = tmp_path / "poster.jpg", tmp_path / "newer.jpg"
    source.write_bytes(POSTER)

    class Replacing(Disk):
        def make_one(self, path, mode):  # between the hashing and the link
            made = super().make_one(path, mode)
            if "assets" in Path(path).parts and not newer.exists():
                newer.write_bytes(b"a newer poster")
                newer.chmod(0o640)
                os.link(newer, tmp_path / "second")
                os.replace(tmp_path / "second", source)
            return made

    with ContentStore(tmp_path / "store", disk=Replacing()) as store:
        with pytest.raises(SourceChanged):
            store.put(source, move=True)
        assert (source.read_bytes(), source.stat().st_mode & 0o777) == (b"a newer poster", 0o640)
        assert (len(store), tree(store), staged(store)) == (0, [], [])


def test_a_moved_file_that_somebody_still_writes_is_no_success(tmp_path):
    source = tmp_path / "poster.jpg"
    source.write_bytes(POSTER)

    class Written(Disk):
        def sync_folder(self, path):
            super().sync_folder(path)
            if Path(path).parent.parent.name == "assets":
                writer.write(b", and more")

    with open(source, "ab", buffering=0) as writer, ContentStore(tmp_path / "store", disk=Written()) as store:
        with pytest.raises(CorruptObject):
            store.put(source, move=True)
        assert source.read_bytes() == b"a poster, and more"


def test_a_move_does_not_rely_on_what_is_remembered_of_the_file(store, tmp_path):
    "A program that maps a file can change it without a change of its times"
    source = tmp_path / "poster.jpg"
    source.write_bytes(b"A POSTER")
    store.put(POSTER)
    store.parts.memo.remember(os.stat(source), HASH, time.time_ns() + 10**10)
    result = store.put(source, move=True)
    assert (result.hash, store.read(result.hash)) == (hash_bytes(b"A POSTER"), b"A POSTER")


@pytest.mark.parametrize("namespace", ["assets", "actors"])
@pytest.mark.parametrize("size", [8, 2_000_000])
def test_a_file_is_removed_only_once_its_bytes_were_read_in_the_store(store, tmp_path, namespace, size):
    "The last good copy was removed for the sake of an object that had rotted with its size and time unchanged"
    source = tmp_path / "poster.jpg"
    source.write_bytes(b"a" * size)
    path = store.put(source).path
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"b" * size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = store.put(source, namespace=namespace, move=True)
    assert (source.exists(), result.path.read_bytes() == b"a" * size) == (False, True)


@pytest.mark.parametrize("namespaces", [["assets"], ["assets", "actors"]])
def test_fault_10_an_object_is_not_moved_away_by_another_way_to_the_store(store, monkeypatch, namespaces):
    "As a bind mount is one, which no resolving of links tells"
    paths = [store.put(POSTER, namespace=namespace).path for namespace in namespaces]
    monkeypatch.setattr(store._putting, "is_inside", lambda path: False)
    for path in paths:
        with pytest.raises(SourceError, match="the object itself"):
            store.put(path, move=True)
        assert path.read_bytes() == POSTER


def test_fault_26_an_object_that_is_deleted_when_it_was_just_put(tmp_path, monkeypatch):
    "Whoever puts is told of it all the same"
    with ContentStore(tmp_path / "store") as store, ContentStore(tmp_path / "store") as other:
        shared = store.parts.lock.shared

        @contextmanager
        def shared_and_deleted():
            with shared():
                yield
            other.delete(HASH)

        monkeypatch.setattr(store.parts.lock, "shared", shared_and_deleted)
        assert store.put(b"a poster").created
        assert len(other.trash) == 1


@pytest.fixture
def meanwhile(store, monkeypatch):
    "Lets something happen when a file that is moved was stored, and has its old name still"
    receive = store.parts.putting._receive

    def let(happen):
        def received(*args, **options):
            result = receive(*args, **options)
            happen()
            return result

        monkeypatch.setattr(store.parts.putting, "_receive", received)

    return let


def test_a_file_that_somebody_takes_away_while_it_is_moved_is_stored(store, tmp_path, meanwhile):
    film = tmp_path / "film.mkv"
    film.write_bytes(b"a film")
    meanwhile(film.unlink)
    result = store.put(film, move=True)
    assert (result.created, store.read(result.hash, verify=True)) == (True, b"a film")


def test_another_file_is_not_taken_for_the_one_that_was_moved(store, tmp_path, meanwhile, caplog):
    "Though it has the size and the time of that one"
    film, other = tmp_path / "film.mkv", tmp_path / "other"
    film.write_bytes(b"a film")
    other.write_bytes(b"b film")
    os.utime(other, ns=(film.stat().st_atime_ns, film.stat().st_mtime_ns))
    meanwhile(lambda: other.rename(film))
    assert store.read(store.put(film, move=True).hash) == b"a film"
    assert film.read_bytes() == b"b film"
    assert "left in place" in caplog.text


def test_a_link_to_a_file_that_was_moved_is_left_in_place(store, tmp_path, meanwhile, caplog):
    "Somebody has given the file another name meanwhile, and put the link there"
    film, other = tmp_path / "film.mkv", tmp_path / "other"
    film.write_bytes(b"a film")

    def renamed():
        film.rename(other)
        film.symlink_to(other)

    meanwhile(renamed)
    assert store.put(film, move=True).created
    assert (film.is_symlink(), "left in place" in caplog.text) == (True, True)


def test_a_result_makes_its_path_when_it_is_asked_for(store):
    "And is nothing else than one that was made with it"
    result = store.put(b"a poster")
    assert "path" not in vars(result)
    other = pickle.loads(pickle.dumps(result))
    facts = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    whole = PutResult(**facts)
    assert isinstance(result.path, Path)
    assert (result, other, dataclasses.replace(other)) == (whole,) * 3
    assert (repr(other), hash(other), other._repr_html_()) == (repr(whole), hash(whole), whole._repr_html_())
    with pytest.raises(AttributeError, match="'PutResult' object has no attribute 'place'"):
        _ = result.place
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.path = Path()


def test_a_row_that_is_wrong_of_the_time_is_corrected_when_the_bytes_are_put_again(store):
    result = store.put(b"a poster")
    os.utime(result.path, ns=(7, 7))
    assert not store.put(b"a poster").created
    assert list(store._index.database.fetch("SELECT mtime_ns FROM objects")) == [(7,)]


def test_a_row_that_is_wrong_of_the_time_is_corrected_when_the_bytes_are_put_elsewhere(store):
    "Else they would be read again by whoever asks next"
    os.utime(store.put(b"a poster").path, ns=(7, 7))
    assert store.put(b"a poster", namespace="actors").created
    assert list(store._index.database.fetch("SELECT mtime_ns FROM objects ORDER BY id")) == [(7,), (7,)]


def test_what_one_namespace_lost_is_read_from_another_after_an_unclean_stop(store):
    poster = store.put(b"a poster", durability="none")
    store.put(b"a poster", namespace="actors", durability="none")
    store._index.database.execute("UPDATE objects SET boot = 'before'")
    poster.path.unlink()
    assert store.read(poster.hash) == b"a poster"
    store.get(poster.hash, "actors").path.unlink()
    with pytest.raises(MissingObject):
        store.read(poster.hash)


def test_what_was_not_synced_is_read_though_nothing_can_be_written_down(tmp_path):
    "It is read again the next time"
    with ContentStore(tmp_path / "store", timeout=0.1) as store:
        store.put(POSTER, durability="none")
        store._index.database.execute("UPDATE objects SET boot = 'before'")
        with closing(sqlite3.connect(store.root / ".store" / "index.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert store.read(HASH) == POSTER
        assert [entry.boot for entry in store._index.entries(HASH[7:])] == ["before"]
        assert store.read(HASH) == POSTER
        assert [entry.boot for entry in store._index.entries(HASH[7:])] == [""]
