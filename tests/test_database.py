"A database keeps its rows among threads, processes and forked children, and says what is wrong in typed errors."

import gc
import os
import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing

import pytest
from on_disk import held_by, query, unprivileged
from together import in_threads
from words import TABLE, add, open_words, words

from cjm_media_storage import database as database_module
from cjm_media_storage.database import MEMORY, Database, fail, on_network
from cjm_media_storage.errors import (
    CorruptDatabase,
    InvalidRecord,
    NoSpace,
    ReadOnlyStore,
    StoreBusy,
    StoreClosed,
    UnsupportedFormat,
)

# What the programs below begin with: `open_words` opens the database that their first argument names
WORDS = """
import os, sqlite3, sys, threading
from multiprocessing import get_context
from on_disk import held_by
from words import add, open_words
"""


def alone(path):
    "The words in a copy of the one file, without those beside it"
    copy = shutil.copy(path, path.with_name("copy.db"))
    assert query(copy, "PRAGMA integrity_check") == [("ok",)]
    return sorted(word for (word,) in query(copy, "SELECT word FROM words"))


@pytest.fixture
def database(path):
    with closing(open_words(path)) as database:
        yield database


@pytest.fixture(params=["log", "rollback journal"])
def journal(request, monkeypatch):
    "Both journals: that of local disks, and that of network file systems"
    if request.param == "rollback journal":
        monkeypatch.setattr(database_module, "on_network", lambda folder: True)
    return request.param


# ---- transactions


def test_nested_transactions_are_one(database, journal):
    with database.transaction():
        add(database, "outer")
        with database.transaction() as con:
            con.execute("INSERT INTO words (word) VALUES ('inner')")
        assert query(database.path, "SELECT * FROM words") == []
    assert query(database.path, "SELECT word FROM words") == [("outer",), ("inner",)]


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


def test_pages_see_rows_that_come_meanwhile(database):
    add(database, *map(str, range(10)))
    pages = database.pages("SELECT id, word FROM words WHERE id > ? ORDER BY id LIMIT ?", size=3)
    found = [next(pages)]
    add(database, "late")
    assert [word for _, word in [*found, *pages]] == [*map(str, range(10)), "late"]


# ---- threads


def test_threads_share_a_database(database, journal):
    def work(n):
        for i in range(10):
            add(database, f"{n} {i}")

    in_threads(8, work)
    assert sorted(words(database)) == sorted(f"{n} {i}" for n in range(8) for i in range(10))


def test_a_connection_closes_with_its_thread(database, path):
    words(database)
    for _ in range(20):
        in_threads(3, lambda n: words(database))
    assert len(database._connections) == 1
    assert len(held_by(path)) <= 3 * 4  # SQLite keeps a closed file for its next connection while others hold a lock


def test_close_closes_the_connections_of_all_threads(database, path):
    ready, done = threading.Barrier(3), threading.Barrier(3)

    def work():
        words(database)
        ready.wait()
        done.wait()
        with pytest.raises(StoreClosed):
            words(database)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    ready.wait()
    database.close()
    assert held_by(path) == []
    done.wait()
    for thread in threads:
        thread.join()


def test_a_forgotten_database_closes(path):
    database = open_words(path)
    words(database)
    assert held_by(path)
    del database
    gc.collect()
    assert held_by(path) == []


def test_memory_is_one_database_for_all_threads():
    with closing(open_words(MEMORY)) as database, closing(open_words(MEMORY)) as other:
        in_threads(4, lambda n: add(database, str(n)))
        assert sorted(words(database)) == ["0", "1", "2", "3"]
        assert words(other) == []
    assert not os.path.exists(MEMORY)
    with pytest.raises(StoreClosed):
        words(database)


def test_a_relative_path_stays_where_it_was(here, monkeypatch):
    (here / "elsewhere").mkdir()
    with closing(open_words("results.db")) as database:
        monkeypatch.chdir("elsewhere")
        in_threads(2, lambda n: add(database, str(n)))
        assert len(words(database)) == 2
    assert not os.listdir(here / "elsewhere")


