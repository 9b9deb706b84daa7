"What is said in two places is the same in both."

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from nbdev.config import get_config

import cjm_media_storage
from cjm_media_storage import storage

ROOT = Path(__file__).resolve().parent.parent


def test_settings_ini_says_nothing_that_pyproject_does_not():
    ini, config = ConfigParser(), get_config(ROOT)
    ini.read(ROOT / "settings.ini")
    folders = {key: config.get(key).name for key in ("lib_path", "nbs_path", "doc_path")}
    assert dict(ini["DEFAULT"]) == {"lib_name": config.lib_name, **folders}


def test_the_changelog_begins_with_what_is_not_released_or_with_this_version():
    first = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)
    assert first == "Unreleased" or first.startswith(cjm_media_storage.__version__)


def makes_a_module(notebook):
    "Is it more than a page to read?"
    return "#| default_exp" in notebook.read_text()


def test_every_notebook_is_listed_in_the_house():
    listed = set(re.findall(r"\(\.\./nbs/([^)]+)\)", (ROOT / "docs" / "HOUSE.md").read_text()))
    assert listed == {path.name for path in ROOT.glob("nbs/[0-9]*.ipynb")}


def test_a_module_imports_only_from_rooms_with_a_lower_number():
    rooms = [path.stem.partition("_")[::2] for path in ROOT.glob("nbs/[0-9]*.ipynb") if makes_a_module(path)]
    number = {name: int(number) for number, name in rooms}
    assert len(set(number.values())) == len(rooms)
    imports = re.compile(r"^\s*from \.(\w+) import|import_module\(\"\.(\w+)\"", re.MULTILINE)
    for name in number:
        source = (ROOT / "cjm_media_storage" / f"{name}.py").read_text()
        used = {first or second for first, second in imports.findall(source)}
        assert [other for other in used if number[other] >= number[name]] == [], name


def test_every_notebook_has_its_test_file_and_every_test_file_its_notebook():
    names = {re.sub(r"^\d+_", "", path.stem) for path in ROOT.glob("nbs/[0-9]*.ipynb") if makes_a_module(path)}
    tests = {path.stem.removeprefix("test_") for path in ROOT.glob("tests/test_*.py")}
    # errors are raised in all the others; the other two are faces of them
    assert names - tests == {"errors", "maintenance", "storage"}
    assert tests - names == {
        "benchmarks",
        "built",
        "crashes",
        "docs",
        "format",
        "hammer",
        "hostile",
        "interleaving",
        "kills",
        "left",
        "model",
        "model_results",
        "order",
        "peers",
        "plugins",
        "power",
        "quality",
        "release",
        "settings",
        "site",
        "style",
        "types",
    }  # of the project as a whole


def test_every_promise_in_faults_md_is_tested_and_every_such_test_is_listed():
    listed = {
        int(number) for number in re.findall(r"^\| (\d+) \|", (ROOT / "tests/FAULTS.md").read_text(), re.MULTILINE)
    }
    sources = "".join(path.read_text() for path in ROOT.glob("tests/test_*.py"))
    assert {int(number) for number in re.findall(r"def test_fault_(\d+)_", sources)} == listed


def test_the_public_face_gives_every_name_that_it_lists():
    "Each is loaded from its room on first use, and looked for by its name alone"
    assert all(getattr(storage, name).__name__ == name for name in storage.__all__)
    assert set(storage.__all__) <= set(dir(storage))
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = storage.nothing
