"A library as its user meets it: names, syncs, taking back, and many processes at once."

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path, PureWindowsPath

import pytest

from cjm_media_storage.errors import NotPublished, OutsideLibrary
from cjm_media_storage.files import Disk
from cjm_media_storage.publishing import Library, give_out, publications_of
from cjm_media_storage.storage import (
    Conflict,
    ContentStore,
    CorruptObject,
    InvalidHash,
    ObjectInUse,
    ObjectNotFound,
    StoreUnavailable,
    hash_bytes,
)


@pytest.fixture
def library(store, tmp_path):
    return Library(store, tmp_path / "films")


def put(library, content):
    return library.store.put(content).hash


def publish(library, content, destination, **options):
    return library.publish(put(library, content), destination, **options)


def files(library):
    "What a player would find, and what it should not"
    found = (path for path in library.folder.rglob("*") if not path.is_dir())
    return {path.relative_to(library.folder).as_posix(): path.read_bytes() for path in found}


def snapshot(library):
    "All that a sync with nothing to do leaves as it is"
    places = [library.folder, *sorted(library.folder.rglob("*"))]
    with closing(sqlite3.connect(library.store.root / ".store" / "index.db")) as con:
        rows = con.execute("SELECT * FROM publications").fetchall() + con.execute("SELECT * FROM objects").fetchall()
    return [(path, path.lstat().st_ino, path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in places], rows


# ---- the folder


@pytest.mark.parametrize("folder", ["", ".store", "films", "..", "../..", "../link"])
def test_a_library_is_neither_in_the_store_nor_around_it(store, folder):
    (store.root.parent / "link").symlink_to(store.root)
    before = sorted(store.root.parent.rglob("*"))
    with pytest.raises(Conflict):
        Library(store, store.root / folder)
    assert sorted(store.root.parent.rglob("*")) == before


def test_a_library_may_lie_beside_the_store_under_a_name_that_begins_alike(store):
    library = Library(store, f"{store.root} films")
    assert library.folder.is_dir()
    assert repr(library) == f"Library({store!r}, {os.fspath(library.folder)!r})"


def test_a_folder_may_be_a_link_and_relative(store, here):
    (here / "disk").mkdir()
    (here / "films").symlink_to("disk")
    library = Library(store, "films")
    assert publish(library, b"a poster", "a/poster.jpg").path == here / "disk" / "a" / "poster.jpg"
    assert library.unpublish(here / "films" / "a" / "poster.jpg").state == "removed"


def test_folders_take_what_the_umask_leaves(store, tmp_path):
    before = os.umask(0o027)
    try:
        path = publish(Library(store, tmp_path / "films"), b"a poster", "a/poster.jpg").path
    finally:
        os.umask(before)
    assert [place.stat().st_mode & 0o777 for place in (path, *path.parents[:2])] == [0o640, 0o750, 0o750]


def test_a_library_that_was_unmounted_is_not_touched(library, tmp_path):
    publish(library, b"a poster", "poster.jpg")
    library.folder.rename(tmp_path / "moved")
    library.folder.mkdir()
    for attempt in (library.sync, library.status, lambda: library.unpublish("poster.jpg")):
        with pytest.raises(StoreUnavailable):
            attempt()
    assert files(library) == {}


# ---- publishing


def test_what_comes_back_says_what_was_done(library):
    done = publish(library, b"a poster", "Movie (2024)/poster.jpg")
    assert (done.hash, done.state, done.size) == (hash_bytes(b"a poster"), "in sync", 8)
    assert done.path == library.folder / "Movie (2024)" / "poster.jpg" and done.link_mode in ("copy", "reflink")
    (row,) = library.publications()
    assert (row.state, row.wanted, row.created_at) == ("", "Movie (2024)/poster.jpg", done.created_at)


def test_publishing_the_same_again_changes_nothing(library):
    first = publish(library, b"a poster", "poster.jpg")
    before = snapshot(library)
    assert library.publish(first.hash, "poster.jpg") == first
    assert snapshot(library) == before


def test_an_object_has_many_places_and_a_place_one_object(library):
    paths = [publish(library, b"a poster", f"{name}/poster.jpg").path for name in "abc"]
    publish(library, b"other", "b/poster.jpg")
    assert [row.path for row in library.publications(hash_bytes(b"a poster"))] == [paths[0], paths[2]]
    assert [row.path for row in publications_of(library.store, hash_bytes(b"other"))] == [paths[1]]


@pytest.mark.parametrize(
    ("hash", "error"), [("sha256:12", InvalidHash), ("../x", InvalidHash), (hash_bytes(b"none"), ObjectNotFound)]
)
def test_what_is_no_object_is_not_published(library, hash, error):
    with pytest.raises(error):
        library.publish(hash, "poster.jpg")
    assert files(library) == {} and list(library.publications()) == []


def test_an_unknown_mode_is_refused(library):
    with pytest.raises(ValueError, match="reflink"):
        publish(library, b"a poster", "poster.jpg", mode="hard")


def test_a_corrupt_object_is_not_published_and_ours_stays(library):
    publish(library, b"a poster", "poster.jpg")
    better = library.store.put(b"a better poster")
    better.path.chmod(0o644)
    better.path.write_bytes(b"A BETTER POSTER")
    with pytest.raises(CorruptObject):
        library.publish(better.hash, "poster.jpg")
    assert files(library) == {"poster.jpg": b"a poster"}


@pytest.mark.parametrize("destination", ["../x", "a/../../x", "/etc/x", Path("/etc/x"), Path("../x"), "link/x"])
def test_fault_36_nothing_is_written_outside_the_folder(library, tmp_path, destination):
    (library.folder / "link").symlink_to(tmp_path)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OutsideLibrary) as caught:
        publish(library, b"a poster", destination)
    assert str(library.folder) in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before and list(library.publications()) == []


