"The locks and pins that a server keeps: as those of files, for any number of computers; a session that ends is noticed"

import pickle
import threading
from contextlib import closing

import psycopg
import pytest
from servers import run
from together import in_threads

from cjm_media_storage.errors import ServerUnavailable, StoreBusy
from cjm_media_storage.index import Index
from cjm_media_storage.sharing import ServerLock


@pytest.fixture
def database(url):
    "An index on a server"
    with closing(Index(url).database) as database:
        yield database


@pytest.fixture
def lock(database):
    "A lock there"
    with closing(ServerLock(database, "store")) as lock:
        yield lock


@pytest.fixture
def far(database):
    "The same lock, on another computer"
    with closing(ServerLock(database, "store")) as lock:
        yield lock


HOLDERS = """SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1
    AND (CAST(classid AS BIGINT) << 32) | CAST(objid AS BIGINT) = {}"""


def cut(url, lock):
    "End the sessions that hold a lock, as an administrator may"
    assert run(url, HOLDERS.format(lock._number))


def test_many_or_one(lock, far):
    with lock.shared(), far.shared(), pytest.raises(StoreBusy), lock.exclusive():
        pass
    with lock.exclusive(), pytest.raises(StoreBusy), far.exclusive(0.02):
        pass
    with far.exclusive(), closing(ServerLock(far._database, "another")) as another, another.exclusive():
        pass
    with lock.shared(), lock.shared(), far.shared():
        pass
    with far.exclusive():
        pass


def test_who_was_alone_leaves_at_once(lock, far, monkeypatch):
    "The server ends a session some time after it was closed, here never: whoever comes next is not told to come again"
    late = []
    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "close", lambda con: late.append(con))
        with lock.exclusive():
            pass
        with far.exclusive():
            pass
    assert len(late) == 2
    for con in late:
        con.close()


def test_who_joins_waits_for_who_is_alone(lock, far):
    order, joined = [], threading.Event()

    def join():
        joined.set()
        with far.shared():
            order.append("joined")

    with lock.exclusive():
        thread = threading.Thread(target=join)
        thread.start()
        joined.wait()
        order.append("alone")
    thread.join()
    assert order == ["alone", "joined"]


def test_who_waits_to_be_alone_is_let_in_though_others_come_and_go(lock, far):
    done = threading.Event()

    def come_and_go():
        while not done.is_set():
            with far.shared():
                pass

    def be_alone():
        try:
            with lock.exclusive(60):
                pass
        finally:
            done.set()

    in_threads(4, lambda n: come_and_go() if n else be_alone())


def test_a_holder_joins_again_and_commits_while_somebody_waits_to_be_alone(lock, far, database):
    "In the queue of the server it would wait for one who waits for it"
    waiting = threading.Event()

    def be_alone():
        waiting.set()
        with far.exclusive(60):
            pass

    with lock.shared():
        thread = threading.Thread(target=be_alone)
        thread.start()
        waiting.wait()
        with closing(ServerLock(database, "store")) as third:  # once it holds the turnstile, nobody comes in
            while third._session.ask(f"SELECT pg_try_advisory_lock_shared({third._turn})")[0]:
                third._session.ask(f"SELECT pg_advisory_unlock_shared({third._turn})")
        with lock.shared():
            database.guard = lock.guard
            database.execute("INSERT INTO meta (key, value) VALUES ('a', 'b')")
    thread.join()
    assert database.fetch("SELECT value FROM meta WHERE key = 'a'") == [("b",)]


@pytest.mark.parametrize("how", ["shared", "exclusive"])
def test_fault_68_nothing_is_written_once_the_lock_was_lost(lock, far, database, url, how):
    database.guard = lock.guard
    with getattr(lock, how)():
        database.execute("INSERT INTO meta (key, value) VALUES ('held', '1')")
        cut(url, lock)
        with pytest.raises(ServerUnavailable, match="has ended"):
            lock.check()
        with pytest.raises(ServerUnavailable, match="has ended"):
            database.execute("INSERT INTO meta (key, value) VALUES ('lost', '1')")
        with far.exclusive(), pytest.raises(ServerUnavailable, match="has ended"):
            database.execute("INSERT INTO meta (key, value) VALUES ('lost', '1')")
        with far.shared(), pytest.raises(ServerUnavailable, match="has ended"):
            database.execute("INSERT INTO meta (key, value) VALUES ('lost', '1')")
    assert [key for (key,) in database.fetch("SELECT key FROM meta WHERE value = '1'")] == ["held"]
    with getattr(lock, how)():
        database.execute("INSERT INTO meta (key, value) VALUES ('again', '1')")


