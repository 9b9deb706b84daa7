"The command `media-storage` as a whole: what it says of itself, how it starts, and how it fails."

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from commands import PROGRAM, run

import cjm_media_storage
from cjm_media_storage.cli import ROOMS, Commands
from cjm_media_storage.storage import ContentStore, MediaAnalysisStorage, hash_bytes

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))


def all_commands():
    "Each command with its name; those of groups by both words"
    group = Commands(name="media-storage")
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        if subcommands := getattr(command, "commands", None):
            yield from ((f"{name} {sub}", each) for sub, each in subcommands.items())
        else:
            yield name, command


ALL = dict(all_commands())


# ---- what it says of itself


def test_the_page_of_all_commands_is_up_to_date():
    from cli_page import PAGE, page

    assert PAGE.read_text() == page(), "run `python tools/cli_page.py`"


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_examples_help_and_json(name):
    command = ALL[name]
    assert f"\n  media-storage {name}" in command.help
    assert all(getattr(param, "help", "") for param in command.params)
    options = {option for param in command.params for option in param.opts}
    assert ("--json" in options) == ("\nJSON" in command.help) == (name != "cat")


def test_every_command_and_option_is_on_the_page():
    page = (ROOT / "docs" / "CLI.md").read_text()
    for name, command in ALL.items():
        section = re.search(rf"^### media-storage {name}(?: [^\n]*)?\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)[
            1
        ]
        for param in command.params:
            assert all(option in section for option in param.opts if option.startswith("-")), (name, param.opts)


def test_every_summary_is_the_first_sentence_of_its_command():
    for (_, module), names in ROOMS.items():
        rooms = __import__(f"cjm_media_storage.{module}", fromlist=["app"])
        assert set(typer.main.get_group(rooms.app).commands) == set(names), module
        for name, summary in names.items():
            assert Commands(name="x").get_command(None, name).help.startswith(summary)


def test_help_and_version():
    done = run("--help")
    assert (done.code, done.err) == (0, "")
    assert all(re.search(rf"^  {name} ", done.out, re.MULTILINE) for names in ROOMS.values() for name in names)
    assert max(map(len, done.out.splitlines())) <= 80
    assert run("--version").out == f"media-storage {cjm_media_storage.__version__}\n"


# ---- what it prints as JSON


@pytest.fixture
def everything(here, monkeypatch):
    "A store, a library and a database that have one of each"
    with ContentStore(here / "store") as store:
        hash = store.put(b"a poster", source="https://example.org/a.png", owner="movie:1").hash
        store.delete(store.put(b"a film").hash, retention_days=0)
    with MediaAnalysisStorage(here / "analysis.db") as analyses:
        analyses.save("a.wav", hash_bytes(b"a"), hash_bytes(b"{}"))
    monkeypatch.setenv("MEDIA_STORAGE_STORE", str(here / "store"))
    monkeypatch.setenv("MEDIA_STORAGE_LIBRARY", str(here / "films"))
    monkeypatch.setenv("MEDIA_STORAGE_DB", str(here / "analysis.db"))
    return hash[7:]


SAID = [  # In an order in which each has something to say
    *("ls", "show HASH", "find HASH", "get HASH a.png", "sources HASH", "refs", "stats", "verify", "repair"),
    *("snapshot", "doctor", "gc", "explain HASH", "pin-free", "trash list", "publish HASH a.png", "sync"),
    *("sync --dry-run", "unpublish a.png", "rebuild", "add a.png", "demo --folder d", "results list"),
    *("results show HASH2", "results verify", "results export", "trash purge --yes", "rm HASH --force"),
    *("trash restore HASH", "push other", "pull other", "report page.html", "move new"),
    *("lineage HASH2", "import-results analysis.db --into all.db"),
]


def test_json_has_the_keys_that_are_documented(command, everything):
    hashes = {"HASH": everything, "HASH2": hash_bytes(b"a")}
    seen = set()
    for line in SAID:
        words = line.split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in ALL else words[0]
        text = " ".join(ALL[name].help.partition("\nJSON")[2].split())
        if "--dry-run" in words:
            text = text[text.index("JSON lines") :].removeprefix("JSON").rstrip(")")
        keys = text.partition(" (with")[0].partition(": ")[2].split(", ")
        done = command(*(hashes.get(word, word) for word in words), "--json")
        assert done.lines, (line, done.err)
        if "and all that a row holds" in keys:
            assert all(list(each)[:2] == keys[:2] for each in done.lines)
        else:
            assert all(list(each) == keys or set(each) == set(keys) for each in done.lines), line
        if not text.startswith(" lines"):
            assert len(done.lines) == 1 or text.startswith("lines"), line
        seen.add(name)
    assert seen == set(ALL) - {"cat"}


# ---- how it starts


def loaded(*args):
    "The modules that a command has loaded"
    program = (
        "import sys; from cjm_media_storage.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    return set(subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True).stderr.split())


def test_help_and_version_load_nothing_they_do_not_need():
    for args in (["--version"], ["--help"]):
        modules = loaded(*args)
        assert "typer" in modules
        assert not modules & {"sqlite3", "rich.progress", "rich.console", "asyncio", "ctypes"}
        ours = {name for name in modules if name.startswith("cjm_media_storage.")}
        assert ours <= {"cjm_media_storage.cli", "cjm_media_storage.terminal", "cjm_media_storage.errors"}


def test_a_command_loads_its_own_room_only():
    ours = {name for name in loaded("show", "--help") if name.endswith("_cli")}
    assert ours == {"cjm_media_storage.objects_cli"}


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra(missing):
    program = f"import sys; sys.modules[{missing!r}] = None; from cjm_media_storage.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"media-storage needs {missing}: pip install 'cjm-media-storage[cli]'\n"


# ---- how it fails


def test_errors_are_one_line_unless_debugged(here):
    (here / "store" / ".store").mkdir(parents=True)
    (here / "store" / ".store" / "format.json").write_text("{}")
    done = run("ls", "--store", "store")
    assert (done.code, done.raw, done.err.count("\n")) == (1, b"", 1)
    assert "it is not a store's marker" in done.err
    debugged = subprocess.run([*PROGRAM, "--debug", "ls", "--store", "store"], capture_output=True, text=True)
    assert "Traceback" in debugged.stderr


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("add", "demo", "doctor", "import-results")])
def test_no_command_but_two_makes_a_store(command, here, name):
    arguments = [param for param in ALL[name].params if param.param_type_name == "argument" and param.required]
    yes = {"trash purge": ["--yes"], "trash restore": ["--id", "1"]}.get(name, [])
    done = command(*name.split(), *("abcd" for _ in arguments), *yes)
    assert (done.code, done.raw, done.err.count("\n")) == (2, b"", 1)
    assert "no store at" in done.err or "--db" in done.err
    assert list(here.iterdir()) == []


def test_unknown_commands_and_options(command):
    for args in (["dance"], ["ls", "--dance"], ["show"], ["trash", "dance"]):
        done = command(*args)
        assert done.code == 2 and done.err.startswith("Usage: media-storage")


def test_a_reader_that_goes_away():
    script = f"'{sys.executable}' -m cjm_media_storage.cli --help | head -1"
    done = subprocess.run(["sh", "-c", script], capture_output=True)
    assert (done.stdout[:6], done.stderr) == (b"Usage:", b"")
