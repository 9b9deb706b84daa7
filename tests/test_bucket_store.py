"What every store promises, wherever its bytes are; and what a store in a bucket does in its own way."

import hashlib
import io
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from s3 import CREDENTIALS
from stores import InBucket
from together import in_threads

from cjm_media_storage.maintenance import gc, repair, snapshot, verify
from cjm_media_storage.publishing import Library, give_out
from cjm_media_storage.storage import (
    AmbiguousHash,
    CollectionRefused,
    ContentStore,
    CorruptObject,
    HashMismatch,
    InvalidExtension,
    InvalidHash,
    InvalidNamespace,
    InvalidRecord,
    MissingObject,
    NotAStore,
    ObjectInUse,
    ObjectNotFound,
    PutItem,
    SizeMismatch,
    SourceError,
    StoreClosed,
    StoreUnavailable,
    TooLarge,
    hash_bytes,
    hash_files,
)

POSTER = b"a poster"
HASH = hash_bytes(POSTER)
LARGE = hashlib.shake_256(b"a film").digest(3 << 20)  # More than is held in memory
KEY = f"assets/{HASH[7:9]}/{HASH[9:11]}/{HASH[7:]}"


@pytest.fixture
def film(tmp_path):
    "A file that is read where it is"
    path = tmp_path / "film.mkv"
    path.write_bytes(LARGE)
    return path


# ---- putting


def test_what_put_says(any_store, any_kind):
    result = any_store.put(POSTER, extension=".JPG")
    assert result.hash == "sha256:" + hashlib.sha256(POSTER).hexdigest()
    assert (result.size, result.namespace, result.extension) == (8, "assets", "jpg")
    assert (result.created, result.link_mode) == (True, "copy")
    again = any_store.put(POSTER)
    assert (again.created, again.link_mode, again.extension) == (False, "none", "jpg")
    assert any_kind.names() == [f"{KEY}.jpg"] and any_kind.bytes_at(f"{KEY}.jpg") == POSTER
    assert result.path.as_posix().endswith(f"{KEY}.jpg")


@pytest.mark.parametrize("form", ["bytes", "small file", "large file", "link", "stream", "iterator", "large iterator"])
def test_every_form_of_content(any_store, any_kind, tmp_path, form):
    content = LARGE if form.startswith(("large", "link", "stream")) else POSTER
    file = tmp_path / "a.bin"
    file.write_bytes(content)
    (tmp_path / "link").symlink_to(file)
    forms = {
        "bytes": lambda: content,
        "link": lambda: tmp_path / "link",
        "stream": lambda: io.BytesIO(content),
    }
    parts = [content[n : n + 100_000] for n in range(0, len(content), 100_000)]
    give = forms.get(form) or ((lambda: file) if "file" in form else lambda: iter(parts))
    result = any_store.put(give())
    assert (result.hash, result.size, result.created) == (hash_bytes(content), len(content), True)
    assert any_store.read(result.hash) == content and not any_store.put(give()).created
    assert len(any_kind.names()) == 1 and verify(any_store).ok
    assert not list((any_store.parts.staging.folder).glob("*/[0-9]*"))


def test_a_file_is_its_own_source_and_bytes_have_none(any_store, film):
    result = any_store.put(film)
    assert [source.location for source in any_store.sources(result.hash)] == [str(film)] and result.extension == "mkv"
    assert any_store.find_by_source(film)[-1].hash == result.hash
    assert any_store.sources(any_store.put(POSTER).hash) == []


@pytest.mark.parametrize("content", [POSTER, LARGE], ids=["small", "large"])
def test_limits_and_what_was_expected(any_store, any_kind, tmp_path, content):
    file = tmp_path / "a.bin"
    file.write_bytes(content)
    wrong = hash_bytes(b"something else")
    for form in (content, file, [content]):
        give = (lambda: iter([content])) if isinstance(form, list) else lambda form=form: form
        with pytest.raises(HashMismatch):
            any_store.put(give(), expected_hash=wrong)
        with pytest.raises(SizeMismatch):
            any_store.put(give(), expected_size=len(content) + 1)
        with pytest.raises(TooLarge):
            any_store.put(give(), max_size=len(content) - 1)
    assert any_kind.names() == [] and len(any_store) == 0
    assert any_store.put(file, expected_hash=hash_bytes(content), expected_size=len(content)).created


