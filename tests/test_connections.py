"Connections belong to one thread and one process, whatever the program does with the object that holds them."

import gc
import os
import threading
from contextlib import closing

import pytest
from on_disk import held_by
from together import in_threads
from words import WORDS, add, alone, open_words, words

from cjm_media_storage.connections import MEMORY
from cjm_media_storage.errors import StoreClosed

# ---- threads


def use(database):
    "By both connections that a thread may have: the second one is for the log"
    assert words(database) == []
    database.fold()


def test_threads_share_a_database(database, journal):
    def work(n):
        for i in range(10):
            add(database, f"{n} {i}")

    in_threads(8, work)
    assert sorted(words(database)) == sorted(f"{n} {i}" for n in range(8) for i in range(10))


def test_a_connection_closes_with_its_thread(database, path):
    use(database)
    for _ in range(20):
        in_threads(3, lambda n: use(database))
    assert len(database._connections) == 1
    assert len(held_by(path)) <= 2 * 3 * 4  # SQLite keeps a closed file for the next one while others hold a lock


def test_close_closes_the_connections_of_all_threads(database, path):
    ready, done = threading.Barrier(3), threading.Barrier(3)

    def work():
        use(database)
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
    use(database)
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
        if n == 0:
            database.fold()

threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for thread in threads:
    thread.start()
for n in range(10):
    if os.fork() == 0:
        for i in range(3):
            add(database, f"child {n} {i}")
            database.fold()
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
import gc
from cjm_media_storage import database as module
from cjm_media_storage.errors import StoreClosed
path, mode, end = sys.argv[1:]
if mode != "log":
    module.on_network = lambda folder: True
database = open_words(path)
database.fold()
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
                    gc.collect()  # what is not kept from it is closed
                    left = sum(isinstance(each, sqlite3.Connection) for each in gc.get_objects())
                    os._exit(left != (2 if mode == "log" else 1))
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
    kept.fold()
    add(kept, word)

if __name__ == "__main__":
    if method == "interpreter exit":
        work("word")
    elif method == "thread":
        started = threading.Event()
        def run():
            database = open_words(path)  # held by a thread that never ends
            database.fold()
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
