"A store with a quota: what goes, and what never does."

import pytest
from on_disk import tree

from cjm_media_storage.storage import ContentStore, StoreBusy, StoreClosed, hash_bytes

SIZE = 1000


@pytest.fixture
def cache(tmp_path):
    with ContentStore(tmp_path / "store", quota=5 * SIZE) as store:
        yield store


def item(n):
    return bytes([n]) * SIZE


def held(store):
    return [n for n in range(20) if hash_bytes(item(n)) in store]


def test_what_was_not_used_for_longest_goes(cache):
    for n in range(5):
        cache.put(item(n))
    cache.read(hash_bytes(item(0)))
    cache.path(hash_bytes(item(1)))
    cache.put(item(2))  # known; it is used all the same
    cache.put(item(5))
    assert held(cache) == [0, 1, 2, 5]  # down to nine tenths of the quota
    assert (len(tree(cache)), len(cache.trash), list(cache.trash.folder.rglob("*.*"))) == (4, 0, [])
    cache.put(item(6))
    assert held(cache) == [0, 1, 2, 5, 6]


def test_many_at_once_stay_below_the_quota(cache):
    assert all(outcome.result for outcome in cache.put_many(item(n) for n in range(20)))
    assert 19 in held(cache) and 4 <= len(held(cache)) <= 5


def test_a_store_with_much_room_is_not_looked_at_for_each_put(tmp_path, monkeypatch):
    totals = []
    with ContentStore(tmp_path / "store", quota=100 * SIZE) as cache:
        total = cache._cache._total
        monkeypatch.setattr(cache._cache, "_total", lambda: totals.append(total()) or totals[-1])
        for n in range(12):
            cache.put(item(n))
    assert sorted(set(totals)) == [SIZE, 6 * SIZE, 11 * SIZE]  # after each twentieth of the quota


def test_what_somebody_needs_never_goes(cache, caplog):
    cache.put(item(0), owner="movie:1")
    cache.put(item(1))
    with cache.pin(hash_bytes(item(1))):
        for n in range(2, 12):
            cache.put(item(n))
        assert {0, 1, 11} <= set(held(cache)) and len(held(cache)) <= 5
    for n in range(12, 18):
        cache.put(item(n), owner="movie:2")
    assert set(held(cache)) >= {0, 12, 13, 14, 15, 16, 17}
    assert "over the quota are needed" in caplog.text


def test_one_that_is_larger_than_the_quota_stays_as_the_last_one_put(cache):
    cache.put(item(0))
    large = cache.put(b"x" * 6 * SIZE)
    assert large.path.exists() and held(cache) == []
    cache.put(item(1))
    assert (large.hash in cache, held(cache)) == (False, [1])


def test_use_is_remembered_by_those_who_open_the_store_next(cache, tmp_path):
    for n in range(5):
        cache.put(item(n))
    cache.read(hash_bytes(item(0)))
    cache.close()
    with ContentStore(tmp_path / "store", quota=5 * SIZE) as again:
        again.put(item(5))
        assert held(again) == [0, 3, 4, 5]


def test_a_store_without_a_quota_keeps_all(tmp_path):
    with ContentStore(tmp_path / "store") as store:
        for n in range(20):
            store.put(item(n))
        assert len(held(store)) == 20


def test_many_processes_fill_one_cache(tmp_path, program):
    text = """
    import os, sys
    from cjm_media_storage.storage import ContentStore
    with ContentStore(sys.argv[1], quota=20_000) as store:
        for n in range(40):
            result = store.put(os.urandom(1000))
            assert store.stats()["bytes"] <= 24_000
    """
    running = [program.start(text, tmp_path / "store") for _ in range(3)]
    for each in running:
        program.end(each)
    with ContentStore(tmp_path / "store") as store:
        assert 10 <= len(store) == len(tree(store)) <= 23
        for stored in store:
            store.read(stored.hash, verify=True)


@pytest.mark.parametrize("quota", [0, -1])
def test_a_quota_is_more_than_nothing(tmp_path, quota):
    with pytest.raises(ValueError, match="number of bytes"):
        ContentStore(tmp_path / "store", quota=quota)


def test_fault_41_a_cache_is_read_where_nothing_may_be_written(place, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.caching.NOTES", 2)
    with ContentStore(place.path / "store", quota=5 * SIZE) as cache:
        hashes = [cache.put(item(n)).hash for n in range(3)]
    with place.read_only(), ContentStore(place.path / "store", quota=5 * SIZE) as cache:
        assert [cache.read(hash) for hash in hashes] == [item(n) for n in range(3)]


def test_fault_46_a_cache_is_read_and_closed_while_somebody_else_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.caching.NOTES", 2)
    with ContentStore(tmp_path, quota=5 * SIZE) as other, ContentStore(tmp_path, quota=5 * SIZE, timeout=0.01) as cache:
        hashes = [cache.put(item(n)).hash for n in range(3)]
        with other._index.database.transaction():
            assert [cache.read(hash) for hash in hashes] == [item(n) for n in range(3)]
            cache.close()
    with pytest.raises(StoreClosed):
        cache.read(hashes[0])


def test_notes_are_written_down_when_there_are_many(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.caching.NOTES", 3)
    for n in range(3):
        cache.put(item(n))
    before = used(cache)
    cache.read(hash_bytes(item(0)))
    cache.read(hash_bytes(item(1)))
    assert used(cache) == before
    cache.read(hash_bytes(item(0)))  # the same again is no further note
    assert used(cache) == before
    cache.read(hash_bytes(item(2)))
    assert all(now > then for now, then in zip(used(cache), before, strict=True))


def used(store):
    return [store._index.entries(hash_bytes(item(n))[7:])[0].used_at for n in range(3)]


def test_a_cache_that_cannot_shrink_now_keeps_what_was_put_and_says_so(cache, monkeypatch, caplog):
    for n in range(5):
        cache.put(item(n))
    with monkeypatch.context() as broken:
        broken.setattr(cache.parts.trash, "discard", refuses)
        assert cache.put(item(5)).created
    assert held(cache) == [0, 1, 2, 3, 4, 5]
    assert "stays above its quota for now" in caplog.text
    cache.put(item(6))
    assert held(cache) == [3, 4, 5, 6]


def refuses(*args, **options):
    raise StoreBusy("somebody writes")
