"Files moved within a disk and between two, whatever happens meanwhile."

import os

import pytest
from on_disk import memory_disk

from cjm_media_storage.carrying import give_back, rename_all, take_away
from cjm_media_storage.errors import SourceChanged
from cjm_media_storage.files import DISK, Disk


@pytest.fixture(params=["one disk", "two disks"])
def place(request, tmp_path):
    "A free name, on this disk or another"
    if request.param == "one disk":
        yield tmp_path / "taken.jpg"
    else:
        with memory_disk(tmp_path / "other_disk", "4m") as folder:
            yield folder / "taken.jpg"


@pytest.mark.parametrize("disk", [Disk(), Disk(hardlink=False)], ids=["links", "no links"])
def test_there_and_back_with_permissions_and_times(mine, place, disk):
    before = mine.stat()
    take_away(mine, place, disk)
    assert not mine.exists() and place.read_bytes() == b"my own poster"
    give_back(place, mine, disk)
    after = mine.stat()
    assert (mine.read_bytes(), after.st_mode, after.st_mtime) == (b"my own poster", before.st_mode, 1000)


def test_a_name_that_is_taken_stays_as_it_is(mine, place):
    take_away(mine, place, DISK)
    mine.write_bytes(b"another")
    with pytest.raises(FileExistsError):
        give_back(place, mine, DISK)
    assert (mine.read_bytes(), place.read_bytes()) == (b"another", b"my own poster")


class Saving(Disk):
    "A disk on which somebody saves a file just before another gets its name there"

    def rename_new(self, source, target):
        self.save()
        super().rename_new(source, target)

    def link(self, source, target):
        self.save()
        super().link(source, target)


def disk_that_saves(path):
    disk = Saving()
    object.__setattr__(disk, "save", lambda: path.write_bytes(b"my newer poster"))
    return disk


def test_a_name_that_is_taken_at_the_last_moment_stays_as_it_is(mine, place):
    take_away(mine, place, DISK)
    with pytest.raises(FileExistsError):
        give_back(place, mine, disk_that_saves(mine))
    assert (mine.read_bytes(), place.read_bytes()) == (b"my newer poster", b"my own poster")


def test_a_file_that_is_saved_while_it_is_copied_stays(mine, tmp_path):
    with memory_disk(tmp_path / "other_disk", "4m") as folder:
        with pytest.raises(SourceChanged):
            take_away(mine, folder / "taken.jpg", disk_that_saves(mine))
        assert (mine.read_bytes(), os.listdir(folder)) == (b"my newer poster", [])


def test_what_is_gone_already_stops_no_other(mine, tmp_path):
    rename_all([(tmp_path / "gone", tmp_path / "a"), (mine, tmp_path / "b")], DISK)
    assert sorted(os.listdir(tmp_path)) == ["b"]


def test_the_new_names_are_synced_before_the_old_folders(mine, tmp_path):
    class Telling(Disk):
        def sync_folder(self, folder):
            synced.append(folder.name)
            super().sync_folder(folder)

    synced = []
    (tmp_path / "new").mkdir()
    rename_all([(mine, tmp_path / "new" / "mine.jpg")], Telling())
    assert synced == ["new", tmp_path.name]