# ---- names


def test_fault_34_published_names_are_nfc_and_cut_at_a_character(library):
    path = publish(library, b"a poster", "Ame\u0301lie/" + "e\u0301" * 200 + ".jpg").path
    assert path == library.folder / "Am\u00e9lie" / ("\u00e9" * 125 + ".jpg") and path.exists()


def test_fault_35_reserved_names_are_replaced_and_equal_ones_get_a_suffix(library):
    wanted = ("a:b.jpg", "a?b.jpg", "A_B.JPG", "a_b.jpg", "CON", "con_")
    names = ["a_b.jpg", "a_b (2).jpg", "A_B (3).JPG", "a_b (4).jpg", "CON_", "con_ (2)"]
    for _ in range(2):  # the same wanted name keeps its path
        assert [publish(library, name.encode(), name).path.name for name in wanted] == names
    assert library.unpublish("a:b.jpg").path.name == "a_b.jpg"
    assert publish(library, b"other", "a?b.jpg").path.name == "a_b (2).jpg"
    assert publish(library, b"new", "a|b.jpg").path.name == "a_b.jpg"


def test_fault_35_a_name_is_taken_when_its_file_is_gone_too(library):
    publish(library, b"one", "a:b.jpg").path.unlink()
    assert publish(library, b"two", "a?b.jpg").path.name == "a_b (2).jpg"
    library.sync()
    assert files(library) == {"a_b.jpg": b"one", "a_b (2).jpg": b"two"}


def test_a_windows_path_is_split_and_odd_bytes_are_replaced(library):
    assert publish(library, b"1", PureWindowsPath("Movie\\poster.jpg")).path == library.folder / "Movie" / "poster.jpg"
    assert publish(library, b"2", "caf\udce9.mp3").path.name == "caf_.mp3"
    assert publish(library, b"3", "caf\udcea.mp3").path.name == "caf_ (2).mp3"
    assert library.unpublish("caf\udce9.mp3").path.name == "caf_.mp3"


# ---- hard links


def test_fault_38_an_edited_hard_link_is_found_and_named(library):
    done = publish(library, b"a poster", "poster.jpg", mode="hardlink")
    assert done.path.stat().st_mode & 0o777 == 0o444
    assert publish(library, b"other", "other.jpg").link_mode != "hardlink"
    done.path.chmod(0o644)
    done.path.write_bytes(b"A POSTER")
    with pytest.raises(CorruptObject):
        library.store.read(done.hash, verify=True)
    assert [row.path for row in publications_of(library.store, done.hash)] == [done.path]
    assert [row.state for row in library.status()] == ["foreign", "in sync"]
    report = library.sync(overwrite=True)  # there are no right bytes to be written
    assert (report.failed, done.path.read_bytes()) == (1, b"A POSTER")


# ---- keeping in sync


def test_a_sync_brings_back_what_is_ours_and_a_second_one_does_nothing(library):
    for n in range(4):
        publish(library, b"%d" % n, f"{n}/poster.jpg")
    linked = publish(library, b"link", "link.jpg", mode="symlink")
    (library.folder / "0" / "poster.jpg").unlink()
    shutil.rmtree(library.folder / "1")
    (library.folder / "2" / "poster.jpg").write_bytes(b"3")
    os.utime(library.folder / "3" / "poster.jpg", ns=(0, 0))
    assert [row.state for row in library.status()] == ["missing", "missing", "outdated", "in sync", "in sync"]
    report = library.sync()
    assert (report.written, report.replaced, report.adopted, report.in_sync) == (2, 1, 1, 1)
    assert {**files(library), linked.path.name: b"link"} == {
        **{f"{n}/poster.jpg": b"%d" % n for n in range(4)},
        "link.jpg": b"link",
    }
    before = snapshot(library)
    assert str(library.sync()) == "5 in sync"
    assert str(library.sync(deep=True)) == "5 in sync"
    assert snapshot(library) == before


