"What a store knows of its objects."

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from servers import run
from stores import DIGEST, entry

from cjm_media_storage.errors import IndexCorrupt, ObjectNotFound
from cjm_media_storage.index import Index, NewReference, NewSource, StoredObject, without_credentials


@pytest.fixture
def in_file(path):
    index = Index(path)
    yield index
    index.database.close()


def ask(address, sql):
    "As another program would"
    if isinstance(address, str):
        return run(address, sql)
    with closing(sqlite3.connect(address)) as con:
        return con.execute(sql).fetchall()


def test_the_documents_sql_runs_as_it_stands(index, address):
    index.commit(entry(), NewSource("https://image.tmdb.org/poster.jpg", "TMDB"))
    index.commit(entry(), NewSource("https://assets.fanart.tv/movies/12345/poster.jpg", "Fanart.tv"))
    index.commit(entry("cd" * 32, "actors", ""))
    found = ask(address, f"SELECT id, file_path\nFROM cache_image_files\nWHERE file_hash = '{DIGEST}';")
    paths = ask(address, "SELECT file_path FROM cache_image_files;")
    candidates = ask(address, "SELECT provider, url FROM asset_candidates WHERE cache_file_id = 1 ORDER BY id")
    library = ask(address, "SELECT file_path FROM library_image_files WHERE cache_file_id = 1")
    [size] = ask(address, "SELECT file_size FROM cache_image_files WHERE id = 1")
    assert found == [(1, f"assets/ab/ab/{DIGEST}.jpg")]
    assert sorted(paths) == [(f"actors/cd/cd/{'cd' * 32}",), (f"assets/ab/ab/{DIGEST}.jpg",)]
    assert [provider for provider, _ in candidates] == ["TMDB", "Fanart.tv"]
    assert (library, size) == ([], (8,))


def test_the_document_asks_an_index(in_file, path):
    plan = ask(path, "EXPLAIN QUERY PLAN SELECT id FROM cache_image_files WHERE file_hash = ''")
    assert "USING INDEX" in plan[0][3] or "USING COVERING INDEX" in plan[0][3]


def test_the_view_and_the_library_agree_on_paths(index):
    for extension in ("jpg", ""):
        index.commit(entry("0f" * 32 if extension else "f0" * 32, extension=extension))
    shown = {path for (path,) in index.database.fetch("SELECT file_path FROM cache_image_files")}
    assert shown == {each.path for each in index.all()}


def test_only_what_is_new_is_written(index):
    source, reference = NewSource("https://example.org/a.jpg", "TMDB"), NewReference("movie:1", "poster")
    assert index.commit(entry(), source, reference)
    (known,) = index.entries(DIGEST)
    before = index.totals()
    written = index.database.transaction
    index.database.transaction = None  # would fail if it were used
    assert not index.commit(known, source, reference)
    index.database.transaction = written
    assert index.totals() == before


def test_what_is_durable_is_never_said_not_to_be(index):
    "Somebody else made it durable, after we looked and before we wrote"
    unsynced = entry()._replace(boot="this boot")
    assert index.commit(unsynced)
    (seen,) = index.entries(DIGEST)
    index.commit(entry())
    for late in (unsynced, seen):
        assert not index.commit(late, corrected=True)
        assert index.entries(DIGEST)[0].boot == ""


@pytest.mark.parametrize("state", ["trashing", "trashed"])
def test_what_comes_back_from_the_trash_is_as_durable_as_it_was_put(index, state):
    "Its bytes are new ones"
    for boot in ("this boot", ""):
        index.commit(entry())
        index.database.execute("UPDATE objects SET state = ?", (state,))
        assert index.commit(entry()._replace(boot=boot), durable=not boot)
        assert index.entries(DIGEST)[0].boot == boot


