"""Copies between stores: the same objects and facts at any destination, however often it is stopped, killed, or run.

Whatever kind of store there is, it is a destination here: one line in `DESTINATIONS`, and it is held to all of this."""

import contextlib
import ctypes  # noqa: F401  # loaded on use, which `unprivileged` may not
import os
import pickle
import random

import pytest
from damage import damage, fill
from memory import peak_of
from on_disk import memory_disk, staged, unprivileged
from stores import OnDisk, Shared

from cjm_media_storage import copying
from cjm_media_storage.collecting import gc
from cjm_media_storage.repairing import repair
from cjm_media_storage.storage import (
    ContentStore,
    CorruptObject,
    InvalidHash,
    MissingObject,
    NoSpace,
    ObjectNotFound,
    PutItem,
    ReadOnlyStore,
    StoreClosed,
    StoreUnavailable,
    UnsafePath,
    copy_each,
    copy_to,
    hash_bytes,
)
from cjm_media_storage.verifying import verify

DESTINATIONS = {  # The kind of store, and what must run before a test is looked at
    "folder": (lambda test: OnDisk(test.getfixturevalue("tmp_path") / "kind"), ()),
    "shared": (
        lambda test: Shared(test.getfixturevalue("tmp_path") / "kind", test.getfixturevalue("url")),
        ("server",),
    ),
    "bucket": (lambda test: test.getfixturevalue("in_bucket"), ("s3_client",)),
    "server": (lambda test: test.getfixturevalue("served"), ("s3_client", "server")),
}


def kinds_of_destination():
    for name, (make, servers) in DESTINATIONS.items():
        yield pytest.param((make, servers), id=name, marks=pytest.mark.buckets if servers else ())


@pytest.fixture(scope="session", params=kinds_of_destination())
def destination(request):
    "What makes one of each kind"
    make, servers = request.param
    for name in servers:
        request.getfixturevalue(name)
    return make


@pytest.fixture
def other_kind(request, destination):
    "A store of each kind, not open yet"
    return destination(request)


@pytest.fixture
def other(other_kind):
    "A new store of each kind"
    with other_kind.open() as other:
        yield other


URL = "https://example.org/poster.jpg"


def facts(store, times=False):
    "All that is known of the objects of a store, but for when it was learned"
    known = {}
    for each in store:
        sources = sorted({(source.location, source.provider) for source in store.sources(each.hash)})
        references = sorted({(reference.owner, reference.role) for reference in store.references(each.hash)})
        known[each.namespace, each.hash] = (each.extension, each.size, sources, references, store.read(each.hash, True))
    return known


def told(summary):
    return summary.copied, summary.known, summary.failed


@pytest.fixture
def rich(store, tmp_path):
    "A store with one of each kind of fact"
    (tmp_path / "film.mkv").write_bytes(b"a film" * 1000)
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"a menu")
    store.put(b"a poster", source=URL, provider="tmdb", owner="movie:603", role="poster", extension="png")
    store.put(b"a poster", namespace="actors", owner="actor:1")
    store.add_source(hash_bytes(b"a poster"), "https://example.com/mirror.png")
    store.add_reference(hash_bytes(b"a poster"), "movie:604")
    store.put(tmp_path / "film.mkv")
    store.put(tmp_path / os.fsdecode(b"caf\xe9.jpg"))
    store.put(b"a cache", durability="none")
    store.put(b"", extension="txt")
    fill(store, 20)
    return store


def test_bytes_and_facts_arrive(rich, other):
    summary = copy_to(rich, other)
    assert told(summary) == (len(rich), 0, 0) and summary.ok
    assert summary.bytes == sum(each.size for each in rich)
    assert facts(other) == facts(rich) and verify(other).ok and staged(other) == []


def test_running_again_changes_nothing(rich, other):
    copy_to(rich, other)
    before = [*other], {hash: (other.sources(hash), other.references(hash)) for hash in {each.hash for each in other}}
    assert told(copy_to(rich, other)) == (0, len(rich), 0)
    assert before == (
        [*other],
        {hash: (other.sources(hash), other.references(hash)) for hash in {each.hash for each in other}},
    )


