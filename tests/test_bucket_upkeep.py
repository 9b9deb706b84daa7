"Verify, repair and a new index, in a bucket."

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from cjm_media_storage.bucket_upkeep import rebuild_bucket
from cjm_media_storage.errors import OtherIndex, StoreUnavailable
from cjm_media_storage.maintenance import repair, snapshot, verify
from cjm_media_storage.storage import ContentStore, hash_bytes

POSTER = b"a poster"
HASH = hash_bytes(POSTER)


def key_of(content, namespace="assets"):
    digest = hash_bytes(content)[7:]
    return f"{namespace}/{digest[:2]}/{digest[2:4]}/{digest}"


@pytest.fixture
def store(in_bucket):
    with in_bucket.open() as store:
        for n in range(20):
            store.put(b"%d" % n, namespace="actors" if n % 2 else "assets")
        yield store


def test_verify_by_prefix_and_namespace(store, in_bucket):
    strays = [b"stray %d" % n for n in range(8)]
    for stray in strays:
        in_bucket.write(key_of(stray), stray)
    for digits in (1, 2, 3, 4, 6):
        prefix = hash_bytes(strays[0])[7 : 7 + digits]
        expected = {key_of(each) for each in strays if hash_bytes(each)[7:].startswith(prefix)}
        assert {each.path for each in verify(store, prefix=prefix).problems} == expected
    assert verify(store, namespace="actors").ok and verify(store, namespace="actors").checked == 10
    assert len(verify(store, namespace="assets").problems) == 8


def test_by_an_executor(store, in_bucket):
    "Each task opens the store again, by its URL; each finds what lies in its shards, and one looks beside them"
    in_bucket.write(key_of(b"stray"), b"stray")
    in_bucket.write("assets/notes.txt", b"mine")
    in_bucket.remove(key_of(b"0"))
    with ThreadPoolExecutor(4) as executor:
        report = verify(store, executor=executor)
    assert report.counts == {"missing": 1, "untracked": 1, "foreign": 1} and report.checked == 20


def test_a_budget_and_a_record(store):
    assert not verify(store, bytes=3).complete
    assert verify(store, record=True).complete


def test_what_is_where_it_does_not_belong(store, in_bucket):
    in_bucket.write("notes.txt", b"mine")
    in_bucket.write("Assets/notes.txt", b"mine")
    in_bucket.write("assets/00/notes.txt", b"mine")
    in_bucket.write(key_of(b"0") + ".png", b"0")
    in_bucket.write("assets/00/11/" + hash_bytes(b"x")[7:].upper(), b"x")
    found = {each.path: each.kind for each in verify(store).problems}
    assert found["Assets/notes.txt"] == found["assets/00/notes.txt"] == "foreign"
    assert found[key_of(b"0") + ".png"] == "misplaced"
    assert found["assets/00/11/" + hash_bytes(b"x")[7:].upper()] == "misplaced"
    report = repair(store, dry_run=False)
    assert report.ok and {each.kind for each in verify(store).problems} == {"foreign"}
    assert in_bucket.bytes_at("notes.txt") == b"mine" and store.read(hash_bytes(b"0")) == b"0"


def test_wrong_bytes_that_nobody_can_heal_go_to_quarantine(store, in_bucket):
    in_bucket.write(key_of(b"0"), b"rubbish")
    report = repair(store, dry_run=False)
    assert not report.ok and verify(store).counts == {"missing": 1}
    (kept,) = [key for key in in_bucket.server.keys(in_bucket.bucket) if "/quarantine/" in key]
    assert in_bucket.bytes_at(kept.removeprefix("library/")) == b"rubbish"


def test_a_leftover_that_may_be_all_there_is_stays(store, in_bucket):
    in_bucket.write(f".store/trash/assets/{HASH[7:]}", POSTER)
    assert verify(store).counts == {"leftover": 1}
    repair(store, dry_run=False)
    assert in_bucket.bytes_at(f".store/trash/assets/{HASH[7:]}") == POSTER
    store.put(POSTER)
    assert repair(store, dry_run=False).ok and verify(store).ok


@pytest.mark.parametrize("level", ["hash", "size"])
def test_a_new_index_from_a_listing_and_a_snapshot(in_bucket, tmp_path, level):
    with in_bucket.open() as store:
        for n in range(30):
            store.put(
                b"%d" % n, namespace="actors" if n % 2 else "assets", owner=f"movie:{n}", source=f"https://x/{n}.jpg"
            )
        store.delete(hash_bytes(b"0"), force=True, reason="not nice")
        snapshot(store)
        after = store.put(b"after the snapshot").hash
    shutil.rmtree(in_bucket.database)
    in_bucket.write(key_of(b"1", "actors") + ".jpg", b"spoilt")
    report = rebuild_bucket(in_bucket.url, database=tmp_path / "new", level=level)
    expected = (29, 1, 28) if level == "hash" else (30, 1, 29)
    assert (report.objects, report.trashed, report.references) == expected  # of what is live
    with in_bucket.open(database=tmp_path / "new") as store:
        assert store.read(after) == b"after the snapshot" and len(store) == expected[0]
        assert store.references(hash_bytes(b"3"))[0].owner == "movie:3" and store.sources(hash_bytes(b"3"))
        store.trash.restore(hash_bytes(b"0"))
        assert store.read(hash_bytes(b"0")) == b"0"
        assert {*verify(store).counts} == {"untracked" if level == "hash" else "corrupt"}
    with pytest.raises((OtherIndex, StoreUnavailable)):
        in_bucket.open(database=tmp_path / "third")


def test_a_new_index_in_the_same_folder_keeps_what_the_old_one_knew(store, in_bucket):
    store.add_reference(hash_bytes(b"1"), "movie:1")
    store.close()
    report = rebuild_bucket(in_bucket.url, database=in_bucket.database)
    assert report.complete and report.objects == 20 and report.references == 1 and report.kept
    with in_bucket.open() as again:
        assert again.references(hash_bytes(b"1"))[0].owner == "movie:1" and verify(again).ok


def test_there_is_nothing_to_be_rebuilt(in_bucket, tmp_path):
    with pytest.raises(StoreUnavailable):
        rebuild_bucket(in_bucket.url, database=tmp_path / "new")
    with pytest.raises(ValueError):
        rebuild_bucket(in_bucket.url, database=tmp_path / "new", level="presence")


def test_a_donor_that_is_a_bucket_heals_another_bucket(store, s3, tmp_path):
    from stores import InBucket

    (tmp_path / "second").mkdir()
    second = InBucket(tmp_path / "second", s3)
    with second.open() as other:
        other.put(b"2")
        second.remove(key_of(b"2"))
        assert repair(other, donors=[store], dry_run=False).ok and other.read(hash_bytes(b"2")) == b"2"
        assert isinstance(other, ContentStore)
