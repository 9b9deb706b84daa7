"An index that is lost, damaged, another store's, or replaced."

import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from on_disk import NOBODY, query, unprivileged

from cjm_media_storage.guarding import IndexDatabase
from cjm_media_storage.layout import holds_objects
from cjm_media_storage.snapshots import facts_of, read_snapshot, snapshot
from cjm_media_storage.storage import (
    ContentStore,
    CorruptDatabase,
    StorageError,
    StoreBusy,
    StoreUnavailable,
    hash_bytes,
)

POSTER = b"a poster"
HASH = hash_bytes(POSTER)


@pytest.fixture
def root(tmp_path):
    "A closed store with an object"
    with ContentStore(tmp_path / "store") as store:
        store.put(POSTER, owner="movie:1")
    return tmp_path / "store"


def database(root):
    return root / ".store" / "index.db"


def refused(root, **options):
    "What opening the store raises, by its name"
    with pytest.raises(StorageError) as caught:
        ContentStore(root, **options)
    return type(caught.value).__name__, str(caught.value)


def test_fault_44_a_missing_index_is_not_made_anew(root):
    database(root).unlink()
    before = sorted(root.rglob("*"))
    name, said = refused(root)
    assert name == "IndexMissing" and f"rebuild_index({os.fspath(root)!r})" in said
    assert sorted(root.rglob("*")) == before


def test_fault_44_an_empty_index_is_missing(root):
    database(root).write_bytes(b"")
    assert refused(root)[0] == "IndexMissing"
    assert database(root).read_bytes() == b""


def test_fault_44_an_index_that_was_copied_without_its_log_is_missing(root):
    database(root).unlink()
    with closing(sqlite3.connect(database(root))) as con:
        con.execute("PRAGMA journal_mode=WAL")  # a page without a table
    assert refused(root)[0] == "IndexMissing"


def test_fault_44_the_trash_alone_needs_its_index(root):
    with ContentStore(root) as store:
        store.delete(HASH, force=True)
    shutil.rmtree(root / "assets")
    database(root).unlink()
    assert refused(root)[0] == "IndexMissing"


def test_fault_44_a_store_killed_between_marker_and_index_opens(tmp_path):
    ContentStore(tmp_path).close()
    database(tmp_path).unlink()
    with ContentStore(tmp_path) as store:
        assert store.put(POSTER).created


@pytest.mark.parametrize(
    "content", [b"my notes\n" * 100, b"SQLite format 3\0" + b"\xff" * 8000], ids=["notes", "damage"]
)
def test_fault_44_what_is_no_index_is_left_as_it_is(root, content):
    database(root).write_bytes(content)
    name, said = refused(root)
    assert name == "IndexCorrupt" and "rebuild_index" in said
    assert database(root).read_bytes() == content


def test_fault_44_damage_that_is_found_later_names_the_remedy_too(root):
    with ContentStore(root) as store:
        for number in range(200):
            store.add_source(HASH, f"https://example.org/{'x' * 500}/{number}")
    ((pages, size),) = query(database(root), "SELECT page_count, page_size FROM pragma_page_count, pragma_page_size")
    schema = {page for (page,) in query(database(root), "SELECT rootpage FROM sqlite_master")}
    with database(root).open("r+b") as file:
        for page in set(range(2, pages + 1)) - schema:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)
    with ContentStore(root) as store:
        for use in (lambda: store.sources(HASH), lambda: store.add_source(HASH, "https://example.org/new")):
            with pytest.raises(CorruptDatabase, match="rebuild_index"):
                use()


def test_fault_44_the_index_of_another_store_is_refused(root, tmp_path):
    ContentStore(tmp_path / "other").close()
    shutil.copy(database(tmp_path / "other"), database(root))
    name, said = refused(root)
    assert name == "IndexCorrupt" and "another store" in said


def test_fault_25_a_marker_of_another_store_does_not_get_this_index(root, tmp_path):
    ContentStore(tmp_path / "other").close()
    marker = os.path.join(".store", "format.json")
    with ContentStore(root) as store:
        os.replace(tmp_path / "other" / marker, root / marker)
        with pytest.raises(StoreUnavailable):
            store.put(b"another")
        with pytest.raises(StoreUnavailable):
            store.add_reference(HASH, "movie:2")
        assert refused(root)[0] == "IndexCorrupt"  # the second store
        assert [reference.owner for reference in store.references(HASH)] == ["movie:1"]


