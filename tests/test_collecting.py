"Garbage collection: what goes, what stays and why; and that it never takes what somebody needs meanwhile."

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from on_disk import tree, unprivileged
from pages import Page

from cjm_media_storage.collecting import explain, gc
from cjm_media_storage.storage import (
    CollectionRefused,
    ContentStore,
    InvalidNamespace,
    MediaAnalysisRow,
    MediaAnalysisStorage,
    MediaProcessingRow,
    MediaProcessingStorage,
    ObjectNotFound,
    StoreBusy,
    StoreUnavailable,
    hash_bytes,
)

HOUR = 3600


def poster(n):
    return b"poster %d" % n


def name(n):
    return hash_bytes(poster(n))


@pytest.fixture
def store(tmp_path):
    "Ten posters that nobody needs"
    with ContentStore(tmp_path / "store") as store:
        for n in range(10):
            store.put(poster(n))
        yield store


@pytest.fixture
def later(monkeypatch):
    "A clock that runs ahead or behind by some seconds"
    real, ahead = time.time, [0.0]
    monkeypatch.setattr("time.time", lambda: real() + ahead[0])
    return ahead


def taken(report):
    return sorted(n for n in range(20) for item in report.taken if item.hash == name(n))


def would_go(report):
    return sorted(n for n in range(20) for orphan in report.condemned if orphan.hash == name(n))


def test_a_dry_run_writes_nothing_and_says_why(store):
    store.add_reference(name(0), "movie:1")
    before = tree(store), list(store._index.database.fetch("SELECT * FROM objects")), store._index.fact("x")
    files = {path: path.stat().st_mtime_ns for path in (store.root / ".store").rglob("*") if path.suffix != ".turn"}
    report = gc(store, grace=0)
    assert would_go(report) == list(range(1, 10)) and report.taken == ()
    assert len(report.orphans) == 9 and report.objects == 10
    assert all(orphan.why.startswith("no reference, no publication") for orphan in report.condemned)
    assert "9 of 10 objects would go" in report.refusal
    assert str(report).splitlines() == [
        "would take 9 of 10 objects, 72 bytes",
        "orphans: 9",
        "untracked files: 0; leftovers: 0",
        f"refused: {report.refusal}",
    ]
    assert before == (tree(store), list(store._index.database.fetch("SELECT * FROM objects")), None)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_an_orphan_shows_where_it_is_and_why_it_goes(store):
    orphan = gc(store, grace=0).orphans[0]
    shown = Page(orphan._repr_html_()).texts
    assert [shown[shown.index(each) + 1] for each in ("namespace", "why")] == ["assets", orphan.why]


def test_what_was_put_lately_stays(store, later):
    for ahead, stays in ((0, True), (HOUR - 1, True), (HOUR + 700, False)):
        later[0] = ahead
        assert (would_go(gc(store)) == []) is stays
    store.put(poster(3))  # known, and needed again
    assert 3 not in would_go(gc(store)) and len(would_go(gc(store))) == 9
    assert explain(store, name(3)).startswith("young")


def test_without_grace_nothing_is_young(store, monkeypatch):
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now)  # a clock may go in steps
    store.put(poster(10))
    assert 10 in would_go(gc(store, grace=0))


def test_fault_47_the_clock_was_set_back(store, later):
    later[0] = -10 * 86_400
    assert would_go(gc(store, grace=0)) == [] and would_go(gc(store)) == []


def test_fault_47_times_of_files_do_not_count(store):
    for path in tree(store):
        os.utime(store.root / path, (0, 0))
    assert would_go(gc(store)) == []


def test_results_keep_what_they_name(store, tmp_path):
    with (
        MediaAnalysisStorage(tmp_path / "a.db") as analyses,
        MediaProcessingStorage(tmp_path / "p.db") as jobs,
    ):
        analyses.save("/films/0", name(0), name(9), ranges=[])
        jobs.save("job-1", "cut", "/films/1", name(1), "/films/2", name(2), config_hash=name(9))
        jobs.save("job-2", "cut", "/films/1", name(3), "/films/4", name(4), config_hash=name(9))  # replaces job-1
        roots = [analyses, jobs, [name(5)]]
        report = gc(store, roots=roots, grace=0, dry_run=False)
        assert taken(report) == [6, 7, 8, 9]
        assert explain(store, name(2), roots=roots, grace=0) == f"results in {tmp_path / 'p.db'} name it"
        assert explain(store, name(5), roots=roots, grace=0) == "named by the caller"
        assert analyses.save_many([MediaAnalysisRow("/films/6", name(6), name(9))]) == 1
        assert jobs.save_many([MediaProcessingRow("j", "cut", "/a", name(7), "/b", name(8))]) == 1
        for n in (6, 7, 8, 9):
            store.trash.restore(name(n))
        assert would_go(gc(store, roots=roots, grace=0)) == [9]


