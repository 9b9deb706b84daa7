"One path of a library: whose file is there, what is done about it, and what a crash at any step leaves."

import os
from dataclasses import replace

import pytest
from on_disk import unprivileged
from test_copies import spoil

from cjm_media_storage.errors import OutsideLibrary, ReadOnlyFile
from cjm_media_storage.placing import Changed, Places
from cjm_media_storage.publications import Publication
from cjm_media_storage.storage import Conflict, ContentStore, NoSpace, ObjectNotFound, StoreUnavailable


@pytest.fixture
def places(store, tmp_path):
    (tmp_path / "films").mkdir()
    return Places(store, tmp_path / "films")


def new(places, content, mode="auto", name="poster.jpg"):
    hash = places._store.put(content).hash
    return Publication(hash, places.folder / name, "", mode, 1.0, name, 0, 0)


def bring(places, content, mode="auto", overwrite=False, name="poster.jpg"):
    wanted = new(places, content, mode, name)
    return places.bring(wanted, places.rows.at(wanted.path), overwrite)


def inode(path):
    return path.lstat().st_ino, path.lstat().st_mtime_ns


def test_fault_37_our_older_copy_is_replaced(places):
    path = bring(places, b"a poster").path
    bring(places, b"a better poster")
    assert (path.read_bytes(), len(places._store.trash)) == (b"a better poster", 0)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("content", [b"drawn by hand", b"", b"A POSTER"])
def test_fault_37_a_users_file_is_a_conflict_and_goes_to_the_trash_when_asked(places, content, published):
    path = places.folder / "poster.jpg"
    if published:
        bring(places, b"a poster")
    path.write_bytes(content)
    before = inode(path)
    with pytest.raises(Conflict) as caught:
        bring(places, b"a better poster")
    assert isinstance(caught.value, FileExistsError)
    assert (inode(path), path.read_bytes(), os.listdir(places.folder)) == (before, content, ["poster.jpg"])

    bring(places, b"a better poster", overwrite=True)
    assert path.read_bytes() == b"a better poster"
    (item,) = places._store.trash
    path.unlink()
    places._store.trash.restore(item, outside=True)
    assert path.read_bytes() == content


def test_fault_37_a_users_link_is_a_conflict_and_what_it_leads_to_is_not_written_to(places, tmp_path):
    path, theirs = places.folder / "poster.jpg", tmp_path / "theirs.jpg"
    theirs.write_bytes(b"drawn by hand")
    path.symlink_to(theirs)
    with pytest.raises(Conflict):
        bring(places, b"a poster")
    bring(places, b"a poster", overwrite=True)
    assert (theirs.read_bytes(), path.is_symlink(), path.read_bytes()) == (b"drawn by hand", False, b"a poster")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_fault_37_a_folder_is_an_error(places, make, overwrite):
    make(places.folder / "poster.jpg")
    with pytest.raises(Conflict, match="folder"):
        bring(places, b"a poster", overwrite=overwrite)
    assert len(places._store.trash) == 0


def test_fault_37_a_file_in_the_place_of_a_folder_is_an_error(places):
    (places.folder / "movie").write_bytes(b"a file")
    for name in ("movie/poster.jpg", "movie/extras/poster.jpg"):
        with pytest.raises(Conflict, match="where a folder must be"):
            bring(places, b"a poster", overwrite=True, name=name)
    assert (places.folder / "movie").read_bytes() == b"a file"


@pytest.mark.parametrize("overwrite", [False, True])
def test_fault_37_a_users_read_only_file_is_a_permission_error(places, overwrite):
    path = places.folder / "poster.jpg"
    path.write_bytes(b"drawn by hand")
    path.chmod(0o444)
    with pytest.raises(PermissionError) as caught:
        bring(places, b"a poster", overwrite=overwrite)
    assert isinstance(caught.value, ReadOnlyFile)
    assert (path.read_bytes(), os.listdir(places.folder)) == (b"drawn by hand", ["poster.jpg"])


