"What both storages share: a hash that belongs to what was there, a memo beside the database, and words that say why."

import os
import pickle

import pytest
from on_disk import unprivileged

from cjm_media_storage import memo
from cjm_media_storage.computing import Computed
from cjm_media_storage.errors import ReadOnlyStore
from cjm_media_storage.hashing import hash_bytes
from cjm_media_storage.memo import Memo
from cjm_media_storage.storage import MediaAnalysisStorage

SECOND = 1_000_000_000


def test_a_result_shows_itself():
    assert str(Computed("row", True, "cached")) == "hit (cached)"
    assert str(Computed("row", False, "forced", 61.04)) == "computed in 61.0 s (forced)"
    assert repr(Computed("row", True, "cached")) == "Computed(row='row', hit=True, why='cached', seconds=0.0)"


# ---- the memo of a storage


def nothing(path):
    return [], {}


def files_beside(path):
    return {file.name for file in path.parent.glob(f"{path.name}*")}


def test_a_storage_that_computes_nothing_leaves_nothing_beside_it(path):
    with MediaAnalysisStorage(path) as storage:
        storage.list_jobs()
    assert files_beside(path) == {"results.db"}


def test_the_memo_lies_beside_the_database_wherever_that_is_opened_from(path, episode, monkeypatch):
    monkeypatch.chdir(path.parent)
    with MediaAnalysisStorage(path.name) as storage:
        monkeypatch.chdir("/")
        storage.get_or_compute(episode, {}, nothing)
    assert files_beside(path) == {"results.db", "results.db.memo", "results.db.lock"}


@pytest.mark.parametrize("where", ["a path", "a memo", "for the call"])
def test_another_memo(path, episode, monkeypatch, where):
    monkeypatch.setattr(memo, "RACY", -60 * SECOND)  # whatever is hashed is remembered
    other = path.with_name("shared.memo")
    given = other if where == "a path" else Memo(other)
    options = {} if where == "for the call" else {"memo": given}
    with MediaAnalysisStorage(path, **options) as storage:
        storage.get_or_compute(episode, {}, nothing, memo=given if where == "for the call" else None)
    with Memo(other) as again:
        assert again.recall(os.stat(episode)) == hash_bytes(b"speech")
    assert files_beside(path) == {"results.db", "results.db.lock"}
    if where != "a path":
        assert given.recall(os.stat(episode))  # it is its owner's to close
        given.close()


def test_an_unchanged_file_is_not_read_again(path, episode, monkeypatch):
    monkeypatch.setattr(memo, "RACY", -60 * SECOND)
    with MediaAnalysisStorage(path) as storage:
        storage.get_or_compute(episode, {}, nothing)
        monkeypatch.setattr(memo, "hash_file", None)
        assert storage.get_or_compute(episode, {}, nothing).hit


def test_without_a_memo_the_file_is_read(path, episode, monkeypatch):
    with MediaAnalysisStorage(path, memo=False) as storage:
        storage.get_or_compute(episode, {}, nothing)
        storage.get_or_compute(episode, {}, nothing, memo=False)
    assert files_beside(path) == {"results.db", "results.db.lock"}


@pytest.mark.parametrize("damage", [b"notes of somebody " * 1000, None])
def test_a_memo_that_cannot_be_used_is_done_without(path, episode, damage):
    beside = path.with_name("results.db.memo")
    beside.mkdir() if damage is None else beside.write_bytes(damage)
    with MediaAnalysisStorage(path) as storage:
        assert not storage.get_or_compute(episode, {}, nothing).hit
        assert storage.get_or_compute(episode, {}, nothing).hit
    assert damage is None or beside.read_bytes() == damage


@pytest.mark.parametrize("how", ["its own", "a path", "none", "a memo"])
def test_fault_54_pickle(path, episode, how):
    other = str(path.with_name("m"))
    given = {"its own": True, "a path": other, "none": False, "a memo": Memo(other)}[how]
    with MediaAnalysisStorage(path, memo=given, durability="none") as storage:
        storage.get_or_compute(episode, {}, nothing)
        with pickle.loads(pickle.dumps(storage)) as again:
            assert again.durability == "none"
            assert again.get_or_compute(episode, {}, nothing).hit
    if how == "a memo":
        given.close()
    assert ("results.db.memo" in files_beside(path)) == (how == "its own")


def test_fault_41_nothing_is_computed_that_could_not_be_kept(open_folder):
    path, episode = open_folder / "results.db", open_folder / "episode.wav"
    episode.write_bytes(b"speech")
    (open_folder / "copy.wav").write_bytes(b"speech")
    with MediaAnalysisStorage(path) as storage:
        storage.get_or_compute(episode, {}, nothing)
    open_folder.chmod(0o555)
    path.chmod(0o444)
    with unprivileged(), MediaAnalysisStorage(path) as storage:
        assert storage.get_or_compute(episode, {}, nothing).why == "cached"
        found = storage.get_or_compute(open_folder / "copy.wav", {}, nothing)
        assert (found.why, found.row.file_path) == ("same content at another path", str(open_folder / "copy.wav"))
        with pytest.raises(ReadOnlyStore):
            storage.get_or_compute(episode, {"other": 1}, lambda path: pytest.fail("it was computed"))
