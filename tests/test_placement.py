"The names of objects: healing, refusing, and the order of calls that makes a name durable."

import os
import shutil

import pytest
from damage import overwrite, quarantined
from on_disk import staged, tree
from recording import Recorder, calls

from cjm_media_storage.files import Disk
from cjm_media_storage.storage import ContentStore, CorruptObject, NoSpace, SourceChanged, UnsafePath, hash_bytes


def test_the_order_of_a_durable_put(tmp_path):
    with ContentStore(tmp_path / "store", disk=Recorder()) as store:
        calls.clear()
        commit = store._index.commit
        store._index.commit = lambda *args, **options: calls.append(("commit", ())) or commit(*args, **options)
        final = store.put(b"a poster").path

    order = [name for name, _ in calls if name in ("write", "sync_file", "rename_new", "commit")]
    assert order == ["write", "sync_file", "rename_new", "commit"]
    linked = calls.index(next(call for call in calls if call[0] == "rename_new"))
    committed = calls.index(("commit", ()))
    staged, target = calls[linked][1]
    assert target == final
    assert calls.index(("sync_file", (staged,))) < linked < calls.index(("sync_folder", (final.parent,))) < committed
    synced = [args[0] for name, args in calls[linked:committed] if name == "sync_folder"]
    assert synced == [final.parent, *final.parents[1:3], store.root]


def made(*names):
    "The calls of these names, with their paths"
    return [(name, *(args[:2] if name != "sync_file" else args[:1])) for name, args in calls if name in names]


def test_folders_are_not_synced_before_the_name_is_there(tmp_path):
    with ContentStore(tmp_path / "store", disk=Recorder()) as store:
        store.put(b"the first makes what there is once")
        calls.clear()
        final = store.put(b"a poster", namespace="actors").path
    order = [
        call for call in made("sync_folder", "rename_new") if ".store" not in call[1].parts or call[2:] == (final,)
    ]
    assert [name for name, *_ in order] == ["rename_new", *["sync_folder"] * 4]


def test_what_is_restored_is_durable_under_its_old_name(tmp_path):
    with ContentStore(tmp_path / "store", disk=Recorder()) as store:
        path = store.put(b"a poster").path
        store.delete(hash_bytes(b"a poster"))
        shutil.rmtree(store.root / "assets")
        path.parent.mkdir(parents=True)  # by somebody who has not synced them
        calls.clear()
        store.trash.restore(hash_bytes(b"a poster"))
    file, (_, place, final), *folders = made("sync_file", "link", "sync_folder")[:6]
    assert (file, final) == (("sync_file", place), path)
    assert folders == [("sync_folder", folder) for folder in (*path.parents[:3], store.root)]


def test_without_links_what_is_restored_leaves_the_trash(tmp_path):
    with ContentStore(tmp_path / "store", disk=Disk(hardlink=False)) as store:
        path = store.put(b"a poster").path
        store.delete(hash_bytes(b"a poster"))
        store.trash.restore(hash_bytes(b"a poster"))
        assert (path.read_bytes(), tree(store)) == (b"a poster", [path.relative_to(store.root).as_posix()])
        assert not [kept for kept in store.trash.folder.rglob("*") if kept.is_file()]


def test_what_need_not_be_durable_is_not_synced(tmp_path):
    with ContentStore(tmp_path / "store", disk=Recorder()) as store:
        store.put(b"the first makes what there is once")
        calls.clear()
        assert store.put(b"a poster", durability="none").created
    assert made("sync_file", "sync_folder") == []


@pytest.mark.parametrize("durability", ["full", "none"])
def test_what_was_there_already_is_synced_where_it_is_to_be_durable(tmp_path, durability):
    with ContentStore(tmp_path / "store", disk=Recorder()) as store:
        path = store.put(b"a poster", durability="none").path
        store._index.database.execute("DELETE FROM objects")
        calls.clear()
        assert store.put(b"a poster", durability=durability).created
    assert (("sync_file", path) in made("sync_file")) is (durability == "full")


