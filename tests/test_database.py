"A database keeps its rows among threads, processes and forked children, and says what is wrong in typed errors."

import itertools
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing, contextmanager

import pytest
from on_disk import held_by, memory_disk, query, unprivileged
from together import in_threads
from words import TABLE, add, alone, open_words, words

from cjm_media_storage import connections
from cjm_media_storage.database import LOOK, Database
from cjm_media_storage.errors import (
    CorruptDatabase,
    InvalidRecord,
    NoSpace,
    ReadOnlyStore,
    StoreBusy,
    StoreClosed,
    StoreUnavailable,
    UnsupportedFormat,
)

# ---- transactions


def test_nested_transactions_are_one(database, journal):
    with database.transaction():
        add(database, "outer")
        with database.transaction() as con:
            con.execute("INSERT INTO words (word) VALUES ('inner')")
        assert query(database.path, "SELECT * FROM words") == []
    assert query(database.path, "SELECT word FROM words") == [("outer",), ("inner",)]


def test_a_transaction_that_need_not_be_durable_does_not_wait_for_the_disk(database):
    def synchronous(con):
        return con.execute("PRAGMA synchronous").fetchone()[0]

    extra, normal = 3, 1
    with database.transaction() as con:
        assert synchronous(con) == extra
        with database.transaction(durable=False):
            assert synchronous(con) == extra
    with database.transaction(durable=False):
        assert synchronous(con) == normal
        with database.transaction():
            add(database, "quick")
    with pytest.raises(RuntimeError), database.transaction(durable=False):
        raise RuntimeError
    assert (synchronous(con), words(database)) == (extra, ["quick"])


def test_any_number_of_values_in_a_query(database):
    with database.transaction() as con:
        con.executemany("INSERT INTO words (word) VALUES (?)", [(str(n),) for n in range(1500)])
    values = [str(n) for n in range(0, 3000, 2)]
    rows = database.fetch_in("SELECT word FROM words WHERE id > ? AND word IN (…)", values, (1,))
    assert sorted(int(word) for (word,) in rows) == list(range(2, 1500, 2))
    assert database.fetch_in("SELECT word FROM words WHERE word IN (…)", []) == []


@pytest.mark.parametrize("where", ["outer", "inner", "statement"])
def test_a_failed_block_leaves_nothing(database, where):
    add(database, "before")
    with pytest.raises((RuntimeError, sqlite3.IntegrityError)), database.transaction() as con:
        add(database, "outer")
        with database.transaction():
            add(database, "inner")
            if where == "inner":
                raise RuntimeError
        if where == "statement":
            con.execute("INSERT INTO words (id) VALUES (1)")
        raise RuntimeError
    assert words(database) == ["before"]
    add(database, "after")
    assert words(database) == ["before", "after"]


def test_an_inner_failure_may_be_survived(database):
    with database.transaction():
        add(database, "kept")
        with pytest.raises(sqlite3.IntegrityError):
            database.execute("INSERT INTO words (id) VALUES (1)")
    assert words(database) == ["kept"]


def test_closing_inside_a_block(database):
    with pytest.raises(StoreClosed), database.transaction():
        add(database, "lost")
        database.close()
    assert query(database.path, "SELECT * FROM words") == []


def test_a_mistake_in_sql_is_raised_as_it_is(database):
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        database.fetch("SELECT * FROM songs")


def test_whoever_asks_in_the_middle_of_a_question_changes_no_answer(database):
    class Asking(list):
        "What a signal handler may do at any moment"

        def __getitem__(self, at):
            assert database.fetch("SELECT word FROM words WHERE word = 'b'") == [("b",)]
            return super().__getitem__(at)

    for word in "ab":
        add(database, word)
    for _ in range(2):
        assert database.fetch("SELECT word FROM words WHERE word = ?", Asking("a")) == [("a",)]


def test_a_question_that_fails_is_forgotten(database):
    add(database, "a")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError):
            database.fetch("SELECT word FROM no_table")
        assert database.fetch("SELECT word FROM words") == [("a",)]


def test_pages_see_rows_that_come_meanwhile(database):
    add(database, *map(str, range(10)))
    pages = database.pages("SELECT id, word FROM words WHERE id > ? ORDER BY id LIMIT ?", size=3)
    found = [next(pages)]
    add(database, "late")
    assert [word for _, word in [*found, *pages]] == [*map(str, range(10)), "late"]


# ---- one statement


