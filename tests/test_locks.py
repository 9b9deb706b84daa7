"Locks between threads and processes: fair, and over with their holder."

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from on_disk import held_by, unprivileged
from together import in_threads

from cjm_media_storage import files
from cjm_media_storage.files import Disk
from cjm_media_storage.locks import FileLock
from cjm_media_storage.storage import NoSpace, ReadOnlyStore, StoreBusy, hash_bytes

OS_CALLS = {"write", "pwrite", "writev", "link", "symlink", "rename", "replace", "unlink", "remove", "rmdir", "mkdir"}
OS_CALLS |= {"makedirs", "chmod", "fchmod", "chown", "truncate", "ftruncate", "fsync", "fdatasync", "sync", "utime"}
OS_CALLS |= {"copy_file_range", "sendfile", "rmtree", "move", "copyfile", "copy"}
PATH_CALLS = {"write_bytes", "write_text", "unlink", "rmdir", "mkdir", "touch", "chmod", "symlink_to", "hardlink_to"}


def test_shared_locks_of_threads_do_not_undo_each_other(tmp_path):
    lock = FileLock(tmp_path / "lock")
    with lock.shared():
        with ThreadPoolExecutor(4) as pool:

            def hold(_):
                with lock.shared():
                    return True

            assert all(pool.map(hold, range(20)))
        with pytest.raises(StoreBusy), FileLock(tmp_path / "lock").exclusive():
            pass
    with FileLock(tmp_path / "lock").exclusive():
        pass