def test_pins_and_publications_keep(store):
    store._index.database.execute(
        "INSERT INTO publications (object_id, path, link_mode, created_at) VALUES (1, '/films/a.jpg', 'copy', 0)"
    )
    with store.pin(name(1)):
        assert would_go(gc(store, grace=0)) == list(range(2, 10))
        assert explain(store, name(0), grace=0) == "published at /films/a.jpg"
        assert explain(store, name(1), grace=0).startswith("pinned")
        told = str(gc(store, grace=0, max_share=1))
        assert "orphans: 10; 1 stay: pinned; 1 stay: published" in told and "refused" not in told
    with pytest.raises(ObjectNotFound):
        explain(store, hash_bytes(b"nobody has this"))


@pytest.mark.parametrize(("needed", "other"), [("assets", "actors"), ("actors", "assets")])
def test_the_same_bytes_are_needed_in_one_namespace_and_not_in_another(store, needed, other):
    store.put(poster(0), namespace="actors")
    store.add_reference(name(0), "movie:1", namespace=needed)
    report = gc(store, grace=0, dry_run=False, force=True)
    assert [item.namespace for item in report.taken if item.hash == name(0)] == [other]
    assert [stored.namespace for stored in store] == [needed]


def test_what_is_done_is_told_and_written_down_and_only_what_goes_is_marked(store):
    for n in range(7):
        store.add_reference(name(n), "movie:1")
    (store.root / "assets" / "ab" / "cd").mkdir(parents=True, exist_ok=True)
    shutil.copy(store.path(name(0)), store.root / "assets" / "ab" / "cd" / f"abcd{'0' * 60}.jpg")
    moved = []
    report = gc(store, grace=0, dry_run=False, progress=moved.append)  # a file that is untracked speaks against nothing
    assert (taken(report), len(report.untracked), sum(moved), report.bytes) == ([7, 8, 9], 1, 3, 24)
    fetch = store._index.database.fetch
    assert list(fetch("SELECT count(*) FROM objects WHERE state = 'live' AND condemned_at IS NOT NULL")) == [(0,)]
    assert list(fetch("SELECT detail FROM log WHERE action = 'collected'")) == [("3 of 10 objects",)]


def test_one_namespace(store):
    store.put(poster(0), namespace="actors")
    report = gc(store, namespace="actors", grace=0, max_share=1, dry_run=False)
    assert (taken(report), report.objects, len(store)) == ([0], 1, 10)
    store.trash.restore(name(0))
    assert store.get(name(0), "actors")


def test_a_part_by_its_digits_and_by_the_threads_of_an_executor(store):
    prefix = name(0)[7:9]
    beginning_so = {name(n) for n in range(10) if name(n)[7:].startswith(prefix)}
    assert {orphan.hash for orphan in gc(store, grace=0, prefix=prefix).orphans} == beginning_so
    store.add_reference(name(1), "movie:1")
    alone = gc(store, grace=0, roots=[[name(0)]])
    with store.pin(name(2)), ThreadPoolExecutor(2) as pool:
        together = gc(store, grace=0, roots=[[name(0)]], executor=pool)
    why = {orphan.hash: orphan.kept for orphan in together.orphans}
    assert why.keys() == {orphan.hash for orphan in alone.orphans}
    assert {hash: kept for hash, kept in why.items() if kept} == {
        name(0): "named by the caller",
        name(2): "pinned by a program that runs",
    }


# ---- refusals


