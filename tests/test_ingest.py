"Bytes on their way in: everything that can go wrong before they are stored."

import errno
import io
import os
import socket
import unicodedata

import pytest
from on_disk import ODD_NAMES, staged, tree, unprivileged
from recording import Recorder, calls

from cjm_media_storage import hashing
from cjm_media_storage.files import Disk
from cjm_media_storage.ingest import NOTHING, SMALL, Known, Limits, drop, open_source, receive, take
from cjm_media_storage.putting import Putting
from cjm_media_storage.staging import Staging
from cjm_media_storage.storage import (
    ContentStore,
    Hasher,
    HashMismatch,
    InvalidHash,
    NoSpace,
    ReadOnlyStore,
    SizeMismatch,
    SourceChanged,
    SourceError,
    TooLarge,
    hash_bytes,
    hash_file,
)

SIZES = [1000, SMALL, SMALL + 1, 3 * SMALL + 7]


@pytest.fixture(autouse=True)
def nothing_is_left_in_staging(store):
    yield
    assert staged(store) == []


def refused(store, error, content, **options):
    "Check that putting `content` fails with `error` and leaves nothing behind"
    with pytest.raises(error) as caught:
        store.put(content, **options)
    assert (tree(store), store.stats()["sources"], staged(store)) == ([], 0, [])
    return caught.value


@pytest.fixture
def when_read(monkeypatch):
    "Call a function once, when the first bytes of a source have been hashed"

    def arrange(function):
        todo, update = [function], Hasher.update

        def updating(self, data):
            update(self, data)
            if todo:
                todo.pop()()

        monkeypatch.setattr(hashing.Hasher, "update", updating)

    return arrange


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("disk", [Disk(), Disk(reflink=False), Disk(reflink=False, copy_range=False)], ids=str)
def test_a_file_of_any_size_by_any_way_of_copying(tmp_path, size, disk):
    content = os.urandom(size)
    (tmp_path / "film.mkv").write_bytes(content)
    with ContentStore(tmp_path / "by-way", disk=disk) as store:
        assert store.put(tmp_path / "film.mkv").hash == hash_bytes(content)
        assert store.read(hash_bytes(content)) == content


@pytest.mark.parametrize("size", SIZES)
def test_streams_and_iterators_of_any_size(store, size):
    content = os.urandom(size)
    parts = [content[i : i + 100_000] for i in range(0, size, 100_000)]
    for number, source in enumerate((io.BytesIO(content), iter(parts), parts, bytearray(content), memoryview(content))):
        result = store.put(source)
        assert (result.hash, result.size, result.created) == (hash_bytes(content), size, number == 0)
    assert store.read(result.hash) == content


def test_known_bytes_cost_no_temporary_file(store, tmp_path, monkeypatch):
    for name, size in (("small", 1000), ("large", 2 * SMALL)):
        (tmp_path / name).write_bytes(os.urandom(size))
        store.put(tmp_path / name)
        monkeypatch.setattr(Staging, "new", None)
        monkeypatch.setattr(Staging, "_write", None)
        assert not store.put(tmp_path / name).created
        assert not store.put((tmp_path / name).read_bytes()).created
        monkeypatch.undo()


def test_a_file_that_did_not_change_is_not_read_again(store, tmp_path, monkeypatch):
    (tmp_path / "film.mkv").write_bytes(b"a film")
    monkeypatch.setattr("cjm_media_storage.memo.RACY", 0)  # so that it counts as one that nobody has written lately
    first = store.put(tmp_path / "film.mkv")
    monkeypatch.setattr("cjm_media_storage.ingest.Hasher", None)
    again = store.put(tmp_path / "film.mkv")
    assert (again.hash, again.created) == (first.hash, False)


def test_fault_07_a_link_to_a_file(store, tmp_path):
    (tmp_path / "poster.jpg").write_bytes(b"a poster")
    (tmp_path / "link.jpg").symlink_to("poster.jpg")
    refused(store, SourceError, tmp_path / "link.jpg", follow_symlinks=False)
    assert store.put(tmp_path / "link.jpg").hash == hash_bytes(b"a poster")
    assert not store.path(hash_bytes(b"a poster")).is_symlink()


def test_fault_08_links_that_lead_nowhere(store, tmp_path):
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("dangling", "loop"):
        assert isinstance(refused(store, SourceError, tmp_path / name).__cause__, OSError)


