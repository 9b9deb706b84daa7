"Where right bytes are looked for: hashed, nearest first, and only read."

import os

import pytest
from on_disk import tree, unprivileged

from cjm_media_storage.donors import Donors, has_bytes
from cjm_media_storage.storage import ContentStore, hash_bytes

POSTER = b"a poster"
DIGEST = hash_bytes(POSTER)[7:]


@pytest.fixture
def entry(store):
    store.put(POSTER, extension="jpg").path.unlink()
    return store._index.entries(DIGEST)[0]


def found(store, entry, *donors):
    return [path for path, _ in Donors(store.parts, donors, [entry.size]).find(entry)]


def publish(store, entry, path):
    sql = "INSERT INTO publications (object_id, path, link_mode, created_at) VALUES (?, ?, 'copy', 0)"
    store._index.database.execute(sql, (entry.id, os.fsencode(path)))


def test_nearest_first(store, entry, tmp_path):
    other = store.put(POSTER, namespace="actors").path
    published, folder = tmp_path / "poster.jpg", tmp_path / "backup"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "copy").write_bytes(POSTER)
    (folder / "same size").write_bytes(b"A POSTER")
    published.write_bytes(POSTER)
    publish(store, entry, published)
    with ContentStore(tmp_path / "other") as second:
        path = second.put(POSTER, namespace="films", extension="png").path
        for given in (second, second.root, str(second.root)):
            expected = [other, published, folder / "deep" / "copy", path]
            assert found(store, entry, folder, given) == expected


def test_a_copy_in_the_trash_is_near(store, entry, tmp_path):
    "Under the name that a delete which was cut short would have given it"
    other, folder = store.put(POSTER, namespace="actors").path, store.root / ".store" / "trash" / "assets"
    folder.mkdir(parents=True)
    trashed = folder / f"{DIGEST}.jpg"
    trashed.write_bytes(POSTER)
    publish(store, entry, tmp_path / "published.jpg")
    (tmp_path / "published.jpg").write_bytes(POSTER)
    assert found(store, entry) == [other, trashed, tmp_path / "published.jpg"]
    trashed.write_bytes(b"a qoster")
    assert found(store, entry) == [other, tmp_path / "published.jpg"]


def test_what_shares_the_damage_is_not_believed(store, entry, tmp_path):
    other = store.put(POSTER, namespace="actors").path
    os.link(other, tmp_path / "published.jpg")
    publish(store, entry, tmp_path / "published.jpg")
    times = other.stat()
    other.chmod(0o644)
    other.write_bytes(b"a qoster")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert found(store, entry) == []


def test_links_and_pipes_are_no_donors(store, entry, tmp_path):
    folder = tmp_path / "backup"
    folder.mkdir()
    (tmp_path / "real").write_bytes(POSTER)
    (folder / "link").symlink_to(tmp_path / "real")
    os.mkfifo(folder / "pipe")
    assert found(store, entry, folder) == [] and not has_bytes(folder / "link", DIGEST)
    assert found(store, entry, tmp_path / "nowhere") == []


def test_a_donor_that_may_not_be_read_has_nothing(open_folder):
    with ContentStore(open_folder / "store", folder_mode=0o777) as store:
        store.put(POSTER).path.unlink()
        entry = store._index.entries(DIGEST)[0]
        backup = open_folder / "backup"
        backup.mkdir(mode=0o700)
        (backup / "copy").write_bytes(POSTER)
        with unprivileged():
            assert found(store, entry, backup) == []
        assert found(store, entry, backup) == [backup / "copy"]


def test_donors_are_only_read(store, entry, tmp_path):
    with ContentStore(tmp_path / "other") as second:
        second.put(POSTER)
        before = tree(second), sorted(os.listdir(second.root / ".store"))
        assert found(store, entry, second.root)
        assert (tree(second), sorted(os.listdir(second.root / ".store"))) == before
