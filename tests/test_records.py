"What both result storages promise: what comes back is what went in, garbage is refused, and nobody loses a row."

import json
import logging
import math
import os
import pickle
import sqlite3
import tempfile
import tracemalloc
from contextlib import closing
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from old import First
from on_disk import held_by, query, unprivileged
from results import A, D, analysis_row, processing_row
from together import in_threads

from cjm_media_storage import records
from cjm_media_storage.analysis import MediaAnalysisStorage
from cjm_media_storage.errors import CorruptDatabase, InvalidHash, InvalidRecord, ReadOnlyStore, StoreClosed
from cjm_media_storage.hashing import hash_file
from cjm_media_storage.processing import MediaProcessingStorage
from cjm_media_storage.records import from_json, from_path, to_json, to_path


@pytest.fixture
def storage(kind, address):
    with kind.storage(address) as storage:
        yield storage


@pytest.fixture
def on_file(kind, path):
    with kind.storage(path) as storage:
        yield storage


def save(kind, storage, row):
    storage.save(**kind.arguments(row))


def plain(row):
    "A row without its time"
    return {name: value for name, value in vars(row).items() if name != "created_at"}


# ---- values


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers()


def joins(text):
    "Has `text` two surrogates that JSON would join to one character?"
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") != text


texts = st.text(st.characters(exclude_categories=())).filter(lambda text: not joins(text))  # lone surrogates, too
items = st.none() | st.booleans() | numbers | texts
nested = st.recursive(
    items, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5), max_leaves=20
)


@pytest.fixture(params=["in C", "another one in C", "none in C", "not even its name"])
def encode(request, monkeypatch):
    if request.param != "in C":
        found = SimpleNamespace(encode_basestring_ascii=json.encoder.encode_basestring_ascii)
        if request.param != "not even its name":
            found.c_make_encoder = None if request.param == "none in C" else lambda markers: None
        monkeypatch.setattr(records, "json", SimpleNamespace(JSONEncoder=json.JSONEncoder, encoder=found))
    return records._encoder()


@pytest.mark.parametrize(
    "value", [{"b": [1, None, True, 0.5, -0.0, 2**70], "a": {"é\ud800": ""}, "": []}, [], {}, [{}]]
)
def test_json_is_written_as_python_writes_it(encode, value):
    assert encode(value) == json.dumps(value)


@pytest.mark.parametrize(
    "value, error", [([math.nan], ValueError), ({"at": datetime(2026, 1, 1)}, TypeError), ({(1, 2): 3}, TypeError)]
)
def test_what_is_no_json_is_refused_by_every_encoder(encode, value, error):
    with pytest.raises(error):
        encode(value)


@given(value=st.none() | st.dictionaries(texts, nested, max_size=5))
@example({})
@example({"film": "\ude00\ud83d \ud800 \0 Amélie"})
@example({"size": 2**200, "level": -0.0})
def test_json_comes_back_as_it_went_in(value):
    back = from_json(to_json(value, "metadata", (dict,)))
    assert back == value and repr(back) == repr(value)


@pytest.mark.parametrize("empty", [None, {}], ids=repr)
def test_none_and_empty_are_two_things(kind, storage, empty):
    save(kind, storage, kind.row(metadata=empty))
    assert kind.get(storage, kind.row()).metadata == empty
    assert (kind.get(storage, kind.row()).metadata is None) == (empty is None)


def test_json_in_the_file_is_plain(kind, path):
    with kind.storage(path) as storage:
        save(kind, storage, kind.row(metadata={"title": "Amélie", "level": 0.5, "none": None}))
    [(text, sql_type)] = query(path, f"SELECT metadata, typeof(metadata) FROM {kind.table}")
    assert (json.loads(text), sql_type) == ({"title": "Amélie", "level": 0.5, "none": None}, "text")
    assert query(path, f"SELECT json_extract(metadata, '$.title') FROM {kind.table}") == [("Amélie",)]


@pytest.mark.parametrize("text", [" [1]\n", "\t{}", "7", '"a"', "null", "[1", "[x]", "[1] 2", "{", " "])
def test_json_of_other_programs_is_read_as_it_is_anywhere(text):
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            from_json(text)
    else:
        assert from_json(text) == expected