@pytest.mark.parametrize("swap", [True, False], ids=["another file", "nothing"])
def test_fault_44_an_index_that_was_replaced_takes_nothing_more(root, tmp_path, swap):
    shutil.copy(database(root), tmp_path / "backup.db")
    with ContentStore(root) as store:
        database(root).rename(tmp_path / "old.db")
        if swap:
            shutil.copy(tmp_path / "backup.db", database(root))
        uses = [lambda: store.put(b"another"), lambda: store.add_reference(HASH, "movie:2"), lambda: store.delete(HASH)]
        for use in (*uses, lambda: store.remove_reference(HASH, "movie:1")):
            with pytest.raises(StoreUnavailable):
                use()
    assert query(tmp_path / "old.db", "SELECT owner FROM object_references") == [("movie:1",)]


def test_many_processes_make_and_fill_a_store_at_once(tmp_path, program):
    "The one that comes late must not take the others' objects for those of a lost index"
    said = program(
        """
        import sys
        from together import in_processes
        from cjm_media_storage.storage import ContentStore

        def work(n, root):
            with ContentStore(root) as store:
                return store.put(b"%d" % n).created

        print([in_processes(6, work, f"{sys.argv[1]}/{round}") for round in range(8)].count([True] * 6))
        """,
        tmp_path,
    )
    assert said == "8"


@pytest.mark.parametrize("begun", [False, True], ids=["no file", "a file without tables"])
def test_an_index_that_is_made_while_it_is_looked_for_is_not_missing(tmp_path, monkeypatch, begun):
    ContentStore(tmp_path).close()
    database(tmp_path).unlink()
    if begun:
        with closing(sqlite3.connect(database(tmp_path))) as con:
            con.execute("PRAGMA journal_mode=WAL")

    def meanwhile(root):
        monkeypatch.undo()
        with ContentStore(root) as other:
            other.put(POSTER)
        return holds_objects(root)

    monkeypatch.setattr("cjm_media_storage.guarding.holds_objects", meanwhile)
    with ContentStore(tmp_path) as store:
        assert store.read(HASH) == POSTER


def test_reading_sees_one_moment(tmp_path):
    path = tmp_path / "index.db"
    with closing(IndexDatabase(path)) as reader, closing(IndexDatabase(path)) as writer:
        with reader.reading() as con:
            assert con.execute("SELECT count(*) FROM meta").fetchone() == (0,)
            writer.execute("INSERT INTO meta VALUES ('a', 'b')")
            assert con.execute("SELECT count(*) FROM meta").fetchone() == (0,)
        assert reader.fetch("SELECT * FROM meta") == [("a", "b")]


@pytest.fixture
def reader(open_folder):
    "A store that its user may only read, and has read"
    if os.geteuid():
        pytest.skip("only root can be two users")
    with ContentStore(open_folder / "store") as store:
        store.put(POSTER)
    with unprivileged():
        reader = ContentStore(open_folder / "store")
        assert len(reader) == 1
        yield reader
        reader.close()


def put_much(reader):
    "Write to the store, as its owner"
    os.seteuid(0)
    with ContentStore(reader.root) as store:
        list(store.put_many(b"%d" % number for number in range(300)))
    os.seteuid(NOBODY)


def test_fault_41_who_only_reads_takes_a_snapshot_of_today(reader, open_folder):
    put_much(reader)
    path = snapshot(reader, open_folder / "mine.jsonl")
    assert sum(fact["kind"] == "object" for fact in read_snapshot(path)) == 301


@pytest.mark.parametrize("look", [len, lambda reader: None], ids=["noticed", "unnoticed"])
def test_fault_41_no_snapshot_is_taken_of_an_index_that_changes_meanwhile(reader, open_folder, look, monkeypatch):
    def facts(con):
        put_much(reader)
        look(reader)
        return facts_of(con)

    monkeypatch.setattr("cjm_media_storage.snapshots.facts_of", facts)
    with pytest.raises(StoreBusy):
        snapshot(reader, open_folder / "mine.jsonl")
    assert os.listdir(open_folder) == ["store"]


def test_what_is_wrong_with_another_file_is_not_blamed_on_the_index(root):
    with ContentStore(root) as store, pytest.raises(CorruptDatabase) as caught, store._index.database.transaction():
        raise CorruptDatabase("memo.db", "it is a folder")
    assert caught.type is CorruptDatabase


def test_a_cache_whose_store_was_moved_can_be_closed(root, tmp_path):
    with ContentStore(root, quota=1000) as cache:
        assert cache.read(HASH) == POSTER  # a use, which is written down at the end
        root.rename(tmp_path / "moved")