def test_empty_content(any_store):
    with pytest.raises(SourceError):
        any_store.put(b"", allow_empty=False)
    empty = any_store.put(b"")
    assert empty.size == 0 and any_store.read(empty.hash) == b"" and verify(any_store).ok
    with any_store.open(empty.hash) as file:
        assert file.read() == b""


def test_bad_names_are_refused_before_anything_is_written(any_store, any_kind):
    for options, error in [
        ({"namespace": ".store"}, InvalidNamespace),
        ({"namespace": "a/b"}, InvalidNamespace),
        ({"extension": "../x"}, InvalidExtension),
        ({"expected_hash": "md5:0"}, InvalidHash),
    ]:
        with pytest.raises(error):
            any_store.put(POSTER, **options)
    assert any_kind.names() == []


def test_a_stream_that_fails_leaves_nothing(any_store, any_kind):
    def stream():
        yield LARGE
        raise OSError("the line is dead")

    with pytest.raises(SourceError, match="the line is dead"):
        any_store.put(stream())
    assert any_kind.names() == [] and not list(any_store.parts.staging.folder.glob("*/[0-9]*"))


def test_a_moved_file_is_gone_once_it_is_stored(any_store, film):
    assert any_store.put(film, move=True).hash == hash_bytes(LARGE)
    assert not film.exists() and any_store.read(hash_bytes(LARGE)) == LARGE
    film.write_bytes(LARGE)
    assert not any_store.put(film, move=True).created and not film.exists()


@pytest.mark.parametrize("content", [POSTER, LARGE], ids=["small", "large"])
def test_namespaces(any_store, any_kind, content):
    here, there = any_store.put(content), any_store.put(content, namespace="actors")
    assert here.created and there.created and here.hash == there.hash and len(any_kind.names()) == 2
    assert any_store.get(here.hash, "actors").namespace == "actors" and any_store.exists(here.hash, "assets")
    any_store.delete(here.hash, namespace="assets")
    assert any_store.read(here.hash) == content and not any_store.exists(here.hash, "assets")


def test_put_many(any_store, any_kind, tmp_path, film):
    contents = [b"poster %d" % n for n in range(40)]
    gone = tmp_path / "gone"
    items = [
        *contents,
        contents[0],
        film,
        PutItem(b"an actor", namespace="actors", owner="actor:1"),
        gone,
        iter([LARGE]),
    ]
    told = []
    outcomes = list(any_store.put_many(items, owner="movie:1", progress=told.append))
    assert [outcome.content for outcome in outcomes] == items
    results = [outcome.result for outcome in outcomes]
    assert [result and result.hash for result in results[:42]] == [*map(hash_bytes, [*contents, contents[0], LARGE])]
    assert sum(result.created for result in results if result) == 42 and results[42].namespace == "actors"
    assert isinstance(outcomes[43].error, SourceError) and results[43] is None
    assert len(any_kind.names()) == 42 and len(any_store.references(owner="movie:1")) == 41 and verify(any_store).ok
    assert (told[-1].items, told[-1].new, told[-1].failed) == (45, 42, 1)
    again = list(any_store.put_many(contents, ordered=False, durability="none"))
    assert len(again) == 40 and not any(outcome.result.created for outcome in again)


def test_fault_24_many_threads_put_the_same_bytes(any_store, any_kind, film):
    small, large = [], []
    in_threads(8, lambda n: small.append(any_store.put(POSTER).created))
    in_threads(4, lambda n: large.append(any_store.put(film).created))
    assert sum(small) == sum(large) == 1 and len(any_kind.names()) == 2 and verify(any_store).ok


