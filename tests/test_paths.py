"Paths that lead elsewhere are refused, and what is opened for a look is closed again."

import os
import socket

import pytest

from cjm_media_storage.errors import UnsafePath
from cjm_media_storage.paths import inside, open_inside, open_regular, real_path


def test_inside_knows_links_however_deep(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "ab", outside):
        folder.mkdir(parents=True)
    (outside / "secret").write_bytes(b"x")
    (root / "ab" / "c1").symlink_to(outside)
    (root / "ab" / "link").symlink_to(outside / "secret")
    for path in (root / "ab" / "c1" / "secret", root / "ab" / "link"):
        with pytest.raises(UnsafePath):
            os.close(open_inside(root, path))
    inside(root, root / "ab")


def test_a_descriptor_is_closed_when_the_check_fails(tmp_path):
    (tmp_path / "folder").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(IsADirectoryError):
            open_inside(tmp_path, tmp_path / "folder")
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_real_path_is_that_of_python(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("folder/gone")
    for name in ("folder", "folder/file", "link", "link/file", "link/gone", "loop", "dangling", "link/../folder"):
        assert real_path(tmp_path / name) == os.path.realpath(tmp_path / name)


def test_fault_09_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "socket"))
        for name in ("pipe", "socket", "."):
            with pytest.raises(IsADirectoryError):
                open_regular(tmp_path / name)
