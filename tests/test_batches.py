"Many contents: pulled as needed, reported in order, raced, killed and stopped early."

import itertools
import os
import threading
import weakref
from io import BytesIO

import pytest
from memory import peak_of
from on_disk import staged, tree

from cjm_media_storage.batches import Batch
from cjm_media_storage.groups import Group
from cjm_media_storage.storage import BatchProgress, ContentStore, CorruptDatabase, PutItem, StoreClosed, hash_bytes

DURABILITIES = ["full", "batch", "none"]
PATIENCE = 30  # Seconds for a group to be stored, on a busy machine


def posters(count):
    return [b"poster %d" % n for n in range(count)]


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 11, 55])
def test_results_come_in_the_order_of_the_contents(store, small_groups, durability, count):
    for created in (True, False):
        outcomes = list(store.put_many(iter(posters(count)), durability=durability))
        assert [outcome.content for outcome in outcomes] == posters(count)
        assert [outcome.result.hash for outcome in outcomes] == [hash_bytes(content) for content in posters(count)]
        assert {outcome.result.created for outcome in outcomes} <= {created}
    assert (len(store), len(tree(store)), staged(store)) == (count, count, [])


@pytest.mark.parametrize("durability", DURABILITIES)
def test_results_as_they_are_finished(store, small_groups, durability):
    contents = [*posters(50), "gone.jpg"]
    outcomes = list(store.put_many(contents, durability=durability, ordered=False))
    assert sorted(str(outcome.content) for outcome in outcomes) == sorted(map(str, contents))
    assert sum(outcome.error is not None for outcome in outcomes) == 1


def test_a_failure_is_reported_at_once_where_the_order_does_not_matter(store, monkeypatch):
    monkeypatch.setattr("cjm_media_storage.batches.ITEMS_PER_TASK", 1)
    reported = threading.Event()

    def contents():
        yield "gone.jpg"
        for n in range(100):
            yield b"poster %d" % n
            if n > 20 and reported.is_set():
                return
        raise AssertionError("it was not reported before the group was full")

    for outcome in store.put_many(contents(), ordered=False):
        if outcome.error:
            reported.set()
    assert len(store) > 20


@pytest.mark.parametrize("options", [{}, {"ordered": True}, {"ordered": False}], ids=["usual", "ordered", "any order"])
def test_what_fails_early_is_reported_in_its_place_if_the_order_matters(store, options):
    read, go = threading.Event(), threading.Event()

    def slow():
        go.wait(PATIENCE)
        yield b"a film"

    def telling():
        read.set()
        go.wait(PATIENCE)
        yield b"a poster"

    def contents():
        yield slow()
        yield "gone.jpg"
        yield telling()  # the second thread has tried the file by then
        read.wait(PATIENCE)
        yield b"a portrait"
        go.set()

    batch = Batch(store.parts.putting, {}, durability="full", threads=2, **options)
    failed = [outcome.error is not None for outcome in batch.put(contents())]
    assert failed.index(True) == (1 if options.get("ordered", True) else 0)


# ---- bounds


@pytest.mark.parametrize("durability", DURABILITIES)
def test_contents_are_pulled_as_they_are_needed(store, small_groups, durability):
    pulled = []

    def endless():
        while True:
            pulled.append(1)
            yield b"poster %d" % len(pulled)

    outcomes = store.put_many(endless(), durability=durability, threads=2)
    assert pulled == []
    for count in range(1, 100):
        next(outcomes)
        assert len(pulled) <= count + 3 * 10
    outcomes.close()
    assert staged(store) == []


def test_memory_is_bounded_however_large_the_contents_are(store):
    def films(count):
        for n in range(count):
            yield iter([b"%d" % n, *[bytes(500_000)] * 3])  # a stream of 1.5 MB
            yield bytes([n]) * 700_000

    def put():
        assert all(outcome.result for outcome in store.put_many(films(100)))

    list(store.put_many(films(2)))
    assert peak_of(put, runs=1) < 100 << 20  # of 220 MB


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("wrap", [lambda stream: stream, PutItem])
def test_fault_50_few_streams_are_open_at_a_time(store, durability, wrap):
    "Each holds a descriptor until its outcome is taken, and many systems allow a program 1,024 of them"
    there, counts = weakref.WeakSet(), []

    def streams():
        for n in range(1000):
            stream = BytesIO(b"poster %d" % n)
            there.add(stream)
            counts.append(len(there))
            yield wrap(stream)
            del stream

    assert all(outcome.result.created for outcome in store.put_many(streams(), durability=durability))
    assert len(counts) == 1000 and 100 < max(counts) < 300


