"Copies on their way out: the modes on real file systems, races at the destination, and what dead processes leave."

import os
import shutil
import signal
from pathlib import Path

import pytest
from on_disk import memory_disk, sharing_disk

from cjm_media_storage.copies import LINK_MODES, Copies, look
from cjm_media_storage.errors import LinkModeUnavailable
from cjm_media_storage.files import Disk
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import (
    Conflict,
    ContentStore,
    CorruptObject,
    NoSpace,
    ObjectNotFound,
    StoreBusy,
    hash_bytes,
)


@pytest.fixture
def films(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    return folder


def spoil(path, unseen):
    "Change the bytes of an object, as a failing disk does if it is `unseen`"
    stat = path.stat()
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().upper())
    if unseen:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def publish(copies, hash, final, mode="auto"):
    with copies.made(hash, mode, final) as (part, used):
        copies.place(part, final)
    return used


def test_a_copy_takes_what_the_umask_leaves_of_644(store, films, poster):
    for umask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o644)):
        before = os.umask(umask)
        try:
            publish(Copies(store), poster, films / f"{umask}.jpg", "copy")
        finally:
            os.umask(before)
        assert (films / f"{umask}.jpg").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_each_mode_gives_what_it_says(store, films, poster, mode):
    final, object = films / "poster.jpg", store.path(poster)
    assert publish(Copies(store), poster, final, mode) == mode
    assert final.read_bytes() == b"a poster" and os.listdir(films) == ["poster.jpg"]
    assert final.is_symlink() is (mode == "symlink")
    assert os.path.samefile(final, object) is (mode != "copy")
    assert object.stat().st_mode & 0o777 == 0o444


def test_fault_39_on_a_file_system_with_reflinks_auto_takes_one(tmp_path):
    with sharing_disk(tmp_path) as folder, ContentStore(folder / "store") as store:
        film = store.put(os.urandom(300_000)).hash
        used = {mode: publish(Copies(store), film, folder / f"{mode}.mkv", mode) for mode in ("auto", *LINK_MODES)}
        assert used == {"auto": "reflink"} | {mode: mode for mode in LINK_MODES}
        assert {hash_bytes((folder / f"{mode}.mkv").read_bytes()) for mode in used} == {film}
        (folder / "auto.mkv").write_bytes(b"edited")
        assert hash_bytes(store.read(film, verify=True)) == film


def test_fault_39_another_device_gets_a_copy(store, tmp_path, poster):
    with memory_disk(tmp_path / "mounted", "8m") as folder:
        copies = Copies(store)
        assert publish(copies, poster, folder / "auto.jpg") == "copy"
        assert publish(copies, poster, folder / "link.jpg", "symlink") == "symlink"
        for mode in ("reflink", "hardlink"):
            with pytest.raises(LinkModeUnavailable) as caught:
                publish(copies, poster, folder / "poster.jpg", mode)
            assert (caught.value.mode, caught.value.others) == (mode, ["copy", "symlink"])
        assert sorted(os.listdir(folder)) == ["auto.jpg", "link.jpg"]


def test_fault_23_another_device_gets_a_copy(store, tmp_path, poster):
    with memory_disk(tmp_path / "mounted", "8m") as folder:
        assert publish(Copies(store), poster, folder / "poster.jpg") == "copy"
        assert (folder / "poster.jpg").read_bytes() == b"a poster"


def test_fault_39_an_object_takes_the_last_link_and_then_is_copied(store, films, poster):
    links = films / "links"
    links.mkdir()
    count = 0
    try:
        for count in range(70_000):  # ext4 stops at 65,000
            os.link(store.path(poster), links / str(count))
    except OSError:
        (links / str(count - 1)).unlink()
    else:
        pytest.skip("this file system makes any number of links")
    copies = Copies(store)
    assert publish(copies, poster, films / "last.jpg", "hardlink") == "hardlink"
    with pytest.raises(LinkModeUnavailable) as caught:
        publish(copies, poster, films / "poster.jpg", "hardlink")
    assert [mode for mode in caught.value.others if mode != "reflink"] == ["copy", "symlink"]
    assert publish(copies, poster, films / "poster.jpg") in ("copy", "reflink")
    shutil.rmtree(links)


PLAIN = Disk(reflink=False, copy_range=False, hardlink=False, rename_flags=False)


def test_where_nothing_but_files_can_be_made_files_are_made(tmp_path, films):
    with ContentStore(tmp_path / "plain", disk=PLAIN) as store:
        copies, poster, other = Copies(store), store.put(b"a poster").hash, store.put(b"another").hash
        final = films / "poster.jpg"
        assert publish(copies, poster, final) == "copy"
        with pytest.raises(FileExistsError):
            publish(copies, other, final)
        seen = look(films, final)
        with copies.made(other, "auto", final) as (part, _):
            copies.replace(part, final, seen)
        assert (final.read_bytes(), os.listdir(films)) == (b"another", ["poster.jpg"])
        with copies.made(poster, "auto", final) as (part, _), pytest.raises(Conflict):
            copies.replace(part, final, seen)
        copies.remove(final, look(films, final))
        assert os.listdir(films) == []