def insert(database, word):
    sql = "INSERT INTO words (word) VALUES (?)"
    return database.run(lambda con: con.execute(sql, (word,)).rowcount, single=True)


def test_a_statement_alone_is_committed_when_it_returns(database, journal):
    assert insert(database, "alone") == 1
    assert query(database.path, "SELECT word FROM words") == [("alone",)]


def test_a_statement_alone_that_fails_leaves_nothing_behind(database, journal):
    with pytest.raises(CorruptDatabase), closing(open_words(database.path, own_sql=True)) as other:
        sql = "INSERT INTO words SELECT 1, 'one' UNION ALL SELECT 1, 'again'"
        other.run(lambda con: con.execute(sql), single=True)
    assert words(database) == []
    add(database, "after")  # nothing is held
    assert words(database) == ["after"]


def test_a_statement_in_a_transaction_belongs_to_it(database, journal):
    with pytest.raises(RuntimeError), database.transaction():
        insert(database, "inner")
        assert query(database.path, "SELECT * FROM words") == []
        raise RuntimeError
    assert words(database) == []


def test_a_statement_alone_waits_for_who_writes(path):
    with closing(open_words(path, timeout=0.1)) as database, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            insert(database, "too early")
        other.execute("ROLLBACK")
        insert(database, "in time")
        assert words(database) == ["in time"]


class Guarded(Database):
    "A database that adds something to each transaction"

    @contextmanager
    def transaction(self, durable=True):
        with super().transaction(durable) as con:
            con.execute("INSERT INTO words (word) VALUES ('guarded')")
            yield con


def test_a_statement_alone_gets_what_a_subclass_adds_to_transactions(path):
    with closing(open_words(path)), closing(Guarded(path, lambda con: (), 1)) as database:
        assert insert(database, "alone") == 1
        assert words(database) == ["guarded", "alone"]


# ---- the log


def limit_log(monkeypatch, size):
    monkeypatch.setattr(connections, "LOG_LIMIT", size)


@pytest.mark.parametrize("durable", [True, False])
def test_a_log_grows_longer_where_nobody_waits_for_the_disk(path, monkeypatch, durable):
    limit_log(monkeypatch, 100_000)
    monkeypatch.setattr(connections, "LOOSE_LOG_LIMIT", 200_000)
    with closing(open_words(path, durable=durable)) as database:
        for _ in range(100):
            add(database, "x" * 500)
        size = os.stat(f"{path}-wal").st_size
    assert (100_000 if durable else 200_000) <= size <= (130_000 if durable else 230_000)


def test_a_log_is_written_over_in_its_size(path, monkeypatch):
    limit_log(monkeypatch, 100_000)
    sizes = []
    with closing(open_words(path)) as database:
        for _ in range(100):
            add(database, "x" * 500)
            sizes.append(os.stat(f"{path}-wal").st_size)
        changed = sum(one != other for one, other in itertools.pairwise(sizes[20:]))
    assert changed < 20 and min(sizes[20:]) >= 100_000


@pytest.mark.parametrize(("write", "bound"), [(add, 200_000), (insert, 100_000 + 2 * LOOK * 15_000)])
def test_the_log_stays_bounded(path, monkeypatch, write, bound):
    limit_log(monkeypatch, 100_000)
    longest = 0
    with closing(open_words(path)) as database:
        for _ in range(200):
            write(database, "x" * 5000)
            longest = max(longest, os.stat(f"{path}-wal").st_size)
        assert 100_000 <= longest < bound
        assert os.stat(path).st_size > 500_000


def test_who_writes_once_looks_at_the_log(path, monkeypatch):
    limit_log(monkeypatch, 100_000)
    with closing(open_words(path)) as reader:
        for _ in range(60):
            with closing(open_words(path)) as database:
                insert(database, "x" * 5000)
        assert len(words(reader)) == 60 and os.stat(f"{path}-wal").st_size < 200_000


def test_a_reader_delays_the_log_and_stops_nobody(path, monkeypatch):
    limit_log(monkeypatch, 50_000)
    with closing(open_words(path)) as database, closing(sqlite3.connect(path)) as reader:
        add(database, "before")
        reader.execute("BEGIN")
        assert len(reader.execute("SELECT * FROM words").fetchall()) == 1
        for _ in range(50):
            add(database, "x" * 5000)
        assert len(reader.execute("SELECT * FROM words").fetchall()) == 1
        assert os.stat(f"{path}-wal").st_size > 200_000
        reader.execute("ROLLBACK")
        for _ in range(30):
            add(database, "x" * 5000)
        assert os.stat(f"{path}-wal").st_size < 200_000


