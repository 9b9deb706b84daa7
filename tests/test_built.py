"The notebooks run, and what is made from them is up to date: the package, the outputs they show, README.md."

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MADE = "nbs/**/*.ipynb", "cjm_media_storage/**/*.py", "README.md"


def made(root):
    "Paths in `root` of what `tools/nb.py build` writes"
    return sorted(path.relative_to(root) for pattern in MADE for path in root.glob(pattern))


def content(path):
    "Content of `path`; of a notebook, all but its pictures, whose bytes differ between machines"
    if path.suffix != ".ipynb":
        return path.read_text()
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output["data"] = {kind: value for kind, value in output.get("data", {}).items() if "image/" not in kind}
    return notebook


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    "A build in a copy of the project, where the package is made anew"
    copy = tmp_path_factory.mktemp("build") / "project"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build"))
    for path in (copy / "cjm_media_storage").glob("*.py"):
        if path.name != "__init__.py":
            path.unlink()
    command = [sys.executable, "tools/nb.py", "build"]
    return copy, subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=600)


def test_notebooks_run(build):
    _, run = build
    if run.returncode:
        pytest.fail(run.stdout + run.stderr, pytrace=False)


@pytest.mark.parametrize("path", made(ROOT), ids=str)
def test_up_to_date(build, path):
    copy, run = build
    if run.returncode:
        pytest.skip("the build failed")
    assert (copy / path).exists(), f"{path} is made from no notebook"
    assert content(ROOT / path) == content(copy / path), f"{path} is stale: run `python tools/nb.py build`"


def test_every_file_is_made(build):
    copy, run = build
    if run.returncode:
        pytest.skip("the build failed")
    assert made(copy) == made(ROOT)


def test_no_output_tells_of_the_machine_it_was_made_on():
    for path in ROOT.glob("nbs/**/*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            shown = json.dumps(cell.get("outputs", []))
            assert not re.search(r"/(tmp|home|root|Users)/| at 0x", shown), f"{path.name}: {shown}"
