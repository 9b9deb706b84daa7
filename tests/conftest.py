"What several test files share."

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import settings
from programs import Program
from results import KINDS

from cjm_media_storage.storage import ContentStore

settings.register_profile("project", deadline=None, database=None)  # a busy machine is no failure
settings.load_profile("project")


@pytest.fixture
def program(tmp_path_factory):
    return Program(tmp_path_factory.mktemp("programs"))


@pytest.fixture(params=KINDS.values(), ids=lambda kind: kind.name)
def kind(request):
    "Each of the two result storages"
    return request.param


@pytest.fixture
def path(tmp_path):
    "Where a database will be"
    return tmp_path / "results.db"


@pytest.fixture
def nobody(program):
    "A folder, and a way to run a program in it that may `become_nobody`, whom permissions bind"
    folder = Path(tempfile.mkdtemp())  # that of pytest is closed to others
    folder.chmod(0o755)

    def run(text, *args):
        return program("import sys\nfrom programs import become_nobody\n" + dedent(text), *args)

    yield folder, run
    for path in (folder, *folder.rglob("*")):
        os.chmod(path, 0o755)
    shutil.rmtree(folder)


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
