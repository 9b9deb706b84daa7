"""A lock on a server is lost while its holder takes files away, and another machine puts the same bytes: whatever is
acknowledged has its bytes in the end. The sessions are ended for real; where in the work, a test says."""

import threading

import pytest
from servers import run

from cjm_media_storage import folder_trash, objects, trash
from cjm_media_storage.maintenance import gc, repair, verify
from cjm_media_storage.storage import ObjectNotFound, ServerUnavailable, hash_bytes

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


def cut(store):
    "End the session that holds the store's lock for this thread, as a server that was restarted did"
    pid = store.parts.lock._mine.con.info.backend_pid
    assert run(store.parts.index.database.address, f"SELECT pg_terminate_backend({pid}, 10000)") == [(True,)]


def once(monkeypatch, owner, name, before=lambda: None, after=lambda: None):
    "Do something around the next call of a step, and only of that"
    step = getattr(owner, name)

    def late(*args, **options):
        monkeypatch.setattr(owner, name, step)
        before()
        result = step(*args, **options)
        after()
        return result

    monkeypatch.setattr(owner, name, late)


def is_whole(store):
    "Has each live object its right bytes?"
    return not {"missing", "corrupt"} & {*verify(store).counts}


def test_fault_68_nothing_is_renamed_by_who_is_told_that_the_lock_is_lost(store, elsewhere, monkeypatch):
    "The object was never without its name, not even for a moment"
    store.put(POSTER)
    renamed = []
    once(monkeypatch, trash, "rename_all", before=lambda: renamed.append(True))
    once(monkeypatch, store.trash, "_move", before=lambda: cut(store))
    with pytest.raises(ServerUnavailable, match="has ended"):
        store.delete(HASH)
    assert not renamed and elsewhere.put(POSTER).created and verify(elsewhere).ok and len(elsewhere.trash) == 0


# The steps between which a session can be lost: in the store's own words, and where that is


def in_the_check(store):
    return store.trash, "still_held"


def in_the_rename(store):
    return trash, "rename_all"


def in_the_last_transaction(store):
    return store.trash, "_settle"


STEPS = [in_the_check, in_the_rename, in_the_last_transaction]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
@pytest.mark.parametrize("how", ["before", "after"])
def test_fault_68_what_was_put_while_a_delete_had_lost_the_lock_has_its_bytes(store, elsewhere, monkeypatch, step, how):
    "Marked, committed, then lost: directly before each step that is left, and directly after it"
    store.put(POSTER)
    put = []

    def lose():
        cut(store)
        put.append(elsewhere.put(POSTER))

    once(monkeypatch, *step(store), **{how: lose})
    done = (step, how) == (in_the_last_transaction, "after")  # and undone by the put, before it was looked up
    with pytest.raises(ObjectNotFound if done else ServerUnavailable, match=HASH if done else "has ended"):
        store.delete(HASH)
    assert put and elsewhere.read(HASH, verify=True) == store.read(HASH, verify=True) == POSTER
    assert is_whole(store)
    repair(store, dry_run=False)
    assert verify(elsewhere).ok and len(elsewhere) == 1


def test_fault_68_a_put_that_has_seen_the_file_in_its_place_commits_after_the_rename(store, elsewhere, monkeypatch):
    "The narrowest case: the file is linked and looked at, then it goes, then the row is written, then the trash asks"
    store.put(POSTER)
    seen, renamed, committed = threading.Event(), threading.Event(), threading.Event()

    def commit_late():
        seen.set()
        assert renamed.wait(60)

    def put():
        elsewhere.put(POSTER)
        committed.set()

    other = threading.Thread(target=put)

    def lose():
        cut(store)
        other.start()
        assert seen.wait(60)

    def let_commit():
        renamed.set()
        assert committed.wait(60)

    once(monkeypatch, elsewhere.parts.index, "commit", before=commit_late)
    once(monkeypatch, trash, "rename_all", before=lose, after=let_commit)
    with pytest.raises(ServerUnavailable, match="has ended"):
        store.delete(HASH)
    other.join()
    assert elsewhere.read(HASH, verify=True) == POSTER and is_whole(elsewhere)


def test_fault_68_what_is_put_again_leaves_alone_what_may_be_the_only_file(store, elsewhere, monkeypatch):
    "The file goes after the row is live, and before the trash is asked to forget it"
    store.put(POSTER)
    renamed, forgetting = threading.Event(), threading.Event()

    def before_forgetting():
        forgetting.set()
        assert renamed.wait(60)

    other = threading.Thread(target=lambda: elsewhere.put(POSTER))
    once(monkeypatch, elsewhere.trash, "forget", before=before_forgetting)

    def lose():
        cut(store)
        other.start()
        assert forgetting.wait(60)

    def let_forget():
        renamed.set()
        other.join()

    once(monkeypatch, trash, "rename_all", before=lose, after=let_forget)
    with pytest.raises(ServerUnavailable, match="has ended"):
        store.delete(HASH)
    assert elsewhere.read(HASH, verify=True) == POSTER and is_whole(elsewhere)


