"What an old index still tells, and another one in its place."

import contextlib
import logging
import os
import sqlite3

import pytest

from cjm_media_storage.files import DISK, Disk
from cjm_media_storage.replacing import finish_last, frozen, install_index, old_facts
from cjm_media_storage.storage import ContentStore, StoreBusy


@pytest.fixture
def store(tmp_path):
    "A closed store that has one object, with a source"
    with ContentStore(tmp_path / "store") as store:
        store.put(b"a poster", source="https://example.org/a.jpg")
    return store


@pytest.fixture
def own(store):
    return store.root / ".store"


def change(path, sql):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as con:
        con.execute(sql)


def test_nobody_writes_in_the_block_and_everybody_after_it(own):
    with contextlib.closing(sqlite3.connect(own / "index.db", timeout=0)) as con:
        with frozen(own), pytest.raises(sqlite3.OperationalError, match="locked"):
            con.execute("DELETE FROM sources")
        con.execute("DELETE FROM sources")


def test_who_writes_already_stops_it(own, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.replacing.LOCK_TIMEOUT", 0.0)
    with contextlib.closing(sqlite3.connect(own / "index.db", isolation_level=None)) as con:
        con.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy), frozen(own):
            pass
        con.execute("ROLLBACK")


@pytest.mark.parametrize("damage", ["gone", "no database", "empty"])
def test_an_index_that_cannot_be_read_stops_nothing_and_tells_nothing(own, store, damage):
    (own / "index.db").unlink()
    if damage != "gone":
        (own / "index.db").write_bytes(b"no database" * 100 if damage == "no database" else b"")
    before = sorted(os.listdir(own))
    with frozen(own), old_facts(own, store.id, DISK) as facts:
        assert list(facts or ()) == []
    assert sorted(os.listdir(own)) == before


def test_it_is_read_without_a_change_and_no_copy_is_left(own, store):
    before = (own / "index.db").read_bytes()
    with old_facts(own, store.id, DISK) as facts:
        assert "source" in [fact["kind"] for fact in facts]
    assert (own / "index.db").read_bytes() == before
    assert [name for name in os.listdir(own) if "part" in name] == []


def test_the_index_of_another_store_is_not_believed(own):
    with old_facts(own, "another", DISK) as facts:
        assert facts is None


def test_what_no_store_has_written_is_left_out_and_counted(own, store, caplog):
    change(own / "index.db", "UPDATE sources SET first_seen = 'yesterday'")
    with caplog.at_level(logging.WARNING), old_facts(own, store.id, DISK) as facts:
        assert "source" not in [fact["kind"] for fact in facts]
    assert "1 rows of the old index" in caplog.text


@pytest.mark.parametrize("disk", [Disk(), Disk(hardlink=False)], ids=["links", "no links"])
def test_the_old_files_are_kept_as_they_were(own, disk):
    (own / "index.db-wal").write_bytes(b"its log")
    (own / "index.db.part").write_bytes(b"a new index")
    old = (own / "index.db").read_bytes()
    kept = install_index(own / "index.db.part", own, disk)
    assert (own / "index.db").read_bytes() == b"a new index"
    assert {name: (kept / name).read_bytes() for name in os.listdir(kept)} == {
        "index.db": old,
        "index.db-wal": b"its log",
    }
    assert not (own / "index.db-wal").exists() and not (own / "index.db.part").exists()


def test_where_there_was_none_nothing_is_kept(own):
    os.rename(own / "index.db", own / "index.db.part")
    assert install_index(own / "index.db.part", own, DISK) is None


@pytest.mark.parametrize("rebuilt, meanwhile", [(True, False), (True, True), (False, False)])
def test_what_was_cut_short_is_finished_if_it_is_complete_and_none_has_come(own, rebuilt, meanwhile):
    if rebuilt:
        change(own / "index.db", "INSERT INTO meta (key, value) VALUES ('rebuilt_at', 'now')")
    os.rename(own / "index.db", own / "index.db.part")
    if meanwhile:
        (own / "index.db").write_bytes(b"another")
    finish_last(own, DISK)
    assert (own / "index.db.part").exists() == (meanwhile or not rebuilt)
    if meanwhile:
        assert (own / "index.db").read_bytes() == b"another"
