"Threads that take tasks in order, also when the main thread has ended, and are gone at the end of the block."

import threading
import weakref

import pytest

from cjm_media_storage.workers import in_parallel, meanwhile, workers


def test_tasks_begin_in_order():
    done = []
    with workers(1, "one") as one:
        futures = [one.submit(done.append, n) for n in range(100)]
        assert [future.result() for future in futures] == [None] * 100
    assert done == list(range(100))


def test_what_has_not_begun_is_cancelled_and_the_rest_is_waited_for():
    began, go, done = threading.Event(), threading.Event(), []

    def slow():
        began.set()
        go.wait()
        done.append("slow")

    with pytest.raises(KeyError), workers(1, "one") as one:
        first, second = one.submit(slow), one.submit(done.append, "never")
        began.wait()
        threading.Timer(0.05, go.set).start()
        raise KeyError
    assert (done, first.done(), second.cancelled()) == (["slow"], True, True)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("one-")]


def test_workers_keep_nothing_alive():
    class Large:
        pass

    with workers(1, "one") as one:
        large = Large()
        seen = weakref.ref(large)
        one.submit(id, large).result()
        del large
        one.submit(int).result()
        assert seen() is None


def test_they_work_when_the_main_thread_has_ended(program):
    text = """
        import threading
        from concurrent.futures import thread
        from cjm_media_storage.workers import workers

        def work():
            threading.main_thread().join()
            with workers(2, "late") as late:
                print(late.submit(pow, 3, 2).result())

        threading.Thread(target=work).start()
    """
    assert program(text) == "9"


def test_the_first_error_of_many_threads_is_raised():
    def work(number):
        if number == 70:
            raise ValueError(number)
        return number

    seen = []
    with pytest.raises(ValueError, match="70"):
        for number in in_parallel(work, range(10_000), threads=4):
            seen.append(number)
    assert seen == list(range(64))  # in order, up to the piece that failed


# ---- beside other work


def test_what_is_pulled_meanwhile_is_complete_when_the_block_ends():
    for _ in range(100):  # also when its thread has not begun by then
        with meanwhile(iter(range(3))) as pulled:
            pass
        assert pulled.result() == [0, 1, 2]


def test_what_is_pulled_meanwhile_stops_when_the_block_fails():
    began, last = threading.Event(), []

    def endless():
        while True:
            began.set()
            last[:] = [threading.current_thread()]
            yield 1

    with pytest.raises(KeyError), meanwhile(endless()):
        began.wait()
        raise KeyError
    assert not last[0].is_alive()


def test_an_error_of_what_is_pulled_meanwhile_is_kept_for_who_asks():
    def broken():
        yield 1
        raise ValueError

    with meanwhile(broken()) as pulled:
        pass
    with pytest.raises(ValueError):
        pulled.result()