# ---- looking up


def test_looking_up(any_store):
    result = any_store.put(POSTER)
    assert any_store.get(HASH) == any_store.find(HASH[:11])
    assert any_store.exists(HASH) and HASH in any_store and hash_bytes(b"x") not in any_store
    assert (len(any_store), [each.hash for each in any_store]) == (1, [result.hash])
    assert any_store.read(HASH) == any_store.read(HASH, verify=True) == POSTER
    for look in (any_store.get, any_store.open, any_store.read, lambda hash: any_store.get(HASH, "actors")):
        with pytest.raises(ObjectNotFound):
            look(hash_bytes(b"never stored"))
    for bad in ("", "abc", HASH.upper(), "../../etc/passwd", HASH + "/x"):
        with pytest.raises(InvalidHash):
            any_store.read(bad)


def test_a_beginning_that_several_share(any_store):
    contents = [b"%d" % n for n in range(600)]
    beginnings = {}
    for content in contents:
        beginnings.setdefault(hash_bytes(content)[7:11], []).append(content)
    pair = next(same for same in beginnings.values() if len(same) > 1)
    for content in pair:
        any_store.put(content)
    with pytest.raises(AmbiguousHash):
        any_store.find(hash_bytes(pair[0])[7:11])


def test_a_file_seeks_and_reads(any_store, film):
    hash = any_store.put(film).hash
    with any_store.open(hash, verify=True) as file:
        assert file.seekable() and file.read(5) == LARGE[:5] and file.tell() == 5
        file.seek(-7, os.SEEK_END)
        assert file.read() == LARGE[-7:] and file.read() == b""
        file.seek(1 << 20)
        assert file.read(10) == LARGE[1 << 20 : (1 << 20) + 10]
        file.seek(0)
        assert file.read() == LARGE
        view = bytearray(100)
        file.seek(-50, os.SEEK_END)
        assert file.readinto(view) == 50


def test_iteration_is_in_the_order_in_which_objects_came(any_store):
    contents = [b"poster %d" % n for n in range(30)]
    for content in contents:
        any_store.put(content)
    assert [each.hash for each in any_store] == [hash_bytes(content) for content in contents]
    assert any_store.stats()["objects"] == 30 and any_store.stats()["bytes"] == sum(map(len, contents))


def test_sources_and_references(any_store):
    any_store.put(POSTER, source="https://example.org/a.jpg", provider="tmdb", owner="movie:1", role="poster")
    any_store.add_source(HASH, "https://example.org/b.jpg")
    any_store.add_reference(HASH, "movie:2")
    assert {source.location[-5:] for source in any_store.sources(HASH)} == {"a.jpg", "b.jpg"}
    assert [each.owner for each in any_store.references(HASH)] == ["movie:1", "movie:2"]
    assert any_store.remove_reference(HASH, "movie:1") == 1 and len(any_store.references(HASH)) == 1
    assert any_store.find_by_source("https://example.org/a.jpg", "tmdb")[0].hash == HASH


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"], ids=ascii)
def test_what_is_no_text_is_said_of_nothing(any_store, any_kind, bad):
    "The same words are refused wherever rows are kept; and nothing has a name with a NUL"
    any_store.put(POSTER)
    for put in (
        lambda: any_store.put(b"1", source=bad),
        lambda: any_store.put(b"1", source="x", provider=bad),
        lambda: any_store.put(b"1", owner=bad),
        lambda: any_store.put(b"1", owner="x", role=bad),
        lambda: any_store.add_source(HASH, bad),
        lambda: any_store.add_reference(HASH, bad),
        lambda: any_store.delete(HASH, reason=bad),
    ):
        with pytest.raises(InvalidRecord):
            put()
    for look in (any_store.find_by_source, lambda bad: any_store.references(owner=bad)):
        if "\0" in bad:
            assert look(bad) == []
        else:
            with pytest.raises(InvalidRecord):
                look(bad)
    assert len(any_kind.names()) == 1 and any_store.stats()["references"] == any_store.stats()["sources"] == 0


