"Many rows at once are what they would have been one by one."

import random

import pytest

from cjm_media_storage.errors import IndexCorrupt, ObjectNotFound
from cjm_media_storage.index import Entry, Index, NewReference, NewSource
from cjm_media_storage.inserting import Written, write_all

TABLES = ("objects", "sources", "object_references", "trash")


@pytest.fixture
def two(tmp_path):
    "Two indexes"
    indexes = Index(tmp_path / "one.db"), Index(tmp_path / "many.db")
    yield indexes
    for index in indexes:
        index.database.close()


def one_by_one(index, con, rows, now):
    done = []
    for row in rows:
        try:
            done.append(index.write(con, *row, now))
        except ObjectNotFound as e:
            done.append(e)
    return done


def told(done):
    return [each.hash if isinstance(each, ObjectNotFound) else each for each in done]


def held(index):
    "All rows, with the objects by their names: numbers may be given out in another order"
    names = {row[0]: row[1:3] for row in index.database.fetch("SELECT id, digest, namespace FROM objects")}
    objects = {row[1:] for row in index.database.fetch("SELECT * FROM objects")}
    sources = index.database.fetch(
        "SELECT object_id, location, provider, extension,"
        " rank() OVER (PARTITION BY location ORDER BY last_seen) FROM sources"
    )
    needs = index.database.fetch("SELECT object_id, owner, role FROM object_references")
    trash = index.database.fetch("SELECT object_id, path FROM trash")
    return objects, *({(names[row[0]], *row[1:]) for row in rows} for rows in (sources, needs, trash))


def some_rows(dice, index):
    "New and known objects, some of them twice, from few locations"
    rows = []
    for _ in range(dice.randrange(1, 12)):
        digest, namespace = dice.choice("abcdef") * 64, dice.choice(("assets", "actors"))
        known = index.entries(digest, namespace)
        new = Entry(0, digest, namespace, "jpg", 8, dice.randrange(3), 1.0, boot=dice.choice(("", "this boot")))
        source = dice.choice((None, NewSource(f"/{dice.randrange(4)}", dice.choice(("", "TMDB")), "jpg")))
        reference = dice.choice((None, NewReference(f"movie:{dice.randrange(2)}")))
        gone = Entry(99, digest, namespace, "jpg", 8, 0, 1.0)
        rows.append(Written(dice.choice([new, new, gone, *known]), source, reference))
    return rows


def throw_away(index, digest):
    with index.database.transaction() as con:
        con.execute("UPDATE objects SET state = 'trashed' WHERE digest = ?", (digest,))
        con.execute(
            "INSERT OR IGNORE INTO trash (object_id, path, origin, size, reason, trashed_at)"
            " SELECT id, digest || namespace, '', 8, '', 0 FROM objects WHERE state = 'trashed'"
        )


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_written_at_once_is_what_is_written_one_by_one(two, seed):
    dice = random.Random(seed)
    for now in (10.0, 20.0, 5.0):
        rows = some_rows(dice, two[0])
        results = []
        for index, write in zip(two, (one_by_one, write_all), strict=True):
            here = [row._replace(entry=numbered(index, row.entry)) for row in rows]
            with index.database.transaction() as con:
                results.append(told(write(index, con, here, now)))
        assert results[0] == results[1]
        assert held(two[0]) == held(two[1])
        for index, digest in zip(two, [dice.choice("abc") * 64] * 2, strict=True):
            throw_away(index, digest)


def numbered(index, entry):
    "The same entry, with the number that it has in this index"
    if entry.id in (0, 99):
        return entry
    (found,) = index.entries(entry.digest, entry.namespace, trashed=True)
    return entry._replace(id=found.id)


def test_any_number_at_once(two):
    rows = [Written(Entry(0, f"{n:064x}", "assets", "", n, 0, 1.0), NewSource(f"/{n}")) for n in range(1200)]
    with two[1].database.transaction() as con:
        assert write_all(two[1], con, rows, 1.0) == [True] * 1200
    assert two[1].totals()["sources"] == 1200
    assert [entry.size for entry in two[1].all()] == list(range(1200))