def test_it_refuses_to_take_most_of_a_store(store):
    with pytest.raises(CollectionRefused, match="10 of 10"):
        gc(store, grace=0, dry_run=False)
    assert len(store) == 10
    assert len(gc(store, grace=0, dry_run=False, force=True).taken) == 10
    for path in tree(store):
        raise AssertionError(path)


def test_fault_45_it_refuses_with_an_empty_index_and_never_takes_unknown_files(store):
    store._index.database.execute("DELETE FROM objects")
    report = gc(store, grace=0)
    assert (report.objects, len(report.untracked), report.orphans) == (0, 10, ())
    with pytest.raises(CollectionRefused, match="index is empty"):
        gc(store, grace=0, dry_run=False)
    gc(store, grace=0, dry_run=False, force=True)
    assert len(tree(store)) == 10
    report = gc(store, grace=0, dry_run=False, force=True, untracked=True)
    assert (len(report.taken), tree(store), len(store.trash)) == (10, [], 10)
    for item in report.taken:
        store.trash.restore(item)
    assert len(tree(store)) == 10


def test_fault_43_it_refuses_when_a_folder_cannot_be_read(open_folder):
    with unprivileged(), ContentStore(open_folder / "store") as store:
        for n in range(4):
            store.put(poster(n), owner="movie:1" if n else None)
        closed = store.path(name(1)).parent
        closed.chmod(0)
        try:
            with pytest.raises(CollectionRefused, match="cannot be read"):
                gc(store, grace=0, dry_run=False)
        finally:
            closed.chmod(0o755)
        assert taken(gc(store, grace=0, dry_run=False)) == [0]


def test_fault_40_it_refuses_without_its_marker(store, tmp_path):
    (store.root / ".store" / "format.json").rename(tmp_path / "format.json")
    with pytest.raises(StoreUnavailable):
        gc(store, grace=0, dry_run=False, force=True)
    assert len(tree(store)) == 10


def test_fault_28_two_at_once(store):
    with store.parts.maintenance(), pytest.raises(StoreBusy):
        gc(store, grace=0, dry_run=False)
    assert len(gc(store, grace=0).orphans) == 10  # looking is always allowed


def test_wrong_arguments(store):
    for wrong in ({"grace": -1}, {"retention_days": -1}, {"roots": [["garbage"]]}):
        with pytest.raises(ValueError):
            gc(store, **wrong)
    with store.parts.maintenance(), pytest.raises(InvalidNamespace):  # told before anybody is waited for
        gc(store, namespace="../x", dry_run=False)


# ---- while others work


def sweep(store, **options):
    return gc(store, grace=0, dry_run=False, force=True, **options)


def between_look_and_sweep(monkeypatch, what):
    "Have `what` done when the condemned are known and marked"
    from cjm_media_storage import collecting

    mark = collecting._mark
    monkeypatch.setattr(collecting, "_mark", lambda *args: (mark(*args), what()))


def test_fault_26_what_is_put_after_it_was_condemned_stays(store, monkeypatch):
    between_look_and_sweep(monkeypatch, lambda: store.put(poster(3)))
    assert taken(sweep(store)) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert store.read(name(3), verify=True) == poster(3)


def test_fault_47_what_is_put_after_it_was_condemned_stays_though_the_clock_was_set_back(store, monkeypatch, later):
    def put_long_ago():
        later[0] = -10 * 86_400
        store.put(poster(3))
        later[0] = 0

    between_look_and_sweep(monkeypatch, put_long_ago)
    assert taken(sweep(store)) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_fault_27_what_is_referenced_after_it_was_condemned_stays(store, monkeypatch):
    between_look_and_sweep(monkeypatch, lambda: store.add_reference(name(3), "movie:1"))
    assert taken(sweep(store)) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    with pytest.raises(ObjectNotFound):
        store.add_reference(name(4), "movie:1")


def test_an_object_whose_number_is_that_of_another_meanwhile_stays(store, monkeypatch):
    def renumber():
        with store._index.database.transaction() as con:
            con.execute("UPDATE objects SET id = -id WHERE id IN (4, 5)")
            con.execute("UPDATE objects SET id = 9 + id WHERE id < 0")

    between_look_and_sweep(monkeypatch, renumber)
    assert taken(sweep(store)) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert [store.read(name(n), verify=True) for n in (3, 4)] == [poster(3), poster(4)]