def test_wrong_bytes_are_kept_for_certain_before_others_take_their_name(tmp_path):
    with ContentStore(tmp_path / "store", disk=Recorder()) as store:
        path = store.put(b"a poster").path
        overwrite(path, b"A POSTER")
        calls.clear()
        store.put(b"a poster")
        (kept,) = (store.root / ".store" / "quarantine").iterdir()
    order = made("link", "rename", "sync_folder")
    assert order[order.index(("link", path, kept)) + 1] == ("sync_folder", kept.parent)
    assert order[order.index(("link", path, kept)) + 2][::2] == ("rename", path)


def test_without_links_wrong_bytes_are_kept_for_certain_too(tmp_path):
    with ContentStore(tmp_path / "store", disk=Recorder(hardlink=False)) as store:
        path = store.put(b"a poster").path
        overwrite(path, b"A POSTER")
        calls.clear()
        store.put(b"a poster")
        (kept,) = (store.root / ".store" / "quarantine").iterdir()
    order = made("rename", "rename_new", "sync_folder")
    assert order[order.index(("rename", path, kept)) + 1] == ("sync_folder", kept.parent)
    assert order[order.index(("rename", path, kept)) + 2][::2] == ("rename_new", path)


def test_what_is_quarantined_is_so_for_certain(tmp_path):
    with ContentStore(tmp_path / "store", disk=Recorder()) as store:
        path = store.put(b"a poster").path
        calls.clear()
        kept = store.parts.objects.quarantine(path)
        assert made("rename", "sync_folder")[-3:] == [
            ("rename", path, kept),
            ("sync_folder", kept.parent),
            ("sync_folder", path.parent),
        ]
        assert (kept.read_bytes(), path.exists()) == (b"a poster", False)
        with pytest.raises(FileNotFoundError):
            store.parts.objects.quarantine(path)


def test_fault_11_nothing_is_quarantined_from_behind_a_link(store, tmp_path):
    path = store.put(b"a poster").path
    path.parent.rename(tmp_path / "outside")
    path.parent.symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafePath):
        store.parts.objects.quarantine(path)
    assert path.read_bytes() == b"a poster"