def test_the_right_bytes_are_adopted(places):
    path = places.folder / "poster.jpg"
    path.write_bytes(b"a poster")
    before = inode(path)
    assert bring(places, b"a poster", "hardlink").link_mode == "copy"
    assert inode(path) == before and places.state(places.rows.at(path), deep=False) == "in sync"


def test_another_mode_is_taken_when_asked_for(places):
    path = bring(places, b"a poster").path
    object = places._store.path(places.rows.at(path).hash)
    assert bring(places, b"a poster", "hardlink").link_mode == "hardlink" and os.path.samefile(path, object)
    assert bring(places, b"a poster").link_mode == "hardlink"
    assert bring(places, b"a poster", "symlink").link_mode == "symlink" and path.is_symlink()
    assert bring(places, b"a poster", "copy").link_mode == "copy" and not os.path.samefile(path, object)
    assert [row.link_mode for row in places.rows.below(places.folder)] == ["copy"]


# ---- states


def test_states_tell_whose_bytes_they_are(places):
    path, states = bring(places, b"a poster").path, []
    places._store.put(b"another object")
    for content in (b"a poster", b"another object", b"drawn by hand"):
        path.write_bytes(content)
        states.append(places.state(places.rows.at(path), deep=False))
    path.unlink()
    states.append(places.state(places.rows.at(path), deep=False))
    assert states == ["in sync", "outdated", "foreign", "missing"]


def test_an_edit_that_keeps_size_and_time_is_found_by_a_deep_look_and_never_replaced(places):
    path = bring(places, b"a poster").path
    before = path.stat()
    path.write_bytes(b"A POSTER")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    row = places.rows.at(path)
    assert [places.state(row, deep) for deep in (False, True)] == ["in sync", "foreign"]
    with pytest.raises(Conflict):
        bring(places, b"a better poster")
    assert (places.take_away(row), path.read_bytes()) == ("foreign", b"A POSTER")


def test_bytes_that_the_store_has_lost_are_not_replaced(places):
    path = bring(places, b"a poster").path
    places._store.put(b"the last copy").path.unlink()
    path.write_bytes(b"the last copy")
    assert places.state(places.rows.at(path), deep=False) == "foreign"
    with pytest.raises(Conflict):
        bring(places, b"a better poster")


def test_bytes_that_rotted_in_the_store_are_not_replaced(places):
    path = bring(places, b"a poster").path
    spoil(places._store.put(b"the last copy").path, unseen=True)
    path.unlink()
    path.write_bytes(b"the last copy")
    with pytest.raises(Conflict):
        bring(places, b"a better poster")
    assert path.read_bytes() == b"the last copy"


@pytest.mark.parametrize("how", ["replaced", "taken away"])
def test_our_last_copy_goes_only_when_the_store_has_it_again(places, how):
    path = bring(places, b"a poster").path
    row = places.rows.at(path)
    places._store.path(row.hash).unlink()
    bring(places, b"a better poster") if how == "replaced" else places.take_away(row)
    assert places._store.read(row.hash, verify=True) == b"a poster"


def test_a_symlink_is_in_sync_while_it_leads_to_the_object(places, tmp_path):
    path = bring(places, b"a poster", "symlink").path
    assert places.state(places.rows.at(path), deep=False) == "in sync"
    target = path.readlink()
    path.unlink()
    path.symlink_to(tmp_path.joinpath("elsewhere", *target.parts[-4:]))
    assert places.state(places.rows.at(path), deep=False) == "outdated"
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert places.state(places.rows.at(path), deep=False) == "foreign"


def test_what_cannot_be_read_is_unreadable(open_folder):
    with unprivileged(), ContentStore(open_folder / "store") as store:
        (open_folder / "films").mkdir()
        places = Places(store, open_folder / "films")
        row = bring(places, b"a poster")
        row.path.write_bytes(b"drawn by hand")
        row.path.chmod(0)
        row = places.rows.at(row.path)
        assert places.state(row, deep=False) == "unreadable"
        for attempt in (lambda: bring(places, b"a better poster", overwrite=True), lambda: places.take_away(row)):
            with pytest.raises(PermissionError):
                attempt()
        row.path.chmod(0o644)
        assert row.path.read_bytes() == b"drawn by hand"
        assert places.rows.at(row.path) == row


