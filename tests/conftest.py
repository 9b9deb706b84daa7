"What several test files share."

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from cjm_media_storage.storage import ContentStore

NOBODY = 65534


@pytest.fixture
def store(tmp_path):
    with ContentStore(tmp_path / "store") as store:
        yield store


@pytest.fixture
def open_folder():
    "A folder that every user can reach, which pytest's own is not"
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


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


def tree(store):
    "All files of a store's objects, by their path in the store"
    files = (path for path in store.root.rglob("*") if path.is_file() and ".store" not in path.parts)
    return sorted(path.relative_to(store.root).as_posix() for path in files)


def staged(store):
    "What lies in staging"
    return [path for path in (store.root / ".store" / "staging").glob("*/*") if path.name != "lock"]
