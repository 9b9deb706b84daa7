"What is known of outputs: places however they are spelled, jobs current and replaced, and why there is none."

import os

import pytest
from results import B, C, D, processing_row

from cjm_media_storage.jobs import Jobs, Work, place_of, read_job, write_job
from cjm_media_storage.storage import MediaProcessingStorage


@pytest.fixture
def storage(address):
    with MediaProcessingStorage(address) as storage:
        yield storage


@pytest.fixture
def jobs(storage):
    return Jobs(storage._database)


def work(row):
    return Work(row.action, row.input_path, row.input_hash, row.config_hash)


def test_a_row_comes_back_as_it_was_written():
    row = processing_row(metadata={"a": [1, None]}, parameters={}, created_at=1.0)
    assert read_job(write_job(row)) == row


def test_one_place_has_many_spellings(here):
    (here / "out").mkdir()
    (here / "link").symlink_to("out")
    (here / "out" / "b.mp3").symlink_to("a.mp3")
    spellings = ["out/a.mp3", here / "out" / "a.mp3", "./x/../out/a.mp3", "link/a.mp3", here / "link" / "." / "a.mp3"]
    assert {place_of(spelling) for spelling in spellings} == {os.path.join(os.path.realpath(here), "out", "a.mp3")}
    assert place_of("out/b.mp3").endswith("b.mp3")  # a link is a thing of its own


def test_the_same_work_is_found_under_any_path_the_newest_first(storage, jobs):
    rows = [processing_row(n, created_at=float(n)) for n in range(3)]
    storage.save_many([*rows, processing_row(3, config_hash=""), processing_row(4, action="cut")])
    assert [row.job_id for row in jobs.same(work(processing_row(9)))] == ["job_2", "job_1", "job_0"]
    storage.save_many([processing_row(5, job_id="later", created_at=2.0)])
    assert [row.job_id for row in jobs.same(work(processing_row(9)))][:2] == ["later", "job_2"]  # of one time
    assert jobs.same(work(processing_row(config_hash=""))) == []
    assert len({work(row).key for row in rows}) == 1
    assert jobs.get("job_1") == rows[1] and jobs.get("none") is None


def test_what_was_put_somewhere_is_known_though_its_job_was_replaced(here, storage, jobs):
    first = processing_row(output_path="out/a.wav", output_hash=C)
    storage.save_many([first])
    storage.save_many([processing_row(job_id="second", output_path="out/b.wav", output_hash=D)])
    place = place_of(here / "out" / "a.wav")
    assert [row.job_id for row in jobs.same(work(first))] == ["second"]
    assert jobs.made(C, place) and jobs.recorded(work(first), C, place).job_id == "job_0"
    assert not jobs.made(D, place) and not jobs.made(C, place_of("out/b.wav"))
    assert jobs.recorded(work(processing_row(1)), C, place) is None  # of another input
    assert jobs.get("job_0").output_hash == C


def test_a_file_that_was_made_a_thousand_times_is_known_at_each_place(storage, jobs):
    storage.save_many(processing_row(n, created_at=float(n)) for n in range(1000))
    assert jobs.made(C, "/out/0.wav")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"input_path": "/new.wav", "input_hash": D}, "never computed"),
        ({"action": "cut"}, "never computed"),
        ({"input_hash": D}, "input changed"),
        ({"config_hash": D}, "parameters changed"),
        ({"config_hash": D, "input_path": "/moved.wav"}, "parameters changed"),
        ({"config_hash": D, "input_hash": D}, "parameters changed"),
    ],
    ids=str,
)
def test_why_there_is_none(storage, jobs, changes, why):
    storage.save_many([processing_row(), processing_row(7, config_hash="", input_path="/new.wav", input_hash=B)])
    assert jobs.why(work(processing_row(**changes))) == why
