"The room where the disk is changed: its abilities switched off, its errors, its locks; and that there is no other."

import ast
import errno
import os
import sys
from pathlib import Path

import pytest
from on_disk import Place, memory_disk, sharing_disk, unprivileged

import cjm_media_storage
from cjm_media_storage import files
from cjm_media_storage.files import DISK, Disk, NoHardLink, copy_aside, disk_errors, read_into
from cjm_media_storage.paths import READ
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
    [
        *[(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace)],
        *[(errno.EROFS, ReadOnlyStore), (errno.EACCES, ReadOnlyStore), (errno.EPERM, ReadOnlyStore)],
        (errno.EIO, OSError),
    ],
)
def test_errors_of_the_disk_are_typed(number, error):
    with pytest.raises(error), disk_errors("object"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("disk", [Disk(), Disk(rename_flags=False)], ids=["", "without flags"])
def test_where_nothing_may_be_written_every_call_says_so(place, disk):
    file, other, folder = place.path / "file", place.path / "other", place.path / "folder"
    file.touch()
    folder.mkdir()
    with place.read_only():
        for call in (
            lambda: disk.make_folder(place.path / "new"),
            lambda: disk.create(other),
            lambda: disk.rename(file, other),
            lambda: disk.rename(file, other),
            lambda: disk.rename_new(file, other),
            lambda: disk.symlink("file", other),
            lambda: disk.unlink(file),
        ):
            with pytest.raises(ReadOnlyStore):
                call()
        with pytest.raises((ReadOnlyStore, NoHardLink)):  # Linux may protect files of others from further names
            disk.link(file, other)
        if disk.rename_flags:
            with pytest.raises(ReadOnlyStore):
                disk.exchange(file, folder)
        assert not disk.remove_folder(folder)


def test_times_and_permissions_cannot_be_set_on_a_disk_that_is_read_only(open_folder):
    with memory_disk(open_folder, "1m"):
        (open_folder / "file").touch()
        stat = (open_folder / "file").stat()
        with Place(open_folder, "disk").read_only():
            for call in (lambda: DISK.chmod(open_folder / "file", 0o600), lambda: DISK.keep_times(open_folder, stat)):
                with pytest.raises(ReadOnlyStore):
                    call()


def test_a_full_disk_says_so_and_what_was_written_by_halves_is_written_on(open_folder, monkeypatch):
    with memory_disk(open_folder, "64k"):
        fd = DISK.create(open_folder / "film.mkv")
        with pytest.raises(NoSpace):
            DISK.write(fd, b"x" * 100_000)
        os.close(fd)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))  # as a full pipe or an interrupt would
    fd = DISK.create(open_folder / "poster.jpg")
    DISK.write(fd, b"a poster")
    os.close(fd)
    assert (open_folder / "poster.jpg").read_bytes() == b"a poster"


def test_a_disk_that_is_full_only_when_it_is_synced_says_so(tmp_path, monkeypatch):
    "As one on a network, or one that promises room before it looks"

    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "syncfs", full)
    with (tmp_path / "a").open("wb") as file, pytest.raises(NoSpace):
        DISK.sync_filesystem(file.fileno())


def answering(number):
    "A call of a kernel, or of a file system, that the tests do not have"

    def call(*args, **options):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_kernel_that_cannot_copy_between_two_files_says_so_and_that_is_no_fault(monkeypatch, number):
    monkeypatch.setattr(os, "copy_file_range", answering(number))
    assert DISK.copy(0, 1, 8) is None


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV])
def test_a_file_system_that_gives_no_further_name_says_so(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "link", answering(number))
    with pytest.raises(NoHardLink):
        DISK.link(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_symbolic_links_says_so(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "symlink", answering(number))
    assert DISK.symlink("poster.jpg", tmp_path / "link") is False


def test_a_file_system_that_shares_blocks_may_do_so_or_not_or_be_full(monkeypatch):
    monkeypatch.setattr(files.fcntl, "ioctl", lambda target, request, source: 0)
    assert DISK.clone(0, 1) is True
    monkeypatch.setattr(files.fcntl, "ioctl", answering(errno.EXDEV))
    assert DISK.clone(0, 1) is False
    for number in (errno.ENOSPC, errno.EDQUOT):
        monkeypatch.setattr(files.fcntl, "ioctl", answering(number))
        with pytest.raises(NoSpace):
            DISK.clone(0, 1)


def test_a_file_system_without_permissions_refuses_to_set_those_of_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "chmod", answering(errno.EPERM))
    DISK.make_folder(tmp_path / "a", 0o2770)
    assert (tmp_path / "a").is_dir()


def test_a_folder_is_there_whatever_the_system_says_of_making_it_once_more(tmp_path, monkeypatch):
    "As macOS says of the root, and other systems of a disk that only can be read"
    monkeypatch.setattr(os, "mkdir", answering(errno.EISDIR))
    assert DISK.make_folder(tmp_path) == []
    with pytest.raises(IsADirectoryError):
        DISK.make_folder(tmp_path / "a")