def test_what_the_destination_has_besides_stays(rich, other):
    own = other.put(b"its own", owner="somebody").hash
    other.put(b"a poster", source="https://example.net/its-own.png", owner="somebody")
    copy_to(rich, other)
    assert own in other and other.references(own)
    assert {source.location for source in other.sources(hash_bytes(b"a poster"))} == {
        URL,
        "https://example.com/mirror.png",
        "https://example.net/its-own.png",
    }


def test_it_can_come_back(rich, other, tmp_path):
    copy_to(rich, other)
    with ContentStore(tmp_path / "third") as third:
        assert copy_to(other, third).ok
        assert facts(third) == facts(rich)


def test_a_namespace_or_hashes_narrow_it(rich, other):
    assert told(copy_to(rich, other, namespace="actors")) == (1, 0, 0)
    named = [hash_bytes(b"object 1"), hash_bytes(b"object 2"), hash_bytes(b"object 1")]
    assert told(copy_to(rich, other, iter(named))) == (2, 0, 0)
    assert told(copy_to(rich, other, [hash_bytes(b"a poster")], namespace="actors")) == (0, 1, 0)
    assert told(copy_to(rich, other, [])) == (0, 0, 0)
    assert len(other) == 3


def test_a_hash_that_is_not_there_or_is_none_is_told_and_stops_nothing(rich, other):
    named = [hash_bytes(b"never stored"), "poster.jpg", hash_bytes(b"object 1")]
    summary = copy_to(rich, other, named)
    assert told(summary) == (1, 0, 2)
    assert [type(one.error) for one in summary.failures] == [ObjectNotFound, InvalidHash]
    assert [one.hash for one in summary.failures] == named[:2]


# ---- what a location gave last


def newest(store):
    return store.find_by_source(URL)[-1].hash


def test_what_a_location_gave_last_is_its_newest_whatever_the_order_of_arrival(store, other):
    first, second, third = (store.put(content, source=URL).hash for content in (b"first", b"second", b"third"))
    store.put(b"first", source=URL)  # again, and so the newest
    copy_to(store, other, [third, first])
    assert newest(other) == first
    copy_to(store, other, [second])
    assert newest(other) == newest(store) == first
    times = [source.last_seen for source in other.find_by_source(URL)]
    copy_to(store, other)
    assert [source.last_seen for source in other.find_by_source(URL)] == times


def test_what_the_destination_got_itself_since_stays_the_newest(store, other):
    for content in (b"first", b"second"):
        store.put(content, source=URL)
    copy_to(store, other)
    own = other.put(b"third", source=URL).hash
    copy_to(store, other)
    assert newest(other) == own


def test_an_object_without_a_source_gets_none(store, other):
    hash = store.put(b"a poster").hash
    copy_to(store, other)
    assert other.sources(hash) == []


def test_what_is_needed_here_is_not_collected_there(store, other):
    for namespace in ("assets", "actors"):
        store.put(b"a poster", namespace=namespace)
    store.add_reference(hash_bytes(b"a poster"), "movie:603", namespace="actors")
    store.add_reference(hash_bytes(b"a poster"), "movie:604", namespace="assets")
    copy_to(store, other)
    assert gc(other, grace=0).condemned == ()
    other.remove_reference(hash_bytes(b"a poster"), "movie:603")
    assert gc(other, grace=0).condemned == ()


# ---- damage


def test_damage_at_the_source_is_told_of_each_and_stops_nothing(store, other, tmp_path):
    (tmp_path / "film.mkv").write_bytes(b"a film")
    results = [*fill(store, 10), store.put(tmp_path / "film.mkv")]
    for number in (0, 10):  # one is sent as a stream, and one as a file
        damage(results[number].path, b"0" * results[number].size)
    results[1].path.unlink()
    results[2].path.unlink()
    results[2].path.mkdir()
    outside = tmp_path / "outside"
    outside.write_bytes(b"object 3")
    results[3].path.unlink()
    results[3].path.symlink_to(outside)
    summary = copy_to(store, other)
    assert told(summary) == (6, 0, 5) and not summary.ok
    damaged = [CorruptObject, MissingObject, CorruptObject, UnsafePath]
    kinds = {results[n].hash: kind for n, kind in zip((0, 1, 2, 3, 10), [*damaged, CorruptObject], strict=True)}
    assert {one.hash: type(one.error) for one in summary.failures} == kinds
    assert verify(other).ok and staged(other) == []
    assert all(one.hash in str(summary) for one in summary.failures)


