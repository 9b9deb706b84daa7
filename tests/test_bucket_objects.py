"How bytes get into a bucket: what it costs, and what becomes of it when others are at it or the network fails."

import hashlib
import os
import re
import threading
from contextlib import closing

import pytest
from s3 import Proxy

from cjm_media_storage.bucket import Bucket
from cjm_media_storage.bucket_objects import BucketObjects
from cjm_media_storage.errors import NoSuchBucket, SourceChanged, StoreUnavailable
from cjm_media_storage.maintenance import gc, verify
from cjm_media_storage.storage import CollectionRefused, ContentStore, hash_bytes

POSTER = b"a poster"
HASH = hash_bytes(POSTER)
LARGE = hashlib.shake_256(b"a film").digest(17 << 20)


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mkv"
    path.write_bytes(LARGE)
    return path


@pytest.fixture
def store(in_bucket):
    with in_bucket.open() as store:
        yield store


class Counted:
    "The requests of a store, by their methods"

    def __init__(self, proxy):
        self.proxy = proxy

    def since(self):
        found = re.findall(rb"^(GET|PUT|POST|HEAD|DELETE) /", b"\n".join(self.proxy.heard), re.MULTILINE)
        self.proxy.heard.clear()
        return [each.decode() for each in found]


@pytest.fixture
def counted(s3, in_bucket):
    with closing(Proxy(s3.url, every=10**9)) as proxy, in_bucket.open(endpoint=proxy.url) as store:
        counted = Counted(proxy)
        counted.since()
        yield store, counted


# ---- what it costs


def test_a_small_object_is_one_request(counted):
    store, requests = counted
    store.put(POSTER)
    assert requests.since() == ["PUT"]
    store.put(POSTER)
    assert requests.since() == ["HEAD"]
    store.get(HASH), HASH in store, list(store), store.stats(), store.sources(HASH)
    assert requests.since() == []
    store.read(HASH)
    assert requests.since() == ["GET"]


def test_known_bytes_cost_no_upload(counted, film, tmp_path):
    store, requests = counted
    store.put(film)
    sent = requests.since()
    assert sent.count("PUT") == 3 and sent.count("POST") == 2 and len(sent) <= 7  # three parts, begun and completed
    again = tmp_path / "again.mkv"
    again.write_bytes(LARGE)
    with open(film, "rb") as stream:
        for content in (film, again, stream):
            assert not store.put(content).created
            assert {*requests.since()} == {"HEAD"}


def test_a_second_namespace_is_copied_on_the_server(counted, film):
    store, requests = counted
    store.put(film)
    requests.proxy.heard.clear()
    assert store.put(film, namespace="actors").created
    assert sum(map(len, requests.proxy.heard)) < 20_000


# ---- sources that change, bytes that go


def test_a_film_that_changes_while_it_is_sent(store, in_bucket, film, monkeypatch):
    "Between its hashing and its sending another program writes to it"
    send = BucketObjects.send

    def change(self, incoming, final):
        with open(film, "r+b") as file:
            file.seek(12 << 20)
            file.write(b"another cut")
        send(self, incoming, final)

    monkeypatch.setattr(BucketObjects, "send", change)
    with pytest.raises(SourceChanged):
        store.put(film)
    assert in_bucket.names() == [] == in_bucket.server.uploads(in_bucket.bucket) and len(store) == 0


@pytest.mark.parametrize("how", ["cut", "longer", "gone"])
def test_a_film_that_is_cut_or_grows_or_goes(store, in_bucket, film, monkeypatch, how):
    send = BucketObjects.send

    def change(self, incoming, final):
        if how == "gone":
            film.unlink()
        else:
            film.write_bytes(LARGE[: 9 << 20] if how == "cut" else LARGE + b"more")
        send(self, incoming, final)

    monkeypatch.setattr(BucketObjects, "send", change)
    with pytest.raises((SourceChanged, FileNotFoundError)):
        store.put(film)
    assert in_bucket.names() == [] == in_bucket.server.uploads(in_bucket.bucket) and len(store) == 0