@pytest.fixture
def groups(monkeypatch):
    "All groups that were begun"
    begun = []

    class Watched(Group):
        def __init__(self, *args):
            super().__init__(*args)
            begun.append(self)

    monkeypatch.setattr("cjm_media_storage.batches.Group", Watched)
    return begun


def test_a_group_is_reported_while_the_next_is_slow_to_come(store, small_groups, groups):
    reported, seen = [], []

    def contents():
        yield from posters(20)
        assert groups[1].finished.exception(PATIENCE) is None
        yield from (b"a poster", b"a portrait")
        seen.append(len(reported))

    for outcome in store.put_many(contents()):
        reported.append(outcome)
    assert (seen, len(reported)) == ([20], 22)


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("kind", [bytes, BytesIO])
def test_slow_contents_do_not_wait_until_a_group_is_full(store, groups, monkeypatch, durability, kind):
    found, reported = [], []

    def contents():
        for n in range(5):
            yield kind(b"poster %d" % n)
            assert groups[n].finished.exception(PATIENCE) is None
            found.append((len(store), len(reported)))

    monkeypatch.setattr("cjm_media_storage.batches.SLOW", 0)
    for outcome in store.put_many(contents(), durability=durability):
        reported.append(outcome)
    assert found == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]


def test_slow_contents_come_together_while_others_are_stored(store, groups, monkeypatch):
    write, pulled = Group.store, threading.Event()

    def patient(self):
        assert pulled.wait(PATIENCE)
        write(self)

    def contents():
        yield from posters(10)
        pulled.set()

    monkeypatch.setattr("cjm_media_storage.batches.SLOW", 0)
    monkeypatch.setattr(Group, "store", patient)
    assert all(outcome.result for outcome in store.put_many(contents()))
    assert [len(group.jobs) for group in groups] == [1, 9]


def test_the_next_two_groups_are_received_while_one_is_stored(store, small_groups, monkeypatch):
    write, pulled, waited = Group.store, threading.Event(), []

    def patient(self):
        waited.append(pulled.wait(PATIENCE))
        write(self)

    def contents():
        yield from posters(20)
        pulled.set()
        yield b"of the third group"

    monkeypatch.setattr(Group, "store", patient)
    assert [outcome.error for outcome in store.put_many(contents())] == [None] * 21
    assert waited == [True, True, True]


def test_groups_are_stored_by_one_thread(store, small_groups, monkeypatch):
    write, ended, threads = Group.store, threading.Event(), []

    def patient(self):
        threads.append(threading.get_ident())
        ended.wait(PATIENCE)
        write(self)

    def contents():
        yield from posters(15)
        ended.set()

    monkeypatch.setattr(Group, "store", patient)
    assert len(list(store.put_many(contents()))) == 15
    assert (len(threads), len(set(threads))) == (2, 1)


def test_eight_wait_for_the_disk_where_each_content_is_put_by_itself(store):
    together = threading.Barrier(8, timeout=PATIENCE)

    def stream(n):
        together.wait()
        yield b"poster %d" % n

    assert [outcome.error for outcome in store.put_many(map(stream, range(8)), durability="full")] == [None] * 8


def test_the_own_thread_reads_where_one_is_asked_for(store, small_groups):
    threads = set()

    def stream(n):
        threads.add(threading.get_ident())
        yield b"poster %d" % n

    assert len(list(store.put_many(map(stream, range(50)), threads=1))) == 50
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("durability, by_another", [("batch", True), ("none", False)])
def test_a_thread_stores_meanwhile_only_where_the_disk_is_waited_for(store, monkeypatch, durability, by_another):
    really, threads = Group._store, set()

    def told(group, jobs):
        threads.add(threading.get_ident())
        really(group, jobs)

    monkeypatch.setattr(Group, "_store", told)
    assert len(list(store.put_many([b"a poster", b"a still"], durability=durability))) == 2
    assert (threads != {threading.get_ident()}) is by_another


def test_whoever_counts_what_is_stored_is_told_before_it_is_reported(store):
    told = []
    batch = Batch(store.parts.putting, {}, stored=told.append)
    for outcome in batch.put([*posters(3), "gone.jpg"]):
        assert outcome.result is None or told[-1] is outcome.result
    assert len(told) == 3


# ---- progress