# ---- deleting


@pytest.mark.parametrize("content", [POSTER, LARGE], ids=["small", "large"])
def test_delete_restore_purge(any_store, any_kind, content):
    hash = any_store.put(content, extension="jpg", source="https://example.org/a.jpg").hash
    (before,) = any_kind.names()
    (item,) = any_store.delete(hash, reason="not nice")
    assert (item.hash, item.origin, item.size, item.reason) == (hash, before, len(content), "not nice")
    assert hash not in any_store and any_kind.names() == [] and [each.hash for each in any_store.trash] == [hash]
    with pytest.raises(ObjectNotFound):
        any_store.read(hash)
    any_store.trash.restore(item)
    assert any_store.read(hash) == content and any_kind.names() == [before] and len(any_store.trash) == 0
    assert len(any_store.sources(hash)) == 1 and verify(any_store).ok
    any_store.delete(hash, retention_days=0)
    assert [each.hash for each in any_store.trash.purge(dry_run=True)] == [hash] and len(any_store.trash) == 1
    assert [each.hash for each in any_store.trash.purge()] == [hash] and verify(any_store).ok
    with pytest.raises(ObjectNotFound):
        any_store.trash.restore(hash)
    assert any_store.put(content).created


def test_what_is_put_again_comes_back_from_the_trash(any_store, any_kind):
    any_store.put(POSTER, owner="movie:1")
    any_store.delete(HASH, force=True)
    assert any_store.put(POSTER).created and len(any_store.trash) == 0
    assert [each.owner for each in any_store.references(HASH)] == ["movie:1"] and verify(any_store).ok
    assert len(any_kind.names()) == 1


def test_what_somebody_needs_is_not_deleted(any_store):
    any_store.put(POSTER, owner="movie:1")
    with pytest.raises(ObjectInUse, match="movie:1"):
        any_store.delete(HASH)
    any_store.remove_reference(HASH, "movie:1")
    with any_store.pin(HASH), pytest.raises(ObjectInUse, match="pinned"):
        any_store.delete(HASH)
    assert any_store.read(HASH) == POSTER and any_store.delete(HASH)


def test_retention(any_store):
    any_store.put(POSTER)
    any_store.delete(HASH, retention_days=None)
    assert any_store.trash.purge() == []
    any_store.trash.keep(any_store.trash.find(HASH)[0], 0)
    assert len(any_store.trash.purge()) == 1


def test_wrong_bytes_in_the_trash_are_not_restored(any_store, any_kind, tmp_path):
    any_store.put(POSTER)
    any_store.delete(HASH)
    any_kind.write(f".store/trash/assets/{HASH[7:]}", b"rotten!!")
    with pytest.raises(CorruptObject):
        any_store.trash.restore(HASH)
    assert HASH not in any_store and any_kind.names() == []


def test_fault_29_a_reader_while_its_object_is_purged(any_store, any_kind, film):
    "On a disk it reads on to the end; in a bucket its next request is for what is not there, and it is told"
    hash = any_store.put(film).hash
    with any_store.open(hash) as file:
        assert file.read(10) == LARGE[:10]
        any_store.delete(hash, retention_days=0)
        assert len(any_store.trash.purge()) == 1
        if any_kind.on_disk:
            assert file.read() == LARGE[10:]
        else:
            with pytest.raises(FileNotFoundError):
                file.read()


@pytest.mark.parametrize("same_size", [True, False])
def test_what_put_notices_of_known_bytes_that_went_wrong(any_store, any_kind, same_size):
    "A disk tells size and time, a bucket only the size; what it does not tell is for `verify` to find"
    any_store.put(POSTER)
    any_kind.write(KEY, b"A POSTER" if same_size else b"a poste")
    any_store.put(POSTER)
    noticed = any_kind.on_disk or not same_size
    assert verify(any_store).counts == ({} if noticed else {"corrupt": 1})
    if not noticed:
        any_kind.remove(KEY)
        any_store.put(POSTER)
        assert verify(any_store).ok


