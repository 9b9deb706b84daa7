"Contents that are looked at, recognised, read and staged: what is read is what was looked at."

import os

import pytest
from on_disk import staged

from cjm_media_storage.errors import SourceChanged, SourceError
from cjm_media_storage.ingest import SMALL, read_small
from cjm_media_storage.storage import ContentStore


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mkv"
    path.write_bytes(b"a film")
    return path


def test_a_file_is_read_as_it_was_looked_at(film):
    assert read_small(os.fspath(film), os.lstat(film)) == b"a film"


def test_fault_12_a_file_that_was_replaced_since_it_was_looked_at(film, tmp_path):
    "By one of the same size and time, and with another number of names: only the inode tells"
    before = os.lstat(film)
    (tmp_path / "other").write_bytes(b"A FILM")
    os.utime(tmp_path / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.link(tmp_path / "other", tmp_path / "second name")
    os.replace(tmp_path / "other", film)
    with pytest.raises(SourceChanged):
        read_small(os.fspath(film), before)


def test_fault_09_a_file_that_became_something_else_since_it_was_looked_at(film, tmp_path):
    before = os.lstat(film)
    film.rename(tmp_path / "moved")
    film.symlink_to("moved")
    with pytest.raises(SourceError):
        read_small(os.fspath(film), before)
    film.unlink()
    os.mkfifo(film)
    with pytest.raises(SourceError):
        read_small(os.fspath(film), before)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("size", [6, 2 * SMALL])
def test_fault_55_objects_of_a_group_have_their_mode_whatever_the_umask(tmp_path, umask, size):
    "And the index knows them as they are, so that they are not read the next time"
    (tmp_path / "film.mkv").write_bytes(os.urandom(size))
    before = os.umask(umask)
    try:
        with ContentStore(tmp_path / "store", object_mode=0o440) as store:
            (outcome,) = store.put_many([tmp_path / "film.mkv"])
            stat = os.stat(outcome.result.path)
            (entry,) = store._index.select("digest <> ''")
            assert (stat.st_mode & 0o7777, stat.st_nlink) == (0o440, 1)
            assert (entry.size, entry.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
            assert staged(store) == []
    finally:
        os.umask(before)
