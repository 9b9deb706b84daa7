"The rows of publications: found again, kept apart, and no object deleted that has one."

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cjm_media_storage.publications import Publication, Publications
from cjm_media_storage.storage import ContentStore, ObjectInUse, ObjectNotFound, hash_bytes


@pytest.fixture
def rows(store):
    return Publications(store.parts.index.database)


def publication(hash, path, wanted="poster.jpg"):
    return Publication(hash, Path(path), "", "copy", 1.0, wanted, 8, 2)


@pytest.mark.parametrize("name", ["poster.jpg", "Amélie.mkv", "a'b\"c\n.jpg", "caf\udce9.mp3"])
@pytest.mark.parametrize("folder", ["/films", "/caf\udce9", "/"])
def test_a_row_comes_back_as_it_was_written(rows, poster, folder, name):
    written = publication(poster, Path(folder, "x", "poster.jpg"), name)
    rows.save(written)
    assert rows.at(written.path) == rows.wanted(written.path, name) == written
    assert list(rows.below(Path(folder))) == rows.of(poster[7:]) == [written]
    rows.remove(written.path)
    assert list(rows.below(Path(folder))) == []


def test_what_is_beside_a_folder_is_not_below_it(rows, poster):
    for path in ("/films/a", "/films 2/b", "/filmsc", "/films.d/e"):
        rows.save(publication(poster, path))
    assert [row.path for row in rows.below(Path("/films"))] == [Path("/films/a")]


def test_a_wanted_path_is_found_under_its_number_and_in_its_folder_only(rows, poster):
    rows.save(publication(poster, "/films/a/poster (2).jpg", "a/poster.jpg"))
    rows.save(publication(poster, "/films/b/b", "b"))  # of a library in /films/b
    assert rows.wanted(Path("/films/a/poster.jpg"), "a/poster.jpg").path.name == "poster (2).jpg"
    assert rows.wanted(Path("/films/b"), "b") is None


def test_a_path_keeps_the_time_since_when_it_is_published(store, rows, poster):
    rows.save(publication(poster, "/films/a"))
    other = store.put(b"other").hash
    rows.save(Publication(other, Path("/films/a"), "", "reflink", 99.0, "poster.jpg", 5, 3))
    row = rows.at(Path("/films/a"))
    assert (row.hash, row.link_mode, row.created_at, row.size) == (other, "reflink", 1.0, 5)


def test_an_object_that_is_published_is_not_deleted_and_one_that_is_deleted_is_not_published(store, rows, poster):
    rows.save(publication(poster, "/films/a"))
    with pytest.raises(ObjectInUse):
        store.delete(poster)
    rows.remove(Path("/films/a"))
    store.delete(poster)
    for hash in (poster, hash_bytes(b"never put")):
        with pytest.raises(ObjectNotFound):
            rows.save(publication(hash, "/films/a"))
    assert rows.at(Path("/films/a")) is None


def test_publishing_clears_the_mark_of_a_condemned_object(store, rows, poster):
    store.parts.index.database.execute("UPDATE objects SET condemned_at = 1")
    rows.save(publication(poster, "/films/a"))
    assert store.parts.index.database.fetch("SELECT condemned_at FROM objects") == [(None,)]


def test_fault_35_a_path_is_taken_in_every_spelling(rows, poster):
    rows.save(publication(poster, "/films/\u00c9t\u00e9.jpg"))
    for path in ("/films/\u00c9t\u00e9.jpg", "/films/e\u0301te\u0301.JPG", "/FILMS/\u00e9T\u00c9.jpg"):
        assert rows.taken(Path(path))
    assert not rows.taken(Path("/films/Ete.jpg"))


def test_fault_35_what_other_processes_add_and_remove_is_noticed(store, rows, poster):
    assert not rows.taken(Path("/films/a"))
    with ContentStore(store.root) as other:
        others = Publications(other.parts.index.database)
        for name in "ab":
            others.save(publication(poster, f"/films/{name}"))
        assert rows.taken(Path("/films/A")) and rows.taken(Path("/films/B"))
        for name in "ab":
            others.remove(Path(f"/films/{name}"))
        assert not rows.taken(Path("/films/a"))
        others.save(publication(poster, "/films/c"))  # gets an id that was used before
        assert rows.taken(Path("/films/C"))
        others.save(publication(poster, "/films/b"))
        assert rows.taken(Path("/films/B"))


def test_other_tools_see_publications(store, rows, poster):
    rows.save(publication(poster, "/films/a"))
    with closing(sqlite3.connect(os.path.join(store.root, ".store", "index.db"))) as con:
        assert con.execute("SELECT file_path, link_mode FROM library_image_files").fetchall() == [("/films/a", "copy")]
