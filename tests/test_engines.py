"What each engine promises: the rows of the table in the notebook that no other test tries."

import sys

import pytest
from results import KINDS, A, B, analysis_row, processing_row

from cjm_media_storage.engines import open_database
from cjm_media_storage.errors import InvalidRecord, MissingExtra, NotOnServer, StoreBusy, UnsupportedFormat
from cjm_media_storage.importing import import_results
from cjm_media_storage.lineage import Lineage
from cjm_media_storage.storage import MediaAnalysisStorage

WORDS = "CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT UNIQUE, at REAL)"


def open_words(address, version=1, timeout=30.0):
    def plan(con):
        return [] if list(con.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'")) else [WORDS]

    return open_database(address, plan, lambda found: [] if found else [WORDS], version, "words", timeout=timeout)


WORD = "INSERT INTO words (word) VALUES (?)"


@pytest.fixture
def words(address):
    words = open_words(address)
    yield words
    words.close()


def add(words, *all_):
    words.run(lambda con: con.executemany("INSERT INTO words (word) VALUES (?)", [[word] for word in all_]))


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "cjm_media_storage.postgres", raising=False)
    monkeypatch.delitem(sys.modules, "cjm_media_storage.servers", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'cjm-media-storage\[postgres\]'"):
        MediaAnalysisStorage("postgresql://db/media")


def test_a_file_does_not_load_what_servers_need(program, path):
    text = """
        import sys
        from cjm_media_storage.storage import MediaAnalysisStorage
        with MediaAnalysisStorage(sys.argv[1]) as storage:
            len(storage)
        print(*sorted({"psycopg", "cjm_media_storage.postgres"} & set(sys.modules)))
    """
    assert program(text, path) == ""


@pytest.mark.parametrize("count", [0, 1, 329, 330, 331, 1000])
def test_any_number_of_rows_is_inserted(words, count):
    sql = "INSERT INTO words (id, word, at) VALUES … ON CONFLICT (word) DO NOTHING"
    rows = [(n, f"word {n}", n / 2) for n in range(1, count + 1)]
    with words.transaction() as con:
        assert words.insert(con, sql, rows) == count
        assert (
            words.insert(con, sql, [*rows, (count + 1, "new", 0.0)]) == 1
        )  # of those that are there, nothing is written
    assert words.fetch("SELECT id, word, at FROM words ORDER BY id") == [*rows, (count + 1, "new", 0.0)]


def test_text_is_ordered_by_its_bytes(words):
    some = ["b", "B", "a", "é", "z", "_", "sha256:9", "sha256:a", "sha256-a"]
    add(words, *some)
    assert [word for (word,) in words.fetch("SELECT word FROM words ORDER BY word")] == sorted(some)
    assert words.fetch("SELECT count(*) FROM words WHERE word >= ? AND word < ?", ("sha256:", "sha256:g")) == [(2,)]


def test_times_keep_all_their_digits(words):
    at = 1795220716.9074676
    words.execute("INSERT INTO words (word, at) VALUES (?, ?)", ("now", at))
    assert words.fetch("SELECT at FROM words WHERE at = ?", (at,)) == [(at,)]


def test_a_whole_sum_is_a_whole_number(words):
    add(words, "a", "b")
    [(total, largest)] = words.fetch("SELECT sum(id), max(id) FROM words")
    assert (type(total), type(largest)) == (int, int)


def test_a_name_with_a_nul_is_saved_by_nobody_and_found_by_nobody(kind, address):
    row = kind.row(**{kind.paths[0]: "/media/a\0b.wav"})
    with kind.storage(address) as storage:
        with pytest.raises(InvalidRecord):
            storage.save(**kind.arguments(row))
        assert kind.get(storage, row) is None and kind.verify(storage, row) is None and kind.delete(storage, row) == 0
        assert kind.find(storage, kind.row(config_hash="a\0b")) is None and len(storage) == 0


@pytest.mark.parametrize(
    "value", ["50% ?", "'quoted'", ":name", "\\", "%s", "\x10b00", "\x10", "a\nb", "a\0b", "\x10n6100", "\U0001f3ac"]
)
def test_any_text_comes_back(words, value):
    add(words, value)
    assert words.fetch("SELECT word, 'what? 5% %s :x' FROM words WHERE word = ?", (value,)) == [
        (value, "what? 5% %s :x")
    ]
    assert words.fetch("SELECT word FROM words WHERE word IN (?, ?)", (value, "other")) == [(value,)]


@pytest.mark.parametrize("value", [b"", b"\xff", b"\x10b", b"a", bytes(range(1, 256))])
def test_bytes_come_back_as_bytes(words, value):
    add(words, value)
    assert words.fetch("SELECT word FROM words WHERE word = ?", (value,)) == [(value,)]
    assert words.fetch("SELECT 1 FROM words WHERE word = ?", (value.decode("latin-1") or "none",)) == []


@pytest.mark.parametrize("value", ["\ud800", 1 << 70], ids=repr)
def test_what_no_column_can_hold(words, value):
    with pytest.raises(InvalidRecord):
        words.execute("INSERT INTO words (id) VALUES (?)" if isinstance(value, int) else WORD, (value,))
    assert words.fetch("SELECT count(*) FROM words") == [(0,)]


def test_a_block_in_a_block_is_part_of_it(words):
    with pytest.raises(KeyError), words.transaction():
        add(words, "outer")
        with words.transaction() as con:
            con.execute(WORD, ("inner",))
            assert words.fetch("SELECT count(*) FROM words") == [(2,)]
        raise KeyError
    assert words.fetch("SELECT count(*) FROM words") == [(0,)]


def test_tables_of_a_newer_program_are_refused(address):
    open_words(address, version=9).close()
    with pytest.raises(UnsupportedFormat, match="has format 9"):
        open_words(address)


def test_fault_46_a_writer_that_waits_too_long(address, words):
    other = open_words(address, timeout=0.05)
    with words.transaction() as con:
        con.execute(WORD, ("mine",))
        with pytest.raises(StoreBusy):
            add(other, "theirs")
        assert other.fetch("SELECT count(*) FROM words") == [(0,)]  # a reader does not wait
    add(other, "theirs")
    assert words.fetch("SELECT count(*) FROM words") == [(2,)]
    other.close()


def test_a_path_has_no_end_in_a_file_and_one_on_a_server(address):
    "https://www.postgresql.org/docs/current/btree.html: a third of a page"
    import random

    text = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000))
    with MediaAnalysisStorage(address) as storage:
        storage.save(text[:2500], A, B)
        if isinstance(address, str):
            with pytest.raises(InvalidRecord):
                storage.save(text, A, B)
        else:
            storage.save(text, A, B)
        assert storage.get_cached(text[:2500], B)


def test_lineage_and_imports_need_files(url, path, kind):
    with kind.storage(url) as storage, pytest.raises(NotOnServer, match="needs a file"):
        Lineage(storage)
    with kind.storage(path) as storage:
        storage.save(**kind.arguments(kind.row()))
    with pytest.raises(NotOnServer, match="needs a file"):
        import_results([path], url)


def test_results_move_to_a_server_and_back_with_their_times(url, path):
    rows = {"analysis": [analysis_row(n, created_at=float(n)) for n in range(3)]}
    rows["processing"] = [processing_row(n, created_at=float(n)) for n in range(3)]
    for name, kind in KINDS.items():
        with kind.storage(path) as old, kind.storage(url) as new:
            old.save_many(rows[name])
            new.save_many(old)
            assert list(new) == list(old) == rows[name]
