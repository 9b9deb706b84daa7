"Other stores, each used as its own documentation says; those that are not installed are left out"

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import NotHere

Paths = Sequence[str]


def hashfs(root: Path) -> Any:
    "Two levels of folders, not synced"
    from hashfs import HashFS

    return HashFS(str(root), depth=2, width=2, algorithm="sha256")


def disk_objectstore(root: Path) -> Any:
    "Loose objects are synced each; those in packs are not, on Linux"
    from disk_objectstore import Container

    container = Container(root)
    container.init_container(hash_type="sha256")
    return container


def pack(container: Any, paths: Paths) -> list[str]:
    "Put files into packs"
    from disk_objectstore.utils import LazyOpener

    hashes: list[str] = container.add_streamed_objects_to_pack(
        [LazyOpener(Path(path)) for path in paths], open_streams=True
    )
    return hashes


def loose(container: Any, paths: Paths) -> list[str]:
    "Put files one by one"
    hashes = []
    for path in paths:
        with open(path, "rb") as file:
            hashes.append(container.add_streamed_object(file))
    return hashes


class DvcData:
    "The cache of DVC, not synced"

    def __init__(self, root: Path, remembers: bool = False) -> None:
        from dvc_data.hashfile.db.local import LocalHashFileDB
        from dvc_data.hashfile.state import State
        from dvc_objects.fs.local import LocalFileSystem

        self.fs: Any = LocalFileSystem()  # type: ignore[no-untyped-call]
        self.state: Any = State(root_dir=str(root), tmp_dir=str(root / "state")) if remembers else None
        self.db: Any = LocalHashFileDB(self.fs, str(root / "objects"), hash_name="sha256")  # type: ignore[no-untyped-call]

    def put(self, paths: Paths) -> list[str]:
        "Hash files, and add those that are new"
        from dvc_data.hashfile.hash import hash_file

        hashes = [str(hash_file(path, self.fs, "sha256", self.state)[1].value) for path in paths]
        self.db.add(list(paths), self.fs, hashes)
        return hashes

    def close(self) -> None:
        "Close the cache of hashes"
        if self.state is not None:
            self.state.close()


def diskcache(root: Path) -> Any:
    "A cache in SQLite and files, not synced"
    from diskcache import Cache

    return Cache(str(root), eviction_policy="none", size_limit=1 << 40)


class Program:
    "A store that is a program of its own"

    def __init__(self, name: str, root: Path, setup: Sequence[str]) -> None:
        self.name, self.root = shutil.which(name), root
        if self.name is None:
            raise NotHere(f"{name} is not installed")
        self.run(*setup)

    def run(self, *arguments: str, given: str = "") -> None:
        "Run a command of it"
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.root), "RESTIC_PASSWORD": "none"}
        environment |= {"RESTIC_REPOSITORY": str(self.root / "repository"), "BORG_REPO": str(self.root / "repository")}
        command = [str(self.name), *arguments]
        subprocess.run(command, cwd=self.root, env=environment, input=given, text=True, capture_output=True, check=True)
