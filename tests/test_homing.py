"Homing: untracked and misplaced files and leftovers find their place, and nothing is overwritten."

import os

import pytest
from damage import below, damage, hows, lose_rows, quarantined, repaired
from on_disk import tree

from cjm_media_storage.files import Disk
from cjm_media_storage.layout import object_path
from cjm_media_storage.repairing import repair
from cjm_media_storage.storage import ContentStore, hash_bytes
from cjm_media_storage.verifying import verify

POSTER = b"a poster"
HASH = hash_bytes(POSTER)


@pytest.mark.parametrize("disk", [Disk(), Disk(hardlink=False)], ids=["links", "no links"])
def test_fault_33_what_is_misplaced_is_hashed_and_moved(tmp_path, disk):
    with ContentStore(tmp_path / "store", disk=disk) as store:
        results = [store.put(b"object %d" % number, extension="jpg") for number in range(3)]
        upper, shard, top = (result.path for result in results)
        upper.rename(upper.with_name(f"{upper.stem.upper()}.JPG"))
        (store.root / "assets" / "00" / "00").mkdir(parents=True)
        shard.rename(store.root / "assets" / "00" / "00" / shard.name)
        top.rename(store.root / "assets" / top.name)
        lose_rows(store, *results[1:])
        done = repaired(store)
        assert done.found.counts == {"missing": 1, "misplaced": 3}
        assert [path.read_bytes() for path in (upper, shard, top)] == [b"object %d" % n for n in range(3)]
        assert verify(store).ok and len(store) == 3


def test_fault_33_a_second_copy_goes_to_the_trash(store):
    path = store.put(POSTER, extension="jpg").path
    for name in (f"{HASH[7:].upper()}.jpg", f"{HASH[7:]}.png"):
        (path.parent / name).write_bytes(POSTER)
    done = repaired(store)
    assert hows(done) == ["trash", "trash"] and tree(store) == [below(store, path)]
    assert [item.size for item in store.trash] == [8, 8] and verify(store).ok


def test_a_file_with_other_bytes_than_its_name_gets_the_name_of_its_bytes(store):
    place = store.root / object_path("assets", hash_bytes(b"x")[7:], "jpg")
    place.parent.mkdir(parents=True)
    place.write_bytes(POSTER)
    done = repaired(store)
    assert hows(done) == ["move"] and "not those of its name" in str(done)
    assert tree(store) == [object_path("assets", HASH[7:], "jpg")] and store.read(HASH, verify=True) == POSTER

    place.write_bytes(POSTER)  # again, and its object is there by now
    done = repaired(store)
    assert hows(done) == ["quarantine"] and quarantined(store) == [POSTER]
    assert len(tree(store)) == 1 and verify(store).ok


def test_a_misplaced_file_with_another_name_elsewhere_is_copied(store, tmp_path):
    place = store.root / "assets" / f"{HASH[7:]}.jpg"
    place.parent.mkdir(exist_ok=True)
    (tmp_path / "mine.jpg").write_bytes(POSTER)
    os.link(tmp_path / "mine.jpg", place)
    assert repaired(store).ok
    (tmp_path / "mine.jpg").write_bytes(b"edited!!")
    assert store.read(HASH, verify=True) == POSTER


def test_a_trashed_object_whose_bytes_lie_in_place_is_brought_back(store):
    result = store.put(POSTER, owner="movie:1")
    store.delete(HASH, force=True)
    result.path.write_bytes(POSTER)
    assert repaired(store).ok
    assert store.read(HASH) == POSTER and len(store.trash) == 0
    assert verify(store).ok and [reference.owner for reference in store.references(HASH)] == ["movie:1"]


def test_leftovers_are_swept(store, program):
    dead = program.start(
        """
        import sys
        from cjm_media_storage.storage import ContentStore
        with ContentStore(sys.argv[1]) as store, store.pin(sys.argv[2]):
            print("pinned", flush=True)
            sys.stdin.read()
        """,
        store.root,
        store.put(POSTER).hash,
    )
    dead.stdout.readline()
    dead.kill()
    dead.communicate()
    part = store.root / ".store" / "format.1.part"
    part.write_bytes(b"x")
    os.utime(part, (0, 0))
    done = repaired(store)
    assert hows(done) == ["sweep"] * 3 and done.ok
    assert {outcome.state for outcome in done.outcomes} == {"done"}
    assert verify(store).ok and not part.exists()


def test_a_trashed_file_without_a_row_can_be_restored_again(store):
    result = store.put(POSTER, extension="jpg")
    store.delete(HASH)
    store._index.database.execute("DELETE FROM objects")
    done = repaired(store)
    assert hows(done) == ["adopt"] and [item.hash for item in store.trash] == [HASH]
    store.trash.restore(HASH)
    assert result.path.read_bytes() == POSTER and verify(store).ok


def test_a_trashed_copy_of_a_live_object_is_removed_only_if_that_one_is_right(store):
    result = store.put(POSTER)
    folder = store.root / ".store" / "trash" / "assets"
    folder.mkdir(parents=True)
    (folder / HASH[7:]).write_bytes(POSTER)
    damage(result.path)
    report = verify(store)
    assert hows(repair(store, report=report)) == ["heal", "leave"]  # from that copy, which stays until it is done
    assert hows(repair(store, report=report, dry_run=False)) == ["heal", "leave"]
    assert result.path.read_bytes() == POSTER and (folder / HASH[7:]).exists()
    assert hows(repaired(store)) == ["sweep"]
    assert not (folder / HASH[7:]).exists() and verify(store).ok


def test_trashed_files_of_nobody_are_kept(store):
    folder = store.root / ".store" / "trash" / ".files"
    folder.mkdir(parents=True)
    (folder / "1.nfo").write_bytes(b"notes")
    done = repaired(store)
    assert hows(done) == ["leave"] and (folder / "1.nfo").read_bytes() == b"notes"