def test_an_object_that_cannot_be_read_is_told(open_folder):
    with ContentStore(open_folder / "store", folder_mode=0o777) as store:
        locked, _ = fill(store, 2)
        locked.path.chmod(0)
        with unprivileged(), ContentStore(open_folder / "other") as destination:
            summary = copy_to(store, destination)
    assert told(summary) == (1, 0, 1) and isinstance(summary.failures[0].error, PermissionError)


def test_from_any_kind_of_store(rich, other, tmp_path):
    copy_to(rich, other)
    with ContentStore(tmp_path / "third") as third:
        assert told(copy_to(other, third)) == (len(rich), 0, 0)
        assert facts(third) == facts(rich) and verify(third).ok


def test_what_was_damaged_there_is_healed_from_here(rich, other, other_kind):
    "The destination is taken at its word; its own verify finds the damage, and this store is a donor"
    copy_to(rich, other)
    other_kind.write(other_kind.names()[0], b"rubbish")
    assert told(copy_to(rich, other))[2] == 0 and not verify(other).ok
    assert repair(other, donors=[rich.root], dry_run=False).ok and verify(other).ok


def test_many_failures_are_counted_and_the_first_are_named(store, other):
    for result in fill(store, 30):
        result.path.unlink()
    failures = []
    summary = copy_to(store, other, progress=failures.append)
    assert (summary.failed, len(summary.failures), len(failures)) == (30, copying.SHOWN, 30)
    assert str(summary).endswith("and 10 more")


# ---- what concerns a store as a whole


def test_a_source_that_goes_away_is_unavailable_and_nothing_is_missing(store, other):
    fill(store, 10)
    copied = copy_each(store, other)
    store.root.rename(store.root.with_name("elsewhere"))
    with pytest.raises(StoreUnavailable):
        list(copied)
    store.root.with_name("elsewhere").rename(store.root)
    assert copy_to(store, other).ok


def test_a_disk_that_is_full_ends_it_after_what_was_done_is_told(store, tmp_path, monkeypatch):
    monkeypatch.setattr(copying, "TOGETHER", 3)
    for number in range(12):
        store.put(bytes([number]) * 200_000)
    one_by_one = []
    with memory_disk(tmp_path / "small", "4m") as small, ContentStore(small / "other") as other:
        (small / "ballast").write_bytes(bytes(2_000_000))
        with pytest.raises(NoSpace):
            for one in copy_each(store, other):
                one_by_one.append(one)
        assert 0 < len(one_by_one) < 12 and all(one.created for one in one_by_one)
        assert {one.hash for one in one_by_one} <= {each.hash for each in other} and verify(other).ok
        (small / "ballast").unlink()
        assert copy_to(store, other).ok and facts(other) == facts(store)


def test_a_destination_that_is_closed_or_cannot_be_written_to(store, other, place):
    fill(store, 2)
    with ContentStore(place.path / "store"):
        pass
    with place.read_only(), ContentStore(place.path / "store") as locked, pytest.raises(ReadOnlyStore):
        copy_to(store, locked)
    other.close()
    with pytest.raises(StoreClosed):
        copy_to(store, other)


# ---- others at work


def test_what_is_deleted_here_meanwhile_is_told_and_stops_nothing(store, other):
    results = fill(store, 10)
    copied = copy_each(store, other)
    wanted = list(store)
    store.delete(results[9].hash)
    with contextlib.closing(copied):
        told = list(copying._put(store, other, wanted, None))
    assert [one.hash for one in told if one.error] == [results[9].hash] and len(other) == 9
    assert isinstance(told[-1].error, ObjectNotFound)


def test_what_is_deleted_there_meanwhile_is_told(store, other, monkeypatch):
    hash = store.put(b"a poster", source=URL, owner="movie:603").hash
    store.add_reference(hash, "movie:604")
    add = ContentStore.add_reference

    def delete_first(self, *args, **options):
        self.delete(hash, force=True)
        return add(self, *args, **options)

    monkeypatch.setattr(ContentStore, "add_reference", delete_first)
    assert isinstance(copy_to(store, other).failures[0].error, ObjectNotFound)
    monkeypatch.undo()
    assert copy_to(store, other).copied == 1 and len(other.references(hash)) == 2


