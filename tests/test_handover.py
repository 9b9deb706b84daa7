"A store that changes its place is never at two."

import os

import pytest

from cjm_media_storage.files import DISK
from cjm_media_storage.handover import claim_place, is_retired, open_for_use, retire
from cjm_media_storage.layout import is_store, open_root, read_id
from cjm_media_storage.storage import Conflict, StoreMoved, StoreUnavailable


@pytest.fixture
def places(tmp_path):
    "A store's place, a new one, and the store's id"
    old, new = tmp_path / "old", tmp_path / "new"
    return old, new, open_root(old, DISK, 0o755, create=True)


def claim(places):
    claim_place(*places, DISK, 0o755)


@pytest.mark.parametrize("steps", range(4))
def test_there_is_one_store_at_most_and_each_step_can_be_done_again(places, steps):
    old, new, id = places
    done = [lambda: claim(places), lambda: retire(old, new, DISK), lambda: open_for_use(old, new, DISK)][:steps]
    for step in done:
        step()
    assert (is_store(old), is_store(new)) == (steps < 2, steps == 3)
    if steps == 1:
        claim(places)
    if steps >= 2:
        assert is_retired(old, new)
        open_for_use(old, new, DISK)
        assert read_id(new) == id
        with pytest.raises(StoreMoved):
            open_root(old, DISK, 0o755, create=True)


def test_what_is_not_complete_does_not_open(places):
    claim(places)
    with pytest.raises(StoreUnavailable):
        open_root(places[1], DISK, 0o755, create=True)


@pytest.mark.parametrize("taken", ["inside", "around", "a file", "another store", "another move"])
def test_a_place_that_is_not_free_is_not_claimed(places, taken, tmp_path):
    old, new, id = places
    if taken in ("inside", "around"):
        new = old / "films" if taken == "inside" else tmp_path
    elif taken == "a file":
        new.mkdir()
        (new / "mine.nfo").write_bytes(b"my own notes")
    elif taken == "another store":
        open_root(new, DISK, 0o755, create=True)
    else:
        claim_place(old, new, "another", DISK, 0o755)
    before = sorted(os.listdir(new)) if new.exists() else None
    with pytest.raises(Conflict):
        claim_place(old, new, id, DISK, 0o755)
    assert (sorted(os.listdir(new)) if new.exists() else None) == before


def test_who_moved_elsewhere_says_where(places, tmp_path):
    old, new, _ = places
    claim(places)
    retire(old, new, DISK)
    with pytest.raises(StoreUnavailable, match="moved to"):
        is_retired(old, tmp_path / "third")
    (new / ".store" / "moving.json").unlink()
    with pytest.raises(StoreUnavailable, match="is not there"):
        is_retired(old, new)