def test_a_sync_leaves_foreign_files_alone_unless_told_and_goes_on(library):
    for n in range(3):
        publish(library, b"%d" % n, f"{n}.jpg")
    (library.folder / "0.jpg").write_bytes(b"drawn by hand")
    (library.folder / "1.jpg").unlink()
    (library.folder / "1.jpg").mkdir()
    (library.folder / "2.jpg").unlink()
    report = library.sync()
    assert (report.foreign, report.written, len(report.troubles)) == (2, 1, 2)
    assert files(library) == {"0.jpg": b"drawn by hand", "2.jpg": b"2"}
    report = library.sync(overwrite=True)
    assert (report.overwritten, report.failed, report.in_sync) == (1, 1, 1)
    assert "1.jpg" in str(report.troubles[0].path) and "folder" in report.troubles[0].reason
    assert files(library) == {"0.jpg": b"0", "2.jpg": b"2"} and len(library.store.trash) == 1


def test_one_item_that_fails_stops_no_other(library):
    for n in range(3):
        publish(library, b"%d" % n, f"{n}.jpg").path.unlink()
    library.store.path(hash_bytes(b"0")).unlink()
    path = library.store.path(hash_bytes(b"1"))
    path.chmod(0o644)
    path.write_bytes(b"x")
    report = library.sync()
    assert (report.failed, report.written) == (2, 1) and files(library) == {"2.jpg": b"2"}
    assert str(report).splitlines()[0] == "1 written, 2 failed"


def test_a_report_names_the_first_troubles(library):
    for n in range(12):
        publish(library, b"%d" % n, f"{n}.jpg").path.write_bytes(b"drawn by hand")
    lines = str(library.sync()).splitlines()
    assert (lines[0], len(lines), lines[-1]) == ("12 foreign", 12, "and 2 more")


def test_a_sync_after_the_store_was_moved_leads_symlinks_to_its_new_place(library, tmp_path):
    path = publish(library, b"a poster", "poster.jpg", mode="symlink").path
    library.store.close()
    library.store.root.rename(tmp_path / "moved")
    with type(library.store)(tmp_path / "moved") as store:
        moved = Library(store, library.folder)
        assert [row.state for row in moved.status()] == ["outdated"]
        assert moved.sync().replaced == 1
    assert path.read_bytes() == b"a poster"


def test_a_sync_removes_what_dead_processes_left(library, program):
    program(
        """
        import os, sys
        from pathlib import Path
        from cjm_media_storage.files import Disk
        from cjm_media_storage.publishing import Library
        from cjm_media_storage.storage import ContentStore
        class Dies(Disk):
            def link(self, source, target):
                if str(target).endswith("poster.jpg"):
                    os._exit(0)
                super().link(source, target)
        library = Library(ContentStore(sys.argv[1], disk=Dies()), sys.argv[2])
        library.publish(library.store.put(b"a poster").hash, "a/poster.jpg")
        """,
        library.store.root,
        library.folder,
    )
    (part,) = files(library)
    assert part.endswith(".part")
    assert library.sync().swept == 1 and files(library) == {}


def test_two_libraries_of_a_store_do_not_meddle(library, tmp_path):
    other = Library(library.store, tmp_path / "films 2")
    publish(library, b"one", "poster.jpg").path.unlink()
    publish(other, b"two", "poster.jpg").path.unlink()
    assert library.sync().written == 1 and files(other) == {}
    with pytest.raises(NotPublished):
        library.unpublish(other.folder / "poster.jpg")


# ---- taking back


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_what_is_ours_is_removed_and_the_object_stays(library, mode):
    done = publish(library, b"a poster", "a/poster.jpg", mode=mode)
    with pytest.raises(ObjectInUse):
        library.store.delete(done.hash)
    assert library.unpublish("a/poster.jpg").state == "removed"
    assert (files(library), list(library.publications()), os.listdir(library.folder)) == ({}, [], ["a"])
    assert library.store.read(done.hash, verify=True) == b"a poster"
    library.store.delete(done.hash)


def test_what_is_not_ours_any_more_stays_and_is_said(library):
    for name, change in {
        "edited": lambda path: path.write_bytes(b"drawn by hand"),
        "linked": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        "gone": lambda path: path.unlink(),
        "folder": lambda path: (path.unlink(), path.mkdir()),
    }.items():
        change(publish(library, b"a poster", name).path)
    states = {name: library.unpublish(name).state for name in ("edited", "linked", "gone", "folder")}
    assert states == {"edited": "foreign", "linked": "foreign", "gone": "missing", "folder": "foreign"}
    assert sorted(os.listdir(library.folder)) == ["edited", "folder", "linked"]
    assert list(library.publications()) == []