@pytest.mark.parametrize("mode", ["auto", "copy", "hardlink", "symlink"])
def test_a_corrupt_object_never_gets_out(store, films, poster, mode):
    path = store.path(poster)
    path.chmod(0o644)
    path.write_bytes(b"A POSTER")
    with pytest.raises(CorruptObject):
        publish(Copies(store), poster, films / "poster.jpg", mode)
    assert os.listdir(films) == []


@pytest.mark.parametrize("mode", ["copy", "hardlink", "symlink"])
def test_the_right_bytes_in_another_namespace_are_taken_instead(tmp_path, films, mode):
    with ContentStore(tmp_path / "store", disk=Disk(hardlink=False)) as store:  # so that they are two files
        first, second = store.put(b"a poster"), store.put(b"a poster", namespace="actors")
        first.path.chmod(0o644)
        first.path.write_bytes(b"A POSTER")
    with ContentStore(tmp_path / "store") as store:
        publish(Copies(store), second.hash, films / "poster.jpg", mode)
        assert (films / "poster.jpg").read_bytes() == b"a poster"
        assert os.listdir(films) == ["poster.jpg"]


def test_what_is_not_in_the_store_is_not_published(store, films):
    with pytest.raises(ObjectNotFound):
        publish(Copies(store), hash_bytes(b"never put"), films / "poster.jpg")


def test_a_full_disk_leaves_nothing(store, tmp_path):
    film = store.put(os.urandom(2 << 20)).hash
    with memory_disk(tmp_path / "mounted", "1m") as folder:
        with pytest.raises(NoSpace):
            publish(Copies(store), film, folder / "film.mkv")
        assert os.listdir(folder) == []


# ---- races at the destination


class Interrupted(Disk):
    "A disk where somebody else does something just before a call that `meanwhile` names"

    def __getattribute__(self, name):
        if name in meanwhile:
            meanwhile.pop(name)()
        return super().__getattribute__(name)


meanwhile = {}


@pytest.fixture
def interrupted(tmp_path):
    with ContentStore(tmp_path / "store", disk=Interrupted()) as store:
        yield store
    assert not meanwhile, "nobody came by"


def put_there(path, content):
    "As an editor does: a new file under the old name"
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)


def test_a_file_that_appears_before_ours_is_kept(interrupted, films):
    copies, poster = Copies(interrupted), interrupted.put(b"a poster").hash
    final = films / "poster.jpg"
    with copies.made(poster, "copy", final) as (part, _):
        meanwhile["link"] = lambda: final.write_bytes(b"drawn by hand")
        with pytest.raises(FileExistsError):
            copies.place(part, final)
    assert (final.read_bytes(), os.listdir(films)) == (b"drawn by hand", ["poster.jpg"])


def test_a_file_that_takes_the_place_of_the_one_to_be_replaced_is_given_back(interrupted, films):
    copies, poster = Copies(interrupted), interrupted.put(b"a poster").hash
    final = films / "poster.jpg"
    final.write_bytes(b"our older copy")
    seen = look(films, final)
    with copies.made(poster, "copy", final) as (part, _):
        meanwhile["exchange"] = lambda: put_there(final, b"drawn by hand")
        with pytest.raises(Conflict):
            copies.replace(part, final, seen)
    assert (final.read_bytes(), os.listdir(films)) == (b"drawn by hand", ["poster.jpg"])


def test_a_file_that_takes_the_place_of_the_one_to_be_removed_is_given_back(interrupted, films):
    copies, final = Copies(interrupted), films / "poster.jpg"
    final.write_bytes(b"our older copy")
    seen = look(films, final)
    meanwhile["rename_new"] = lambda: put_there(final, b"drawn by hand")
    with pytest.raises(Conflict):
        copies.remove(final, seen)
    assert (final.read_bytes(), os.listdir(films)) == (b"drawn by hand", ["poster.jpg"])


