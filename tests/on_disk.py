"What tests put on the disk, and look up there past the package"

import os
import shutil  # the package loads these on use, which a user without permissions may not be able to
import sqlite3
import subprocess
import tempfile  # noqa: F401
from contextlib import closing, contextmanager

import pytest

ODD_NAMES = [b"caf\xe9.mp3", b"two\nlines.png", b"-rf", b'it\'s "quoted".wav', b"[red]x[bold].jpg", b"\x1b[31m.gif"]

NOBODY = 65534


@contextmanager
def mounted(folder, *options):
    "A file system of its own at `folder`"
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None or subprocess.run(["mount", *options, folder], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def memory_disk(folder, size):
    "A file system of `size` (`8m`) that is kept in memory"
    return mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")


@contextmanager
def sharing_disk(folder):
    "A file system, in a new folder of `folder`, whose files can share blocks"
    if shutil.which("mkfs.xfs") is None:
        pytest.skip("mkfs.xfs is not installed")
    with (folder / "disk").open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", folder / "disk"], check=True)
    with mounted(folder / "mounted", "-o", "loop", folder / "disk") as mount:
        yield mount


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


class Place:
    "A folder where nothing may be written for a while: on a disk that is mounted read-only, or of somebody else"

    def __init__(self, path, kind):
        self.path, self.kind = path, kind

    def listing(self):
        "What is there, and what tells a change"
        stats = {path: path.lstat() for path in self.path.rglob("*")}
        return {path: (each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for path, each in stats.items()}

    @contextmanager
    def _closed(self):
        if self.kind == "disk":
            subprocess.run(["mount", "-o", "remount,ro", self.path], check=True)
            try:
                yield
            finally:
                subprocess.run(["mount", "-o", "remount,rw", self.path], check=True)
            return
        folders = {path: path.stat().st_mode for path in (self.path, *self.path.rglob("*")) if path.is_dir()}
        for path, mode in folders.items():
            path.chmod(mode & 0o555)
        try:
            with unprivileged():
                yield
        finally:
            for path, mode in folders.items():
                path.chmod(mode)

    @contextmanager
    def read_only(self):
        "Nothing may be written in this block, nor is"
        with self._closed():
            before = self.listing()
            yield
            assert self.listing() == before


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