def test_it_is_found_by_its_path_too_and_what_is_none_is_said(library):
    path = publish(library, b"a poster", "a:b.jpg").path
    for wrong in ("c.jpg", library.folder / "c.jpg", "/etc/passwd"):
        with pytest.raises(NotPublished):
            library.unpublish(wrong)
    with pytest.raises(OutsideLibrary):
        library.unpublish("../x")
    assert library.unpublish("a_b.jpg").path == path
    with pytest.raises(NotPublished):
        library.unpublish(path)


def test_empty_folders_are_removed_when_asked(library):
    for name in ("a/b/c/1.jpg", "a/2.jpg", "d/3.jpg"):
        publish(library, b"a poster", name)
    library.unpublish("d/3.jpg")
    assert (library.folder / "d").is_dir()
    library.unpublish("a/b/c/1.jpg", prune=True)
    assert not (library.folder / "a" / "b").exists()
    library.unpublish("a/2.jpg", prune=True)
    assert not (library.folder / "a").exists() and library.folder.is_dir()


# ---- many at once

AT_ONCE = """
import sys
from together import in_processes
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import ContentStore, Conflict

def work(n, destination):
    with ContentStore(sys.argv[1]) as store:
        library = Library(store, sys.argv[2])
        for turn in range(5):
            hash = store.put(b"%d" % n * 300_000).hash
            path = library.publish(hash, destination.replace("#", ":?*|"[n]), mode="copy").path
    return path.name

print(sorted(in_processes(4, work, sys.argv[3])))
"""


def test_of_many_processes_at_one_path_each_wins_in_turn(library, program):
    assert program(AT_ONCE, library.store.root, library.folder, "poster.jpg") == str(["poster.jpg"] * 4)
    (row,) = library.status(deep=True)
    ((name, content),) = files(library).items()
    assert (row.state, row.hash, name) == ("in sync", hash_bytes(content), "poster.jpg")


def test_fault_35_many_processes_with_equal_names_get_different_ones(library, program):
    "They want 'post?r.jpg' with another character that is replaced, each"
    names = program(AT_ONCE, library.store.root, library.folder, "post#r.jpg")
    assert names == str(["post_r (2).jpg", "post_r (3).jpg", "post_r (4).jpg", "post_r.jpg"])


def test_files_are_never_seen_unfinished(library, program):
    big = [put(library, bytes([n]) * 3_000_000) for n in (1, 2)]
    library.publish(big[0], "film.mkv")
    reader = program.start(
        """
        import sys
        from pathlib import Path
        path, seen = Path(sys.argv[1]), set()
        print("reading", flush=True)
        while len(seen) < 2:
            content = path.read_bytes()
            assert len(content) == 3_000_000 and len(set(content)) == 1
            seen.add(content[0])
        """,
        library.folder / "film.mkv",
    )
    assert reader.stdout.readline() == "reading\n"
    turn = 0
    while reader.poll() is None:
        turn += 1
        library.publish(big[turn % 2], "film.mkv")
    program.end(reader)


# ---- a copy of one's own


class Late(Disk):
    "A disk on which somebody saves a file just before a link is made to its place"

    def link(self, source, target):
        if os.path.basename(target) == "mine.jpg":
            Path(target).write_bytes(b"mine")
        super().link(source, target)


def test_a_copy_of_one_s_own_is_right_or_none(store, tmp_path):
    poster = store.put(b"a poster")
    assert give_out(store, poster.hash, tmp_path / "mine.jpg") in ("copy", "reflink")
    assert (tmp_path / "mine.jpg").read_bytes() == b"a poster"
    assert publications_of(store, poster.hash) == []
    (tmp_path / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        give_out(store, poster.hash, tmp_path / "mine.jpg")
    with pytest.raises(Conflict):
        give_out(store, poster.hash, store.root / "assets" / "mine.jpg", overwrite=True)
    poster.path.chmod(0o644)
    poster.path.write_bytes(b"A POSTER")
    with pytest.raises(CorruptObject):
        give_out(store, poster.hash, tmp_path / "mine.jpg", overwrite=True)
    assert (tmp_path / "mine.jpg").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.jpg", "store"]


def test_a_file_that_is_saved_meanwhile_is_not_replaced(tmp_path):
    with ContentStore(tmp_path / "store", disk=Late()) as store, pytest.raises(FileExistsError):
        give_out(store, store.put(b"a poster").hash, tmp_path / "mine.jpg")
    assert (tmp_path / "mine.jpg").read_bytes() == b"mine"