# ---- processes


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_fault_60_eight_processes_open_a_fresh_file_and_save(path, program, method):
    program(
        WORDS
        + """
from together import in_processes

def work(n, path):
    database = open_words(path)
    for i in range(10):
        add(database, f"{n} {i}")

if __name__ == "__main__":
    in_processes(8, work, sys.argv[1], method=sys.argv[2])
""",
        path,
        method,
    )
    assert alone(path) == sorted(f"{n} {i}" for n in range(8) for i in range(10))


def test_fault_54_parent_and_forked_child_go_on(path, program):
    "No connection crosses the fork, the parent's end does not pull the log away, and both see all"
    program(
        WORDS
        + """
path = sys.argv[1]
database = open_words(path)
add(database, "before")
(to_child, tell_child), (to_parent, tell_parent) = os.pipe(), os.pipe()
if os.fork() == 0:
    assert held_by(path) == []
    add(database, "child")
    os.write(tell_parent, b"x")
    os.read(to_child, 1)
    add(database, "child after the parent closed")
    database.close()
    os._exit(0)
os.read(to_parent, 1)
add(database, "parent")
database.close()
os.write(tell_child, b"x")
assert os.wait()[1] == 0
database = open_words(path)
assert len(database.fetch("SELECT * FROM words")) == 4
""",
        path,
    )
    assert alone(path) == ["before", "child", "child after the parent closed", "parent"]


def test_fault_54_fork_while_threads_write(path, program):
    program(
        WORDS
        + """
import warnings
# Forking with threads is what is tested here, and what Python 3.12 warns of.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
database = open_words(sys.argv[1])

def work(n):
    for i in range(40):
        add(database, f"thread {n} {i}")

threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for thread in threads:
    thread.start()
for n in range(10):
    if os.fork() == 0:
        for i in range(3):
            add(database, f"child {n} {i}")
        database.close()
        os._exit(0)
assert [os.wait()[1] for _ in range(10)] == [0] * 10
for thread in threads:
    thread.join()
""",
        path,
    )
    wanted = [f"thread {n} {i}" for n in range(3) for i in range(40)]
    assert alone(path) == sorted(wanted + [f"child {n} {i}" for n in range(10) for i in range(3)])


@pytest.mark.parametrize("end", ["uses it", "leaves the block", "raises", "exits", "closes"])
@pytest.mark.parametrize("mode", ["log", "rollback journal"])
def test_fault_54_fork_inside_a_transaction(path, program, mode, end):
    "The transaction is the parent's: nothing that the child does may end it"
    program(
        WORDS
        + """
from cjm_media_storage import database as module
from cjm_media_storage.errors import StoreClosed
path, mode, end = sys.argv[1:]
if mode != "log":
    module.on_network = lambda folder: True
database = open_words(path)
child = False
try:
    with database.transaction() as con:
        con.execute("PRAGMA cache_size=2")  # much of the transaction is on the disk before it is committed
        add(database, *["before" * 500] * 100)
        child = os.fork() == 0
        if child:
            if end == "uses it":
                try:
                    add(database, "child")
                except StoreClosed:
                    os._exit(0)
            elif end == "raises":
                raise StoreClosed(path)
            elif end == "exits":
                sys.exit(0)
            elif end == "closes":
                database.close()
        else:
            assert os.wait()[1] == 0
            add(database, "after")
except StoreClosed:
    sys.exit(0 if child else "the parent's transaction was closed")
assert not child, "the child got through"
assert len(database.fetch("SELECT * FROM words")) == 101
""",
        path,
        mode,
        end,
    )
    assert alone(path) == ["after"] + ["before" * 500] * 100