@pytest.mark.parametrize("old", [None, ""], ids=repr)
def test_null_and_empty_text_of_older_programs_are_none(kind, on_file, path, old):
    save(kind, on_file, kind.row(metadata={"a": 1}))
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(f"UPDATE {kind.table} SET metadata = ?", (old,))
    assert kind.get(on_file, kind.row()).metadata is None


def test_json_that_another_program_wrote_as_bytes_is_read(kind, on_file, path):
    save(kind, on_file, kind.row())
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(f"UPDATE {kind.table} SET metadata = ?", (b'{"a": 1}',))
    assert kind.get(on_file, kind.row()).metadata == {"a": 1}


class Label(Enum):
    SPEECH = "speech"


def cycle():
    value = {}
    value["again"] = [value]
    return value


def deep(depth):
    value = {}
    for _ in range(depth):
        value = {"in": value}
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"frames": [{"level": math.nan}]}, r"metadata\['frames'\]\[0\]\['level'\]: nan is not a number"),
        ({"level": -math.inf}, "-inf is not a number"),
        ({"level": math.inf}, "metadata.*: inf is not a number"),
        ({"level": 0.5, "poster": b"\xff\xd8"}, r"metadata\['poster'\]: bytes is not JSON"),
        ({"made": datetime(2024, 5, 1)}, "datetime is not JSON"),
        ({"path": Path("film.mkv")}, "Path is not JSON"),
        ({"label": Label.SPEECH}, "Label is not JSON"),
        ({"tags": {"a", "b"}}, "set is not JSON"),
        ({(1, 2): "pair"}, "a key cannot be tuple"),
        (cycle(), "it contains itself"),
        (deep(100_000), "nested too deep"),
        ({"big": 10**5000}, "metadata"),
        ("text", "it is str, not dict"),
        ([("a", 1)], "it is list, not dict"),
        (b"{}", "it is bytes, not dict"),
    ],
    ids=[
        "nan",
        "-inf",
        "inf",
        "bytes",
        "datetime",
        "Path",
        "Enum",
        "set",
        "key",
        "cycle",
        "deep",
        "big",
        "str",
        "list",
        "raw",
    ],
)
def test_fault_51_metadata_that_json_cannot_say(kind, storage, value, reason):
    save(kind, storage, kind.row())
    with pytest.raises(InvalidRecord, match=reason):
        save(kind, storage, kind.row(1, metadata=value))
    assert [plain(row) for row in storage] == [plain(kind.row())]


def test_fault_51_documented_conversions(kind, storage):
    class Title(str):
        pass

    class Genre(str, Enum):  # noqa: UP042  # what callers of Python 3.10 have
        FILM = "film"

    save(kind, storage, kind.row(metadata={1: (1, 2), None: Title("a"), "kind": Genre.FILM, "half": "\ud800"}))
    wanted = {"1": [1, 2], "null": "a", "kind": "film", "half": "\ud800"}
    assert kind.get(storage, kind.row()).metadata == wanted


def test_fault_51_a_hundred_megabytes(kind):
    text = "x" * 100_000_000
    with kind.storage(":memory:") as storage:
        save(kind, storage, kind.row(metadata={"text": text}))
        assert kind.get(storage, kind.row()).metadata["text"] == text


# ---- hashes


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "garbage",
        "sha256:",
        "sha256:" + "A" * 64,
        "sha256:g" + "a" * 63,
        "sha257:" + "a" * 64,
        "sha256:" + "a" * 65,
        None,
        b"",
        7,
    ],
)
def test_fault_58_garbage_hash_is_refused_before_a_write(kind, storage, wrong):
    for name in kind.hashes:
        if (kind.name, name, wrong) == ("processing", "config_hash", ""):
            continue  # a job without one is history
        with pytest.raises(InvalidHash):
            save(kind, storage, kind.row(**{name: wrong}))
        with pytest.raises(InvalidHash):
            storage.save_many([kind.row(), kind.row(1, **{name: wrong})])
    assert len(storage) == 0