def test_fault_68_a_machine_that_fails_in_that_very_moment_leaves_the_bytes_where_repair_finds_them(
    store, elsewhere, monkeypatch
):
    "Nobody is left to give the file its name back"
    store.put(POSTER, owner="movie:1")
    monkeypatch.setattr(folder_trash, "_all_back", lambda *args: None)
    once(monkeypatch, trash, "rename_all", before=lambda: (cut(store), elsewhere.put(POSTER)))
    with pytest.raises(ServerUnavailable):
        store.delete(HASH, force=True)
    assert verify(elsewhere).counts == {"missing": 1, "leftover": 1}
    repair(elsewhere, dry_run=False)
    assert elsewhere.read(HASH, verify=True) == POSTER and len(elsewhere.references(HASH)) == 1
    repair(elsewhere, dry_run=False)
    assert verify(elsewhere).ok


@pytest.mark.parametrize("step", ["still_held", "_remove"])
def test_fault_68_a_purge_that_has_lost_the_lock_takes_nothing_that_was_put(store, elsewhere, monkeypatch, step):
    store.put(POSTER, owner="movie:1")
    store.delete(HASH, retention_days=0, force=True)
    once(monkeypatch, store.trash, step, before=lambda: (cut(store), elsewhere.put(POSTER)))
    with pytest.raises(ServerUnavailable, match="has ended"):
        store.trash.purge()
    assert elsewhere.read(HASH, verify=True) == POSTER and len(elsewhere.references(HASH)) == 1
    assert verify(store).ok and len(store.trash) == 0


@pytest.mark.parametrize("who", ["purges", "puts again"])
def test_fault_68_what_was_deleted_meanwhile_can_be_restored(store, elsewhere, monkeypatch, who):
    "It lies under the same name as what was to be unlinked"
    store.put(POSTER, owner="movie:1")
    store.delete(HASH, retention_days=0, force=True)

    def lose():
        cut(store)
        elsewhere.put(POSTER)
        elsewhere.delete(HASH, force=True)

    once(monkeypatch, store.trash, "_remove" if who == "purges" else "_unlink", before=lose)
    with pytest.raises(ServerUnavailable, match="has ended"):
        store.trash.purge() if who == "purges" else store.put(POSTER)
    assert elsewhere.trash.purge() == []
    elsewhere.trash.restore(HASH)
    assert store.read(HASH, verify=True) == POSTER and len(store.references(HASH)) == 1 and verify(store).ok


def test_fault_68_a_restore_that_has_lost_the_lock_says_so(store, elsewhere, monkeypatch):
    store.put(POSTER, owner="movie:1")
    (item,) = store.delete(HASH, force=True)
    once(monkeypatch, store.trash, "_revive", before=lambda: (cut(store), elsewhere.trash.purge(everything=True)))
    with pytest.raises(ServerUnavailable, match="has ended"):
        store.trash.restore(item)
    assert HASH not in elsewhere and verify(elsewhere).counts == {"untracked": 1}  # waste at worst


def test_fault_68_what_was_healed_meanwhile_is_not_kept_in_quarantine(store, elsewhere, shared, monkeypatch):
    "A repair takes wrong bytes away; another machine has put the right ones in their place by then"
    store.put(POSTER)
    shared.write(KEY, b"rubbish!")

    def lose():
        cut(store)
        elsewhere.put(POSTER)

    once(monkeypatch, objects.Objects, "quarantine", before=lose)
    with pytest.raises(ServerUnavailable, match="has ended"):
        repair(store, dry_run=False)
    assert elsewhere.read(HASH, verify=True) == POSTER and is_whole(elsewhere)


def test_fault_68_an_untracked_file_that_became_an_object_stays_one(store, elsewhere, shared, monkeypatch):
    "A collection takes it away; another machine has put the same bytes, and found them there"
    store.put(b"another", owner="movie:1")
    shared.write(KEY, POSTER)
    once(monkeypatch, trash, "take_away", before=lambda: (cut(store), elsewhere.put(POSTER)))
    with pytest.raises(ServerUnavailable, match="has ended"):
        gc(store, grace=0, untracked=True, dry_run=False)
    assert elsewhere.read(HASH, verify=True) == POSTER and is_whole(elsewhere)


def test_what_cannot_be_brought_back_stops_no_other(tmp_path, monkeypatch, caplog):
    from cjm_media_storage.files import DISK

    moves = [(tmp_path / name, tmp_path / f"{name}.trashed") for name in ("a", "b", "never went")]
    for _, target in moves[:2]:
        target.write_bytes(POSTER)
    give_back = folder_trash.give_back

    def failing(place, path, disk):
        if path.name == "a":
            raise OSError("the disk is away")
        give_back(place, path, disk)

    monkeypatch.setattr(folder_trash, "give_back", failing)

    def lost():
        if (tmp_path / "go").exists():
            raise ServerUnavailable("the server", "the session has ended")

    with pytest.raises(ServerUnavailable), folder_trash.held_still(lost, moves, DISK):
        (tmp_path / "go").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.trashed", "b", "b.trashed", "go"]
    assert "a.trashed" in caplog.text
