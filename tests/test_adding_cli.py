"The commands `add` and `demo`, run as people run them."

import hashlib
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest
from commands import PROGRAM as COMMAND
from on_disk import ODD_NAMES

from cjm_media_storage.storage import ContentStore


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


# ---- which store


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


# ---- demo


def test_demo_twice(here):
    for again in (False, True):
        code, out, err = media_storage("demo", "--folder", "d")
        assert (code, err) == (0, "")
        assert "6 files came, 4 are kept" in out
        assert "5 of 5 intact" in out
        assert ("S01E01.wav          from the cache" in out) == again
        assert ("computed" in out) != again


def test_add_and_demo_as_json(command, here):
    (here / "films").mkdir()
    (here / "films" / "a.mkv").write_bytes(b"a film")
    (here / "films" / "gone.mkv").symlink_to("nowhere")
    added = command("add", "films", "--json")
    assert added.code == 1
    assert (added.one["new"], added.one["failures"]) == (
        1,
        [{"path": "films/gone.mkv", "reason": "No such file or directory"}],
    )
    assert command("demo", "--folder", "d", "--json").one["damaged"] == 0
