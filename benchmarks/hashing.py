"One large file, many files, and files that were hashed before"

import hashlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks import floors, seed
from benchmarks.harness import Prepare, Steps, Target, Timed, Work
from benchmarks.material import Material
from cjm_media_storage.storage import Memo, hash_file, hash_files

THREADS = 2


def simply(timed: Timed) -> Prepare:
    "A contender that needs nothing set up"

    def prepare(folder: Path) -> Steps:
        yield timed

    return prepare


def _in_memory(path: str) -> Prepare:
    def prepare(folder: Path) -> Steps:
        data = Path(path).read_bytes()
        yield lambda: hashlib.sha256(data).hexdigest()

    return prepare


def _remembered(path: str, times: int) -> Prepare:
    def prepare(folder: Path) -> Steps:
        with Memo(folder / "memo.db") as memo:
            memo.hash_file(path)
            yield lambda: [memo.hash_file(path) for _ in range(times)]

    return prepare


def works(material: Material) -> Iterator[Work]:
    "All of them read from the page cache"
    scale, times = material.scale, 50
    large = {
        "ours": simply(lambda: hash_file(material.large)),
        "SHA-256 in memory": _in_memory(material.large),
        "seed": simply(lambda: seed.hash_file(material.large)),
    }
    targets = [Target("SHA-256 in memory", 0.97), Target("seed", 1.3)]
    yield Work("hash_file", "MB", scale.large / 1e6, large, targets, "one large file, warm", reads=[material.large])
    floor = f"floor: {floors.kind()}, {THREADS} threads"
    many = {
        "ours": simply(lambda: list(hash_files(material.media, threads=THREADS))),
        floor: simply(lambda: floors.hash_files(material.media, THREADS)),
        "seed": simply(lambda: [seed.hash_file(path) for path in material.media]),
    }
    targets = [Target(floor, 0.95), Target("seed", 2.4)]
    yield Work("hash_files", "files", scale.media, many, targets, "warm", reads=material.media)
    again = {
        "ours": _remembered(material.media[0], times),
        "hash_file": simply(lambda: [hash_file(material.media[0]) for _ in range(times)]),
    }
    size = 10 * scale.file_size
    wanted = 100 * size / 5_000_000  # the target is told of files of 5 MB
    yield Work("memo hit", "files", times, again, [Target("hash_file", wanted)], f"a file of {size:,} bytes")
