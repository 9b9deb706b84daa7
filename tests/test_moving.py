"A store that gets another place."

import os
import shutil

import pytest
from on_disk import memory_disk, tree, unprivileged
from test_rebuilding import KILL

from cjm_media_storage.files import Disk
from cjm_media_storage.moving import move_root
from cjm_media_storage.snapshots import check_snapshot, kept_snapshots, snapshot
from cjm_media_storage.storage import (
    Conflict,
    ContentStore,
    NoSpace,
    StorageError,
    StoreBusy,
    StoreUnavailable,
    hash_bytes,
)

POSTER, OLD, LARGE = b"a poster", b"an old poster", b"film" * 600_000
HASH = hash_bytes(POSTER)


@pytest.fixture
def root(tmp_path):
    "A closed store with objects, some of them twice, in the trash, or large; a person's file; and wrong bytes"
    with ContentStore(tmp_path / "store") as store:
        store.put(POSTER, extension="jpg", source=os.fsdecode(b"/films/caf\xe9.jpg"), owner="movie:1", role="poster")
        store.put(POSTER, extension="jpg", namespace="actors")
        store.put(LARGE)
        store.delete(store.put(OLD, source="https://example.org/old").hash)
        (tmp_path / "mine.nfo").write_text("my notes")
        store.trash.take_file(tmp_path / "mine.nfo", "in the way")
        path = store.put(b"heals", extension="gif").path
        path.chmod(0o644)
        path.write_bytes(b"HEALS")
        store.put(b"heals")
        sql = (
            "INSERT INTO publications (object_id, path, link_mode, created_at) VALUES (1, '/films/a.jpg', 'symlink', 1)"
        )
        store._index.database.execute(sql)
        snapshot(store)
    return tmp_path / "store"


def check(root, mine):
    "That all of it is there; `mine` is where the person's file was"
    with ContentStore(root, create=False) as store:
        assert sorted(stored.namespace for stored in store) == ["actors", "assets", "assets", "assets"]
        assert all(store.read(stored.hash, verify=True) for stored in store)
        assert [source.location for source in store.sources(HASH)] == [os.fsdecode(b"/films/caf\xe9.jpg")]
        assert [reference.role for reference in store.references(HASH)] == ["poster"]
        assert store.stats()["publications"] == 1
        assert [path.read_bytes() for path in (root / ".store" / "quarantine").iterdir()] == [b"HEALS"]
        (kept,) = kept_snapshots(root / ".store" / "backup")
        assert check_snapshot(kept)["store"] == store.id
        for item in list(store.trash):
            store.trash.restore(item, outside=True)
        assert (store.read(hash_bytes(OLD)), mine.read_text()) == (OLD, "my notes")
        assert not store.put(POSTER).created and store.put(b"and it goes on").created
        assert len(store.find_by_source("https://example.org/old")) == 1


def opens(root):
    "Does a store open there?"
    try:
        ContentStore(root, create=False).close()
    except StoreUnavailable:
        return False
    return True


def test_a_root_that_was_moved_by_hand_needs_nothing(root, tmp_path):
    root.rename(tmp_path / "moved")
    check(tmp_path / "moved", tmp_path / "mine.nfo")


def test_to_another_folder(root, tmp_path):
    report = move_root(root, tmp_path / "a" / "new")
    assert (report.moved, report.problems, report.removed, report.symlinks) == (True, {}, 0, 1)
    assert not opens(root) and len(tree(ContentStore(tmp_path / "a" / "new"))) == 4
    check(tmp_path / "a" / "new", tmp_path / "mine.nfo")


@pytest.fixture
def memory(tmp_path):
    "Another file system"
    with memory_disk(tmp_path / "memory", "20m") as folder:
        yield folder


def test_to_another_disk(root, tmp_path, memory):
    report = move_root(root, memory / "new", remove=True)
    assert report.moved and report.removed == 6  # four objects, and two things in the trash
    left = [path for path in root.rglob("*") if path.is_file() and ".store" not in path.parts]
    assert left == [] and [path.name for path in root.iterdir()] == [".store"]
    check(memory / "new", tmp_path / "mine.nfo")


def test_a_disk_that_is_full_changes_nothing(root, tmp_path, memory):
    with (memory / "film").open("wb") as file:
        file.write(bytes(19 << 20))
    with pytest.raises(NoSpace):
        move_root(root, memory / "new")
    (memory / "film").unlink()
    assert opens(root) and not opens(memory / "new")
    assert move_root(root, memory / "new").moved
    check(memory / "new", tmp_path / "mine.nfo")


def test_namespaces_share_their_bytes_as_before(root, tmp_path):
    move_root(root, tmp_path / "new", threads=1)
    with ContentStore(tmp_path / "new") as store:
        assert store.path(HASH, "assets").samefile(store.path(HASH, "actors"))


