"""A store that many machines share: nothing of value is on one of them, and nothing that was acknowledged is lost,
whoever is killed: a worker, the server of the index, or that of the bucket.

What does not ask where the bytes are, takes `many`, and is tried with a bucket and with a folder."""

import contextlib
import pickle
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import settings
from proxies import Proxy as IndexProxy
from s3 import ENDPOINT
from s3 import Proxy as BucketProxy
from s3 import Server as S3Server
from servers import Server, programs, run, schema
from stores import Served
from together import in_threads

from cjm_media_storage.bucket_upkeep import rebuild_bucket
from cjm_media_storage.maintenance import gc, repair, snapshot, verify
from cjm_media_storage.storage import (
    ContentStore,
    NotOnServer,
    SecretInUrl,
    ServerUnavailable,
    StorageError,
    StoreBusy,
    StoreUnavailable,
    hash_bytes,
)

POSTER = b"a poster"
HASH = hash_bytes(POSTER)
LARGE = b"a film" * 300_000


@pytest.fixture(scope="session", params=["shared", pytest.param("served", marks=pytest.mark.buckets)])
def name_of_kind(request, server):
    "Where the bytes are; servers are started before a test is looked at"
    if request.param == "served":
        request.getfixturevalue("s3_client")
    return request.param


@pytest.fixture
def many(request, name_of_kind):
    "Each kind of store that many machines share, not open yet"
    return request.getfixturevalue(name_of_kind)


@pytest.fixture
def elsewhere(many, tmp_path):
    "The same store, on another machine"
    with many.open(folder=tmp_path / "another machine") as store:
        yield store


def cut(store):
    "End the session that holds the store's lock, as a server that was restarted did"
    pid = store.parts.lock._mine.con.info.backend_pid
    assert run(store.parts.index.database.address, f"SELECT pg_terminate_backend({pid}, 10000)") == [(True,)]


# ---- one store


def test_nothing_of_value_is_on_a_machine(served, tmp_path):
    with served.open() as store:
        for content in (POSTER, LARGE):
            store.put(content, owner="movie:1")
        snapshot(store)
        (item,) = store.delete(store.put(b"not needed").hash)
    shutil.rmtree(tmp_path / "work")
    with served.open(folder=tmp_path / "another") as store:
        assert store.read(HASH) == POSTER and store.read(hash_bytes(LARGE)) == LARGE
        store.trash.restore(item)
        assert len(store) == 3 and store.stats()["references"] == 2 and verify(store).ok
        shutil.rmtree(tmp_path / "another")
        assert store.put(b"another").created and verify(store).ok


