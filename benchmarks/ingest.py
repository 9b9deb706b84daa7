"Files into a store: new and known, many and one, small and large"

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from benchmarks import bare, floors, peers, seed
from benchmarks.harness import Prepare, Steps, Target, Work
from benchmarks.hashing import THREADS, simply
from benchmarks.material import Material
from benchmarks.processes import BY_PROCESSES, processes
from cjm_media_storage.storage import ContentStore, hash_files

Paths = Sequence[str]


def put_all(
    store: ContentStore,
    paths: Paths,
    durability: str = "batch",
    new: bool | None = None,
    executor: Executor | None = None,
) -> None:
    "Put files, and look at what became of each"
    threads = THREADS if executor is None else 1
    for outcome in store.put_many(paths, durability=durability, threads=threads, executor=executor):
        if outcome.result is None or new not in (None, outcome.result.created):
            raise AssertionError(outcome)


def _ours(paths: Paths, durability: str) -> Prepare:
    def prepare(folder: Path) -> Steps:
        with ContentStore(folder / "store") as store:
            yield lambda: put_all(store, paths, durability, new=True)

    return prepare


def _ours_by_processes(paths: Paths, durability: str) -> Prepare:
    def prepare(folder: Path) -> Steps:
        with ContentStore(folder / "store") as store, processes() as executor:
            yield lambda: put_all(store, paths, durability, new=True, executor=executor)

    return prepare


def _ours_again(paths: Paths, memo: bool) -> Prepare:
    def prepare(folder: Path) -> Steps:
        with ContentStore(folder / "store", memo=memo) as store:
            put_all(store, paths)
            yield lambda: put_all(store, paths, new=False)

    return prepare


def _ours_again_by_processes(paths: Paths, memo: bool) -> Prepare:
    def prepare(folder: Path) -> Steps:
        with ContentStore(folder / "store", memo=memo) as store, processes() as executor:
            put_all(store, paths)
            yield lambda: put_all(store, paths, new=False, executor=executor)

    return prepare


def _bare_again(paths: Paths, use: Callable[[Connection, str], object]) -> Prepare:
    "In a store of ours, without our code"

    def prepare(folder: Path) -> Steps:
        with ContentStore(folder / "store") as store:
            put_all(store, paths)
        with bare.index_of(store.root) as con:
            yield lambda: use(con, str(store.root))

    return prepare


def _peer(make: Callable[[Path], Any], put: Callable[[Any], object], first: bool = False) -> Prepare:
    "A store that is made before the clock runs; and filled, if it is `first` put once"

    def prepare(folder: Path) -> Steps:
        store = make(folder)
        if first:
            put(store)
        yield lambda: put(store)
        if hasattr(store, "close"):
            store.close()

    return prepare


def _hashfs(paths: Paths) -> Prepare:
    return _peer(peers.hashfs, lambda store: [store.put(path) for path in paths])


def _diskcache(paths: Paths) -> Prepare:
    def put(store: Any) -> None:
        for path in paths:
            data = Path(path).read_bytes()
            store[hashlib.sha256(data).hexdigest()] = data

    return _peer(peers.diskcache, put)


def _git(paths: Paths) -> Prepare:
    together = ("git", "-c", "core.fsync=loose-object", "-c", "core.fsyncMethod=batch")
    return _peer(
        peers.git, lambda store: store.run(*together, "hash-object", "-w", "--stdin-paths", given="\n".join(paths))
    )


def _git_annex(paths: Paths) -> Prepare:
    command = ("git-annex", "import", "--quiet", "--duplicate")
    return _peer(peers.git_annex, lambda store: store.run(*command, os.path.commonpath(paths)))


def _new(material: Material) -> Iterator[Work]:
    paths, count = material.small, material.scale.files
    floor = f"floor: {floors.kind()}, {THREADS} threads"
    loose, packed = "disk-objectstore, loose", "disk-objectstore, packed"
    durable = {
        "ours": _ours(paths, "batch"),
        BY_PROCESSES: _ours_by_processes(paths, "batch"),
        floor: _peer(lambda folder: folder, lambda root: floors.ingest(paths, root, THREADS, durable=True)),
        bare.NAME: _peer(lambda folder: folder, lambda root: bare.ingest(paths, root, THREADS, durable=True)),
        loose: _peer(peers.disk_objectstore, lambda store: peers.loose(store, paths)),
        packed: _peer(peers.disk_objectstore, lambda store: peers.pack(store, paths)),
        "git": _git(paths),
        "restic": _peer(peers.restic, lambda store: peers.back_up(store, paths)),
        "borg": _peer(peers.borg, lambda store: peers.archive(store, paths)),
        "git-annex": _git_annex(paths),
    }
    targets = [Target(floor, 0.85), Target(loose, 4.5), Target(packed, 1.0)]
    note = "durable when reported, index included; warm; the packs of disk-objectstore are not synced on Linux"
    yield Work("put_many", "files", count, durable, targets, note, also=BY_PROCESSES, bare=bare.NAME)
    relaxed = {
        "ours": _ours(paths, "none"),
        BY_PROCESSES: _ours_by_processes(paths, "none"),
        floor: _peer(lambda folder: folder, lambda root: floors.ingest(paths, root, THREADS, durable=False)),
        bare.NAME: _peer(lambda folder: folder, lambda root: bare.ingest(paths, root, THREADS, durable=False)),
        "dvc-data": _peer(peers.DvcData, lambda store: store.put(paths)),
        "hashfs": _hashfs(paths),
        "diskcache": _diskcache(paths),
        "seed": _peer(lambda folder: folder, lambda root: seed.store_all(paths, root)),
    }
    targets = [Target(floor, 0.75), Target("dvc-data", 2.0), Target("hashfs", 2.0)]
    note = "nobody syncs; warm; the floor, dvc-data, hashfs and the seed have no index"
    yield Work("put_many, durability none", "files", count, relaxed, targets, note, also=BY_PROCESSES, bare=bare.NAME)


