"The command `media-storage`, run as people run it."

import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from on_disk import ODD_NAMES
from results import analysis_row

from cjm_media_storage.cli import find_store, printable
from cjm_media_storage.storage import ContentStore, MediaAnalysisStorage, MediaProcessingStorage, hash_file

COMMAND = [sys.executable, "-m", "cjm_media_storage.cli"]


@pytest.fixture(autouse=True)
def environment(here, monkeypatch):
    "Each test has a folder of its own, and no store from outside"
    monkeypatch.delenv("MEDIA_STORAGE_STORE", raising=False)
    monkeypatch.setenv("PYTHONUTF8", "1")


def media_storage(*args, **options):
    "Run the command; its exit code, and what it printed"
    run = subprocess.run([*COMMAND, *map(os.fsencode, args)], capture_output=True, text=True, timeout=60, **options)
    assert "Traceback" not in run.stderr
    return run.returncode, run.stdout, run.stderr


def counts(out):
    "The summary's rows, by name: files"
    rows = re.findall(r"^ *(seen|new|already known|failed|skipped)[^\d:]*? +([\d,]+)", out, re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in rows}


def digests(store):
    "Digests in the names of the objects of a store, each checked against its bytes"
    paths = [path for path in Path(store, "assets").rglob("*") if path.is_file()]
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name[:64] for path in paths)
    return sorted(path.name[:64] for path in paths)


# ---- add


def test_add_twice(films):
    code, out, _ = media_storage("add", "films")
    wanted = sorted(hashlib.sha256(b"content of " + name).hexdigest() for name in ODD_NAMES)
    assert digests("media-store") == wanted
    size = sum(len(b"content of " + name) for name in ODD_NAMES)
    assert (code, counts(out)) == (1, {"seen": 13, "new": 6, "already known": 6, "failed": 1, "skipped": 2})
    assert re.search(rf"^ *new +6 +{size} bytes$", out, re.MULTILINE)
    assert re.search(rf"^ *already known, saved +6 +{size} bytes$", out, re.MULTILINE)
    assert f"failed: {films.name}/gone.mkv: No such file or directory" in out

    code, out, _ = media_storage("add", "films")
    assert (code, counts(out)) == (1, {"seen": 13, "new": 0, "already known": 12, "failed": 1, "skipped": 2})
    assert digests("media-store") == wanted


def test_names_are_printed_safely(films):
    for name in ODD_NAMES:
        os.symlink(b"nowhere", os.path.join(os.fsencode(films), b"gone " + name))
    code, out, _ = media_storage("add", "films")
    assert code == 1
    assert "\x1b" not in out
    shown = ["caf\\xe9.mp3", "two\\nlines.png", "-rf", 'it\'s "quoted".wav', "[red]x[bold].jpg", "\\x1b[31m.gif"]
    assert all(f"failed: films/gone {name}: No such file" in out for name in shown)


def test_all_is_well(here):
    (here / "a.jpg").write_bytes(b"a poster")
    code, out, err = media_storage("add", "a.jpg")
    assert (code, err) == (0, "")
    assert "skipped" not in out
    assert str(here / "media-store") in out


def test_many_failures_are_counted_and_few_shown(here):
    (here / "films").mkdir()
    for n in range(30):
        (here / "films" / f"{n}.mkv").symlink_to("nowhere")
    code, out, _ = media_storage("add", "films")
    assert (code, counts(out)["failed"]) == (1, 30)
    assert out.count("No such file") == 10
    assert "failed: and 20 more" in out


def test_a_pipe_that_was_named_fails_at_once(here):
    os.mkfifo(here / "pipe")
    code, out, _ = media_storage("add", "pipe")
    assert code == 1
    assert "failed: pipe: it is not a regular file" in out


def test_the_store_may_lie_among_the_files(here):
    (here / "a.jpg").write_bytes(b"a poster")
    for expected in ({"new": 1, "already known": 0}, {"new": 0, "already known": 1}):
        code, out, _ = media_storage("add", ".", "--store", "store")
        assert code == 0
        assert counts(out) == {"seen": 1, "failed": 0, **expected}


