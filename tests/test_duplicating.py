"A file copied and hashed at once: what is hashed is the copy, whatever happens to the source meanwhile."

import os
import threading

import pytest

from cjm_media_storage import duplicating
from cjm_media_storage.duplicating import STEP, copy_and_hash
from cjm_media_storage.errors import NoSpace
from cjm_media_storage.files import Disk
from cjm_media_storage.hashing import CHUNK, hash_bytes

BY_HAND = {"reflink": False, "copy_range": False}


@pytest.fixture
def duplicate(tmp_path):
    def make(content, disk, limit=1 << 40, **early):
        (tmp_path / "film").write_bytes(content)
        with open(tmp_path / "film", "rb") as source, open(tmp_path / "copy", "wb") as target:
            hasher, _ = copy_and_hash(disk, source.fileno(), tmp_path / "copy", target.fileno(), limit, **early)
        return hasher, (tmp_path / "copy").read_bytes()

    return make


@pytest.mark.parametrize("size", [0, 1, CHUNK, STEP - 1, STEP, STEP + 1])
@pytest.mark.parametrize("disk", [Disk(), Disk(reflink=False), Disk(**BY_HAND)], ids=str)
def test_a_copy_of_any_size_is_the_same_and_its_hash_is_known(duplicate, size, disk):
    content = os.urandom(size)
    hasher, copy = duplicate(content, disk)
    assert (hasher.hash, hasher.size, copy == content) == (hash_bytes(content), size, True)


@pytest.mark.parametrize("disk", [Disk(reflink=False), Disk(**BY_HAND)], ids=str)
def test_a_copy_ends_at_the_limit(duplicate, disk):
    hasher, copy = duplicate(b"film" * 100, disk, limit=10)
    assert (hasher.size, copy) == (10, b"filmfilmfi")


@pytest.mark.parametrize("disk", [Disk(reflink=False), Disk(**BY_HAND)], ids=str)
def test_a_copy_in_many_steps_ends_at_the_limit(duplicate, disk, monkeypatch):
    "So that a source that grows while it is copied does not go on for ever"
    for name in ("STEP", "CHUNK"):
        monkeypatch.setattr(duplicating, name, 4)
    hasher, copy = duplicate(b"film" * 100, disk, limit=10)
    assert (hasher.size, copy) == (10, b"filmfilmfi")


class Hinted(Disk):
    "A disk that writes down what the kernel is to write out early"

    def begin_sync(self, fd, start, count):
        hints.append((start, count))


hints = []


def test_what_is_to_be_synced_is_written_out_while_it_grows_and_nothing_else(duplicate, monkeypatch):
    monkeypatch.setattr(duplicating, "STEP", 4)
    hints.clear()
    duplicate(b"film" * 3, Hinted(reflink=False))
    assert hints == []
    duplicate(b"film" * 3, Hinted(reflink=False), early=True)
    assert hints == [(0, 4), (4, 4), (8, 4)]


class Changing(Disk):
    "A disk on which the source is another one after its first bytes were copied"

    def copy(self, source, target, count):
        done = super().copy(source, target, min(count, 5))
        path = os.readlink(f"/proc/self/fd/{source}")
        with open(path, "r+b") as file:
            file.write(b"?????")
        return done


def test_the_hash_is_that_of_the_copy_not_of_a_source_that_changed(duplicate):
    hasher, copy = duplicate(b"first, second", Changing(reflink=False))
    assert copy[:5] == b"first"
    assert hasher.hash == hash_bytes(copy)


class Full(Disk):
    "A disk that is full after five bytes"

    def write(self, fd, data):
        super().write(fd, data[:5])
        raise NoSpace("staged file")


def test_what_fails_where_it_is_copied_is_raised_where_it_is_hashed(duplicate):
    with pytest.raises(NoSpace):
        duplicate(b"first, second", Full(**BY_HAND))


class Patient(Disk):
    "A disk whose second copy takes until somebody has given up, and then a moment longer"

    def copy(self, source, target, count):
        if steps:
            gave_up.wait(60)
            returned.wait(0.1)  # which is in vain, if the copying is waited for
        steps.append(super().copy(source, target, count))
        return steps[-1]


steps, gave_up, returned = [], threading.Event(), threading.Event()


def test_whoever_gives_up_hashing_waits_for_the_copying(duplicate, monkeypatch):
    "Else it would go on into a descriptor that is closed by then, or is another file's"

    def update(self, data):
        gave_up.set()
        raise OSError("no memory, say")

    monkeypatch.setattr(duplicating, "STEP", 4)
    monkeypatch.setattr(duplicating.Hasher, "update", update)
    with pytest.raises(OSError, match="no memory"):
        duplicate(b"film" * 3, Patient(reflink=False))
    returned.set()
    assert steps == [4, 4, 4, 0]
