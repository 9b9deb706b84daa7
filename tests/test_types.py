"The types, as programs that use the library see them: tests/typed_use.py says what they are told."

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cjm_media_storage import errors, maintenance, storage
from cjm_media_storage.lineage import Lineage
from cjm_media_storage.publishing import Library

pytestmark = pytest.mark.types

ROOT = Path(__file__).resolve().parent.parent
USE = "tests/typed_use.py"


def check(*command):
    "Run a type checker of this environment; it may not look for a newer one of itself"
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    run = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


def test_mypy_sees_what_is_promised():
    code, said = check("mypy", USE)
    assert code == 0, said


def test_pyright_sees_it_too_and_the_package_is_clean():
    if shutil.which("node") is None:
        pytest.skip("pyright needs node")
    code, said = check("pyright", "--pythonpath", sys.executable)
    assert code == 0, said


def test_a_type_that_changes_is_noticed(tmp_path):
    changed = tmp_path / "typed_use.py"
    right, wrong = "MediaAnalysisRow | None)", "MediaAnalysisRow)"
    use = (ROOT / USE).read_text()
    changed.write_text(use.replace(right, wrong))
    code, said = check("mypy", str(changed))
    assert code == 1 and said.count('Expression is of type "MediaAnalysisRow | None"') == use.count(right) > 3, said


def test_all_that_is_public_is_asked_for():
    tree = ast.parse((ROOT / USE).read_text())
    used = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(tree)}
    public = {*storage.__all__, *maintenance.__all__} - {*errors.__all__}
    classes = [
        *(storage.ContentStore, storage.MediaAnalysisStorage, storage.MediaProcessingStorage, storage.Trash),
        *(Library, Lineage),
    ]
    for each in classes:
        methods = {name for name in dir(each) if callable(getattr(each, name)) and not name.startswith("_")}
        public |= methods - {"discard", "forget", "recover", "take_file"}  # of the trash: for its own house
    assert public - used == set()
