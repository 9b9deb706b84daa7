"""A program that knows docs/FORMAT.md and nothing else: it reads a store, adds to it, and reads results.

It runs without this library, and without any other: `python -I -S tests/stranger.py read ROOT` prints JSON.
"""

import fcntl
import hashlib
import json
import os
import re
import sqlite3
import sys
import uuid
from contextlib import closing, contextmanager
from pathlib import Path

OBJECT = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{64})(?:\.([a-z0-9]{1,16}))?")


def check_marker(root):
    "The id of the store, if this program knows its format"
    marker = json.loads((root / ".store" / "format.json").read_text())
    if (marker["format"], marker["algo"], marker["shard"]) != (1, "sha256", [2, 2]):
        sys.exit("this is a store of another format")
    if (root / ".store" / "moving.json").exists():
        sys.exit("the store is on its way here")
    return marker["id"]


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def objects(root):
    "Namespace, digest and extension of each object in the tree, and whether its bytes are right"
    for path in sorted(root.glob("*/*/*/*")):
        found = OBJECT.fullmatch(path.relative_to(root).as_posix())
        if found and (found[2], found[3]) == (found[4][:2], found[4][2:4]):
            yield found[1], found[4], found[5] or "", digest_of(path) == found[4]


@contextmanager
def reading(path):
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as con:
        con.row_factory = sqlite3.Row
        yield con


def read(root):
    "All that can be read of a store"
    id = check_marker(root)
    with reading(root / ".store" / "index.db") as con:
        if con.execute("PRAGMA user_version").fetchone()[0] != 2:
            sys.exit("this is an index of another version")
        if con.execute("SELECT value FROM meta WHERE key = 'store'").fetchone()[0] != id:
            sys.exit("this is the index of another store")
        live = [
            tuple(row) for row in con.execute("SELECT namespace, digest, extension FROM objects WHERE state = 'live'")
        ]
        trashed = [
            (row["digest"], digest_of(root / ".store" / "trash" / row["path"]) == row["digest"])
            for row in con.execute("SELECT digest, path FROM trash JOIN objects ON objects.id = object_id")
        ]
        views = [dict(row) for row in con.execute("SELECT * FROM cache_image_files")]
        sources = [dict(row) for row in con.execute("SELECT provider, url, cache_file_id FROM asset_candidates")]
    right = all((root / row["file_path"]).stat().st_size == row["file_size"] for row in views)
    return {
        "id": id,
        "objects": list(objects(root)),
        "live": live,
        "trashed": trashed,
        "sizes are right": right,
        "sources": sources,
    }


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def staging(root):
    "A folder of our own"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    folder = root / ".store" / "staging" / f"{boot}-{os.getpid()}-{uuid.uuid4().hex}"
    folder.mkdir(mode=0o700, parents=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


@contextmanager
def together(root):
    "The store's lock, held with others"
    with open(root / ".store" / "lock.turn", "a") as turn:
        fcntl.flock(turn, fcntl.LOCK_SH)
    with open(root / ".store" / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def add(root, namespace, extension, data):
    "Add an object as the page says, and give its digest"
    check_marker(root)
    with staging(root) as own:
        staged = own / "new"
        staged.write_bytes(data)
        digest = digest_of(staged)
        staged.chmod(0o444)
        sync(staged)
        with together(root):
            shard = root / namespace / digest[:2] / digest[2:4]
            above = [shard, *shard.parents]
            made = [folder for folder in above[: above.index(root)] if not folder.exists()]
            shard.mkdir(parents=True, exist_ok=True)
            there = next(shard.glob(f"{digest}*"), None)
            if there is None:
                os.link(staged, shard / f"{digest}.{extension}")
            else:
                sync(there)
            for folder in dict.fromkeys([shard, *(folder.parent for folder in made)]):
                sync(folder)
    return digest


def snapshot(path):
    "The facts of a snapshot that is whole"
    *lines, last = Path(path).read_bytes().splitlines(keepends=True)
    end, head = json.loads(last), json.loads(lines[0])
    if end != {"end": len(lines) - 1, "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}:
        sys.exit("this is no whole snapshot")
    if (head["format"], head["version"]) != ("cjm-media-storage snapshot", 1):
        sys.exit("this is a snapshot of another version")
    return [json.loads(line) for line in lines[1:]]


def settings_hash(settings):
    text = json.dumps(settings or {}, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def results(path, file_hash, settings):
    "The answer of an analysis, by content: its ranges"
    sql = "SELECT ranges FROM analysis_jobs WHERE file_hash = ? AND config_hash = ? ORDER BY created_at DESC, id DESC"
    with reading(Path(path)) as con:
        return json.loads(con.execute(sql, (file_hash, settings_hash(settings))).fetchone()[0])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["read", root]:
            print(json.dumps(read(Path(root))))
        case ["add", root, namespace, extension, text]:
            print(json.dumps(add(Path(root), namespace, extension, text.encode())))
        case ["snapshot", path]:
            print(json.dumps(snapshot(path)))
        case ["results", path, file_hash, settings]:
            print(json.dumps(results(path, file_hash, json.loads(settings))))
