"Contents put by the workers of an executor: the same outcomes as from one process, and what is stored is told."

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import pytest
from on_disk import staged

from cjm_media_storage import spreading
from cjm_media_storage.executors import pieces
from cjm_media_storage.storage import (
    ContentStore,
    ExecutorFailed,
    HashMismatch,
    InvalidNamespace,
    PutItem,
    SourceError,
    StoreBusy,
    StoreUnavailable,
    hash_bytes,
)
from cjm_media_storage.verifying import verify

pytestmark = pytest.mark.usefixtures("tracker")
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(params=["threads", "processes"])
def executor(request):
    "Executors of the standard library, with two workers"
    kinds = {"threads": ThreadPoolExecutor(2), "processes": ProcessPoolExecutor(2, mp_context=SPAWN)}
    with kinds[request.param] as executor:
        yield executor


def said(store, hash):
    "Where an object came from, and who needs it"
    sources = [(source.location, source.provider, source.extension) for source in store.sources(hash)]
    return sources, [(reference.owner, reference.role) for reference in store.references(hash)]


def outcome(each):
    result = each.result and (each.result.hash, each.result.size, each.result.namespace, each.result.extension)
    return each.content, result, each.result and each.result.created, type(each.error)


@pytest.fixture
def contents(here):
    "Paths and bytes of all kinds, and what cannot be put"
    for number in range(5):
        (here / f"{number}.jpg").write_bytes(b"file %d" % number)
    (here / "folder").mkdir()
    return [
        "0.jpg",
        here / "1.jpg",
        b"some bytes",
        bytearray(b"more bytes"),
        PutItem("2.jpg", namespace="actors", source="https://example.org/2.png", owner="movie:603", role="poster"),
        PutItem(b"a poster", extension="png", expected_hash=hash_bytes(b"a poster")),
        PutItem(b"a still", expected_hash=hash_bytes(b"another")),
        PutItem(b"a still", namespace=".."),
        "gone.jpg",
        "folder",
        "\0",
        "3.jpg",
        b"some bytes",
    ]


def test_outcomes_are_those_of_one_process(store, executor, contents, tmp_path, monkeypatch):
    monkeypatch.setattr(spreading, "pieces", partial(pieces, many=4))
    with ContentStore(tmp_path / "expected") as expected:
        wanted = [outcome(each) for each in expected.put_many(contents, provider="tmdb")]
        found = [outcome(each) for each in store.put_many(iter(contents), provider="tmdb", executor=executor)]
        assert [each[:2] + each[3:] for each in found] == [each[:2] + each[3:] for each in wanted]
        assert {each[3] for each in found} >= {HashMismatch, InvalidNamespace, SourceError}
        assert store.stats() == expected.stats()
        for each in expected:
            assert said(store, each.hash) == said(expected, each.hash)
    assert verify(store).ok and staged(store) == []


def test_a_stream_is_refused_and_stops_nothing(store, executor, here):
    def stream():
        yield b"a stream"

    (here / "open.jpg").write_bytes(b"a file")
    with open(here / "open.jpg", "rb") as file:
        contents = [stream(), b"first", file, PutItem([b"a list"]), b"second", stream()]
        found = list(store.put_many(contents, executor=executor))
    assert [each.content for each in found] == contents
    assert [type(each.error) for each in found] == [
        SourceError,
        type(None),
        *[SourceError] * 2,
        type(None),
        SourceError,
    ]
    assert "only a path or bytes" in str(found[0].error) and len(store) == 2
    assert [each.error is None for each in store.put_many([stream()], executor=executor)] == [False]


def test_paths_are_those_of_this_process(store, here):
    (here / "a.jpg").write_bytes(b"a file")
    with ProcessPoolExecutor(1, mp_context=SPAWN, initializer=os.chdir, initargs=("/",)) as processes:
        (each,) = store.put_many(["a.jpg"], executor=processes)
    assert each.content == "a.jpg" and store.sources(each.result.hash)[0].location == str(here / "a.jpg")


def test_a_file_that_is_moved_is_gone_when_it_is_told(store, executor, here):
    (here / "a.jpg").write_bytes(b"a file")
    (each,) = store.put_many(["a.jpg"], executor=executor, move=True)
    assert each.result.link_mode in ("move", "copy") and not (here / "a.jpg").exists()


def test_progress_counts_all(store, contents, here):
    told = []
    with ThreadPoolExecutor(2) as threads:
        found = list(store.put_many([iter([]), *contents], executor=threads, progress=told.append))
    assert (told[-1].items, told[-1].failed) == (len(found), sum(each.error is not None for each in found))


def test_what_the_contents_raise_is_raised_after_what_was_done_is_told(store, executor):
    def contents():
        yield b"first"
        yield b"second"
        raise RuntimeError("no more")

    told = []
    with pytest.raises(RuntimeError, match="no more"):
        for each in store.put_many(contents(), executor=executor):
            told.append(each.result.hash)
    assert told == [hash_bytes(b"first"), hash_bytes(b"second")] and len(store) == 2


def test_a_store_that_goes_away_is_raised_after_what_was_stored_is_told(store, monkeypatch):
    monkeypatch.setattr(spreading, "pieces", partial(pieces, many=1))
    away = store.root.with_name("elsewhere")

    def contents():
        yield b"first"
        yield b"second"

    with ThreadPoolExecutor(1) as threads:
        outcomes = store.put_many(contents(), executor=threads)
        assert next(outcomes).result.hash in store
        outcomes.close()
        store.root.rename(away)
        with pytest.raises(StoreUnavailable):
            list(store.put_many([b"third"], executor=threads))
    away.rename(store.root)


def test_what_a_worker_stored_before_its_store_failed_is_told(store, monkeypatch):
    put_many = ContentStore.put_many

    def put_one_and_fail(self, contents, executor=None, **options):
        if executor is not None:
            return put_many(self, contents, executor=executor, **options)
        return one_and_fail(put_many(self, contents, **options))

    def one_and_fail(outcomes):
        yield next(outcomes)
        outcomes.close()
        raise StoreBusy("somewhere")

    monkeypatch.setattr(ContentStore, "put_many", put_one_and_fail)
    told = []
    with ThreadPoolExecutor(1) as threads, pytest.raises(StoreBusy):
        for each in store.put_many([b"first", b"second"], executor=threads):
            told.append(each.result.hash)
    assert told == [hash_bytes(b"first")] and told[0] in store


def test_a_worker_that_is_killed_loses_nothing_that_was_told(store):
    with ProcessPoolExecutor(1, mp_context=SPAWN) as processes:
        told = [each.result.hash for each in store.put_many([b"%d" % n for n in range(50)], executor=processes)]
        (pid,) = processes._processes
        os.kill(pid, 9)
        with pytest.raises(ExecutorFailed):
            list(store.put_many([b"more"], executor=processes))
    assert all(hash in store for hash in told) and verify(store).counts.keys() <= {"leftover"}
    with ProcessPoolExecutor(1, mp_context=SPAWN) as processes:
        again = [b"%d" % n for n in range(50)] + [b"more"]
        assert sum(each.result.created for each in store.put_many(again, executor=processes)) <= 1
    assert len(store) == 51


def test_a_bad_argument_is_refused_before_anything_is_sent(store):
    with ThreadPoolExecutor(1) as threads, pytest.raises(ValueError, match="durability"):
        store.put_many([b"x"], executor=threads, durability="some")
