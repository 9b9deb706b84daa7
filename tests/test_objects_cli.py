"The commands that look into a store, and get bytes out of it."

import os
import subprocess
from pathlib import Path

import pytest
from commands import PROGRAM
from on_disk import ODD_NAMES, unprivileged

from cjm_media_storage.storage import ContentStore


@pytest.fixture
def poster(here, monkeypatch):
    "An object of a store that the commands stand in"
    with ContentStore(here / "store") as store:
        put = store.put(
            b"a \xff poster", extension="png", source="https://example.org/a.png", owner="movie:1", role="poster"
        )
        store.put(b"a film", namespace="films")
    monkeypatch.setenv("MEDIA_STORAGE_STORE", str(here / "store"))
    return put


def test_ls_lists_what_is_there(command, poster):
    assert command("ls").out.split()[0] == poster.hash
    assert command("ls", "--json", "--namespace", "films").one["namespace"] == "films"
    assert command("ls", poster.hash[7:10], "--json").one["hash"] == poster.hash
    assert command("ls", poster.hash[:12], "--paths").out == f"{poster.path}\n"
    paths = command("ls", "--paths", "--null").raw.split(b"\0")
    assert [Path(os.fsdecode(path)).is_file() for path in paths[:-1]] == [True, True]


def test_ls_ends_with_its_reader(here):
    with ContentStore(here / "store") as store:
        for _ in store.put_many([b"%d" % n for n in range(1500)], durability="none"):
            pass
    script = f"'{PROGRAM[0]}' -m cjm_media_storage.cli ls --store store"
    run = subprocess.run(["bash", "-c", f"{script} | head -1; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert (run.stdout.splitlines()[1], run.stderr) == ("141", "")


def test_show_tells_all(command, poster):
    shown = command("show", poster.hash[7:12])
    for text in (poster.hash, str(poster.path), "https://example.org/a.png", "movie:1 as poster", "young"):
        assert text in shown.out
    found = command("show", poster.hash[:12], "--json").one
    assert found["references"][0]["owner"] == "movie:1"


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["show", "12"], 2, "4 to 64 lower-case hex digits"),
        (["show", "00000"], 1, "no object"),
        (["cat", "00000"], 1, "no object"),
        (["refs", "--add", "movie:1"], 2, "Give its hash"),
        (["find", "abcd"], 2, "./abcd"),
    ],
)
def test_mistakes_are_one_clear_line(command, poster, here, args, code, says):
    (here / "abcd").write_bytes(b"a file with the name of a hash")
    done = command(*args)
    assert (done.code, done.raw, done.err.count("\n")) == (code, b"", 1)
    assert says in done.err


def test_find_files_folders_urls_and_hashes(command, poster, here, films):
    (films / "poster.png").write_bytes(b"a \xff poster")
    answers = command("find", "films", "https://example.org/a.png", poster.hash, "00000", "--json")
    stored = {answer["what"]: answer["hash"] for answer in answers.lines if answer["stored"]}
    assert stored == {
        "films/poster.png": poster.hash,
        "https://example.org/a.png": poster.hash,
        poster.hash: poster.hash,
    }
    assert answers.code == 1
    assert [answer["error"] for answer in answers.lines if answer["error"]] == ["No such file or directory"]
    assert command("find", "./films/poster.png").code == 0
    assert "no file, and no hash" in command("find", "gone.png").out


def test_find_names_what_is_missing_unchanged(command, poster, films):
    names = set(command("find", "films", "--missing", "--null").raw.split(b"\0"))
    assert {b"films/" + name for name in ODD_NAMES} <= names
    assert "\x1b" not in command("find", "films").out


def test_an_earlier_path_is_found_when_its_file_is_gone(command, here, poster):
    (here / "a.mkv").write_bytes(b"another film")
    with ContentStore(here / "store") as store:
        hash = store.put(here / "a.mkv", move=True).hash
    assert command("find", "./a.mkv", "--json").one["hash"] == hash


def test_get_writes_right_bytes_or_nothing(command, poster, here):
    assert command("get", poster.hash[:12], "cover.png").code == 0
    assert Path("cover.png").read_bytes() == b"a \xff poster"
    assert os.access("cover.png", os.W_OK)
    Path("cover.png").write_bytes(b"mine")
    done = command("get", poster.hash, "cover.png")
    assert done.code == 2 and "--force" in done.err
    assert Path("cover.png").read_bytes() == b"mine"
    assert command("get", poster.hash, "cover.png", "--force", "--json").one["size"] == 10
    assert Path("cover.png").read_bytes() == b"a \xff poster"
    assert command("get", poster.hash).code == 0
    assert Path(poster.path.name).is_file()

    assert command("get", poster.hash, "nowhere/cover.png").code == 2
    done = command("get", poster.hash, "store/assets/cover.png", "--force")
    assert done.code == 1 and "in the store" in done.err
    poster.path.chmod(0o644)
    poster.path.write_bytes(b"A \xff poster")
    done = command("get", poster.hash, "wrong.png")
    assert done.code == 1 and "not those of" in done.err
    assert sorted(os.listdir()) == sorted(["cover.png", poster.path.name, "store"])


def test_cat_writes_bytes_and_says_when_they_were_wrong(command, poster):
    assert command("cat", poster.hash[7:12]).raw == b"a \xff poster"
    poster.path.chmod(0o644)
    poster.path.write_bytes(b"A \xff poster")
    done = command("cat", poster.hash)
    assert (done.code, done.raw) == (1, b"A \xff poster")
    assert "not those of" in done.err


def test_sources_and_references_are_added_and_removed(command, poster):
    added = command("sources", poster.hash, "--add", "https://example.org/b.png", "--provider", "Example", "--json")
    assert [source["location"][-5:] for source in added.lines] == ["a.png", "b.png"]
    assert "https://example.org/b.png" in command("sources", poster.hash).out
    assert [each["owner"] for each in command("refs", poster.hash, "--add", "movie:2", "--json").lines] == [
        "movie:1",
        "movie:2",
    ]
    assert command("refs", "--owner", "movie:2", "--json").one["hash"] == poster.hash
    assert command("refs", poster.hash, "--remove", "movie:1", "--role", "poster", "--json").one["owner"] == "movie:2"
    done = command("refs", poster.hash, "--remove", "movie:9")
    assert done.code == 2 and "nothing was changed" in done.err


def test_stats(command, poster):
    assert command("stats", "--json").one["namespaces"] == ["assets", "films"]
    assert "namespaces: assets, films" in command("stats").out


def test_a_store_that_may_only_be_read_is_read(open_folder, command, monkeypatch):
    with ContentStore(open_folder / "store") as store:
        hash = store.put(b"a poster").hash
    for path in (open_folder / "store").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (open_folder / "store").chmod(0o555)
    monkeypatch.setenv("MEDIA_STORAGE_STORE", str(open_folder / "store"))
    monkeypatch.chdir(open_folder)
    with unprivileged():
        assert command("cat", hash).raw == b"a poster"
        assert command("ls", "--json").one["hash"] == hash
        assert command("verify").code == 0
        done = command("rm", hash)
        assert done.code == 1 and "cannot be written to" in done.err
        assert command("refs", hash, "--add", "movie:1").code == 1
        assert command("doctor").code == 1
