"One at a time for each key, whoever asks from wherever; and nobody waits for the dead, or for himself."

import os
import signal
import threading

import pytest
from on_disk import unprivileged
from together import in_threads

from cjm_media_storage.errors import NestedCompute, StoreBusy
from cjm_media_storage.files import Disk
from cjm_media_storage.flights import Flights

HOLD = """
    import sys
    from cjm_media_storage.flights import Flights
    with Flights(sys.argv[1]).alone(sys.argv[2:], "film"):
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def holder(program):
    "Starts a program that holds keys until its input ends"

    def hold(path, *keys):
        process = program.start(HOLD, path, *keys)
        assert process.stdout.readline() == "held\n"
        return process

    return hold


def is_free(path, *keys, **options):
    "Can a storage of its own, as another process has, get the keys at once?"
    try:
        with Flights(str(path), **options).alone(keys, "film", timeout=0):
            return True
    except StoreBusy:
        return False


def test_a_key_is_held_by_one_process(path, holder, program):
    process = holder(path, "a", "b")
    assert [is_free(path, key) for key in "abc"] == [False, False, True]
    assert not is_free(path, "c", "b")
    program.end(process)
    assert is_free(path, "a", "b")
    assert [(file.name, file.stat().st_size) for file in path.parent.iterdir()] == [("results.db.lock", 0)]


def test_a_killed_holder_frees_the_others(path, holder):
    process = holder(path, "a")
    entered = threading.Event()

    def wait():
        with Flights(str(path)).alone(["a"], "film"):
            entered.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not entered.is_set()
    process.kill()
    process.communicate()
    waiter.join()
    assert entered.is_set()


def test_a_killed_holder_frees_the_others_though_its_children_live(path, program):
    process = program.start(
        """
        import os, sys
        from cjm_media_storage.flights import Flights
        with Flights(sys.argv[1]).alone(["a"], "film"):
            child = os.fork()
            if child:
                print(child, flush=True)
            sys.stdin.read()
        os._exit(0)
        """,
        path,
    )
    child = int(process.stdout.readline())
    assert not is_free(path, "a")
    process.kill()
    process.wait()
    try:
        os.kill(child, 0)  # it lives
        with Flights(str(path)).alone(["a"], "film", timeout=30):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_threads_of_one_storage_and_of_several(path):
    one, counts = Flights(str(path)), []

    def enter(n):
        with (one if n % 2 else Flights(str(path))).alone(["a"], "film"):
            counts.append(threading.active_count())
            assert len(counts) % 2
            counts.append(0)

    in_threads(8, enter)
    assert len(counts) == 16


def test_other_threads_do_not_see_a_file_that_is_closed_as_unlocked(path):
    "As POSIX locks do: closing any descriptor of the file would give them up"
    with Flights(str(path)).alone(["a"], "film"):
        os.close(os.open(f"{path}.lock", os.O_RDWR))
        assert is_free(path, "b") and not is_free_in_another_thread(path, "a")


def is_free_in_another_thread(path, *keys, **options):
    found = []
    thread = threading.Thread(target=lambda: found.append(is_free(path, *keys, **options)))
    thread.start()
    thread.join()
    return found[0]


def test_nobody_waits_for_two_things_at_once(path):
    "One takes a and b, the other b and a, again and again: they would wait for each other for ever"
    orders = [["a", "b"], ["b", "a"], ["b", "c", "a"], ["c", "b"]]

    def enter(n):
        for _ in range(100):
            with Flights(str(path)).alone(orders[n], "film", timeout=60):
                pass

    in_threads(4, enter)


def test_nobody_waits_for_two_things_at_once_between_processes(path, program):
    text = """
        import sys
        from cjm_media_storage.flights import Flights
        for _ in range(200):
            with Flights(sys.argv[1]).alone(sys.argv[2:], "film"):
                pass
    """
    for process in [program.start(text, path, *keys) for keys in ("abc", "bca", "cab")]:
        program.end(process)


def test_the_same_key_nested_is_an_error_and_others_are_fine(path):
    one, other = Flights(str(path)), Flights(str(path))
    with one.alone(["a"], "film"), one.alone(["b"], "sound"):
        for again in (one, other):
            with pytest.raises(NestedCompute, match="sound"), again.alone(["c", "b"], "sound"):
                pass
    assert is_free(path, "a", "b", "c")


def test_an_error_inside_frees_the_key(path):
    with pytest.raises(KeyError), Flights(str(path)).alone(["a"], "film"):
        raise KeyError
    assert is_free(path, "a")


def test_a_timeout_is_busy(path, holder, program):
    process = holder(path, "a")
    with pytest.raises(StoreBusy, match="film"), Flights(str(path)).alone(["a"], "film", timeout=0.05):
        pass
    program.end(process)


def test_memory_keeps_threads_apart_and_each_storage_for_itself():
    one, other = Flights(":memory:"), Flights(":memory:")
    with one.alone(["a"], "film"), other.alone(["a"], "film"):
        busy = []

        def look():
            with pytest.raises(StoreBusy), one.alone(["a"], "film", timeout=0):
                busy.append(False)
            busy.append(True)

        in_threads(2, lambda n: look())
        assert busy == [True, True]
    assert not os.path.exists(":memory:.lock")


def test_without_such_locks_threads_are_still_kept_apart(path):
    plain = Disk(range_locks=False)
    with Flights(str(path), plain).alone(["a"], "film"):
        assert not is_free_in_another_thread(path, "a", disk=plain)
        assert is_free_in_another_thread(path, "b", disk=plain)
    assert list(path.parent.iterdir()) == []


def test_a_lock_file_that_cannot_be_written_to(open_folder):
    path = open_folder / "results.db"
    for make in (lambda: None, (open_folder / "results.db.lock").touch):
        make()
        open_folder.chmod(0o555)
        with unprivileged(), Flights(str(path)).alone(["a"], "film"):
            pass
        open_folder.chmod(0o777)
