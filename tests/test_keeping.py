"Who needs an object: above all, pins that end with their process."

import os
import signal

import pytest

from cjm_media_storage.files import DISK
from cjm_media_storage.keeping import Pins
from cjm_media_storage.maintenance import explain
from cjm_media_storage.staging import Staging
from cjm_media_storage.storage import ContentStore, ObjectInUse, ObjectNotFound, hash_bytes


def test_a_pinned_object_is_not_deleted(store, poster):
    with store.pin(poster):
        with pytest.raises(ObjectInUse, match="pinned"):
            store.delete(poster)
        with store.pin(poster):  # twice is fine
            pass
        assert store.parts.pins.held() == {poster.partition(":")[2]}
    assert len(store.delete(poster)) == 1


def test_pinning_what_is_not_there(store, poster):
    with pytest.raises(ObjectNotFound), store.pin(hash_bytes(b"nobody has this")):
        raise AssertionError("the block must not run")
    store.delete(poster)
    with pytest.raises(ObjectNotFound), store.pin(poster):
        raise AssertionError("the block must not run")
    assert store.parts.pins.held() == set()
    assert list((store.root / ".store" / "pins").iterdir()) == []


def test_a_pin_of_another_process_counts_until_that_is_dead(store, poster, program):
    other = program.start(
        """
        import sys
        from cjm_media_storage.storage import ContentStore
        with ContentStore(sys.argv[1]) as store, store.pin(sys.argv[2]):
            print("pinned", flush=True)
            sys.stdin.read()
        """,
        store.root,
        poster,
    )
    assert other.stdout.readline() == "pinned\n"
    with pytest.raises(ObjectInUse, match="pinned"):
        store.delete(poster)
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    assert len(store.delete(poster)) == 1
    assert list((store.root / ".store" / "pins").iterdir()) == []


def test_a_pin_of_the_dead_does_not_count_where_it_cannot_be_removed(place):
    with ContentStore(place.path / "store") as store:
        poster = store.put(b"a poster").hash
    pins = place.path / "store" / ".store" / "pins"
    pins.mkdir(exist_ok=True)
    (pins / f"boot-1-1.0.{poster.partition(':')[2]}").touch()
    with place.read_only(), ContentStore(place.path / "store") as store:
        assert store.parts.pins.held() == set()
        assert explain(store, poster, grace=0).startswith("no reference")


def test_a_file_that_is_no_pin_holds_nothing_and_stops_nothing(store, poster):
    with store.pin(poster):
        (store.root / ".store" / "pins" / "notes.of.some.body").touch()
        assert store.parts.pins.held() == {poster.partition(":")[2]}


@pytest.mark.parametrize(
    ("role", "words"), [("poster", "referenced by movie:1 as poster"), ("", "referenced by movie:1")]
)
def test_who_needs_it_is_said(store, poster, role, words):
    store.add_reference(poster, "movie:1", role)
    with pytest.raises(ObjectInUse, match=words):
        store.delete(poster)
    store.remove_reference(poster, "movie:1")
    assert store.delete(poster)


def test_a_folder_of_pins_is_made_for_others_to_read(tmp_path):
    staging = Staging(tmp_path / "staging")
    before = os.umask(0o077)
    try:
        with Pins(tmp_path / "pins", staging, DISK).hold("ab" * 32):
            assert (tmp_path / "pins").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)
        staging.close()


def test_a_forked_child_leaves_the_pin_of_its_parent_alone(store, poster, program):
    said = program(
        """
        import os, sys
        from cjm_media_storage.storage import ContentStore
        store = ContentStore(sys.argv[1])
        with store.pin(sys.argv[2]):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                print(len(store.parts.pins.held()))
        """,
        store.root,
        poster,
    )
    assert said == "1"