def by_another(source):
    "The file is another one, of the same size and time"
    stat = source.stat()
    newer = source.with_name("newer")
    newer.write_bytes(b"A POSTER")
    os.utime(newer, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    newer.replace(source)


def by_a_link(source):
    "The name is a link to the file, which has another name by now"
    source.rename(source.with_name("moved"))
    source.symlink_to("moved")


def edited(source):
    "The file has other bytes"
    source.write_bytes(b"A POSTER")
    os.utime(source, ns=(7, 7))


@pytest.mark.parametrize("change", [by_another, by_a_link, edited])
def test_fault_12_what_is_linked_is_the_file_that_was_hashed(store, tmp_path, monkeypatch, change):
    source, free_name = tmp_path / "poster.jpg", store.parts.staging.free_name
    source.write_bytes(b"a poster")

    def changing():
        change(source)
        return free_name()

    monkeypatch.setattr(store.parts.staging, "free_name", changing)
    with pytest.raises(SourceChanged):
        store.put(source, move=True)
    assert (len(store), tree(store), staged(store), source.exists()) == (0, [], [], True)


def test_a_folder_that_another_thread_made_is_not_taken_for_durable(tmp_path):
    contents = {hash_bytes(b"%d" % n)[7:]: b"%d" % n for n in range(1000)}
    first, second = next([a, b] for a in contents for b in contents if a != b and a[:2] == b[:2] and a[:4] != b[:4])
    with ContentStore(tmp_path / "store", disk=Recorder()) as store:
        (store.root / "assets" / first[:2] / first[2:4]).mkdir(parents=True)  # and has not synced it

        def synced(digest):
            calls.clear()
            store.put(contents[digest])
            folders = [args[0].relative_to(store.root).as_posix() for name, args in calls if name == "sync_folder"]
            return [folder for folder in folders if not folder.startswith(".store")]

        shard = f"assets/{first[:2]}/{first[2:4]}"
        assert synced(first) == [shard, f"assets/{first[:2]}", "assets", "."]
        assert synced(second) == [f"assets/{second[:2]}/{second[2:4]}", f"assets/{first[:2]}"]
        other = next(digest for digest in contents if digest[:2] != first[:2])
        assert synced(other) == [f"assets/{other[:2]}/{other[2:4]}", f"assets/{other[:2]}", "assets"]
        store._index.database.execute("UPDATE objects SET digest = ? WHERE digest = ?", (first[:4] + "0" * 60, second))
        (store.root / shard / f"{first}").unlink()
        assert synced(first) == [shard]


@pytest.mark.parametrize("disk", [Disk(), Disk(hardlink=False)], ids=["links", "no links"])
@pytest.mark.parametrize("wrong", [b"A POSTER", b"", b"a longer poster"])
def test_fault_30_putting_heals_and_keeps_the_wrong_bytes(tmp_path, caplog, disk, wrong):
    with ContentStore(tmp_path / "store", disk=disk) as store:
        path = store.put(b"a poster").path
        overwrite(path, wrong)
        with pytest.raises(CorruptObject):
            store.open(hash_bytes(b"a poster"), verify=True)
        assert not store.put(b"a poster").created
        assert store.read(hash_bytes(b"a poster"), verify=True) == b"a poster"
        assert quarantined(store) == [wrong]
        assert path.stat().st_mode & 0o777 == 0o444
    assert "quarantine" in caplog.text


def test_fault_30_wrong_bytes_that_the_index_does_not_know(store):
    path = store.put(b"a poster").path
    store._index.database.execute("DELETE FROM objects")
    overwrite(path, b"A POSTER")
    assert store.put(b"a poster").created
    assert (path.read_bytes(), quarantined(store)) == (b"a poster", [b"A POSTER"])


def test_a_file_that_a_crash_left_is_adopted(store):
    path = store.put(b"a poster").path
    store._index.database.execute("DELETE FROM objects")
    inode = path.stat().st_ino
    result = store.put(b"a poster")
    assert (result.created, path.stat().st_ino, quarantined(store)) == (True, inode, [])


def test_a_folder_in_the_place_of_an_object_is_quarantined(store):
    path = store.put(b"a poster").path
    path.unlink()
    path.mkdir()
    (path / "thumbnail").write_bytes(b"somebody put it here")
    store.put(b"a poster")
    assert store.read(hash_bytes(b"a poster")) == b"a poster"
    assert [p.name for p in (store.root / ".store" / "quarantine").glob("*/*")] == ["thumbnail"]


def test_fault_11_a_new_object_does_not_follow_such_a_link(store, tmp_path):
    path = store.put(b"a poster").path
    store._index.database.execute("DELETE FROM objects")
    outside = tmp_path / "outside"
    path.parent.rename(outside)
    path.parent.symlink_to(outside)
    with pytest.raises(UnsafePath):
        store.put(b"a poster")


def test_a_second_namespace_is_linked_or_copied(tmp_path):
    for disk, mode, same in ((Disk(), "hardlink", True), (Disk(reflink=False, hardlink=False), "copy", False)):
        with ContentStore(tmp_path / mode, disk=disk) as store:
            first, second = store.put(b"a poster"), store.put(b"a poster", namespace="actors")
            assert (second.created, second.link_mode) == (True, mode)
            assert os.path.samefile(first.path, second.path) is same
            assert len(tree(store)) == 2
            first.path.unlink()
            assert store.read(first.hash) == b"a poster"


class DiesInQuarantine(Disk):
    "A disk whose program sees wrong bytes, lets `meanwhile` happen, and ends once it has touched their name"

    def link(self, source, target):
        self.interrupt(super().link, source, target)

    def rename(self, source, target):
        self.interrupt(super().rename, source, target)

    def interrupt(self, call, source, target):
        if "quarantine" in str(target):
            meanwhile.pop()()
        call(source, target)
        if "quarantine" in str(target):
            raise KeyboardInterrupt


meanwhile = []


def test_fault_30_healing_never_takes_away_what_another_program_healed(store):
    path = store.put(b"a poster").path
    store._index.database.execute("DELETE FROM objects")
    overwrite(path, b"A POSTER")
    meanwhile.append(lambda: store.put(b"a poster"))
    with ContentStore(store.root, disk=DiesInQuarantine()) as other, pytest.raises(KeyboardInterrupt):
        other.put(b"a poster")
    assert store.read(hash_bytes(b"a poster"), verify=True) == b"a poster"
    assert b"A POSTER" in quarantined(store)


def test_fault_11_no_folder_is_made_behind_a_link_that_leads_out(store, tmp_path):
    shard = store.put(b"a poster").path.parent
    store._index.database.execute("DELETE FROM objects")
    shutil.rmtree(shard.parent)
    outside = tmp_path / "outside"
    outside.mkdir()
    shard.parent.symlink_to(outside)
    with pytest.raises(UnsafePath):
        store.put(b"a poster")
    assert list(outside.iterdir()) == []


def test_fault_11_folders_that_many_share_are_looked_at_before_one_is_made_in_them(store, tmp_path):
    path = store.put(b"a poster").path
    shutil.rmtree(path.parents[1])
    (tmp_path / "outside").mkdir()
    path.parents[1].symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafePath):
        store.parts.objects.make_way(str(path), set())
    assert list((tmp_path / "outside").iterdir()) == []


