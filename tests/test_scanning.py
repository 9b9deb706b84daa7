"The walk through the tree: what it finds, what it leaves to others, and what others just do."

import os
import threading

import pytest
from damage import below, lose_rows
from on_disk import ODD_NAMES, unprivileged

from cjm_media_storage import scanning
from cjm_media_storage.files import Disk
from cjm_media_storage.layout import object_path
from cjm_media_storage.locks import FileLock
from cjm_media_storage.scanning import Walk, leftovers, look_again
from cjm_media_storage.storage import ContentStore, hash_bytes


def suspects(store, **options):
    return [suspect for step in Walk(store.parts, **options).steps() for suspect in step]


def scan(store, **options):
    problems, skipped = look_again(store.parts, suspects(store, **options))
    assert skipped == 0
    return sorted((problem.kind, problem.path) for problem in problems)


def test_a_store_in_order_has_nothing_to_tell(store):
    for number in range(50):
        store.put(b"%d" % number, namespace=("assets", "actors")[number % 2], extension=("jpg", "")[number % 3 == 0])
    store.delete(hash_bytes(b"1"))
    assert suspects(store) == [] and leftovers(store.parts, True) == []


def test_fault_32_what_others_leave_in_the_tree_is_foreign(store):
    shard = store.put(b"a poster").path.parent
    for name in (".DS_Store", "Thumbs.db", ".nfs0000000000a1", *map(os.fsdecode, ODD_NAMES)):
        (shard / name).write_bytes(b"x")
    for folder in (shard, shard.parent, shard.parents[1], store.root):
        (folder / "@eaDir").mkdir()
    (shard / "@eaDir" / hash_bytes(b"x")[7:]).write_bytes(b"x")  # in somebody else's folder, nothing is ours
    (store.root / "lost+found").mkdir()
    (shard / "link").symlink_to("/etc")
    os.mkfifo(shard / "pipe")
    before = sorted(os.walk(store.root))
    assert {kind for kind, _ in scan(store)} == {"foreign"}
    assert len(scan(store)) == 3 + len(ODD_NAMES) + 4 + 1 + 2
    assert sorted(os.walk(store.root)) == before


def test_fault_33_names_of_objects_in_the_wrong_place_are_misplaced(store):
    path = store.put(b"a poster", extension="jpg").path
    digest = hash_bytes(b"a poster")[7:]
    places = [path.with_name(f"{digest.upper()}.jpg"), path.with_name(f"{digest}.JPG"), path.parents[2] / digest]
    places += [path.with_name(f"{digest}.tar.gz"), path.with_name(f"{digest}.png"), path.parent.parent / digest]
    for place in places:
        place.write_bytes(b"a poster")
    assert scan(store) == sorted(("misplaced", below(store, place)) for place in places)


def test_a_file_without_a_row_is_untracked_and_one_with_another_extension_misplaced(store):
    poster, still = store.put(b"a poster", extension="jpg"), store.put(b"a still")
    lose_rows(store, still)
    assert scan(store) == [("untracked", below(store, still.path))]
    store._index.database.execute("UPDATE objects SET extension = 'png' WHERE digest = ?", (poster.hash[7:],))
    assert [kind for kind, _ in scan(store)] == ["misplaced", "untracked"]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_links_in_the_place_of_folders_are_told_and_not_followed(store, tmp_path, level):
    path = store.put(b"a poster").path
    place = path.parents[level - 1]
    place.rename(tmp_path / "outside")
    place.symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / ".DS_Store").write_bytes(b"x")
    assert scan(store) == [("corrupt", below(store, place))]


def test_a_folder_with_the_name_of_an_object_that_nobody_knows(store):
    digest = hash_bytes(b"x")[7:]
    (store.root / object_path("assets", digest, "")).mkdir(parents=True)
    (problem,) = look_again(store.parts, suspects(store))[0]
    assert (problem.kind, problem.detail) == ("corrupt", "corrupt layout: a folder")


def test_a_namespace_and_a_prefix_narrow_the_walk(store):
    results = [store.put(b"%d" % number, namespace=("assets", "actors")[number % 2]) for number in range(20)]
    for result in results:
        lose_rows(store, result)
    (store.root / "assets" / ".DS_Store").write_bytes(b"x")
    assert {path.split("/")[0] for _, path in scan(store, namespace="actors")} == {"actors"}
    for length in (1, 2, 3, 4, 7, 64):
        prefix = results[0].hash[7 : 7 + length]
        expected = sorted(below(store, each.path) for each in results if each.hash[7:].startswith(prefix))
        assert [path for _, path in scan(store, prefix=prefix)] == sorted(expected)


