"An output appears whole, replaces only what was seen, and what the dead left goes, or tells what it was."

import io
import os
from pathlib import Path

import pytest
import recording
from on_disk import memory_disk
from recording import Recorder

from cjm_media_storage.errors import Conflict, NoOutput, NoSpace
from cjm_media_storage.files import Disk
from cjm_media_storage.hashing import hash_bytes
from cjm_media_storage.inputs import hashed
from cjm_media_storage.outputs import NOTE, Stage, hidden_folder, sweep


@pytest.fixture
def film(tmp_path):
    return tmp_path / "films" / "film.mp4"


def put(film, content, seen=None, disk=None):
    "Make an output"
    with Stage(film, "job", disk or Disk()) as stage:
        stage.path.write_bytes(content)
        hash = stage.finish()
        stage.note(hash=hash)
        stage.place(seen)
        return hash


def dead(film, content=b"half a film", job="dead", **note):
    "What a killed maker leaves"
    stage = Stage(film, job)
    stage.path.write_bytes(content)
    if note:
        stage.note(**note)
    stage.lock.close()
    return stage.folder


def left(film):
    return sorted(path.name for path in film.parent.rglob("*"))


def test_fault_22_bytes_are_synced_before_they_get_their_name_and_the_name_after(film):
    film.parent.mkdir()
    recording.calls.clear()
    put(film, b"a film", disk=Recorder())
    calls = [
        (name, Path(args[0]).name)
        for name, args in recording.calls
        if name in ("sync_file", "sync_folder", "rename_new")
    ]
    hidden = hidden_folder(film).name
    assert calls == [
        ("sync_file", "film.mp4"),
        ("sync_file", NOTE),
        ("sync_folder", "job"),
        ("sync_folder", hidden),
        ("rename_new", "film.mp4"),
        ("sync_folder", "films"),
    ]
    assert left(film) == ["film.mp4"]


@pytest.mark.parametrize(
    "disk", [Disk(), Disk(rename_flags=False), Disk(flock=False)], ids=["all", "plain", "no locks"]
)
def test_a_file_is_replaced_only_if_it_is_what_was_seen(film, disk):
    put(film, b"one", disk=disk)
    seen = hashed(film, None)
    film.write_bytes(b"edited")
    for wrong in (None, seen):
        with pytest.raises(Conflict, match=r"film\.mp4"):
            put(film, b"two", wrong, disk)
        assert film.read_bytes() == b"edited" and left(film) == ["film.mp4"]
    put(film, b"two", hashed(film, None), disk)
    assert film.read_bytes() == b"two" and left(film) == ["film.mp4"]
    seen = hashed(film, None)
    film.unlink()
    put(film, b"three", seen, disk)  # what may be replaced may be gone
    assert film.read_bytes() == b"three"


def test_a_link_is_never_replaced(film, tmp_path):
    put(film, b"one")
    (tmp_path / "elsewhere").write_bytes(b"one")
    film.unlink()
    film.symlink_to(tmp_path / "elsewhere")
    for seen in (None, hashed(film, None)):
        with pytest.raises(Conflict):
            put(film, b"two", seen)
    assert film.is_symlink() and film.read_bytes() == b"one"


def test_what_was_not_written_is_no_output(film, tmp_path):
    for write in (lambda path: None, Path.mkdir, lambda path: path.symlink_to(tmp_path), os.mkfifo):
        with pytest.raises(NoOutput, match=r"film\.mp4"), Stage(film, "job") as stage:
            write(stage.path)
            stage.finish()
        assert left(film) == []


def test_whatever_else_was_written_beside_it_goes(film):
    with Stage(film, "job") as stage:
        (stage.folder / "pass.log").write_bytes(b"first pass")
        (stage.folder / "parts" / "1").mkdir(parents=True)
        stage.path.write_bytes(b"a film")
        stage.finish()
        stage.place(None)
    assert left(film) == ["film.mp4"]


