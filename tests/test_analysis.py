"Results of analysis: the seed's examples as written there, and both generations of callers."

import pytest
from on_disk import query
from results import A, B, C, D, analysis_row

from cjm_media_storage.analysis import MediaAnalysisRow, MediaAnalysisStorage


@pytest.fixture
def storage(path):
    with MediaAnalysisStorage(path) as storage:
        yield storage


def test_examples_of_the_seed(tmp_path):
    "Word for word but for the prints"
    row = MediaAnalysisRow(
        file_path="/tmp/test.mp3",
        file_hash="sha256:" + "a" * 64,
        config_hash="sha256:" + "b" * 64,
        ranges=[{"start": 0.0, "end": 2.5, "label": "speech"}],
        metadata={"segment_count": 1},
    )
    assert row.created_at is None

    (tmp_path / "made by tempfile.db").touch()
    storage = MediaAnalysisStorage(str(tmp_path / "made by tempfile.db"))
    storage.save(
        file_path="/tmp/test_audio.mp3",
        file_hash="sha256:" + "a" * 64,
        config_hash="sha256:" + "c" * 64,
        ranges=[
            {"start": 0.0, "end": 2.5, "label": "speech", "confidence": 0.98},
            {"start": 4.0, "end": 8.5, "label": "speech", "confidence": 0.95},
        ],
        metadata={"segment_count": 2, "total_speech": 7.0},
    )

    cached = storage.get_cached("/tmp/test_audio.mp3", "sha256:" + "c" * 64)
    assert cached is not None
    assert cached.file_path == "/tmp/test_audio.mp3"
    assert len(cached.ranges) == 2
    assert cached.metadata["segment_count"] == 2
    assert cached.created_at is not None
    missing = storage.get_cached("/tmp/test_audio.mp3", "sha256:" + "d" * 64)
    assert missing is None

    storage.save(
        file_path="/tmp/test_audio.mp3",
        file_hash="sha256:" + "a" * 64,
        config_hash="sha256:" + "c" * 64,
        ranges=[{"start": 0.0, "end": 3.0, "label": "speech"}],
        metadata={"segment_count": 1, "total_speech": 3.0},
    )
    updated = storage.get_cached("/tmp/test_audio.mp3", "sha256:" + "c" * 64)
    assert len(updated.ranges) == 1
    assert updated.metadata["segment_count"] == 1
    all_jobs = storage.list_jobs()
    assert len(all_jobs) == 1

    storage.save(
        file_path="/tmp/test_audio.mp3",
        file_hash="sha256:" + "a" * 64,
        config_hash="sha256:" + "e" * 64,
        ranges=[{"start": 0.5, "end": 2.0, "label": "speech"}],
        metadata={"segment_count": 1},
    )
    all_jobs = storage.list_jobs()
    assert len(all_jobs) == 2
    storage.close()


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("/a.wav", B), {}),
        (("/a.wav",), {"config_hash": B}),
        ((), {"file_path": "/a.wav", "config_hash": B}),
        (("/a.wav", A, B), {}),
        (("/a.wav", A), {"config_hash": B}),
        (("/a.wav", B), {"file_hash": A}),
        (("/a.wav",), {"file_hash": A, "config_hash": B}),
        ((), {"config_hash": B, "file_hash": A, "file_path": "/a.wav"}),
    ],
    ids=repr,
)
def test_both_generations_ask(storage, args, kwargs):
    storage.save("/a.wav", A, B)
    assert storage.get_cached(*args, **kwargs).file_hash == A
    storage.save("/a.wav", C, B)  # the file changed: who gives its hash is not served what it was
    found = storage.get_cached(*args, **kwargs)
    asks_by_content = len(args) + len(kwargs) == 3
    assert (found is None) == asks_by_content


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("/a.wav",), {}),
        (("/a.wav",), {"file_hash": A}),
        (("/a.wav", A, B, C), {}),
        (("/a.wav", A, B), {"config_hash": B}),
        (("/a.wav", A, B), {"file_hash": A}),
        (("/a.wav", A), {"file_hash": A, "config_hash": B}),
        ((), {"file_hash": A, "config_hash": B}),
    ],
    ids=repr,
)
def test_ambiguous_questions_are_refused(storage, args, kwargs):
    with pytest.raises(TypeError):
        storage.get_cached(*args, **kwargs)


@pytest.mark.parametrize("ranges", [None, [], [{}], [{"start": 0.0, "end": 2.5}]], ids=repr)
@pytest.mark.parametrize("metadata", [None, {}, {"nothing": None, "empty": []}], ids=repr)
def test_empty_values_are_kept_apart(storage, ranges, metadata):
    storage.save("/a.wav", A, B, ranges, metadata)
    row = storage.get_cached("/a.wav", B)
    assert (row.ranges, row.metadata) == (ranges, metadata)
    assert query(storage.db_path, "SELECT ranges IS NULL FROM analysis_jobs") == [(ranges is None,)]


def test_a_result_is_replaced_as_a_whole(storage):
    storage.save("/a.wav", A, B, [{"start": 0.0}], {"n": 1})
    before = storage.get_cached("/a.wav", B)
    storage.save("/a.wav", C, B)
    after = storage.get_cached("/a.wav", B)
    assert (after.file_hash, after.ranges, after.metadata) == (C, None, None)
    assert after.created_at >= before.created_at


def test_delete_one_or_all_of_a_path(storage):
    storage.save_many([*(analysis_row(0, config_hash=c) for c in (A, B, C)), analysis_row(1)])
    assert storage.delete("/media/0.wav", B) == 1
    assert storage.delete("/media/0.wav", D) == 0
    assert storage.delete("/media/0.wav") == 2
    assert [row.file_path for row in storage] == ["/media/1.wav"]


def test_find_uses_an_index(storage):
    sql = "EXPLAIN QUERY PLAN SELECT * FROM analysis_jobs WHERE file_hash = ? AND config_hash = ?"
    assert "idx_analysis_content" in query(storage.db_path, sql, A, B)[0][-1]


def test_schema_is_that_of_all_releases(storage):
    columns = [row[1:4] for row in query(storage.db_path, "PRAGMA table_info(analysis_jobs)")]
    text, json = ("TEXT", 1), ("JSON", 0)
    names = ["file_path", "file_hash", "config_hash", "ranges", "metadata"]
    kinds = dict(zip(names, [text] * 3 + [json] * 2, strict=True))
    assert columns == [("id", "INTEGER", 0), *((n, *k) for n, k in kinds.items()), ("created_at", "REAL", 1)]
    assert "CREATE TABLE" in MediaAnalysisStorage.SCHEMA
