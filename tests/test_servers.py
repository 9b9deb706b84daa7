"Connections to a server: what it says as errors, forks, threads, and no password anywhere."

import contextlib
import gc
import logging
import os
import pickle
import select
import signal
import traceback
from urllib.parse import quote

import pytest
from results import KINDS
from servers import LOCKED, PASSWORD, PATIENCE, Server
from together import in_threads

from cjm_media_storage.errors import InvalidUrl, SecretInUrl, ServerUnavailable, StoreClosed, StoreUnavailable
from cjm_media_storage.memo import Memo
from cjm_media_storage.storage import MediaAnalysisStorage

psycopg = pytest.importorskip("psycopg")

from cjm_media_storage import servers  # noqa: E402


@pytest.fixture
def own(server, url):
    "A schema on a server of our own, which knows a user with a password"
    if not isinstance(server, Server):
        pytest.skip("the server is somebody else's")
    return url


def as_locked(url, password):
    "The same address for a user who needs a password"
    return url.replace("postgres@", f"{LOCKED}{password}@")


def told(error):
    "All that a traceback says of an error, and of those that led to it"
    return "".join(traceback.format_exception_only(error)) + (told(error.__cause__) if error.__cause__ else "")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://ann:secret@127.0.0.1:1/media", "start the server"),
        ("postgresql://ann:secret@/media?host=/nowhere", "No such file"),
        ("postgresql://ann:secret@no-such-host.invalid/media", "no-such-host"),
    ],
)
def test_fault_64_no_server(kind, url, words):
    with pytest.raises(StoreUnavailable, match=words) as caught:
        kind.storage(url)
    assert isinstance(caught.value, ServerUnavailable) and "secret" not in told(caught.value)


@pytest.mark.parametrize("parameter", ["?no-such-parameter=secret", "?port=secret", "?sslmode=secret"])
def test_an_address_that_the_library_of_postgresql_cannot_read(parameter):
    with pytest.raises((InvalidUrl, ServerUnavailable)) as caught:
        MediaAnalysisStorage(f"postgresql://ann:pass@127.0.0.1:1/media{parameter}")
    assert "pass@" not in told(caught.value)


def test_fault_64_a_wrong_password(own):
    for password in (":", ":wrong"):
        with pytest.raises(ServerUnavailable, match="PGPASSWORD") as caught:
            MediaAnalysisStorage(as_locked(own, password))
        assert "wrong" not in str(caught.value)


def test_fault_64_a_missing_database(own):
    with pytest.raises(ServerUnavailable, match="createdb"):
        MediaAnalysisStorage(own.replace("/postgres?", "/nowhere?"))


def test_a_missing_schema(url):
    with pytest.raises(ServerUnavailable, match="search_path"):
        MediaAnalysisStorage(url + "_not")


def test_fault_64_a_password_is_nowhere_to_be_read(own, kind, caplog, monkeypatch):
    open_to_locked = f"GRANT ALL ON SCHEMA {own.rpartition('%3D')[2]} TO {LOCKED}"
    with psycopg.connect(own, autocommit=True) as con:
        con.execute(open_to_locked)
    address = as_locked(own, f":{quote(PASSWORD)}")
    with caplog.at_level(logging.DEBUG), kind.storage(address) as storage:
        row = kind.row(metadata={})
        assert storage.save_with_logging(**kind.arguments(row), logger=logging.getLogger("plugin"))
        assert not storage.save_with_logging(**kind.arguments(kind.row(metadata=[])), logger=logging.getLogger())
        assert PASSWORD.split()[1] not in repr(storage) + str(storage._facts_()) + caplog.text + storage.db_path
        with pytest.raises(SecretInUrl, match="PGPASSWORD") as caught:
            pickle.dumps(storage)
        assert "sesame" not in told(caught.value)
    with kind.storage(":memory:", memo=address) as storage, pytest.raises(SecretInUrl):
        pickle.dumps(storage)
    with Memo(address) as memo, kind.storage(":memory:", memo=memo) as storage, pytest.raises(SecretInUrl):
        pickle.dumps(storage)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with kind.storage(as_locked(own, "")) as storage, pickle.loads(pickle.dumps(storage)) as copy:
        assert kind.get(copy, row) and len(copy) == 1