def test_a_log_is_folded_by_a_connection_that_stays_open(database, path, monkeypatch):
    opened, connect = [], database._connect
    monkeypatch.setattr(database, "_connect", lambda: opened.append(1) or connect())
    for n in range(3):
        add(database, str(n))
        database.fold()
        assert alone(path) == [str(each) for each in range(n + 1)]
    assert opened == [1]
    database.fold()  # there is nothing new
    with database.transaction():
        database.fold()  # nothing that is not committed
        add(database, "later")
        database.fold()
    assert alone(path) == ["0", "1", "2"]
    database.close()
    assert alone(path) == ["0", "1", "2", "later"] and held_by(path) == []


def test_the_journal_follows_the_file_system(path, journal):
    with closing(open_words(path)) as database:
        [(mode,)] = database.fetch("PRAGMA journal_mode")
        assert mode == ("wal" if journal == "log" else "delete")
        assert database.fetch("PRAGMA synchronous") == [(3,)]
    with closing(open_words(path, durable=False)) as database:
        assert database.fetch("PRAGMA synchronous") == [(1,) if journal == "log" else (3,)]


# ---- what may go wrong


def test_store_busy_while_another_program_writes(path, program):
    with closing(open_words(path, timeout=0.05)) as database:
        other = program.start(
            """
            import sqlite3, sys
            con = sqlite3.connect(sys.argv[1], isolation_level=None)
            con.execute("BEGIN IMMEDIATE")
            print("held", flush=True)
            sys.stdin.readline()
            con.close()
            """,
            path,
        )
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match="held by another program") as e:
            add(database, "now")
        assert e.value.path == str(path)
        assert words(database) == []
        program.end(other, "done\n")
        add(database, "later")
        assert words(database) == ["later"]


def test_store_busy_when_opening(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBusy):
            open_words(path, timeout=0.05)
        other.execute("ROLLBACK")
        open_words(path, timeout=0.05).close()


def test_fault_20_no_space_by_limit(database):
    add(database, "before")
    [(pages,)] = database.fetch("PRAGMA page_count")
    database.fetch(f"PRAGMA max_page_count={pages}")
    with pytest.raises(NoSpace, match="make room"):
        add(database, "x" * 100_000)
    assert words(database) == ["before"]
    database.fetch("PRAGMA max_page_count=100000")
    add(database, "x" * 100_000)
    assert len(words(database)) == 2


@pytest.fixture
def tiny(tmp_path):
    "A file system of 512 kB"
    with memory_disk(tmp_path / "tiny", "512k") as folder:
        yield folder


def fill(path):
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            pass


def test_fault_20_full_disk(tiny):
    with closing(open_words(tiny / "results.db")) as database:
        add(database, "before")
        fill(tiny / "filler")
        with pytest.raises(NoSpace):
            add(database, "x" * 100_000)
        with pytest.raises(NoSpace):
            open_words(tiny / "other.db")
        assert words(database) == ["before"]
    with closing(open_words(tiny / "results.db")) as database:  # opens and reads on the full disk
        assert words(database) == ["before"]
        (tiny / "filler").unlink()
        add(database, "x" * 100_000)
    assert alone(tiny / "results.db") == ["before", "x" * 100_000]


def test_fault_20_no_room_for_what_sqlite_needs_beside_the_file(tiny):
    "It calls that an I/O error, and cannot say why"
    path = tiny / "results.db"
    open_words(path).close()
    fill(tiny / "filler")
    con = sqlite3.connect(path)
    with pytest.raises(sqlite3.OperationalError) as e:
        con.execute("SELECT * FROM words")
    con.close()
    assert e.value.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR
    with pytest.raises(NoSpace) as e:
        open_words(path)
    assert e.value.path == str(path)
    (tiny / "filler").unlink()
    open_words(path).close()
    assert [each.name for each in tiny.iterdir()] == ["results.db"]


@pytest.fixture
def quota(tmp_path):
    "A folder with a quota of 4 MB"
    image, disk, folder = tmp_path / "image", tmp_path / "disk", tmp_path / "disk" / "folder"
    if shutil.which("mkfs.btrfs") is None or shutil.which("btrfs") is None:
        pytest.skip("btrfs, which has quotas everywhere, is not installed")
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(300 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, disk], capture_output=True).returncode:
        pytest.skip("mounting needs root, and a system with btrfs")
    for command in (["quota", "enable", disk], ["subvolume", "create", folder], ["qgroup", "limit", "4M", folder]):
        subprocess.run(["btrfs", *command], check=True, capture_output=True)
    yield folder
    subprocess.run(["umount", disk], check=True)