def test_macos_is_asked_to_bring_bytes_to_the_disk_itself(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(files.fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(files.fcntl, "fcntl", lambda fd, request: asked.append(request))
    (tmp_path / "a").touch()
    DISK.sync_file(tmp_path / "a")
    assert asked == [51]


def test_a_staged_file_is_new_and_its_makers_alone(tmp_path):
    before = os.umask(0)
    try:
        os.close(DISK.create(tmp_path / "a"))
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o600
    with pytest.raises(FileExistsError):
        DISK.create(tmp_path / "a")


def test_what_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OSError, match="Bad file descriptor"):
        DISK.write(-1, b"a poster")


def test_what_cannot_be_linked_or_copied_inside_the_kernel_is_told(open_folder, tmp_path):
    (tmp_path / "a").write_bytes(b"a poster")
    with memory_disk(open_folder, "1m"):
        with pytest.raises(NoHardLink, match="cross-device"):
            DISK.link(tmp_path / "a", open_folder / "a")
        with pytest.raises(FileNotFoundError):
            DISK.link(open_folder / "gone", open_folder / "a")
        with pytest.raises(OSError, match="cross-device"):
            DISK.rename_new(tmp_path / "a", open_folder / "a")
    with pytest.raises(NoHardLink):
        DISK.link(tmp_path, tmp_path / "b")  # a folder has one name
    read, write = os.pipe()
    with (tmp_path / "a").open("rb") as source:
        assert DISK.copy(source.fileno(), write, 8) is None
        assert Disk(copy_range=False).copy(source.fileno(), write, 8) is None
        assert not DISK.clone(source.fileno(), write) and not Disk(reflink=False).clone(source.fileno(), write)
    os.close(read)
    os.close(write)
    with pytest.raises(OSError, match="Bad file descriptor"):
        DISK.copy(-1, -1, 8)


def test_a_full_disk_says_so_where_the_kernel_copies(open_folder):
    with memory_disk(open_folder, "64k"):
        (open_folder / "film.mkv").touch()
        os.truncate(open_folder / "film.mkv", 1 << 20)  # nothing of it is kept yet
        with (
            (open_folder / "film.mkv").open("rb") as film,
            open(DISK.create(open_folder / "copy.mkv"), "wb") as copy,
            pytest.raises(NoSpace),
        ):
            while DISK.copy(film.fileno(), copy.fileno(), 1 << 20):
                pass


@pytest.mark.parametrize("disk", [DISK, Disk(reflink=False)], ids=["", "switched off"])
def test_blocks_are_shared_where_the_file_system_can(tmp_path, disk):
    with sharing_disk(tmp_path) as folder:
        (folder / "film.mkv").write_bytes(b"a film")
        with (folder / "film.mkv").open("rb") as film, open(disk.create(folder / "copy.mkv"), "wb") as copy:
            done = disk.clone(film.fileno(), copy.fileno())
        assert (done, (folder / "copy.mkv").read_bytes()) == ((True, b"a film") if disk.reflink else (False, b""))


def test_a_name_that_is_taken_is_not_created_again(tmp_path):
    (tmp_path / "poster.jpg").write_bytes(b"a poster")
    with pytest.raises(FileExistsError):
        DISK.create(tmp_path / "poster.jpg")
    assert (tmp_path / "poster.jpg").read_bytes() == b"a poster"


def test_what_comes_next_of_a_file_is_read(tmp_path, monkeypatch):
    (tmp_path / "poster.jpg").write_bytes(b"a poster")
    for _ in range(2):
        fd, buffer = os.open(tmp_path / "poster.jpg", os.O_RDONLY), bytearray(5)
        counts = [read_into(fd, memoryview(buffer)) for _ in range(3)]
        os.close(fd)
        assert (counts, buffer) == ([5, 3, 0], b"teros")
        monkeypatch.delattr(os, "readv", raising=False)


def test_a_symbolic_link_is_made_where_its_name_is_free(tmp_path):
    assert DISK.symlink("poster.jpg", tmp_path / "link")
    assert os.readlink(tmp_path / "link") == "poster.jpg"
    with pytest.raises(FileExistsError):
        DISK.symlink("other.jpg", tmp_path / "link")


def test_a_copy_gets_the_times_of_its_original(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    os.utime(tmp_path / "a", ns=(1_000_000_007, 2_000_000_011))
    DISK.keep_times(tmp_path / "b", (tmp_path / "a").stat())
    stat = (tmp_path / "b").stat()
    assert (stat.st_atime_ns, stat.st_mtime_ns) == (1_000_000_007, 2_000_000_011)


def test_times_of_somebody_elses_file_are_left_alone(open_folder):
    (open_folder / "of-root").touch()
    with unprivileged():
        DISK.keep_times(open_folder / "of-root", open_folder.stat())


def test_files_are_copied_aside_for_this_user_alone(tmp_path, temporary):
    (tmp_path / "a").write_bytes(b"a poster")
    folder = copy_aside(DISK, [tmp_path / "gone", tmp_path / "a"])
    assert folder.parent == temporary and folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"a poster"}
    DISK.remove_tree(folder)
    DISK.remove_tree(folder)  # once more, which is none
    with pytest.raises(IsADirectoryError):
        copy_aside(DISK, [tmp_path])
    assert list(temporary.iterdir()) == []


def test_where_nothing_can_be_copied_aside_that_is_said(tmp_path, temporary):
    (tmp_path / "film.mkv").write_bytes(b"x" * 100_000)
    with memory_disk(temporary, "64k"):
        with pytest.raises(NoSpace):
            copy_aside(DISK, [tmp_path / "film.mkv"])
        assert list(temporary.iterdir()) == []
        with Place(temporary, "disk").read_only(), pytest.raises(ReadOnlyStore):
            copy_aside(DISK, [tmp_path / "film.mkv"])


def test_folders_are_made_with_their_mode_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        DISK.make_folder(tmp_path / "a" / "b", 0o2770)
        DISK.make_folder(tmp_path / "c")
        DISK.make_folder(tmp_path / "d", None)
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o7777 for name in ("a", "a/b", "c", "d")]
    assert modes == [0o2770, 0o2770, 0o755, 0o700]
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        DISK.make_folder(tmp_path / "file" / "folder", None)


