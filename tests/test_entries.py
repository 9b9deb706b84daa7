"The rows of objects: one, many, and how many."

from types import SimpleNamespace

import pytest
from stores import DIGEST, entry

from cjm_media_storage.entries import USED, Entries
from cjm_media_storage.index import NewReference, NewSource


def test_prefixes(index):
    digests = ["abcd" + "0" * 60, "abcd" + "f" * 60, "abce" + "0" * 60]
    for digest in digests:
        index.commit(entry(digest))
    assert index.beginning("abcd") == digests[:2]
    assert index.beginning(digests[1]) == [digests[1]]
    assert index.beginning("abcc") == []


def test_all_of_a_prefix_in_order_page_by_page(index):
    for digest in ("abcd" + "f" * 60, "abcd" + "0" * 60, "abce" + "0" * 60):
        for namespace in ("assets", "actors"):
            index.commit(entry(digest, namespace))
    found = [(each.digest[4:5], each.namespace) for each in index.within("abcd", size=1)]
    assert found == [("0", "actors"), ("0", "assets"), ("f", "actors"), ("f", "assets")]
    assert [each.digest[4:5] for each in index.within("abcd", "actors", size=1)] == ["0", "f"]


def test_what_is_not_live_is_given_only_to_those_who_ask(index):
    index.commit(entry())
    index.database.execute("UPDATE objects SET state = 'trashed'")
    assert index.entries(DIGEST) == list(index.all()) == list(index.within("ab")) == index.newest(9) == []
    assert index.beginning("ab") == [] and index.live([DIGEST]) == set()
    assert not (index.lists(DIGEST) or index.knows_size(8))
    assert index.totals()["objects"] == index.totals()["bytes"] == 0
    assert [each.state for each in index.entries(DIGEST, trashed=True)] == ["trashed"]
    assert list(index.entries_of([DIGEST])) == [DIGEST]


def test_the_place_of_what_is_live_and_durable_is_told(index):
    assert index.place_of(DIGEST) is None
    index.commit(entry(namespace="actors")._replace(boot="a cache may lose it"))
    assert index.place_of(DIGEST) is None
    index.commit(entry())
    assert index.place_of(DIGEST) == (entry().path, entry().size)
    index.database.execute("UPDATE objects SET state = 'trashing'")
    assert index.place_of(DIGEST) is None


@pytest.mark.parametrize("column, value", [("namespace", "../.."), ("extension", "/../x"), ("size", "many")])
def test_no_place_is_believed_that_no_store_has_written(column, value):
    row = {"namespace": "assets", "extension": "jpg", "size": 8}
    index = Entries()
    index.database = SimpleNamespace(fetch=lambda sql, parameters: [tuple(row.values())])
    assert index.place_of(DIGEST) == (f"assets/{DIGEST[:2]}/{DIGEST[2:4]}/{DIGEST}.jpg", 8)
    row[column] = value
    assert index.place_of(DIGEST) is None


def test_the_newest_come_first(index):
    for digest in ("cd" * 32, DIGEST, "ef" * 32):
        index.commit(entry(digest))
    assert [each.digest[:2] for each in index.newest(2)] == ["ef", "ab"]


def test_folders_that_hold_something_durable_are_durable(index):
    def synced():
        return index.synced(entry())

    assert synced() == 0
    index.commit(entry("cd" * 32, "actors"))
    index.commit(entry("cd" * 32)._replace(boot="a cache may lose it"))
    assert synced() == 0
    for digest, count in (("cd" * 32, 1), ("ab00" + "cd" * 30, 2), ("abab" + "cd" * 30, 3)):
        index.commit(entry(digest))
        assert synced() == count
        assert index.synced(entry(namespace="actors")) == 1
    index.database.execute("UPDATE objects SET state = 'trashing' WHERE digest LIKE 'abab%'")
    assert synced() == 2
    index.database.execute("UPDATE objects SET state = 'trashing'")
    assert synced() == 0


def test_a_namespace_that_holds_something_durable_is_known_by_what_came_last(index):
    index.commit(entry("cd" * 32, "actors"))
    for n in range(99):
        index.commit(entry(f"{n:064x}"))
    assert index.synced(entry("ef" * 32, "actors")) == 1
    index.commit(entry("cd" * 32))
    assert index.synced(entry("ef" * 32, "actors")) == 0


def test_what_is_listed_where(index):
    other = "cd" * 32
    index.commit(entry())
    index.commit(entry(other, "actors"))
    index.commit(entry("ef" * 32, size=9))
    assert [index.lists(DIGEST, name) for name in (None, "assets", "actors")] == [True, True, False]
    assert [index.lists(other, name) for name in (None, "assets", "actors")] == [True, False, True]
    assert not index.lists("01" * 32, "assets")
    assert [index.knows_size(size) for size in (7, 8, 9, 10)] == [False, True, True, False]
    index.database.execute("UPDATE objects SET state = 'trashing' WHERE digest <> ?", (other,))
    assert not index.lists(DIGEST, "assets") and index.lists(other, "actors") and not index.knows_size(9)


def test_totals_are_those_of_what_is_live(index):
    for n, digest in enumerate((DIGEST, "cd" * 32, "ef" * 32)):
        for source in range(n + 1):
            index.commit(entry(digest, size=10**n), NewSource(f"/{n}/{source}"), NewReference("movie:1", str(source)))
    index.database.execute("UPDATE objects SET state = 'trashed' WHERE digest = ?", ("cd" * 32,))
    counts = {"objects": 2, "bytes": 101, "sources": 4, "references": 4, "publications": 0, "trashed": 0}
    assert index.totals() == counts


@pytest.mark.parametrize(
    ("age", "condemned", "must"),
    [(0.0, None, False), (599.9, None, False), (USED, None, True), (-0.1, None, True), (0.0, 5.0, True)],
)
def test_a_use_is_not_written_again_for_a_while(age, condemned, must):
    now = 1e9
    assert entry()._replace(used_at=now - age, condemned_at=condemned).must_be_touched(now) == must