# ---- gc


def test_gc_takes_what_nobody_needs(any_store, any_kind):
    for n in range(10):
        any_store.put(b"poster %d" % n, owner="movie:1" if n < 7 else None)
    with any_store.pin(hash_bytes(b"poster 9")):
        plan = gc(any_store, grace=0)
        assert {each.hash for each in plan.condemned} == {hash_bytes(b"poster 7"), hash_bytes(b"poster 8")}
        assert len(any_store) == 10 and gc(any_store).condemned == ()  # all are young
        roots = [[hash_bytes(b"poster 8")]]
        assert [each.hash for each in gc(any_store, grace=0, dry_run=False, roots=roots).taken] == [
            hash_bytes(b"poster 7")
        ]
    assert len(any_store) == 9 and len(any_kind.names()) == 9 and verify(any_store).ok
    any_store.trash.restore(hash_bytes(b"poster 7"))
    assert len(any_store) == 10 and verify(any_store).ok


def test_what_is_put_again_is_young_again(any_store):
    "However old the object is: who put it a moment ago is about to say who needs it"
    for content in (POSTER, b"another"):
        any_store.put(content)
    any_store.parts.index.database.execute(
        "UPDATE objects SET created_at = created_at - 7200, used_at = used_at - 7200"
    )
    assert len(gc(any_store).condemned) == 2
    assert not any_store.put(POSTER).created
    for dry_run in (True, False):
        report = gc(any_store, dry_run=dry_run, force=True)
        assert [each.hash for each in report.condemned] == [hash_bytes(b"another")]
    assert [each.hash for each in any_store] == [HASH] and verify(any_store).ok


def test_spawned_processes_put_verify_and_look_for_garbage(any_store, any_kind, tmp_path, tracker):
    "Each opens the store anew, by what a pickle says of it"
    files = [tmp_path / f"{n}.bin" for n in range(10)]
    for n, file in enumerate(files):
        file.write_bytes(b"file %d" % n)
    contents = [*files, *(b"poster %d" % n for n in range(50))]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        outcomes = list(any_store.put_many(contents, executor=processes, owner="movie:1"))
        assert [each.result.created for each in outcomes] == [True] * 60 and len(any_kind.names()) == 60
        any_kind.remove(any_kind.names()[0])
        report = verify(any_store, executor=processes)
        assert report.checked == 60 and report.counts == {"missing": 1}
        waste = outcomes[20].result.hash
        any_store.remove_reference(waste, "movie:1")
        assert [each.hash for each in gc(any_store, grace=0, executor=processes, dry_run=False).taken] == [waste]
        hashes = [each.hash for each in hash_files(files, executor=processes)]
    assert hashes == [each.result.hash for each in outcomes[:10]] and len(any_store) == 59


def test_gc_refuses_to_take_too_much(any_store):
    for n in range(4):
        any_store.put(b"poster %d" % n)
    with pytest.raises(CollectionRefused):
        gc(any_store, grace=0, dry_run=False)
    assert len(any_store) == 4
    assert len(gc(any_store, grace=0, dry_run=False, force=True).taken) == 4


def test_gc_takes_untracked_files_only_when_asked(any_store, any_kind):
    any_store.put(b"another", owner="movie:1")
    any_kind.write(KEY, POSTER)
    report = gc(any_store, grace=0, dry_run=False)
    assert [each.path for each in report.untracked] == [KEY] and KEY in any_kind.names()
    (item,) = gc(any_store, grace=0, dry_run=False, untracked=True).taken
    assert item.origin == KEY and KEY not in any_kind.names()
    any_store.trash.restore(item)
    assert any_kind.bytes_at(KEY) == POSTER and len(any_store.trash) == 0


