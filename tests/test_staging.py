"The folder where bytes wait: whose it is, and who may sweep it."

import os
import shutil
import stat
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cjm_media_storage.files import Disk
from cjm_media_storage.ingest import SMALL
from cjm_media_storage.locks import FileLock
from cjm_media_storage.maintenance import gc
from cjm_media_storage.staging import Staging, boot_id
from cjm_media_storage.storage import ContentStore, NoSpace, StoreBusy, hash_bytes


def test_staging_of_a_living_process_is_left_alone(store):
    with store.parts.staging.file() as (path, _):
        ContentStore(store.root).close()
        assert os.path.exists(path)


def test_fault_57_without_locks_that_work_nothing_is_swept(store, tmp_path):
    left = store.root / ".store" / "staging" / "boot-1-2"
    left.mkdir(parents=True)
    (left / "0").write_bytes(b"somebody may still be writing this")
    with ContentStore(store.root, disk=Disk(flock=False)) as without:
        assert not without.locks_work
        assert without.put(b"a poster").created
    assert (left / "0").exists()
    ContentStore(store.root).close()
    assert not left.exists()


def test_a_staging_folder_that_is_swept_before_it_is_locked(store, monkeypatch):
    "Whoever opened the store at that moment made a put fail"

    def make_and_sweep(path, mode):
        mkdir(path, mode)
        if Path(path).parent.name == "staging" and not swept:
            swept.append(path)
            os.rmdir(path)

    swept, mkdir = [], os.mkdir
    monkeypatch.setattr(os, "mkdir", make_and_sweep)
    assert store.put(b"a poster").created
    assert len(swept) == 1


@pytest.mark.parametrize("flock", [True, False])
@pytest.mark.parametrize("emptied", ["staging/*", "staging", "staging/*/*"])
def test_a_store_goes_on_when_somebody_empties_its_staging(tmp_path, emptied, flock):
    "Taking it for what a dead process left; what was on its way meanwhile was never acknowledged"

    def empty():
        for path in (store.root / ".store").glob(emptied):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    with ContentStore(tmp_path / "store", disk=Disk(flock=flock)) as store:
        store.put(b"a poster")
        with store.pin(hash_bytes(b"a poster")):
            own = store.parts.staging.claim()
            for content in (b"small", [b"a stream"], bytes(2 * SMALL)):
                empty()
                assert store.put(content).created
            empty()
            assert [outcome.result.created for outcome in store.put_many([b"one", b"two"])] == [True, True]
            assert store.parts.staging.claim() == own
            with ContentStore(store.root, disk=Disk(flock=flock)) as other:
                condemned = {orphan.hash for orphan in gc(other, grace=0, force=True).condemned}
                assert len(condemned) == 5 and hash_bytes(b"a poster") not in condemned
        assert own.exists() and list(own.iterdir()) == ([own / "lock"] if flock else [])
    assert not own.exists()


def test_fault_40_no_folder_is_made_where_the_store_was(tmp_path):
    with ContentStore(tmp_path / "store") as store:
        store.put(b"a poster")
        store.root.rename(tmp_path / "elsewhere")
        (error,) = store.parts.staging.write_all([b"another"], 0o444)
        assert isinstance(error, FileNotFoundError)
        assert not store.root.exists()
        (tmp_path / "elsewhere").rename(store.root)
        assert store.put(b"another").created


def test_threads_that_begin_together_share_one_locked_staging_folder(tmp_path, monkeypatch):
    "The second thread gave up the first one's lock, and whoever opened the store swept what both had staged"

    class Slow(Disk):
        def make_folder(self, path, mode=0o755, sync=True):
            made = super().make_folder(path, mode, sync)
            if Path(path).parent.name == "staging" and not second:
                second.append(pool.submit(store.put, b"another"))
                wait(second, timeout=0.1)  # it would get this far, too, if it did not wait for us
            return made

    second, opened, lock = [], [], FileLock.exclusive

    def counted(self):
        opened.append(self.path)
        return lock(self)

    with ContentStore(tmp_path / "store", disk=Slow()) as store, ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(FileLock, "exclusive", counted)
        assert store.put(b"a poster").hash != second[0].result().hash
    assert len(opened) == 1