def test_fault_20_a_full_quota(quota, program):
    program(
        """
        import os, sqlite3, sys
        from words import open_words, words
        from cjm_media_storage import database as module
        from cjm_media_storage.errors import NoSpace
        module.on_network = lambda folder: True  # the index of the log is memory that btrfs takes away: SIGBUS
        database = open_words(sys.argv[1])
        with open(sys.argv[1] + ".filler", "wb") as filler:
            filler.write(os.urandom(1_500_000))
            os.fsync(filler.fileno())
        for n in range(100):
            try:
                database.execute("INSERT INTO words (word) VALUES (zeroblob(500000))")
            except NoSpace as e:
                assert e.__cause__.sqlite_errorcode == sqlite3.SQLITE_IOERR_WRITE, e.__cause__
                break
        os.unlink(sys.argv[1] + ".filler")
        os.sync()
        assert 0 < n < 20 and len(words(database)) == n
        assert sorted(os.listdir(os.path.dirname(sys.argv[1]))) == ["words.db"]
        """,
        quota / "words.db",
    )


def test_a_failing_write_is_no_full_disk(path, program):
    "A limit on the size of files, which is neither"
    said = program(
        """
        import resource, signal, sys
        from words import add, open_words, words
        from cjm_media_storage.errors import StoreUnavailable
        database = open_words(sys.argv[1])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        try:
            add(database, "x" * 300_000)
        except StoreUnavailable as e:
            print(e.root == sys.argv[1], e.reason)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        add(database, "word")
        assert words(database) == ["word"]
        """,
        path,
    )
    assert said == "True File too large"


def test_a_folder_that_is_gone(path):
    folder = path.parent / "gone"
    with closing(open_words(folder / "results.db")) as database:
        folder.rename(path.parent / "elsewhere")
        errors = []

        def read(n):
            try:
                words(database)
            except StoreUnavailable as e:
                errors.append(e)

        in_threads(1, read)
        assert [error.reason for error in errors] == ["No such file or directory"]
        assert "Open it again where it is" in str(errors[0])


@pytest.mark.parametrize("damage", ["no database", "cut", "schema", "header"])
@pytest.mark.parametrize("made_by", ["us", "an older program"])
def test_corrupt_database_is_left_as_it_is(path, damage, made_by):
    if made_by == "us":
        with closing(open_words(path)) as database:
            add(database, *["x" * 500] * 100)
    else:
        with closing(sqlite3.connect(path)) as con, con:
            con.execute(TABLE)
            con.executemany("INSERT INTO words (word) VALUES (?)", [("x" * 500,)] * 100)
    content = path.read_bytes()
    content = {
        "no database": b"a letter to somebody. " * 1000,
        "cut": content[:3000],
        "schema": content[:100] + b"\xff" * 3996 + content[4096:],
        "header": b"SQLite format 3\0" + b"\xff" * 84 + content[100:],
    }[damage]
    path.write_bytes(content)
    with pytest.raises(CorruptDatabase, match="left as it is") as e:
        database = open_words(path)
        words(database)
    assert e.value.path == str(path)
    assert path.read_bytes() == content
    assert held_by(path) == []


def test_corrupt_page_is_found_when_read(path):
    with closing(open_words(path)) as database:
        add(database, *["x" * 500] * 100)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    before = path.read_bytes()
    with closing(open_words(path)) as database, pytest.raises(CorruptDatabase):
        words(database)
    assert path.read_bytes() == before


def test_a_folder_is_no_database(tmp_path):
    with pytest.raises(CorruptDatabase, match="folder"):
        open_words(tmp_path)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("size", [1, 2, 100, 600])
def test_a_file_that_is_no_database_is_left_as_it_is(path, size, read_only):
    path.write_bytes(b"S" * size)
    with pytest.raises(CorruptDatabase):
        open_words(path, read_only=read_only)
    assert (path.read_bytes(), os.listdir(path.parent)) == (b"S" * size, [path.name])


def test_an_empty_file_becomes_a_database(path):
    path.touch()
    with closing(open_words(path)) as database:
        add(database, "word")
        assert words(database) == ["word"]


