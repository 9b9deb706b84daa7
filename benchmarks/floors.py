"The floor: what the machine can do at all, in C where there is a compiler, else in plain Python, said plainly"

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

GROUP = 1000  # Files that are synced together

Paths = Sequence[str]


def pieces(paths: Paths, size: int) -> list[Paths]:
    "Cut `paths` into pieces"
    return [paths[at : at + size] for at in range(0, len(paths), size)]


@functools.cache
def _library() -> ctypes.CDLL | None:
    "floor.c, compiled; None where that cannot be"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        made, source = f"{folder}/floor.so", Path(__file__).with_name("floor.c")
        command = [compiler, "-O2", "-shared", "-fPIC", "-pthread", "-o", made, str(source), "-lcrypto"]
        done = subprocess.run(command, capture_output=True)
        return ctypes.CDLL(made) if done.returncode == 0 else None


def kind() -> str:
    "What the floor is made of"
    return "C" if _library() is not None else "plain Python"


def _array(paths: Paths) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(paths))(*map(os.fsencode, paths))


def _check(failed: int) -> None:
    if failed:
        raise OSError("the floor could not do its work")


def hash_files(paths: Paths, threads: int) -> None:
    "Hash files on several threads"
    library = _library()
    if library is not None:
        return _check(library.hash_files(_array(paths), len(paths), threads))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda some: [_read(path) for path in some], pieces(paths, 16)))


def ingest(paths: Paths, root: Path, threads: int, durable: bool) -> None:
    "Hash files and write them into shard folders, synced by groups"
    library = _library()
    if library is not None:
        return _check(library.ingest(_array(paths), len(paths), os.fsencode(root), threads, GROUP, int(durable)))
    from benchmarks import bare  # on use: it needs this room

    bare.ingest(paths, root, threads, durable)


def _read(path: str) -> tuple[bytes, str]:
    with open(path, "rb", buffering=0) as file:
        data = file.read()
    return data, hashlib.sha256(data).hexdigest()


def syncfs(folder: Path) -> None:
    "Bring the file system that `folder` is on to its disk"
    fd = os.open(folder, os.O_RDONLY)
    ctypes.CDLL(None).syncfs(fd)
    os.close(fd)
