"""Killed, or told of an error, at every system call that changes a disk: strace does it to real processes. Afterwards
all that was acknowledged is there, all that is listed is right, and the same work succeeds when it is done again."""

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import ContentStore, MediaAnalysisStorage, MediaProcessingStorage, hash_bytes

strace = shutil.which("strace")
pytestmark = [pytest.mark.kills, pytest.mark.skipif(strace is None, reason="strace is not installed")]

KILL, FULL, BROKEN = "signal=KILL", "error=ENOSPC", "error=EIO"
WHAT_HAPPENS = [  # at which calls, and at each how many-th of them: SQLite makes many that are alike
    (KILL, ["write", "fsync", "syncfs", "link", "rename", "renameat2", "unlink", "mkdir", "ftruncate"], 1),
    (KILL, ["fdatasync"], 1),
    (KILL, ["pwrite64"], 7),
    (FULL, ["write", "link", "rename", "renameat2", "mkdir", "ftruncate"], 1),
    (FULL, ["pwrite64"], 13),
    (BROKEN, ["fsync", "syncfs"], 1),
    (BROKEN, ["fdatasync"], 1),
    (BROKEN, ["write", "pwrite64"], 17),
]
POSTERS = [b"poster %d" % n for n in range(3)]
HASH = hash_bytes(POSTERS[0])
CONFIG = hash_bytes(b"{}")

OLD = """CREATE TABLE processing_jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT UNIQUE NOT NULL, action TEXT NOT NULL, input_path TEXT NOT NULL,
    input_hash TEXT NOT NULL, output_path TEXT NOT NULL, output_hash TEXT NOT NULL, parameters JSON, metadata JSON,
    created_at REAL NOT NULL)"""


class Work:
    "Something that is done in a folder, and how to tell that it was"

    def prepare(self, folder):
        with ContentStore(folder / "store") as store:
            self.before(store)

    def before(self, store):
        pass

    def do(self, folder):
        with ContentStore(folder / "store") as store:
            self.work(store)

    def check(self, folder):
        "What is listed is right"
        with ContentStore(folder / "store") as store:
            for stored in store:
                store.read(stored.hash, verify=True)
            return self.is_done(store)


class Put(Work):
    def work(self, store):
        store.put(POSTERS[0], source="https://example.org/a.jpg", owner="movie:1")

    def is_done(self, store):
        return HASH in store and len(store.sources(HASH)) == len(store.references(HASH)) == 1


class PutMany(Work):
    def work(self, store):
        assert not [outcome.error for outcome in store.put_many(POSTERS, owner="movie:1") if outcome.error]

    def is_done(self, store):
        return all(hash_bytes(poster) in store for poster in POSTERS) and len(store.references(owner="movie:1")) == 3


class Delete(Work):
    def before(self, store):
        Put().work(store)

    def work(self, store):
        if HASH in store:
            store.delete(HASH, force=True)

    def is_done(self, store):
        (item,) = store.trash.find(HASH) or [None]
        if item:
            with ContentStore(store.root) as again:
                assert (again.trash.folder / "assets" / HASH[7:]).with_suffix(".jpg").exists()
        assert (item is None) is (HASH in store)
        return item is not None


class Restore(Delete):
    def before(self, store):
        Put().work(store)
        store.delete(HASH, force=True)

    def work(self, store):
        if store.trash.find(HASH):
            store.trash.restore(HASH)

    def is_done(self, store):
        return HASH in store and len(store.sources(HASH)) == len(store.references(HASH)) == 1


class Purge(Restore):
    def work(self, store):
        store.trash.purge(everything=True)

    def is_done(self, store):
        return HASH not in store and not store.trash.find(HASH)


class Publish(Delete):
    def work(self, store):
        Library(store, store.root.parent / "films").publish(HASH, "Movie (2024)/poster.jpg")

    def is_done(self, store):
        path = store.root.parent / "films" / "Movie (2024)" / "poster.jpg"
        assert not path.exists() or path.read_bytes() == POSTERS[0]
        return path.exists() and [row.state for row in Library(store, path.parent.parent).status()] == ["in sync"]