def test_without_hard_links_linking_says_so(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(NoHardLink):
        Disk(hardlink=False).link(tmp_path / "a", tmp_path / "b")


STEPS = {
    "in one step": Disk(),
    "in two": Disk(rename_flags=False),
    "after a look": Disk(rename_flags=False, hardlink=False),
}


@pytest.mark.parametrize("disk", STEPS.values(), ids=STEPS)
def test_a_rename_that_may_not_replace_does_not(tmp_path, disk):
    for name in "abc":
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        disk.rename_new(tmp_path / "a", tmp_path / "b")
    disk.rename_new(tmp_path / "a", tmp_path / "d")
    assert not (tmp_path / "a").exists()
    swapped = disk.exchange(tmp_path / "b", tmp_path / "c")
    assert "".join((tmp_path / name).read_text() for name in "bcd") == ("cba" if swapped else "bca")
    with pytest.raises(FileNotFoundError):
        disk.rename_new(tmp_path / "none", tmp_path / "e")


def test_linux_looks_and_renames_at_once(open_folder, monkeypatch):
    disk = Disk(hardlink=False)
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    with memory_disk(open_folder, "1m"):
        for name in "ab":
            (open_folder / name).write_text(name)
        with pytest.raises(FileExistsError):
            disk.rename_new(open_folder / "a", open_folder / "b")
        assert disk.exchange(open_folder / "a", open_folder / "b")
        assert (open_folder / "a").read_text() == "b"
        assert not Disk(rename_flags=False).exchange(open_folder / "a", open_folder / "b")
        with pytest.raises(FileNotFoundError) as caught:
            disk.exchange(open_folder / "a", open_folder / "gone")
        assert (caught.value.filename, caught.value.filename2) == (str(open_folder / "a"), str(open_folder / "gone"))


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux can do")
def test_on_linux_every_ability_is_tried():
    assert all(vars(Disk()).values())


def test_what_is_synced_is_what_was_named(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def told(fd):
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).relative_to(tmp_path.parent).as_posix())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", told)
    (tmp_path / "file").touch()
    DISK.sync_file(tmp_path / "file")
    DISK.make_folder(tmp_path / "a" / "b")
    DISK.make_folder(tmp_path / "a" / "b")
    DISK.make_folder(tmp_path / "a" / "c", sync=False)
    DISK.sync_folder(tmp_path / "a")
    Disk(folder_sync=False).sync_folder(tmp_path)
    root = tmp_path.name
    assert synced == [f"{root}/file", root, f"{root}/a", f"{root}/a"]


def test_files_that_may_only_be_read_are_synced_and_others_are_told(open_folder):
    (open_folder / "private").touch(mode=0)
    with unprivileged():
        (open_folder / "object").touch()
        (open_folder / "object").chmod(0o444)
        DISK.sync_file(open_folder / "object")
        with pytest.raises(ReadOnlyStore):
            DISK.sync_file(open_folder / "private")


def test_what_is_no_folder_is_not_synced_as_one(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError):
        DISK.sync_folder(tmp_path / "a")


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


def test_the_kernel_is_asked_to_write_out_early_where_it_can(monkeypatch):
    asked = []
    monkeypatch.setattr(files, "sync_file_range", lambda *given: asked.append(given))
    DISK.begin_sync(7, 8, 9)
    Disk(early_sync=False).begin_sync(1, 2, 3)
    assert asked == [(7, 8, 9)]


def test_writing_out_early_promises_nothing(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.write(b"a film")
        for disk in (DISK, Disk(early_sync=False)):
            disk.begin_sync(file.fileno(), 0, 6)
    DISK.begin_sync(-1, 0, 6)
    assert (tmp_path / "a").read_bytes() == b"a film"


def test_a_file_is_opened_without_links_only_where_that_can_be_told(tmp_path, monkeypatch):
    for opener in (lambda flags: lambda path: (path, flags), lambda flags: None):
        monkeypatch.setattr(files, "opener_without_links", opener)
        assert Disk(no_links=True).open_without_links("a") == (("a", READ) if opener(READ) else -1)
        assert Disk(no_links=False).open_without_links("a") == -1
