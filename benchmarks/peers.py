"Other stores, each used as its own documentation says; those that are not installed are left out"

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.harness import NotHere

Paths = Sequence[str]

PACKAGES = ("dvc-data", "hashfs", "diskcache", "disk-objectstore", "psycopg", "obstore", "boto3", "s3fs", "typer")
PROGRAMS = {
    "git": ("git", "--version"),
    "git-annex": ("git-annex", "version"),
    "restic": ("restic", "version"),
    "borg": ("borg", "--version"),
}


def versions() -> dict[str, str]:
    "Those of all that can be measured"
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "is not here"
    for name, command in PROGRAMS.items():
        if shutil.which(name) is None:
            found[name] = "is not here"
        else:
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[name] = next(iter(re.findall(r"\d+(?:\.\d+)+", told)), "of some version")
    return found


def hashfs(root: Path) -> Any:
    "Two levels of folders, not synced"
    from hashfs import HashFS

    return HashFS(str(root), depth=2, width=2, algorithm="sha256")


def disk_objectstore(root: Path) -> Any:
    "Loose objects are synced each; those in packs are not, on Linux"
    from disk_objectstore import Container

    container = Container(root)
    if not container.is_initialised:
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
    "A store that is a program of its own, made by the commands of `setup` in an empty folder"

    def __init__(self, name: str, root: Path, setup: Sequence[Sequence[str]]) -> None:
        if shutil.which(name) is None:
            raise NotHere(f"{name} is not installed")
        self.root = root
        if not any(root.iterdir()):
            for command in setup:
                self.run(*command)

    def run(self, *command: str, given: str = "") -> None:
        "Run a command of it"
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root), "RESTIC_PASSWORD": "none"}
        environment |= {"RESTIC_REPOSITORY": str(self.root / "repository"), "BORG_REPO": str(self.root / "repository")}
        environment |= {"GIT_AUTHOR_NAME": "-", "GIT_COMMITTER_NAME": "-", "EMAIL": "-@localhost"}
        subprocess.run(command, cwd=self.root, env=environment, input=given, text=True, capture_output=True, check=True)


def git(root: Path) -> Program:
    "Loose objects, synced together by `hash`"
    return Program("git", root, [("git", "init", "-q")])


def git_annex(root: Path) -> Program:
    "Files under the names of their hashes"
    return Program("git-annex", root, [("git", "init", "-q"), ("git-annex", "init", "-q", "--no-autoenable")])


def restic(root: Path) -> Program:
    "Packs, encrypted"
    return Program("restic", root, [("restic", "init")])


def back_up(store: Program, paths: Paths) -> None:
    "Put a folder into restic"
    store.run("restic", "backup", "-q", os.path.commonpath(paths))


def borg(root: Path) -> Program:
    "Segments, not encrypted"
    return Program("borg", root, [("borg", "init", "-e", "none")])


def archive(store: Program, paths: Paths) -> None:
    "Put a folder into borg"
    store.run("borg", "create", "::first", os.path.commonpath(paths))