def test_namespace(here):
    (here / "a.jpg").write_bytes(b"a poster")
    assert media_storage("add", "a.jpg")[0] == 0
    code, out, _ = media_storage("add", "a.jpg", "--namespace", "actors")
    assert (code, counts(out)["new"]) == (0, 1)
    assert re.search(r"^ *new +1 +0 bytes$", out, re.MULTILINE)  # linked, not copied
    assert len(list(Path("media-store/actors").rglob("*.jpg"))) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["add", "nowhere"], "nowhere"),
        (["add"], "FOLDER"),
        (["add", "a.jpg", "--store", "full"], "is not empty"),
        (["add", "a.jpg", "--namespace", "../up"], "is not a namespace"),
        (["add", "store/.store", "--store", "store"], "lies inside the store"),
        (["demo", "--folder", "full"], "is not empty"),
        (["dance"], "dance"),
    ],
)
def test_bad_use(here, args, message):
    (here / "a.jpg").write_bytes(b"a poster")
    (here / "full").mkdir()
    (here / "full" / "b.jpg").write_bytes(b"another")
    ContentStore(here / "store").close()
    code, _, err = media_storage(*args)
    assert code == 2
    assert message in err
    assert os.listdir("full") == ["b.jpg"]


def test_errors_are_one_line_unless_debugged(here):
    (here / "store" / ".store").mkdir(parents=True)
    (here / "store" / ".store" / "format.json").write_text("{}")
    (here / "a.jpg").write_bytes(b"a poster")
    code, out, err = media_storage("add", "a.jpg", "--store", "store")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "it is not a store's marker" in err
    run = subprocess.run([*COMMAND, "--debug", "add", "a.jpg", "--store", "store"], capture_output=True, text=True)
    assert "Traceback" in run.stderr


# ---- import-results


def save_analyses(path, *metadata):
    with MediaAnalysisStorage(path) as storage:
        storage.save_many(analysis_row(n, metadata=each, created_at=1.0) for n, each in enumerate(metadata))


def test_import_results(here):
    save_analyses("a.db", {"n": 1}, None)
    save_analyses("b.db", {"n": 2})
    code, out, err = media_storage("import-results", "a.db", "b.db", "--into", "new.db", "--dry-run")
    assert (code, err, os.path.exists("new.db")) == (0, "", False)
    assert "rows to be added to 'new.db': 2;" in out
    code, out, err = media_storage("import-results", "a.db", "b.db", "--into", "new.db")
    assert (code, err) == (0, "")
    assert "'b.db': analysis: 0 new, 0 known, 1 in conflict" in out
    assert "rows added to 'new.db': 2; there already: 0; in conflict, and both kept: 1" in out
    assert "conflict: analysis of '/media/0.wav' in 'b.db'" in out
    code, out, _ = media_storage("import-results", "a.db", "b.db", "--into", "new.db", "--json")
    assert [(file["new"], file["known"]) for file in json.loads(out)["files"]] == [(0, 2), (0, 1)]


def test_import_results_of_garbage(here):
    save_analyses("a.db", None)
    (here / os.fsdecode(b"caf\xe9.db")).write_text("a note")
    code, out, _ = media_storage("import-results", os.fsdecode(b"caf\xe9.db"), "a.db", "--into", "new.db")
    assert code == 1
    assert "file is not a database" in out
    assert "rows added to 'new.db': 1;" in out
    assert media_storage("import-results", "a.db", "--into", "a.db")[0] == 2
    assert media_storage("import-results", "--into", "a.db")[0] == 2


# ---- which store


def test_find_store(here):
    inner = here / "store" / "assets" / "ab"
    assert find_store(here) == here / "media-store"
    ContentStore(here / "store").close()
    inner.mkdir(parents=True)
    assert find_store(inner) == find_store(here / "store") == here / "store"
    assert find_store(here) == here / "media-store"


def test_store_by_option_environment_and_folder(here, monkeypatch):
    (here / "a.jpg").write_bytes(b"a poster")
    file = str(here / "a.jpg")
    monkeypatch.setenv("MEDIA_STORAGE_STORE", str(here / "by environment"))
    assert f"store: {here}/by option\n" in media_storage("add", file, "--store", "by option")[1]
    assert f"store: {here}/by environment\n" in media_storage("add", file)[1]
    monkeypatch.delenv("MEDIA_STORAGE_STORE")
    assert f"store: {here}/by option\n" in media_storage("add", file, cwd=here / "by option" / "assets")[1]


# ---- Ctrl-C


MANY = 6000  # More than are under way at a time


@pytest.fixture
def many(here):
    (here / "many").mkdir()
    for n in range(MANY):
        (here / "many" / f"{n:04}.bin").write_bytes(b"%d" % n)
    return here / "many"


def first_object(process, store):
    "Wait until the store has an object"
    while process.poll() is None and not any(Path(store, "assets").rglob("*.bin")):
        os.sched_yield()


