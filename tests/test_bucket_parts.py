"What a store in a bucket is made of: its marker, its index, and its snapshots."

import json
import shutil

import pytest

from cjm_media_storage.bucket import Bucket
from cjm_media_storage.bucket_parts import BACKUP, open_bucket
from cjm_media_storage.errors import CorruptDatabase, NotAStore, OtherIndex, StoreUnavailable, UnsupportedFormat
from cjm_media_storage.maintenance import snapshot, verify
from cjm_media_storage.storage import ContentStore, hash_bytes


def test_the_layout_is_that_of_a_disk(in_bucket):
    with in_bucket.open() as store:
        hash = store.put(b"a poster", extension="jpg").hash
        store.delete(hash)
        digest = hash[7:]
        assert sorted(in_bucket.server.keys(in_bucket.bucket)) == [
            "library/.store/format.json",
            "library/.store/index.json",
            f"library/.store/trash/assets/{digest}.jpg",
        ]
        marker = json.loads(in_bucket.bytes_at(".store/format.json"))
        assert marker == {"format": 1, "algo": "sha256", "shard": [2, 2], "id": store.id}


def test_two_prefixes_of_a_bucket_are_two_stores(in_bucket, tmp_path):
    url = f"s3://{in_bucket.bucket}/second"
    with in_bucket.open() as store, ContentStore(url, database=tmp_path / "x") as second:
        assert store.id != second.id
        store.put(b"a poster")
        assert len(second) == 0 and verify(second).ok
    with pytest.raises(NotAStore):  # what is around two stores is none
        ContentStore(f"s3://{in_bucket.bucket}", database=tmp_path / "y")


@pytest.mark.parametrize(
    ("marker", "error"),
    [
        (b"not json", CorruptDatabase),
        (b"[1]", CorruptDatabase),
        (b'{"format": 2, "algo": "sha256", "shard": [2, 2], "id": "x"}', UnsupportedFormat),
    ],
)
def test_a_marker_that_is_none_of_ours(in_bucket, marker, error):
    in_bucket.write(".store/format.json", marker)
    with pytest.raises(error):
        in_bucket.open()


def test_no_store_is_made_unless_asked(in_bucket):
    for options in ({"create": False}, {"id": "that one"}):
        with pytest.raises(StoreUnavailable):
            in_bucket.open(**options)
    assert in_bucket.server.keys(in_bucket.bucket) == []


def test_the_first_marker_counts(in_bucket, monkeypatch):
    "Two open a new bucket at once"
    create, ids = Bucket.create, []

    def second(self, key, data):
        if not ids:
            ids.append("")
            other = Bucket(self.url)
            ids[0] = open_bucket(other)
            other.close()
        return create(self, key, data)

    monkeypatch.setattr(Bucket, "create", second)
    with in_bucket.open() as store:
        assert store.id == ids[0]


def test_the_first_index_counts(in_bucket, tmp_path):
    in_bucket.open().close()
    with pytest.raises(OtherIndex):
        in_bucket.open(database=tmp_path / "second")
    shutil.rmtree(in_bucket.database)
    with pytest.raises(OtherIndex, match="rebuild_bucket"):
        in_bucket.open()


def test_a_folder_that_goes_while_it_is_open(in_bucket, tmp_path):
    with in_bucket.open() as store:
        store.put(b"a poster")
        in_bucket.database.rename(tmp_path / "away")
        with pytest.raises(StoreUnavailable):
            store.put(b"another")
        (tmp_path / "away").rename(in_bucket.database)
        assert store.put(b"another").created


def test_snapshots_are_kept_in_the_bucket(in_bucket, monkeypatch):
    now = [1_800_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    with in_bucket.open() as store:
        for n in range(5):
            now[0] += 100
            store.put(b"%d" % n, owner="movie:1")
            path = snapshot(store)
            assert in_bucket.bytes_at(f"{BACKUP}/{path.name}") == path.read_bytes()
        kept = [key for key in in_bucket.server.keys(in_bucket.bucket) if "/backup/" in key]
        assert len(kept) == 3 and kept[-1].endswith(path.name)


def test_pins_and_streams_are_on_this_machine(in_bucket):
    with in_bucket.open() as store:
        hash = store.put(iter([bytes(2 << 20)])).hash
        with store.pin(hash):
            assert len(list((in_bucket.database / ".store" / "pins").iterdir())) == 1
        assert not list((in_bucket.database / ".store" / "pins").iterdir()) and hash == hash_bytes(bytes(2 << 20))
