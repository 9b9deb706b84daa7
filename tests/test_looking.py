"One object: what is there, and whether that is sure."

import errno
import os

import pytest
from damage import below, damage, fill

from cjm_media_storage import looking
from cjm_media_storage.looking import LEVELS, Looker, confirm
from cjm_media_storage.storage import StoreUnavailable, hash_bytes
from cjm_media_storage.verifying import Scope, verify

HASH = hash_bytes(b"a poster")


@pytest.fixture
def entry(store):
    store.put(b"a poster")
    return store._index.entries(HASH[7:])[0]


def looks(store, entry):
    return [Looker(store.root, level).look(entry).kind for level in LEVELS]


def test_each_level_sees_what_it_looks_at(store, entry):
    path = store.path(HASH)
    assert looks(store, entry) == ["", "", ""]
    damage(path, b"A POSTER")
    assert looks(store, entry) == ["", "", "corrupt"]
    damage(path, b"poster")
    assert looks(store, entry) == ["", "corrupt", "corrupt"]
    path.unlink()
    assert looks(store, entry) == ["missing"] * 3
    path.parent.rmdir()
    assert looks(store, entry) == ["missing"] * 3


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_no_link_is_followed(store, entry, tmp_path, level):
    path = store.path(HASH)
    place = [path, *path.parents][level]
    place.rename(tmp_path / "outside")
    place.symlink_to(tmp_path / "outside")
    assert looks(store, entry) == ["corrupt"] * 3
    where = "" if level == 0 else f" at {below(store, place)}"
    assert Looker(store.root, "hash").look(entry).detail == f"corrupt layout: a link{where}"


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT])
def test_an_error_of_the_whole_disk_is_none_of_the_object(store, entry, monkeypatch, number):
    def away(path):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(looking, "open_regular", away)
    with pytest.raises(StoreUnavailable):
        confirm(store.parts, entry, "hash")


@pytest.mark.parametrize("level", LEVELS)
def test_the_looks_are_sure_only_if_the_row_stays(store, entry, monkeypatch, level):
    "The file is away at the first look, for it was deleted; and back with its row at the second"
    really, rows = looking._row, []

    def row(parts, entry):
        rows.append(really(parts, entry))
        if len(rows) == 1:
            store.delete(HASH)
        elif len(rows) == 2:
            store.trash.restore(HASH)
            rows[-1] = really(parts, entry)
        return rows[-1]

    monkeypatch.setattr(looking, "_row", row)
    assert confirm(store.parts, entry, level).kind == ""
    assert len(rows) == 3 and rows[0] != rows[1]


def test_an_object_that_changes_at_each_look_is_skipped(store, entry, monkeypatch):
    store.path(HASH).unlink()
    really, changing = looking._row, iter(range(100))

    def row(parts, entry):
        store._index.database.execute("UPDATE objects SET used_at = ?", (next(changing),))
        return really(parts, entry)

    monkeypatch.setattr(looking, "_row", row)
    assert confirm(store.parts, entry, "hash") is None
    report = verify(store)
    assert (report.problems, report.skipped) == ((), 1)


def test_an_error_of_one_file_is_unreadable(store, monkeypatch):
    bad = fill(store, 30)[7].path
    really = looking.open_regular

    def failing(path):
        if path == str(bad):
            raise OSError(errno.EIO, "Input/output error", path)
        return really(path)

    monkeypatch.setattr(looking, "open_regular", failing)
    (problem,) = verify(store).problems
    assert (problem.kind, problem.detail) == ("unreadable", "Input/output error")


def test_an_object_that_is_deleted_between_the_looks_is_no_problem(store):
    result = store.put(b"a poster")
    (entry,) = Scope().entries(store.parts, 1.0)
    store.delete(result.hash)
    assert confirm(store.parts, entry, "hash").kind == ""