@pytest.mark.parametrize("ordered", [True, False])
def test_progress(store, small_groups, tmp_path, ordered):
    store.put(b"poster 3")
    told = []
    for _ in store.put_many([*posters(25), tmp_path / "gone.jpg"], progress=told.append, ordered=ordered):
        pass
    size = sum(len(content) for content in posters(25))
    assert told[-1] == BatchProgress(items=26, bytes=size, new=24, known=1, failed=1)
    assert [each.items for each in told] == sorted(each.items for each in told)
    assert len(told) > 2


# ---- the end


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("after", [0, 1, 15])
def test_whoever_stops_early_leaves_staging_clean(store, small_groups, durability, after):
    outcomes = store.put_many(iter(posters(1000)), durability=durability)
    reported = [next(outcomes).result.hash for _ in range(after)]
    outcomes.close()
    assert staged(store) == []
    assert len(store) < 100
    assert all(hash in store for hash in reported)
    assert len(list(store.put_many(posters(100)))) == len(store) == 100


def test_what_was_not_begun_when_somebody_stops_is_not_stored(store, small_groups, monkeypatch):
    write, stopped = Group.store, []

    def patient(self):  # all groups but the first
        stopped.append(bool(stopped) and self.stop.wait(PATIENCE))
        write(self)

    monkeypatch.setattr(Group, "store", patient)
    outcomes = store.put_many(iter(posters(20)))
    next(outcomes)
    outcomes.close()
    assert (stopped[:2], all(stopped[2:]), len(store), staged(store)) == ([False, True], True, 10, [])


def test_nothing_is_asked_for_once_the_contents_have_raised(store, small_groups):
    "Though they could go on, as no generator can"
    numbers = itertools.count()

    class Breaking:
        def __iter__(self):
            return self

        def __next__(self):
            if (n := next(numbers)) == 15:
                raise ConnectionResetError("the provider hung up")
            if n > 20:
                raise StopIteration
            return b"poster %d" % n

    with pytest.raises(ConnectionResetError):
        list(store.put_many(Breaking()))
    assert (len(store), next(numbers)) == (15, 16)


def test_what_the_contents_raise_is_raised_when_all_before_it_is_reported(store, small_groups):
    def breaking():
        yield from posters(33)
        raise ConnectionResetError("the provider hung up")

    reported = []
    with pytest.raises(ConnectionResetError):
        for outcome in store.put_many(breaking()):
            reported.append(outcome.result.hash)
    assert (reported, len(store)) == ([hash_bytes(content) for content in posters(33)], 33)


def test_what_concerns_the_store_is_raised_when_all_that_was_stored_is_reported(store, small_groups, monkeypatch):
    groups = []
    write = store._index.entries_of

    def breaking(digests):
        groups.append(digests)
        if len(groups) == 3:  # each asks before it gives names
            raise CorruptDatabase("index.db", "it was overwritten")
        return write(digests)

    monkeypatch.setattr(store._index, "entries_of", breaking)
    reported = []
    with pytest.raises(CorruptDatabase):
        for outcome in store.put_many(iter(posters(100))):
            reported.append(outcome.result)
    assert (len(reported), len(store), staged(store)) == (20, 20, [])


def test_a_store_that_is_closed_meanwhile(tmp_path, small_groups):
    store = ContentStore(tmp_path / "store")
    outcomes = store.put_many(iter(posters(100)))
    first = next(outcomes)
    store.close()
    with pytest.raises((StoreClosed, OSError)):
        list(outcomes)
    with pytest.raises(StoreClosed):
        store.put_many([])
    with ContentStore(tmp_path / "store") as again:
        assert again.read(first.result.hash) == b"poster 0"
        assert staged(again) == []


# ---- many processes, and kills

