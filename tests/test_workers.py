"Threads that take tasks in order, also when the main thread has ended, and are gone at the end of the block."

import threading
import weakref

import pytest

from cjm_media_storage.workers import Turns, in_parallel, workers


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


def test_without_threads_whoever_gives_a_task_does_it():
    with workers(0, "none") as none:
        done, failed = none.submit(threading.get_ident), none.submit(int, "poster")
        assert done.result() == threading.get_ident()
        with pytest.raises(ValueError, match="poster"):
            failed.result()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("none-")]


def test_ctrl_c_in_a_task_without_threads_is_not_kept_for_later():
    def interrupted():
        raise KeyboardInterrupt

    with workers(0, "none") as none, pytest.raises(KeyboardInterrupt):
        none.submit(interrupted)


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


@pytest.mark.parametrize("helps", [True, False])
def test_the_caller_is_one_of_the_threads_unless_it_may_not_work(helps):
    "As where another language's runtime asks for the results, on a thread of its own"
    both = threading.Barrier(2, timeout=10)

    def work(number):
        both.wait()
        return threading.get_ident()

    found = set(in_parallel(work, range(10), threads=2, piece=1, helps=helps))
    assert len(found) == 2 and (threading.get_ident() in found) == helps


# ---- taking turns


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr("cjm_media_storage.workers.PATIENCE", 60.0)


@pytest.mark.parametrize("first, second", [("together", "alone"), ("alone", "together")])
def test_one_who_works_alone_and_those_who_work_together_wait_for_each_other(patient, first, second):
    turns, came, told = Turns(), threading.Event(), []

    def late():
        came.set()
        with getattr(turns, second)():
            told.append(second)

    with workers(1, "late") as made:
        with getattr(turns, first)():
            later = made.submit(late)
            came.wait()
            assert not later.done()
            told.append(first)
        later.result(timeout=10)
    assert told == [first, second]


def test_many_work_together(patient):
    turns, both = Turns(), threading.Barrier(2, timeout=10)

    def work():
        with turns.together():
            both.wait()

    with workers(2, "both") as made:
        for task in [made.submit(work), made.submit(work)]:
            task.result()


def test_who_comes_late_waits_for_one_who_waits_to_work_alone(patient):
    turns, told = Turns(), []
    with workers(1, "alone") as one, workers(1, "late") as made:
        with turns.together():
            alone = one.submit(_take, turns.alone, told, "alone")
            while not turns._alone:
                pass
            late = made.submit(_take, turns.together, told, "late")
            told.append("first")
        assert (alone.result(timeout=10), late.result(timeout=10)) == (None, None)
    assert told == ["first", "alone", "late"]


def _take(turn, told, name):
    with turn():
        told.append(name)


@pytest.mark.parametrize("first, second", [("together", "alone"), ("alone", "together")])
def test_a_turn_is_a_courtesy_that_nobody_depends_on(monkeypatch, first, second):
    monkeypatch.setattr("cjm_media_storage.workers.PATIENCE", 0.001)
    turns = Turns()
    with getattr(turns, first)(), getattr(turns, second)():
        pass
    monkeypatch.setattr("cjm_media_storage.workers.PATIENCE", 60.0)
    with turns.alone():  # all have left
        pass
    with turns.together():
        pass
