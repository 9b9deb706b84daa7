"""The calls that a piece of work cannot do without, in plain Python, and nothing around them.

Nothing is checked, nothing is reported, and whatever goes wrong ends it. So this is what any store in pure Python takes
that keeps its files and its index as ours does: where even these calls miss a target, Python is the limit, and where
they reach it, what is around them is.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.floors import GROUP, pieces, syncfs
from cjm_media_storage.storage import ContentStore

NAME = "bare Python"
TOGETHER = 128  # Files of a task, or of a query

Paths = Sequence[str]
Staged = tuple[str, str]  # Path and digest


def read(path: str, size: int | None = None) -> bytes:
    "All bytes of a file"
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, (os.fstat(fd).st_size if size is None else size) + 1)
    finally:
        os.close(fd)


def _stage(staging: str, paths: Paths, durable: bool = False) -> list[Staged]:
    "Read, hash and write files"
    staged = []
    for path in paths:
        data = read(path)
        digest = hashlib.sha256(data).hexdigest()
        target = f"{staging}/{digest}"
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        try:
            os.write(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        staged.append((target, digest))
    return staged


def _name(root: str, staged: Sequence[Staged]) -> None:
    "Give files their final names"
    for path, digest in staged:
        folder = f"{root}/{digest[:2]}/{digest[2:4]}"
        try:
            os.mkdir(folder)
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)  # another thread may make it, too
        os.rename(path, f"{folder}/{digest}")


def ingest(paths: Paths, root: Path, threads: int, durable: bool) -> None:
    "Hash files and write them into shard folders, synced by groups, as the floor in C does; without an index"
    (root / "staging").mkdir()
    with ThreadPoolExecutor(threads) as pool:
        for group in pieces(paths, GROUP):
            tasks = pool.map(partial(_stage, f"{root}/staging"), pieces(group, TOGETHER))
            staged = [each for some in tasks for each in some]
            if durable:
                syncfs(root)
            for _ in pool.map(partial(_name, os.fspath(root)), pieces(staged, GROUP // threads)):
                pass
            if durable:
                syncfs(root)


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as con:
        con.execute("PRAGMA synchronous=EXTRA")
        yield con


def new_store(folder: Path) -> Path:
    "A store of ours, for its tables"
    with ContentStore(folder / "store") as store:
        (store.root / ".store" / "bare").mkdir()
    return store.root


def put_each(paths: Paths, root: Path) -> None:
    "Store files one by one, each durable with its rows before the next"
    staging = root / ".store" / "bare"
    with _database(root / ".store" / "index.db") as con:
        for path in paths:
            ((staged, digest),) = _stage(os.fspath(staging), [path], durable=True)
            _name(f"{root}/assets", [(staged, digest)])
            _sync(f"{root}/assets/{digest[:2]}/{digest[2:4]}")
            _sync(f"{root}/assets/{digest[:2]}")
            now, stat = time.time(), os.stat(f"{root}/assets/{digest[:2]}/{digest[2:4]}/{digest}")
            con.execute("BEGIN IMMEDIATE")
            row = (digest, stat.st_size, stat.st_mtime_ns, now, now)
            columns = "digest, namespace, extension, size, mtime_ns, created_at, used_at"
            con.execute(f"INSERT INTO objects ({columns}) VALUES (?, 'assets', '', ?, ?, ?, ?)", row)
            columns = "object_id, location, provider, extension, first_seen, last_seen"
            con.execute(
                f"INSERT INTO sources ({columns}) VALUES (last_insert_rowid(), ?, '', '', ?, ?)", (path, now, now)
            )
            con.execute("COMMIT")


Known = tuple[str, str, int]  # Path, digest and size in bytes


@contextmanager
def index_of(root: Path) -> Iterator[sqlite3.Connection]:
    "The index of a store of ours, and what it remembers of files"
    with _database(root / ".store" / "index.db") as con:
        con.execute("ATTACH ? AS remembered", (os.fspath(root / ".store" / "memo.db"),))
        yield con


def _recall(con: sqlite3.Connection, paths: Paths) -> list[str]:
    "The digests of files; those that have not changed since they were put are not read"
    stats = [os.lstat(path) for path in paths]
    sql = "SELECT inode, size, mtime_ns, ctime_ns, hash FROM memo WHERE device = ? AND algo = 'sha256' AND inode IN "
    marks, inodes = ",".join("?" * len(paths)), [str(stat.st_ino) for stat in stats]
    memo = {row[0]: row[1:] for row in con.execute(f"{sql} ({marks})", (stats[0].st_dev, *inodes))}
    digests = []
    for path, inode, stat in zip(paths, inodes, stats, strict=True):
        *same, hash = memo.get(inode, ("",))
        unchanged = same == [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        digests.append(hash[-64:] if unchanged else hashlib.sha256(read(path)).hexdigest())
    return digests


def _look(con: sqlite3.Connection, root: str, paths: Paths, digests: Sequence[str]) -> list[Known]:
    "Is that what the paths gave last, and are those objects in place?"
    marks = ",".join("?" * len(paths))
    sql = (
        "SELECT location, digest, namespace, objects.extension, size, mtime_ns FROM sources"
        f" JOIN objects ON objects.id = object_id WHERE location IN ({marks}) AND state = 'live'"
    )
    given, found = {row[0]: row[1:] for row in con.execute(sql, paths)}, []
    for path, wanted in zip(paths, digests, strict=True):
        digest, namespace, extension, size, mtime_ns = given[path]
        folder = f"{root}/{namespace}/{digest[:2]}/{digest[2:4]}"
        os.lstat(folder)  # no link?
        stat = os.lstat(f"{folder}/{digest}.{extension}")
        assert (wanted, stat.st_size, stat.st_mtime_ns) == (digest, size, mtime_ns)
        found.append((path, digest, size))
    return found


def remembered(con: sqlite3.Connection, root: str, paths: Paths) -> list[Known]:
    "Recognise files that have not changed"
    return [each for some in pieces(paths, TOGETHER) for each in _look(con, root, some, _recall(con, some))]


def _hash(paths: Paths) -> list[str]:
    return [hashlib.sha256(read(path)).hexdigest() for path in paths]


def recognised(con: sqlite3.Connection, root: str, paths: Paths, threads: int) -> list[Known]:
    "Hash files, and recognise them"
    tasks, found = pieces(paths, TOGETHER), []
    with ThreadPoolExecutor(threads) as pool:
        for some, digests in zip(tasks, pool.map(_hash, tasks), strict=True):
            found += _look(con, root, some, digests)
    return found


def read_each(con: sqlite3.Connection, root: str, digests: Sequence[str]) -> None:
    "Read objects by their digests, one after the other"
    cursor = con.cursor()
    sql = "SELECT namespace, extension, size FROM objects WHERE digest = ? AND state = 'live' AND boot = '' LIMIT 1"
    for digest in digests:
        namespace, extension, size = cursor.execute(sql, (digest,)).fetchone()
        read(f"{root}/{namespace}/{digest[:2]}/{digest[2:4]}/{digest}.{extension}", size)
