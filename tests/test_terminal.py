"What all commands share: on a real terminal, and without one."

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import PurePath

import pytest
import typer
from commands import PROGRAM
from together import in_threads

from cjm_media_storage import terminal
from cjm_media_storage.errors import (
    AmbiguousHash,
    CollectionRefused,
    Conflict,
    IndexCorrupt,
    IndexMissing,
    InvalidHash,
    LocksUnreliable,
    NotAStore,
    ObjectInUse,
    ObjectNotFound,
    StoreMoved,
)
from cjm_media_storage.storage import ContentStore
from cjm_media_storage.terminal import (
    BadUse,
    advice,
    agree,
    amount,
    columns,
    duration,
    exit_code,
    plain,
    printable,
    say_json,
    when,
)


@pytest.mark.parametrize("name", [b"plain", b"two\nlines", b"caf\xe9", "naïve".encode(), b"\x1b[31m", b"tab\t"])
def test_printable(name):
    assert printable(os.fsdecode(name)).isprintable()


def test_json_keeps_names_that_are_no_text(capsys):
    name = os.fsdecode(b"caf\xe9\n.mp3")
    say_json({"path": PurePath(name)}, more=(1, None))
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line) == {"path": name, "more": [1, None]}
    assert plain({1: {"a"}}) == {"1": ["a"]}


def test_times_far_away_are_shown_somehow():
    assert when(1e300) == f"{1e300:.0f}"


def test_columns_are_aligned():
    assert list(columns([["a", "1"], ["bb", "22"]], right=[1])) == ["a    1", "bb  22"]


@pytest.mark.parametrize("text", ["", "h", "-1s", "1y", "inf", "nan", "1e30"])
def test_times_and_sizes_that_are_none(text):
    for read in (duration, amount):
        with pytest.raises(typer.BadParameter):
            read(text)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (AmbiguousHash("abcd", ["sha256:1", "sha256:2"]), 2, "\n  sha256:1\n  sha256:2"),
        (InvalidHash("x", "it is short"), 2, "is not a hash"),
        (NotAStore("/films"), 2, "is not empty"),
        (BadUse("which one?"), 2, "which one?"),
        (ObjectNotFound("sha256:1"), 1, "no object"),
        (ObjectInUse("sha256:1", "pinned"), 1, "--force deletes it"),
        (CollectionRefused("/s", "too much"), 1, "--force collects"),
        (IndexMissing("/s"), 1, "'media-storage rebuild'"),
        (IndexCorrupt("/s/.store/index.db", "it is torn", "/s"), 1, "'media-storage rebuild'"),
        (LocksUnreliable("/s"), 1, "--exclusive"),
        (StoreMoved("/s", "/t"), 1, "--store /t"),
        (Conflict("/s", ""), 1, "holds something else"),
        (FileNotFoundError(2, "No such file or directory", "a.jpg"), 1, "a.jpg: No such file or directory"),
        (OSError("odd"), 1, "odd"),
        (KeyError("odd"), 1, "KeyError: 'odd'. This is a mistake of the program"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_say_what_to_do_at_a_terminal(error, code, says):
    assert exit_code(error) == code
    assert says in advice(error)
    assert "=True" not in advice(error) and "rebuild_index" not in advice(error)


def test_nobody_is_asked_without_a_terminal(monkeypatch):
    agree("Remove it?", yes=True)
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(BadUse, match="--yes"):
        agree("Remove it?", yes=False)
    sys.stdin.close()


def test_colours_are_for_terminals_that_want_them(monkeypatch):
    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert terminal.paint("good", "green") == "\x1b[32mgood\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.paint("good", "green") == "good"


# ---- on a real terminal


class Shell:
    "A command whose three streams are a terminal"

    def __init__(self, *args):
        self._fd, other = pty.openpty()
        self.process = subprocess.Popen([*PROGRAM, *map(str, args)], stdin=other, stdout=other, stderr=other)
        os.close(other)
        self.said = ""

    def read(self, until=None):
        "Read to the end, or until something is said"
        while until is None or until not in self.said:
            try:
                part = os.read(self._fd, 1 << 16)
            except OSError:  # EIO: it has ended
                break
            self.said += part.decode(errors="replace")
        return self.said

    def type(self, text):
        os.write(self._fd, text.encode())

    def end(self):
        self.read()
        os.close(self._fd)
        return self.process.wait(60)


@pytest.fixture
def deleted(here):
    with ContentStore(here / "store") as store:
        hash = store.put(b"a poster").hash
        store.put(b"a film" * 500_000)
        store.delete(hash)
    return here / "store"


@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 1, 1), ("y\n", 0, 0)])
def test_a_person_is_asked(deleted, answer, code, left):
    shell = Shell("trash", "purge", "--all", "--store", deleted)
    assert "Remove 1 items of 8 bytes for good?" in shell.read("?")
    shell.type(answer)
    assert shell.end() == code
    with ContentStore(deleted) as store:
        assert len(store.trash) == left


def test_a_person_sees_progress_and_short_hashes(deleted):
    shell = Shell("verify", "--store", deleted)
    assert shell.end() == 0
    assert "1 objects" in shell.said and "left" in shell.said and "\x1b[?25h" in shell.said  # the cursor is back
    shell = Shell("ls", "--store", deleted)
    assert shell.end() == 0
    assert "sha256:" not in shell.said and len(shell.said.split()[0]) == 12


# ---- Ctrl-C


def test_what_is_printed_beside_a_bar_goes_where_it_was_meant_to_go(here, deleted):
    (here / "films").mkdir()
    (here / "films" / "a.mkv").write_bytes(b"a film" * 500_000)
    reading, writing = pty.openpty()
    command = [*PROGRAM, "find", "films", "--json", "--store", deleted]
    with subprocess.Popen(command, stdout=-1, stderr=writing) as process:
        os.close(writing)
        out = process.stdout.read()
        said = os.read(reading, 1 << 16)
    os.close(reading)
    assert json.loads(out)["stored"] is True
    assert b"files" in said


PIPE = 1 << 16  # Bytes that a pipe holds on Linux


def waiting_in(pipe):
    "How many bytes wait in a pipe for its reader"
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]


def test_stopped_wherever_it_is(here):
    with ContentStore(here / "store") as store:
        hash = store.put(os.urandom(PIPE + 100)).hash
    with subprocess.Popen([*PROGRAM, "cat", hash, "--store", "store"], stdout=-1, stderr=-1) as process:
        while process.poll() is None and waiting_in(process.stdout) < PIPE:
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130  # also while nobody reads
        said = process.stderr.read()
    assert said == b"\nStopped. What was done stays done; run the same command again to go on\n"


def test_stopped_twice_ends_at_once():
    program = """if True:
        import signal
        from cjm_media_storage.terminal import stopping
        with stopping():
            signal.raise_signal(signal.SIGINT)
            print("once", flush=True)
            signal.raise_signal(signal.SIGINT)
            print("twice", flush=True)
    """
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (130, "once\n")


def test_the_first_ctrl_c_leaves_the_block(program):
    told = program("""
        import signal
        from cjm_media_storage.terminal import Interrupted, interruptible
        before = signal.getsignal(signal.SIGINT)
        try:
            with interruptible():
                signal.raise_signal(signal.SIGINT)
                print("never")
        except Interrupted:
            print(signal.getsignal(signal.SIGINT) is before)
    """)
    assert told == "True"


def test_in_a_thread_of_a_program_nothing_listens_for_ctrl_c():
    before = signal.getsignal(signal.SIGINT)

    def work(_):
        with terminal.interruptible():
            assert signal.getsignal(signal.SIGINT) is before

    in_threads(1, work)