def test_what_is_collected_between_sending_and_commit_is_sent_again(store, in_bucket, film, monkeypatch):
    "It has no row yet, so it is untracked, and somebody takes that away"
    send, sent = BucketObjects.send, []

    def collect(self, incoming, final):
        send(self, incoming, final)
        sent.append(final)
        if len(sent) == 1:
            assert len(gc(store, grace=0, dry_run=False, untracked=True, force=True).taken) == 1

    monkeypatch.setattr(BucketObjects, "send", collect)
    assert store.put(film).created and len(sent) == 2
    assert store.read(hash_bytes(LARGE)) == LARGE and verify(store).ok


def test_threads_that_put_the_same_film_send_it_once(store, film, monkeypatch):
    send, sent = BucketObjects.send, []
    monkeypatch.setattr(BucketObjects, "send", lambda self, *args: sent.append(1) or send(self, *args))
    outcomes = list(store.put_many([film, film, iter([LARGE]), film]))
    assert sum(outcome.result.created for outcome in outcomes) == 1 == len(sent)


PUT_AND_DELETE = """
import pickle, sys

from cjm_media_storage.maintenance import gc
from cjm_media_storage.storage import StorageError, StoreBusy

content, lost = b"a poster", 0
with pickle.loads(bytes.fromhex(sys.argv[1])) as store:
    print("ready", flush=True)
    input()
    for n in range(12):
        if sys.argv[2] == "put":
            hash = store.put(content, owner=f"movie:{n}").hash
            lost += store.read(hash) != content
            store.remove_reference(hash, f"movie:{n}")
        else:
            try:
                gc(store, grace=0, dry_run=False, force=True, untracked=True)
            except StoreBusy:
                pass
print(lost)
"""


def test_processes_that_put_and_collect_the_same_bytes(store, in_bucket, program):
    import pickle

    pickled = pickle.dumps(store).hex()
    others = [program.start(PUT_AND_DELETE, pickled, what) for what in ("put", "collect", "put")]
    for other in others:
        assert other.stdout.readline() == "ready\n"
    for other in others:
        other.stdin.write("go\n")
        other.stdin.flush()
    assert [program.end(other) for other in others] == ["0", "0", "0"]
    report = verify(store)
    assert report.ok, str(report)


# ---- the network


def test_fault_67_one_request_in_twenty_is_dropped_and_nothing_acknowledged_is_lost(s3, in_bucket, film):
    contents = [b"poster %d" % n for n in range(120)]
    with closing(Proxy(s3.url)) as proxy, in_bucket.open(endpoint=proxy.url, retry_timeout=10.0) as store:
        acknowledged, rest = [], [*contents, film]
        for _ in range(20):
            try:
                for outcome in store.put_many(rest, ordered=True):
                    if outcome.result:
                        acknowledged.append(outcome.result.hash)
                        rest.remove(outcome.content)
            except StoreUnavailable:
                continue
            if not rest:
                break
        assert not rest and proxy.dropped >= 5
    with in_bucket.open() as store:
        assert len(store) == 121 and all(hash in store for hash in acknowledged)
        report = verify(store)
        assert not {"missing", "corrupt"} & {*report.counts}, str(report)


def test_the_server_goes_in_the_middle_of_a_batch(s3, in_bucket):
    "What was reported is there, the error says what is the matter, and trying again is the remedy"
    contents = [b"poster %d" % n for n in range(200)]
    with closing(Proxy(s3.url, every=10**9)) as proxy, in_bucket.open(endpoint=proxy.url, retry_timeout=0.3) as store:
        acknowledged = []
        with pytest.raises(StoreUnavailable, match="s3://"):
            for outcome in store.put_many(contents, ordered=False):
                if outcome.result:
                    acknowledged.append(outcome.result.hash)
                if len(acknowledged) == 30:
                    proxy.close()
        assert 30 <= len(acknowledged) < 200
        with pytest.raises(StoreUnavailable):
            store.read(acknowledged[0])
        assert verify(store).unavailable and not verify(store).problems
    with in_bucket.open() as store:
        assert {store.read(hash) for hash in acknowledged} <= {*contents}
        assert not {"missing", "corrupt"} & {*verify(store).counts}
        assert all(outcome.result for outcome in store.put_many(contents)) and len(store) == 200 and verify(store).ok


