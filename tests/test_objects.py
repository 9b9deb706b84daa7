"The files of objects: trusted, read, and refused where they are none."

import os
import shutil
import socket
import sqlite3
from contextlib import closing

import pytest
from damage import overwrite, quarantined
from recording import Recorder, calls

from cjm_media_storage.files import Disk
from cjm_media_storage.kernel import opener_without_links
from cjm_media_storage.layout import digest_of
from cjm_media_storage.objects import AT_ONCE
from cjm_media_storage.paths import READ
from cjm_media_storage.staging import boot_id
from cjm_media_storage.storage import ContentStore, CorruptObject, MissingObject, UnsafePath, hash_bytes


def test_an_object_whose_file_is_gone_is_told_and_healed(store):
    result = store.put(b"a poster")
    result.path.unlink()
    with pytest.raises(MissingObject):
        store.open(result.hash)
    again = store.put(b"a poster")
    assert (again.created, again.link_mode) == (False, "copy")
    assert store.read(result.hash) == b"a poster"


def test_a_file_is_as_it_was_stored_or_not(store):
    result = store.put(b"a poster")
    objects, (entry,) = store.parts.objects, store._index.entries(digest_of(result.hash))

    def is_as_stored(entry=entry):
        return objects.is_as_stored(entry, objects.name(entry), set())

    assert is_as_stored()
    assert not is_as_stored(entry._replace(size=9)) and not is_as_stored(entry._replace(mtime_ns=entry.mtime_ns + 1))
    assert not is_as_stored(entry._replace(boot="before this start"))
    assert is_as_stored(entry._replace(boot=boot_id()))
    stat = result.path.stat()
    result.path.unlink()
    assert not is_as_stored()  # its folder is there
    result.path.mkdir()
    os.utime(result.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not is_as_stored(entry._replace(size=result.path.stat().st_size))
    result.path.rmdir()
    (result.path.parent / "elsewhere").write_bytes(b"a poster")
    result.path.symlink_to("elsewhere")
    link = result.path.lstat()
    assert not is_as_stored(entry._replace(size=link.st_size, mtime_ns=link.st_mtime_ns))
    shutil.rmtree(result.path.parent)
    assert not is_as_stored()


@pytest.fixture
def stored(tmp_path):
    "The objects of a store, the row of one of them, and its file"
    with ContentStore(tmp_path / "recorded", disk=Recorder()) as store:
        result = store.put(b"a poster")
        ((entry,), objects) = store._index.entries(digest_of(result.hash)), store.parts.objects
        calls.clear()
        yield objects, entry, result.path


def synced():
    "What was synced since somebody asked last"
    found = {os.fspath(args[0]) for name, args in calls if name in ("sync_file", "sync_folder")}
    calls.clear()
    return found


def test_an_object_is_read_and_synced_only_in_doubt(stored):
    objects, entry, path = stored
    assert objects.check(entry) is entry and synced() == set()
    assert objects.check(entry, read=True) == entry and synced() == {str(path)}
    os.utime(path, ns=(0, 7))
    assert objects.check(entry) == entry._replace(mtime_ns=7) and synced() == {str(path)}
    doubtful = entry._replace(boot="before this start", size=3)
    everything_above = {str(each) for each in path.parents[:4]}
    assert objects.check(doubtful) == entry._replace(mtime_ns=7) and synced() == {str(path)} | everything_above
    assert objects.trusted(entry._replace(boot="before this start")) == entry
    assert synced() == {str(path)} | everything_above
    overwrite(path, b"A POSTER")
    assert (objects.check(entry), objects.check(doubtful), synced()) == (None, None, set())


def test_a_link_in_the_place_of_an_object_is_refused(stored, tmp_path):
    objects, entry, path = stored
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePath):
        objects.check(entry)


def test_the_first_file_that_is_there_is_opened(stored):
    objects, entry, path = stored
    gone = entry._replace(namespace="actors")
    assert objects.measure(entry) == (8, path.stat().st_mtime_ns)
    with objects.open([gone, entry], verify=True) as file:
        assert file.read() == b"a poster"
    with pytest.raises(MissingObject):
        objects.open([gone], verify=False)


def test_wrong_bytes_are_given_to_whoever_does_not_ask(stored):
    objects, entry, path = stored
    overwrite(path, b"A POSTER")
    assert objects.at_once(entry.path, entry.size) == b"A POSTER"
    with objects.open([entry], verify=False) as file:
        assert file.read() == b"A POSTER"
    before = os.listdir("/proc/self/fd")
    with pytest.raises(CorruptObject):
        objects.open([entry], verify=True)
    assert os.listdir("/proc/self/fd") == before


