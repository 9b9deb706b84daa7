"""Bulk work on executors: threads, spawned processes and a Dask cluster do what one process does; a worker or a program
that is killed costs nothing but time."""

import importlib.util
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import pytest
from damage import damage, fill, lose_rows

from cjm_media_storage import collecting, executors, verifying
from cjm_media_storage.collecting import gc
from cjm_media_storage.executors import Lent, in_executor, pieces, shards
from cjm_media_storage.storage import (
    ExecutorFailed,
    InvalidHash,
    MediaAnalysisStorage,
    ObjectNotFound,
    StoreUnavailable,
    hash_bytes,
    hash_files,
)
from cjm_media_storage.verifying import verify


@pytest.fixture(params=["threads", "processes"])
def executor(request):
    "Executors of the standard library, with two workers"
    if request.param == "threads":
        with ThreadPoolExecutor(2) as executor:
            yield executor
        return
    with ProcessPoolExecutor(2, mp_context=SPAWN) as executor:
        yield executor


pytestmark = pytest.mark.usefixtures("tracker")
SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 60  # Seconds until a thread that waits is a failure


class Counting(Executor):
    "Runs a task when it is waited for, and counts how many wait"

    def __init__(self):
        self.waiting = self.most = 0

    def submit(self, function, *args):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return Waited(self, partial(function, *args))


class Waited(Future):
    def __init__(self, executor, function):
        super().__init__()
        self.executor, self.function = executor, function

    def result(self, timeout=None):
        self.executor.waiting -= 1
        return self.function()


def divide(number):
    return 1 // number


def end_process(number):
    os.kill(os.getpid(), signal.SIGKILL)


def path_of(lent, task):
    with lent.here() as store:
        return os.getpid(), id(store), store.root


# ---- the room itself


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_hash_is_in_one_shard(width):
    prefixes = shards(width)
    assert len(prefixes) == len(set(prefixes)) == 16**width and prefixes == sorted(prefixes)
    for number in range(50):
        digest = hash_bytes(b"%d" % number)[7:]
        assert [prefix for prefix in prefixes if digest.startswith(prefix)] == [digest[:width]]


@pytest.mark.parametrize("width", [0, 5, -1])
def test_a_width_that_makes_no_sense_is_refused(width):
    with pytest.raises(ValueError, match="1 to 4"):
        shards(width)


def test_pieces_are_many_or_large_and_a_single_item_may_be_larger():
    sizes = [5, 5, 1, 20, 1, 1, 1, 1, 1]
    assert list(pieces(sizes, int, many=3, large=10)) == [[5, 5], [1], [20], [1, 1, 1], [1, 1]]
    assert list(pieces([], int)) == []


def test_any_number_of_tasks_with_few_ahead():
    executor = Counting()
    results = in_executor(executor, str, itertools.count())
    assert list(itertools.islice(results, 1000)) == [str(number) for number in range(1000)]
    results.close()
    assert executor.most == executors.IN_FLIGHT


