"Contents that are looked at, recognised, read and staged: what is read is what was looked at."

import os
import signal

import pytest
from on_disk import staged

from cjm_media_storage import ingest
from cjm_media_storage import memo as memo_module
from cjm_media_storage.arrivals import Arrivals
from cjm_media_storage.contents import Job
from cjm_media_storage.errors import SourceChanged, SourceError, StoreBusy
from cjm_media_storage.files import Disk, read_into
from cjm_media_storage.ingest import SMALL, read_small
from cjm_media_storage.storage import (
    ContentStore,
    HashMismatch,
    NoSpace,
    PutItem,
    SizeMismatch,
    TooLarge,
    hash_bytes,
    hash_file,
)
from cjm_media_storage.terms import check_terms


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mkv"
    path.write_bytes(b"a film")
    return path


def read(path, before):
    (data,) = read_small([(os.fspath(path), before)], memoryview(bytearray(100)))
    if isinstance(data, Exception):
        raise data
    return bytes(data)


@pytest.mark.parametrize("by_readv", [True, False])
def test_a_file_is_read_as_it_was_looked_at(film, monkeypatch, by_readv):
    if not by_readv:
        monkeypatch.delattr(os, "readv")
    assert read(film, os.lstat(film)) == b"a film"


@pytest.mark.parametrize("piece", [2, 5])
def test_a_file_that_comes_in_pieces_is_read_to_its_end(film, monkeypatch, piece):
    "As from a disk on a network, or after an interrupt"
    monkeypatch.setattr(ingest, "read_into", lambda fd, view: read_into(fd, view[:piece]))
    assert read(film, os.lstat(film)) == b"a film"


def test_a_file_that_is_replaced_when_it_is_open_is_read_as_it_was(film, tmp_path, monkeypatch):
    "What has its name by now came after it"

    newer = tmp_path / "newer.mkv"
    newer.write_bytes(b"a newer film")

    def replacing(fd, view):
        if newer.exists():
            os.replace(newer, film)
        return read_into(fd, view)

    monkeypatch.setattr(ingest, "read_into", replacing)
    assert read(film, os.lstat(film)) == b"a film"
    assert film.read_bytes() == b"a newer film"


@pytest.mark.parametrize("now", [b"a longer film", b"a f"])
def test_fault_12_a_file_that_grew_or_shrank_since_it_was_looked_at(film, now):
    before = os.lstat(film)
    film.write_bytes(now)
    with pytest.raises(SourceChanged):
        read(film, before)


def test_a_signal_handler_may_put_a_batch_in_the_middle_of_another(film, tmp_path, monkeypatch):
    "It finds another place for its bytes: those of ours are hashed and wait to be staged"
    other = tmp_path / "other.mkv"
    other.write_bytes(b"another film")
    handled = []

    def interrupted(fd, view):
        count = read_into(fd, view)
        if not handled:
            signal.raise_signal(signal.SIGINT)  # handled before the next line
        return count

    def handle(*_):
        handled.append(other)
        with ContentStore(tmp_path / "second") as second:
            handled[:] = second.put_many([other], threads=1)

    monkeypatch.setattr(ingest, "read_into", interrupted)
    before = signal.signal(signal.SIGINT, handle)
    try:
        with ContentStore(tmp_path / "store") as store:
            (outcome,) = store.put_many([film], threads=1)
            assert outcome.result.hash == hash_bytes(b"a film") and store.read(outcome.result.hash) == b"a film"
    finally:
        signal.signal(signal.SIGINT, before)
    assert handled[0].result.hash == hash_bytes(b"another film")


