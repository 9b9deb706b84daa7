"""A store in a folder that many machines share: its index, locks and pins are on a server, and a note in the folder
says which. What every store promises is tested elsewhere, for this kind, too."""

import json
import os
import pickle
import shutil
import stat
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from servers import Server, run, schema
from stores import Shared
from together import in_threads

from cjm_media_storage import folder_store, parts
from cjm_media_storage.files import Disk
from cjm_media_storage.layout import INDEX, SHORTEST, check_index_here, index_note, is_store
from cjm_media_storage.lineage import Lineage
from cjm_media_storage.maintenance import gc, move_root, rebuild_index, repair, snapshot, verify
from cjm_media_storage.publishing import Library
from cjm_media_storage.reporting import write_report
from cjm_media_storage.storage import (
    ContentStore,
    CorruptObject,
    IndexMissing,
    NotOnServer,
    OtherIndex,
    SecretInUrl,
    ServerUnavailable,
    StorageError,
    StoreBusy,
    StoreUnavailable,
    copy_to,
    hash_bytes,
)

POSTER = b"a poster"
HASH = hash_bytes(POSTER)
KEY = f"assets/{HASH[7:9]}/{HASH[9:11]}/{HASH[7:]}"


@pytest.fixture
def store(shared):
    with shared.open() as store:
        yield store


@pytest.fixture
def elsewhere(shared, tmp_path, store):
    "The same store, on another machine"
    with shared.open(folder=tmp_path / "another machine") as other:
        yield other


@pytest.fixture
def other_schema(server):
    "Another index on the same server"
    with schema(server.url) as url:
        yield url


def in_the_store(root):
    "What lies in `.store`, but for staging"
    paths = (path.relative_to(root / ".store").as_posix() for path in (root / ".store").rglob("*") if path.is_file())
    return sorted(path for path in paths if not path.startswith("staging/"))


# ---- what is where


def test_what_one_does_all_see(store, elsewhere):
    store.put(POSTER)
    with elsewhere.pin(HASH):
        assert not gc(store, grace=0, dry_run=False, force=True).taken
    with elsewhere.parts.maintenance(), pytest.raises(StoreBusy):
        gc(store, grace=0, dry_run=False)
    with elsewhere.parts.lock.shared(), pytest.raises(StoreBusy), store.parts.lock.exclusive():
        pass
    store.delete(HASH)
    assert HASH not in elsewhere and len(elsewhere.trash) == 1
    assert elsewhere.put(POSTER).created and store.read(HASH) == POSTER


def test_nothing_that_machines_do_not_share_is_in_the_folder(shared, store, tmp_path):
    film = tmp_path / "film.mkv"
    film.write_bytes(POSTER)
    os.utime(film, (0, 0))
    store.put(film, owner="movie:1")
    snapshot(store)
    names = [name for name in in_the_store(shared.root) if not name.startswith("backup/index-")]
    assert names == ["format.json", "index.db", "lock", "snapshot.lock", "snapshot.lock.turn"]
    assert (tmp_path / "work" / "memo.db").exists()
    shutil.rmtree(tmp_path / "work")
    with shared.open(folder=tmp_path / "another") as other:
        assert other.read(HASH) == POSTER and verify(other).ok