@pytest.mark.parametrize(
    "name", ["a" * 255, "é" * 127, os.fsdecode(b"caf\xe9.mp4"), "a\nb", "-rf", ".hidden", "x.part"]
)
def test_any_name(tmp_path, name):
    put(tmp_path / name, b"a film")
    dead(tmp_path / name)
    sweep(tmp_path / name, lambda folder, note: True)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("disk", [Disk(), Disk(reflink=False)], ids=["shared", "copied"])
@pytest.mark.parametrize("size", [0, 1, 600_000])
def test_a_copy_has_the_bytes_that_it_should(film, disk, size):
    content = os.urandom(size)
    with Stage(film, "job", disk) as stage, io.BytesIO(content) as source:
        assert not stage.fill(source, hash_bytes(b"others"))
        assert not stage.path.exists()
        source.seek(0)
        assert stage.fill(source, hash_bytes(content))
        assert stage.path.read_bytes() == content


# ---- the dead


def test_only_what_the_dead_left_is_swept_and_told(film):
    told = []
    dead(film, hash="h", job="noted")
    dead(film, job="plain")
    (hidden_folder(film) / "empty").mkdir()
    (hidden_folder(film) / "notes").mkdir()
    (hidden_folder(film) / "notes" / "of a user").touch()
    with Stage(film, "alive") as alive:
        sweep(film, lambda folder, note: told.append((folder.name, note)) or True)
        assert sorted(os.listdir(hidden_folder(film))) == ["alive", "notes"]
        alive.path.write_bytes(b"a film")
        alive.place(None)
    assert sorted(told) == [("noted", {"hash": "h"}), ("plain", {})]
    assert film.read_bytes() == b"a film"


def test_what_may_not_go_stays(film):
    folder = dead(film, hash="h")
    sweep(film, lambda folder, note: False)
    assert sorted(os.listdir(folder)) == [NOTE, "film.mp4"]
    sweep(film, lambda folder, note: True)
    assert left(film) == []


def test_a_torn_note_was_none(film):
    folder = dead(film, hash="h")
    os.truncate(folder / NOTE, 5)
    told = []
    sweep(film, lambda folder, note: told.append(note) or True)
    assert told == [{}]


def test_fault_57_where_everybody_is_granted_a_lock_nothing_is_swept(film, monkeypatch):
    folder = dead(film)
    with monkeypatch.context() as m:
        m.setattr("cjm_media_storage.locks.LockFile.flock", lambda self, how: None)
        sweep(film, lambda folder, note: True)
    sweep(film, lambda folder, note: True, Disk(flock=False))
    assert folder.exists()


def test_an_error_of_whoever_settles_frees_the_lock(film):
    dead(film)

    def fail(folder, note):
        raise NoSpace("results.db")

    with pytest.raises(NoSpace):
        sweep(film, fail)
    sweep(film, lambda folder, note: True)
    assert left(film) == []


def test_a_users_file_under_the_name_of_the_hidden_folder(film):
    film.parent.mkdir()
    hidden_folder(film).write_bytes(b"half a download")
    sweep(film, lambda folder, note: True)
    with pytest.raises(Conflict, match=r"\.film\.mp4\.part"):
        put(film, b"a film")
    assert hidden_folder(film).read_bytes() == b"half a download"


def test_fault_20_full_disk(tmp_path):
    with memory_disk(tmp_path / "small", "256k") as small:
        (small / "film.mp4").write_bytes(b"an old film")
        seen = hashed(small / "film.mp4", None)
        with pytest.raises(NoSpace), Stage(small / "film.mp4", "job") as stage, io.BytesIO(bytes(1 << 20)) as source:
            stage.fill(source, hash_bytes(bytes(1 << 20)))
        assert os.listdir(small) == ["film.mp4"] and (small / "film.mp4").read_bytes() == b"an old film"
        put(small / "film.mp4", b"a new film", seen)
