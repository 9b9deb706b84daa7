"""Two processes, one of which is stopped between any two of its steps while the other works.

All that a store does to the world goes through few doors: the disk, the locks and SQLite. A process that is armed
counts what passes them, and stops itself (SIGSTOP) at the `stop`-th; another then runs to its end, or until it would
have to wait for the first, which goes on then. Nobody sleeps, and nothing is left to chance: every stop is tried.
"""

import concurrent.futures  # noqa: F401  # the package loads these two on use, which would be in each child
import contextlib
import ctypes  # noqa: F401
import functools
import importlib
import json
import os
import select
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from recording import Watched

from cjm_media_storage import locks
from cjm_media_storage.locks import FileLock

PATIENCE = 60  # Seconds in which a process must say something: else two of them wait for each other


class Points:
    "The places at which this process can be stopped, and what it tells whoever started it"

    def __init__(self):
        self.armed, self.fine, self.tells_waiting = False, False, False
        self.count, self.stop, self.said = 0, 0, -1
        self.folder = ""
        self.mutex = threading.RLock()

    def tell(self, what, value=""):
        os.write(self.said, json.dumps([what, value]).encode() + b"\n")

    def pass_by(self, name):
        "Be stopped here, if this is the place"
        if not self.armed:
            return
        with self.mutex:
            self.count += 1
            if self.count == self.stop:
                self.tell("at", name)
                os.kill(os.getpid(), signal.SIGSTOP)

    def wait(self, name):
        "Say that somebody else has to go on first"
        if self.tells_waiting:
            self.tell("waiting", name)


POINTS = Points()

# ---- the disk

PLACES = {  # The beginning of a path in the folder of a test, and what lies there
    "store/.store/staging": "staging",
    "store/.store/trash": "the trash",
    "store/.store/quarantine": "quarantine",
    "store/.store/pins": "a pin",
    "store/.store/backup": "a backup",
    "store/.store/index.db": "the index",
    "store/.store": "the store's own",
    "store": "an object",
    "films": "a publication",
    "elsewhere": "the new place",
}


def place(path):
    "What kind of file it is, in words"
    below = os.path.relpath(path, POINTS.folder)
    return next((name for beginning, name in PLACES.items() if below.startswith(beginning)), below)


UNSEEN = (
    "begin_sync",
    "chmod",
    "write",
    "copy",
    "clone",
    "make_folder",
    "make_one",
    "sync",
    "keep_times",
    "can",
)  # By another process


class ArmedDisk(Watched):
    "A disk whose calls are places to stop at"

    def around(self, name, call, args, options):
        if POINTS.fine or not name.startswith(UNSEEN):
            kinds = [place(each) for each in args if isinstance(each, str | Path)]
            POINTS.pass_by(" ".join([name, " to ".join(kinds)]))
        return call(*args, **options)


# ---- the databases


class ArmedCursor(sqlite3.Cursor):
    "A cursor whose statements are places to stop at"

    def execute(self, sql, *parameters):
        return self.connection.run(super().execute, sql, *parameters)

    def executemany(self, sql, *parameters):
        return self.connection.run(super().executemany, sql, *parameters)


class ArmedConnection(sqlite3.Connection):
    "A connection all of whose cursors are such"

    last = ""  # The beginning of the last statement that wrote

    def cursor(self):
        return super().cursor(ArmedCursor)

    def execute(self, sql, *parameters):
        return self.cursor().execute(sql, *parameters)

    def executemany(self, sql, *parameters):
        return self.cursor().executemany(sql, *parameters)

    def __exit__(self, *error):
        "The commit of a program that leaves it to the connection"
        POINTS.pass_by(f"before the commit of {self.last}")
        swallowed = super().__exit__(*error)
        POINTS.pass_by(f"after the commit of {self.last}")
        return swallowed

    def run(self, call, sql, *parameters):
        word = sql.split(None, 1)[0].upper()
        if word == "COMMIT":
            POINTS.pass_by(f"before the commit of {self.last}")
        elif word == "BEGIN" or (POINTS.fine and word not in ("PRAGMA", "ROLLBACK")):
            POINTS.pass_by(" ".join(sql.split()[:4]))
        result = self._wait(call, sql, *parameters)
        if word in ("INSERT", "UPDATE", "DELETE", "CREATE"):
            self.last = " ".join(sql.split()[:3])
            if not self.in_transaction:  # a statement on its own, of a program that knows no better
                POINTS.pass_by(f"after {self.last}")
        if word == "COMMIT":
            POINTS.pass_by(f"after the commit of {self.last}")
        return result

    def _wait(self, call, sql, *parameters):
        "Run a statement; if others are in the way, say so before they are waited for"
        if not POINTS.tells_waiting:
            return call(sql, *parameters)
        beside = sqlite3.Cursor(self)
        ((patience,),) = beside.execute("PRAGMA busy_timeout").fetchall()
        beside.execute("PRAGMA busy_timeout=0").fetchall()
        try:
            return call(sql, *parameters)
        except sqlite3.OperationalError as e:
            if e.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        finally:
            beside.execute(f"PRAGMA busy_timeout={patience}").fetchall()
        POINTS.wait("SQLite")
        return call(sql, *parameters)


