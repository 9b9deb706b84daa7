"docs/FORMAT.md: a program written from it reads and adds; its queries are answered, and its tables are those of today."

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cjm_media_storage.demo import run
from cjm_media_storage.layout import is_object_path
from cjm_media_storage.maintenance import gc, rebuild_index, repair, verify
from cjm_media_storage.snapshots import snapshot
from cjm_media_storage.storage import ContentStore, MediaAnalysisStorage, hash_bytes, hash_dict_canonical

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "FORMAT.md").read_text()
BLOCKS = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
QUERIES = [block for block in BLOCKS if "ATTACH" in block]
(TABLES,) = [block for block in BLOCKS if "CREATE" in block]


def stranger(*args):
    "What a program says that knows the page alone: it cannot import this library"
    command = [sys.executable, "-I", "-S", str(ROOT / "tests" / "stranger.py"), *map(str, args)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def demo(here, monkeypatch):
    run(here / "demo", lambda line: None)
    for name in ("analysis", "processing"):
        (here / f"{name}.db").symlink_to(here / "demo" / "results" / f"{name}.db")
    (here / "store").symlink_to(here / "demo" / "store")


def answers(query):
    *attached, select, _ = query.split(";")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as con:
        for each in attached:
            con.execute(each)
        return con.execute(select).fetchall()


def test_every_query_is_answered(demo):
    segments, made, sources = map(answers, QUERIES)
    assert [Path(row[0]).name for row in segments[:2]] == ["S01E01.wav", "S01E01.wav"]
    assert segments[0][1:] == (0.6, 3.0, "sound") and len(segments) == 7
    assert [(Path(row[0]).name, row[1], row[3]) for row in made] == [("S01E01.wav", "cut", 2)]
    assert {"TMDB", "Fanart.tv"} <= {row[0] for row in sources}
    assert all((Path("store") / row[2]).is_file() for row in sources)


@pytest.mark.parametrize("table", ["analysis_jobs", "processing_jobs", "replaced_jobs"])
def test_the_page_names_the_columns_that_are_there(demo, table):
    (told,) = re.findall(rf"^\| `{table}` \|.*\| (.*) \|$", PAGE, re.MULTILINE)
    if told.startswith("as "):
        (told,) = re.findall(rf"^\| {told[3:]} \|.*\| (.*) \|$", PAGE, re.MULTILINE)
    path = "analysis.db" if table == "analysis_jobs" else "processing.db"
    with closing(sqlite3.connect(path)) as con:
        there = [row[1] for row in con.execute(f"PRAGMA table_info({table})")]
    assert re.findall(r"`(\w+)`", told) == there


def shape(con):
    "What each table of a database is like: columns, keys, and what must be unique"
    names = [name for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        name: (
            con.execute(f"PRAGMA table_info({name})").fetchall(),
            con.execute(f"PRAGMA foreign_key_list({name})").fetchall(),
            sorted(
                tuple(column for _, _, column in con.execute(f"PRAGMA index_info({index})"))
                for _, index, unique, *_ in con.execute(f"PRAGMA index_list({name})")
                if unique
            ),
        )
        for name in names
    }


def test_the_tables_of_the_page_are_those_of_an_index(store):
    with (
        closing(sqlite3.connect(":memory:")) as told,
        closing(sqlite3.connect(store.root / ".store/index.db")) as there,
    ):
        told.executescript(TABLES)
        assert shape(told) == shape(there)
        (version,) = there.execute("PRAGMA user_version").fetchone()
    assert f"`user_version` {version}" in PAGE


def test_the_marker_of_the_page_is_that_of_a_store(store):
    (told,) = map(json.loads, re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    there = json.loads((store.root / ".store" / "format.json").read_text())
    assert {**told, "id": there["id"]} == there


def test_the_hashes_of_the_page():
    told = re.findall(r"\| `(sha256:\w+)` \|", PAGE)
    settings = {"threshold": 0.5, "label": "é"}
    assert told == [hash_bytes(b"a poster"), hash_dict_canonical(settings), hash_dict_canonical(None)]


def test_a_stranger_reads_every_object(store):
    kept = [store.put(f"object {n}".encode(), source=f"https://example.org/{n}.jpg", provider="TMDB") for n in range(4)]
    kept.append(store.put(b"an actor", namespace="actors"))
    gone = store.put(b"not needed").hash.removeprefix("sha256:")
    store.delete(f"sha256:{gone}")
    found = stranger("read", store.root)
    expected = sorted(
        (each.namespace, each.hash[-64:], each.extension, True) for each in map(store.get, (k.hash for k in kept))
    )
    assert sorted(map(tuple, found["objects"])) == expected
    assert sorted((*row, True) for row in map(tuple, found["live"])) == expected
    assert found["id"] == store.id and found["sizes are right"] and len(found["sources"]) == 4
    assert found["trashed"] == [[gone, True]]


def test_a_stranger_notices_wrong_bytes(store):
    path = store.put(b"a poster").path
    path.chmod(0o644)
    path.write_bytes(b"A POSTER")
    assert [right for *_, right in stranger("read", store.root)["objects"]] == [False]


@pytest.mark.parametrize("adopt", ["repair", "rebuild", "put"])
def test_what_a_stranger_adds_is_an_object(store, adopt):
    store.put(b"a poster", owner="movie:1")
    digest = stranger("add", store.root, "actors", "txt", "added by another program")
    assert verify(store).counts == {"untracked": 1}
    gc(store, grace=0, dry_run=False)
    if adopt == "repair":
        repair(store, dry_run=False)
    elif adopt == "put":
        assert store.put(b"added by another program", namespace="actors", extension="txt").link_mode == "none"
    else:
        store.close()
        rebuild_index(store.root)
    with ContentStore(store.root) as again:
        assert again.read(f"sha256:{digest}", verify=True) == b"added by another program"
        assert verify(again).ok
    store.close()
    assert list((store.root / ".store" / "staging").iterdir()) == []


def test_what_a_stranger_adds_twice_is_there_once(store):
    kept = store.put(b"a poster", extension="jpg")
    assert stranger("add", store.root, "assets", "png", "a poster") == kept.hash[-64:]
    assert [path.name for path in kept.path.parent.iterdir()] == [kept.path.name] and verify(store).ok


def test_a_stranger_reads_a_snapshot(store, tmp_path):
    kept = store.put(b"a poster", source=os.fsdecode(b"/films/caf\xe9.jpg"), owner="movie:1")
    store.delete(store.put(b"not needed").hash)
    facts = stranger("snapshot", snapshot(store, tmp_path / "facts.jsonl"))
    keys = {
        kind: re.findall(r"`(\w+)`", told) for kind, told in re.findall(r"^\| `(\w+)` \| (`digest`.*) \|$", PAGE, re.M)
    }
    assert {fact["kind"] for fact in facts} == {"object", "source", "reference", "trash"} < set(keys)
    assert all(list(fact) == ["kind", *keys[fact["kind"]]] for fact in facts)
    assert [fact["digest"] for fact in facts if fact["kind"] == "reference"] == [kept.hash[-64:]]


def test_a_stranger_finds_results_by_content(tmp_path):
    with MediaAnalysisStorage(tmp_path / "analysis.db") as storage:
        for path, end in (("/old.wav", 1.0), ("/new.wav", 2.0)):
            ranges, settings = [{"start": 0.0, "end": end}], {"threshold": 0.5}
            storage.save(path, hash_bytes(b"a recording"), hash_dict_canonical(settings), ranges=ranges)
    found = stranger("results", tmp_path / "analysis.db", hash_bytes(b"a recording"), json.dumps(settings))
    assert found == ranges


@pytest.mark.parametrize("extension", ["", "jpg", "x" * 16])
@pytest.mark.parametrize("namespace", ["assets", "a", "0_-" + "z" * 61, "Assets", "-a", "z" * 65])
def test_a_stranger_knows_an_object_by_its_name_as_the_library_does(namespace, extension):
    from stranger import OBJECT

    path = f"{namespace}/ab/c1/abc1{'0' * 60}" + (f".{extension}" if extension else "")
    assert bool(OBJECT.fullmatch(path)) == is_object_path(path)
