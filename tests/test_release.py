"""What is released: both files are built, hold what they should, and work alone on every Python that is here.

The package index is asked for what builds them, and for nothing else.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from itertools import chain
from pathlib import Path

import pytest

import cjm_media_storage

ROOT = Path(__file__).resolve().parent.parent
VERSION = cjm_media_storage.__version__
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")

SMOKE = """
import sys
from importlib.metadata import distributions, version
from pathlib import Path

import cjm_media_storage
from cjm_media_storage.maintenance import verify
from cjm_media_storage.storage import ContentStore, MediaAnalysisStorage, hash_bytes, hash_dict_canonical

assert {each.name for each in distributions()} <= {"cjm-media-storage", "pip", "setuptools"}
assert version("cjm-media-storage") == cjm_media_storage.__version__
assert (Path(cjm_media_storage.__file__).parent / "py.typed").exists()

with ContentStore("store") as store:
    poster = store.put(b"a poster", owner="movie:1")
    assert store.read(poster.hash, verify=True) == b"a poster" and verify(store).ok
with MediaAnalysisStorage("results.db") as results:
    Path("poster").write_bytes(b"a poster")
    found = [results.get_or_compute("poster", {}, lambda path: ([], {})).why for _ in range(2)]
    assert found == ["never computed", "cached"]
    assert results.find(hash_bytes(b"a poster"), hash_dict_canonical({})).ranges == []
"""


def run(*command, **options):
    "Run a command; what it said, if it failed"
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    "The two files, built from a copy of what git knows"
    folder = tmp_path_factory.mktemp("release")
    venv.create(folder / "builder", with_pip=True)
    python = folder / "builder" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "build", "setuptools>=77"]
    if (needed := subprocess.run(install, capture_output=True, text=True)).returncode:
        pytest.skip(f"what builds the files cannot be installed: {needed.stderr.strip().splitlines()[-1]}")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "_proc", "_docs")
    shutil.copytree(ROOT, folder / "project", ignore=ignored)
    run(python, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "project")
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(released):
    (path,) = released.glob("*.whl")
    return path


def pythons():
    "A Python of each supported version that is here, from PATH or pyenv"
    of_pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in SUPPORTED:
        found = filter(
            None, chain([shutil.which(f"python{version}")], sorted(of_pyenv.glob(f"{version}.*/bin/python")))
        )
        for path in found:
            command = [path, "-c", "import ensurepip, venv, sys; print(*sys.version_info[:2], sep='.')"]
            if subprocess.run(command, capture_output=True, text=True).stdout.strip() == version:
                yield version, path
                break
        else:
            yield version, None


@pytest.mark.release
def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    package = {path.name for path in (ROOT / "cjm_media_storage").glob("*.py")} | {"py.typed"}
    assert {name.split("/")[0] for name in names} == {"cjm_media_storage", f"cjm_media_storage-{VERSION}.dist-info"}
    assert {name.split("/", 1)[1] for name in names if name.startswith("cjm_media_storage/")} == package


@pytest.mark.release
def test_the_source_holds_what_its_own_tests_need(released):
    (path,) = released.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    kept = (
        "nbs/*.ipynb",
        "docs/*.md",
        "tests/*.py",
        "tools/*.py",
        "benchmarks/*.py",
        "*.md",
        "pyproject.toml",
        "LICENSE",
    )
    assert {path.relative_to(ROOT).as_posix() for pattern in kept for path in ROOT.glob(pattern)} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


@pytest.mark.release
def test_the_metadata_is_complete(wheel):
    with zipfile.ZipFile(wheel) as archive:
        facts = message_from_bytes(archive.read(f"cjm_media_storage-{VERSION}.dist-info/METADATA"))
        scripts = archive.read(f"cjm_media_storage-{VERSION}.dist-info/entry_points.txt").decode()
    assert (facts["Name"], facts["Version"], facts["License-Expression"]) == (
        "cjm-media-storage",
        VERSION,
        "Apache-2.0",
    )
    assert facts["Requires-Python"] == ">=3.11" and facts["Description-Content-Type"] == "text/markdown"
    assert "media-storage = cjm_media_storage.cli:main" in scripts
    assert all("extra ==" in each for each in facts.get_all("Requires-Dist"))  # the core needs nothing
    supported = {f"Programming Language :: Python :: {version}" for version in SUPPORTED}
    assert {each for each in facts.get_all("Classifier") if re.search(r":: 3\.\d+$", each)} == supported
    assert facts.get_payload(decode=True).decode().strip() == (ROOT / "README.md").read_text().strip()


@pytest.mark.release
@pytest.mark.parametrize(("version", "python"), list(pythons()), ids=lambda value: str(value).rpartition("/")[2])
def test_the_wheel_works_alone(wheel, version, python, tmp_path):
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    run(python, "-m", "venv", tmp_path / "empty")
    bin = tmp_path / "empty" / "bin"
    run(bin / "pip", "install", "-q", "--no-index", wheel)
    here = tmp_path / "here"
    here.mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    run(bin / "python", "-W", "error", "-c", SMOKE, cwd=here, env=clean)
    command = subprocess.run([bin / "media-storage", "ls"], cwd=here, env=clean, capture_output=True, text=True)
    assert command.returncode == 2 and "pip install 'cjm-media-storage[cli]'" in command.stderr
    assert "Traceback" not in command.stderr


def test_the_version_is_in_one_place():
    "In the tables of README.md it says what was measured, and in CHANGELOG.md what was released"
    told = [
        path.name
        for pattern in ("*.toml", "*.py", "*.ini", "cjm_media_storage/*.py", "nbs/*.ipynb", "tools/*.py")
        for path in ROOT.glob(pattern)
        if re.search(rf"""["'= ]{re.escape(VERSION)}["'\\s]""", path.read_text())
    ]
    assert told == ["__init__.py"]


def test_this_environment_is_of_a_supported_python():
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in SUPPORTED
