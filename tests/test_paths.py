"Paths that lead elsewhere are refused, and what is opened for a look is closed again."

import os
import socket
from pathlib import Path

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


def test_what_has_no_path_or_none_any_more_gets_none_of_the_kernels_names(here, monkeypatch):
    ends = os.pipe()
    try:
        assert real_path(f"/proc/self/fd/{ends[0]}") == os.path.realpath(f"/proc/self/fd/{ends[0]}")
    finally:
        for end in ends:
            os.close(end)
    (here / "gone").mkdir()
    monkeypatch.chdir(here / "gone")
    (here / "gone").rmdir()
    with pytest.raises(FileNotFoundError):  # for the kernel it is "gone (deleted)"
        real_path(".")


def test_fault_09_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "socket"))
        for name in ("pipe", "socket", "."):
            with pytest.raises(IsADirectoryError):
                open_regular(tmp_path / name)


def test_only_a_regular_file_is_opened_and_nothing_is_waited_for(here):
    Path("file").touch()
    Path("folder").mkdir()
    Path("link").symlink_to("file")
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name, error in {
            **dict.fromkeys(["folder", "fifo", "socket"], IsADirectoryError),
            **{"link": UnsafePath, "gone": FileNotFoundError},
        }.items():
            with pytest.raises(error):
                open_regular(here / name)
    os.close(open_regular(here / "file"))


def test_steps_that_were_looked_at_are_not_looked_at_again(tmp_path):
    seen, shard = set(), tmp_path / "ab" / "c1"
    assert not inside(tmp_path, shard / "object", seen=seen)
    shard.mkdir(parents=True)
    (shard / "object").touch()
    assert inside(tmp_path, shard / "object", seen=seen) and str(shard) in seen
    (shard / "object").unlink()
    assert inside(tmp_path, shard / "object", seen=seen)  # it was there a moment ago
    assert not inside(tmp_path, shard / "other", seen=seen)
    (shard / "other").touch()
    assert inside(tmp_path, shard / "other", seen=seen)
    (shard / "link").symlink_to("object")
    with pytest.raises(UnsafePath):
        inside(tmp_path, shard / "link", seen=seen)


def test_a_step_that_is_known_says_nothing_of_the_next(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "object").write_bytes(b"a secret")
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "c1").symlink_to(outside)
    with pytest.raises(UnsafePath):
        inside(tmp_path, tmp_path / "ab" / "c1" / "object", seen={str(tmp_path / "ab")})


def test_what_is_inside_is_opened_and_a_fifo_is_not_waited_for(tmp_path):
    (tmp_path / "object").write_bytes(b"a poster")
    fd = open_inside(tmp_path, tmp_path / "object")
    try:
        assert os.read(fd, 100) == b"a poster"
        assert inside(tmp_path, tmp_path / "object", fd)
    finally:
        os.close(fd)
    os.mkfifo(tmp_path / "fifo")
    assert real_path(tmp_path / "fifo") == str(tmp_path / "fifo")