def test_what_a_location_gave_last_is_its_newest_however_many_come_at_once(index):
    for at in (9.0, 1.0):  # the clock was set back in between
        digests = [f"{n:062x}{at:02.0f}" for n in range(400)]
        rows = [
            Written(Entry(0, digest, "assets", "", 1, 0, 1.0), NewSource(f"/{n % 3}"))
            for n, digest in enumerate(digests)
        ]
        with index.database.transaction() as con:
            assert write_all(index, con, rows, at) == [True] * 400
        last = index.last_given([(f"/{n}", "") for n in range(3)])
        assert [last[f"/{n}", ""].digest for n in range(3)] == [digests[399], digests[397], digests[398]]
    assert index.totals()["sources"] == 800


def test_what_is_new_is_written_at_once(index, monkeypatch):
    "And what is known one by one"
    rows = [Written(Entry(0, digit * 64, "assets", "", 1, 0, 1.0), NewSource(f"/{digit}")) for digit in "abc"]
    write, alone = index.write, []

    def writing(con, entry, *others):
        alone.append(entry.digest[0])
        return write(con, entry, *others)

    monkeypatch.setattr(index, "write", writing)
    for some, created in ((rows[:2], [True, True]), (rows, [False, False, True])):
        with index.database.transaction() as con:
            assert write_all(index, con, some, 1.0) == created
    assert alone == ["a", "b"]


def test_what_is_seen_only_later_is_written_one_by_one_all_the_same(index, monkeypatch):
    "As on a server, where another commits between two statements"
    rows = [Written(Entry(0, digit * 64, "assets", "", 1, 0, 1.0), NewSource(f"/{digit}")) for digit in "abcd"]
    with index.database.transaction() as con:
        write_all(index, con, rows[1:3], 1.0)
    ask, looks = index.entries_of, []

    def late(digests):
        looks.append(digests)
        return {digest: found for digest, found in ask(digests).items() if digest[0] in "bc"[: len(looks) - 1]}

    monkeypatch.setattr(index, "entries_of", late)
    with index.database.transaction() as con:
        assert write_all(index, con, rows, 2.0) == [True, False, False, True]
    assert len(looks) == 3
    assert sorted(entry.digest[0] for entry in index.all()) == list("abcd")
    assert {index.sources("digest = ?", (digit * 64,))[0].location for digit in "abcd"} == {f"/{d}" for d in "abcd"}


def test_nothing_to_write(two):
    with two[1].database.transaction() as con:
        assert write_all(two[1], con, [], 1.0) == []


def test_no_number_is_left_above_the_highest(two):
    rows = [Written(Entry(0, digit * 64, "assets", "", 1, 0, 1.0)) for digit in "abc"]
    with two[1].database.transaction() as con:
        write_all(two[1], con, rows[:1], 1.0)
        con.execute("UPDATE objects SET id = ?", ((1 << 63) - 2,))
    with two[1].database.transaction() as con:
        assert write_all(two[1], con, rows[1:], 1.0) == [True, True]
    assert {entry.digest[0] for entry in two[1].all()} == set("abc")


def test_a_number_that_is_none_is_damage(two):
    database = two[1].database
    row = Written(Entry(0, "a" * 64, "assets", "", 1, 0, 1.0))
    with database.transaction() as con:
        write_all(two[1], con, [row], 1.0)
        con.execute("ALTER TABLE objects RENAME COLUMN id TO number")
        con.execute("ALTER TABLE objects ADD COLUMN id TEXT DEFAULT 'x'")
    with pytest.raises(IndexCorrupt, match="id"), database.transaction() as con:
        write_all(two[1], con, [row._replace(entry=row.entry._replace(digest="b" * 64))], 2.0)
