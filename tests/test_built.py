"The notebooks run, and what is made from them is up to date: the package, the outputs they show, README.md."

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MADE = "nbs/**/*.ipynb", "cjm_media_storage/**/*.py", "README.md"


def made(root):
    "Paths in `root` of what `tools/nb.py build` writes"
    return sorted(p.relative_to(root) for pat in MADE for p in root.glob(pat))


def content(path):
    "Content of `path`; of a notebook, all but its pictures, whose bytes differ between machines"
    if path.suffix != ".ipynb":
        return path.read_text()
    nb = json.loads(path.read_text())
    for cell in nb["cells"]:
        for out in cell.get("outputs", []):
            out["data"] = {k: v for k, v in out.get("data", {}).items() if not k.startswith("image/")}
    return nb


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    "A build in a copy of the project, where the package is made anew"
    copy = tmp_path_factory.mktemp("build") / "project"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
    for p in (copy / "cjm_media_storage").glob("*.py"):
        if p.name != "__init__.py":
            p.unlink()
    run = subprocess.run(
        [sys.executable, "tools/nb.py", "build"], cwd=copy, capture_output=True, text=True, timeout=600
    )
    return copy, run


def test_notebooks_run(build):
    _, run = build
    if run.returncode:
        pytest.fail(run.stderr, pytrace=False)


@pytest.mark.parametrize("path", made(ROOT), ids=str)
def test_up_to_date(build, path):
    copy, run = build
    if run.returncode:
        pytest.skip("the build failed")
    assert (copy / path).exists(), f"{path} is made from no notebook"
    assert content(ROOT / path) == content(copy / path), f"{path} is stale: run `python tools/nb.py build`"