def test_many_are_looked_up_at_once(index):
    digests = [f"{n:064x}" for n in range(1200)]
    with index.database.transaction() as con:
        for digest in digests:
            index.write(con, entry(digest), NewSource(f"/{digest}"), None, 1.0)
    index.commit(entry(digests[0], "actors"))
    found = index.entries_of([*digests, DIGEST])
    assert list(found) == digests
    assert [each.namespace for each in found[digests[0]]] == ["assets", "actors"]
    assert index.live([*digests, DIGEST]) == set(digests)
    entries = [found[digest][0] for digest in digests]
    sources = [NewSource(f"/{digest}") for digest in digests]
    now = entries[1].used_at + 1
    assert index.unsaid(entries[1:], sources[1:], now) == [False] * 1199
    assert index.unsaid(entries[1:], [None] * 1199, now) == [False] * 1199
    assert index.unsaid(entries[1:], sources[:-1], now) == [True] * 1199
    assert index.unsaid(entries[1:3], [NewSource("/new", "TMDB"), None], now) == [True, False]
    assert index.unsaid(entries[1:3], sources[1:3], now + 1000) == [True, True]


def test_what_each_place_gave_last(index):
    other = "cd" * 32
    given = (DIGEST, "/one"), (other, "/one"), (DIGEST, b"/tw\xff"), (DIGEST, "/three"), (other, "/three")
    for digest, place in given:
        index.commit(entry(digest), NewSource(place, "TMDB" if place == "/three" else ""))
    index.commit(entry(), NewSource("/three", "TMDB"))
    places = [("/one", ""), (b"/tw\xff", ""), ("/three", "TMDB"), ("/three", ""), ("/four", "")]
    found = {place: each.digest for place, each in index.last_given(places).items()}
    assert found == {("/one", ""): other, (b"/tw\xff", ""): DIGEST, ("/three", "TMDB"): DIGEST}
    assert index.last_given([]) == {}
    index.database.execute("UPDATE objects SET state = 'trashed' WHERE digest = ?", (other,))
    assert index.last_given(places)["/one", ""].state == "trashed"


def test_a_use_of_many_is_written_at_once(index):
    digests = [f"{n:064x}" for n in range(3)]
    for digest in digests:
        index.commit(entry(digest))
    index.database.execute("UPDATE objects SET condemned_at = 5.0 WHERE digest = ?", (digests[1],))
    entries = [index.entries(digest)[0] for digest in digests]
    assert index.mark_used([*entries, entries[0]], 7.0)
    assert index.mark_used([], 8.0)
    now = [index.entries(digest)[0] for digest in digests]
    assert now == [each._replace(used_at=7.0, condemned_at=None) for each in entries]
    assert not index.mark_used([entries[0], entries[1]._replace(digest=DIGEST)], 9.0)
    index.database.execute("UPDATE objects SET state = 'trashing' WHERE digest = ?", (digests[0],))
    assert not index.mark_used(entries[:1], 10.0)


def test_one_url_with_several_objects_in_order_of_time(index, monkeypatch):
    clock = iter([100.0, 50.0, 60.0, 10.0])  # also when it is set back
    monkeypatch.setattr("cjm_media_storage.index.time.time", lambda: next(clock))
    url = NewSource("https://example.org/poster.jpg", "TMDB")
    for digest in (DIGEST, "cd" * 32, DIGEST):
        index.commit(entry(digest), url)
    found = index.sources("location = ?", (url.location,))
    assert [source.hash for source in found] == ["sha256:" + "cd" * 32, "sha256:" + DIGEST]
    assert found[-1].first_seen == 100.0
    assert found[-1].last_seen > found[0].last_seen


def test_an_object_in_two_namespaces_is_two_objects(index):
    assert index.commit(entry()) and index.commit(entry(namespace="actors"))
    assert not index.commit(entry(extension="jpeg"))
    assert [(each.namespace, each.extension) for each in index.entries(DIGEST)] == [
        ("assets", "jpg"),
        ("actors", "jpg"),
    ]
    assert [each.namespace for each in index.all("actors")] == ["actors"]


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://user:p%40ss@example.org/a.jpg", "https://example.org/a.jpg"),
        ("https://user@example.org:8080/a?b=c@d#e", "https://example.org:8080/a?b=c@d#e"),
        ("https://example.org/@handle", "https://example.org/@handle"),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("/films/a@b.mkv", "/films/a@b.mkv"),
        ("https://[broken@", "https://[broken@"),
    ],
)
def test_fault_52_credentials_are_removed_on_request(url, clean):
    assert without_credentials(url) == clean