def test_fault_09_what_is_no_file_is_refused_at_once(store, here):
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")  # its whole path may be too long for an address
        for path in (here / "fifo", here / "socket", here, "/dev/null", "/dev/zero"):
            assert "regular file" in str(refused(store, SourceError, path))
    for path in ("", "nul\0name", here / "gone"):
        refused(store, SourceError, path)


@pytest.mark.parametrize("size", [1000, 3 * SMALL])
def test_fault_12_a_file_that_is_written_while_it_is_read(store, tmp_path, when_read, size):
    path = tmp_path / "recording.wav"

    def grow():
        with path.open("ab") as file:
            file.write(b"more")

    def shrink():
        os.truncate(path, 10)

    def replace():
        (tmp_path / "new").write_bytes(b"x" * size)
        os.replace(tmp_path / "new", path)

    def edit():
        with path.open("r+b") as file:
            file.write(b"edit")
        os.utime(path, ns=(1, 1))

    def edit_and_name():
        "Another name changes the time that would have told"
        os.link(path, tmp_path / "second name")
        edit()

    for change in (grow, shrink, replace, edit, edit_and_name):
        path.write_bytes(os.urandom(size))
        when_read(change)
        assert isinstance(refused(store, SourceChanged, path), SourceError)


@pytest.fixture
def when_opened(monkeypatch):
    "Call a function once, when a file was looked at and is about to be opened"

    def arrange(path, function):
        todo, open_ = [function], os.open

        def opening(name, *args, **options):
            if name == path and todo:
                todo.pop()()
            return open_(name, *args, **options)

        monkeypatch.setattr(os, "open", opening)

    return arrange


def test_fault_09_what_became_a_pipe_since_it_was_looked_at_is_refused_at_once(tmp_path, when_opened):
    path = tmp_path / "film.mkv"
    path.write_bytes(b"a film")

    def become_a_pipe():
        path.unlink()
        os.mkfifo(path)

    when_opened(path, become_a_pipe)
    with pytest.raises(SourceError, match="regular file"), open_source(path):
        pass


def test_fault_07_what_became_a_link_since_it_was_looked_at_is_not_followed(tmp_path, when_opened):
    path = tmp_path / "film.mkv"
    path.write_bytes(b"a film")

    def become_a_link():
        path.rename(tmp_path / "moved")
        path.symlink_to("moved")

    when_opened(path, become_a_link)
    with pytest.raises(SourceError, match="symbolic links"), open_source(path, follow_symlinks=False):
        pass


def test_a_file_that_comes_in_pieces_is_stored_as_a_whole(store, tmp_path, monkeypatch):
    "As from a disk on a network, or after an interrupt"
    read = os.read
    (tmp_path / "film.mkv").write_bytes(b"a film")
    monkeypatch.setattr(os, "read", lambda fd, count: read(fd, min(count, 3)))
    assert store.put(tmp_path / "film.mkv").hash == hash_bytes(b"a film")
    assert store.read(hash_bytes(b"a film")) == b"a film"


def test_a_file_that_ends_before_it_should_is_refused(store, tmp_path, monkeypatch):
    "Though nothing else tells that it is not as it was"
    read = os.read
    (tmp_path / "film.mkv").write_bytes(b"a film")
    monkeypatch.setattr(os, "read", lambda fd, count: b"" if os.lseek(fd, 0, os.SEEK_CUR) else read(fd, 3))
    assert refused(store, SourceError, tmp_path / "film.mkv").seen == 3


@pytest.mark.parametrize("size", [1000, 3 * SMALL])
def test_fault_13_a_file_that_is_unlinked_while_it_is_read(store, tmp_path, when_read, size):
    path, content = tmp_path / "recording.wav", os.urandom(size)

    def shrink_and_unlink():
        os.truncate(path, 10)
        path.unlink()

    path.write_bytes(content)
    when_read(shrink_and_unlink)
    refused(store, SourceChanged, path)

    path.write_bytes(content)
    when_read(path.unlink)
    assert store.put(path).hash == hash_bytes(content)


def test_fault_14_a_file_that_may_not_be_read_does_not_stop_the_others(open_folder):
    (open_folder / "private.jpg").write_bytes(b"private")
    (open_folder / "private.jpg").chmod(0)
    (open_folder / "poster.jpg").write_bytes(b"a poster")
    results = []
    with unprivileged(), ContentStore(open_folder / "store") as store:
        for name in ("private.jpg", "poster.jpg"):
            try:
                results.append(store.put(open_folder / name).hash)
            except SourceError as e:
                results.append(type(e.__cause__))
    assert results == [PermissionError, hash_bytes(b"a poster")]


