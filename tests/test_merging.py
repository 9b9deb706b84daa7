"Of rows that disagree the newest is current, in whatever order they come, and every other one is kept."

import pytest
from results import A, B, C, analysis_row, counts, processing_row, result_file

from cjm_media_storage.analysis import MediaAnalysisStorage
from cjm_media_storage.importing import import_results
from cjm_media_storage.merging import conflicting
from cjm_media_storage.processing import MediaProcessingStorage


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_analyses_that_disagree_the_newest_is_served_and_the_others_are_kept(tmp_path, new, order):
    rows = [analysis_row(file_hash=(A, C, A)[n], ranges=[{"n": n}], created_at=float(n)) for n in range(3)]
    paths = [result_file(tmp_path / f"{n}.db", row) for n, row in enumerate(rows)]
    report = import_results([paths[n] for n in order], new)
    assert counts(report) == (1, 0, 2)
    assert [each.name for each in report.conflicts] == ["/media/0.wav"] * 2
    with MediaAnalysisStorage(new) as storage:
        assert list(storage) == [rows[2]] and storage.get_cached("/media/0.wav", B) == rows[2]
        assert sorted(conflicting(storage), key=lambda row: row.created_at) == rows[:2]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_jobs_with_one_id_the_newest_is_current_and_the_others_are_kept(tmp_path, new, order):
    rows = [processing_row(0, output_path=f"/out/{n}", input_path=f"/in/{n}", created_at=float(n)) for n in range(3)]
    paths = [result_file(tmp_path / f"{n}.db", row) for n, row in enumerate(rows)]
    report = import_results([paths[n] for n in order], new)
    assert (counts(report), [each.name for each in report.conflicts]) == ((1, 0, 2), ["job_0"] * 2)
    with MediaProcessingStorage(new) as storage:
        assert storage.get_by_job_id("job_0") == rows[2]
        assert storage.get_cached("convert", "/in/2", A, B) == rows[2]
        assert storage.get_cached("convert", "/in/0", A, B) is None
        assert sorted(conflicting(storage), key=lambda row: row.created_at) == rows[:2]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_jobs_that_replace_each_other_are_no_conflict(tmp_path, new, order):
    rows = [processing_row(0, job_id=f"job_{n}", created_at=float(n)) for n in range(3)]
    paths = [result_file(tmp_path / f"{n}.db", row) for n, row in enumerate(rows)]
    assert counts(import_results([paths[n] for n in order], new)) == (3, 0, 0)
    with MediaProcessingStorage(new) as storage:
        assert list(storage) == [rows[2]] and storage.get_cached("convert", "/media/0.wav", A, B) == rows[2]
        assert [storage.get_by_job_id(f"job_{n}") for n in range(3)] == rows
        assert list(conflicting(storage)) == []


def test_replaced_jobs_come_along(tmp_path, new):
    rows = [processing_row(0, job_id=f"job_{n}", created_at=float(n)) for n in range(3)]
    copy = result_file(tmp_path / "early copy.db", rows[0])
    late = result_file(tmp_path / "late.db", *rows)
    assert counts(import_results([late, copy], new)) == (3, 1, 0)
    with MediaProcessingStorage(new) as storage:
        assert list(storage) == [rows[2]]
        assert [storage.get_by_job_id(f"job_{n}") for n in range(3)] == rows


def test_a_job_that_was_replaced_does_not_come_back(tmp_path, new):
    "Not even if its time is later: its program has decided"
    rows = [processing_row(0, job_id=f"job_{n}", created_at=float(-n)) for n in range(2)]
    assert counts(import_results([result_file(tmp_path / "a.db", *rows)], new)) == (2, 0, 0)
    with MediaProcessingStorage(new) as storage:
        assert list(storage) == [rows[1]] and storage.get_by_job_id("job_0") == rows[0]


def test_every_version_of_a_job_that_a_file_knows_is_kept(tmp_path, new):
    "A job that was replaced, and saved again under its old id, is there twice; then a newer one takes its place"
    versions = [processing_row(0, metadata={"n": n}, created_at=float(n)) for n in (0, 2)]
    path = result_file(tmp_path / "a.db", versions[0], processing_row(0, job_id="other", created_at=1.0), versions[1])
    newest = processing_row(0, job_id="newest", created_at=3.0)
    for target in (new, path):
        import_results([path] if target == new else [result_file(tmp_path / "b.db", newest)], target)
        with MediaProcessingStorage(target) as storage:
            known = [*storage, *conflicting(storage)]
            known += [storage.get_by_job_id(name) for name in ("job_0", "other")]
        assert all(version in known for version in versions)


def test_history_without_parameters_is_appended(tmp_path, new):
    rows = [processing_row(0, job_id=f"job_{n}", config_hash="", created_at=1.0) for n in range(5)]
    assert counts(import_results([result_file(tmp_path / "a.db", *rows)], new)) == (5, 0, 0)
    with MediaProcessingStorage(new) as storage:
        assert list(storage) == rows
