"What is hashed and stored: files of random bytes, the same for all contenders"

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Scale

SETTLED = 2.1  # Seconds: the memo believes no time of a file that is younger


@dataclass(frozen=True)
class Material:
    "Files in folders of 500"

    scale: Scale
    small: list[str]
    media: list[str]  # Ten times as large
    large: str


def _files(folder: Path, name: str, count: int, size: int, suffix: str) -> list[str]:
    source, paths = random.Random(name), []
    for n in range(count):
        path = folder / name / str(n // 500) / f"{n}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(size))
        paths.append(str(path))
    return paths


def large(path: Path, size: int) -> str:
    "Write one large file"
    source = random.Random("large")
    with open(path, "wb") as file:
        for _ in range(size >> 20):
            file.write(source.randbytes(1 << 20))
    return str(path)


def make(folder: Path, scale: Scale) -> Material:
    "Write the files, and wait until they have settled"
    small = _files(folder, "small", scale.files, scale.file_size, ".jpg")
    media = _files(folder, "media", scale.media, 10 * scale.file_size, ".mp4")
    material = Material(scale, small, media, large(folder / "large.mkv", scale.large))
    if scale.name != "tiny":
        os.sync()
        time.sleep(SETTLED)
    return material