def test_the_folder_is_among_the_caches_unless_one_is_named(served, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    with served.open(folder=None) as store, pickle.loads(pickle.dumps(store)) as again:
        assert store.root == again.root == (tmp_path / "caches" / "cjm-media-storage" / store.id).resolve()
    with pytest.raises(TypeError, match="folder"):
        served.open(database=tmp_path / "x", folder=tmp_path / "y")


def test_two_machines_open_a_new_store_at_once(many, tmp_path):
    "Each of them believes to be the first"
    stores = []

    def opened(n):
        stores.append(many.open(folder=tmp_path / f"machine {n}"))
        stores[-1].put(POSTER, owner=f"machine:{n}")

    in_threads(4, opened)
    for store in stores:
        assert store.read(HASH) == POSTER and len(store) == 1 and store.stats()["references"] == 4
        store.close()


def test_what_one_does_all_see(many, elsewhere):
    with many.open() as store:
        store.put(POSTER)
        with elsewhere.pin(HASH):
            assert not gc(store, grace=0, dry_run=False, force=True).taken
        with elsewhere.parts.maintenance(), pytest.raises(StoreBusy):
            gc(store, grace=0, dry_run=False)
        store.delete(HASH)
        assert HASH not in elsewhere and len(elsewhere.trash) == 1
        assert elsewhere.put(POSTER).created and store.read(HASH) == POSTER


def test_a_password_is_not_shown_and_not_pickled(many):
    secret = many.database.replace("postgres@", "postgres:hunter2@")
    with many.open(database=secret) as store:
        store.put(POSTER)
        assert "hunter2" not in repr(store) + str(store._facts_())
        with pytest.raises(SecretInUrl) as e:
            pickle.dumps(store)
        assert "hunter2" not in str(e.value)


def test_another_schema_is_refused_and_a_new_index_is_made_in_a_folder(served, server, tmp_path):
    with served.open() as store:
        store.put(POSTER, owner="movie:1")
        snapshot(store)
    with schema(server.url) as other, pytest.raises(StoreUnavailable, match="kept by another index"):
        served.open(database=other)
    with pytest.raises(NotOnServer, match="name a folder"):
        rebuild_bucket(served.url, database=served.database)
    assert rebuild_bucket(served.url, database=tmp_path / "rebuilt").complete
    with ContentStore(served.url, database=tmp_path / "rebuilt") as store:
        assert store.read(HASH) == POSTER and [each.owner for each in store.references(HASH)] == ["movie:1"]


def test_fault_70_an_older_backup_of_the_server_is_restored_and_repaired(served, server, url, tmp_path):
    "As the page for operators says"
    if not isinstance(server, Server):
        pytest.skip("the server is somebody else's")
    name, everything = url.rpartition("%3D")[2], url.partition("&options")[0]
    with served.open() as store:
        kept = [store.put(b"kept %d" % n, owner=f"movie:{n}", source=f"https://example.org/{n}").hash for n in range(5)]
        trashed, purged, back = (store.put(content).hash for content in (b"trashed", b"purged", b"back again"))
        store.delete(back)
        command = ["pg_dump", "--format=custom", f"--schema={name}", f"--file={tmp_path / 'index.dump'}", everything]
        subprocess.run([programs() / command[0], *command[1:]], check=True)
        new = store.put(b"after the backup", owner="movie:9").hash
        store.trash.restore(back)
        store.delete(trashed)
        store.delete(purged, retention_days=0)
        assert len(store.trash.purge()) == 1
    run(everything, f"DROP SCHEMA {name} CASCADE")
    subprocess.run([programs() / "pg_restore", f"--dbname={everything}", tmp_path / "index.dump"], check=True)
    with served.open() as store:
        repair(store, dry_run=False)
        assert verify(store).counts == {
            "missing": 1,
            "leftover": 1,
        }  # what was purged, and the copy of what was trashed
        assert {store.read(hash, verify=True) for hash in (new, trashed, back)} == {
            b"after the backup",
            b"trashed",
            b"back again",
        }
        assert [(len(store.references(hash)), len(store.sources(hash))) for hash in kept] == [(1, 1)] * 5
        assert store.references(new) == [] and gc(store).condemned == ()


# ---- a session that ends


@pytest.mark.parametrize("content", [b"new", POSTER, b"trashed"], ids=["new", "known", "trashed"])
def test_fault_68_nothing_is_acknowledged_without_the_lock(many, elsewhere, content):
    "After the look and before the commit, the lock is lost, and another machine collects"
    with many.open() as store:
        store.put(POSTER)
        store.delete(store.put(b"trashed").hash)
        index, commit = store.parts.index, store.parts.index.commit

        def late(*args, **options):
            del index.commit
            cut(store)
            gc(elsewhere, grace=0, untracked=True, dry_run=False, force=True)
            return commit(*args, **options)

        index.commit = late
        with pytest.raises(ServerUnavailable, match="has ended"):
            store.put(content, owner="movie:1")
        assert verify(elsewhere).ok and hash_bytes(content) not in elsewhere
        assert store.put(content).created and elsewhere.read(hash_bytes(content)) == content and verify(elsewhere).ok


@pytest.mark.parametrize("when", ["before", "after"])
def test_fault_68_what_was_put_while_a_delete_had_lost_the_lock_stays(served, tmp_path, when):
    "It is lost around the removal itself, which no service and no server can make one step"
    with served.open() as store, served.open(folder=tmp_path / "another machine") as elsewhere:
        store.put(POSTER)
        owner, name = (store.trash, "check") if when == "before" else (store.parts.bucket, "delete")
        step = getattr(owner, name)

        def late(*args):
            setattr(owner, name, step)
            cut(store)
            elsewhere.put(POSTER)
            step(*args)

        setattr(owner, name, late)
        with pytest.raises(ServerUnavailable, match="has ended"):
            store.delete(HASH)
    with served.open() as store:
        assert store.read(HASH) == POSTER and not {"missing", "corrupt"} & {*verify(store).counts}


# ---- many at once


def contents(worker, count):
    "What a worker puts: a half that all put, and a half of its own"
    yield from (b"shared %d" % n for n in range(count // 2))
    yield from (b"worker %d, %d" % (worker, n) for n in range(count // 2))


WORK = """
import pickle, sys
from test_bucket_serving import contents

with pickle.loads(bytes.fromhex(sys.argv[1])) as store:
    print("ready", flush=True)
    input()
    worker, count = int(sys.argv[2]), int(sys.argv[3])
    options = {"owner": f"worker:{worker}", "ordered": False, "threads": 4, "durability": "full"}  # each told by itself
    for outcome in store.put_many(contents(worker, count), **options):
        if outcome.error is not None:
            raise outcome.error
        print(outcome.result.hash[7:], int(outcome.result.created), flush=True)
"""


def test_fault_69_many_workers_put_at_once_and_one_is_killed(many, program):
    "Nothing is lost, and nothing is there twice. Each worker puts a half that all put"
    count = 4000 if settings.get_current_profile_name() == "long" else 100  # 10,000 objects, or 250
    with many.open() as store:
        pickled = pickle.dumps(store).hex()
        others = [program.start(WORK, pickled, n, count) for n in range(4)]
        said = [[] for _ in others]
        for other in others:
            assert other.stdout.readline() == "ready\n"

        def listen(n):
            others[n].stdin.write("go\n")
            others[n].stdin.flush()
            for line in others[n].stdout:
                said[n].append(line.split())
                if n == 3 and len(said[n]) == count // 3:
                    others[n].kill()

        in_threads(4, listen)
        for n, other in enumerate(others):
            with other:
                assert n == 3 or (other.wait() == 0 and not other.stderr.read())
        assert len(said[3]) < count
        assert all(len(line) == 2 for each in said for line in each), said
        acknowledged = {digest for each in said for digest, _ in each}
        assert all(f"sha256:{digest}" in store for digest in acknowledged)
        again = program.end(program.start(WORK, pickled, 3, count), "go\n")
        said.append([line.split() for line in again.splitlines()[1:]])
        expected = {hash_bytes(content) for n in range(4) for content in contents(n, count)}
        assert {each.hash for each in store} == expected and len(store) == len(expected) == count * 5 // 2
        assert len(many.names()) == len(expected) and store.stats()["references"] == count * 4
        created = [digest for each in said for digest, created in each if created == "1"]
        assert (
            len(created) == len(set(created)) and len(expected) - len(created) <= 8
        )  # what a dead worker did not tell
        with ThreadPoolExecutor(2) as executor:
            report = verify(store, executor=executor)
        assert report.ok and report.checked == len(expected), report


def test_one_machine_collects_while_others_put(many, elsewhere):
    "What was acknowledged with an owner is there"
    done, kept = threading.Event(), []

    def collect():
        while not done.is_set():
            with contextlib.suppress(StoreBusy):
                gc(elsewhere, grace=0, untracked=True, dry_run=False, force=True)

    with many.open() as store:

        def put():
            try:
                for n in range(40):
                    store.put(b"waste %d" % (n % 5))
                    kept.append(store.put(b"kept %d" % (n % 10), owner=f"n:{n}").hash)
            finally:
                done.set()

        in_threads(2, lambda n: put() if n else collect())
        assert {store.read(hash) for hash in kept} == {b"kept %d" % n for n in range(10)} and verify(store).ok


# ---- networks that fail


def test_fault_67_the_way_to_both_servers_fails_now_and_then(served, server, s3, tmp_path):
    "Answers of the bucket and of the index are lost; who is told of a failure asks again, and nothing is lost or twice"
    if not isinstance(server, Server):
        pytest.skip("the server is somebody else's")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        to_bucket = stack.enter_context(closing(BucketProxy(s3.url)))
        to_index = stack.enter_context(closing(IndexProxy(server.folder, Path(folder))))
        database = served.database.replace(quote(str(server.folder), safe="/"), folder)
        store = stack.enter_context(served.open(database=database, endpoint=to_bucket.url))
        created = failed = 0
        for n in range(60):
            to_index.armed = n % 5 == 0  # then the answer to its commit is lost
            try:
                created += store.put(b"%d" % (n % 50), owner=f"movie:{n}").created
            except StoreUnavailable:
                failed += 1
                created += store.put(b"%d" % (n % 50), owner=f"movie:{n}").created
        assert to_index.cut >= 10 and to_bucket.dropped >= 3 and created >= 50 - failed
    with served.open() as store:
        assert {store.read(each.hash) for each in store} == {b"%d" % n for n in range(50)}
        assert len(store) == len(served.names()) == 50 and store.stats()["references"] == 60 and verify(store).ok


# ---- servers that are killed


@pytest.fixture
def mortal(tmp_path, s3, monkeypatch):
    "A store on servers of its own"
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(closing(Server("fsync=on")))
        bucket = stack.enter_context(closing(S3Server(folder=tmp_path / "s3")))
        monkeypatch.setenv(ENDPOINT, bucket.url)
        place = stack.enter_context(schema(database.url))
        yield Served(tmp_path, bucket, place), {"index": database, "bucket": bucket}


@pytest.mark.parametrize("which", ["index", "bucket"])
def test_fault_65_a_server_is_killed_in_the_middle_and_started_again(mortal, which):
    kind, servers = mortal
    every, acknowledged = [b"content %d" % n for n in range(150)], []
    with kind.open(retry_timeout=0.5) as store:
        store.put(POSTER)
        with pytest.raises(StoreUnavailable):
            for outcome in store.put_many(every, ordered=False):
                if outcome.error is not None:
                    raise outcome.error
                acknowledged.append(outcome.result.hash)
                if len(acknowledged) == 20:
                    servers[which].kill()
        with pytest.raises(StorageError):
            store.put(b"more")
        servers[which].start()
        assert len({store.read(hash, verify=True) for hash in acknowledged}) == len(acknowledged) >= 20
        assert not {"missing", "corrupt"} & {*verify(store).counts}
        assert all(outcome.result for outcome in store.put_many(every, owner="a film"))
        assert len(store) == 151 == len(kind.names()) and verify(store).ok
