"Healing: from whatever has the right bytes, and wrong ones are kept."

import io
import os
import shutil

import pytest
from damage import damage, hows, quarantined, repaired
from on_disk import staged

from cjm_media_storage.files import Disk
from cjm_media_storage.repairing import repair
from cjm_media_storage.storage import ContentStore, MissingObject, NoSpace, hash_bytes
from cjm_media_storage.verifying import verify

POSTER = b"a poster"
HASH = hash_bytes(POSTER)


def logged(store):
    return [action for (action,) in store._index.database.fetch("SELECT action FROM log ORDER BY id")]


@pytest.mark.parametrize("kind", ["corrupt", "missing"])
@pytest.mark.parametrize("disk", [Disk(), Disk(hardlink=False)], ids=["links", "no links"])
@pytest.mark.parametrize("donor", ["namespace", "publication", "folder", "store", "bytes", "path", "stream"])
def test_healing_from_all_that_has_the_bytes(tmp_path, kind, disk, donor):
    with ContentStore(tmp_path / "store", disk=disk) as store:
        result = store.put(POSTER, extension="jpg", source="https://example.org/1", owner="movie:1")
        sources, references = store.sources(HASH), store.references(HASH)
        options, copy = {}, tmp_path / "copy"
        copy.write_bytes(POSTER)
        if donor == "namespace":
            (store.root / "actors").mkdir()
            other = store.put(POSTER, namespace="actors").path
            if other.samefile(result.path):
                other.unlink()
                shutil.copy(copy, other)
                other.chmod(0o444)
        elif donor == "publication":
            sql = "INSERT INTO publications (object_id, path, link_mode, created_at) VALUES (1, ?, 'copy', 0)"
            store._index.database.execute(sql, (str(copy),))
        elif donor == "folder":
            options["donors"] = [tmp_path / "nowhere", tmp_path]
        elif donor == "store":
            with ContentStore(tmp_path / "other") as other:
                other.put(POSTER)
            options["donors"] = [tmp_path / "other"]
        else:
            content = {"bytes": lambda: POSTER, "path": lambda: str(copy), "stream": lambda: io.BytesIO(POSTER)}
            options["fetch"] = lambda source: content[donor]()
        damage(result.path) if kind == "corrupt" else result.path.unlink()

        done = repaired(store, **options)
        assert done.ok and done.found.counts == {kind: 1}
        assert store.read(HASH, verify=True) == result.path.read_bytes() == POSTER
        assert result.path.stat().st_mode & 0o777 == 0o444
        assert quarantined(store) == ([b"a qoster"] if kind == "corrupt" else [])
        assert (store.sources(HASH), store.references(HASH)) == (sources, references)
        assert verify(store).ok and copy.read_bytes() == POSTER
        assert logged(store) == [f"repair: {hows(done)[0]}"]


def test_damage_that_namespaces_share_is_not_healed_from_one_another(store, tmp_path):
    asset, actor = store.put(POSTER), store.put(POSTER, namespace="actors")
    assert actor.path.samefile(asset.path)
    damage(asset.path)
    assert hows(repair(store)) == ["quarantine"] * 2
    (tmp_path / "copy").write_bytes(POSTER)
    done = repaired(store, donors=[tmp_path])
    assert done.ok and verify(store).ok
    assert asset.path.read_bytes() == actor.path.read_bytes() == POSTER


@pytest.mark.parametrize("kind", ["corrupt", "missing"])
def test_what_nobody_can_heal_stays_listed_and_is_said(store, kind):
    result = store.put(POSTER, source="https://example.org/1", owner="movie:1")
    damage(result.path) if kind == "corrupt" else result.path.unlink()
    done = repaired(store)
    assert not done.ok and "1 recorded sources could be asked" in str(done)
    with pytest.raises(MissingObject):
        store.read(HASH)
    assert quarantined(store) == ([b"a qoster"] if kind == "corrupt" else [])
    assert [reference.owner for reference in store.references(HASH)] == ["movie:1"]
    assert verify(store).counts == {"missing": 1}
    store.put(POSTER)
    assert verify(store).ok


def test_sources_are_asked_newest_first_and_a_bad_one_is_passed_over(store):
    asked = []
    for name in ("right", "wrong", "broken", "nothing"):
        store.put(POSTER, source=f"https://example.org/{name}")
    store.path(HASH).unlink()

    def fetch(source):
        name = source.location.rpartition("/")[2]
        asked.append(name)
        if name == "broken":
            raise ConnectionError("no route")
        return {"right": POSTER, "wrong": b"not found", "nothing": None}[name]

    assert hows(repair(store, fetch=fetch)) == ["fetch"] and asked == []
    done = repair(store, fetch=fetch, dry_run=False)
    assert done.ok and asked == ["nothing", "broken", "wrong", "right"]
    assert store.read(HASH) == POSTER

    store.path(HASH).unlink()
    last = repair(store, fetch=lambda source: None if "right" in source.location else fetch(source), dry_run=False)
    (outcome,) = last.outcomes
    assert outcome.state == "failed"
    for words in ("no route", hash_bytes(b"not found"), "nothing", "the object is missing"):
        assert words in outcome.note


def test_fault_31_a_folder_or_link_in_the_place_of_an_object_makes_room(store, tmp_path):
    folder, link = store.put(POSTER).path, store.put(b"a still").path
    for path in (folder, link):
        path.unlink()
    folder.mkdir()
    (folder / "thumbnail").write_bytes(b"somebody put it here")
    (tmp_path / "still").write_bytes(b"a still")
    (tmp_path / "poster").write_bytes(POSTER)
    link.symlink_to(tmp_path / "still")
    assert repaired(store, donors=[tmp_path]).ok
    assert (folder.read_bytes(), link.read_bytes(), link.is_symlink()) == (POSTER, b"a still", False)
    kept = list((store.root / ".store" / "quarantine").iterdir())
    assert sorted((path.is_dir(), path.is_symlink()) for path in kept) == [(False, True), (True, False)]
    assert verify(store).ok


def test_a_folder_that_is_a_link_is_left_to_people(store, tmp_path):
    path = store.put(POSTER).path
    path.parent.rename(tmp_path / "outside")
    path.parent.symlink_to(tmp_path / "outside")
    done = repaired(store, donors=[tmp_path / "outside"])
    assert hows(done) == ["leave", "leave"] and not done.ok
    assert path.parent.is_symlink() and os.listdir(tmp_path / "outside") == [HASH[7:]]


def test_right_bytes_that_were_put_in_the_last_moment_are_not_quarantined(store, monkeypatch):
    entry_path = store.put(POSTER).path
    damage(entry_path)
    report = verify(store)
    alone = store.parts.alone

    def heal_first(parts):
        store._putting.heal(POSTER, store._index.entries(HASH[7:])[0])
        return alone()

    monkeypatch.setattr(type(store.parts), "alone", heal_first)
    repair(store, report=report, dry_run=False)
    assert entry_path.read_bytes() == POSTER and quarantined(store) == [b"a qoster"]


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path, monkeypatch):
    class Full(Disk):
        def write(self, fd, data):
            raise NoSpace("staged file")

    with ContentStore(tmp_path / "store") as store:
        path = store.put(POSTER, source="https://example.org/1").path
        damage(path)
    with ContentStore(tmp_path / "store", disk=Full()) as store:
        with pytest.raises(NoSpace):
            repair(store, fetch=lambda source: POSTER, dry_run=False)
        assert path.read_bytes() == b"a qoster" and staged(store) == []
    with ContentStore(tmp_path / "store") as store:
        assert repair(store, fetch=lambda source: POSTER, dry_run=False).ok