def test_the_memo_is_among_the_caches_unless_a_folder_is_named(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    with shared.open(folder=None) as store:
        assert Path(store.parts.memo.path) == tmp_path / "caches" / "cjm-media-storage" / store.id / "memo.db"
    with shared.open(memo=False) as store:
        assert store.parts.memo is None


def test_a_machine_without_a_place_for_the_memo_remembers_nothing(shared, tmp_path):
    (tmp_path / "a file").write_bytes(b"")
    with shared.open(folder=tmp_path / "a file" / "below") as store:
        assert store.put(POSTER).created and store.put(POSTER).created is False


def test_a_password_is_not_shown_not_pickled_and_not_in_the_note(shared):
    secret = shared.database.replace("postgres@", "postgres:hunter2@")
    with shared.open(database=secret) as store:
        store.put(POSTER)
        note = (shared.root / INDEX).read_text()
        assert "hunter2" not in repr(store) + str(store._facts_()) + note and "postgresql://postgres@" in note
        with pytest.raises(SecretInUrl) as e:
            pickle.dumps(store)
        assert "hunter2" not in str(e.value)


def test_a_pickle_says_all_that_the_store_was_opened_with(shared, tmp_path):
    with shared.open(object_mode=0o440, folder_mode=0o750, timeout=7.0, quota=10**6, memo=False) as store:
        with pickle.loads(pickle.dumps(store)) as again:
            assert again._options == store._options and repr(again) == repr(store) and again.id == store.id
        path = store.put(POSTER).path
        assert stat.S_IMODE(path.stat().st_mode) == 0o440 and stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_what_another_machine_never_synced_is_read_before_it_is_believed(shared, store, elsewhere):
    "A row tells in which boot of which machine the bytes were written"
    for content in (POSTER, b"another!"):
        store.put(content, durability="none")
    store.parts.index.database.execute("UPDATE objects SET boot = 'of another machine'")
    times = os.stat(shared.root / KEY).st_mtime_ns
    shared.write(KEY, b"A POSTER")
    os.utime(shared.root / KEY, ns=(times, times))  # nothing but the bytes tells
    with pytest.raises(CorruptObject):
        elsewhere.read(HASH)
    assert elsewhere.read(hash_bytes(b"another!")) == b"another!"
    assert {entry.boot for entry in store.parts.index.all()} == {"of another machine", ""}


def test_a_cache_stays_within_its_quota(shared):
    with shared.open(quota=1000) as store:
        for n in range(15):
            store.put(b"%d" % n * 100)
        assert store.stats()["bytes"] <= 1000 and verify(store).ok
        assert len(shared.names()) == len(store)


def test_a_publication_keeps_its_object_on_all_machines(store, elsewhere, tmp_path):
    store.put(POSTER)
    library = Library(store, tmp_path / "films")
    for mode, name in (("copy", "a.jpg"), ("hardlink", "b.jpg"), ("symlink", "c.jpg")):
        assert library.publish(HASH, name, mode=mode).path.read_bytes() == POSTER
    assert gc(elsewhere, grace=0, dry_run=False, force=True).taken == ()
    library.unpublish("a.jpg")
    assert gc(elsewhere, grace=0, dry_run=False, force=True).taken == ()


# ---- whose index it is


def test_the_note_is_short_and_says_which_index(store, shared):
    note = index_note(shared.root)
    assert note["index"] == store.parts.index.fact("index") and note["server"].startswith("postgresql://postgres@")
    assert os.stat(shared.root / INDEX).st_size < SHORTEST and set(note) == {"index", "server"}
    long = f"{shared.database}&application_name={'ä' * 600}"
    assert len(json.dumps({"index": note["index"], "server": folder_store._short(long)})) < SHORTEST


@pytest.mark.parametrize("content", [None, POSTER], ids=["empty", "with objects"])
def test_a_folder_is_refused_to_all_but_its_own_index(shared, other_schema, tmp_path, content):
    with shared.open() as store:
        if content:
            store.put(content)
    before = in_the_store(shared.root), (shared.root / INDEX).read_bytes()
    with pytest.raises(OtherIndex, match=r"it is on a server, postgresql://.*give database=") as e:
        ContentStore(shared.root)
    assert "rebuild_index" in str(e.value) and pickle.loads(pickle.dumps(e.value)).reason == e.value.reason
    for _ in range(2):  # its tables are there by the second time
        with pytest.raises(
            OtherIndex, match=r"that is .*, made at postgresql://.* and postgresql://.* is none of its own"
        ):
            shared.open(database=other_schema)
    assert before == (in_the_store(shared.root), (shared.root / INDEX).read_bytes())
    with shared.open() as store:
        assert len(store) == bool(content)


def test_the_index_of_another_store_is_refused(shared, store, tmp_path):
    from cjm_media_storage.errors import IndexCorrupt

    with pytest.raises(IndexCorrupt, match="another store"):
        ContentStore(tmp_path / "second", database=shared.database)
    assert not (tmp_path / "second" / INDEX).exists()
    ContentStore(tmp_path / "second").close()  # it is not spoilt


@pytest.mark.parametrize("content", [None, POSTER], ids=["empty", "with objects"])
def test_a_store_with_a_file_for_an_index_gets_no_other(shared, url, content):
    "Nothing is asked of the server, either"
    with ContentStore(shared.root) as store:
        if content:
            store.put(content)
        with pytest.raises(OtherIndex, match=r"it has one of its own, the file \.store/index\.db"):
            shared.open()
        assert store.put(b"more").created and len(store) == 1 + bool(content)
    assert run(url, "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()") == [(0,)]


def test_objects_that_no_index_knows_are_not_given_an_empty_one(shared, other_schema):
    with ContentStore(shared.root) as store:
        store.put(POSTER)
    (shared.root / INDEX).unlink()
    with pytest.raises(IndexMissing):
        shared.open()
    with psycopg.connect(other_schema) as con:  # tables that are there, and empty, are no index of it, either
        con.execute("CREATE TABLE other (id INTEGER)")
    from cjm_media_storage.index import Index

    Index(other_schema).database.close()
    with pytest.raises(IndexMissing):
        shared.open(database=other_schema)
    assert not (shared.root / INDEX).exists() and rebuild_index(shared.root).complete


def test_a_note_that_is_lost_is_made_again_by_the_index_that_knows_the_store(shared, other_schema):
    with shared.open() as store:
        store.put(POSTER)
        before = (shared.root / INDEX).read_bytes()
        (shared.root / INDEX).unlink()
        with pytest.raises(StoreUnavailable, match="its index was replaced"):
            store.put(b"another")
        with pytest.raises(IndexMissing):
            shared.open(database=other_schema)
        with shared.open() as again:
            assert again.read(HASH) == POSTER and (shared.root / INDEX).read_bytes() == before
        assert store.put(b"another").created


def test_another_note_stops_who_has_the_store_open(shared, store):
    "Also one who has begun: it is looked at in the transaction"
    store.put(POSTER)
    (shared.root / INDEX).unlink()
    (shared.root / INDEX).write_text('{"index": "another"}')
    for work in (lambda: store.put(b"another"), lambda: store.delete(HASH), lambda: store.add_reference(HASH, "a")):
        with pytest.raises(StoreUnavailable, match="its index was replaced"):
            work()
    with pytest.raises(OtherIndex, match="that is another, and"):
        shared.open()
    assert len(store) == 1


def test_a_disk_that_is_unmounted_gets_nothing(shared, store):
    shared.root.rename(shared.root.with_name("away"))
    shared.root.mkdir()
    with pytest.raises(StoreUnavailable, match="no longer the store that was opened"):
        store.put(POSTER)
    assert list(shared.root.iterdir()) == []
    shared.root.rmdir()
    shared.root.with_name("away").rename(shared.root)
    assert store.put(POSTER).created


def test_only_addresses_of_servers_are_taken(tmp_path):
    with pytest.raises(TypeError, match="has its index there"):
        ContentStore(tmp_path / "store", database=tmp_path / "index")
    with pytest.raises(ValueError, match="another kind"):
        ContentStore(tmp_path / "store", database="mysql://ann:hunter2@db/media")
    with pytest.raises(TypeError, match="endpoint"):
        ContentStore(tmp_path / "store", database="postgresql://db/media", endpoint="http://127.0.0.1")
    assert not (tmp_path / "store").exists()


def test_a_server_that_is_away_is_no_reason_to_make_an_index_here(shared):
    away = "postgresql://postgres@/postgres?host=/nowhere"
    with pytest.raises(ServerUnavailable):
        shared.open(database=away)
    assert is_store(shared.root) and not (shared.root / INDEX).exists()
    with shared.open() as store:
        assert store.put(POSTER).created
    with pytest.raises(ServerUnavailable):
        shared.open(database=away)
    check = pytest.raises(OtherIndex)
    with check:
        check_index_here(shared.root)


# ---- the first opening


class Killed(BaseException):
    "The process ends here"


@pytest.mark.parametrize("when", ["open_root", "Index", "_claim", "create_note", "claim"])
@pytest.mark.parametrize("how", ["before", "after"])
def test_a_first_opening_that_was_cut_short_is_done_again(shared, monkeypatch, when, how):
    from cjm_media_storage.index import Index

    owner = {"_claim": folder_store.FolderParts, "claim": Index}.get(when, folder_store)
    step = getattr(owner, when)

    def cut(*args, **options):
        if how == "after" and isinstance(made := step(*args, **options), Index):
            made.database.close()  # as the end of a process does
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, when, cut)
        with pytest.raises(Killed):
            shared.open()
    with shared.open() as store:
        assert store.put(POSTER).created
    with shared.open() as store, pytest.raises(OtherIndex):
        ContentStore(shared.root)
    assert in_the_store(shared.root) == ["format.json", "index.db", "lock"]


