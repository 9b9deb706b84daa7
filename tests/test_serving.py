"An index on a server: what it is not believed, and who takes turns."

import time

import pytest
from together import in_threads

from cjm_media_storage.errors import IndexCorrupt, IndexMissing, NotOnServer, ObjectNotFound
from cjm_media_storage.index import Entry, Index, NewReference, NewSource
from cjm_media_storage.inserting import Written, write_all

DIGEST = "ab" * 32


def entry(digest=DIGEST):
    return Entry(0, digest, "assets", "jpg", 8, 0, 0.0)


@pytest.fixture
def index(url):
    index = Index(url)
    yield index
    index.database.close()


def test_fault_44_a_store_with_objects_and_no_tables_gets_none(url, tmp_path):
    (tmp_path / "assets" / "ab").mkdir(parents=True)
    with pytest.raises(IndexMissing):
        Index(url, root=tmp_path)
    Index(url).database.close()  # nothing was made
    Index(url, root=tmp_path).database.close()  # now they are there


def test_fault_63_what_no_store_has_written_is_not_believed(index):
    index.commit(entry())
    index.database.execute("UPDATE objects SET digest = '../../etc/passwd'")
    with pytest.raises(IndexCorrupt, match="digest"):
        index.select("1 = 1")


def test_tables_that_somebody_has_changed(index):
    index.database.execute("ALTER TABLE objects RENAME COLUMN size TO length")
    with pytest.raises(IndexCorrupt, match="size"):
        index.select("1 = 1")


def test_of_those_who_put_the_same_one_adds_it(url):
    made, indexes = [], [Index(url) for _ in range(4)]

    def put(n):
        for m in range(10):
            source = NewSource(f"https://example.org/{n}", "TMDB")
            made.append(indexes[n].commit(entry(f"{m:064x}"), source, NewReference(f"movie:{n}")))

    in_threads(4, put)
    totals = indexes[0].totals()
    assert (sum(made), totals["objects"], totals["sources"], totals["references"]) == (10, 10, 40, 40)
    for index in indexes:
        index.database.close()


def test_many_rows_at_once_and_one_by_one_get_different_numbers(index):
    def rows(first):
        return [Written(entry(f"{n:064x}"), NewSource(f"/{n}"), NewReference("a")) for n in range(first, first + 50)]

    for first in (0, 50, 100):
        with index.database.transaction() as con:
            assert write_all(index, con, rows(first), time.time()) == [True] * 50
        assert index.commit(entry(f"{first + 1000:064x}"))
    with index.database.transaction() as con:
        assert write_all(index, con, rows(120), time.time()) == [False] * 30 + [True] * 20
    assert index.totals()["objects"] == 173 and len(list(index.all())) == 173


def test_fault_27_a_reference_to_what_is_in_the_trash_is_refused(url, index):
    index.commit(entry())
    [known] = index.entries(DIGEST)
    other = Index(url)
    other.database.execute("UPDATE objects SET state = 'trashed'")
    other.database.close()
    with pytest.raises(ObjectNotFound):
        index.commit(known, reference=NewReference("movie:1"))
    assert index.references("1 = 1", ()) == []


def test_reading_shows_one_moment(url, index):
    index.commit(entry())
    other = Index(url)
    with index.database.reading() as con:
        assert con.execute("SELECT count(*) FROM objects").fetchone() == (1,)
        other.commit(entry("cd" * 32))
        assert con.execute("SELECT count(*) FROM objects").fetchone() == (1,)
        assert index.totals()["objects"] == 1
    assert index.totals()["objects"] == 2
    other.database.close()


def test_who_guards_is_asked_and_told_of_each_write(index):
    told = []
    index.database.guard, index.database.written = (lambda: told.append("guard")), (lambda: told.append("written"))
    index.fact("store", "f47a")
    with index.database.transaction():
        index.fact("note", "a block in a block")
    assert told == ["guard", "written"] * 2

    def refuse():
        raise IndexMissing("somewhere else")

    index.database.guard = refuse
    with pytest.raises(IndexMissing):
        index.fact("store", "other")
    assert index.fact("store") == "f47a"


def test_it_is_no_file(index, tmp_path):
    with pytest.raises(NotOnServer):
        index.database.copy_to(tmp_path / "copy.db")
    index.database.check_place()