def test_an_open_store_says_where_it_is(root, tmp_path):
    with ContentStore(root) as store, ContentStore(root) as other:
        assert move_root(store, tmp_path / "new").moved
        for each in (store, other):
            for write in (lambda each=each: each.put(b"x"), lambda each=each: each.add_reference(HASH, "movie:2")):
                with pytest.raises(StoreUnavailable) as caught:
                    write()
                assert caught.value.place == os.fspath(tmp_path / "new")
            assert each.read(HASH) == POSTER  # it is still there
    with pytest.raises(StoreUnavailable, match="was moved to"):
        ContentStore(root)


def test_killed_at_any_step_there_is_one_store_at_most_and_the_move_goes_on(root, tmp_path, quick, program):
    text = (
        KILL
        + """
import shutil
from cjm_media_storage.moving import move_root

def run(step):
    Mortal.left = step
    shutil.copytree(sys.argv[2], f"{sys.argv[3]}/old-{step}")
    if not (child := os.fork()):
        move_root(f"{sys.argv[3]}/old-{step}", f"{sys.argv[3]}/new-{step}", remove=True, disk=Mortal())
        print(step - Mortal.left, flush=True)
        os._exit(0)
    if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        print(step, flush=True)

run(1000)
total = int(sys.stdin.readline())
for step in [*range(0, total - 30, 7), *range(total - 30, total)]:  # every one of the change-over
    run(step)
"""
    )
    process = program.start(text, 0, root, quick)
    total = int(process.stdout.readline())
    steps = [int(step) for step in program.end(process, f"{total}\n").split()]
    between = 0
    for step in steps:
        old, new = quick / f"old-{step}", quick / f"new-{step}"
        before = opens(old), opens(new)
        between += before == (False, False)
        assert before != (True, True) and move_root(old, new, remove=True).moved
        assert not opens(old) and not list(old.glob("a*/*"))
        check(new, tmp_path / "mine.nfo")
        (tmp_path / "mine.nfo").unlink()
    assert len(steps) > 30 and between > 1


def test_what_was_copied_is_not_copied_again(root, tmp_path):
    with ContentStore(root) as store:
        path = store.path(HASH)
    path.chmod(0o644)
    path.write_bytes(b"A POSTER")
    first = move_root(root, tmp_path / "new")
    assert (first.moved, first.problems) == (False, {"corrupt": 2})  # it has two names
    assert {found.problem for found in first.left_out} == {"corrupt"}
    assert opens(root) and not opens(tmp_path / "new")
    path.write_bytes(POSTER)
    again = move_root(root, tmp_path / "new")
    assert (again.moved, again.files, again.copied) == (True, first.files + 2, 1)
    check(tmp_path / "new", tmp_path / "mine.nfo")


def test_a_wrong_copy_is_made_anew(root, tmp_path):
    with ContentStore(root) as store:
        relative = store.path(hash_bytes(LARGE)).relative_to(root)
    with pytest.raises(NoSpace):
        move_root(root, tmp_path / "new", disk=Half())
    (tmp_path / "new" / relative).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(root / relative, tmp_path / "new" / relative)
    (tmp_path / "new" / relative).chmod(0o644)
    with (tmp_path / "new" / relative).open("r+b") as file:
        file.write(b"FILM")
    shutil.copystat(root / relative, tmp_path / "new" / relative)
    assert move_root(root, tmp_path / "new").moved
    check(tmp_path / "new", tmp_path / "mine.nfo")


class Half(Disk):
    "A disk that is full after the first files"

    def sync_file(self, path):
        if path.name == "3":
            raise NoSpace(os.fspath(path))
        super().sync_file(path)


@pytest.mark.parametrize("problem", ["corrupt", "missing", "unreadable"])
def test_a_problem_stops_the_move_unless_it_is_forced(root, tmp_path, problem, monkeypatch):
    with ContentStore(root) as store:
        path = store.path(hash_bytes(b"heals"))
    path.chmod(0o644)
    if problem == "corrupt":
        path.write_bytes(b"HEALS")
    elif problem == "missing":
        path.unlink()
    else:
        from cjm_media_storage import moving

        real = moving.open_source

        def failing(source, follow_symlinks):
            if source == path:
                raise OSError(5, "Input/output error")
            return real(source, follow_symlinks)

        monkeypatch.setattr(moving, "open_source", failing)
    assert move_root(root, tmp_path / "new").problems == {problem: 1}
    assert opens(root) and not opens(tmp_path / "new")
    report = move_root(root, tmp_path / "new", force=True, remove=True)
    assert (report.moved, report.problems) == (True, {problem: 1})
    assert path.exists() == (problem != "missing")  # left behind
    with ContentStore(tmp_path / "new") as store:
        assert store.read(HASH) == POSTER