def test_fault_11_a_folder_that_came_since_it_was_looked_for_is_looked_at(store, tmp_path, monkeypatch):
    path, make = store.put(b"a poster").path, Disk.make_one
    shutil.rmtree(path.parents[1])
    (tmp_path / "outside").mkdir()

    def late(disk, *given, **options):
        path.parents[1].symlink_to(tmp_path / "outside")
        return make(disk, *given, **options)

    monkeypatch.setattr(Disk, "make_one", late)
    with pytest.raises(UnsafePath):
        store.parts.objects.make_way(str(path), set())


def test_a_folder_is_made_without_a_look_where_the_one_above_was_looked_at(store, monkeypatch):
    path = store.put(b"a poster").path
    seen = {str(folder) for folder in path.parents[1:3]}
    path.unlink()
    path.parent.rmdir()
    monkeypatch.setattr("cjm_media_storage.placement.inside", None)
    assert store.parts.objects.make_way(str(path), seen) == [str(path.parents[1])]
    assert str(path.parent) in seen and path.parent.is_dir()


def test_fault_11_a_folder_that_somebody_else_made_is_looked_at_whatever_is_known_of_the_one_above(store, tmp_path):
    path = store.put(b"a poster").path
    seen = {str(folder) for folder in (*path.parents[1:3], store.root)}
    path.parent.rename(tmp_path / "outside")
    path.parent.symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafePath):
        store.parts.objects.make_way(str(path), seen)
    assert str(path.parent) not in seen


class Vanishing(Disk):
    "A disk on which wrong bytes are gone when they are to be kept"

    def rename(self, source, target):
        if "quarantine" in str(target):
            os.unlink(source)
        super().rename(source, target)


def test_wrong_bytes_that_somebody_took_away_leave_room_for_the_right_ones(tmp_path):
    with ContentStore(tmp_path / "store", disk=Vanishing(hardlink=False)) as store:
        path = store.put(b"a poster").path
        overwrite(path, b"A POSTER")
        assert not store.put(b"a poster").created
        assert (path.read_bytes(), quarantined(store)) == (b"a poster", [])


def test_without_links_a_durable_object_is_not_replaced_by_one_that_was_not_synced(tmp_path):
    "Two who put the same bytes both find no object; one is durable, and done, when the other names its file"
    durable = []

    class Late(Disk):
        def _late(self, target):
            if target.endswith(".jpg") and not durable:
                durable.append(store.put(b"a poster", extension="jpg").path.stat())

        def rename(self, source, target):
            self._late(target)
            super().rename(source, target)

        def rename_new(self, source, target):
            self._late(target)
            super().rename_new(source, target)

    late = Late(hardlink=False)
    with ContentStore(tmp_path, disk=Disk(hardlink=False)) as store, ContentStore(tmp_path, disk=late) as other:
        result = other.put(b"a poster", extension="jpg", durability="none")
        assert os.path.samestat(result.path.stat(), durable[0])


def test_bytes_that_cannot_be_placed_stay_where_they_were(store, monkeypatch):
    "As those of an object that is brought back from the trash, to a disk that is full"
    item = store.put(b"a poster") and store.delete(hash_bytes(b"a poster"))[0]
    really = store.parts.disk.link

    def full(path, target):
        raise NoSpace(os.fspath(target))

    monkeypatch.setattr(store.parts.disk, "link", full)
    with pytest.raises(NoSpace):
        store.trash.restore(item.hash)
    monkeypatch.setattr(store.parts.disk, "link", really)
    store.trash.restore(item.hash)
    assert store.read(item.hash) == b"a poster"
