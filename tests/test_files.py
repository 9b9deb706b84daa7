"The room where the disk is changed: its abilities switched off, its errors, its locks; and that there is no other."

import ast
import errno
import os
from pathlib import Path

import pytest
from on_disk import unprivileged

import cjm_media_storage
from cjm_media_storage.files import DISK, Disk, NoHardLink, disk_errors
from cjm_media_storage.storage import NoSpace, ReadOnlyStore

OS_CALLS = {"write", "pwrite", "writev", "link", "symlink", "rename", "replace", "unlink", "remove", "rmdir", "mkdir"}
OS_CALLS |= {"makedirs", "chmod", "fchmod", "chown", "truncate", "ftruncate", "fsync", "fdatasync", "sync", "utime"}
OS_CALLS |= {"copy_file_range", "sendfile", "rmtree", "move", "copyfile", "copy"}
PATH_CALLS = {"write_bytes", "write_text", "unlink", "rmdir", "mkdir", "touch", "chmod", "symlink_to", "hardlink_to"}


def changes(tree):
    "The calls in a module that change a disk, other than through a `Disk`"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = ast.unparse(node.func.value), node.func.attr
            if ast.unparse(node).startswith("os.write(2, "):  # to the terminal
                continue
            if (owner in ("os", "shutil") and name in OS_CALLS) or (
                name in PATH_CALLS and not owner.endswith(("disk", "DISK"))
            ):
                yield f"{owner}.{name}"


def test_no_other_room_changes_the_disk():
    package = Path(cjm_media_storage.__file__).parent
    own = ("files.py", "demo.py", "media.py")  # the last two make files of their own, as a user does
    others = [path for path in package.glob("*.py") if path.name not in own]
    assert {path.name: list(changes(ast.parse(path.read_text()))) for path in others} == {p.name: [] for p in others}
    assert len(list(changes(ast.parse((package / "files.py").read_text())))) > 5


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EROFS, ReadOnlyStore), (errno.EIO, OSError)],
)
def test_errors_of_the_disk_are_typed(number, error):
    with pytest.raises(error), disk_errors("object"):
        raise OSError(number, os.strerror(number))


def test_folders_are_made_with_their_mode_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        DISK.make_folder(tmp_path / "a" / "b", 0o2770)
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o7777 for name in ("a", "a/b")] == [0o2770, 0o2770]


def test_without_hard_links_linking_says_so(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(NoHardLink):
        Disk(hardlink=False).link(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("disk", [Disk(), Disk(rename_flags=False)], ids=["in one step", "in two"])
def test_a_rename_that_may_not_replace_does_not(tmp_path, disk):
    for name in "abc":
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        disk.rename_new(tmp_path / "a", tmp_path / "b")
    disk.rename_new(tmp_path / "a", tmp_path / "d")
    swapped = disk.exchange(tmp_path / "b", tmp_path / "c")
    assert "".join((tmp_path / name).read_text() for name in "bcd") == ("cba" if swapped else "bca")
    with pytest.raises(FileNotFoundError):
        disk.rename_new(tmp_path / "none", tmp_path / "e")


def test_only_an_empty_folder_is_removed(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert [DISK.remove_folder(tmp_path / name) for name in ("a", "a/b", "a", "a")] == [False, True, True, False]


def test_a_copy_by_the_kernel_is_the_same_as_one_by_hand(tmp_path):
    (tmp_path / "a").write_bytes(os.urandom(300_000))
    source, target = os.open(tmp_path / "a", os.O_RDONLY), DISK.create(tmp_path / "b")
    while DISK.copy(source, target, 65536):
        pass
    os.close(source)
    os.close(target)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_a_file_system_is_synced_as_a_whole(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        DISK.sync_filesystem(file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        DISK.sync_filesystem(-1)
    assert DISK.can_sync_filesystem and not Disk(syncfs=False).can_sync_filesystem
    with pytest.raises(OSError, match="not implemented"):
        Disk(syncfs=False).sync_filesystem(0)


def test_fault_55_a_refused_chmod_is_tolerated(open_folder):
    (open_folder / "of-root").touch()
    with unprivileged():
        DISK.chmod(open_folder / "of-root", 0o600)


def test_a_rename_that_may_not_replace_does_not_trust_its_own_look(tmp_path, monkeypatch):
    "Somebody takes the name between the look and the rename"
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    for name in "ab":
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        Disk(rename_flags=False).rename_new(tmp_path / "a", tmp_path / "b")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["a", "b"]


def test_a_folder_that_is_there_is_not_made(tmp_path):
    assert DISK.make_folder(tmp_path / "a" / "b") == [os.fspath(tmp_path), os.fspath(tmp_path / "a")]
    (tmp_path / "a").chmod(0o700)
    assert DISK.make_folder(tmp_path / "a" / "b") == DISK.make_folder(tmp_path / "a") == DISK.make_folder("/") == []
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_writing_out_early_promises_nothing(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.write(b"a film")
        for disk in (DISK, Disk(early_sync=False)):
            disk.begin_sync(file.fileno(), 0, 6)
    DISK.begin_sync(-1, 0, 6)
    assert (tmp_path / "a").read_bytes() == b"a film"