def test_a_lock_of_another_process_counts(tmp_path, program):
    other = program.start(
        """
        import sys
        from cjm_media_storage.locks import FileLock
        from pathlib import Path
        with FileLock(Path(sys.argv[1])).exclusive():
            print("held", flush=True)
            sys.stdin.readline()
        """,
        tmp_path / "lock",
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(StoreBusy), FileLock(tmp_path / "lock").exclusive():
        pass
    program.end(other, "done\n")
    with FileLock(tmp_path / "lock").exclusive():
        pass


def test_who_waits_to_be_alone_is_let_in(tmp_path):
    "Eight threads of this process, and more of another, hold the lock without a gap"
    lock, begun, alone, done = FileLock(tmp_path / "lock"), threading.Barrier(9), [], threading.Event()

    def come_and_go():
        with lock.shared():
            begun.wait()
        while not done.is_set():
            with lock.shared():
                hash_bytes(bytes(1 << 19))  # long enough for another thread to join
                assert not alone

    with ThreadPoolExecutor(8) as pool:
        threads = [pool.submit(come_and_go) for _ in range(8)]
        begun.wait()
        with FileLock(tmp_path / "lock").exclusive(timeout=20):
            alone.append(True)
            alone.clear()
            done.set()
        for thread in threads:
            thread.result()


def test_who_waits_to_be_alone_is_let_in_by_other_processes(tmp_path, program):
    text = """
        import sys, threading
        from pathlib import Path
        from cjm_media_storage.locks import FileLock
        from cjm_media_storage.hashing import hash_bytes
        lock, done = FileLock(Path(sys.argv[1])), threading.Event()

        def come_and_go():
            while not done.is_set():
                with lock.shared():
                    hash_bytes(bytes(1 << 19))

        threads = [threading.Thread(target=come_and_go) for _ in range(4)]
        for thread in threads:
            thread.start()
        print("begun", flush=True)
        sys.stdin.readline()
        done.set()
        for thread in threads:
            thread.join()
        """
    others = [program.start(text, tmp_path / "lock") for _ in range(2)]
    assert [other.stdout.readline() for other in others] == ["begun\n"] * 2
    for _ in range(3):
        with FileLock(tmp_path / "lock").exclusive(timeout=20):
            pass
    for other in others:
        program.end(other, "done\n")


def test_waiting_to_be_alone_has_an_end(tmp_path):
    lock = FileLock(tmp_path / "lock")
    with lock.shared(), pytest.raises(StoreBusy, match="lock is held"), lock.exclusive(timeout=0.02):
        pass
    with lock.exclusive(), pytest.raises(StoreBusy), lock.exclusive(timeout=0.02):
        pass
    with lock.exclusive(timeout=0.02):
        pass


def waits_at_the_turnstile(path):
    "Does somebody wait to hold the lock alone?"
    fd = os.open(f"{path}.turn", os.O_RDONLY)
    try:
        files.fcntl.flock(fd, files.fcntl.LOCK_SH | files.fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_a_holder_joins_again_while_another_waits_to_be_alone(tmp_path):
    lock, entered = FileLock(tmp_path / "lock"), []

    def be_alone():
        with lock.exclusive(timeout=60):
            entered.append("alone")

    def join():
        with lock.shared():
            entered.append("joined")

    with lock.shared():
        waiting = threading.Thread(target=be_alone)
        waiting.start()
        while not waits_at_the_turnstile(lock.path):
            pass
        with lock.shared(), lock.shared():
            newcomer = threading.Thread(target=join)
            newcomer.start()
        assert entered == []
    waiting.join()
    newcomer.join()
    assert sorted(entered) == ["alone", "joined"]


def test_a_lock_outlives_closing_and_is_opened_again(tmp_path):
    lock = FileLock(tmp_path / "lock")
    with lock.shared():
        lock.close()
        with lock.shared(), pytest.raises(StoreBusy), lock.exclusive():
            pass
        with pytest.raises(StoreBusy), lock.exclusive():
            pass
    assert len(held_by(lock.path)) == 2
    lock.close()
    lock.close()
    assert held_by(lock.path) == []
    with lock.exclusive():
        pass


def test_a_lock_closes_whatever_still_refers_to_it(tmp_path):
    "An error does, whose traceback leads to the block in which it was raised"
    lock = FileLock(tmp_path / "lock")
    with pytest.raises(RuntimeError) as error, lock.shared():
        raise RuntimeError
    assert len(held_by(tmp_path)) == 2
    with lock.shared():
        lock.close()
        assert len(held_by(tmp_path)) == 2
    assert held_by(tmp_path) == [] and error.tb


def test_a_lock_may_be_closed_while_threads_use_it(tmp_path):
    lock, done, free = FileLock(tmp_path / "lock"), threading.Event(), []

    def close():
        while not done.is_set():
            lock.close()

    closer = threading.Thread(target=close)
    closer.start()

    def hold(n):
        for _ in range(300):
            with lock.shared():
                try:
                    with FileLock(tmp_path / "lock").exclusive():
                        free.append(n)
                except StoreBusy:
                    pass

    in_threads(4, hold)
    done.set()
    closer.join()
    assert free == []


def test_a_forgotten_lock_closes(tmp_path):
    lock = FileLock(tmp_path / "lock")
    with lock.shared():
        assert len(held_by(tmp_path)) == 2
    del lock
    assert held_by(tmp_path) == []


@pytest.mark.parametrize("end", ["leaves", "exits", "stays"])
def test_fault_54_a_lock_that_is_held_across_a_fork_is_the_parents(tmp_path, program, end):
    "Whatever the child does, the parent holds on; and once the parent leaves, no copy in the child holds the lock"
    program(
        """
        import os, sys
        from pathlib import Path
        from cjm_media_storage.errors import StoreBusy
        from cjm_media_storage.locks import FileLock
        from on_disk import held_by

        def is_free(path):
            try:
                with FileLock(path).exclusive():
                    return True
            except StoreBusy:
                return False

        path, end = Path(sys.argv[1]), sys.argv[2]
        lock, other = FileLock(path), FileLock(path.with_name("other"))
        (to_parent, tell_parent), (to_child, tell_child) = os.pipe(), os.pipe()
        with lock.shared():
            with other.exclusive():
                child = os.fork() == 0
                if child:
                    assert held_by(path.parent) == []
                    with lock.shared():
                        assert not is_free(path)
                    lock.close()
                    if end == "exits":
                        sys.exit()
                    if end == "stays":
                        os.write(tell_parent, b"x")
                        os.read(to_child, 1)
                        os._exit(0)
                elif end == "stays":
                    os.read(to_parent, 1)
                else:
                    assert os.wait()[1] == 0
                if not child:
                    assert not is_free(path) and not is_free(other.path)
            if not child:
                assert not is_free(path) and is_free(other.path)
        if not child:
            assert is_free(path)
            if end == "stays":
                os.write(tell_child, b"x")
                assert os.wait()[1] == 0
        """,
        tmp_path / "lock",
        end,
    )


def test_a_lock_that_was_left_is_free_whoever_has_a_copy_of_its_descriptor(tmp_path):
    "As a program has that is just being started"
    lock = FileLock(tmp_path / "lock")
    with lock.exclusive():
        held = [fd for fd in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{fd}").resolve() == lock.path]
        copy = os.dup(int(held[0]))
    with lock.exclusive():
        pass
    os.close(copy)


def test_fault_54_a_child_does_not_wait_for_threads_that_its_parent_had(tmp_path, program):
    program(
        """
        import os, sys, threading, warnings
        from pathlib import Path
        from cjm_media_storage.locks import FileLock
        # Forking with threads is what is tested here, and what Python 3.12 warns of.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        lock, done = FileLock(Path(sys.argv[1])), threading.Event()

        def come_and_go():
            while not done.is_set():
                with lock.shared():
                    pass

        threads = [threading.Thread(target=come_and_go) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            if os.fork() == 0:
                for _ in range(20):
                    with lock.shared():
                        pass
                os._exit(0)
        assert [os.wait()[1] for _ in range(20)] == [0] * 20
        done.set()
        for thread in threads:
            thread.join()
        with lock.exclusive():
            pass
        """,
        tmp_path / "lock",
    )


def test_fault_41_a_lock_in_a_read_only_place(open_folder):
    path = open_folder / "lock"
    with FileLock(path).shared():
        path.chmod(0o444)
        open_folder.chmod(0o555)
        with unprivileged(), FileLock(path).shared(), pytest.raises(StoreBusy), FileLock(path).exclusive(timeout=0.01):
            pass
    with unprivileged():
        with FileLock(path).exclusive():
            assert FileLock(path).works()
        with FileLock(open_folder / "none").shared(), FileLock(open_folder / "none").exclusive(timeout=0.01):
            assert not FileLock(open_folder / "none").works()
    assert sorted(os.listdir(open_folder)) == ["lock", "lock.turn"]


def test_a_lock_that_may_not_even_be_read_is_no_missing_one(open_folder):
    (open_folder / "lock").touch(0o600)
    with unprivileged(), pytest.raises(ReadOnlyStore), FileLock(open_folder / "lock").shared():
        pass


def test_fault_57_a_lock_that_everybody_gets_is_found_out(tmp_path, monkeypatch):
    assert FileLock(tmp_path / "lock").works()
    monkeypatch.setattr(files.fcntl, "flock", lambda fd, how: None)
    assert not FileLock(tmp_path / "lock").works()
    assert not FileLock(tmp_path / "lock", Disk(flock=False)).works()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_file_that_was_removed_meanwhile_is_no_lock(tmp_path, monkeypatch, replaced):
    "As when a folder is swept, and made again by whoever it belongs to"
    lock = FileLock(tmp_path / "lock")
    take = lock._take

    def swept(file, until):
        take(file, until)
        (tmp_path / "lock").unlink()
        if replaced:
            (tmp_path / "lock").touch()

    with monkeypatch.context() as patched:
        patched.setattr(lock, "_take", swept)
        with pytest.raises(StoreBusy), lock.exclusive():
            raise AssertionError("another may hold the lock that is there now")
    with lock.exclusive():
        pass


def test_nobody_sweeps_the_staging_folder_of_one_who_lives(tmp_path, program):
    text = """
    import os, sys
    from pathlib import Path
    from cjm_media_storage.staging import Staging
    for _ in range(150):
        staging = Staging(Path(sys.argv[1]))
        with staging.file() as (path, _):
            Staging(Path(sys.argv[1])).close()  # sweeps what the dead left
            assert os.path.exists(path), "swept while it was used"
        staging.close()
    """
    for each in [program.start(text, tmp_path / "staging") for _ in range(6)]:
        program.end(each)


def test_a_lock_file_that_cannot_be_opened_to_all_is_closed(tmp_path):
    class Full(Disk):
        def chmod(self, path, mode):
            raise NoSpace(str(path))

    with pytest.raises(NoSpace), FileLock(tmp_path / "lock", Full()).shared():
        pass
    assert held_by(tmp_path) == []
