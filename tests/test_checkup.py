"What this machine can do, tried."

import os

import pytest
from on_disk import unprivileged

from cjm_media_storage.checkup import ROOM, check_disk, check_room, check_sqlite, checkup
from cjm_media_storage.files import DISK, Disk
from cjm_media_storage.storage import ContentStore


def test_each_ability_is_tried(tmp_path):
    found = {each.what: each for each in check_disk(tmp_path, DISK)}
    assert found["locks"].state == found["hard link"].state == "good"
    assert all(each.meaning == "" for each in found.values() if each.state == "good")


@pytest.mark.parametrize(
    ("switch", "what", "state"),
    [
        ("reflink", "reflink", "fair"),
        ("hardlink", "hard link", "fair"),
        ("rename_flags", "exchange of names", "fair"),
        ("flock", "locks", "bad"),
        ("syncfs", "syncfs", "fair"),
    ],
)
def test_what_a_disk_lacks_is_said(tmp_path, switch, what, state):
    found = {each.what: each for each in check_disk(tmp_path, Disk(**{switch: False}))}
    assert found[what].state == state
    assert found[what].meaning


def test_a_lock_that_everybody_gets_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda fd, how: None)
    found = {each.what: each for each in check_disk(tmp_path, DISK)}
    assert "--exclusive" in found["locks"].meaning


def test_nothing_is_left_behind(tmp_path):
    checkup(None, tmp_path)
    assert os.listdir(tmp_path) == []
    with ContentStore(tmp_path / "store") as store:
        checkup(store, tmp_path)
        assert not list(store.root.rglob("*doctor*"))


def test_a_folder_that_may_not_be_written_to(open_folder):
    open_folder.chmod(0o555)
    with unprivileged():
        findings = checkup(None, open_folder)
    assert [(each.what, each.state) for each in findings][-1] == ("writing", "bad")


def test_versions_rooms_and_networks(tmp_path, monkeypatch):
    assert [check_sqlite(version).state for version in ((3, 51, 2), (3, 51, 3), (4, 0, 0))] == ["fair", "good", "good"]
    monkeypatch.setattr("cjm_media_storage.checkup.disk_free", lambda folder: ROOM - 1)
    monkeypatch.setattr("cjm_media_storage.checkup.on_network", lambda folder: True)
    assert [each.state for each in check_room(tmp_path)] == ["fair", "fair"]


def test_what_waits_in_a_store_is_said(store, tmp_path):
    store.delete(store.put(b"a poster").hash, retention_days=0)
    kept = store.put(b"a film")
    kept.path.chmod(0o644)
    kept.path.write_bytes(b"A FILM")
    store.parts.objects.quarantine(kept.path)
    found = {each.what: each for each in checkup(store, tmp_path)}
    assert found["quarantine"].state == found["expired trash"].state == "fair"
    assert "trash purge" in found["expired trash"].meaning