def test_fault_27_a_row_that_took_the_number_of_another_gets_nothing_of_it(in_file):
    in_file.commit(entry())
    (gone,) = in_file.entries(DIGEST)
    in_file.database.execute("DELETE FROM objects")
    in_file.commit(entry("cd" * 32))
    (other,) = in_file.entries("cd" * 32)
    assert other.id == gone.id
    with pytest.raises(ObjectNotFound):
        in_file.commit(gone, reference=NewReference("movie:1"))
    in_file.correct(gone._replace(size=99))
    assert (in_file.entries("cd" * 32), in_file.references("1 = 1", ())) == ([other], [])


def test_a_reference_is_removed_alone(index):
    other = "cd" * 32
    everybody = [(DIGEST, "assets"), (DIGEST, "actors"), (other, "assets")]
    for digest, namespace in everybody:
        for owner in ("movie:1", "movie:2"):
            for role in ("poster", "still", ""):
                index.commit(entry(digest, namespace))
                (known,) = index.entries(digest, namespace)
                index.commit(known, reference=NewReference(owner, role))

    def left():
        found = [(each.hash[7:], each.owner, each.role) for each in index.references("1 = 1", ())]
        return {one: found.count(one) for one in found}

    before = left()
    assert len(before) == 12 and before[DIGEST, "movie:1", "poster"] == 2
    assert index.remove_reference(DIGEST, "movie:1", "poster") == 2
    assert index.remove_reference(DIGEST, "movie:1", "poster") == index.remove_reference(other, "movie:3", None) == 0
    del before[DIGEST, "movie:1", "poster"]
    assert left() == before
    assert index.remove_reference(other, "movie:2", None) == 3
    assert left() == {one: count for one, count in before.items() if one[:2] != (other, "movie:2")}


def test_what_there_is_once(index):
    assert index.fact("one") is None and index.fact("one", "1") == "1" and index.fact("two", "2") == "2"
    assert (index.fact("one"), index.fact("two")) == ("1", "2")
    assert index.fact("one", "3") == "3" and index.fact("one") == "3"
    assert index.identity() == index.identity() == index.fact("index") and len(index.identity()) == 36


def test_an_index_belongs_to_one_store(index):
    index.claim("mine")
    index.claim("mine")
    assert index.fact("store") == "mine"
    with pytest.raises(IndexCorrupt, match="another store, mine"):
        index.claim("yours")
    assert index.fact("store") == "mine"


def test_what_is_done_is_written_down(index):
    index.log("healed", f"sha256:{DIGEST}", "assets/ab/ab", "from a copy")
    index.log("purged")
    columns = "action, hash, path, detail"
    found = index.database.fetch(f"SELECT {columns} FROM log WHERE at > 1e9 ORDER BY id")
    assert found == [("healed", f"sha256:{DIGEST}", "assets/ab/ab", "from a copy"), ("purged", "", "", "")]


def test_what_is_to_be_written_is_durable_unless_somebody_says_otherwise(index, monkeypatch):
    really, asked = index.database.transaction, []

    def transaction(durable=True):
        asked.append(durable)
        return really(durable)

    monkeypatch.setattr(index.database, "transaction", transaction)
    index.commit(entry())
    index.commit(entry("cd" * 32), durable=False)
    entries = [index.entries(digest)[0] for digest in (DIGEST, "cd" * 32)]
    index.mark_used(entries, 5.0)
    index.mark_used(entries, 5.0, durable=False)
    assert asked == [True, False, True, False]
    now = index.entries(DIGEST)[0]
    assert index.mark_used([now], time.time())
    asked.clear()
    index.commit(index.entries(DIGEST)[0])  # nothing is new, nobody needs it
    assert asked == []


def test_a_path_is_made_when_somebody_asks(tmp_path):
    facts = {"hash": f"sha256:{DIGEST}", "size": 8, "namespace": "assets", "extension": "", "created_at": 1.0}
    made = StoredObject.at(str(tmp_path / "poster"), **facts)
    assert made == StoredObject(path=tmp_path / "poster", **facts) and made._preview_ == (tmp_path / "poster", 8)
    assert isinstance(made.path, Path) and made.path is made.path
    with pytest.raises(AttributeError, match="'StoredObject' object has no attribute 'paths'"):
        _ = made.paths
    with pytest.raises(AttributeError, match="'path'"):
        _ = object.__new__(StoredObject).path
