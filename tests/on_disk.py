"What tests put on the disk, and look up there past the package"

import os
import sqlite3
from contextlib import closing, contextmanager

ODD_NAMES = [b"caf\xe9.mp3", b"two\nlines.png", b"-rf", b'it\'s "quoted".wav', b"[red]x[bold].jpg", b"\x1b[31m.gif"]

NOBODY = 65534


@contextmanager
def unprivileged():
    "Permissions count in this block, also when the tests run as root"
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def query(path, sql, *parameters):
    "Ask the file of a database itself, as DuckDB or another tool would"
    with closing(sqlite3.connect(path)) as con:
        return con.execute(sql, parameters).fetchall()


def held_by(path):
    "Open descriptors of this process on the files of a database"
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(str(path)):
            found.append(target)
    return found


def tree(store):
    "All files of a store's objects, by their path in the store"
    files = (path for path in store.root.rglob("*") if path.is_file() and ".store" not in path.parts)
    return sorted(path.relative_to(store.root).as_posix() for path in files)


def staged(store):
    "What lies in staging"
    return [path for path in (store.root / ".store" / "staging").glob("*/*") if path.name != "lock"]
