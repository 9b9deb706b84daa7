"Objects by their hash: read, looked for, and verified"

import json
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import bare, peers
from benchmarks.harness import Prepare, Steps, Target, Work, each, kept
from benchmarks.hashing import THREADS
from benchmarks.ingest import put_all
from benchmarks.material import Material
from benchmarks.processes import BY_PROCESSES, processes
from cjm_media_storage.maintenance import verify
from cjm_media_storage.storage import ContentStore, hash_files

Hashes = list[str]
Use = Callable[[Any, Hashes], object]  # Takes a store that is filled


def _shuffled(hashes: Hashes) -> Hashes:
    return random.Random("order").sample(hashes, len(hashes))


def _ours(material: Material, use: Use) -> Prepare:
    def prepare(folder: Path) -> Steps:
        with ContentStore(kept(folder, "store")) as store:
            put_all(store, material.small)
            hashes = _shuffled([each.hash for each in store])
            yield lambda: use(store, hashes)

    return prepare


def _of_ours(material: Material, use: Callable[[Hashes], object]) -> Prepare:
    "Something that is done to the files of our objects, by their paths"

    def prepare(folder: Path) -> Steps:
        with ContentStore(kept(folder, "store")) as store:
            put_all(store, material.small)
            paths = _shuffled([os.fspath(each.path) for each in store])
            yield lambda: use(paths)

    return prepare


def _bare(material: Material) -> Prepare:
    "Read from a store of ours, without our code"

    def prepare(folder: Path) -> Steps:
        with ContentStore(kept(folder, "store")) as store:
            put_all(store, material.small)
            digests = _shuffled([each.hash[-64:] for each in store])
        with bare.index_of(store.root) as con:
            yield lambda: bare.read_each(con, str(store.root), digests)

    return prepare


def _filled(name: str, make: Callable[[Path], Any], put: Callable[[Any], Hashes | None], use: Use) -> Prepare:
    "A peer that is filled once, by whoever is first"

    def prepare(folder: Path) -> Steps:
        (root := kept(folder, name)).mkdir(exist_ok=True)
        store, known = make(root), kept(folder, f"{name}.json")
        if not known.exists():
            known.write_text(json.dumps(put(store)))
        hashes = _shuffled(json.loads(known.read_text()) or [])
        yield lambda: use(store, hashes)
        if hasattr(store, "close"):
            store.close()

    return prepare


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _put_hashfs(paths: list[str], store: Any) -> Hashes:
    return [store.put(path).id for path in paths]


def _peers(material: Material, dvc: Use, hashfs: Use, loose: Use) -> dict[str, Prepare]:
    paths = material.small
    return {
        "dvc-data": _filled("dvc-data", peers.DvcData, lambda store: store.put(paths), dvc),
        "hashfs": _filled("hashfs", peers.hashfs, partial(_put_hashfs, paths), hashfs),
        "disk-objectstore, loose": _filled(
            "loose", peers.disk_objectstore, lambda store: peers.loose(store, paths), loose
        ),
    }


def _reading(material: Material) -> Work:
    plain = "open and read of the path"
    contenders = {
        "ours": _ours(material, lambda store, hashes: each(store.read, hashes)),
        bare.NAME: _bare(material),
        plain: _of_ours(material, lambda paths: each(_read, paths)),
        **_peers(
            material,
            lambda store, hashes: each(lambda hash: _read(store.db.oid_to_path(hash)), hashes),
            lambda store, hashes: each(lambda hash: _read(store.get(hash).abspath), hashes),
            lambda store, hashes: each(store.get_object_content, hashes),
        ),
    }
    targets = [Target(plain, 1 / 1.3), Target("dvc-data", 1.0)]
    note = "by hash, random order, warm; dvc-data makes the path of the hash, and asks no index"
    return Work("open and read", "objects", material.scale.files, contenders, targets, note, bare=bare.NAME)


def _looking(material: Material, hit: bool) -> Work:
    def asked(hashes: Hashes) -> Hashes:
        return hashes if hit else [hash[:-4] + ("0000" if hash[-4:] != "0000" else "1111") for hash in hashes]

    contenders = {
        "ours": _ours(material, lambda store, hashes: [hash in store for hash in asked(hashes)]),
        **_peers(
            material,
            lambda store, hashes: [store.db.exists(hash) for hash in asked(hashes)],
            lambda store, hashes: [store.exists(hash) for hash in asked(hashes)],
            lambda store, hashes: [store.has_object(hash) for hash in asked(hashes)],
        ),
    }
    name = f"in store, {'hit' if hit else 'miss'}"
    note = "by hash, random order; dvc-data asks the disk, ours its index"
    return Work(name, "objects", material.scale.files, contenders, [Target("dvc-data", 0.5)], note)


def _hash_all_below(folder: str) -> None:
    "Hash whatever lies in the folders of objects"
    found = (os.path.join(place, name) for place, _, names in os.walk(f"{folder}/assets") for name in names)
    for _ in hash_files(found, threads=THREADS):
        pass


def _verified_by_processes(material: Material) -> Prepare:
    def prepare(folder: Path) -> Steps:
        with ContentStore(kept(folder, "store")) as store, processes() as executor:
            put_all(store, material.small)
            yield lambda: verify(store, "hash", executor=executor)

    return prepare


def _verifying(material: Material) -> Work:
    paths, packed, walk = material.small, "disk-objectstore, packed", "a walk and hash_files"
    contenders = {
        "ours": _ours(material, lambda store, hashes: verify(store, "hash", threads=THREADS)),
        BY_PROCESSES: _verified_by_processes(material),
        "hash_files": _of_ours(material, lambda paths: list(hash_files(paths, threads=THREADS))),
        walk: _ours(material, lambda store, hashes: _hash_all_below(os.fspath(store.root))),
        packed: _filled(
            "packed",
            peers.disk_objectstore,
            lambda store: peers.pack(store, paths),
            lambda store, hashes: store.validate(),
        ),
        "restic": _filled(
            "restic",
            peers.restic,
            lambda store: peers.back_up(store, paths),
            lambda store, hashes: store.run("restic", "check", "--read-data"),
        ),
        "borg": _filled(
            "borg",
            peers.borg,
            lambda store: peers.archive(store, paths),
            lambda store, hashes: store.run("borg", "check", "--verify-data"),
        ),
    }
    targets = [Target("hash_files", 0.9), Target(packed, 1.3)]
    note = f"every byte, {THREADS} threads, warm; hash_files does not look for files without a row; packs are one file"
    return Work("verify", "objects", material.scale.files, contenders, targets, note, also=BY_PROCESSES, bare=walk)


def works(material: Material) -> Iterator[Work]:
    "All of them read from the page cache"
    yield _reading(material)
    yield _looking(material, hit=True)
    yield _looking(material, hit=False)
    yield _verifying(material)
