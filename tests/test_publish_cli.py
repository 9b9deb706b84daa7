"The commands that publish."

import os
from pathlib import Path

import pytest

from cjm_media_storage.storage import ContentStore


@pytest.fixture
def poster(here, monkeypatch):
    with ContentStore(here / "store") as store:
        put = store.put(b"a poster", extension="png").hash
    monkeypatch.setenv("MEDIA_STORAGE_STORE", str(here / "store"))
    monkeypatch.setenv("MEDIA_STORAGE_LIBRARY", str(here / "films"))
    return put


NAME = "Alien (1979)/poster.png"


def test_published_kept_in_sync_and_taken_back(command, poster, here):
    assert command("sync").code == 2  # there is no such folder, and none is made
    assert not (here / "films").exists()
    assert command("publish", poster[7:12], NAME, "--json").one["wanted"] == NAME
    assert Path("films", NAME).read_bytes() == b"a poster"
    assert "published" in command("show", poster).out
    Path("films", NAME).unlink()
    dry = command("sync", "--dry-run")
    assert dry.code == 1 and "missing" in dry.out
    assert not Path("films", NAME).exists()
    assert command("sync", "--json").one["written"] == 1
    assert command("sync", "--dry-run", "--json").one["state"] == "in sync"
    assert "removed" in command("unpublish", NAME, "--prune").out
    assert os.listdir("films") == []
    assert "no publication" in command("unpublish", NAME).err


def test_a_person_s_own_file_is_left_alone(command, poster):
    os.makedirs("films/Alien (1979)")
    Path("films", NAME).write_bytes(b"mine")
    done = command("publish", poster, NAME)
    assert done.code in (1, 2) and "holds something else" in done.err
    assert Path("films", NAME).read_bytes() == b"mine"
    assert command("publish", poster, NAME, "--overwrite").code == 0
    assert command("trash", "list", "--json").one["size"] == 4
    Path("films", NAME).write_bytes(b"mine again")
    done = command("sync")
    assert done.code == 1 and "--overwrite" in done.out
    assert Path("films", NAME).read_bytes() == b"mine again"
    assert command("unpublish", NAME, "--json").one["state"] == "foreign"


@pytest.mark.parametrize(
    ("args", "code"),
    [(["../out.png"], 1), (["a.png", "--mode", "teleport"], 2), (["a.png", "--library", "store/x"], 1)],
)
def test_refused(command, poster, here, args, code):
    done = command("publish", poster, *args)
    assert done.code == code and done.err
    assert not (here / "out.png").exists()


def test_no_library_is_guessed(command, poster, monkeypatch):
    monkeypatch.delenv("MEDIA_STORAGE_LIBRARY")
    for args in (["publish", poster, "a.png"], ["unpublish", "a.png"], ["sync"]):
        done = command(*args)
        assert done.code == 2 and "--library" in done.err