def test_many_machines_open_a_new_store_at_once(shared, tmp_path):
    "Each of them believes to be the first"
    stores = []

    def opened(n):
        stores.append(shared.open(folder=tmp_path / f"machine {n}"))
        stores[-1].put(POSTER, owner=f"machine:{n}")

    in_threads(4, opened)
    for store in stores:
        assert store.read(HASH) == POSTER and len(store) == 1 and store.stats()["references"] == 4
        store.close()


def test_of_two_indexes_that_come_at_once_one_is_refused(shared, other_schema, monkeypatch):
    create = folder_store.create_note

    def late(*args):
        monkeypatch.setattr(folder_store, "create_note", create)
        shared.open(database=other_schema).close()
        create(*args)

    monkeypatch.setattr(folder_store, "create_note", late)
    with pytest.raises(OtherIndex, match=r"that is .*, and postgresql"):
        shared.open()
    with shared.open(database=other_schema) as store:
        assert store.put(POSTER).created


@pytest.mark.parametrize("first", ["file", "server"])
def test_of_a_file_and_a_server_that_come_at_once_one_is_refused(shared, monkeypatch, first):
    "They want the same name, so there is no moment in which both have it"
    if first == "file":
        owner, name, other = folder_store, "create_note", lambda: ContentStore(shared.root)
    else:
        owner, name, other = parts, "Index", shared.open
    step = getattr(owner, name)

    def late(*args, **options):
        monkeypatch.setattr(owner, name, step)
        with other() as store:
            store.put(POSTER)
        return step(*args, **options)

    monkeypatch.setattr(owner, name, late)
    with pytest.raises(OtherIndex):
        (shared.open if first == "file" else lambda: ContentStore(shared.root))()
    with other() as store:
        assert store.read(HASH) == POSTER and verify(store).ok


