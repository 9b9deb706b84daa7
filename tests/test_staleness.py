"What is no longer what it was, and why."

import os
from contextlib import closing

import pytest
from on_disk import unprivileged
from results import A, B

from cjm_media_storage.edges import Edges
from cjm_media_storage.lineage import Lineage
from cjm_media_storage.processing import MediaProcessingRow, MediaProcessingStorage
from cjm_media_storage.staleness import judge, tell
from cjm_media_storage.storage import hash_bytes, hash_dict_canonical, hash_file


@pytest.fixture
def jobs(tmp_path):
    with MediaProcessingStorage(tmp_path / "jobs.db") as storage:
        yield storage


@pytest.fixture
def make(jobs, tmp_path):
    "Makes files from files, and records it"
    times = iter(range(1, 100))

    def make(source, output, content=None, action="cut", **parameters):
        (tmp_path / output).write_bytes(content or f"{output} of {source}".encode())
        files = [path for name in (source, output) for path in (tmp_path / name, hash_file(tmp_path / name))]
        n = next(times)
        config_hash = hash_dict_canonical(parameters)
        jobs.save_many([MediaProcessingRow(f"{n}", action, *files, parameters, None, float(n), config_hash)])

    (tmp_path / "film").write_bytes(b"a film")
    return make


def look(jobs, *others):
    "Reasons by output and job"
    with closing(Edges([jobs, *others])) as edges:
        rows = edges.stream(lambda con, name: tell(con, edges, name))
        stale = [judge(row[1:], hash_file) for row in rows]
    return {
        f"{os.path.basename(each.job.output_path)} {each.job.job_id}": each.reasons for each in stale if each.reasons
    }


def test_nothing_is_stale(jobs, make):
    make("film", "a", start=1)
    make("film", "b", start=2)  # two segments of one film
    make("a", "c", action="convert")
    assert look(jobs) == {}


def test_input_changed(jobs, make, tmp_path):
    make("film", "a")
    make("a", "b")
    (tmp_path / "film").write_bytes(b"another")
    assert look(jobs) == {"a 1": ("input changed",)}


def test_gone(jobs, make, tmp_path):
    make("film", "a")
    (tmp_path / "film").unlink()
    (tmp_path / "a").unlink()
    assert look(jobs) == {"a 1": ("input gone", "output gone")}
    with Lineage(jobs) as lineage:
        assert [str(each) for each in lineage.stale()] == [f"{tmp_path / 'a'}: input gone, output gone"]


def test_output_edited(jobs, make, tmp_path):
    make("film", "a")
    (tmp_path / "a").write_bytes(b"by hand")
    assert look(jobs) == {"a 1": ("output edited",)}


def test_parameters_changed_and_what_followed(jobs, make):
    make("film", "a", start=1)
    make("a", "b")
    make("film", "a", b"later", start=2)
    assert look(jobs) == {"a 1": ("parameters changed",), "b 2": ("input replaced",)}


def test_output_replaced_by_another_action(jobs, make):
    make("film", "a")
    make("film", "a", b"other", action="convert")
    assert look(jobs) == {"a 1": ("output replaced",)}


def test_doing_the_same_again_makes_nothing_stale(jobs, make):
    make("film", "a", start=1)
    make("film", "a", start=1)
    assert look(jobs) == {}


def test_what_was_brought_back_is_not_replaced(jobs, make):
    make("film", "a", b"one", start=1)
    make("a", "b")
    make("film", "a", b"two", start=2)
    make("film", "a", b"one", start=3)
    assert "b 2" not in look(jobs)


def test_a_job_that_writes_over_its_input(jobs, tmp_path):
    (tmp_path / "film").write_bytes(b"quiet")
    path, before = tmp_path / "film", hash_file(tmp_path / "film")
    path.write_bytes(b"LOUD")
    jobs.save("1", "normalise", path, before, path, hash_file(path))
    assert look(jobs) == {}


def test_the_later_job_may_be_in_another_file(jobs, make, tmp_path):
    make("film", "a")
    with MediaProcessingStorage(tmp_path / "other.db") as other:
        files = (tmp_path / "film", hash_file(tmp_path / "film"), tmp_path / "a", hash_bytes(b"other"))
        other.save("9", "convert", *files)
        assert look(jobs, other)["a 1"] == ("output replaced",)


def test_what_is_no_file_is_not_waited_for(jobs, make, tmp_path):
    make("film", "a")
    for name in ("film", "a"):
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "film")
    (tmp_path / "a").mkdir()
    assert look(jobs) == {"a 1": ("input unreadable", "output unreadable")}


def test_fault_43_what_may_not_be_read(open_folder):
    with MediaProcessingStorage(open_folder / "jobs.db") as jobs:
        (open_folder / "film").write_bytes(b"a film")
        (open_folder / "a").write_bytes(b"a")
        files = [each for name in ("film", "a") for each in (open_folder / name, hash_file(open_folder / name))]
        jobs.save("1", "cut", *files)
        (open_folder / "film").chmod(0)
        with closing(Edges([jobs])) as edges:
            (row,) = edges.stream(lambda con, name: tell(con, edges, name))
        with unprivileged():
            assert judge(row[1:], hash_file).reasons == ("input unreadable",)


def test_fault_58_garbage_says_nothing(jobs, tmp_path):
    jobs.save("1", "cut", tmp_path / "film", A, tmp_path / "a", B)
    for name in ("film", "a"):
        (tmp_path / name).write_bytes(b"")
    with jobs._database.transaction() as con:
        con.execute("UPDATE processing_jobs SET input_hash = 'unknown', output_hash = ''")
    assert look(jobs) == {}
