"What is in the trash, as the index tells it."

import math

import pytest

from cjm_media_storage.storage import ContentStore, InvalidHash, ObjectNotFound, hash_bytes
from cjm_media_storage.trashed import check_retention


@pytest.fixture
def store(tmp_path):
    with ContentStore(tmp_path / "store") as store:
        yield store


@pytest.mark.parametrize("days", [-1, -0.001, math.nan, "30", [30]])
def test_a_retention_is_a_number_of_days(days):
    with pytest.raises(ValueError, match="0 or more"):
        check_retention(days)


def test_what_is_here_is_listed_in_the_order_in_which_it_went(store):
    hashes = [store.put(b"%d" % n).hash for n in (2, 0, 1)]
    for hash in sorted(hashes):
        store.delete(hash, reason="not needed")
    assert [item.hash for item in store.trash] == sorted(hashes) and len(store.trash) == 3
    assert {item.reason for item in store.trash} == {"not needed"}


def test_an_empty_trash_is_one(store):
    assert store.trash and list(store.trash) == [] and store.trash.find(hash_bytes(b"nothing")) == []


def test_what_is_here_is_found_by_the_first_digits_of_its_hash(store):
    hash = store.put(b"a poster").hash
    store.put(b"a poster", namespace="actors")
    store.delete(hash)
    for prefix in (hash, hash[7:], hash[:11], hash[7:11]):
        assert [item.namespace for item in store.trash.beginning(prefix)] == ["assets", "actors"]
    for prefix, error in (("0000", ObjectNotFound), ("000", InvalidHash), ("ABCD", InvalidHash)):
        with pytest.raises(error):
            store.trash.beginning(prefix)
