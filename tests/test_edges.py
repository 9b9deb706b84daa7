"Many files of results, asked as one, and not changed."

import os
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest
from graphs import name, row, save
from old import First
from on_disk import unprivileged

from cjm_media_storage.analysis import MediaAnalysisStorage
from cjm_media_storage.edges import Edges, once
from cjm_media_storage.processing import MediaProcessingStorage
from cjm_media_storage.storage import CorruptDatabase, NoResults, StoreClosed, StoreUnavailable


def job_ids(edges):
    "Names of all jobs, each once"
    return [row[0] for row in edges.select(lambda: once(edges, "jobs", order="job_id"))]


def listing(folder):
    "What is there, byte for byte"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 30])
def test_any_number_of_files(tmp_path, count):
    paths = [save(tmp_path / f"{n}.db", [(n, n + 1)]) for n in range(count)]
    before = listing(tmp_path)
    with closing(Edges(paths)) as edges:
        assert job_ids(edges) == sorted(f"{n}-{n + 1}" for n in range(count))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("count", [1, 12])
def test_what_is_saved_meanwhile_is_seen(tmp_path, count):
    paths = [save(tmp_path / f"{n}.db", [(n, n + 1)]) for n in range(count)]
    with closing(Edges(paths)) as edges, MediaProcessingStorage(paths[-1]) as storage:
        for n in range(100, 103):
            storage.save_many([row(n, n + 1)])
            assert f"{n}-{n + 1}" in job_ids(edges)
    with closing(sqlite3.connect(paths[-1])) as con:
        assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_writer_in_this_process_keeps_its_locks(path, journal, program):
    text = """
        import sqlite3, sys
        con = sqlite3.connect(sys.argv[1], timeout=0)
        try:
            con.execute("BEGIN IMMEDIATE")
            print("it went in between")
        except sqlite3.OperationalError as e:
            print(e)
        con.close()
    """
    with MediaProcessingStorage(save(path, [(0, 1)])) as storage, storage._database.transaction() as con:
        con.execute("DELETE FROM processing_jobs")
        with closing(Edges([path])) as edges:
            assert job_ids(edges) == ["0-1"]
        assert program(text, path) == "database is locked"


def test_a_file_that_was_replaced_is_opened_anew(tmp_path):
    path = save(tmp_path / "a.db", [(0, 1)])
    other = save(tmp_path / "b.db", [(5, 6)])
    with closing(Edges([path])) as edges:
        assert job_ids(edges) == ["0-1"]
        os.replace(other, path)
        assert job_ids(edges) == ["5-6"]
        path.unlink()
        with pytest.raises(StoreUnavailable, match=r"a\.db"):
            job_ids(edges)
        save(path, [(7, 8)])
        assert job_ids(edges) == ["7-8"]


def test_storages_in_memory(tmp_path):
    storages = [MediaProcessingStorage(":memory:") for _ in range(12)]
    for n, storage in enumerate(storages):
        storage.save_many([row(n, n + 1)])
    with closing(Edges([*storages, save(tmp_path / "a.db", [(50, 51)])])) as edges:
        assert len(job_ids(edges)) == 13
        storages[11].save_many([row(90, 91)])
        assert "90-91" in job_ids(edges)
    for storage in storages:
        storage.close()


def test_fault_61_files_of_the_first_generation_are_read_as_they_are(tmp_path):
    old = First(tmp_path / "old.db")
    for n in range(3):
        old.add_job(f"job_{n}", f"/media/{n}", "")
    before = listing(tmp_path)
    with closing(Edges([tmp_path / "old.db"])) as edges:
        assert job_ids(edges) == ["job_0", "job_1", "job_2"]
        assert listing(tmp_path) == before
        old.add_job("job_3", "/media/3", "")
        assert len(job_ids(edges)) == 4


def test_fault_41_files_where_nothing_may_be_written(place):
    save(place.path / "new.db", [(0, 1)])
    First(place.path / "old.db").add_job("job_0", "/media/0", "")
    with place.read_only(), closing(Edges([place.path / "new.db", place.path / "old.db"])) as edges:
        assert job_ids(edges) == ["0-1", "job_0"]


