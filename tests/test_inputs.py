"What goes into a computation: a hash that belongs to what was there, and the hash of settings."

import os
from pathlib import Path

import pytest

from cjm_media_storage import inputs
from cjm_media_storage.errors import InvalidHash, SourceChanged, SourceError
from cjm_media_storage.hashing import hash_bytes, hash_dict_canonical
from cjm_media_storage.inputs import hashed, settings_hash

SECOND = 1_000_000_000


def rewritten(path):
    "The same size, and the time set again"
    before = os.stat(path)
    path.write_bytes(b"MUSIC!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path):
    path.with_name("new").write_bytes(b"speech")
    path.with_name("new").rename(path)


CHANGES = {
    "rewritten": rewritten,
    "replaced by the same bytes": replaced,
    "touched": lambda path: os.utime(path, (1, 1)),
    "grown": lambda path: os.truncate(path, 100),
    "gone": Path.unlink,
    "replaced by a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_is_no_longer_what_was_hashed(episode, change):
    found = hashed(episode, None)
    found.check()
    change(episode)
    with pytest.raises(SourceChanged, match=r"episode\.wav"):
        found.check()


@pytest.mark.parametrize("change", [lambda path: path.chmod(0o600), lambda path: os.link(path, f"{path}.2")])
def test_a_file_whose_bytes_are_the_same_for_sure(episode, change):
    found = hashed(episode, None)
    change(episode)
    found.check()


def test_a_young_file_is_read_again_and_an_old_one_is_not(episode, monkeypatch):
    found = hashed(episode, None)
    young = inputs.Hashed(episode, hash_bytes(b"before"), found.stat, found.began)
    with pytest.raises(SourceChanged):
        young.check()  # its times are the same, but they were too young to tell
    inputs.Hashed(episode, hash_bytes(b"before"), found.stat, found.began + 3 * SECOND).check()


def test_a_file_that_changes_while_it_is_hashed(episode, monkeypatch):
    def hash_then_write(path):
        found = hash_bytes(episode.read_bytes())
        episode.write_bytes(b"longer than it was")
        return found

    monkeypatch.setattr(inputs, "hash_file", hash_then_write)
    with pytest.raises(SourceChanged):
        hashed(episode, None)


def test_fault_09_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SourceError, match="it is not a file"):
            hashed(path, None)


def test_settings_or_their_hash():
    assert settings_hash({"b": 1, "a": 2}) == settings_hash(hash_dict_canonical({"a": 2, "b": 1}))
    assert settings_hash(None) == hash_dict_canonical({})
    for wrong in ("", "garbage"):
        with pytest.raises(InvalidHash):
            settings_hash(wrong)
