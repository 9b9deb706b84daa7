"Stores that somebody has tampered with, and all that can be done with a store"

import contextlib
import os
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from cjm_media_storage.maintenance import explain, gc, move_root, rebuild_index, repair, snapshot, verify
from cjm_media_storage.publishing import Library, publications_of
from cjm_media_storage.storage import ContentStore, PutItem, StorageError, hash_bytes

OBJECTS = [b"object %d" % n for n in range(4)]
HASHES = [hash_bytes(content) for content in OBJECTS]


def build(folder):
    "A store with everything in it, a library, and somebody else's folder"
    for name in ("library", "outside", "tmp"):
        (folder / name).mkdir(parents=True)
    for number, content in enumerate(OBJECTS):
        for name in (HASHES[number][7:], f"{number}.jpg", f"store-{number}"):
            (folder / "outside" / name).write_bytes(content)
    (folder / "outside" / "victim").write_text("precious")
    with ContentStore(folder / "store") as store:
        for number, content in enumerate(OBJECTS):
            store.put(content, source=f"https://example.org/{number}.jpg", owner=f"movie:{number}", role="poster")
        store.put(OBJECTS[0], namespace="actors")
        library = Library(store, folder / "library")
        library.publish(HASHES[0], "Movie (2024)/poster.jpg")
        library.publish(HASHES[1], "caf\udce9.jpg")
        store.delete(HASHES[3], "test", force=True)
        (folder / "library" / "mine.nfo").write_text("my notes")
        store.trash.take_file(folder / "library" / "mine.nfo", "in the way")
        snapshot(store)
    return folder


def tamper(folder, *statements):
    "Edit the index as a malicious program would"
    with closing(sqlite3.connect(folder / "store" / ".store" / "index.db", isolation_level=None)) as con:
        con.execute("PRAGMA foreign_keys=OFF")
        for statement in statements:
            con.execute(statement.replace("FOLDER", os.fspath(folder)))