def test_what_may_not_be_read(open_folder):
    path = save(open_folder / "a.db", [(0, 1)])
    path.chmod(0)
    with unprivileged(), pytest.raises(StoreUnavailable, match=r"a\.db"):
        Edges([path])
    path.chmod(0o666)


def test_what_is_no_file_of_results(tmp_path):
    (tmp_path / "text.db").write_text("this is no database, " * 100)
    with closing(sqlite3.connect(tmp_path / "other.db")) as con:
        con.execute("CREATE TABLE films (title)")
    before = listing(tmp_path)
    with pytest.raises(CorruptDatabase, match=r"text\.db"):
        Edges([tmp_path / "text.db"])
    with pytest.raises(NoResults, match=r"other\.db"):
        Edges([tmp_path / "other.db"])
    assert listing(tmp_path) == before
    (tmp_path / "empty.db").touch()
    with closing(Edges([tmp_path / "empty.db"])) as edges:
        assert job_ids(edges) == []


def test_a_job_in_two_files_counts_once_with_its_earlier_time(tmp_path):
    one = save(tmp_path / "one.db", [(0, 1)], created_at=5.0)
    two = save(tmp_path / "two.db", [(0, 1), (1, 2)], created_at=3.0)
    shutil.copy(one, tmp_path / "copy.db")
    with closing(Edges([one, two, tmp_path / "copy.db", one])) as edges:
        rows = list(edges.select(lambda: once(edges, "jobs", order="job_id")))
        assert [(row[0], row[7]) for row in rows] == [("0-1", 3.0), ("1-2", 3.0)]


def test_a_job_of_one_name_with_other_files_is_another_job(tmp_path):
    paths = [save(tmp_path / f"{n}.db", [(n, 9)], job_id="job") for n in range(2)]
    with closing(Edges(paths)) as edges:
        assert job_ids(edges) == ["job", "job"]


def test_analyses_too(tmp_path):
    for n in range(2):
        with MediaAnalysisStorage(tmp_path / f"{n}.db") as storage:
            storage.save("/a.wav", name(0), name(1))
    with closing(Edges([tmp_path / "0.db", tmp_path / "1.db"])) as edges:
        assert [row[:2] for row in edges.select(lambda: once(edges, "analyses"))] == [("/a.wav", name(0))]


def test_many_threads(tmp_path):
    paths = [save(tmp_path / f"{n}.db", [(n, n + 1)]) for n in range(3)]
    found = []
    with closing(Edges(paths)) as edges:
        threads = [threading.Thread(target=lambda: found.extend(job_ids(edges) for _ in range(20))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [["0-1", "1-2", "2-3"]] * 80


def test_two_answers_at_once_and_one_that_nobody_reads_to_the_end(tmp_path):
    path = save(tmp_path / "a.db", [(n, n + 1) for n in range(2500)])
    with closing(Edges([path])) as edges:
        one, two = (edges.select(lambda: once(edges, "jobs", order="job_id")) for _ in range(2))
        assert [next(one), next(one)] == [next(two), next(two)]
        assert len(list(two)) == 2498
        (path.with_name("b.db")).write_bytes(path.read_bytes())
        os.replace(path.with_name("b.db"), path)  # the answer stays what it was
        assert len(job_ids(edges)) == 2500 and len(list(one)) == 2498


def test_fault_54_forks_and_closing(tmp_path, program):
    save(tmp_path / "a.db", [(0, 1)])
    text = """
        import os, sys
        from cjm_media_storage.edges import Edges, once
        edges = Edges([sys.argv[1]])
        begun = edges.select(lambda: once(edges, "jobs"))
        print(len(list(edges.select(lambda: once(edges, "jobs")))), flush=True)
        child = os.fork()
        print(len(list(edges.select(lambda: once(edges, "jobs")))), flush=True)
        if child:
            os.waitpid(child, 0)
        edges.close()
    """
    assert program(text, tmp_path / "a.db").split() == ["1", "1", "1"]
    edges = Edges([tmp_path / "a.db"])
    begun = edges.select(lambda: once(edges, "jobs"))
    edges.close()
    edges.close()
    with pytest.raises(StoreClosed):
        list(begun)