def test_unsupported_format(path):
    open_words(path, version=7).close()
    before = path.read_bytes()
    with pytest.raises(UnsupportedFormat, match="format 7; this release knows up to 1") as e:
        open_words(path)
    assert (e.value.found, e.value.known) == (7, 1)
    assert path.read_bytes() == before
    open_words(path, version=8).close()


def test_a_failed_opening_holds_no_file(path):
    open_words(path, version=7).close()
    with pytest.raises(UnsupportedFormat):
        open_words(path)
    assert held_by(path) == []


def test_a_read_only_file_can_be_read(open_folder):
    path = open_folder / "results.db"
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(TABLE)
        con.execute("INSERT INTO words (word) VALUES ('word')")
    path.chmod(0o444)
    open_folder.chmod(0o555)
    with unprivileged(), closing(open_words(path)) as database:
        assert words(database) == ["word"]
        with pytest.raises(ReadOnlyStore):
            add(database, "no")


def test_a_value_too_large_is_a_record_error(database):
    with pytest.raises(InvalidRecord, match="too large"):
        database.execute("INSERT INTO words (word) VALUES (zeroblob(2000000000))")


# ---- migrations


def songs_plan(con):
    columns = {row[1] for row in con.execute("PRAGMA table_info(words)")}
    if not columns:
        return ["CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT, song TEXT)"]
    return [] if "song" in columns else ["ALTER TABLE words ADD COLUMN song TEXT", "UPDATE words SET song = 'none'"]


@pytest.mark.parametrize("beside", [True, False])
def test_a_migration_backs_up_the_state_before(path, tmp_path, beside):
    with closing(open_words(path)) as database:
        add(database, "one", "two")
        before = query(path, "SELECT * FROM words")
        folder = path.parent if beside else tmp_path / "backup"
        with closing(Database(path, songs_plan, 2, backup=None if beside else folder)) as newer:
            assert newer.fetch("SELECT * FROM words") == [(1, "one", "none"), (2, "two", "none")]
            assert newer.fetch("PRAGMA user_version") == [(2,)]
    [backup] = folder.glob("results.db.v1.*.backup")
    assert query(backup, "SELECT * FROM words") == before
    assert query(backup, "PRAGMA user_version") == [(1,)]
    assert query(backup, "PRAGMA integrity_check") == [("ok",)]
    Database(path, songs_plan, 2).close()
    assert [p.name for p in folder.glob("*.backup")] == [backup.name]
    assert not list(folder.glob("*.part"))


def test_fault_41_an_older_file_is_migrated_in_a_copy(place, temporary):
    path = place.path / "words.db"
    with closing(open_words(path)) as database:
        add(database, "one", "two")
    path.chmod(0o644)
    with place.read_only():
        with closing(Database(path, songs_plan, 2)) as newer:
            assert newer.fetch("SELECT * FROM words") == [(1, "one", "none"), (2, "two", "none")]
            in_threads(2, lambda n: newer.fetch("SELECT song FROM words"))
            with pytest.raises(ReadOnlyStore):
                newer.execute("DELETE FROM words")
        assert os.listdir(temporary) == []
        with pytest.raises(UnsupportedFormat), closing(open_words(path, version=0)):
            pass
    Database(path, songs_plan, 2).close()
    assert query(path, "SELECT song FROM words") == [("none",)] * 2


def test_fault_41_no_file_where_none_can_be_made(place):
    with place.read_only():
        for path in (place.path / "words.db", place.path / "new" / "words.db"):
            with pytest.raises(ReadOnlyStore):
                open_words(path)


def test_a_migration_that_fails_changes_nothing(path):
    open_words(path).close()
    with pytest.raises(sqlite3.OperationalError):
        Database(path, lambda con: ["ALTER TABLE words ADD COLUMN song TEXT", "nonsense"], 2)
    assert query(path, "SELECT sql FROM sqlite_master") == [(TABLE,)]
    assert query(path, "PRAGMA user_version") == [(1,)]
    assert held_by(path) == []


def test_a_file_that_is_up_to_date_is_opened_without_writing(path):
    open_words(path).close()
    before = os.stat(path)
    open_words(path).close()
    after = os.stat(path)
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)


def test_programs_that_migrate_at_once_migrate_once(path):
    with closing(open_words(path)) as database:
        add(database, "word")
    in_threads(6, lambda n: Database(path, songs_plan, 2).close())
    assert query(path, "SELECT word, song FROM words") == [("word", "none")]


def test_close_twice(database):
    database.close()
    database.close()
    for use in (words, add):
        with pytest.raises(StoreClosed, match="Open it again"):
            use(database)