# ---- leading out, and being gone


@pytest.mark.parametrize("level", [0, 1])
def test_fault_36_a_linked_folder_is_refused_before_and_after(places, tmp_path, level):
    outside = tmp_path / "outside"
    outside.mkdir()
    (places.folder / "a").mkdir()
    (places.folder / ("a/b" if level else "linked")).symlink_to(outside)
    name = "a/b/poster.jpg" if level else "linked/c/poster.jpg"
    with pytest.raises(OutsideLibrary):
        bring(places, b"a poster", name=name)
    assert list(outside.iterdir()) == [] and places.rows.at(places.folder / name) is None


def test_fault_36_a_folder_that_was_replaced_by_a_link_since_is_left_alone(places, tmp_path):
    row = bring(places, b"a poster", name="a/poster.jpg")
    row = places.rows.at(row.path)
    (places.folder / "a").rename(tmp_path / "outside")
    (places.folder / "a").symlink_to(tmp_path / "outside")
    assert [places.state(row, deep) for deep in (False, True)] == ["foreign", "foreign"]
    with pytest.raises(OutsideLibrary):
        bring(places, b"a better poster", overwrite=True, name="a/poster.jpg")
    assert places.take_away(row) == "foreign"
    assert [path.read_bytes() for path in (tmp_path / "outside").iterdir()] == [b"a poster"]


def test_a_library_that_was_unmounted_is_not_filled_anew(places, tmp_path):
    row = bring(places, b"a poster")
    places.folder.rename(tmp_path / "moved")
    for make in (lambda: None, places.folder.mkdir):
        make()
        with pytest.raises(StoreUnavailable):
            places.bring(replace(row, link_mode="auto"), places.rows.at(row.path), False)
    assert list(places.folder.iterdir()) == []


# ---- others at the same path


def test_who_comes_second_is_told_and_leaves_nothing(places):
    wanted = new(places, b"a poster")
    places.bring(wanted, None, False)
    other = replace(wanted, hash=places._store.put(b"other").hash)
    with pytest.raises(Changed):
        places.bring(other, None, True)
    assert ((places.folder / "poster.jpg").read_bytes(), os.listdir(places.folder)) == (b"a poster", ["poster.jpg"])


def test_a_file_that_another_process_has_just_published_is_no_conflict(places, monkeypatch):
    wanted, look = new(places, b"a poster"), places.look

    def look_late(path):
        monkeypatch.undo()
        bring(places, b"other")
        return look(path)

    monkeypatch.setattr(places, "look", look_late)
    with pytest.raises(Changed):
        places.bring(wanted, None, True)
    assert ((places.folder / "poster.jpg").read_bytes(), len(places._store.trash)) == (b"other", 0)


def test_fault_35_a_path_that_another_spelling_has_taken_is_not_committed(places):
    bring(places, b"a poster")
    with pytest.raises(Changed):
        bring(places, b"other", name="Poster.JPG")
    assert os.listdir(places.folder) == ["poster.jpg"]


def test_an_object_that_is_deleted_while_it_is_copied_is_not_published(places, monkeypatch):
    wanted = new(places, b"a poster")
    keep = places.rows.keep

    def deleted_before(hash):
        places._store.delete(hash)
        return keep(hash)

    monkeypatch.setattr(places.rows, "keep", deleted_before)
    with pytest.raises(ObjectNotFound):
        places.bring(wanted, None, False)
    assert os.listdir(places.folder) == []