def test_nobody_is_alone_between_the_check_and_the_commit(lock, far, database, url):
    database.guard = lock.guard
    with lock.shared():
        with database.transaction() as con:
            cut_by = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid = {pid_of(lock)}"
            assert run(url, cut_by) == [(True,)]
            with pytest.raises(StoreBusy), far.exclusive(0.02):
                pass
            con.execute("INSERT INTO meta (key, value) VALUES ('held', '1')")
        with far.exclusive():
            assert database.fetch("SELECT value FROM meta WHERE key = 'held'") == [("1",)]


def pid_of(lock):
    return lock._session.get().info.backend_pid


DIE = """
import os, pickle, sys

store = pickle.loads(bytes.fromhex(sys.argv[1]))
blocks = [store.pin(sys.argv[2]), store.parts.lock.shared()]
for block in blocks:
    block.__enter__()
print("held", flush=True)
input()
os._exit(9)
"""


def test_pins_and_locks_are_seen_by_all_and_end_with_their_process(served, program):
    with served.open() as store:
        hashes = [store.put(b"%d" % n).hash for n in range(3)]
        other = program.start(DIE, pickle.dumps(store).hex(), hashes[0])
        assert other.stdout.readline() == "held\n"
        with store.pin(hashes[1]), store.pin(hashes[1]):
            assert store.parts.pins.held() == {hash[7:] for hash in hashes[:2]}
            with pytest.raises(StoreBusy), store.parts.lock.exclusive():
                pass
            other.communicate("die\n")
            with store.parts.lock.exclusive(60):
                assert store.parts.pins.held() == {hashes[1][7:]}
        assert store.parts.pins.held() == set()


FORK = """
import os, pickle, sys, warnings
from cjm_media_storage.errors import ServerUnavailable

warnings.simplefilter("ignore", DeprecationWarning)  # later Pythons warn of a fork beside threads, as the client has
store, file = pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2]
hash, lock, told = store.put(b"a poster").hash, store.parts.lock, []
blocks = {"pin": lambda: store.pin(hash), "shared": lock.shared, "exclusive": lambda: lock.exclusive(5.0)}
for name, block in blocks.items():
    with block():
        if (child := os.fork()) == 0:
            files = [os.open(file, os.O_RDWR) for _ in range(40)]  # with the numbers of closed sockets
            if name != "pin":
                try:
                    store.add_reference(hash, f"a child in {name}")
                    os._exit(1)
                except ServerUnavailable:
                    pass
            break
        assert os.waitpid(child, 0)[1] == 0
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        assert store.parts.index.database.fetch(held)[0][0] >= 1
        lock.check()
if child == 0:
    store.add_reference(hash, "a child")  # in no block of its parent, by a session of its own
    if name != "exclusive":
        with lock.shared():
            lock.check()
    store.close()
    os._exit(any(os.read(fd, 9) != b"untouched" for fd in files))
assert {each.owner for each in store.references(hash)} == {"a child"}
with store, lock.exclusive(5.0):
    print(store.read(hash).decode())
"""


def test_fault_54_a_forked_child_says_no_word_where_its_parent_holds_locks(served, program, tmp_path):
    (tmp_path / "file").write_bytes(b"untouched")
    with served.open() as store:
        assert program(FORK, pickle.dumps(store).hex(), tmp_path / "file") == "a poster"
    assert (tmp_path / "file").read_bytes() == b"untouched"


def test_fault_68_a_pin_that_was_lost_is_told(served, url):
    with served.open() as store:
        hash = store.put(b"a poster").hash
        with pytest.raises(ServerUnavailable, match="pin has ended"), store.pin(hash):
            assert store.parts.pins.held() == {hash[7:]}
            pid = store.parts.pins._session.get().info.backend_pid
            run(url, f"SELECT pg_terminate_backend({pid}, 10000)")
            assert store.parts.pins.held() == set()
        with pytest.raises(KeyError, match="mine"), store.pin(hash):
            run(url, f"SELECT pg_terminate_backend({store.parts.pins._session.get().info.backend_pid}, 10000)")
            raise KeyError("mine")
        with store.pin(hash):
            assert store.parts.pins.held() == {hash[7:]}
