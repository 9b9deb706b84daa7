"What several suites share"

import os
import shutil
import tempfile
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import settings
from programs import Program
from results import KINDS

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