def test_fault_26_gc_against_put(any_store, film):
    "Whatever comes first, what `put` has acknowledged is there"
    stop, lost = threading.Event(), []

    def collect():
        while not stop.is_set():
            gc(any_store, grace=0, dry_run=False, force=True)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for n in range(12):
            for content in (POSTER, film):
                hash = any_store.put(content, owner=f"movie:{n}").hash
                if any_store.read(hash) not in (POSTER, LARGE):
                    lost.append(hash)
                any_store.remove_reference(hash, f"movie:{n}")
    finally:
        stop.set()
        collector.join()
    assert not lost and verify(any_store).ok


# ---- verify and repair


def test_verify_names_what_is_wrong(any_store, any_kind):
    for content in (POSTER, b"to be lost", b"to be spoilt", b"to be cut"):
        any_store.put(content)
    keys = {hash_bytes(any_kind.bytes_at(key))[7:]: key for key in any_kind.names()}
    lost, spoilt, cut = (keys[hash_bytes(each)[7:]] for each in (b"to be lost", b"to be spoilt", b"to be cut"))
    any_kind.remove(lost)
    any_kind.write(spoilt, b"TO BE SPOILT")
    any_kind.write(cut, b"to be")
    stray = hash_bytes(b"a stray")[7:]
    any_kind.write(f"assets/{stray[:2]}/{stray[2:4]}/{stray}", b"a stray")
    any_kind.write(f"assets/00/00/{hash_bytes(b'in the wrong place')[7:]}", b"in the wrong place")
    any_kind.write("assets/notes.txt", b"mine")
    report = verify(any_store)
    assert report.counts == {"missing": 1, "corrupt": 2, "untracked": 1, "misplaced": 1, "foreign": 1}
    assert {each.path for each in report.problems if each.kind in ("missing", "corrupt")} == {lost, spoilt, cut}
    assert verify(any_store, "size").counts["corrupt"] == 1 and "corrupt" not in verify(any_store, "presence").counts
    assert verify(any_store, hashes=[HASH]).ok and verify(any_store, prefix=HASH[7:10]).ok
    with pytest.raises(CorruptObject):
        any_store.open(hash_bytes(b"to be spoilt"), verify=True)
    with pytest.raises(MissingObject):
        any_store.read(hash_bytes(b"to be lost"))


def test_put_heals_what_is_missing_or_cut(any_store, any_kind):
    any_store.put(POSTER)
    any_kind.remove(KEY)
    assert not any_store.put(POSTER).created and any_kind.bytes_at(KEY) == POSTER
    any_kind.write(KEY, b"a po")
    any_store.put(POSTER)
    assert any_kind.bytes_at(KEY) == POSTER and verify(any_store).ok


def test_fault_30_wrong_bytes_under_the_name_are_kept_and_replaced(any_store, any_kind, film):
    hash = hash_bytes(LARGE)
    any_kind.write(KEY, b"rubbish!")
    any_kind.write(f"assets/{hash[7:9]}/{hash[9:11]}/{hash[7:]}.mkv", b"rubbish!")
    any_store.put(POSTER)
    any_store.put(film)
    assert any_store.read(HASH) == POSTER and any_store.read(hash) == LARGE and verify(any_store).ok


def test_repair_from_another_store(any_store, any_kind, tmp_path):
    with ContentStore(tmp_path / "other") as other:
        for content in (POSTER, LARGE):
            any_store.put(content)
            other.put(content)
        for key in any_kind.names():
            any_kind.write(key, b"rubbish")
        report = repair(any_store, donors=[other], dry_run=False)
    assert report.ok and {each.action.how for each in report.outcomes} == {"heal"}
    assert any_store.read(HASH) == POSTER and any_store.read(hash_bytes(LARGE)) == LARGE and verify(any_store).ok


def test_repair_of_another_store_from_this_one(any_store, tmp_path):
    with ContentStore(tmp_path / "other") as other:
        for content in (POSTER, LARGE):
            any_store.put(content)
            other.path(other.put(content).hash).unlink()
        assert repair(other, donors=[any_store], dry_run=False).ok
        assert other.read(HASH) == POSTER and verify(other).ok