def test_few_bytes_are_ahead():
    executor = Counting()
    tasks = in_executor(executor, str, range(100), held=lambda task: executors.HELD // 3)
    assert len(list(tasks)) == 100 and executor.most == 4


def test_what_a_task_raises_is_raised_as_it_is(executor):
    results = in_executor(executor, divide, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_task_that_cannot_be_sent_is_told():
    with (
        ProcessPoolExecutor(1, mp_context=SPAWN) as processes,
        pytest.raises(ExecutorFailed, match="ProcessPoolExecutor lost a task"),
    ):
        list(in_executor(processes, lambda number: number, [1]))


def test_a_worker_that_is_killed_is_told_and_does_not_hang():
    with ProcessPoolExecutor(2, mp_context=SPAWN) as processes:
        with pytest.raises(ExecutorFailed, match="terminated abruptly") as told:
            list(in_executor(processes, end_process, range(1000)))
        with pytest.raises(ExecutorFailed):  # it is broken for good
            list(in_executor(processes, divide, [1]))
    assert told.value.__cause__ is not None and "run the same again" in str(told.value)


def test_an_executor_that_was_shut_down_or_lost_a_task_is_told():
    with ThreadPoolExecutor(1) as threads:
        pass
    with pytest.raises(ExecutorFailed, match="after shutdown"):
        list(in_executor(threads, str, [1]))
    with ThreadPoolExecutor(1) as threads:
        held = threading.Event()
        threads.submit(held.wait, PATIENCE)

        def tasks():
            yield 1
            threads.shutdown(wait=False, cancel_futures=True)
            held.set()

        with pytest.raises(ExecutorFailed, match="CancelledError") as told:
            next(in_executor(threads, str, tasks()))
    assert isinstance(told.value.__cause__, CancelledError)


def test_whoever_stops_early_leaves_nothing_that_runs():
    sent, begun, go, ended, futures = threading.Event(), threading.Event(), threading.Event(), [], []

    def tasks():
        yield from range(10)
        sent.set()
        yield from range(10, 100)

    def work(number):
        if number == 1:
            begun.set()
        assert (sent if number == 0 else go).wait(PATIENCE)
        ended.append(number)

    class Telling(ThreadPoolExecutor):
        "Lets go on what has begun, once all that has not is cancelled"

        def submit(self, *args):
            futures.append(future := super().submit(*args))
            future.add_done_callback(lambda _: all(each.cancelled() for each in futures[2:]) and go.set())
            return future

    with Telling(1) as threads:
        results = in_executor(threads, work, tasks())
        assert next(results) is None and begun.wait(PATIENCE)
        results.close()
        assert ended == [0, 1]


def test_a_store_is_itself_on_a_thread_and_opened_anew_in_a_process(store, executor):
    found = list(in_executor(executor, partial(path_of, Lent(store)), range(4)))
    assert {root for *_, root in found} == {store.root}
    if isinstance(executor, ThreadPoolExecutor):
        assert {(pid, number) for pid, number, _ in found} == {(os.getpid(), id(store))}
    else:
        assert os.getpid() not in {pid for pid, *_ in found}


def test_what_was_lent_can_be_passed_on_and_opens_nothing_on_arrival(store):
    passed = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(Lent(store)))))
    with passed.here() as opened:
        assert opened is not store and opened.id == store.id
    pickled = pickle.dumps(Lent(store))
    store.root.rename(store.root.with_name("elsewhere"))
    arrived = pickle.loads(pickled)
    with pytest.raises(StoreUnavailable), arrived.here():
        pass
    store.root.with_name("elsewhere").rename(store.root)


# ---- hashing


def test_files_are_hashed_as_by_this_process(executor, here):
    for number in range(30):
        (here / f"{number}.bin").write_bytes(b"%d" % number * number)
    paths = [f"{number}.bin" for number in range(30)] + [here / "gone.jpg", "\0", here / "3.bin"]
    found, expected = list(hash_files(iter(paths), executor=executor)), list(hash_files(paths))
    assert [(each.path, each.hash, type(each.error)) for each in found] == [
        (each.path, each.hash, type(each.error)) for each in expected
    ]
    assert found[0].hash == hash_bytes(b"") and [each.path for each in found] == paths
    with pytest.raises(ValueError):
        hash_files(paths, "sha000", executor=executor)


# ---- verifying


def seen(report):
    return (
        report.level,
        report.checked,
        report.bytes,
        sorted(map(str, report.problems)),
        report.complete,
        report.unavailable,
        report.skipped,
    )


def wreck(store):
    "All that can be wrong with a store"
    results = fill(store, 60)
    store.put(b"a portrait", namespace="actors")
    damage(results[0].path, b"objecx 0")
    results[1].path.unlink()
    lose_rows(store, *results[2:5])
    digest = results[6].hash[7:]
    results[5].path.with_name(".DS_Store").write_bytes(b"x")
    for folder in (results[5].path.parents[1], results[5].path.parents[2], store.root):
        (folder / "Thumbs.db").write_bytes(b"x")
        (folder / digest).write_bytes(b"x")
    (results[7].path.with_name(digest)).write_bytes(b"in the wrong folder")
    free = next(prefix for prefix in shards(2) if not (store.root / "assets" / prefix).exists())
    (store.root / "assets" / free).write_bytes(b"a file in the place of a folder")
    (store.root / "lost+found").mkdir()
    (store.root / ".store" / "staging" / "0-0-0").mkdir()
    return results


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("level", ["presence", "hash"])
def test_an_executor_sees_all_that_one_process_sees(store, level, width, monkeypatch):
    monkeypatch.setattr(verifying, "FEW", 100_000 if width == 1 else 0)
    wreck(store)
    expected = verify(store, level)
    assert len(expected.problems) == len(set(expected.problems)) > 12
    with ThreadPoolExecutor(2) as threads:
        assert seen(verify(store, level, executor=threads)) == seen(expected)
        narrow = verify(store, level, namespace="assets", executor=threads)
    assert seen(narrow) == seen(verify(store, level, namespace="assets"))