class Save(Work):
    COUNT = 1

    def prepare(self, folder):
        MediaAnalysisStorage(folder / "a.db").close()

    def do(self, folder):
        with MediaAnalysisStorage(folder / "a.db") as storage:
            storage.save("/films/0", HASH, CONFIG, ranges=[{"start": 0.0}])

    def check(self, folder):
        with MediaAnalysisStorage(folder / "a.db") as storage:
            rows = list(storage)
        assert len(rows) in (0, self.COUNT)
        assert all(row.ranges == [{"start": 0.0}] for row in rows)
        return len(rows) == self.COUNT


class SaveMany(Save):
    COUNT = 50

    def do(self, folder):
        from cjm_media_storage.storage import MediaAnalysisRow

        rows = [MediaAnalysisRow(f"/films/{n}", HASH, CONFIG, ranges=[{"start": 0.0}]) for n in range(self.COUNT)]
        with MediaAnalysisStorage(folder / "a.db") as storage:
            storage.save_many(rows)


class Migrate(Work):
    def prepare(self, folder):
        with closing(sqlite3.connect(folder / "p.db")) as con:
            con.execute(OLD)
            con.executemany(
                "INSERT INTO processing_jobs VALUES (?, ?, 'cut', '/a', ?, '/b', ?, NULL, NULL, ?)",
                [(n, f"job-{n}", HASH, HASH, float(n)) for n in range(1, 21)],
            )
            con.commit()

    def do(self, folder):
        MediaProcessingStorage(folder / "p.db").close()

    def check(self, folder):
        with closing(sqlite3.connect(folder / "p.db")) as con:
            rows = con.execute("SELECT id, job_id, created_at FROM processing_jobs ORDER BY id").fetchall()
            columns = [row[1] for row in con.execute("PRAGMA table_info(processing_jobs)")]
        assert rows == [(n, f"job-{n}", float(n)) for n in range(1, 21)]
        return "config_hash" in columns


WORKS = {kind.__name__: kind() for kind in (Put, PutMany, Delete, Restore, Purge, Publish, Save, SaveMany, Migrate)}

PROGRAM = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_kills import WORKS
for name in sys.argv[3:]:
    child = os.fork()  # which strace counts the calls of from one
    if child == 0:
        try:
            WORKS[name].do(Path(sys.argv[2]) / name)
            os.close(os.open(Path(sys.argv[2]) / name / "acknowledged", os.O_CREAT | os.O_WRONLY))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


def interfere(folder, call, action, number, names):
    "Do the works, each in a process to which it happens at the `number`-th call"
    inject = f"inject={call}:{action}:when={number}"
    command = [strace, "-f", "-qq", "-o", folder / "log", "-e", f"trace={call}", "-e", inject]
    here = os.path.dirname(__file__)
    subprocess.run([*command, sys.executable, "-c", PROGRAM, here, folder, *names], check=True, capture_output=True)
    log = (folder / "log").read_text()
    return "INJECTED" in log or "killed by SIGKILL" in log


def prepare(folder):
    shutil.rmtree(folder, ignore_errors=True)
    for name, work in WORKS.items():
        (folder / name).mkdir(parents=True)
        work.prepare(folder / name)
    return folder


def check(folder, name):
    "What was acknowledged is there; and the work succeeds when it is done again"
    work = WORKS[name]
    done = work.check(folder / name)
    assert done or not (folder / name / "acknowledged").exists(), f"{name} was acknowledged, and is lost"
    work.do(folder / name)
    assert work.check(folder / name), f"{name} cannot be done again"


@pytest.mark.parametrize(
    ("action", "call", "every"),
    [(action, call, every) for action, calls, every in WHAT_HAPPENS for call in calls],
)
def test_fault_21_interrupted_at_every_call(tmp_path, action, call, every):
    template = prepare(tmp_path / "template")
    for number in itertools.count(1, every):
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        shutil.copytree(template, tmp_path / "work", symlinks=True)
        if not interfere(tmp_path / "work", call, action, number, WORKS):
            break
        for name in WORKS:
            check(tmp_path / "work", name)
    assert number > 1, f"nothing calls {call}"