def test_stopped_early_and_run_again(rich, other, monkeypatch):
    monkeypatch.setattr(copying, "TOGETHER", 7)
    with contextlib.closing(copy_each(rich, other)) as copied:
        first = [next(copied) for _ in range(10)]
    assert all(one.hash in other for one in first) and staged(other) == []
    summary = copy_to(rich, other)
    assert summary.copied + summary.known == len(rich) and summary.known >= 10
    assert facts(other) == facts(rich)


COPYING = """
import pickle, sys
from cjm_media_storage import copying
from cjm_media_storage.storage import copy_each
copying.TOGETHER = 40
store, other = (pickle.loads(bytes.fromhex(each)) for each in sys.argv[1:])
with store, other:
    for one in copy_each(store, other):
        print(one.hash, flush=True)
"""


def kill_and_run_again(store, other, program, after):
    "What was told is there; what is there is right; and the second run sends the rest alone"
    process = program.start(COPYING, pickle.dumps(store).hex(), pickle.dumps(other).hex())
    given = [process.stdout.readline().strip() for _ in range(after)]
    process.kill()
    given += process.communicate()[0].split()
    there = {each.hash for each in other}
    assert there >= {hash for hash in given if len(hash) == len(hash_bytes(b""))}
    assert verify(other).counts.keys() <= {"leftover", "untracked"}
    assert told(copy_to(store, other)) == (200 - len(there), len(there), 0)
    assert facts(other) == facts(store) and verify(other).counts.keys() <= {"leftover"}


def fill_with_facts(store):
    contents = [b"object %d" % number * 50 for number in range(200)]
    items = [
        PutItem(each, source=f"https://example.org/{n}.jpg", owner=f"movie:{n}") for n, each in enumerate(contents)
    ]
    list(store.put_many(items))
    list(store.put_many(contents, owner="everybody"))


@pytest.mark.parametrize("after", [0, 1, 45, 130])
def test_killed_in_the_middle_and_run_again(quick, program, after):
    with ContentStore(quick / "store") as store, ContentStore(quick / "other") as other:
        fill_with_facts(store)
        kill_and_run_again(store, other, program, after)


def test_killed_on_the_way_to_any_kind_of_store_and_on_the_way_back(quick, other, program):
    with ContentStore(quick / "store") as store, ContentStore(quick / "back") as back:
        fill_with_facts(store)
        kill_and_run_again(store, other, program, 45)
        kill_and_run_again(other, back, program, 45)
        assert facts(back) == facts(store)


def test_memory_does_not_grow_with_the_number_of_objects(quick, monkeypatch):
    monkeypatch.setattr(copying, "TOGETHER", 500)
    contents, peaks = random.Random(1), []
    with ContentStore(quick / "store") as store, ContentStore(quick / "other") as other:
        for _ in range(2):  # rows are read a thousand at a time, and those of the last page may still be there
            list(store.put_many([contents.randbytes(100) for _ in range(2100)]))
            copy_to(store, other)
            peaks.append(peak_of(lambda: copy_to(store, other), 1.4 * min(peaks, default=0)))
    assert peaks[1] < 1.4 * peaks[0]


def test_what_is_asked_of_each_object_is_found_by_an_index(store, monkeypatch):
    "Else a copy of a million objects would read a million rows for each"
    hash, asked = store.put(b"a poster", source=URL, owner="movie:603").hash, []
    database = store._index.database
    fetch = database.fetch
    monkeypatch.setattr(database, "fetch", lambda sql, given=(): asked.append((sql, given)) or fetch(sql, given))
    store.references(hash), store.sources(hash), store.find_by_source(URL, ""), store.known([hash])
    assert len(asked) == 4
    for sql, given in asked:
        assert all(step[-1].startswith(("SEARCH", "USE")) for step in fetch(f"EXPLAIN QUERY PLAN {sql}", given)), sql


def test_known_asks_for_many_at_once(store):
    results = [outcome.result for outcome in store.put_many(b"object %d" % number for number in range(1200))]
    store.put(b"a portrait", namespace="actors")
    hashes = [result.hash for result in results]
    assert store.known(hashes) == set(hashes)
    assert store.known([*hashes[:2], hash_bytes(b"never stored")]) == set(hashes[:2])
    assert store.known(hashes, "actors") == set() and store.known([]) == set()
    store.delete(hashes[0])
    assert store.known(iter(hashes[:2])) == {hashes[1]}
    with pytest.raises(InvalidHash):
        store.known(["x"])