def test_processes_see_all_that_one_process_sees(store, executor):
    results = wreck(store)
    assert seen(verify(store, executor=executor)) == seen(verify(store))
    named = [each.hash for each in results if each.hash in store]
    assert seen(verify(store, hashes=named, executor=executor)) == seen(verify(store, hashes=named))
    prefix = results[0].hash[7:8]
    assert seen(verify(store, prefix=prefix, executor=executor)) == seen(verify(store, prefix=prefix))


def test_the_shards_of_a_store_together_see_all_that_is_among_the_objects(store):
    "As a cluster does that runs one command for each"
    wreck(store)
    found = [verify(store, prefix=prefix) for prefix in shards(2)]
    among = [each for each in verify(store).problems if each.path.count("/") > 1 and each.kind != "leftover"]
    together = [problem for report in found for problem in report.problems]
    assert set(together) >= set(among) and len(together) == len(set(together))
    assert sum(report.checked for report in found) == len(store)


def test_what_was_found_right_is_written_down_by_the_workers(store, executor):
    fill(store, 20)
    verify(store, record=True, executor=executor)
    assert store._index.database.fetch("SELECT count(*) FROM objects WHERE checked_at > 0") == [(20,)]


def test_progress_is_told_and_may_stop_the_run(store):
    fill(store, 40)
    told = []
    with ThreadPoolExecutor(2) as threads:
        verify(store, executor=threads, progress=lambda *counts: told.append(counts))
        assert told[-1][0] == 40 and told == sorted(told) and len(told) == 16

        def stop(checked, read):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            verify(store, executor=threads, progress=stop)
    assert verify(store).ok


def test_bad_arguments_are_refused_before_anything_is_sent(store):
    with ThreadPoolExecutor(1) as threads:
        for options, error in [
            ({"seconds": 1.0}, ValueError),
            ({"bytes": 1}, ValueError),
            ({"prefix": "xy"}, InvalidHash),
            ({"hashes": [hash_bytes(b"never stored")]}, ObjectNotFound),
        ]:
            with pytest.raises(error):
                verify(store, executor=threads, **options)


def test_a_store_that_goes_away_is_unavailable_and_nothing_is_missing(store, executor):
    fill(store, 20)
    store.root.rename(store.root.with_name("elsewhere"))
    report = verify(store, executor=executor)
    assert report.unavailable and not report.complete and report.problems == ()
    store.root.with_name("elsewhere").rename(store.root)


def test_a_prefix_reads_its_own_rows_only_and_each_of_them_once(store, monkeypatch):
    "However many there are: the rows of 256 shards would otherwise be read 256 times"
    results = [store.put(b"%d" % number, namespace=name) for number in range(40) for name in ("assets", "actors")]
    plan = store._index.database.fetch("EXPLAIN QUERY PLAN " + SHARD, ("a3", "a3g", "a3", "", None, 10))
    assert "digest>" in plan[0][-1] and "B-TREE" not in str(plan)
    asked = []
    fetch = store._index.database.fetch
    monkeypatch.setattr(
        store._index.database, "fetch", lambda sql, parameters=(): asked.append(sql) or fetch(sql, parameters)
    )
    verify(store, prefix="a3")
    assert SHARD in asked and not [sql for sql in asked if "checked_at" in sql]
    found = list(store._index.within("", size=7))
    assert sorted((each.digest, each.namespace) for each in found) == sorted(
        (each.hash[7:], each.namespace) for each in results
    )
    for prefix in shards(1):
        expected = {each.hash[7:] for each in results if each.hash[7:].startswith(prefix)}
        assert {each.digest for each in store._index.within(prefix, "actors")} == expected


SHARD = (
    "SELECT objects.id, digest, namespace, objects.extension, size, mtime_ns, objects.created_at, used_at, boot,"
    " condemned_at, state FROM objects WHERE digest >= ? AND digest < ? AND (digest, namespace) > (?, ?)"
    " AND state = 'live' AND namespace = coalesce(?, namespace) ORDER BY digest, namespace LIMIT ?"
)


# ---- collecting


def judged(report):
    orphans = sorted((each.hash, each.entry.namespace, each.kept) for each in report.orphans)
    return report.objects, orphans, set(report.untracked), set(report.leftovers), report.refusal, len(report.taken)