def test_what_is_pinned_or_analysed_after_it_was_condemned_stays(store, monkeypatch, tmp_path):
    pin = store.pin(name(3))
    with MediaAnalysisStorage(tmp_path / "a.db") as analyses:

        def happens():
            pin.__enter__()
            analyses.save("/films/4", name(4), name(9), ranges=[])

        between_look_and_sweep(monkeypatch, happens)
        assert taken(sweep(store, roots=[analyses])) == [0, 1, 2, 5, 6, 7, 8, 9]
        pin.__exit__(None, None, None)


def test_an_untracked_file_that_was_adopted_meanwhile_stays(store, monkeypatch):
    with store._index.database.transaction() as con:
        con.execute("DELETE FROM objects WHERE digest IN (?, ?)", (name(3)[7:], name(4)[7:]))
    between_look_and_sweep(monkeypatch, lambda: store.put(poster(3)))
    report = sweep(store, untracked=True)
    assert [problem.hash for problem in report.untracked] == sorted([name(3), name(4)])
    assert sorted(item.reason for item in report.taken) == ["garbage"] * 8 + ["untracked"]
    assert store.read(name(3), verify=True) == poster(3)


def test_an_untracked_file_that_went_meanwhile_stops_nothing(store, monkeypatch):
    paths = [store.path(name(n)) for n in (3, 4)]
    store._index.database.execute("DELETE FROM objects WHERE digest IN (?, ?)", (name(3)[7:], name(4)[7:]))
    between_look_and_sweep(monkeypatch, paths[0].unlink)
    report = sweep(store, untracked=True)
    assert len(report.untracked) == 2 and not paths[1].exists()
    assert sorted(item.reason for item in report.taken) == ["garbage"] * 8 + ["untracked"]


def test_a_mark_that_nobody_acted_on_does_no_harm(store, monkeypatch):
    def dies(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("cjm_media_storage.collecting._sweep", dies)
        with pytest.raises(KeyboardInterrupt):
            sweep(store)
    assert len(store) == 10
    store.put(poster(0))
    report = gc(store, grace=0, dry_run=False, force=True)
    assert 0 in taken(report)  # it asks anew


def test_fault_26_put_and_gc_in_many_processes(store, program):
    "Whatever `put` returns is there when no collection has begun after it"
    putting = """
    import sys
    from cjm_media_storage.storage import ContentStore, hash_bytes
    with ContentStore(sys.argv[1]) as store:
        for round in range(30):
            for n in range(5):
                content = b"poster %d" % n
                result = store.put(content, owner=f"round:{round}")
                assert result.path.read_bytes() == content, "a path without bytes"
                assert store.read(result.hash, verify=True) == content
                store.remove_reference(result.hash, f"round:{round}")
    """
    collecting = """
    import sys
    from cjm_media_storage.collecting import gc
    from cjm_media_storage.storage import ContentStore
    with ContentStore(sys.argv[1]) as store:
        print(sum(len(gc(store, grace=0, dry_run=False, force=True).taken) for _ in range(40)))
    """
    putters = [program.start(putting, store.root) for _ in range(2)]
    assert int(program(collecting, store.root)) > 0
    for each in putters:
        program.end(each)
    for stored in store:
        store.read(stored.hash, verify=True)
    assert len(tree(store)) == len(store)


def test_a_collection_waits_for_its_turn_among_many_putters(store):
    stop = threading.Event()

    def put_on(seed):
        n = 0
        while not stop.is_set():
            store.put(b"%d %d" % (seed, n), owner="movie:1")
            n += 1

    with ThreadPoolExecutor(6) as pool:
        for seed in range(6):
            pool.submit(put_on, seed)
        try:
            assert taken(sweep(store)) == list(range(10))
        finally:
            stop.set()


def test_leftovers_are_a_list_of_their_own(store):
    left = store.root / ".store" / "staging" / "boot-1-1"
    left.mkdir(parents=True)
    (left / "0").write_bytes(b"half a film")
    (left / "lock").touch()
    shutil.copy(store.path(name(0)), store.path(name(0)).with_name("ab" * 32))
    report = gc(store, grace=0)
    assert [problem.kind for problem in report.leftovers] == ["leftover"]
    assert len(report.untracked) + len(report.orphans) >= 10