def test_what_is_no_object_is_left_behind_and_told(root, tmp_path):
    (root / "assets" / "Thumbs.db").write_bytes(b"x")
    report = move_root(root, tmp_path / "new", remove=True)
    assert (report.moved, report.problems) == (True, {"foreign": 1})
    assert (root / "assets" / "Thumbs.db").exists() and not (tmp_path / "new" / "assets" / "Thumbs.db").exists()


def test_a_writer_loses_nothing_that_was_acknowledged(root, tmp_path, program):
    writer = program.start(
        """
        import sys
        from cjm_media_storage.storage import ContentStore, StoreUnavailable
        store, number = ContentStore(sys.argv[1]), 0
        try:
            while True:
                hash = store.put(b"%d" % number, owner=f"movie:{number}").hash
                store.add_reference(hash, f"actor:{number}")
                if number % 3 == 1:
                    store.delete(hash, force=True)
                number += 1
                print(number, flush=True)
        except StoreUnavailable as e:
            print("moved to", e.place)
        """,
        root,
    )
    for _ in range(5):
        writer.stdout.readline()
    assert move_root(root, tmp_path / "new", remove=True).moved
    told = program.end(writer).splitlines()
    assert told[-1] == f"moved to {tmp_path / 'new'}"
    count = int(told[-2]) if len(told) > 1 else 5
    with ContentStore(tmp_path / "new") as store:
        for number in range(count):
            hash = hash_bytes(b"%d" % number)
            if number % 3 == 1:
                (item,) = store.trash.find(hash)
                store.trash.restore(item)
            assert store.read(hash, verify=True) == b"%d" % number
            assert len(store.references(hash)) == 2


def test_what_was_deleted_meanwhile_does_not_come_back(root, tmp_path):
    path = root / "assets"
    told = []

    def purge(progress):
        if not told:
            with ContentStore(root) as store:
                store.trash.purge(everything=True)
        told.append(progress)

    report = move_root(root, tmp_path / "new", progress=purge)
    assert report.moved and path.exists() and told[-1].files == report.files
    assert [found for found in (tmp_path / "new" / ".store" / "trash").rglob("*") if found.is_file()] == []


# ---- where it cannot go


def test_a_place_that_is_not_free(root, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "film.mkv").touch()
    ContentStore(tmp_path / "other").close()
    shutil.copytree(root, tmp_path / "second")
    for place in (tmp_path / "full", tmp_path / "other", tmp_path / "second", root, root / "new", tmp_path):
        with pytest.raises(Conflict):
            move_root(root, place)
    assert opens(root) and opens(tmp_path / "other") and opens(tmp_path / "second")


def test_a_place_to_which_another_store_is_moving(root, tmp_path):
    with pytest.raises(NoSpace):
        move_root(root, tmp_path / "new", disk=Half())
    with pytest.raises(StoreUnavailable, match="not complete"):
        ContentStore(tmp_path / "new")
    with ContentStore(tmp_path / "other") as other, pytest.raises(Conflict):
        move_root(other, tmp_path / "new")
    assert move_root(root, tmp_path / "new").moved
    with pytest.raises(StoreUnavailable, match="was moved to"):
        move_root(root, tmp_path / "third")
    with pytest.raises(StoreUnavailable, match="no store"):
        move_root(tmp_path / "nothing", tmp_path / "third")


def test_a_store_comes_back_to_where_it_is_still_open(root, tmp_path):
    with ContentStore(root) as held:  # so that the log of the old index stays beside it
        held.add_reference(HASH, "movie:2")
        assert move_root(root, tmp_path / "new", remove=True).moved
        with ContentStore(tmp_path / "new") as store:
            later = [store.put(b"%d" % number, owner="movie:3").hash for number in range(50)]
        assert move_root(tmp_path / "new", root, remove=True).moved
        with ContentStore(root) as store:
            assert [reference.hash for reference in store.references(owner="movie:3")] == later


def test_objects_behind_a_link_stop_the_move(root, tmp_path):
    (root / "assets").rename(tmp_path / "assets")
    (root / "assets").symlink_to(tmp_path / "assets")
    report = move_root(root, tmp_path / "new")
    assert (report.moved, report.problems["unreadable"]) == (False, 3)
    assert opens(root) and not opens(tmp_path / "new")


def test_a_place_whose_name_is_no_text(root, tmp_path):
    place = tmp_path / os.fsdecode(b"caf\xe9")
    assert move_root(root, place).moved
    check(place, tmp_path / "mine.nfo")


def test_only_one_maintains_a_store(root, tmp_path):
    with ContentStore(root) as store, store.parts.maintenance(), pytest.raises(StoreBusy):
        move_root(root, tmp_path / "new")


def test_a_place_that_cannot_be_written_to(root, tmp_path, open_folder):
    open_folder.chmod(0o755)
    with ContentStore(root) as store, unprivileged(), pytest.raises((StorageError, PermissionError)):
        move_root(store, open_folder / "new")
    assert opens(root)