WORK = """
import os, sys
from cjm_media_storage.storage import ContentStore

with ContentStore(sys.argv[1]) as store:
    for outcome in store.put_many((f"{sys.argv[2]}/{n}.bin" for n in range(3000)), durability=sys.argv[3]):
        print(outcome.result.hash, outcome.result.created, flush=True)
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for n in range(3000):
        (folder / f"{n}.bin").write_bytes(b"%d" % n)
    return folder


@pytest.mark.parametrize("durability", ["batch", "none"])
def test_fault_21_a_batch_that_is_killed_and_run_again(tmp_path, program, sources, durability):
    ContentStore(tmp_path / "store").close()
    for wanted in (1, 500, 1001):
        child = program.start(WORK, tmp_path / "store", sources, durability)
        reported = [child.stdout.readline().split()[0] for _ in range(wanted)]
        child.kill()
        child.communicate()
        with ContentStore(tmp_path / "store") as store:
            assert all(store.read(hash, verify=True) for hash in reported)
            assert staged(store) == []
            for stored in store:
                assert store.read(stored.hash, verify=True)
    said = program(WORK, tmp_path / "store", sources, durability).splitlines()
    assert len({line.split()[0] for line in said}) == 3000
    with ContentStore(tmp_path / "store") as store:
        assert (len(store), len(tree(store)), staged(store)) == (3000, 3000, [])
        assert store.stats()["sources"] == 3000


@pytest.mark.parametrize("durability", ["batch", "none"])
def test_fault_24_many_processes_put_batches_that_overlap(tmp_path, program, durability):
    said = program(
        """
        import sys
        from cjm_media_storage.storage import ContentStore
        from together import in_processes

        def work(n):
            contents = [b"poster %d" % (n * 50 + k) for k in range(200)]
            with ContentStore(sys.argv[1]) as store:
                results = [o.result for o in store.put_many(contents, durability=sys.argv[2])]
            return sum(result.created for result in results), len({result.hash for result in results})

        results = in_processes(8, work)
        print(sum(created for created, _ in results), {count for _, count in results})
        """,
        tmp_path / "store",
        durability,
    )
    assert said == f"{7 * 50 + 200} {{200}}"
    with ContentStore(tmp_path / "store") as store:
        assert (len(store), len(tree(store)), staged(store)) == (550, 550, [])
        assert all(store.read(stored.hash, verify=True) for stored in store)


def test_two_batches_in_one_process(store, small_groups):
    pairs = zip(store.put_many(posters(60)), store.put_many(posters(60)), strict=True)
    results = [(first.result, second.result) for first, second in pairs]
    assert sum(first.created + second.created for first, second in results) == 60
    assert (len(tree(store)), staged(store)) == (60, [])


def test_a_thread_goes_on_with_its_batch_when_the_main_thread_has_ended(tmp_path, program):
    text = """
        import sys, threading
        from concurrent.futures import thread
        from cjm_media_storage.storage import ContentStore

        def work():
            with ContentStore(sys.argv[1]) as store:
                outcomes = store.put_many(b"poster %d" % n for n in range(100))
                print(next(outcomes).result.created, flush=True)
                print(sum(outcome.result.created for outcome in outcomes), len(store))

        threading.Thread(target=work).start()
    """
    assert program(text, tmp_path / "store") == "True\n99 100"


def test_a_program_that_forgets_its_batch_ends(tmp_path, program):
    text = """
        import sys
        from cjm_media_storage.storage import ContentStore

        outcomes = ContentStore(sys.argv[1]).put_many(b"poster %d" % n for n in range(5000))
        print(next(outcomes).result.created)
    """
    assert program(text, tmp_path / "store") == "True"
    with ContentStore(tmp_path / "store") as store:
        assert (store.read(hash_bytes(b"poster 0"), verify=True), staged(store)) == (b"poster 0", [])


def test_fault_54_a_forked_child_leaves_the_group_of_its_parent_alone(tmp_path, program):
    text = """
        import os, sys
        from cjm_media_storage.contents import Job
        from cjm_media_storage.groups import Group
        from cjm_media_storage.terms import check_terms
        from cjm_media_storage.storage import ContentStore

        store = ContentStore(sys.argv[1])
        group = Group(store._putting, "batch")
        group.jobs = [Job(content, content, check_terms()) for content in (b"a poster", b"a portrait")]
        group.receive(group.jobs)
        child = os.fork()
        if not child:
            group.discard()
            os._exit(0)
        os.waitpid(child, 0)
        group.store()
        print([job.result.created for job in group.jobs])
    """
    assert program(text, tmp_path / "store") == "[True, True]"


def test_the_mode_of_files_and_the_extension(tmp_path, small_groups):
    for n in range(30):
        (tmp_path / f"{n}.JPG").write_bytes(b"%d" % n)
    with ContentStore(tmp_path / "store", object_mode=0o440, folder_mode=0o2775) as store:
        results = [o.result for o in store.put_many(os.fspath(path) for path in tmp_path.glob("*.JPG"))]
        assert {result.extension for result in results} == {"jpg"}
        assert {result.path.stat().st_mode & 0o7777 for result in results} == {0o440}
        assert {result.path.parent.stat().st_mode & 0o7777 for result in results} == {0o2775}


@pytest.mark.parametrize("threads", [0, -1])
def test_a_batch_without_threads_would_never_end(store, threads):
    with pytest.raises(ValueError, match="threads"):
        store.put_many([b"a poster"], threads=threads)