@pytest.mark.parametrize("method", ["interpreter exit", "thread", "fork", "spawn", "forkserver", "pool"])
def test_the_one_file_holds_all_after_its_writers_ended(path, program, method):
    "None of them closes the database; what is in the log goes into the file all the same"
    program(
        WORDS
        + """
from concurrent.futures import ProcessPoolExecutor
path, method = sys.argv[1:]

def work(word):
    global kept  # until the end of its process
    kept = open_words(path)
    add(kept, word)

if __name__ == "__main__":
    if method == "interpreter exit":
        work("word")
    elif method == "thread":
        started = threading.Event()
        def run():
            database = open_words(path)  # held by a thread that never ends
            add(database, "word")
            started.set()
            threading.Event().wait()
        threading.Thread(target=run, daemon=True).start()
        started.wait()
    elif method == "pool":
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(work, "word").result()
    else:
        child = get_context(method).Process(target=work, args=("word",))
        child.start()
        child.join()
        assert child.exitcode == 0
""",
        path,
        method,
    )
    assert alone(path) == ["word"]
    assert sorted(os.listdir(path.parent)) == ["copy.db", "results.db"]


def test_a_writer_that_was_killed_loses_nothing_acknowledged(path, program):
    killed = program.start(
        WORDS + "database = open_words(sys.argv[1]); add(database, 'word'); os.kill(os.getpid(), 9)", path
    )
    killed.communicate()
    assert killed.returncode == -9
    with closing(open_words(path)) as database:
        assert words(database) == ["word"]
    assert alone(path) == ["word"]


# ---- the log


def test_the_log_stays_bounded(path, monkeypatch):
    monkeypatch.setattr(database_module, "LOG_LIMIT", 100_000)
    longest = 0
    with closing(open_words(path)) as database:
        for _ in range(200):
            add(database, "x" * 5000)
            longest = max(longest, os.stat(f"{path}-wal").st_size)
        assert 100_000 <= longest < 200_000
        assert os.stat(path).st_size > 500_000


def test_a_reader_delays_the_log_and_stops_nobody(path, monkeypatch):
    monkeypatch.setattr(database_module, "LOG_LIMIT", 50_000)
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


def test_the_journal_follows_the_file_system(path, journal):
    with closing(open_words(path)) as database:
        [(mode,)] = database.fetch("PRAGMA journal_mode")
        assert mode == ("wal" if journal == "log" else "delete")
        assert database.fetch("PRAGMA synchronous") == [(3,)]
    with closing(open_words(path, durable=False)) as database:
        assert database.fetch("PRAGMA synchronous") == [(1,)]


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "ext4", "tmpfs"])
def test_on_network(tmp_path, kind):
    device = os.stat(tmp_path).st_dev
    table = tmp_path / "mountinfo"
    row = f"36 35 {os.major(device)}:{os.minor(device)} / /films rw shared:1 - {kind} server:/films rw\n"
    table.write_text("24 30 0:22 / /proc rw - proc proc rw\n" + row)
    assert on_network(tmp_path, str(table)) == (kind in database_module.NETWORK)
    assert not on_network(tmp_path, str(tmp_path / "no such table"))
    assert not on_network(tmp_path / "gone", str(table))


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
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


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


def test_errors_of_sqlite_are_typed():
    wanted = {
        sqlite3.SQLITE_BUSY_SNAPSHOT: StoreBusy,
        sqlite3.SQLITE_LOCKED: StoreBusy,
        sqlite3.SQLITE_PROTOCOL: StoreBusy,
        sqlite3.SQLITE_FULL: NoSpace,
        sqlite3.SQLITE_READONLY_DIRECTORY: ReadOnlyStore,
        sqlite3.SQLITE_CORRUPT_INDEX: CorruptDatabase,
        sqlite3.SQLITE_NOTADB: CorruptDatabase,
        sqlite3.SQLITE_TOOBIG: InvalidRecord,
        sqlite3.SQLITE_ERROR: sqlite3.OperationalError,
    }
    for code, kind in wanted.items():
        error = sqlite3.OperationalError("as SQLite said")
        error.sqlite_errorcode = code
        with pytest.raises(kind) as e:
            fail(error, "results.db")
        assert e.value is error or e.value.__cause__ is error


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