def listing(folder):
    "What is there, and what tells a change"
    paths = [folder, *sorted(folder.rglob("*"))]
    stats = {path: path.lstat() for path in paths}
    return {path: (stat.st_mode, stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def journal_that_deletes(path, victim):
    "Put a rollback journal beside a database, at whose end `victim` is named: SQLite would delete that"
    name, magic = os.fsencode(victim), bytes.fromhex("d9d505f920a163d7")
    sum_ = sum(struct.unpack(f"{len(name)}b", name)) & 0xFFFFFFFF
    head = (magic + struct.pack(">IIIII", 0, 0, 1, 512, 4096)).ljust(512, b"\0")
    end = struct.pack(">I", (0x40000000 // 4096) + 1) + name + struct.pack(">II", len(name), sum_) + magic
    Path(f"{path}-journal").write_bytes(head + end)


@contextlib.contextmanager
def typed():
    "All but our own errors are failures"
    with contextlib.suppress(StorageError):
        yield


def look(store):
    "Read what there is"
    for hash in HASHES:
        for ask in (store.get, store.path, store.read, store.sources, store.exists, store.references):
            with typed():
                ask(hash)
        with typed():
            store.find(hash[7:15])
        with typed():
            explain(store, hash)
        with typed():
            publications_of(store, hash)
    for ask in (list, len, ContentStore.stats, ContentStore.references, lambda store: list(store.trash)):
        with typed():
            ask(store)
    with typed():
        store.find_by_source("https://example.org/0.jpg")


def put(store):
    for content in (OBJECTS[0], OBJECTS[3], os.urandom(8)):
        with typed():
            store.put(content, source="https://example.org/x.png", owner="movie:9")
    with typed():
        list(store.put_many([OBJECTS[1], PutItem(os.urandom(8), owner="movie:8")]))
    with typed():
        store.add_source(HASHES[1], "https://example.org/again.jpg", "me")
    with typed():
        store.add_reference(HASHES[1], "movie:7")
    with typed():
        store.remove_reference(HASHES[1], "movie:7")
    with typed(), store.pin(HASHES[1]):
        pass


def maintain(store):
    with typed():
        repair(store, dry_run=False, fetch=lambda source: OBJECTS[0])
    with typed():
        verify(store, "hash", record=True)
    with typed():
        snapshot(store)
    with typed():
        gc(store, grace=0, dry_run=False, force=True, untracked=True)


def publish(store):
    with typed():
        library = Library(store, store.root.parent / "library")
        for hash in HASHES:
            with typed():
                library.publish(hash, "new/a.jpg", overwrite=True)
        for do in (lambda: list(library.status(deep=True)), lambda: library.sync(overwrite=True, deep=True)):
            with typed():
                do()
        for publication in [*publications_of(store, HASHES[0]), *library.publications()]:
            with typed():
                library.unpublish(publication.path, prune=True)


def throw_away(store):
    for hash in HASHES:
        with typed():
            store.delete(hash, force=True)
        with typed():
            store.trash.restore(hash)
    with typed():
        for item in list(store.trash):
            with typed():
                store.trash.keep(item)
            with typed():
                store.trash.restore(item)
    with typed():
        store.delete(HASHES[2], force=True)
    with typed():
        store.trash.purge()
    with typed():
        store.trash.purge(everything=True)


STEPS = (look, publish, put, throw_away, maintain)


def do_everything(folder, rounds=1):
    "All that can be done with the store; what is refused is refused with one of our errors"
    for _ in range(rounds):
        with typed(), ContentStore(folder / "store", timeout=1) as store:
            for step in STEPS:
                with typed():
                    step(store)
        with typed():
            rebuild_index(folder / "store")
    with typed():
        move_root(folder / "store", folder / "moved", remove=True, force=True)
    with typed():
        ContentStore(folder / "moved", create=False).close()


INFINITE = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT 1 FROM c) SELECT x AS id, x AS object_id, x AS path FROM c"
)
OUT = "FOLDER/outside/victim"
ODD = {  # Values that no store has written, in SQL, for each column
    "objects": {
        "extension": ["'../../../../outside/victim'", "'x/../../..'", "'jpg' || char(0)", "5", "x'ff'"],
        "namespace": ["'..'", "'../outside'", "'FOLDER/outside'", "'.store'", "'a' || char(0) || id", "''"],
        "digest": ["'../../outside/victim' || id", "upper(digest)", "x'00' || id", "id", "substr(digest, 9)"],
        "size": ["9223372036854775807", "-1", "'many'", "x'ff'", "1e300"],
        "mtime_ns": ["'late'", "-9223372036854775808"],
        "created_at": ["9e999", "'x'", "-1e300"],
        "used_at": ["9e999", "x''", "1e17"],
        "checked_at": ["9e999", "'never'"],
        "boot": ["x'ff'", "CAST(x'ff' AS TEXT)", "7"],
        "condemned_at": ["'x'", "1", "9e999"],
        "state": ["'trashing'", "'trashed'", "'odd'", "5"],
        "id": ["id + 9223372036854775800", "-id"],
    },
    "trash": {
        "path": [
            "'../../../outside/' || id",
            "'FOLDER/outside/store-' || id",
            "'.files/../../x' || id",
            "'.' || id",
        ],
        "origin": [
            "'FOLDER/outside/new' || id",
            "'../outside/new' || id",
            "'.store/lock' || id",
            "char(0)",
            "x'ff'",
        ],
        "size": ["'x'", "-5"],
        "reason": ["x'ff'", "CAST(x'ff' AS TEXT)"],
        "trashed_at": ["'x'", "9e999"],
        "retention": ["'x'", "-1", "9e999"],
        "object_id": ["NULL", "(SELECT min(id) FROM objects) + trash.id", "99 + id"],
    },
    "publications": {
        "path": [
            "'FOLDER/library/../outside/' || id || '.jpg'",
            "'FOLDER/outside/' || id || '.jpg'",
            "'FOLDER/library/a' || char(0) || id",
            "CAST('FOLDER/library/' AS BLOB) || x'ff' || id",
            "'/' || id",
        ],
        "object_id": ["99", "'x'"],
        "wanted": ["x'ffff'", "'../outside'", "5"],
        "link_mode": ["'../x'", "'symlink'", "7"],
        "size": ["'x'"],
        "mtime_ns": ["x''"],
        "created_at": ["'x'"],
    },
}
EVIL = {  # What somebody has done to the index
    **{
        f"{table}.{column} = {value}": f"UPDATE {table} SET {column} = {value}"
        for table, columns in ODD.items()
        for column, values in columns.items()
        for value in values
    },
    "objects.id is the highest": f"UPDATE objects SET id = {(1 << 63) - 1} WHERE id = (SELECT max(id) FROM objects)",
    "sources.location": f"UPDATE sources SET location = '{OUT}' || id",
    "sources.location that is no text": "UPDATE sources SET location = CAST(x'ff' AS TEXT) || id",
    "sources.provider": "UPDATE sources SET provider = x'ff'",
    "sources.last_seen": "UPDATE sources SET last_seen = 9e999, first_seen = 'x'",
    "references.owner": "UPDATE object_references SET owner = x'ff' || id, role = 5, created_at = 'x'",
    "the store's id": "UPDATE meta SET value = '../..'",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON sources BEGIN DELETE FROM objects; END",
    "a trigger that is listed as a table": "PRAGMA writable_schema=ON\nINSERT INTO sqlite_master VALUES"
    " ('table', 't', 'objects', 0, 'CREATE TRIGGER t AFTER UPDATE ON objects BEGIN DELETE FROM trash; END')",
    "a view without end": f"DROP TABLE publications\nCREATE VIEW publications AS {INFINITE}",
    "an endless view of ours": f"DROP VIEW asset_candidates\nCREATE VIEW asset_candidates AS {INFINITE}",
    "an index of another version": "PRAGMA user_version=99",
    "an index of no version": "PRAGMA user_version=-1",
    "a table less": "DROP TABLE trash",
    "a column less": "ALTER TABLE objects RENAME COLUMN boot TO shoe",
    "an older index with gaps": "DROP VIEW cache_image_files\nDROP VIEW asset_candidates\n"
    "ALTER TABLE objects RENAME COLUMN state TO estate",
    "a schema of garbage": "PRAGMA writable_schema=ON\nUPDATE sqlite_master SET sql = 'CREATE garbage'",
    "tables in each other's place": "PRAGMA writable_schema=ON\nUPDATE sqlite_master SET rootpage = 3",
    "a table that is nowhere": "PRAGMA writable_schema=ON\n"
    "UPDATE sqlite_master SET rootpage = 999 WHERE name = 'trash'",
    "no constraints": "PRAGMA writable_schema=ON\nUPDATE sqlite_master SET sql = replace(replace(sql, 'UNIQUE', ''),"
    " 'NOT NULL', '') WHERE type = 'table'\nUPDATE objects SET size = NULL",
}


def link(path, target):
    "Put a link in the place of a folder or file"
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _lead_out(name):
    return lambda folder: link(folder / "store" / name, folder / "outside")


def _dead_staging(folder):
    own = folder / "store" / ".store" / "staging"
    own.mkdir(exist_ok=True)
    (own / "a-b-c").mkdir()
    (own / "a-b-c" / "lock").symlink_to(folder / "outside" / "victim")


def _pins(folder):
    pins = folder / "store" / ".store" / "pins"
    pins.mkdir(exist_ok=True)
    for name in ("a.b.c.d", "..x.y", "a.b.c"):
        (pins / name).write_text("")


def _trashed_name(folder):
    (folder / "store" / ".store" / "trash" / ".files" / os.fsdecode(b"caf\xe9")).write_text("mine")


FILES = {  # What somebody has done to the files
    **{f"{name} is a link": _lead_out(name) for name in ("assets", ".store/trash", ".store/quarantine", ".store/pins")},
    **{
        f"{name} leads out": _lead_out(name) for name in (".store/trash/assets", ".store/trash/.files", ".store/backup")
    },
    **{f"{name} leads away": _lead_out(name) for name in (".store/staging", ".store/x.db", ".store/staging/a-b-c")},
    "the lock leads to a file": lambda folder: link(folder / "store/.store/lock", folder / "outside/victim"),
    "the lock of a dead process leads to a file": _dead_staging,
    "the index is a link": lambda folder: link(folder / "store" / ".store" / "index.db", folder / "outside" / "x.db"),
    "the memo is a link": lambda folder: link(folder / "store" / ".store" / "memo.db", folder / "outside" / "x.db"),
    "a journal that deletes a file": lambda folder: journal_that_deletes(
        folder / "store" / ".store" / "index.db", folder / "outside" / "victim"
    ),
    "a memo's journal that deletes a file": lambda folder: journal_that_deletes(
        folder / "store" / ".store" / "memo.db", folder / "outside" / "victim"
    ),
    "odd pins": _pins,
    "a name in the trash that is no text": _trashed_name,
}


def do_evil(folder, name):
    "Do one of `EVIL` or `FILES`"
    if name in FILES:
        FILES[name](folder)
        return
    with contextlib.suppress(sqlite3.Error):  # what cannot be done does no harm
        tamper(folder, *EVIL[name].split("\n"))