def test_threads_take_turns_on_few_connections(url):
    kind = KINDS["analysis"]
    with kind.storage(url) as storage:
        in_threads(4 * servers.SIZE, lambda n: storage.save(**kind.arguments(kind.row(n))))
        assert len(storage) == 4 * servers.SIZE
        assert 1 <= len(storage._database._idle) <= servers.SIZE


def test_a_storage_that_is_forgotten_closes_its_connections(url):
    before = len(os.listdir("/proc/self/fd"))
    storage = MediaAnalysisStorage(url)
    assert len(os.listdir("/proc/self/fd")) > before
    del storage
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_fault_54_fork(kind, url, program):
    said = program(
        """
        import os, sys
        from results import KINDS

        kind = KINDS[sys.argv[2]]
        storage = kind.storage(sys.argv[1])
        storage.save(**kind.arguments(kind.row(0)))
        sockets = lambda: sum("socket" in os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 30)
                              if os.path.exists(f"/proc/self/fd/{fd}"))
        assert sockets() == 1
        for n in range(1, 4):
            if (pid := os.fork()) == 0:
                assert sockets() == 0  # the parent's is not kept open
                storage.save(**kind.arguments(kind.row(n)))
                os._exit(len(storage) != n + 1)
            assert os.waitpid(pid, 0)[1] == 0
            assert len(storage) == n + 1
        if os.fork() == 0:
            sys.exit()  # with all that an interpreter does when it ends
        assert os.wait()[1] == 0
        print(len(storage))
        """,
        url,
        kind.name,
    )
    assert said == "4"


def test_fault_54_fork_inside_a_transaction_leaves_that_to_the_parent(url, program):
    said = program(
        """
        import os, sys
        from results import KINDS
        from cjm_media_storage.errors import StoreClosed

        kind = KINDS["processing"]
        storage = kind.storage(sys.argv[1])
        try:
            with storage._database.transaction() as con:
                storage._insert(con, [storage._write(kind.row(0))])
                child = os.fork() == 0
        except StoreClosed:
            os._exit(0 if child and len(storage) < 2 else 1)
        os._exit(1) if child else None
        assert os.wait()[1] == 0
        print(len(storage))
        """,
        url,
    )
    assert said == "1"


def test_fault_54_fork_while_something_is_computed(url, program, tmp_path):
    (tmp_path / "film.mkv").write_bytes(b"a film")
    said = program(
        """
        import os, sys
        from cjm_media_storage.storage import MediaAnalysisStorage

        files = []
        with MediaAnalysisStorage(sys.argv[1]) as storage:
            def compute(path):
                if os.fork() == 0:
                    files.extend(os.open(path, os.O_RDWR) for _ in range(40))  # with the numbers of closed sockets
                    raise KeyboardInterrupt
                assert os.wait()[1] == 0
                held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
                return [{"locks": storage._database.fetch(held)[0][0]}], {}

            try:
                found = storage.get_or_compute(sys.argv[2], {}, compute)
            except KeyboardInterrupt:
                os._exit(any(os.read(fd, 9) != b"a film" for fd in files))
            print(found.row.ranges[0]["locks"], len(storage))
        """,
        url,
        tmp_path / "film.mkv",
    )
    assert said == "1 1"


STARTED = """
import os, signal
import s3, servers

database, bucket = servers.Server(), s3.Server()
print(database.folder, database.remover.process.pid, database._process.pid, bucket.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_of_tests_that_is_killed_leaves_no_server_and_no_folder(program, s3):
    "No test of the package: of what the others stand on"
    killed = program.start(STARTED)
    said, _ = killed.communicate()
    folder, *pids = said.split()
    for pid in map(int, pids):
        with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(pid)) as end:
            assert select.select([end], [], [], PATIENCE)[0]
    assert killed.returncode == -signal.SIGKILL and not os.path.exists(folder)


def test_fault_54_what_was_closed_stays_closed(url):
    storage = MediaAnalysisStorage(url)
    storage.close()
    storage.close()
    with pytest.raises(StoreClosed):
        storage.list_jobs()
