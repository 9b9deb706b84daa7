"""A model of a disk that loses what was not synced.

A `Tape` is a real disk that writes down what it is asked to change. From the tape, every state is made in which a power
cut could leave the folder: after each call, with each choice of the changes that no sync has covered yet. What the
database commits is taken for durable, which real power cuts prove (test_power).
"""

import itertools
import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from cjm_media_storage.files import Disk

CHOICES = 5  # Pending changes of which every subset is tried; of more, as many at random


@dataclass(frozen=True)
class Call:
    "A change, or a sync"

    name: str  # make, name, unname, move, content, sync_file, sync_folder, sync_all, commit, acknowledged
    path: str = ""  # Relative to the root
    inode: int = 0
    other: str = ""  # Where a name was moved to
    data: bytes = b""
    fact: object = None


class Tape(Disk):
    "A disk that writes down what changes below `root`"

    def __init__(self, root, **abilities):
        super().__init__(**abilities)
        for name, value in {"root": root, "calls": [], "open": {}}.items():
            object.__setattr__(self, name, value)

    def note(self, name, path=None, **more):
        if path is None:
            self.calls.append(Call(name, **more))
        elif Path(path).is_relative_to(self.root):
            self.calls.append(Call(name, Path(path).relative_to(self.root).as_posix(), **more))

    def _inode(self, path):
        return os.stat(path, follow_symlinks=False).st_ino

    def make_one(self, path, mode):
        made = super().make_one(path, mode)
        if made:
            self.note("make", path)
        return made

    def create(self, path, *args):
        fd = super().create(path, *args)
        self.open[fd] = path
        self.note("name", path, inode=self._inode(path))
        return fd

    def write(self, fd, data):
        super().write(fd, data)
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        self.note("content", path, inode=self._inode(path), data=path.read_bytes())

    def link(self, source, target):
        super().link(source, target)
        self.note("name", target, inode=self._inode(target))

    def rename(self, source, target):
        inode = self._inode(source)
        super().rename(source, target)
        self.note("move", source, inode=inode, other=Path(target).relative_to(self.root).as_posix())

    def rename_new(self, source, target):
        inode = self._inode(source)
        super().rename_new(source, target)
        self.note("move", source, inode=inode, other=Path(target).relative_to(self.root).as_posix())

    def unlink(self, path):
        if os.path.lexists(path):
            self.note("unname", path, inode=self._inode(path))
        super().unlink(path)

    def sync_file(self, path):
        super().sync_file(path)
        self.note("sync_file", path, inode=self._inode(path))

    def sync_folder(self, path):
        super().sync_folder(path)
        self.note("sync_folder", path)

    def sync_filesystem(self, fd):
        super().sync_filesystem(fd)
        self.note("sync_all")

    def record_commits(self, store):
        "Note each commit of the store's index, with the file as it then is"
        database = store.parts.index.database
        inner = database._commit

        def commit(connection, con):
            inner(connection, con)
            if connection.depth == 1:
                self.note("commit", data=con.serialize())

        database._commit = commit


@dataclass
class Volume:
    "What a computer knows of a disk after some calls, and which of it is durable"

    calls: list
    names: dict = field(default_factory=dict)  # Path to inode, or None for a folder, durable from the beginning
    contents: dict = field(default_factory=dict)  # Inode to bytes, durable from the beginning

    @classmethod
    def of(cls, root, calls):
        names, contents = {}, {}
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            names[name] = None if path.is_dir() else path.stat().st_ino
            if not path.is_dir():
                contents[path.stat().st_ino] = path.read_bytes()
        return cls(calls, names, contents)

    def states(self, end):
        "Every state after `end` calls in which a power cut may leave the disk: names, contents"
        calls = self.calls[:end]
        pending = [n for n, call in enumerate(calls) if self._changes_names(call) and not self._synced(n, calls)]
        for chosen in _subsets(pending):
            for keep in (True, False):  # bytes that were not synced: all there, or all lost
                yield self._state(calls, set(pending) - set(chosen), keep)
                if all(self._is_content_synced(n, calls) for n, call in enumerate(calls) if call.name == "content"):
                    break

    @staticmethod
    def _changes_names(call):
        return call.name in ("make", "name", "unname", "move")

    @staticmethod
    def _synced(n, calls):
        "Did a later call make the change durable? A move is one transaction of every journaling file system"
        folders = {os.path.dirname(path) or "." for path in (calls[n].path, calls[n].other) if path}
        later = calls[n + 1 :]
        return any(c.name == "sync_all" or (c.name == "sync_folder" and (c.path or ".") in folders) for c in later)

    @staticmethod
    def _is_content_synced(n, calls):
        later = calls[n + 1 :]
        return any(c.name == "sync_all" or (c.name == "sync_file" and c.inode == calls[n].inode) for c in later)

    def _state(self, calls, lost, keep):
        names, contents, index = dict(self.names), dict(self.contents), None
        for n, call in enumerate(calls):
            if call.name == "content":
                contents[call.inode] = call.data if keep or self._is_content_synced(n, calls) else b""
            elif call.name == "commit":
                index = call.data
            elif n not in lost:
                self._apply(call, names)
        return names, contents, index

    @staticmethod
    def _apply(call, names):
        def folder_is_there(path):
            return os.path.dirname(path) in ("", *names)

        if call.name == "make" and folder_is_there(call.path):
            names.setdefault(call.path, None)
        elif call.name == "name" and folder_is_there(call.path):
            names[call.path] = call.inode
        elif call.name == "unname" and names.get(call.path) == call.inode:
            del names[call.path]
        elif call.name == "move":
            if names.get(call.path) == call.inode:
                del names[call.path]
            if folder_is_there(call.other):
                names[call.other] = call.inode


def _subsets(pending):
    "Every subset of a few changes; of many, none, all, and some at random"
    if len(pending) <= CHOICES:
        for count in range(len(pending) + 1):
            yield from itertools.combinations(pending, count)
        return
    yield from ((), tuple(pending))
    chance = random.Random(len(pending))
    for _ in range(2**CHOICES):
        yield tuple(n for n in pending if chance.random() < 0.5)


def build(root, names, contents, index):
    "Make a state real"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    inodes = {}
    for path in sorted(names):
        inode, target = names[path], root / path
        if inode is None:
            target.mkdir()
        elif inode in inodes:
            os.link(inodes[inode], target)
        else:
            target.write_bytes(contents.get(inode, b""))
            inodes[inode] = target
    if index is not None:
        (root / ".store" / "index.db").write_bytes(index)
        for log in ("index.db-wal", "index.db-shm"):
            (root / ".store" / log).unlink(missing_ok=True)