def test_garbage_is_found_by_an_executor_as_by_this_process(store, executor, tmp_path):
    results = fill(store, 30)
    for number, result in enumerate(results[:20]):
        store.add_reference(result.hash, f"movie:{number}")
    named, analysed, pinned = (result.hash for result in results[20:23])
    lose_rows(store, results[29])
    with MediaAnalysisStorage(tmp_path / "results.db") as analyses, store.pin(pinned):
        analyses.save("/films/a.mkv", analysed, hash_bytes(b"{}"))
        options = {"grace": 0, "roots": [analyses, [named]]}
        expected = gc(store, **options)
        assert judged(gc(store, executor=executor, **options)) == judged(expected)
        assert len(expected.condemned) == 6 and len(expected.orphans) == 9
        taken = gc(store, executor=executor, dry_run=False, **options)
        assert {each.hash for each in taken.taken} == {each.hash for each in expected.condemned}
    assert len(store) == 23 and gc(store, grace=0, roots=[[named, analysed, pinned]]).condemned == ()


def test_what_is_referenced_after_a_worker_looked_stays(store, monkeypatch):
    "The last question is asked by this process, under the lock"
    results = fill(store, 10)
    orphans = collecting._orphans_part

    def look_and_refer(*args):
        found = orphans(*args)
        for each in found:
            store.add_reference(each.hash, "movie:603")
        return found

    monkeypatch.setattr(collecting, "_orphans_part", look_and_refer)
    with ThreadPoolExecutor(2) as threads:
        report = gc(store, executor=threads, grace=0, dry_run=False, force=True)
    assert len(report.condemned) == 10 and report.taken == () and len(store) == len(results)


def test_gc_takes_a_prefix(store):
    results = fill(store, 60)
    prefix = results[0].hash[7:8]
    inside = {each.hash for each in results if each.hash[7:].startswith(prefix)}
    report = gc(store, prefix=prefix, grace=0, dry_run=False, force=True)
    assert {each.hash for each in report.taken} == inside and report.objects == len(inside)
    assert {each.hash for each in store} == {each.hash for each in results} - inside
    with pytest.raises(InvalidHash):
        gc(store, prefix="xy")


# ---- killed


VERIFYING = """
import multiprocessing, os, signal, sys
from concurrent.futures import ProcessPoolExecutor
from cjm_media_storage.storage import ContentStore
from cjm_media_storage.verifying import verify

if __name__ == "__main__":
    os.setpgrp()

    def tell(checked, read):
        print(checked, flush=True)
        sys.stdin.readline()

    with ContentStore(sys.argv[1]) as store:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
            print(*verify(store, record=True, executor=processes, progress=tell).counts.items())
"""


def test_a_program_that_is_killed_in_the_middle_of_a_sharded_verify(store, program):
    "What its workers wrote down stays, the store is as it was, and running it again finds the damage"
    results = fill(store, 60)
    damage(results[0].path, b"objecx 0")
    process = program.start(VERIFYING, store.root)
    for _ in range(3):
        assert process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
    os.killpg(process.pid, signal.SIGKILL)  # its workers, too, as whatever runs jobs does: they would wait for ever
    process.communicate()
    (marked,) = store._index.database.fetch("SELECT count(*) FROM objects WHERE checked_at > 0")[0]
    assert 0 < marked < 60
    assert program.end(program.start(VERIFYING, store.root), "\n" * 20).splitlines()[-1] == "('corrupt', 1)"
    assert store._index.database.fetch("SELECT count(*) FROM objects WHERE checked_at > 0") == [(59,)]


# ---- Dask


DASK = """
import os, sys
from dask.distributed import Client, LocalCluster
from cjm_media_storage.collecting import gc
from cjm_media_storage.storage import ContentStore, hash_files
from cjm_media_storage.verifying import verify

if __name__ == "__main__":
    options = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(local_directory=sys.argv[2], memory_limit=0, **options) as cluster,
        Client(cluster) as client,
        ContentStore(sys.argv[1]) as store,
    ):
        executor = client.get_executor()
        pids = client.run(os.getpid).values()
        outcomes = list(store.put_many((b"content %d" % n for n in range(3000)), executor=executor))
        print(sum(each.result.created for each in outcomes))
        report = verify(store, executor=executor)
        print(report.checked, report.ok)
        print(len(gc(store, grace=0, executor=executor).condemned))
        paths = [each.result.path for each in outcomes[:50]]
        print([each.hash for each in hash_files(paths, executor=executor)] == [o.result.hash for o in outcomes[:50]])
        executor.shutdown()
    print(*pids)
"""


@pytest.mark.dask
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="dask[distributed] is not installed")
def test_a_dask_cluster_does_it_all(store, program, tmp_path):
    "In a program of its own: what a cluster leaves in a process is its own affair, but no process outlives it"
    *told, pids = program(DASK, store.root, tmp_path / "dask").splitlines()
    assert told == ["3000", "3000 True", "3000", "True"]
    assert len(store) == 3000 and verify(store).ok
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids.split())
