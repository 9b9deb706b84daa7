"The commands that keep a store healthy."

import csv
import io
import os
import shutil
from pathlib import Path

import pytest

from cjm_media_storage.storage import ContentStore


@pytest.fixture
def film(here, monkeypatch):
    "An object whose bytes went wrong, and whose source is still there"
    (here / "a.mkv").write_bytes(b"a film")
    with ContentStore(here / "store") as store:
        put = store.put(here / "a.mkv", owner="movie:1")
        store.put(b"a poster", owner="movie:1")
    put.path.chmod(0o644)
    put.path.write_bytes(b"A FILM")
    monkeypatch.setenv("MEDIA_STORAGE_STORE", str(here / "store"))
    return put


def test_verify_finds_and_changes_nothing(command, film):
    done = command("verify", "--json")
    assert (done.code, done.one["counts"], done.one["ok"]) == (1, {"corrupt": 1}, False)
    assert command("verify", "--level", "size").code == 0  # it has the right size
    assert "media-storage repair" in command("verify").out
    assert next(csv.DictReader(io.StringIO(command("verify", "--csv").out)))["kind"] == "corrupt"
    assert film.path.read_bytes() == b"A FILM"


def test_verify_a_part(command, film):
    other = command("ls", "--json").lines[1]["hash"]
    assert command("verify", other[7:12]).code == 0
    assert command("verify", film.hash).code == 1
    assert command("verify", "--prefix", other[7:9], "--json").one["checked"] == 1
    assert command("verify", "--prefix", other[7:9]).code == 0
    assert command("verify", "--prefix", film.hash[7:9]).code == 1
    assert command("verify", "--prefix", "A3").code == 2
    assert command("verify", "--namespace", "films", "--json").one["checked"] == 0
    done = command("verify", "--for", "0", "--json")
    assert (done.one["checked"], done.one["complete"]) == (0, False)
    assert command("verify", "--record", "--read", "1k").code == 1
    assert command("verify", "--level", "deep").code == 2
    assert command("verify", "--for", "soon").code == 2


def test_repair_shows_its_plan_first(command, film):
    plan = command("repair", "--sources")
    assert plan.code == 1 and "--apply" in plan.out
    assert film.path.read_bytes() == b"A FILM"
    done = command("repair", "--sources", "--apply", "--json")
    assert (done.code, done.one["ok"], done.one["outcomes"][0]["state"]) == (0, True, "done")
    assert film.path.read_bytes() == b"a film"
    assert command("verify").code == 0


def test_repair_from_a_donor(command, film, here):
    (here / "backup").mkdir()
    shutil.copy(here / "a.mkv", here / "backup" / "anything")
    assert command("repair", "--apply", "--donor", "backup").code == 0
    assert film.path.read_bytes() == b"a film"
    assert command("repair", "--donor", "nowhere").code == 2


def test_a_lost_index_is_made_again(command, film, here):
    film.path.write_bytes(b"a film")
    for path in (here / "store" / ".store").glob("index.db*"):
        path.unlink()
    done = command("ls")
    assert done.code == 1 and "'media-storage rebuild'" in done.err
    assert command("doctor").code == 1
    done = command("rebuild", "--json")
    assert (done.code, done.one["objects"], done.one["complete"]) == (0, 2, True)
    assert len(command("ls", "--json").lines) == 2
    done = command("rebuild")
    assert done.code == 0 and "the old index is kept in" in done.out
    assert command("rebuild", "--store", "nowhere").code == 2


def test_rebuild_says_what_it_left_out(command, film):
    done = command("rebuild")
    assert done.code == 1 and f"corrupt {film.path.relative_to(Path('store').resolve())}" in done.out


def test_a_store_moves_and_its_old_place_says_so(command, film, here):
    refused = command("move", "new")
    assert refused.code == 1 and "--force" in refused.out
    film.path.write_bytes(b"a film")
    moved = command("move", "new", "--remove", "--json")
    assert (moved.code, moved.one["moved"]) == (0, True)
    assert not film.path.exists()
    assert f"--store {here}/new" in command("ls").err
    assert command("verify", "--store", "new").code == 0
    (here / "full").mkdir()
    (here / "full" / "mine").write_bytes(b"mine")
    assert command("move", "full", "--store", "new").code == 1
    assert os.listdir("full") == ["mine"]


def test_snapshot(command, film, here):
    done = command("snapshot", "facts.jsonl", "--json").one
    assert (done["path"], done["bytes"]) == (f"{here}/facts.jsonl", Path("facts.jsonl").stat().st_size)
    assert "backup" in command("snapshot").out


def test_doctor_speaks_of_a_store_and_of_a_folder_without_one(command, film, here):
    names = [each["what"] for each in command("doctor", "--json").lines]
    assert {"SQLite", "reflink", "locks", "index", "expired trash"} <= set(names)
    (here / "empty").mkdir()
    command.forget_store()
    done = command("doctor", "--folder", "empty")
    assert done.code == 0 and "expired trash" not in done.out
    assert os.listdir("empty") == []