def test_one_that_cannot_be_given_back_is_in_the_trash(interrupted, films):
    copies, final = Copies(interrupted), films / "poster.jpg"
    final.write_bytes(b"our older copy")
    seen = look(films, final)

    def twice():
        put_there(final, b"drawn by hand")
        meanwhile["rename_new"] = lambda: final.write_bytes(b"drawn again")

    meanwhile["rename_new"] = twice
    with pytest.raises(Conflict):
        copies.remove(final, seen)
    (taken,) = interrupted.trash
    assert (final.read_bytes(), os.listdir(films), taken.size) == (
        b"drawn again",
        ["poster.jpg"],
        len(b"drawn by hand"),
    )


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_one_that_can_go_nowhere_stays(interrupted, films, how, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.parts.LOCK_TIMEOUT", 0.0)
    copies, poster = Copies(interrupted), interrupted.put(b"a poster").hash
    final = films / "poster.jpg"
    final.write_bytes(b"our older copy")
    seen, call = look(films, final), {"replaced": "exchange", "removed": "rename_new"}[how]

    def twice():
        put_there(final, b"drawn by hand")
        meanwhile[call] = lambda: final.unlink() if how == "replaced" else final.write_bytes(b"drawn again")

    meanwhile[call] = twice
    with interrupted.parts.lock.shared(), pytest.raises(StoreBusy):  # nobody can be alone with the store for the trash
        if how == "removed":
            copies.remove(final, seen)
        with copies.made(poster, "copy", final) as (part, _):
            copies.replace(part, final, seen)
    (aside,) = films.glob(".*.aside")
    assert aside.read_bytes() == b"drawn by hand"


# ---- what is left behind

LEAVE = """
import os, sys
from pathlib import Path
from cjm_media_storage.copies import Copies
from cjm_media_storage.storage import ContentStore
store = ContentStore(sys.argv[1])
hash = store.put(b"a poster").hash
with Copies(store).made(hash, "copy", Path(sys.argv[2], "p" * 255)):
    print("made", flush=True)
    sys.stdin.readline()
    os._exit(9)
"""


def test_only_what_dead_processes_of_this_store_left_is_swept(store, films, tmp_path, program):
    users = films / ".poster.jpg.0123456789abcdef0123456789abcdef.part"
    users.write_bytes(b"half a download")
    (films / "sub").mkdir()
    copies = Copies(store)
    process = program.start(LEAVE, store.root, films / "sub")
    assert process.stdout.readline() == "made\n"
    (part,) = (films / "sub").iterdir()
    assert copies.sweep(films) == 0 and part.exists()
    process.communicate("end\n")
    with ContentStore(tmp_path / "other") as other:
        assert Copies(other).sweep(films) == 0 and part.exists()
    assert copies.sweep(films) == 1
    assert {path.name for path in films.rglob("*")} == {users.name, "sub"}


def test_it_is_swept_when_staging_is_gone_too(store, films, program):
    process = program.start(LEAVE, store.root, films)
    process.communicate("end\n")
    store.close()
    shutil.rmtree(store.root / ".store" / "staging")
    with ContentStore(store.root) as store:
        assert Copies(store).sweep(films) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from cjm_media_storage.files import Disk
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import ContentStore

class Deadly(Disk):
    def exchange(self, one, other):
        put_there(other)
        super().exchange(one, other)
        os.kill(os.getpid(), signal.SIGKILL)

    def rename_new(self, source, target):
        put_there(source)
        super().rename_new(source, target)
        os.kill(os.getpid(), signal.SIGKILL)

def put_there(path):
    path.with_name("new").write_bytes(b"drawn by hand")
    path.with_name("new").replace(path)

store = ContentStore(sys.argv[1], disk=Deadly())
library = Library(store, sys.argv[2])
if sys.argv[3] == "replaced":
    library.publish(sys.argv[4], "poster.jpg")
else:
    library.unpublish("poster.jpg")
"""


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_fault_21_what_a_killed_process_had_put_aside_is_in_the_trash(store, films, poster, program, how):
    Library(store, films).publish(poster, "poster.jpg")
    better = store.put(b"a better poster").hash
    process = program.start(KILLED, store.root, films, how, better)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert Copies(store).sweep(films) == 1
    (item,) = store.trash
    assert item.size == len(b"drawn by hand") and not list(films.glob(".*"))


# ---- what is there


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_has_no_hash_and_is_not_waited_for(films, make):
    make(films / "x")
    assert look(films, films / "x").hash == ""


def test_links_are_known_by_the_object_they_name(store, films, poster):
    for name, target in (("ours", store.path(poster)), ("theirs", Path("/etc/passwd")), ("gone", films / "nowhere")):
        (films / name).symlink_to(target)
    assert [look(films, films / name).hash for name in ("ours", "theirs", "gone")] == [poster, "", ""]
    assert Copies(store).is_right(look(films, films / "ours"), poster)
    moved = Path("/elsewhere", *store.path(poster).parts[-4:])
    (films / "moved").symlink_to(moved)
    seen = look(films, films / "moved")
    assert seen.hash == poster and not Copies(store).is_right(seen, poster)


def test_a_file_in_the_place_of_a_folder_is_nothing_to_be_seen(films):
    (films / "a").touch()
    assert look(films, films / "a" / "b") is None


@pytest.mark.parametrize("how", ["gone", "corrupt", "corrupt unseen"])
def test_the_last_copy_of_an_object_is_given_back(store, films, poster, how):
    copies, final = Copies(store), films / "poster.jpg"
    publish(copies, poster, final, "copy")
    path = store.path(poster)
    path.unlink() if how == "gone" else spoil(path, unseen=how == "corrupt unseen")
    assert not copies.is_kept(poster, read=True)
    copies.rescue(look(films, final), final)
    assert copies.is_kept(poster, read=True) and store.read(poster, verify=True) == b"a poster"
