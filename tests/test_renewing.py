"A new index, made from what was found and what is known."

import pytest

from cjm_media_storage.files import DISK
from cjm_media_storage.layout import object_path
from cjm_media_storage.rebuilding import rebuild_index
from cjm_media_storage.renewing import NewIndex
from cjm_media_storage.snapshots import snapshot
from cjm_media_storage.storage import Conflict, ContentStore, hash_bytes
from cjm_media_storage.walking import Found

POSTER = b"a poster"
HASH = hash_bytes(POSTER)
DIGEST = HASH[7:]


@pytest.fixture
def root(tmp_path):
    "A closed store with an object"
    with ContentStore(tmp_path / "store") as store:
        store.put(POSTER, extension="jpg", owner="movie:1")
    return tmp_path / "store"


@pytest.fixture
def new(tmp_path):
    new = NewIndex(tmp_path, DISK, proven=True)
    yield new
    new.index.database.close()


def fact(kind, **values):
    return {"kind": kind, "digest": DIGEST, "namespace": "assets", **values}


def test_of_a_live_and_a_trashed_file_the_object_is_live(new):
    live = Found(object_path("assets", DIGEST, "jpg"), "assets", DIGEST, "jpg", 8)
    with new.index.database.transaction() as con:
        new.add(con, live)
        new.add(con, Found(f".store/trash/assets/{DIGEST}.jpg", "assets", DIGEST, "jpg", 8, trashed=True))
    assert [(entry.extension, entry.state) for entry in new.index.select("1")] == [("jpg", "live")]
    assert [found.path for found in new.seconds()[1]] == [f".store/trash/assets/{DIGEST}.jpg"]


def test_what_is_known_twice_is_joined(new):
    source = fact("source", location="https://example.org/a", provider="", extension="", first_seen=5.0, last_seen=6.0)
    reference = fact("reference", owner="movie:1", role="", created_at=1.0)
    with new.index.database.transaction() as con:
        assert not new.recall(con, source)  # there is nothing yet
        new.add(con, Found(object_path("assets", DIGEST, "jpg"), "assets", DIGEST, "jpg", 8))
        for each in (source, {**source, "first_seen": 1.0}, {**source, "last_seen": 9.0}, reference, reference):
            assert new.recall(con, each)
    (found,) = new.index.sources("1", ())
    assert (found.first_seen, found.last_seen) == (1.0, 9.0)
    assert len(new.index.references("1", ())) == 1


def test_only_what_was_live_is_missing(new):
    with new.index.database.transaction() as con:
        for state, digest in (("live", "ab" * 32), ("trashed", "cd" * 32)):
            new.recall(con, {**fact("object", extension="", created_at=0.0, state=state), "digest": digest})
    assert new.missing() == (1, ("sha256:" + "ab" * 32,))
    new.forget_missing()
    assert new.missing() == (0, ())


def test_a_file_that_was_left_is_begun_anew(new, tmp_path):
    with new.index.database.transaction() as con:
        new.add(con, Found(object_path("assets", DIGEST, "jpg"), "assets", DIGEST, "jpg", 8))
    new.index.database.close()
    again = NewIndex(tmp_path, DISK, proven=False)
    assert again.index.totals()["objects"] == 0
    again.finish("f47a")


def test_of_two_files_of_an_object_the_one_that_was_handed_out_is_taken(root):
    for extension in ("aaa", "zzz", ""):
        path = root / object_path("assets", HASH[7:], extension)
        path.write_bytes(POSTER)
    report = rebuild_index(root)
    assert (report.objects, report.problems) == (1, {"foreign": 3})
    with ContentStore(root) as store:
        assert store.get(HASH).extension == "jpg"
        assert object_path("assets", HASH[7:], "jpg") not in {found.path for found in report.left_out}


def test_files_that_were_moved_into_the_trash(root, tmp_path):
    with ContentStore(root) as store:
        for name in ("known.nfo", "unknown.nfo"):
            (tmp_path / name).write_text("my notes")
            store.trash.take_file(tmp_path / name, "in the way")
            if name == "known.nfo":
                snapshot(store).rename(root / ".store" / "backup" / "index-29990101T000000Z.jsonl")
    (root / ".store" / "index.db").unlink()
    assert rebuild_index(root).trashed == 2
    with ContentStore(root) as store:
        known, unknown = sorted(store.trash, key=lambda item: item.origin, reverse=True)
        store.trash.restore(known, outside=True)
        assert (tmp_path / "known.nfo").read_text() == "my notes"
        with pytest.raises(Conflict):  # nobody knows where it was; it stays
            store.trash.restore(unknown)
        assert len(store.trash) == 1