def test_repair_from_another_namespace_from_a_source_and_by_order(any_store, any_kind):
    any_store.put(POSTER)
    any_store.put(POSTER, namespace="actors")
    any_store.put(b"from afar", source="https://example.org/far")
    any_kind.remove(KEY)
    far = hash_bytes(b"from afar")[7:]
    any_kind.write(f"assets/{far[:2]}/{far[2:4]}/{far}", b"spoilt!!!")
    stray = hash_bytes(b"a stray")[7:]
    any_kind.write(f"assets/{stray[:2]}/{stray[2:4]}/{stray}", b"a stray")
    astray = hash_bytes(b"astray")[7:]
    any_kind.write(f"assets/00/00/{astray}", b"astray")
    report = repair(any_store, fetch=lambda source: b"from afar", dry_run=False)
    assert report.ok, str(report)
    assert sorted(each.action.how for each in report.outcomes) == ["adopt", "fetch", "heal", "move"]
    assert verify(any_store).ok and len(any_store) == 5
    assert any_store.read(f"sha256:{stray}") == b"a stray" and any_store.read(f"sha256:{astray}") == b"astray"


# ---- out again, and again tomorrow


def test_giving_out(any_store, any_kind, tmp_path, film):
    hash = any_store.put(film).hash
    give_out(any_store, hash, tmp_path / "out.mkv")
    assert (tmp_path / "out.mkv").read_bytes() == LARGE
    with pytest.raises(FileExistsError):
        give_out(any_store, hash, tmp_path / "out.mkv")
    library = Library(any_store, tmp_path / "films")
    published = library.publish(hash, "A film (1999)/A film.mkv")
    assert published.path.read_bytes() == LARGE
    published.path.unlink()
    assert library.sync().written == 1 and published.path.read_bytes() == LARGE
    with pytest.raises(ObjectInUse):
        any_store.delete(hash)
    library.unpublish("A film (1999)/A film.mkv")
    assert not published.path.exists() and any_store.delete(hash)