# ---- the locks


class ArmedLockFile(locks.LockFile):
    "A lock file at which others are noticed before they are waited for"

    def __init__(self, path, disk):
        self.counts = path.suffix != ".turn"
        super().__init__(path, disk)

    def pass_by(self, name):
        if self.counts:
            POINTS.pass_by(name)

    def flock(self, how):
        if how == locks.fcntl.LOCK_SH:
            self.pass_by("before a shared lock")
            try:
                return super().flock(how | locks.fcntl.LOCK_NB)
            except OSError:
                POINTS.wait("a shared lock")
        super().flock(how)
        if how == locks.fcntl.LOCK_UN:
            self.pass_by("after a lock was let go")


def _take(lock, file, until, take=FileLock._take):
    file.pass_by("before an exclusive lock")
    try:
        return file.flock(locks.fcntl.LOCK_EX | locks.fcntl.LOCK_NB)
    except OSError:
        if until > time.monotonic():
            POINTS.wait("an exclusive lock")
    return take(lock, file, until)


def _opened(event, args):
    "Stop where a file is opened or a folder listed, too"
    path = args[0] if POINTS.armed and event in ("open", "os.listdir", "os.scandir") else None
    if isinstance(path, str) and path.startswith(POINTS.folder) and ".db" not in path:
        POINTS.pass_by(f"{event.removeprefix('os.')} {place(path)}")


def arm(folder, said, stop, fine):
    "Make this process one that can be stopped, or, with `stop` 0, one that says when it has to wait"
    POINTS.folder, POINTS.said, POINTS.stop, POINTS.fine = os.fspath(folder), said, stop, fine
    POINTS.tells_waiting = not stop
    sqlite3.connect = functools.partial(sqlite3.connect, factory=ArmedConnection)
    locks.LockFile, FileLock._take = ArmedLockFile, _take
    if fine and stop:
        sys.addaudithook(_opened)


# ---- processes


class Stuck(Exception):
    "Two processes wait for each other"


class Child:
    "A forked process, which says what it does through a pipe"

    def __init__(self, folder, work, stop=0, fine=False):
        read, said = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(read)
            self._work(work, folder, said, stop, fine)
        os.close(said)
        self.pipe, self.result, self.reaped = os.fdopen(read, "rb", buffering=0), None, False

    @staticmethod
    def _work(work, folder, said, stop, fine):
        code = 1
        try:
            arm(folder, said, stop, fine)
            work()
            code = 0
        except BaseException:
            import traceback

            POINTS.tell("result", traceback.format_exc())
        finally:
            os._exit(code)

    def hear(self):
        "What it says next: a pair; None at its end"
        if not select.select([self.pipe], [], [], PATIENCE)[0]:
            raise Stuck
        line = b""
        while not line.endswith(b"\n") and (some := self.pipe.read(1)):
            line += some
        what, value = json.loads(line) if line else (None, None)
        if what == "result":
            self.result = value
        if what == "at":
            os.waitpid(self.pid, os.WUNTRACED)  # now all its threads stand still
        return what, value

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)

    def end(self):
        "Hear it to its end"
        while self.hear()[0]:
            pass
        self.reap()
        return self.result

    def kill(self):
        if not self.reaped:
            os.kill(self.pid, signal.SIGKILL)
            self.reap()

    def reap(self):
        if not self.reaped:
            os.waitpid(self.pid, 0)
            self.pipe.close()
            self.reaped = True


@dataclass
class Run:
    "One stop of the first process"

    point: str | None = None  # Where it was stopped; None: it came to its end before
    first: str | None = None  # What each of them said
    second: str | None = None
    waited: str = ""  # What the second had to wait for
    children: list = field(default_factory=list)


def interleave(folder, first, second, stop, fine=False, killed=False):
    "Stop `first` at its `stop`-th point, run `second`, and let `first` go on, or kill it"
    run = Run()
    try:
        _interleave(run, folder, first, second, stop, fine, killed)
    except Stuck:
        run.second = "they wait for each other"
    finally:
        for child in run.children:
            child.kill()
    return run


def _interleave(run, folder, first, second, stop, fine, killed):
    a = Child(folder, first, stop, fine)
    run.children.append(a)
    what, run.point = a.hear()
    if what != "at":
        run.point = None
        return
    b = Child(folder, second)
    run.children.append(b)
    while (said := b.hear())[0] not in (None, "waiting"):
        pass
    run.waited = said[1] if said[0] else ""
    if killed:
        a.kill()
    else:
        a.go_on()
        run.first = a.end()
    run.second = b.end()