@pytest.fixture(params=["openat2", "a plain call"])
def opening(request, monkeypatch):
    "How a small file is opened"
    if request.param != "openat2":
        monkeypatch.setattr("cjm_media_storage.files.opener_without_links", lambda flags: None)
    elif opener_without_links(READ) is None:
        pytest.skip("this system has no openat2")
    return request.param


def test_a_small_file_is_read_in_few_calls(stored, monkeypatch, opening):
    objects, entry, _ = stored
    monkeypatch.setattr(objects, "open", None)
    if opening == "openat2":  # which needs no look at where the file is
        monkeypatch.setattr("cjm_media_storage.objects.inside", None)
    before = os.listdir("/proc/self/fd")
    assert objects.at_once(entry.path, entry.size) == b"a poster"
    assert [objects.at_once(entry.path, size) for size in (7, 9, AT_ONCE + 1)] == [None] * 3
    assert objects.at_once(f"{entry.path}x", entry.size) is None
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_fault_11_links_that_lead_out_of_the_store_are_refused(store, tmp_path, level, opening):
    path = store.put(b"a poster").path
    place = [path, *path.parents][level]
    outside = tmp_path / "outside"
    place.rename(outside)
    place.symlink_to(outside)
    before = sorted(outside.rglob("*")) if outside.is_dir() else outside.read_bytes()
    for attempt in (lambda: store.put(b"a poster"), lambda: store.read(hash_bytes(b"a poster"))):
        with pytest.raises(UnsafePath):
            attempt()
    assert (sorted(outside.rglob("*")) if outside.is_dir() else outside.read_bytes()) == before


def test_fault_56_a_size_in_the_index_that_differs_from_the_file(store):
    result = store.put(b"a poster")
    with closing(sqlite3.connect(store.root / ".store" / "index.db")) as other:
        other.execute("UPDATE objects SET size = 7")
        other.commit()
    again = store.put(b"a poster")  # the bytes decide, and the index is corrected
    assert (again.created, again.size, quarantined(store)) == (False, 8, [])
    assert store.get(result.hash).size == 8


def test_a_store_that_was_copied_elsewhere_works_there(store, tmp_path):
    result = store.put(b"a poster", extension="jpg")
    store.close()
    shutil.copytree(store.root, tmp_path / "copy", copy_function=shutil.copy)  # new times, as `cp -r` gives
    with ContentStore(tmp_path / "copy") as copy:
        assert copy.read(result.hash, verify=True) == b"a poster"
        assert not copy.put(b"a poster").created
        assert copy.path(result.hash).is_relative_to(tmp_path / "copy")


def bind(name):
    with closing(socket.socket(socket.AF_UNIX)) as one:
        one.bind(name)


@pytest.mark.parametrize("make", [os.mkfifo, bind])
def test_a_pipe_or_socket_in_the_place_of_an_object_is_quarantined(store, monkeypatch, make):
    path = store.put(b"a poster").path
    path.unlink()
    monkeypatch.chdir(path.parent)  # the path of a socket may not be long
    make("other")
    os.rename("other", path.name)
    with pytest.raises(CorruptObject):  # and no waiting for a pipe's writer
        store.open(hash_bytes(b"a poster"))
    store.put(b"a poster")
    assert store.read(hash_bytes(b"a poster")) == b"a poster"
    assert [p.is_file() for p in (store.root / ".store" / "quarantine").iterdir()] == [False]


@pytest.mark.parametrize("size", [8, 2_000_000])
def test_a_copy_into_a_second_namespace_is_of_the_bytes_that_were_hashed(tmp_path, size):
    source = tmp_path / "poster.jpg"
    source.write_bytes(b"a" * size)
    with ContentStore(tmp_path / "store", disk=Disk(hardlink=False)) as store:
        path = store.put(source).path
        before = path.stat()
        overwrite(path, b"b" * size)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # so the index believes it
        result = store.put(source, namespace="actors")
        assert (result.link_mode, result.path.read_bytes() == b"a" * size) == ("copy", True)


def test_a_folder_in_the_place_of_an_object_is_corrupt(store):
    path = store.put(b"a poster").path
    path.unlink()
    path.mkdir()
    with pytest.raises(CorruptObject):
        store.open(hash_bytes(b"a poster"))


@pytest.mark.parametrize("size", [0, 1, 8, AT_ONCE, AT_ONCE + 1, 1 << 62])  # that the index tells
@pytest.mark.parametrize("content", [b"", b"a poster", bytes(AT_ONCE), bytes(AT_ONCE + 3)], ids=len)
def test_all_bytes_are_read_whatever_size_the_index_tells(store, content, size, opening):
    hash = store.put(content).hash
    with closing(sqlite3.connect(store.root / ".store" / "index.db")) as con, con:
        con.execute("UPDATE objects SET size = ?", (size,))
    assert store.read(hash) == content
