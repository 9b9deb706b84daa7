"Files are found in order, put on several threads, and counted; one that cannot be read stops nothing."

import inspect
import os
import sys
from pathlib import Path

import pytest
from on_disk import unprivileged

from cjm_media_storage.adding import AddSummary, Found, add_files, find_files
from cjm_media_storage.files import Disk
from cjm_media_storage.storage import ContentStore, InvalidNamespace, NoSpace


def test_find_files_is_sorted_and_follows_no_folder(films):
    found = list(find_files([films]))
    names = [os.path.relpath(os.fsencode(f.path), os.fsencode(films)) for f in found if not f.skipped]
    assert b"copies/-rf" in names
    assert not any(name.startswith(b"loop/") for name in names)
    assert [f.path for f in found] == [f.path for f in find_files([str(films)])]
    assert {os.path.basename(f.path) for f in found if f.skipped} == {"loop", "pipe"}
    assert [os.path.basename(f.path) for f in found if f.error] == ["gone.mkv"]
    assert len(list(find_files([films / "loop"]))) == len(found)  # it was named: it is walked


def test_folder_that_cannot_be_listed(open_folder):
    (open_folder / "a.mkv").write_bytes(b"a film")
    (open_folder / "locked").mkdir()
    (open_folder / "locked").chmod(0)
    with unprivileged():
        found = list(find_files([open_folder]))
    assert [os.path.basename(f.path) for f in found] == ["a.mkv", "locked"]
    assert [type(f.error) for f in found] == [type(None), PermissionError]


def test_deep_folders(here):
    deep = here.joinpath("deep", *["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "a.mkv").write_bytes(b"a film")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        (found,) = find_files(["deep"])
    finally:
        sys.setrecursionlimit(limit)
    assert (Path(found.path), found.size) == ((deep / "a.mkv").relative_to(here), 6)


def summarize(results):
    summary = AddSummary()
    for added in results:
        summary = summary.plus(added)
    return summary


def test_copies_that_are_added_at_the_same_moment_are_one(here):
    for n in range(64):
        (here / f"{n}.bin").write_bytes(b"the same")
    with ContentStore(here / "store") as store:
        summary = summarize(add_files(store, find_files(sorted(here.glob("*.bin")))))
    assert (summary.new, summary.known, summary.files) == (1, 63, 64)
    assert (summary.new_bytes, summary.saved_bytes) == (8, 63 * 8)


def test_files_are_looked_for_as_they_are_needed(here, small_groups):
    (here / "a.bin").write_bytes(b"a film")
    looked = []

    def endless():
        while True:
            looked.append(1)
            yield Found(str(here / "a.bin"), 6)

    with ContentStore(here / "store") as store:
        results = add_files(store, endless(), threads=2)
        for _ in range(50):
            next(results)
        results.close()
    assert len(looked) <= 50 + 3 * 10


def test_what_is_skipped_and_what_fails_is_reported_in_its_place(films):
    with ContentStore(films.parent / "store") as store:
        found = list(find_files([films]))
        added = list(add_files(store, found))
        assert [each.found for each in added] == found
        for each in added:
            assert (each.result is None) == bool(each.found.skipped or each.found.error)
            assert each.error is each.found.error
        assert [each.found for each in add_files(store, [Found("loop", skipped=True)])] == [Found("loop", skipped=True)]


class Full(Disk):
    "A disk that is full after some objects"

    def create(self, path, *args):
        if Path(path).parent.parent.name == "staging" and Path(path).name.isdigit():
            created.append(path)
            if len(created) > 23:
                raise NoSpace(os.fspath(path))
        return super().create(path, *args)


created = []


def test_a_full_disk_ends_it_and_what_was_stored_is_counted(here, small_groups):
    created.clear()
    (here / "films").mkdir()
    for n in range(200):
        (here / "films" / f"{n}.bin").write_bytes(b"%d" % n)
    summary, looked = AddSummary(), []
    files = (looked.append(found) or found for found in find_files(["films"]))
    with ContentStore(here / "store", disk=Full()) as store:
        with pytest.raises(NoSpace):
            for added in add_files(store, files):
                summary = summary.plus(added)
        assert (summary.new, summary.failed, len(store)) == (23, 0, 23)
    assert len(looked) < 60


def test_a_wrong_namespace_is_not_a_failure_of_each_file(here):
    (here / "a.bin").write_bytes(b"a film")
    with ContentStore(here / "store") as store, pytest.raises(InvalidNamespace):
        list(add_files(store, find_files(["a.bin"]), namespace="../up"))


def test_stop(here, small_groups):
    for n in range(100):
        (here / f"{n}.bin").write_bytes(b"%d" % n)
    done = []
    with ContentStore(here / "store") as store:
        for added in add_files(store, find_files(here.glob("*.bin")), stop=lambda: len(done) >= 10):
            done.append(added)
        assert 10 <= len(done) == len(store) <= 40


def test_what_is_read_from_the_files_may_fail(here):
    def broken():
        yield Found("loop", skipped=True)
        raise PermissionError("folder")

    with ContentStore(here / "store") as store, pytest.raises(PermissionError):
        list(add_files(store, broken()))