# ---- a new index, another place


def test_a_lost_index_is_made_again_in_the_folder(shared, other_schema):
    with shared.open() as store:
        store.put(POSTER, owner="movie:1")
        store.delete(store.put(b"not needed").hash)
        snapshot(store)
        store.parts.staging.close()
        run(shared.database, "DROP TABLE objects, sources, object_references, publications, trash, meta, log CASCADE")
        run(shared.database, "DROP TABLE media_storage_versions")
        with pytest.raises(OtherIndex, match="rebuild_index"):
            shared.open()
        note = (shared.root / INDEX).read_bytes()
        report = rebuild_index(shared.root)
        assert report.complete and (report.kept / "index.db").read_bytes() == note
        with pytest.raises(StoreUnavailable, match="its index was replaced"):
            store.put(b"another")
    with pytest.raises(OtherIndex, match="leave database=… out"):
        shared.open()
    with ContentStore(shared.root) as store:
        assert [each.owner for each in store.references(HASH)] == ["movie:1"] and len(store.trash) == 1
        assert verify(store).ok


def test_who_uses_the_store_meanwhile_loses_nothing(shared, store):
    "The server's index is there, and somebody makes another one all the same"
    store.put(POSTER, owner="movie:1")
    before = (shared.root / INDEX).read_bytes()
    with pytest.raises(StoreBusy):
        rebuild_index(shared.root)
    assert (shared.root / INDEX).read_bytes() == before and store.put(b"another").created
    store.parts.staging.close()  # nothing is on its way
    assert rebuild_index(shared.root).objects == 2
    with pytest.raises(StoreUnavailable, match="its index was replaced"):
        store.put(b"late")
    assert store.read(HASH) == POSTER


def test_the_old_index_can_be_taken_back(shared):
    "Nothing on the server was changed, and the note was kept"
    with shared.open() as store:
        store.put(POSTER, owner="movie:1")
    report = rebuild_index(shared.root)
    (report.kept / "index.db").replace(shared.root / INDEX)
    with shared.open() as store:
        assert len(store.references(HASH)) == 1 and verify(store).ok


def test_a_folder_that_is_moved_by_hand_is_the_same_store(shared, tmp_path):
    with shared.open() as store:
        store.put(POSTER)
        with pytest.raises(NotOnServer, match="move the folder itself"):
            move_root(store, tmp_path / "new")
        with pytest.raises(NotOnServer, match="move the folder itself"):
            move_root(shared.root, tmp_path / "new")
        assert not (tmp_path / "new").exists()
    shared.root.rename(tmp_path / "new")
    shared.root = tmp_path / "new"
    with shared.open() as store:
        assert store.read(HASH) == POSTER and verify(store).ok


