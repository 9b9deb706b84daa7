"What the C library is asked for, where it can and where it cannot; that nobody asks but `files`."

import ctypes
import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import cjm_media_storage
from cjm_media_storage import kernel
from cjm_media_storage.kernel import (
    FICLONE,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Abilities,
    has_call,
    opener_without_links,
    renameat2,
    sync_file_range,
    syncfs,
)

LARGE = 3 << 32  # Of more bits than an `int` of C


@pytest.fixture(autouse=True)
def nothing_found():
    "Calls are looked for anew, also by whoever comes after"
    looks = kernel._find, kernel.opener_without_links
    for look in looks:
        look.cache_clear()
    yield
    for look in looks:
        look.cache_clear()


@pytest.fixture
def two(tmp_path):
    "Two files, with their names as content"
    for name in "ab":
        (tmp_path / name).write_text(name)
    return tmp_path / "a", tmp_path / "b"


@pytest.fixture
def old_library(monkeypatch):
    "A C library that has none of these calls"
    monkeypatch.setattr(kernel, "_find", lambda name: None)


def test_only_one_room_asks_the_c_library_and_only_files_asks_that_room():
    package = Path(cjm_media_storage.__file__).parent
    texts = {path.stem: path.read_text() for path in package.glob("*.py")}
    assert [name for name, text in texts.items() if "CDLL" in text] == ["kernel"]
    assert [name for name, text in texts.items() if "from .kernel" in text or ".kernel import" in text] == ["files"]


def test_each_ability_can_be_switched_off():
    for name in vars(Abilities()):
        assert not getattr(Abilities(**{name: False}), name)


def test_the_c_library_is_not_loaded_before_a_call():
    text = "import sys, cjm_media_storage.kernel; sys.exit('ctypes' in sys.modules)"
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux can do")
def test_linux_has_each_call(two):
    a, b = two
    assert has_call("syncfs") and has_call("sync_file_range") and has_call("renameat2")
    with a.open("r+b") as file:
        syncfs(file.fileno())
        sync_file_range(file.fileno(), 0, 1)
        sync_file_range(file.fileno(), LARGE, LARGE)
    assert renameat2(a, b, RENAME_EXCHANGE)
    assert (a.read_text(), b.read_text()) == ("b", "a")
    assert renameat2(a, a.with_name("c"), RENAME_NOREPLACE) and not a.exists()


def test_numbers_reach_the_call_as_they_are(monkeypatch):
    asked = []
    monkeypatch.setattr(kernel, "_find", lambda name: lambda *given: asked.append((name, given)) or 0)
    sync_file_range(7, LARGE, LARGE + 1)
    ((name, (fd, start, count, flags)),) = asked
    assert (name, fd, start.value, count.value, flags) == ("sync_file_range", 7, LARGE, LARGE + 1, 2)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="others number calls in another way")
def test_the_request_to_share_blocks_has_the_number_that_linux_gives_it():
    write, size, kind, number = 1, 4, 0x94, 9  # _IOW(0x94, 9, int), in linux/fs.h
    assert write << 30 | size << 16 | kind << 8 | number == FICLONE


def test_what_went_wrong_is_told_with_both_names(two):
    a, b = two
    with pytest.raises(OSError, match="Bad file descriptor"):
        syncfs(-1)
    with pytest.raises(FileExistsError) as caught:
        renameat2(a, b, RENAME_NOREPLACE)
    assert (caught.value.filename, caught.value.filename2) == (str(a), str(b))
    with pytest.raises(FileNotFoundError):
        renameat2(a, a.with_name("none"), RENAME_EXCHANGE)
    assert (a.read_text(), b.read_text()) == ("a", "b")


def test_a_relative_path_is_in_the_current_folder(two, monkeypatch):
    monkeypatch.chdir(two[0].parent)
    assert renameat2("a", "c", RENAME_NOREPLACE)
    assert sorted(os.listdir()) == ["b", "c"]


def test_what_cannot_be_done_is_no_mistake(two, old_library):
    a, b = two
    assert not renameat2(a, b, RENAME_NOREPLACE) and not renameat2(a, b, RENAME_EXCHANGE)
    sync_file_range(0, 0, 1)
    with pytest.raises(OSError, match="not implemented") as caught:
        syncfs(0)
    assert caught.value.errno == errno.ENOSYS


def test_flags_that_the_kernel_does_not_know_are_an_ability_that_it_lacks(two):
    a, b = two
    assert not renameat2(a, b, 1 << 20)
    assert sorted(os.listdir(a.parent)) == ["a", "b"] and b.read_text() == "b"


# ---- opened only where no step is a link


@pytest.fixture
def openat2(tmp_path):
    open_path = opener_without_links(os.O_RDONLY)
    if open_path is None:
        pytest.skip("this system has no openat2")
    return lambda path: open_path(str(path))


def test_a_file_is_opened_where_no_step_is_a_link(openat2, two):
    fd = openat2(two[0])
    try:
        assert os.read(fd, 2) == b"a" and not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_file_whose_name_is_no_text_is_opened(openat2, tmp_path):
    path = tmp_path / os.fsdecode(b"\xff")
    path.write_text("a")
    os.close(openat2(path))


@pytest.mark.parametrize("step", ["folder", "folder/a"])
def test_a_link_in_any_step_is_not_followed(openat2, two, step):
    folder = two[0].parent
    (folder / "real").mkdir()
    (folder / "real" / "a").symlink_to(two[0]) if "/" in step else two[0].rename(folder / "real" / "a")
    (folder / "real").rename(folder / "folder") if "/" in step else (folder / "folder").symlink_to(folder / "real")
    assert (folder / "folder" / "a").read_text() == "a"
    assert openat2(folder / "folder" / "a") == -1


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_it_is_used_wherever_it_is_there():
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY | os.O_CLOEXEC, 0, 4)  # RESOLVE_NO_SYMLINKS of linux/openat2.h
    fd = ctypes.CDLL(None).syscall(437, -100, b"/", how, 24)
    if fd >= 0:
        os.close(fd)
    assert (opener_without_links(os.O_RDONLY) is not None) is (fd >= 0)


def test_what_is_not_there_is_not_opened(openat2, tmp_path):
    assert openat2(tmp_path / "none") == -1


def test_an_old_library_opens_nothing_in_that_way(old_library):
    assert opener_without_links(os.O_RDONLY) is None


def test_a_call_that_the_kernel_does_not_know_opens_nothing(monkeypatch):
    monkeypatch.setattr(kernel, "_OPENAT2", 1 << 20)
    assert opener_without_links(os.O_RDONLY) is None


def test_other_systems_are_not_asked(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(kernel, "_find", None)
    assert opener_without_links(os.O_RDONLY) is None