def in_turn(folder, *works):
    "Run each to its end, one after the other, and give what they said"
    said = []
    for work in works:
        child = Child(folder, work)
        try:
            said.append(child.end())
        finally:
            child.kill()
    return said


@contextlib.contextmanager
def armed():
    "In this block, the process can be stopped"
    POINTS.armed = True
    try:
        yield
    finally:
        POINTS.armed = False


# ---- what may come of it


@dataclass(frozen=True)
class Rules:
    "What two operations may do to each other that they do not do one after the other"

    may_refuse: Callable = lambda name, said, other: False  # Did it do nothing, because of the other?
    instead: dict = field(default_factory=dict)  # What the first of a pair may do instead: any of these
    steps: dict = field(default_factory=dict)  # What an operation does before and after all of the other: pairs
    holds: Callable = lambda name, said, other, state: True  # Is what it said true, whatever the order?
    lasting: Callable = lambda state: state  # What is there when what a dead process left is swept


class Judge:
    "Knows what operations do when one comes after the other"

    def __init__(self, run, rules):
        self._run, self._rules, self._known = run, rules, {}

    def outcome(self, *names):
        "What they say, and what is there then"
        if names not in self._known:
            self._known[names] = self._run(names)
        return self._known[names]

    def is_legal(self, first, second, said, state):
        "Is that what comes of one after the other, or of one while the other refused?"
        a, b = (first, said[0]), (second, said[1])
        if not all(self._rules.holds(*one, other[0], state) for one, other in ((a, b), (b, a))):
            return False
        return any(self._is_legal(*pair, state) for pair in ((a, b), (b, a)))

    def _is_legal(self, one, other, state):
        (name, said), (next_name, next_said) = one, other
        ways = product(self._ways(name, next_name), self._ways(next_name, name))
        if any(([said, next_said], state) == self.outcome(*names) for names in ways):
            return True
        if self._rules.may_refuse(name, said, next_name) and ([next_said], state) == self.outcome(next_name):
            return True
        between = (self.outcome(before, next_name, after) for before, after in self._rules.steps.get(name, ()))
        return any((found[1:], there) == ([next_said, said], state) for found, there in between)

    def _ways(self, name, other):
        return name, *self._rules.instead.get((name, other), ())

    def is_legal_after_a_kill(self, first, second, state):
        "Is it as if the one that was killed had done all of it, or nothing?"
        lasting = self._rules.lasting
        ways = (self.outcome(*names)[1] for names in ((first, second), (second, first), (second,)))
        return any(lasting(state) == lasting(each) for each in ways)


class Stage:
    "Runs pairs of operations in a folder, again and again from the same beginning"

    def __init__(self, folder, prepare, perform, describe, rules):
        self._work, self._kept = folder / "work", folder / "kept"
        self._prepare, self._perform, self._describe, self._rules = prepare, perform, describe, rules
        self._judges = {}

    def _make(self, before):
        "Bring the folder to what it is before; that is made once"
        kept = self._kept / before
        if not kept.exists():
            self._empty()
            in_turn(self._work, lambda: self._prepare(before))
            shutil.copytree(self._work, kept, symlinks=True)
        self._empty()
        shutil.copytree(kept, self._work, symlinks=True, dirs_exist_ok=True)

    def _empty(self):
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)

    def _operation(self, name):
        return lambda: self._perform(name)

    def _state(self):
        return in_turn(self._work, self._describe)[0]

    def judge(self, before):
        "Who knows what is legal after that beginning"

        def run(names):
            self._make(before)
            return in_turn(self._work, *map(self._operation, names)), self._state()

        return self._judges.setdefault(before, Judge(run, self._rules))

    def all_stops(self, before, first, second, fine=False, killed=False):
        "Stop the first everywhere: the points, how often the second had to wait, and what went wrong"
        points, waited, wrong = [], 0, []
        while True:
            self._make(before)
            operations = self._operation(first), self._operation(second)
            run = interleave(self._work, *operations, len(points) + 1, fine, killed)
            if run.point is None:
                return {"points": points, "waited": waited, "wrong": wrong}
            points.append(run.point)
            waited += bool(run.waited)
            state, judge = self._state(), self.judge(before)
            if killed:
                legal = judge.is_legal_after_a_kill(first, second, state)
            else:
                legal = judge.is_legal(first, second, [run.first, run.second], state)
            if not legal:
                wrong.append({"at": run.point, "waited": run.waited, "said": [run.first, run.second], "state": state})


def serve(folder):
    "Run what is asked for on the standard input, a line of JSON each"
    stages = {}
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked.pop("stage")
        if name not in stages:
            stages[name] = importlib.import_module(name).stage(Path(folder) / name)
        print(json.dumps(stages[name].all_stops(**asked)), flush=True)
