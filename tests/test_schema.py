"The tables of an index, made new and brought up to date."

import sqlite3
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cjm_media_storage import schema
from cjm_media_storage.index import Entry, Index, NewReference

VERSION_1 = [  # as the first version wrote it
    """CREATE TABLE objects (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL, namespace TEXT NOT NULL, extension TEXT NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, created_at REAL NOT NULL, UNIQUE (digest, namespace)
)""",
    "CREATE INDEX objects_size ON objects(size)",
    """CREATE TABLE sources (
    id INTEGER PRIMARY KEY, object_id INTEGER NOT NULL REFERENCES objects(id) ON DELETE CASCADE,
    location TEXT NOT NULL, provider TEXT NOT NULL, extension TEXT NOT NULL,
    first_seen REAL NOT NULL, last_seen REAL NOT NULL, UNIQUE (location, provider, object_id)
)""",
    "CREATE INDEX sources_object ON sources(object_id)",
    """CREATE TABLE object_references (
    id INTEGER PRIMARY KEY, object_id INTEGER NOT NULL REFERENCES objects(id) ON DELETE CASCADE,
    owner TEXT NOT NULL, role TEXT NOT NULL, created_at REAL NOT NULL, UNIQUE (object_id, owner, role)
)""",
    "CREATE INDEX object_references_owner ON object_references(owner)",
    """CREATE TABLE publications (
    id INTEGER PRIMARY KEY, object_id INTEGER NOT NULL REFERENCES objects(id),
    path TEXT NOT NULL UNIQUE, link_mode TEXT NOT NULL, created_at REAL NOT NULL
)""",
    "CREATE VIEW cache_image_files AS SELECT id, digest AS file_path FROM objects",
    "CREATE VIEW asset_candidates AS SELECT id, object_id AS cache_file_id FROM sources",
    "CREATE VIEW library_image_files AS SELECT id, path AS file_path FROM publications",
    "PRAGMA user_version=1",
]

DIGEST = "ab" * 32


@pytest.fixture
def old(tmp_path):
    "An index of the first version, with one object that a movie needs"
    path = tmp_path / "index.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as con:
        for statement in VERSION_1:
            con.execute(statement)
        con.execute("INSERT INTO objects VALUES (7, ?, 'assets', 'jpg', 8, 9, 10.5)", (DIGEST,))
        con.execute("INSERT INTO sources VALUES (3, 7, 'https://example.org/a.jpg', 'TMDB', 'jpg', 1.5, 2.5)")
        con.execute("INSERT INTO object_references VALUES (4, 7, 'movie:1', 'poster', 3.5)")
    return path


def shape(path):
    "Tables, views and indexes of a file, with their columns"
    with closing(sqlite3.connect(path)) as con:
        names = con.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY 1, 2")
        return {
            (type, name): con.execute(f"PRAGMA {'index_xinfo' if type == 'index' else 'table_info'}({name})").fetchall()
            for type, name in names.fetchall()
        }


def test_an_index_of_the_first_version_keeps_every_row(old, tmp_path):
    with closing(Index(old, tmp_path / "backup").database) as database:
        assert database.fetch("SELECT id, digest, created_at, used_at, state, checked_at, boot FROM objects") == [
            (7, DIGEST, 10.5, 10.5, "live", 0, "")
        ]
        assert database.fetch("SELECT id, location, last_seen FROM sources") == [(3, "https://example.org/a.jpg", 2.5)]
        assert database.fetch("SELECT id, owner, created_at FROM object_references") == [(4, "movie:1", 3.5)]
        assert database.fetch("SELECT file_path FROM cache_image_files") == [(f"assets/ab/ab/{DIGEST}.jpg",)]
    (backup,) = (tmp_path / "backup").iterdir()
    with closing(sqlite3.connect(backup)) as con:
        assert con.execute("PRAGMA user_version").fetchone() == (1,)
        assert con.execute("SELECT id FROM objects").fetchall() == [(7,)]


def test_a_migrated_index_is_like_a_new_one(old, tmp_path):
    Index(old).database.close()
    Index(tmp_path / "new.db").database.close()
    assert shape(old) == shape(tmp_path / "new.db")
    with closing(sqlite3.connect(old)) as con:
        assert con.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert schema.plan(con) == ()


def test_views_show_what_is_live(tmp_path):
    index = Index(tmp_path / "index.db")
    with closing(index.database) as database:
        database.execute(
            "INSERT INTO objects (digest, namespace, extension, size, mtime_ns, created_at)"
            " VALUES (?, 'a', '', 1, 1, 1)",
            (DIGEST,),
        )
        (entry,) = index.entries(DIGEST)
        index.commit(entry, reference=NewReference("movie:1"))
        database.execute("UPDATE objects SET state = 'trashed'")
        assert database.fetch("SELECT * FROM cache_image_files") == []
        assert index.totals() | {"objects": 0, "bytes": 0, "references": 0} == index.totals()
        assert index.entries(DIGEST) == [] and len(index.entries(DIGEST, trashed=True)) == 1


USUAL = (1, "ab" * 32, "assets", "jpg", 8, 10**18, 1.7e9, 1.7e9, "", None, "live")
ODD = [
    "",
    "..",
    "/",
    "a/b",
    "_a",
    "a-b",
    "A",
    "jpg\n",
    "j/g",
    "x" * 65,
    "\ud800",
    "trashed",
    "live/",
    "AB" * 32,
    "zz" * 32,
]
ODD += ["ab" * 32 + "\n", b"jpg", None, 0, 5, -1, -(2**63), 2**63, 1e11, -1.0, float("nan"), float("inf")]


@given(changes=st.dictionaries(st.integers(0, len(USUAL) - 1), st.sampled_from(ODD), max_size=3))
@example({})
@example({0: 2**63})
@example({2: "a/b", 3: ""})
@example({3: "g/", 8: ""})
def test_a_row_is_as_sound_as_its_columns(changes):
    row = [changes.get(n, value) for n, value in enumerate(USUAL)]
    wrong = [name for name, value in zip(Entry._fields, row, strict=True) if schema.unsound("object", [name], [value])]
    assert schema.unsound("object", Entry._fields, row) == (wrong[0] if wrong else "")