def test_fault_15_an_input_error_of_the_disk(store):
    error = refused(store, SourceError, "/proc/self/mem")  # a regular file whose first page cannot be read: EIO
    assert error.__cause__.strerror == "Input/output error"
    refused(store, SourceError, "/proc/self/mem", move=True)


def test_fault_16_the_empty_file(store, tmp_path):
    (tmp_path / "empty").touch()
    for content in (tmp_path / "empty", b"", io.BytesIO(), iter([])):
        refused(store, SourceError, content, allow_empty=False)
    for content in (tmp_path / "empty", b"", io.BytesIO(), iter([])):
        assert store.put(content).hash.startswith("sha256:e3b0c442")
    assert len(store) == 1


def test_fault_17_too_large(store, tmp_path):
    def endless():
        while True:
            yield b"x" * 65536

    (tmp_path / "large").write_bytes(b"x" * 101)
    for content in (tmp_path / "large", b"x" * 101, io.BytesIO(b"x" * 101)):
        assert refused(store, TooLarge, content, max_size=100).limit == 100
    refused(store, TooLarge, endless(), max_size=5 * SMALL)
    assert store.put(b"x" * 100, max_size=100).size == 100


def test_fault_18_a_stream_that_breaks_off(store):
    def breaking(count):
        for _ in range(count):
            yield b"x" * 1000
        raise ConnectionResetError("the provider hung up")

    for count in (0, 5, 2 * SMALL // 1000):
        error = refused(store, SourceError, breaking(count))
        assert error.seen == count * 1000
        assert isinstance(error.__cause__, ConnectionResetError)
    for content in (b"x" * 99, io.BytesIO(b"x" * 99), iter([b"x" * 99])):
        error = refused(store, SizeMismatch, content, expected_size=100)
        assert (error.expected, error.seen) == (100, 99)
    refused(store, SizeMismatch, iter([b"x" * 99, b"yy"]), expected_size=100)
    rest = iter([b"x" * 60, b"x" * 60, b"never asked for"])
    refused(store, TooLarge, rest, max_size=100)
    assert list(rest) == [b"never asked for"]


def test_streams_that_give_no_bytes(store):
    for content in (io.StringIO("text"), ["text"], [7], [[1, 2]]):
        assert "TypeError" in str(refused(store, SourceError, content))
    for content in (7, None, print):
        error = refused(store, SourceError, content)
        assert (
            str(error)
            == f"cannot store {str(content)!r}: it is no path, bytes, stream or iterable of bytes. Nothing was stored"
        )


def _ended():
    yield b"a poster"


def test_a_stream_that_was_read_before_is_not_taken_for_an_empty_one(store, tmp_path):
    "As after a put that failed: then nothing would be stored, and nobody would know"
    (tmp_path / "film.mkv").write_bytes(b"a film")
    with (tmp_path / "film.mkv").open("rb") as film:
        for content in (io.BytesIO(b"a poster"), film, _ended()):
            refused(store, HashMismatch, content, expected_hash=hash_bytes(b"another"))
            assert "was read before" in str(refused(store, SourceError, content))
        film.seek(2)
        assert store.put(film).hash == hash_bytes(b"film")
    assert [each.size for each in store] == [4]


def test_a_stream_of_nothing_is_stored_as_such(store):
    read, write = os.pipe()
    os.close(write)
    with open(read, "rb", buffering=0) as pipe:
        for content in (io.BytesIO(), iter([]), (part for part in ()), pipe):
            assert store.put(content).size == 0


def test_a_stream_is_judged_at_its_end_and_waits_on_the_disk_when_it_is_large(store):
    held = []

    def parts():
        yield b""
        for _ in range(8):
            yield b"x" * (SMALL // 4)
            held.append(len(staged(store)))

    result = store.put(parts(), expected_size=2 * SMALL, allow_empty=False)
    assert result.size == 2 * SMALL
    assert held == [0] * 4 + [1] * 4


def test_a_copy_that_became_shorter_is_not_stored(tmp_path):
    class Boasting(Disk):
        def copy(self, source, target, count):
            return (super().copy(source, target, count) or 0) + 1

    (tmp_path / "film.mkv").write_bytes(b"x" * 2 * SMALL)
    with ContentStore(tmp_path / "store", disk=Boasting(reflink=False)) as store:
        refused(store, SourceError, tmp_path / "film.mkv")


def test_a_copy_that_shares_its_blocks_is_hashed_as_well(tmp_path):
    class Sharing(Disk):
        "A file system that shares blocks, as far as the store can tell"

        def clone(self, source, target):
            return os.sendfile(target, source, 0, 4 * SMALL) > 0

    (tmp_path / "film.mkv").write_bytes(b"x" * 2 * SMALL)
    with ContentStore(tmp_path / "store", disk=Sharing()) as store:
        result = store.put(tmp_path / "film.mkv")
        assert (result.link_mode, result.hash) == ("reflink", hash_bytes(b"x" * 2 * SMALL))


def test_fault_19_other_bytes_than_expected(store, tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 2 * SMALL)
    expected = hash_bytes(b"a poster")
    for content in (b"another", io.BytesIO(b"another"), tmp_path / "large", iter([b"x" * 2 * SMALL])):
        error = refused(store, HashMismatch, content, expected_hash=expected)
        assert error.expected == expected
        assert error.actual.startswith("sha256:")
    refused(store, InvalidHash, b"a poster", expected_hash="a poster")
    assert store.put(b"a poster", expected_hash=expected).hash == expected


@pytest.mark.parametrize(
    "call", ["create", "write", "copy", "chmod", "sync_file", "rename_new", "make_one", "sync_folder"]
)
def test_fault_20_a_full_disk_leaves_a_store_that_works(tmp_path, call):
    ContentStore(tmp_path / "store").close()  # so that the disk is full for the puts only
    film = tmp_path / "film.mkv"
    film.write_bytes(b"x" * 2 * SMALL)

    class Full(Disk):
        "A disk on which one kind of call finds no space, until there is room"

    disk = Full(reflink=False)
    with ContentStore(tmp_path / "store", disk=disk) as store:
        store.parts.staging.claim()  # its folder, too, is made before the disk is full

        def no_space(*args, **options):
            raise NoSpace("object")

        setattr(Full, call, no_space)
        for content in {"write": [b"a poster"], "copy": [film]}.get(call, [b"a poster", film]):
            with pytest.raises(NoSpace):
                store.put(content)
        delattr(Full, call)
        assert (len(store), staged(store)) == (0, [])
        assert store.read(store.put(b"a poster").hash, verify=True) == b"a poster"
        assert store.put(film).size == 2 * SMALL


def test_fault_34_names_of_every_kind(store, tmp_path):
    names = [
        *ODD_NAMES,
        unicodedata.normalize("NFC", "café").encode(),
        unicodedata.normalize("NFD", "café").encode(),
        b"x" * 251 + b".jpg",
        "🎬.mkv".encode(),
    ]
    for name in names:
        path = os.path.join(os.fsencode(tmp_path), name)
        with open(path, "wb") as file:
            file.write(b"content of " + name)
        result = store.put(os.fsdecode(path))
        (source,) = store.find_by_source(os.fsdecode(path))
        assert (os.fsencode(source.location), source.hash) == (path, result.hash)
        assert store.read(result.hash) == b"content of " + name
    assert len(store) == len(names)


def test_fault_54_an_interpreter_that_ends_in_the_middle_of_a_put(store, program):
    child = program.start(
        """
        import os, sys
        from cjm_media_storage.storage import ContentStore

        def content():
            for _ in range(40):
                yield b"x" * 65536
            os._exit(7)

        ContentStore(sys.argv[1]).put(content())
        """,
        store.root,
    )
    child.communicate()
    assert child.returncode == 7
    assert len(staged(store)) == 1
    with ContentStore(store.root) as again:
        assert (staged(again), len(again)) == ([], 0)


def test_a_thread_goes_on_putting_large_files_when_the_main_thread_has_ended(tmp_path, program):
    (tmp_path / "film.mkv").write_bytes(b"frame" * 1_000_000)
    text = """
        import sys, threading, time
        from concurrent.futures import thread
        from cjm_media_storage.storage import ContentStore

        def work():
            threading.main_thread().join()
            while not thread._shutdown:  # till the interpreter has told its thread pools
                time.sleep(0)
            with ContentStore(sys.argv[1] + "/store") as store:
                print(store.put(sys.argv[1] + "/film.mkv").size)

        threading.Thread(target=work).start()
    """
    assert program(text, tmp_path) == "5000000"


def test_a_file_without_a_true_size_is_not_said_to_change(store):
    error = refused(store, SourceError, "/proc/self/status")
    assert not isinstance(error, SourceChanged)
    assert "put the stream" in str(error)
    with open("/proc/self/status", "rb") as file:
        assert store.put(file).size > 100


def test_a_store_that_may_not_be_written_to_does_not_blame_the_source(open_folder):
    (open_folder / "film.mkv").write_bytes(b"x" * 2 * SMALL)
    (open_folder / "film.mkv").chmod(0o644)
    ContentStore(open_folder / "store", folder_mode=0o777).close()
    (open_folder / "store" / ".store" / "staging").mkdir(mode=0o755)
    with unprivileged(), ContentStore(open_folder / "store") as store:
        for content in (open_folder / "film.mkv", b"a poster"):
            with pytest.raises(ReadOnlyStore, match="staging"):
                store.put(content)


def _is_open(path):
    "Has this process a descriptor of the file `path`?"
    return path in {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}


def test_a_large_file_of_a_size_that_is_known_is_another_one(store, tmp_path):
    for fill in (b"x", b"y"):
        (tmp_path / "film.mkv").write_bytes(fill * 2 * SMALL)
        assert store.put(tmp_path / "film.mkv").created
    assert store.read(hash_bytes(b"y" * 2 * SMALL), verify=True) == b"y" * 2 * SMALL


def test_what_is_not_said_is_a_copy_of_what_a_link_leads_to_that_is_not_synced(tmp_path):
    (tmp_path / "film.mkv").write_bytes(b"x" * 2 * SMALL)
    (tmp_path / "link.mkv").symlink_to("film.mkv")
    with ContentStore(tmp_path / "store", disk=Recorder(reflink=False)) as store:
        staging = store.parts.staging
        staging.claim()
        calls.clear()
        with open_source(tmp_path / "link.mkv") as (_, stat):
            assert stat.st_size == 2 * SMALL
        taken = take(tmp_path / "link.mkv", Limits(), NOTHING, staging)
        with receive(tmp_path / "link.mkv", Limits(), NOTHING, staging) as received:
            for incoming in (taken, received):
                assert (incoming.link_mode, incoming.hash) == ("copy", hash_file(incoming.staged))
        drop(taken, staging)
        assert "sync_file" not in [name for name, _ in calls]
        assert take(b"", Limits(), NOTHING, staging).size == 0


@pytest.mark.parametrize("remembered", [True, False])
def test_an_object_that_vanishes_when_it_was_found_is_brought_from_the_source(store, tmp_path, monkeypatch, remembered):
    (tmp_path / "film.mkv").write_bytes(b"x" * 2 * SMALL)
    if remembered:
        monkeypatch.setattr("cjm_media_storage.memo.RACY", 0)
        store.put(tmp_path / "film.mkv").path.unlink()
        store._index.database.execute("DELETE FROM objects")
    monkeypatch.setattr(Putting, "known", Known(lambda size: True, lambda hash: True))  # as it was a moment ago
    assert store.put(tmp_path / "film.mkv").created
    assert store.read(hash_bytes(b"x" * 2 * SMALL), verify=True) == b"x" * 2 * SMALL


@pytest.mark.parametrize("reflink", [True, False])
def test_a_large_copy_is_synced_while_it_is_open(tmp_path, reflink):
    "A write that failed is told to who has the file open: after the last close, the kernel may forget it"

    class Watched(Disk):
        def sync_file(self, path):
            if "staging" in os.fspath(path):
                synced.append(_is_open(os.fspath(path)))
            super().sync_file(path)

    synced = []
    (tmp_path / "film.mkv").write_bytes(b"x" * 2 * SMALL)
    with ContentStore(tmp_path / "store", disk=Watched(reflink=reflink)) as store:
        store.put(tmp_path / "film.mkv")
        assert synced[0] is True
        synced.clear()
        store.put(tmp_path / "film.mkv", durability="none", namespace="actors")
        assert synced == []


def test_a_large_copy_that_cannot_be_synced_is_no_fault_of_its_source(tmp_path):
    class Broken(Disk):
        def sync_file(self, path):
            if "staging" in os.fspath(path):
                raise OSError(errno.EIO, "Input/output error")
            super().sync_file(path)

    (tmp_path / "film.mkv").write_bytes(b"x" * 2 * SMALL)
    with ContentStore(tmp_path / "store", disk=Broken()) as store:
        with pytest.raises(OSError, match="Input/output error"):
            store.put(tmp_path / "film.mkv")
        assert (len(store), staged(store)) == (0, [])