def test_fault_58_garbage_of_an_older_program_stays_readable(kind, on_file, path, tmp_path):
    film = tmp_path / "film.mkv"
    film.write_bytes(b"a film")
    row = kind.row(**{kind.paths[0]: str(film)})
    save(kind, on_file, row)
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(f"UPDATE {kind.table} SET {kind.hashes[0]} = 'abc'")
    [found] = on_file.list_jobs()
    assert getattr(found, kind.hashes[0]) == "abc"
    assert list(on_file) == [found]
    assert kind.verify(on_file, row) is False


# ---- paths


@pytest.mark.parametrize(
    "value",
    [
        Path("/media/a film.mkv"),
        "relative/film.mkv",
        "./film.mkv",
        os.fsdecode(b"/media/caf\xe9.mp3"),
        "/media/cafe\u0301.mp3",
        "-rf 'quoted' \"twice\"\nnew line.mp3",
        "C:\\films\\a.mkv",
        "https://example.org/a.mp3",
    ],
    ids=repr,
)
def test_fault_59_path_comes_back_as_written(kind, storage, value):
    row = kind.row(**dict.fromkeys(kind.paths, value))
    save(kind, storage, row)
    save(kind, storage, row)
    for found in (kind.get(storage, row), storage.list_jobs()[0], next(iter(storage))):
        assert {getattr(found, name) for name in kind.paths} == {os.fspath(value)}
    assert len(storage) == 1


def test_fault_59_file_whose_name_is_no_text(kind, storage, tmp_path):
    film = os.path.join(os.fsencode(tmp_path), b"caf\xe9.mkv")
    Path(os.fsdecode(film)).write_bytes(b"a film")
    row = kind.row(**{kind.paths[0]: os.fsdecode(film), kind.hashes[0]: hash_file(film)})
    save(kind, storage, row)
    assert kind.verify(storage, row) is True
    assert kind.delete(storage, row) == 1


@given(raw=st.binary(min_size=1).filter(lambda raw: b"\0" not in raw))
def test_fault_59_any_name_of_linux(raw):
    path = os.fsdecode(raw)
    assert from_path(to_path(path, "file_path")) == path


@pytest.mark.parametrize("wrong", ["", "a\0b", None, 7, "\ud800"], ids=repr)
def test_path_that_is_none_is_refused(kind, storage, wrong):
    for name in kind.paths:
        with pytest.raises(InvalidRecord, match=f"{name}: .* is not a path"):
            save(kind, storage, kind.row(**{name: wrong}))
    assert len(storage) == 0


# ---- rows


def test_ids_are_stable_and_the_rest_is_new(kind, storage):
    for n in range(3):
        save(kind, storage, kind.row(n))
    ids = f"SELECT id, {kind.paths[0]} FROM {kind.table} ORDER BY id"
    before = storage._database.fetch(ids)
    save(kind, storage, kind.row(1, metadata={"second": True}))
    assert storage._database.fetch(ids) == before
    assert kind.get(storage, kind.row(1)).metadata == {"second": True}