def test_wrong_bytes_are_not_given_out(any_store, any_kind, tmp_path):
    any_store.put(POSTER)
    any_kind.write(KEY, b"rubbish!")
    with pytest.raises(CorruptObject):
        give_out(any_store, HASH, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_opened_again(any_kind):
    with any_kind.open() as store:
        id = store.put(POSTER, owner="movie:1") and store.id
    with any_kind.open(id=id, create=False) as store:
        assert store.read(HASH) == POSTER and store.stats()["references"] == 1
    with pytest.raises(StoreUnavailable):
        any_kind.open(id="another")
    with pytest.raises(StoreClosed):
        store.read(HASH)
    with pytest.raises(StoreClosed):
        store.put(POSTER)


def test_a_pickled_store_opens_again(any_store):
    any_store.put(POSTER)
    with pickle.loads(pickle.dumps(any_store)) as again:
        assert isinstance(again, ContentStore) and again.read(HASH) == POSTER and type(again) is type(any_store)


def test_a_place_that_is_somebody_elses_is_refused(any_kind):
    any_kind.write("photos/holiday.jpg", b"mine")
    with pytest.raises(NotAStore):
        any_kind.open()


def test_snapshots(any_store, tmp_path):
    any_store.put(POSTER, owner="movie:1")
    assert snapshot(any_store).exists() and snapshot(any_store, tmp_path / "mine.jsonl") == tmp_path / "mine.jsonl"


PUT_AND_REFER = """
import pickle, sys

with pickle.loads(bytes.fromhex(sys.argv[1])) as store:
    print("ready", flush=True)
    input()
    results = [store.put(b"poster %d" % n, owner=f"process:{sys.argv[2]}") for n in range(15)]
    print(sum(result.created for result in results))
"""


def test_fault_24_processes_put_the_same_bytes(any_store, any_kind, program):
    "With real processes, each with a store of its own"
    pickled = pickle.dumps(any_store).hex()
    others = [program.start(PUT_AND_REFER, pickled, n) for n in range(3)]
    for other in others:
        assert other.stdout.readline() == "ready\n"
    created = [int(program.end(other, "go\n")) for other in others]
    assert sum(created) == 15 == len(any_store) == len(any_kind.names())
    assert any_store.stats()["references"] == 45 and verify(any_store).ok


# ---- in a bucket only


def test_credentials_are_in_no_pickle_text_or_error(in_bucket):
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    with in_bucket.open() as store:
        assert secret.encode() not in pickle.dumps(store) and secret not in repr(store) + str(store._facts_())
        with pytest.raises(ValueError) as e:
            ContentStore("s3://me:hunter2@bucket/x", database=in_bucket.folder / "x")
        assert "hunter2" not in str(e.value)
        with pytest.raises(TypeError):
            in_bucket.open(secret_access_key="hunter2")


FORKED = """
import os, pickle, sys, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of a fork beside threads, as the client has
with pickle.loads(bytes.fromhex(sys.argv[1])) as store:
    hash = store.put(b"a poster").hash
    if (child := os.fork()) == 0:
        told = []
        for work in (
            lambda: store.put(b"another"), lambda: store.read(hash), lambda: list(store.put_many([b"a", b"b"]))[0].error
        ):
            try:
                told.append(type(work()).__name__)
            except Exception as e:
                told.append(type(e).__name__)
        print(*told, len(store), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(store.read(hash).decode(), store.put(b"another").created)
"""


def test_a_bucket_without_a_database_says_what_it_needs():
    with pytest.raises(TypeError, match=r"a store in a bucket needs database=…"):
        ContentStore("s3://films/library")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_fault_54_a_forked_child_of_who_used_a_bucket(any_kind, program):
    "On a disk it goes on; of a bucket it is told, and knows the rows; its parent goes on in either case"
    with any_kind.open() as store:
        said = program(FORKED, pickle.dumps(store).hex()).splitlines()
    if any_kind.on_disk:
        assert said == ["PutResult bytes NoneType 4", "a poster False"]
    else:
        assert said == ["AfterFork AfterFork AfterFork 1", "a poster True"]


def test_what_only_a_disk_has(in_bucket, tmp_path):
    from cjm_media_storage.errors import LinkModeUnavailable, NoFile

    with in_bucket.open() as store:
        store.put(POSTER)
        with pytest.raises(NoFile, match="give_out"):
            store.path(HASH)
        for mode in ("hardlink", "symlink", "reflink"):
            with pytest.raises(LinkModeUnavailable):
                Library(store, tmp_path / "films").publish(HASH, "a.jpg", mode=mode)
        assert not store.get(HASH).path.is_absolute()


def test_another_index_is_refused(in_bucket, tmp_path):
    from cjm_media_storage.errors import OtherIndex

    with in_bucket.open() as store:
        store.put(POSTER)
    with pytest.raises(OtherIndex, match="rebuild_bucket"):
        in_bucket.open(database=tmp_path / "another")
    with in_bucket.open() as store:
        assert store.read(HASH) == POSTER


def test_a_database_serves_one_bucket_and_is_no_store(in_bucket, s3, tmp_path):
    in_bucket.open().close()
    with pytest.raises(StoreUnavailable, match="it is the folder of"):
        InBucket(tmp_path, s3).open(database=in_bucket.database)
    with pytest.raises(StoreUnavailable, match="s3://"):
        ContentStore(in_bucket.database)
    ContentStore(tmp_path / "a disk").close()
    with pytest.raises(NotAStore):
        in_bucket.open(database=tmp_path / "a disk")


def test_a_disk_takes_no_options_of_a_bucket(tmp_path):
    with pytest.raises(TypeError, match="takes no 'endpoint'"):
        ContentStore(tmp_path / "store", endpoint="http://127.0.0.1")
    assert not Path(tmp_path / "store").exists()