@pytest.mark.parametrize("terminal", [False, True])
def test_stopped_and_run_again(many, terminal):
    reading, writing = pty.openpty() if terminal else os.pipe()
    with subprocess.Popen([*COMMAND, "add", "many"], stdout=subprocess.PIPE, stderr=writing, text=True) as process:
        os.close(writing)
        first_object(process, "media-store")
        process.send_signal(signal.SIGINT)
        said = b""
        while part := read(reading):
            said += part
        out = process.stdout.read()
    os.close(reading)
    assert process.returncode == 130
    assert b"Stopping when" in said
    assert b"run the same command again" in said
    stored = counts(out)["new"]
    assert 0 < stored < MANY
    assert len(digests("media-store")) == stored

    code, out, _ = media_storage("add", "many")
    assert (code, counts(out)) == (0, {"seen": MANY, "new": MANY - stored, "already known": stored, "failed": 0})
    assert len(digests("media-store")) == MANY


def read(fd):
    "Read from a pipe or a terminal; nothing at its end"
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # EIO: the other side of the terminal was closed
        return b""


def test_stopped_twice_ends_at_once(many):
    program = """if True:
        import os, signal, sys
        from cjm_media_storage.cli import stopping
        with stopping():
            signal.raise_signal(signal.SIGINT)
            print("once", flush=True)
            signal.raise_signal(signal.SIGINT)
            print("twice", flush=True)
    """
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (130, "once\n")


# ---- the rest


@pytest.mark.parametrize("name", [b"plain", b"two\nlines", b"caf\xe9", "naïve".encode(), b"\x1b[31m", b"tab\t"])
def test_printable(name):
    assert printable(os.fsdecode(name)).isprintable()


def test_demo_twice(here):
    for again in (False, True):
        code, out, err = media_storage("demo", "--folder", "d")
        assert (code, err) == (0, "")
        assert "6 files came, 4 are kept" in out
        assert "5 of 5 intact" in out
        assert ("S01E01.wav          from the cache" in out) == again
        assert ("computed" in out) != again


def test_help_has_examples():
    for args in ([], ["add"], ["demo"], ["import-results"]):
        code, out, _ = media_storage(*args, "--help")
        assert code == 0
        assert "Example: media-storage " in out


def test_version():
    from cjm_media_storage import __version__

    assert media_storage("--version") == (0, f"media-storage {__version__}\n", "")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra(missing):
    program = f"import sys; sys.modules[{missing!r}] = None; from cjm_media_storage.cli import main; main()"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"media-storage needs {missing}: pip install 'cjm-media-storage[cli]'\n"


def test_a_reader_that_goes_away(here):
    run = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m cjm_media_storage.cli demo | head -1"], capture_output=True
    )
    assert b"Traceback" not in run.stderr


# ---- lineage


@pytest.fixture
def recorded(here):
    (here / "film.mkv").write_bytes(b"a film")
    (here / "cut <1>.mkv").write_bytes(b"a cut")
    with MediaProcessingStorage(here / "jobs.db") as storage:
        files = [each for name in ("film.mkv", "cut <1>.mkv") for each in (here / name, hash_file(here / name))]
        storage.save("job-1", "cut", *files)
    return hash_file(here / "film.mkv")


def test_lineage_by_path_and_by_hash(recorded):
    for file in ("film.mkv", recorded):
        code, out, _ = media_storage("lineage", file, "--db", "jobs.db")
        assert code == 0
        assert re.search(r"^film\.mkv +cut +cut <1>\.mkv +1", out, re.MULTILINE)
    assert "nobody recorded" in media_storage("lineage", "jobs.db", "--db", "jobs.db")[1]


def test_lineage_for_other_programs(recorded):
    options = ("lineage", "film.mkv", "--db", "jobs.db")
    assert 'n1["cut #60;1#62;.mkv<br/>' in media_storage(*options, "--mermaid")[1]
    assert json.loads(media_storage(*options, "--json")[1])["hash"] == recorded
    (event,) = map(json.loads, media_storage(*options, "--openlineage")[1].splitlines())
    assert event["inputs"][0]["name"] == recorded


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["nowhere.mkv", "--db", "jobs.db"], 1, "nowhere.mkv"),
        (["film.mkv", "--db", "nowhere.db"], 1, "nowhere.db is unavailable"),
        (["film.mkv", "--db", "film.mkv"], 1, "cannot be used as a database"),
        (["film.mkv", "--db", "jobs.db", "--store", "nowhere"], 1, "there is no store"),
        (["film.mkv", "--db", "jobs.db", "--json", "--mermaid"], 2, "give one of"),
        (["film.mkv"], 2, "--db"),
    ],
)
def test_lineage_of_what_is_not_there(recorded, here, args, code, message):
    before = sorted(os.listdir(here))
    found, out, err = media_storage("lineage", *args)
    assert (found, out) == (code, "") and message in err
    assert sorted(os.listdir(here)) == before