def test_lineage_and_reports_read_files(shared, store, tmp_path):
    for given in (store, shared.root):
        with pytest.raises(NotOnServer, match="lineage"):
            Lineage(store=given)
        with pytest.raises(NotOnServer, match="a report"):
            write_report(tmp_path / "report.html", given)
    assert not (tmp_path / "report.html").exists()


def test_to_a_server_and_back(shared, tmp_path):
    "By a copy, which is how a store gets an index elsewhere"
    with ContentStore(tmp_path / "old") as old, shared.open() as store, ContentStore(tmp_path / "back") as back:
        old.put(POSTER, owner="movie:1", source="https://example.org/a.jpg")
        assert copy_to(old, store).copied == 1 and copy_to(store, back).copied == 1
        assert copy_to(old, store).copied == 0
        for each in (store, back):
            assert len(each.references(HASH)) == len(each.sources(HASH)) == 1


def test_fault_70_what_an_older_backup_of_the_server_does_not_know_is_repaired(shared):
    "What was trashed since is found in the trash; what was put since is adopted"
    with shared.open() as store:
        store.put(POSTER, owner="movie:1")
        new = store.put(b"after the backup").hash
        store.delete(HASH, force=True)
        database = store.parts.index.database
        database.execute("DELETE FROM trash")
        database.execute("UPDATE objects SET state = 'live'")
        database.execute("DELETE FROM objects WHERE digest = ?", (new[7:],))
    with shared.open() as store:
        repair(store, dry_run=False)
        repair(store, dry_run=False)
        assert store.read(HASH) == POSTER and store.read(new) == b"after the backup" and verify(store).ok
        assert len(store.references(HASH)) == 1


# ---- a server that is killed


def test_fault_65_the_server_is_killed_in_the_middle_and_started_again(tmp_path):
    every, acknowledged = [b"content %d" % n for n in range(1500)], []
    with closing(Server("fsync=on")) as database, schema(database.url) as address:
        kind = Shared(tmp_path, address)
        with kind.open() as store:
            with pytest.raises(StoreUnavailable):
                for outcome in store.put_many(every, ordered=False):
                    if outcome.error is not None:
                        raise outcome.error
                    acknowledged.append(outcome.result.hash)
                    if len(acknowledged) == 20:
                        database.kill()
            with pytest.raises(StorageError):
                store.put(b"more")
            database.start()
            assert len({store.read(hash, verify=True) for hash in acknowledged}) == len(acknowledged) >= 20
            assert not {"missing", "corrupt"} & {*verify(store).counts}
            assert all(outcome.result for outcome in store.put_many(every, owner="a film"))
            assert len(store) == 1500 == len(kind.names()) and verify(store).ok


# ---- staging that another machine sweeps


def sweep(store):
    "What a machine does that does not see the locks of this one"
    for own in store.parts.staging.folder.glob("*-*-*"):
        shutil.rmtree(own)


FORMS = {
    "bytes": lambda folder: POSTER,
    "large bytes": lambda folder: POSTER * 400_000,
    "stream": lambda folder: iter([POSTER * 400_000]),
    "file": lambda folder: folder / "film.mkv",
}


@pytest.mark.parametrize("there", ["nothing", "rubbish"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("many", [False, True], ids=["put", "put_many"])
def test_a_staged_file_that_is_swept_wrongly_is_an_error_and_no_loss(shared, tmp_path, monkeypatch, form, many, there):
    "It goes between staging and its final name"
    (tmp_path / "film.mkv").write_bytes(POSTER * 300_000)
    content = FORMS[form](tmp_path)
    expected = (tmp_path / "film.mkv").read_bytes() if form == "file" else POSTER * (1 if form == "bytes" else 400_000)
    hash = hash_bytes(expected)
    with shared.open() as store:
        if there == "rubbish":
            suffix = ".mkv" if form == "file" else ""
            shared.write(f"assets/{hash[7:9]}/{hash[9:11]}/{hash[7:]}{suffix}", b"rubbish")
        rename = Disk.rename_new

        def late(*args):
            sweep(store)
            return rename(*args)

        monkeypatch.setattr(Disk, "rename_new", late)
        if many:
            (outcome,) = store.put_many([content])
            assert isinstance(outcome.error, OSError | StorageError) and outcome.result is None
        else:
            with pytest.raises((OSError, StorageError)):
                store.put(content)
        assert hash not in store and len(store) == 0
    monkeypatch.setattr(Disk, "rename_new", rename)
    with shared.open() as store:
        assert store.put(FORMS[form](tmp_path)).created and store.read(hash, verify=True) == expected