def test_list_is_newest_first(kind, storage):
    storage.save_many(kind.row(n, created_at=float(n // 2)) for n in range(6))  # each time twice: the later id is newer
    wanted = [getattr(kind.row(n), kind.paths[0]) for n in (5, 4, 3, 2, 1, 0)]
    assert [getattr(row, kind.paths[0]) for row in storage.list_jobs()] == wanted
    assert [getattr(row, kind.paths[0]) for row in storage.list_jobs(limit=2)] == wanted[:2]
    assert len(storage.list_jobs(0)) == 0 and len(storage.list_jobs(-1)) == 6


def test_list_holds_a_hundred_unless_told(kind, storage):
    storage.save_many(kind.row(n) for n in range(150))
    assert len(storage.list_jobs()) == 100 and len(storage) == 150


def test_list_uses_an_index(kind, on_file, path):
    sql = f"EXPLAIN QUERY PLAN SELECT * FROM {kind.table} ORDER BY created_at DESC, id DESC LIMIT 100"
    assert not any("TEMP B-TREE" in row[-1] for row in query(path, sql))


def test_save_many_saves_all_or_nothing(kind, storage):
    assert storage.save_many([]) == 0
    assert storage.save_many(kind.row(n) for n in range(3)) == 3
    for wrong in (
        kind.row(4, metadata={"a": math.nan}),
        kind.row(4, created_at=math.nan),
        kind.row(4, created_at="now"),
    ):
        with pytest.raises(InvalidRecord):
            storage.save_many([kind.row(3), wrong])
    assert [plain(row) for row in storage] == [plain(kind.row(n)) for n in range(3)]


def test_what_has_the_fields_of_a_row_is_one(kind, storage):
    fields = vars(kind.row())
    assert storage.save_many([SimpleNamespace(**fields)]) == 1 and plain(*storage) == plain(kind.row())
    fields.pop("metadata")
    for wrong, told in ((SimpleNamespace(**fields), "has no metadata"), (("a", "tuple"), "tuple: it is no row")):
        with pytest.raises(InvalidRecord, match=told):
            storage.save_many([kind.row(1), wrong])
    assert len(list(storage)) == 1


def test_save_many_saves_nothing_where_the_database_refuses_one_of_them(kind, on_file, path):
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON {kind.table} WHEN NEW.{kind.paths[0]} = '/media/1.wav' "
            "BEGIN SELECT RAISE(ABORT, 'somebody else will have none of it'); END"
        )
    with pytest.raises(CorruptDatabase, match="will have none of it"):
        on_file.save_many(kind.row(n) for n in range(2))
    assert len(on_file) == 0


def test_save_many_keeps_a_time_that_is_set(kind, storage):
    storage.save_many([kind.row(0, created_at=7), kind.row(1)])
    first, second = storage
    assert first.created_at == 7.0 and second.created_at > 1e9


def test_rows_that_name_a_hash_are_found_by_how_it_begins(kind, storage):
    storage.save_many(kind.row(n, created_at=float(n // 2)) for n in range(4))
    storage.save_many([kind.row(4, created_at=9.0, **{kind.hashes[0]: D})])
    assert [storage.mentions(hash) for hash in (A, D, "sha256:" + "e" * 64)] == [True, True, False]
    assert [plain(row) for row in storage.naming("sha256:aaa")] == [plain(kind.row(n)) for n in (3, 2, 1, 0)]
    assert [getattr(row, kind.hashes[0]) for row in storage.naming(D)] == [D]
    assert storage.naming("sha256:e") == []


@pytest.mark.parametrize("spoiled", ["{", 7, "[" * 100_000], ids=["cut", "number", "deep"])
def test_a_row_that_another_program_spoiled_is_told(kind, on_file, path, spoiled):
    save(kind, on_file, kind.row())
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(f"UPDATE {kind.table} SET metadata = ?", (spoiled,))
    for read in (
        lambda: kind.get(on_file, kind.row()),
        lambda: kind.find(on_file, kind.row()),
        lambda: on_file.naming("sha256:a"),
        lambda: on_file.list_jobs(),
        lambda: list(on_file),
    ):
        with pytest.raises(CorruptDatabase, match=f"a row of {kind.table} cannot be read"):
            read()


def test_it_shows_what_is_new(kind, on_file, path):
    on_file.save_many(kind.row(n) for n in range(8))
    facts = on_file._facts_()
    assert (facts["file"], facts["rows"], len(facts["newest"])) == (str(path), 8, 5)
    assert str(path) in repr(on_file)


def test_find_by_content(kind, storage):
    path = kind.paths[0]
    storage.save_many(kind.row(n, created_at=n, **{path: f"/moved/{n}.wav"}) for n in range(3))
    assert getattr(kind.find(storage, kind.row()), path) == "/moved/2.wav"
    storage.save_many([kind.row(3, created_at=2, **{path: "/moved/later.wav"})])
    assert getattr(kind.find(storage, kind.row()), path) == "/moved/later.wav"  # of the same time, the later id
    assert kind.find(storage, kind.row(**{kind.hashes[0]: D})) is None
    assert kind.find(storage, kind.row(config_hash=D)) is None


def test_iteration_takes_constant_memory_while_rows_come(kind, storage):
    storage.save_many(kind.row(n, metadata={"text": f"{n}" * 1000}) for n in range(6000))
    rows, seen, most = iter(storage), 0, 0
    tracemalloc.start()
    for _ in rows:
        seen += 1
        if seen % 1000 == 1:
            save(kind, storage, kind.row(6000 + seen))
            most = max(most, tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert seen == 6000 + 6 or seen == 6000 + 7
    assert most < 12e6 < 6000 * 4000


def test_delete(kind, storage):
    storage.save_many(kind.row(n) for n in range(3))
    assert kind.delete(storage, kind.row(1)) == 1
    assert kind.delete(storage, kind.row(1)) == 0
    assert [plain(row) for row in storage] == [plain(kind.row(0)), plain(kind.row(2))]


def test_empty_storage_is_true(kind, storage):
    assert storage and len(storage) == 0 and list(storage) == storage.list_jobs() == []
    assert kind.get(storage, kind.row()) is None


# ---- saving with a log


def test_save_with_logging(kind, storage, caplog):
    logger = logging.getLogger("plugin")
    with caplog.at_level(logging.INFO):
        assert storage.save_with_logging(**kind.arguments(kind.row()), logger=logger) is True
        assert storage.save_with_logging(**kind.arguments(kind.row(1))) is True
    assert "Saved" in caplog.text and len(storage) == 2


def test_save_with_logging_never_raises(kind, storage, caplog):
    logger = logging.getLogger("plugin")
    wrong = [
        kind.row(metadata=cycle()),
        kind.row(metadata=deep(100_000)),
        kind.row(**{kind.hashes[0]: None}),
        kind.row(**{kind.paths[0]: object()}),
    ]
    for row in wrong:
        assert storage.save_with_logging(**kind.arguments(row), logger=logger) is False
        assert storage.save_with_logging(**kind.arguments(row)) is False
    assert caplog.text.count("Failed to save") == len(wrong)
    assert len(storage) == 0
    storage.close()
    assert storage.save_with_logging(**kind.arguments(kind.row())) is False


# ---- verifying


def test_verify(kind, storage, tmp_path):
    film = tmp_path / "film.mkv"
    film.write_bytes(b"a film")
    row = kind.row(**{kind.paths[0]: film, kind.hashes[0]: hash_file(film)})
    assert kind.verify(storage, row) is None
    save(kind, storage, row)
    assert kind.verify(storage, row) is True
    film.write_bytes(b"a cut!")
    assert kind.verify(storage, row) is False


@pytest.mark.parametrize("algo", ["md5", "sha3_256", "blake2b"])
def test_verify_by_the_algorithm_that_is_stored(kind, storage, tmp_path, algo):
    film = tmp_path / "film.mkv"
    film.write_bytes(b"a film")
    row = kind.row(**{kind.paths[0]: film, kind.hashes[0]: hash_file(film, algo)})
    save(kind, storage, row)
    assert kind.verify(storage, row) is True


def test_fault_62_verify_of_a_file_that_is_gone(kind, storage, tmp_path):
    row = kind.row(**{kind.paths[0]: tmp_path / "gone.mkv"})
    save(kind, storage, row)
    with pytest.raises(FileNotFoundError):
        kind.verify(storage, row)


def test_fault_62_verify_of_a_path_that_no_file_can_have(kind, on_file, path, tmp_path):
    save(kind, on_file, kind.row())
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(f"UPDATE {kind.table} SET {kind.paths[0]} = 'a' || char(0) || 'b'")
    (row,) = on_file
    with pytest.raises(FileNotFoundError):
        kind.verify(on_file, row)


def test_fault_62_verify_of_an_unreadable_file(kind, open_folder):
    film = open_folder / "film.mkv"
    film.write_bytes(b"a film")
    film.chmod(0)
    row = kind.row(**{kind.paths[0]: film})
    with kind.storage(":memory:") as storage, unprivileged():
        save(kind, storage, row)
        with pytest.raises(PermissionError, match=r"film\.mkv"):
            kind.verify(storage, row)


# ---- files, threads and processes


def test_missing_folders_are_made(kind, tmp_path):
    with kind.storage(tmp_path / "a" / "b" / "results.db") as storage:
        save(kind, storage, kind.row())
    assert os.listdir(tmp_path / "a" / "b") == ["results.db"]


def test_an_empty_file_is_a_new_database(kind, path):
    path.touch()
    with kind.storage(str(path)) as storage:
        save(kind, storage, kind.row())
        assert storage.db_path == str(path)


def test_a_file_is_of_the_version_that_the_programs_of_today_open(kind, on_file, path):
    "They refuse a higher one, so it changes with the tables alone"
    assert query(path, "PRAGMA user_version") == [(1,)]


def test_no_database_is_refused(kind, path):
    path.write_bytes(b"a letter to somebody. " * 1000)
    with pytest.raises(CorruptDatabase):
        kind.storage(path)
    assert path.read_bytes() == b"a letter to somebody. " * 1000


def test_memory_from_several_threads(kind):
    with kind.storage(":memory:") as storage:
        in_threads(8, lambda n: save(kind, storage, kind.row(n)))
        assert len(storage) == 8
    assert not os.path.exists(":memory:")


def test_two_storages_on_one_file(path):
    with MediaAnalysisStorage(path) as analysis, MediaProcessingStorage(path) as processing:
        for n in range(5):
            analysis.save_many([analysis_row(n)])
            processing.save_many([processing_row(n)])
        assert len(analysis) == len(processing) == 5
    assert not list(path.parent.glob("*.backup"))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_fault_60_eight_processes_open_a_fresh_database_and_save(kind, address, tmp_path, program, method):
    program(
        """
        import sys
        from results import KINDS
        from together import in_processes

        def work(n, name, path):
            kind = KINDS[name]
            with kind.storage(path) as storage:
                for i in range(10):
                    storage.save(**kind.arguments(kind.row(f"{n} {i}")))
                    own = {"job_id": f"shared {n} {i}"} if name == "processing" else {}
                    storage.save(**kind.arguments(kind.row("shared", **own)))

        if __name__ == "__main__":
            in_processes(8, work, *sys.argv[1:3], method=sys.argv[3])
        """,
        kind.name,
        address,
        method,
    )
    assert set(os.listdir(tmp_path)) <= {"results.db"}
    with kind.storage(address) as storage:
        assert len(storage) == 81
        if kind.name == "processing":
            assert all(storage.get_by_job_id(f"shared {n} {i}") for n in range(8) for i in range(10))


def test_durability_none_loses_the_newest_first_and_damages_nothing(kind, path, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "listening", lambda: False)  # inside a worker, each save empties the log
    with kind.storage(path, durability="none") as storage:
        assert storage._database.fetch("PRAGMA synchronous") == [(1,)]  # NORMAL: commits are not synced
        for n in range(12):
            save(kind, storage, kind.row(n))
        saved = list(storage)
        log = path.with_name(f"{path.name}-wal").read_bytes()
        kept = []
        for n in range(21):
            end = len(log) * n // 20
            left = tmp_path / str(n) / path.name  # what a disk may hold after a power cut
            left.parent.mkdir()
            left.write_bytes(path.read_bytes())
            left.with_name(f"{path.name}-wal").write_bytes(log[:end] + bytes(len(log) - end))
            assert query(left, "PRAGMA integrity_check") == [("ok",)]
            with kind.storage(left) as after:
                kept.append(len(after))
                assert list(after) == saved[: kept[-1]]
    assert kept == sorted(kept) and kept[0] < 12 == kept[-1]
    with kind.storage(path) as storage:
        assert list(storage) == saved  # a program that ends loses nothing


def test_durability_is_full_or_none(kind, path):
    with pytest.raises(ValueError, match="'batch'"):
        kind.storage(path, durability="batch")
    assert not path.exists()
    with kind.storage(path, durability="none") as storage, pickle.loads(pickle.dumps(storage)) as copy:
        assert storage.durability == copy.durability == "none"
    with kind.storage(path) as storage, pickle.loads(pickle.dumps(storage)) as copy:
        assert storage.durability == copy.durability == "full"
        assert storage._database.fetch("PRAGMA synchronous") == [(3,)]


def test_fault_54_pickle_names_the_database(kind, storage, address):
    save(kind, storage, kind.row())
    with pickle.loads(pickle.dumps(storage)) as copy:
        assert list(copy) == list(storage)
    assert repr(storage) == f"{type(storage).__name__}({str(address)!r})"


def test_fault_54_storage_goes_to_a_pool_of_processes(kind, address, tmp_path, program):
    program(
        """
        import sys
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        from results import KINDS

        def work(kind, storage, n):
            storage.save(**KINDS[kind].arguments(KINDS[kind].row(n)))

        if __name__ == "__main__":
            with KINDS[sys.argv[1]].storage(sys.argv[2]) as storage:
                with ProcessPoolExecutor(2, get_context("spawn")) as pool:
                    for future in [pool.submit(work, sys.argv[1], storage, n) for n in range(6)]:
                        future.result()
                assert len(storage) == 6
        """,
        kind.name,
        address,
    )
    assert set(os.listdir(tmp_path)) <= {"results.db"}


def test_fault_54_use_after_close(kind, address):
    with kind.storage(address) as storage:
        save(kind, storage, kind.row())
    storage.close()
    for use in (storage.list_jobs, storage.__len__, lambda: list(storage), lambda: save(kind, storage, kind.row())):
        with pytest.raises(StoreClosed):
            use()


def test_a_thousand_calls_leak_no_descriptor(kind, on_file, path):
    save(kind, on_file, kind.row())
    before = len(held_by(path)), len(os.listdir("/proc/self/fd"))
    for n in range(250):
        kind.get(on_file, kind.row(n))
        kind.find(on_file, kind.row())
        on_file.list_jobs(1)
        with pytest.raises(InvalidHash):
            save(kind, on_file, kind.row(**{kind.hashes[0]: "garbage"}))
    assert (len(held_by(path)), len(os.listdir("/proc/self/fd"))) == before


# ---- where nothing may be written


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_fault_41_results_are_read_where_nothing_may_be_written(kind, place, program, end):
    path = place.path / "results.db"
    program.start(
        """
        import os, sys
        from results import KINDS
        kind = KINDS[sys.argv[2]]
        storage = kind.storage(sys.argv[1])
        storage.save(**kind.arguments(kind.row()))
        storage.close() if sys.argv[3] == "closed" else os.kill(os.getpid(), 9)
        """,
        path,
        kind.name,
        end,
    ).communicate()
    for each in place.path.iterdir():
        each.chmod(0o644)
    with place.read_only(), kind.storage(path) as storage:
        assert plain(kind.get(storage, kind.row())) == plain(kind.row())
        assert [plain(row) for row in storage.list_jobs()] == [plain(row) for row in storage] == [plain(kind.row())]
        with pytest.raises(ReadOnlyStore):
            save(kind, storage, kind.row(1))
        assert not storage.save_with_logging(**kind.arguments(kind.row(1)))
        with pytest.raises(ReadOnlyStore):
            kind.delete(storage, kind.row())
        assert len(storage) == 1


def test_fault_41_a_temporary_folder_that_cannot_be_written_to_is_named(kind, place, tmp_path, monkeypatch):
    First(place.path / "results.db").add_result("/media/0.wav", D)
    (tmp_path / "temporary").mkdir(mode=0o555)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    refused = pytest.raises(ReadOnlyStore, match="temporary cannot be written to")
    with place.read_only(), unprivileged(), kind.storage(place.path / "results.db") as storage, refused:
        storage.list_jobs()


def test_fault_41_files_of_older_programs_are_read_where_nothing_may_be_written(kind, place):
    path = place.path / "results.db"
    old = First(path)
    old.add_result("/media/0.wav", D)
    old.add_job("job_0", "/media/0.wav", D)
    with place.read_only(), kind.storage(path) as storage:
        [row] = storage.list_jobs()
        assert getattr(row, kind.paths[0]) == "/media/0.wav"
        assert kind.name == "analysis" or storage.get_by_job_id("job_0") == row
        with pytest.raises(ReadOnlyStore):
            save(kind, storage, kind.row(1))