def test_a_walk_of_a_prefix_says_nothing_of_what_lies_above_it(store):
    "Whoever walks all prefixes looks there once"
    store.put(b"a poster")
    (store.root / "notes.txt").write_bytes(b"of somebody else")
    assert [suspect.problem.kind for step in Walk(store.parts).steps() for suspect in step] == ["foreign"]
    assert [suspect for step in Walk(store.parts, prefix="7").steps() for suspect in step] == []


def test_fault_43_an_unreadable_folder_is_told_and_the_walk_goes_on(open_folder):
    with ContentStore(open_folder / "store", folder_mode=0o777) as store:
        results = [store.put(b"%d" % number) for number in range(10)]
        for result in results:
            lose_rows(store, result)
        shut = results[0].path.parent
        shut.chmod(0)
        with unprivileged():
            found = scan(store)
        shut.chmod(0o777)
    assert [path for kind, path in found if kind == "unreadable"] == [below(store, shut)]
    assert sum(kind == "untracked" for kind, _ in found) == 9


def test_what_is_deleted_between_two_looks_is_no_problem(store, monkeypatch):
    "Between the look at its file and that at its row, in whichever order they are taken"
    path = store.put(b"a poster").path
    problem = scanning.Problem("untracked", below(store, path), hash_bytes(b"a poster"), "assets", 8)
    suspect, looks = scanning.Suspect(problem, path.lstat()), []

    def then(look):
        def looking(*args):
            if looks:
                store.delete(problem.hash)
            looks.append(look)
            return look(*args)

        return looking

    monkeypatch.setattr(scanning, "_now", then(scanning._now))
    monkeypatch.setattr(scanning, "_row", then(scanning._row))
    assert look_again(store.parts, [suspect]) == ([], 0)
    assert len(looks) == 2 and not path.exists()


def test_what_is_being_put_is_waited_for(store, monkeypatch):
    "The file is there, its row is not: `put` is at that very moment"
    placed, go_on = threading.Event(), threading.Event()
    commit = store._index.commit

    def slow_commit(*args, **options):
        placed.set()
        go_on.wait()
        return commit(*args, **options)

    monkeypatch.setattr(store._index, "commit", slow_commit)
    putting = threading.Thread(target=store.put, args=(b"a poster",))
    putting.start()
    placed.wait()
    seen = suspects(store)
    assert [suspect.problem.kind for suspect in seen] == ["untracked"]

    wait = scanning.wait_for_writers
    monkeypatch.setattr(scanning, "PATIENCE", 0.0)
    assert look_again(store.parts, seen) == ([], 1)  # nobody knows yet
    monkeypatch.setattr(scanning, "PATIENCE", 10.0)
    monkeypatch.setattr(scanning, "wait_for_writers", lambda parts: go_on.set() or wait(parts))
    assert look_again(store.parts, seen) == ([], 0)
    putting.join()


def test_staging_of_the_dead_is_a_leftover_and_that_of_the_living_is_not(store, program):
    alive = program.start(
        """
        import sys
        from cjm_media_storage.storage import ContentStore
        store = ContentStore(sys.argv[1])
        with store.pin(sys.argv[2]):
            print("pinned", flush=True)
            sys.stdin.read()
        """,
        store.root,
        store.put(b"a poster").hash,
    )
    assert alive.stdout.readline() == "pinned\n"
    assert leftovers(store.parts, True) == []
    alive.kill()
    alive.communicate()
    found = leftovers(store.parts, True)
    assert [problem.detail.split()[0] for problem in found] == ["pin", "staging"]
    assert leftovers(store.parts, False) == []  # where locks say nothing, nobody knows who lives


def test_what_was_never_finished_is_a_leftover_after_an_hour(store):
    own = store.root / ".store"
    (own / "backup").mkdir()
    for path in (own / "format.1.part", own / "backup" / "index.db.part"):
        path.write_bytes(b"x")
        assert leftovers(store.parts, True) == []
        os.utime(path, (0, 0))
        assert [problem.path for problem in leftovers(store.parts, True)] == [below(store, path)]
        path.unlink()


def test_a_trashed_file_without_a_row_is_a_leftover(store, tmp_path):
    (tmp_path / "mine.nfo").write_bytes(b"notes")
    store.trash.take_file(tmp_path / "mine.nfo", "")
    store.delete(store.put(b"a poster").hash)
    assert leftovers(store.parts, True) == []
    store._index.database.execute("DELETE FROM trash WHERE object_id IS NOT NULL")
    assert [problem.path for problem in leftovers(store.parts, True)] == [
        f".store/trash/assets/{hash_bytes(b'a poster')[7:]}"
    ]


def test_looking_at_a_lock_makes_nothing(tmp_path):
    lock = FileLock(tmp_path / "lock")
    assert not lock.is_free() and not (tmp_path / "lock").exists()
    with lock.exclusive():
        assert not lock.is_free()
    assert lock.is_free() and not FileLock(tmp_path / "lock", Disk(flock=False)).is_free()