def test_fault_66_a_server_that_is_killed(tmp_path, s3, monkeypatch):
    from s3 import ENDPOINT, Server
    from stores import InBucket

    with closing(Server()) as own:
        monkeypatch.setenv(ENDPOINT, own.url)
        with InBucket(tmp_path, own).open(retry_timeout=0.3) as store:
            store.put(POSTER)
            with pytest.raises(StoreUnavailable):
                for n, _ in enumerate(store.put_many((b"%d" % n for n in range(500)), ordered=False)):
                    if n == 3:
                        own.kill()
            for ask in (lambda: store.put(b"more"), lambda: store.read(HASH)):
                with pytest.raises(StoreUnavailable):
                    ask()
            assert verify(store).unavailable and HASH in [each.hash for each in store]


def test_fault_66_a_bucket_that_is_gone_is_no_missing_object(store, in_bucket):
    store.put(POSTER, owner="movie:1")
    for key in in_bucket.server.keys(in_bucket.bucket):
        in_bucket.server.ask("DELETE", f"/{in_bucket.bucket}/{key}")
    with pytest.raises(StoreUnavailable, match="marker"):
        store.read(HASH)
    for level in ("presence", "size", "hash"):
        assert verify(store, level).unavailable and not verify(store, level).problems
    in_bucket.server.ask("DELETE", f"/{in_bucket.bucket}")
    with pytest.raises(NoSuchBucket):
        store.put(b"another")
    with pytest.raises(CollectionRefused):
        gc(store, grace=0, dry_run=False)
    assert len(store) == 1


def test_opening_what_cannot_be_reached(s3, tmp_path):
    with pytest.raises(NoSuchBucket):
        ContentStore("s3://nobody-made-this/x", database=tmp_path / "db", retry_timeout=0.3)
    with pytest.raises(StoreUnavailable):
        ContentStore("s3://b/x", database=tmp_path / "db", endpoint="http://127.0.0.1:1", retry_timeout=0.1)
    assert not os.path.lexists(tmp_path / "db")


def test_a_lock_is_not_held_while_a_film_is_sent(store, film, monkeypatch):
    "Who deletes meanwhile need not wait"
    send = BucketObjects.send

    def delete(self, incoming, final):
        deleter = threading.Thread(target=lambda: store.delete(store.put(POSTER).hash))
        deleter.start()
        deleter.join(20)
        assert not deleter.is_alive() and len(store.trash) == 1
        send(self, incoming, final)

    monkeypatch.setattr(BucketObjects, "send", delete)
    assert store.put(film).created


def test_bounded_memory(in_bucket, program, tmp_path):
    "A film of 100 MB is sent, read and given out within a fraction of it"
    film = tmp_path / "film"
    with open(film, "wb") as file:
        for n in range(12):
            file.write(hashlib.shake_256(b"%d" % n).digest(8 << 20))
    text = """
        import pickle, resource, sys

        from cjm_media_storage.publishing import give_out

        with pickle.loads(bytes.fromhex(sys.argv[1])) as store:
            store.put(b"warm")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            hash = store.put(sys.argv[2]).hash
            give_out(store, hash, sys.argv[3])
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    import pickle

    with in_bucket.open() as store:
        grown = int(program(text, pickle.dumps(store).hex(), film, tmp_path / "out"))
    assert grown < 80, f"{grown} MB"
    assert (tmp_path / "out").stat().st_size == 12 * (8 << 20)


def test_large_copies_go_through_this_machine(store, film, monkeypatch):
    from cjm_media_storage import bucket as room

    monkeypatch.setattr(room, "COPY_LIMIT", 1 << 20)
    hash = store.put(film).hash
    store.delete(hash)
    store.trash.restore(hash)
    assert store.read(hash, verify=True) == LARGE and isinstance(store.parts.bucket, Bucket)