def _known(material: Material) -> Iterator[Work]:
    paths, count = material.small, material.scale.files
    hashed = {
        "ours": _ours_again(paths, memo=False),
        BY_PROCESSES: _ours_again_by_processes(paths, memo=False),
        bare.NAME: _bare_again(paths, lambda con, root: bare.recognised(con, root, paths, THREADS)),
        "hash_files": simply(lambda: list(hash_files(paths, threads=THREADS))),
    }
    note = "warm; hash_files asks no index, looks at no object, and makes no results"
    targets = [Target("hash_files", 0.9)]
    yield Work("put_many, known and hashed", "files", count, hashed, targets, note, also=BY_PROCESSES, bare=bare.NAME)
    remembered = {
        "ours": _ours_again(paths, memo=True),
        BY_PROCESSES: _ours_again_by_processes(paths, memo=True),
        bare.NAME: _bare_again(paths, lambda con, root: bare.remembered(con, root, paths)),
        "dvc-data": _peer(partial(peers.DvcData, remembers=True), lambda store: store.put(paths), first=True),
    }
    note = "warm; both look at each source and object; ours also whether its sources are known"
    targets = [Target("dvc-data", 2.0)]
    yield Work(
        "put_many, known by the memo", "files", count, remembered, targets, note, also=BY_PROCESSES, bare=bare.NAME
    )


def _one_by_one(material: Material) -> Iterator[Work]:
    paths = material.small[: max(4, len(material.small) // 5)]

    def ours(folder: Path) -> Steps:
        with ContentStore(folder / "store") as store:
            yield lambda: [store.put(path) for path in paths]

    loose = "disk-objectstore, loose"
    contenders = {
        "ours": ours,
        bare.NAME: _peer(bare.new_store, lambda root: bare.put_each(paths, root)),
        loose: _peer(peers.disk_objectstore, lambda store: peers.loose(store, paths)),
    }
    note = "durable, one at a time, one thread; loose syncs a file and two folders, ours also its index"
    yield Work("put", "files", len(paths), contenders, [Target(loose, 1.0)], note, bare=bare.NAME)


def _copy(source: str, folder: Path) -> None:
    "Copy a file, and wait for the disk"
    with open(source, "rb") as file, open(folder / "copy", "wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
        copy.flush()
        os.fsync(copy.fileno())


def _slower(source: str, folder: Path) -> float:
    "Seconds of hashing or of a durable copy, whichever takes longer"
    began = time.perf_counter()
    _ = list(hash_files([source], threads=1))
    hashed = time.perf_counter()
    _copy(source, folder)
    return max(hashed - began, time.perf_counter() - hashed)


def _large(material: Material) -> Iterator[Work]:
    path = material.large

    def ours(folder: Path) -> Steps:
        with ContentStore(folder / "store") as store:
            yield lambda: store.put(path)

    floor = "hash or durable copy, the slower"
    contenders = {
        "ours": ours,
        floor: _peer(lambda folder: folder, lambda root: _slower(path, root)),
        "disk-objectstore, loose": _peer(peers.disk_objectstore, lambda store: peers.loose(store, [path])),
        "seed": _peer(lambda folder: folder, lambda root: seed.store_all([path], root)),
    }
    note = "durable, but for the seed; warm"
    yield Work("put, large", "MB", material.scale.large / 1e6, contenders, [Target(floor, 0.95)], note)


def works(material: Material) -> Iterator[Work]:
    "All of them read their sources from the page cache"
    small, large = material.small, [material.large]
    for some, reads in ((_new, small), (_known, small), (_one_by_one, small), (_large, large)):
        yield from (replace(work, writes=True, reads=reads) for work in some(material))
