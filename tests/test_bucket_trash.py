"Delete, restore and purge in a bucket, when the network or the program ends in between."

from contextlib import closing

import pytest
from s3 import Proxy

from cjm_media_storage.bucket import Bucket
from cjm_media_storage.errors import Conflict, StoreUnavailable
from cjm_media_storage.maintenance import gc, repair, verify
from cjm_media_storage.storage import hash_bytes

POSTER = b"a poster"
HASH = hash_bytes(POSTER)
KEY = f"assets/{HASH[7:9]}/{HASH[9:11]}/{HASH[7:]}"
IN_TRASH = f".store/trash/assets/{HASH[7:]}"


@pytest.fixture
def store(in_bucket):
    with in_bucket.open() as store:
        store.put(POSTER, owner="movie:1")
        yield store


class Cut(Exception):
    "The network ends here"


@pytest.mark.parametrize("verb", ["copy", "delete"])
def test_a_delete_that_is_cut_short_is_undone(store, in_bucket, monkeypatch, verb):
    "The object is live again, at once or when the store is opened, and was never without its bytes"

    def cut(self, *args):
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, verb, cut)
        with pytest.raises(Cut):
            store.delete(HASH, force=True)
    assert store.read(HASH) == POSTER and len(store.trash) == 0 and len(store.references(HASH)) == 1
    assert in_bucket.names() == [KEY]
    assert verify(store).counts == ({"leftover": 1} if verb == "delete" else {})
    assert repair(store, dry_run=False).ok and verify(store).ok and store.read(HASH) == POSTER


KILLED = """
import os, pickle, sys

from cjm_media_storage.bucket import Bucket

verb = sys.argv[2]
real = getattr(Bucket, verb)

def end(self, *args):
    if sys.argv[3] == "after":
        real(self, *args)
    os._exit(9)

with pickle.loads(bytes.fromhex(sys.argv[1])) as store:
    setattr(Bucket, verb, end)
    if sys.argv[4] == "delete":
        store.delete(sys.argv[5], force=True)
    elif sys.argv[4] == "restore":
        store.trash.restore(sys.argv[5])
    elif sys.argv[4] == "purge":
        store.trash.purge(everything=True)
    else:
        store.put(b"a poster")
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("work", "verb"),
    [
        ("delete", "copy"),
        ("delete", "delete"),
        ("restore", "copy"),
        ("restore", "delete"),
        ("purge", "delete"),
        ("put", "create"),
        ("put", "delete"),
    ],
)
def test_a_process_that_dies_between_two_requests(in_bucket, program, work, verb, when):
    "Whatever was acknowledged is there, or in the trash; what was not may be either; and going on heals the rest"
    import pickle

    with in_bucket.open() as store:
        pickled = pickle.dumps(store).hex()
        if work != "put" or verb == "delete":
            store.put(POSTER)
        if work != "delete" and (work != "put" or verb == "delete"):
            store.delete(HASH)
    other = program.start(KILLED, pickled, verb, when, work, HASH)
    assert other.wait(60) == 9
    other.communicate()
    with in_bucket.open() as store:
        report = verify(store)
        assert not {"missing", "corrupt"} & {*report.counts}, str(report)
        if work == "delete":
            assert HASH in store or store.trash.find(HASH)
        if work == "restore":
            assert HASH in store or store.trash.find(HASH)
            if HASH not in store:
                store.trash.restore(HASH)
        if work == "purge":
            store.trash.purge(everything=True)
            assert in_bucket.names() == [] and not store.trash.find(HASH)
        else:
            repair(store, dry_run=False)
            store.put(POSTER)
            assert store.read(HASH, verify=True) == POSTER
        assert repair(store, dry_run=False).ok and verify(store).ok


def test_a_network_that_ends_in_the_middle_of_a_delete(s3, in_bucket):
    with in_bucket.open() as store:
        store.put(POSTER)
    with closing(Proxy(s3.url, every=10**9)) as proxy, in_bucket.open(endpoint=proxy.url, retry_timeout=0.2) as store:
        proxy.close()
        with pytest.raises(StoreUnavailable):
            store.delete(HASH)
    with in_bucket.open() as store:
        assert store.read(HASH) == POSTER and verify(store).ok and len(store.trash) == 0


def test_the_copy_in_the_trash_stays_while_a_delete_may_be_on_its_way(store, in_bucket):
    "Who deleted was killed, the bytes are put again, and then its DELETE arrives: the copy in the trash heals it"
    entry = store._index.entries(HASH[7:])[0]
    with store._index.database.transaction() as con:  # as it is when a process dies between copy and delete
        con.execute("UPDATE objects SET state = 'trashing' WHERE id = ?", (entry.id,))
        sql = """INSERT INTO trash (object_id, path, origin, size, reason, trashed_at, retention)
            VALUES (?, ?, ?, 8, '', 1, 30)"""
        con.execute(sql, (entry.id, f"assets/{HASH[7:]}", KEY))
    store.parts.bucket.copy(KEY, IN_TRASH)
    assert store.put(POSTER).created
    in_bucket.remove(KEY)  # there it is
    assert verify(store).counts == {"missing": 1, "leftover": 1}
    assert repair(store, dry_run=False).ok and store.read(HASH) == POSTER


def test_a_stray_is_not_restored_over_another(store, in_bucket):
    in_bucket.write("assets/aa/bb/stray", b"mine")
    stray = hash_bytes(b"stray")[7:]
    place = f"assets/{stray[:2]}/{stray[2:4]}/{stray}"
    in_bucket.write(place, b"stray")
    (item,) = gc(store, grace=0, dry_run=False, untracked=True).taken
    in_bucket.write(place, b"taken")
    with pytest.raises(Conflict):
        store.trash.restore(item)
    assert in_bucket.bytes_at(place) == b"taken" and len(store.trash) == 1


def test_purge_takes_many(in_bucket):
    with in_bucket.open() as store:
        contents = [b"%d" % n for n in range(50)]
        list(store.put_many(contents))
        for content in contents:
            store.delete(hash_bytes(content), retention_days=0)
        assert len(store.trash.purge()) == 50
        assert [key for key in in_bucket.server.keys(in_bucket.bucket) if "/trash/" in key] == []