def test_a_forked_child_takes_a_folder_of_its_own(tmp_path, program):
    text = """
    import os, sys
    from pathlib import Path
    from cjm_media_storage.staging import Staging
    staging = Staging(Path(sys.argv[1]))
    mine = staging.claim()
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0 and mine.exists()
    else:
        other = staging.claim()
        staging.close()
        os._exit(other == mine or other.exists())
    """
    program.end(program.start(text, tmp_path / "staging"))


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def staging(tmp_path):
    made = Staging(tmp_path / "new" / "staging")
    yield made
    made.close()


def test_what_waits_is_for_nobody_else_to_read(staging):
    own = staging.claim()
    assert (mode_of(staging.folder), mode_of(own)) == (0o755, 0o700)
    with staging.new() as (path, fd):
        assert mode_of(path) == 0o600 and os.write(fd, b"a poster") == 8
    assert Path(path).read_bytes() == b"a poster"
    with staging.file() as (path, _):
        assert mode_of(path) == 0o600
    assert not os.path.exists(path)
    with pytest.raises(ZeroDivisionError), staging.new() as (path, _):
        raise ZeroDivisionError
    assert not os.path.exists(path)


def test_a_file_gets_its_mode_whatever_the_umask(staging):
    before = os.umask(0o777)
    try:
        ((path, found),) = staging.write_all([b"a poster"], 0o444)
    finally:
        os.umask(before)
    assert mode_of(path) == 0o444 and found.st_size == 8


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    "And stops nothing that can"

    class Full(Disk):
        def write(self, fd, data):
            if data == b"a poster":
                raise NoSpace("staged file")
            super().write(fd, data)

    with closing(Staging(tmp_path / "staging", Full())) as staging:
        error, (path, stat) = staging.write_all([b"a poster", b"a still"], 0o444)
        assert isinstance(error, NoSpace) and stat.st_size == 7
        assert sorted(os.listdir(staging.claim())) == [os.path.basename(path), "lock"]


def test_whoever_gives_its_folder_up_keeps_nothing_open(staging):
    before = os.listdir("/proc/self/fd")
    first = Path(staging.free_name()).parent
    shutil.rmtree(first)
    assert staging.claim() == first
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    staging.close()
    staging.close()
    assert os.listdir("/proc/self/fd") == before and not first.exists()
    assert staging.claim().exists() and staging.free_name().endswith("/" + "0" * 64)


def test_fault_11_a_link_among_the_folders_is_not_followed_by_whoever_sweeps(tmp_path):
    folder, elsewhere = tmp_path / "staging", tmp_path / "elsewhere"
    for path in (folder / "a-boot-1", folder / "z-boot-1", elsewhere):
        path.mkdir(parents=True)
        (path / "0").write_bytes(b"left")
    (folder / "m-boot-1").symlink_to(elsewhere)
    Staging(folder, sweep=False)
    assert len(os.listdir(folder)) == 3
    Staging(folder)
    assert os.listdir(folder) == ["m-boot-1"] and (elsewhere / "0").exists()


@pytest.mark.parametrize("when", ["before", "held", "after"])
def test_a_folder_that_is_swept_while_it_is_locked_is_made_again(staging, monkeypatch, when):
    really, tried = FileLock.exclusive, []

    @contextmanager
    def exclusive(self):
        tried.append(self.path)
        if len(tried) == 1 and when == "held":
            raise StoreBusy(str(self.path))
        if len(tried) == 1 and when == "before":
            shutil.rmtree(self.path.parent)
        with really(self):
            if len(tried) == 1:
                shutil.rmtree(self.path.parent)
            yield

    monkeypatch.setattr(FileLock, "exclusive", exclusive)
    before = os.listdir("/proc/self/fd")
    own = staging.claim()
    assert tried == [own / "lock"] * 2 and os.listdir(own) == ["lock"]
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1


def test_a_forked_child_that_closes_leaves_the_folder_of_its_parent(staging):
    own = staging.claim()
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
    else:
        staging.close()
        os._exit(not own.exists())
    assert own.exists()


def test_each_start_of_the_machine_has_a_name(monkeypatch):
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    monkeypatch.setattr(Path, "read_text", lambda self: (_ for _ in ()).throw(FileNotFoundError))
    name, now = boot_id.__wrapped__(), time.time() - time.monotonic()
    assert name.startswith("started-") and abs(float(name.removeprefix("started-")) - now) < 200
