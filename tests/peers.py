"""Stores of others, and ours, each used as its own documentation says to keep bytes under their hash.

As a program, in a process of its own: `peers.py fill NAME FOLDER COUNT` puts objects, says the key of each, and lives
on until it is killed; `peers.py read NAME FOLDER` is told the keys, and says of each whether its bytes are right.
"""

import hashlib
import random
import sqlite3
import subprocess
import sys
import tempfile
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

SIZE = 50_000  # Bytes of an object
TOOLS = {}  # By name


def tool(kind):
    "Add a store to `TOOLS`"
    TOOLS[kind.name] = kind
    return kind


def content(number):
    "Bytes of an object"
    return random.Random(number).randbytes(SIZE)


class Tool:
    "A store in `folder`; `put_all` acknowledges what it yields the key of"

    name, package = "", ""

    @classmethod
    def version(cls):
        return version(cls.package)

    def __init__(self, folder):
        self.folder = folder

    def put_all(self, contents):
        yield from map(self.put, contents)


@tool
class Ours(Tool):
    "`put`, one by one"

    name, package = "cjm-media-storage, `put`", "cjm-media-storage"

    def __init__(self, folder):
        from cjm_media_storage.storage import ContentStore

        self.store = ContentStore(folder / "store")

    def put(self, content):
        return self.store.put(content).hash

    def read(self, key):
        return self.store.read(key, verify=True)


@tool
class OursFull(Ours):
    "`put_many`, where each is durable before the next"

    name, durability = "cjm-media-storage, `put_many`, full", "full"

    def put_all(self, contents):
        for outcome in self.store.put_many(contents, durability=self.durability):
            yield outcome.result.hash


@tool
class OursBatch(OursFull):
    "`put_many` as it is by itself: durable in groups"

    name, durability = "cjm-media-storage, `put_many`, batch", "batch"


@tool
class HashFS(Tool):
    name = package = "hashfs"

    def __init__(self, folder):
        import hashfs

        self.files = hashfs.HashFS(folder / "store", depth=4, width=1, algorithm="sha256")

    def put(self, content):
        return self.files.put(BytesIO(content)).id

    def read(self, key):
        with self.files.open(key) as file:
            return file.read()


@tool
class DiskCache(Tool):
    "The hash is the key"

    name = package = "diskcache"

    def __init__(self, folder):
        import diskcache

        self.cache = diskcache.Cache(folder / "store")

    def put(self, content):
        key = hashlib.sha256(content).hexdigest()
        self.cache[key] = content
        return key

    def read(self, key):
        return self.cache[key]


@tool
class DvcData(Tool):
    "The object database of DVC: dvc-objects with dvc-data's hashing, given files of another disk"

    name, package = "dvc-data on dvc-objects", "dvc-data"

    @classmethod
    def version(cls):
        return f"{version('dvc-data')} on {version('dvc-objects')}"

    def __init__(self, folder):
        from dvc_data.hashfile.db import get_odb
        from dvc_objects.fs.local import LocalFileSystem

        self.files = LocalFileSystem()
        self.objects = get_odb(self.files, str(folder / "store"))

    def put(self, content):
        from dvc_data.hashfile.hash import hash_file

        with tempfile.NamedTemporaryFile() as source:
            source.write(content)
            source.flush()
            _, found = hash_file(source.name, self.files, self.objects.hash_name)
            self.objects.add(source.name, self.files, found.value)
        return found.value

    def read(self, key):
        with self.files.open(self.objects.get(key).path, "rb") as file:
            return file.read()


@tool
class Loose(Tool):
    "Each object a file"

    name, package = "disk-objectstore, loose", "disk-objectstore"

    def __init__(self, folder):
        from disk_objectstore import Container

        self.container = Container(folder / "store")
        if not self.container.is_initialised:
            self.container.init_container()

    def put(self, content):
        return self.container.add_object(content)

    def read(self, key):
        return self.container.get_object_content(key)


@tool
class Packs(Loose):
    "Many objects a file"

    name = "disk-objectstore, packs"

    def put_all(self, contents):
        yield from self.container.add_objects_to_pack(list(contents), do_fsync=True)


@tool
class Sqlite(Tool):
    "A row an object, with the journal that most programs choose"

    name = "SQLite, WAL, `synchronous=NORMAL`"

    @classmethod
    def version(cls):
        return sqlite3.sqlite_version

    def __init__(self, folder):
        self.con = sqlite3.connect(folder / "objects.db", isolation_level=None)
        self.con.execute("PRAGMA journal_mode = WAL")
        self.con.execute("PRAGMA synchronous = NORMAL")
        self.con.execute("CREATE TABLE IF NOT EXISTS objects (hash TEXT PRIMARY KEY, content BLOB)")

    def put(self, content):
        key = hashlib.sha256(content).hexdigest()
        self.con.execute("INSERT INTO objects VALUES (?, ?)", (key, content))
        return key

    def read(self, key):
        ((content,),) = self.con.execute("SELECT content FROM objects WHERE hash = ?", (key,)).fetchall()
        return content


def is_right(store, number, key):
    "Does a store still have what it was given?"
    try:
        return hashlib.sha256(store.read(key)).digest() == hashlib.sha256(content(number)).digest()
    except Exception:
        return False


def fill(kind, folder, count):
    "Put an object into a new store and sync it, put `count` more, say their keys, and live until the power is cut"
    store = kind(folder)
    (key,) = store.put_all([content(count)])
    assert is_right(store, count, key), "it does not have what it was given"
    subprocess.run(["sync", "-f", folder], check=True)
    print(*store.put_all(map(content, range(count))), flush=True)
    sys.stdin.read()


def read(kind, folder):
    "Say of each key whether its bytes are right"
    try:
        store = kind(folder)
    except Exception:  # it does not open any more
        store = None
    print(*(int(is_right(store, number, key)) for number, key in enumerate(sys.stdin.read().split())))


if __name__ == "__main__":
    what, name, folder, *rest = sys.argv[1:]
    {"fill": fill, "read": read}[what](TOOLS[name], Path(folder), *map(int, rest))