def test_small_files_are_held_one_after_the_other_in_one_place(tmp_path):
    "More of them than there is room for, up to the largest that is small, and other contents between them"
    sizes = [SMALL, 1, SMALL - 1, 0, *[SMALL // 3] * 7, SMALL + 1, SMALL]
    contents = [os.urandom(size) for size in sizes]
    given = []
    for n, content in enumerate(contents):
        (path := tmp_path / str(n)).write_bytes(content)
        given += [str(path), bytes(SMALL // 2) + b"%d" % n]  # which takes none of that room
    with ContentStore(tmp_path / "store") as store:
        for durability in ("none", "batch"):  # new, then known
            results = [outcome.result for outcome in store.put_many(given, durability=durability, threads=1)]
            assert [store.read(result.hash) for result in results[::2]] == contents
            assert all(store.read(result.hash, verify=True) for result in results[1::2])


def test_fault_12_a_file_that_was_replaced_since_it_was_looked_at(film, tmp_path):
    "By one of the same size and time, and with another number of names: only the inode tells"
    before = os.lstat(film)
    (tmp_path / "other").write_bytes(b"A FILM")
    os.utime(tmp_path / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.link(tmp_path / "other", tmp_path / "second name")
    os.replace(tmp_path / "other", film)
    with pytest.raises(SourceChanged):
        read(film, before)


def test_fault_09_a_file_that_became_something_else_since_it_was_looked_at(film, tmp_path):
    before = os.lstat(film)
    film.rename(tmp_path / "moved")
    film.symlink_to("moved")
    with pytest.raises(SourceError):
        read(film, before)
    film.unlink()
    os.mkfifo(film)
    with pytest.raises(SourceError):
        read(film, before)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("size", [6, 2 * SMALL])
def test_fault_55_objects_of_a_group_have_their_mode_whatever_the_umask(tmp_path, umask, size):
    "And the index knows them as they are, so that they are not read the next time"
    (tmp_path / "film.mkv").write_bytes(os.urandom(size))
    before = os.umask(umask)
    try:
        with ContentStore(tmp_path / "store", object_mode=0o440) as store:
            (outcome,) = store.put_many([tmp_path / "film.mkv"])
            stat = os.stat(outcome.result.path)
            (entry,) = store._index.select("digest <> ''")
            assert (stat.st_mode & 0o7777, stat.st_nlink) == (0o440, 1)
            assert (entry.size, entry.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
            assert staged(store) == []
    finally:
        os.umask(before)


def test_a_small_file_has_all_the_limits_that_any_content_has(store, film, tmp_path):
    (tmp_path / "empty").touch()
    items = [
        PutItem(film, expected_size=7),
        PutItem(film, expected_size=5),
        PutItem(tmp_path / "empty", allow_empty=False),
        PutItem(film, expected_size=6, allow_empty=False),
    ]
    errors = [type(outcome.error) for outcome in store.put_many(items)]
    assert errors == [SizeMismatch, SizeMismatch, SourceError, type(None)]


def test_a_known_file_whose_object_vanishes_is_not_stored_with_the_bytes_of_another(store, tmp_path, monkeypatch):
    "The next file is read where its bytes were"
    contents = [os.urandom(SMALL) for _ in range(2)]
    for n, content in enumerate(contents):
        (tmp_path / str(n)).write_bytes(content)
    path, look = store.put(contents[0]).path, store.parts.putting.look
    monkeypatch.setattr(store.parts.putting, "memo", None)

    def vanishing(incoming, *args, **options):
        if incoming.name == str(tmp_path / "0") and not gone:
            gone.append(path.unlink())
        return look(incoming, *args, **options)

    gone = []
    monkeypatch.setattr(store.parts.putting, "look", vanishing)
    outcomes = list(store.put_many([tmp_path / "0", tmp_path / "1"], threads=1))
    assert gone and [outcome.error for outcome in outcomes] == [None, None]
    assert [store.read(hash_bytes(content), verify=True) == content for content in contents] == [True, True]


def test_a_file_above_its_limit_stays_refused_though_the_memo_knows_it(film, tmp_path):
    with ContentStore(tmp_path / "store") as store:
        store.put(film)
        [outcome] = store.put_many([PutItem(film, max_size=1, source="another")])
        assert isinstance(outcome.error, TooLarge) and outcome.result is None
        assert [source.location for source in store.sources(hash_file(film))] == [str(film)]


@pytest.fixture
def known(store, film, monkeypatch):
    "A film that is in the store, and in its memo"
    monkeypatch.setattr(memo_module, "RACY", 0)
    assert [outcome.result.created for outcome in store.put_many([film])] == [True]
    return film


def test_a_known_file_is_known_by_its_own_name_only(store, known, monkeypatch):
    "A name that ends in a slash is a folder's, here as in `put`"
    monkeypatch.chdir(known.parent)
    outcomes = list(store.put_many([f"{known}/", "film.mkv/", "", ".", "..", "film.mkv"]))
    assert [type(outcome.error) for outcome in outcomes] == [*[SourceError] * 5, type(None)]


def test_a_known_file_with_another_hash_than_expected_is_refused_unread(store, known, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.arrivals.read_small", None)
    [outcome] = store.put_many([PutItem(known, expected_hash=hash_bytes(b"another"))])
    assert isinstance(outcome.error, HashMismatch)


def test_fault_10_an_object_is_no_source_of_itself_though_the_memo_knows_it(store, known):
    stored = store.path(hash_file(known))
    store.put(stored)  # remembered from now on
    [outcome] = store.put_many([stored])
    assert not outcome.result.created
    assert [source.location for source in store.sources(outcome.result.hash)] == [str(known)]


def test_the_extension_is_that_of_the_name_in_whatever_folder(store, here):
    "A mirror of a site may have a folder `http:`, and whoever writes two slashes after it means a file all the same"
    (here / "http:" / "films").mkdir(parents=True)
    path = "http://films/one#two.mkv"
    (here / path).write_bytes(b"a film")
    [outcome] = store.put_many([path])
    assert (outcome.result.extension, store.put(path).extension) == ("mkv", "mkv")


def test_fault_34_a_file_whose_name_is_no_text_is_its_own_source(store, tmp_path):
    path = os.fsencode(tmp_path) + b"/film \xff.mkv"
    with open(path, "wb") as file:
        file.write(b"a film")
    (outcome,) = store.put_many([os.fsdecode(path)])
    assert [source.location for source in store.sources(outcome.result.hash)] == [os.fsdecode(path)]


def test_a_store_that_fails_is_not_asked_again(store, monkeypatch):
    "Each content would fail, too, after it has waited for as long"
    asked = []

    def busy(content, terms):
        asked.append(content)
        raise StoreBusy("index.db")

    monkeypatch.setattr(store.parts.putting, "put", busy)
    arrivals = Arrivals(store.parts.putting, "full")
    with pytest.raises(StoreBusy):
        arrivals.receive([Job(b"a film", b"a film", check_terms())])
    arrivals.receive([Job(b"a poster", b"a poster", check_terms())])
    assert asked == [b"a film"]


def test_only_what_may_be_needed_and_comes_once_stays_in_memory(store, film):
    store.put(b"a poster")
    new, known, given, read = iter([b"a still"]), iter([b"a poster"]), b"a poster", str(film)
    jobs = [Job(content, content, check_terms()) for content in (new, known, given, read)]
    arrivals = Arrivals(store.parts.putting, "batch")
    arrivals.receive(jobs)
    assert [job.incoming.data for job in jobs] == [None, b"a poster", None, None]
    assert [job.staged is None for job in jobs] == [False, True, True, False]
    assert (arrivals.held, arrivals.bytes) == (8, 7 + 8 + 8 + 6)


def test_nothing_more_is_read_once_it_is_to_stop(store, film):
    "Neither the small files of a task nor what comes after a content that was under way"

    def stopping():
        arrivals.stop.set()
        yield b"a film"

    arrivals = Arrivals(store.parts.putting, "batch")
    first, second, small = (Job(each, each, check_terms()) for each in (stopping(), b"a poster", film))
    arrivals.receive([first, second])
    assert first.incoming is not None and second.incoming is None
    arrivals.stop.clear()
    arrivals.recognise([small])
    arrivals.stop.set()
    arrivals.read_all([small])
    assert small.file is not None and small.incoming is None and not small.ended and not small.began


def test_a_mistake_of_ours_is_raised(store, film, monkeypatch):
    monkeypatch.setattr(Arrivals, "_of_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(store.put_many([film]))


class FullOnce(Disk):
    "A disk that has no room for one write, and then some again"

    def write(self, fd, data):
        if full:
            raise full.pop()
        super().write(fd, data)


full = []


def test_fault_20_what_found_no_room_is_not_stored_with_the_bytes_of_another(tmp_path):
    "The next files are read where its bytes were held"
    contents = [os.urandom(SMALL) for _ in range(3)]
    names = [tmp_path / str(n) for n in range(3)]
    for path, content in zip(names, contents, strict=True):
        path.write_bytes(content)
    with ContentStore(tmp_path / "store", disk=FullOnce()) as store:
        store.put(b"the first makes what there is once")
        full.append(NoSpace("staged file"))
        outcomes = list(store.put_many(names, threads=1))
        assert [type(outcome.error) for outcome in outcomes] == [NoSpace, type(None), type(None)]
        assert [store.read(hash_bytes(content), verify=True) for content in contents[1:]] == contents[1:]
        assert (len(store), staged(store)) == (3, [])