def test_a_users_file_comes_back_when_ours_cannot_take_its_place(places, monkeypatch):
    path = places.folder / "poster.jpg"
    path.write_bytes(b"drawn by hand")
    before = inode(path)

    def fail(part, final):
        raise NoSpace(str(final))

    monkeypatch.setattr(places.copies, "place", fail)
    with pytest.raises(NoSpace):
        bring(places, b"a poster", overwrite=True)
    assert (inode(path), path.read_bytes(), len(places._store.trash)) == (before, b"drawn by hand", 0)


# ---- killed at any step

KILLED = """
import os, signal, sys
from pathlib import Path
from recording import Watched
from cjm_media_storage.placing import Places
from cjm_media_storage.publications import Publication
from cjm_media_storage.storage import ContentStore

root, left = Path(sys.argv[1]), [-1]

def count_down():
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Dies(Watched):
    "A disk whose process is killed before or after so many calls"
    def around(self, name, call, args, options):
        count_down()
        result = call(*args, **options)
        count_down()
        return result

def attempt(count, how):
    with ContentStore(root / "store", disk=Dies()) as store:
        places, path = Places(store, root / "films"), root / "films" / "poster.jpg"
        old = places.rows.at(path)
        left[0] = count
        if how == "take away":
            places.take_away(old)
        else:
            places.bring(Publication(sys.argv[3], path, "", "copy", 1.0, "poster.jpg", 0, 0), old, how == "overwrite")
        left[0] = -1

for count in range(1, 1000):
    pid = os.fork()
    if pid == 0:
        attempt(count, sys.argv[2])
        os._exit(0)
    died = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print("died" if died else "done", flush=True)
    if not died or sys.stdin.readline() != "go on\\n":
        break
"""


class Scene:
    "A path with something at it, before and after each attempt of a process that is killed"

    def __init__(self, store, folder, how):
        self.store, self.how, self.path = store, how, folder / "poster.jpg"
        folder.mkdir()
        self.places = Places(store, folder)
        self.hashes = [store.put(content).hash for content in (b"a poster", b"a better poster")]
        self.new = Publication(self.hashes[1], self.path, "", "copy", 1.0, "poster.jpg", 0, 0)

    def begin(self):
        "What is there before the attempt"
        self.places.rows.remove(self.path)
        self.path.unlink(missing_ok=True)
        self.store.trash.purge(everything=True)
        if self.how in ("replace", "take away"):
            self.places.bring(replace(self.new, hash=self.hashes[0]), None, False)
        elif self.how == "overwrite":
            self.path.write_bytes(b"drawn by hand")

    def check(self):
        "What is there after it"
        self.store.trash.recover()
        there = self.path.read_bytes() if self.path.exists() else None
        row = self.places.rows.at(self.path)
        possible = {"new": [None], "replace": [b"a poster"], "overwrite": [b"drawn by hand", None]}
        assert there in [b"a better poster", *possible.get(self.how, [b"a poster", None])]
        if row is not None and row.hash == self.hashes[1]:
            assert there == b"a better poster"  # what is committed is there
        if self.how == "overwrite" and there != b"drawn by hand":
            (item,) = self.store.trash  # and can be had back
            self.path.unlink(missing_ok=True)
            self.store.trash.restore(item, outside=True)
            assert self.path.read_bytes() == b"drawn by hand"
        self.places.bring(self.new, row, True)
        self.places.copies.sweep(self.path.parent)
        assert (self.path.read_bytes(), os.listdir(self.path.parent)) == (b"a better poster", ["poster.jpg"])


@pytest.mark.parametrize("how", ["new", "replace", "overwrite", "take away"])
def test_fault_21_killed_at_any_step_nothing_is_lost_and_all_goes_on(store, tmp_path, program, how):
    scene, steps = Scene(store, tmp_path / "films", how), 0
    scene.begin()
    process = program.start(KILLED, tmp_path, how, scene.hashes[1])
    while process.stdout.readline() == "died\n":
        steps += 1
        scene.check()
        scene.begin()
        process.stdin.write("go on\n")
        process.stdin.flush()
    program.end(process)
    assert steps > 5
