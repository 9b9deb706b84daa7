"Segments and jobs as rows of a table, in any number, whatever is in them."

import math
from datetime import UTC, datetime

import pandas as pd
import pytest
from memory import peak_of
from pages import HOSTILE

from cjm_media_storage.frames import EXTRA, dataframes, to_dataframe
from cjm_media_storage.storage import (
    ContentStore,
    MediaAnalysisRow,
    MediaAnalysisStorage,
    MediaProcessingRow,
    MediaProcessingStorage,
    MissingExtra,
    hash_bytes,
)

A, B, CONFIG = hash_bytes(b"a"), hash_bytes(b"b"), hash_bytes(b"c")
SPEECH = {"start": 0.5, "end": 4.0, "label": "speech", "confidence": 0.5}
MUSIC = {"start": 4, "end": 9.5, "label": "music", "who": ["x"]}
ROWS = [
    MediaAnalysisRow("series/one.wav", A, CONFIG, [SPEECH, MUSIC], {"model": "m"}, 1e9),
    MediaAnalysisRow("films/two.wav", B, CONFIG, [{**SPEECH, "start": 3.5}], None, 1.5e9),
    MediaAnalysisRow("films/none.wav", B, CONFIG, None, None, 1.6e9),
    MediaAnalysisRow("films/empty.wav", B, CONFIG, [], None, 1.7e9),
]


@pytest.fixture
def analyses(tmp_path):
    with MediaAnalysisStorage(tmp_path / "a.db") as storage:
        storage.save_many(ROWS)
        yield storage


def test_ranges_are_one_row_each(analyses):
    frame = to_dataframe(analyses, "ranges")
    names = ["file_path", "file_hash", "config_hash", "segment", "start", "end", "duration", "label", "created_at"]
    assert list(frame.columns) == [*names, "confidence", "who"]
    assert frame[names[:-1]].values.tolist() == [
        ["series/one.wav", A, CONFIG, 0, 0.5, 4.0, 3.5, "speech"],
        ["series/one.wav", A, CONFIG, 1, 4.0, 9.5, 5.5, "music"],
        ["films/two.wav", B, CONFIG, 0, 3.5, 4.0, 0.5, "speech"],
    ]
    assert frame.created_at[2] == pd.Timestamp(1.5e9, unit="s", tz="UTC")
    assert frame.confidence.isna().tolist() == [False, True, False]
    assert frame.who.tolist()[1] == ["x"]
    assert str(frame.dtypes["segment"]) == "int64" and str(frame.dtypes["start"]) == "float64"


def test_jobs_are_one_row_each(analyses, tmp_path):
    frame = to_dataframe(analyses)
    assert frame.file_path.tolist() == [row.file_path for row in ROWS]
    assert frame.ranges.tolist() == [row.ranges for row in ROWS] and frame.metadata[0] == {"model": "m"}
    with MediaProcessingStorage(tmp_path / "p.db") as jobs:
        row = MediaProcessingRow("j", "cut", "films/a", A, "b", B, {"start": 1}, None, 1e9, CONFIG)
        jobs.save_many([row])
        (found,) = to_dataframe(jobs).to_dict("records")
    assert found == {**vars(row), "created_at": pd.Timestamp(1e9, unit="s", tz="UTC")}


def test_objects_are_one_row_each(store):
    put = store.put(b"a film", extension="mkv")
    (found,) = to_dataframe(store).to_dict("records")
    assert (found["hash"], found["size"], found["extension"]) == (put.hash, 6, "mkv")
    assert found["path"] == str(put.path)
    assert len(to_dataframe(store, path="*.png")) == 0


@pytest.mark.parametrize(
    "filters, starts",
    [
        ({"label": "speech"}, [0.5, 3.5]),
        ({"label": ["speech", "music"]}, [0.5, 4.0, 3.5]),
        ({"label": "nobody"}, []),
        ({"min_duration": 3.5}, [0.5, 4.0]),
        ({"max_duration": 3.5}, [0.5, 3.5]),
        ({"during": (0, 3.5)}, [0.5]),
        ({"during": (3.9, 4.1)}, [0.5, 4.0, 3.5]),
        ({"path": "films/*"}, [3.5]),
        ({"since": 1.5e9}, [3.5]),
        ({"until": 1.5e9}, [0.5, 4.0]),
        ({"since": datetime.fromtimestamp(1.2e9, UTC), "label": "speech"}, [3.5]),
    ],
)
def test_filters(analyses, filters, starts):
    assert to_dataframe(analyses, "ranges", **filters).start.tolist() == starts


def test_empty_frames_have_their_columns(tmp_path):
    with MediaAnalysisStorage(tmp_path / "a.db") as analyses:
        assert "file_path" in to_dataframe(analyses) and "label" in to_dataframe(analyses, "ranges")
        assert len(to_dataframe(analyses)) == len(to_dataframe(analyses, "ranges")) == 0
    with ContentStore(tmp_path / "store") as store:
        assert "size" in to_dataframe(store)


def test_what_cannot_be_answered_is_refused(analyses, store):
    for wrong in (
        lambda: to_dataframe(analyses, "segments"),
        lambda: to_dataframe(analyses, label="speech"),
        lambda: to_dataframe(store, "ranges"),
        lambda: to_dataframe([MediaProcessingRow("j", "cut", "a", A, "b", B)], "ranges"),
    ):
        with pytest.raises(ValueError):
            wrong()


ODD = [5, None, "x", [1, 2], {}, {"start": "1", "end": None, "label": 7}, {"start": True, "end": 10**400}]


def test_any_json_is_a_row():
    frame = to_dataframe([MediaAnalysisRow("f", A, CONFIG, ODD, None, 1e300)], "ranges")
    assert len(frame) == len(ODD)
    assert all(math.isnan(each) for each in [*frame.start, *frame.end, *frame.duration])
    assert frame.value.tolist()[:4] == ODD[:4] and frame.label.tolist()[5] == "7"
    assert frame.created_at.isna().all()


def test_keys_of_a_range_never_take_a_column_of_ours():
    segment = {"start": 1, "end": 2, "file_path": "evil", "duration": 99, "segment": -1}
    (found,) = to_dataframe([MediaAnalysisRow("f", A, CONFIG, [segment], None, 1.0)], "ranges").to_dict("records")
    assert (found["file_path"], found["duration"], found["segment"]) == ("f", 1.0, 0)
    assert (found["range.file_path"], found["range.duration"], found["range.segment"]) == ("evil", 99, -1)


def test_any_number_of_keys_is_a_few_columns():
    ranges = [{"start": 0, "end": 1, f"key{n}": n} for n in range(500)]
    frame = to_dataframe([MediaAnalysisRow("f", A, CONFIG, ranges, None, 1.0)], "ranges")
    assert len(frame.columns) == 9 + EXTRA + 1
    assert frame.key7[7] == 7 and frame.rest.tolist()[499] == {"key499": 499}


@pytest.mark.parametrize("name", HOSTILE)
def test_paths_are_those_of_the_storage(name):
    frame = to_dataframe([MediaAnalysisRow(name, A, CONFIG, [SPEECH], None, 1.0)], "ranges", path="*")
    assert frame.file_path.tolist() == [name]
    assert to_dataframe([MediaAnalysisRow(name, A, CONFIG)]).file_path.tolist() == [name]


def many(files, segments):
    for n in range(files):
        found = [{"start": k, "end": k + 0.5, "label": ("speech", "music")[k % 2]} for k in range(segments)]
        yield MediaAnalysisRow(f"{n}.wav", A, CONFIG, found, None, 1.0)


def test_some_at_a_time():
    frames = list(dataframes(many(10, 30), "ranges", size=100))
    assert [len(frame) for frame in frames] == [120, 120, 60]
    assert pd.concat(frames).start.tolist() == to_dataframe(many(10, 30), "ranges").start.tolist()
    assert [len(frame) for frame in dataframes(ROWS, size=3)] == [3, 1]


def test_memory_is_that_of_numbers():
    "Columns and the frame made of them; as dictionaries segments take three times that"
    to_dataframe(many(2, 2), "ranges")  # loads what is loaded once
    assert peak_of(lambda: to_dataframe(many(100, 400), "ranges"), 40_000 * 160) < 40_000 * 160


def test_memory_does_not_grow_with_what_is_streamed():
    def run(files, allowed=0):
        return peak_of(lambda: [len(frame) for frame in dataframes(many(files, 100), "ranges", size=1000)], allowed)

    run(10)
    few = run(20)
    assert run(200, 1.5 * few) < 1.5 * few


def test_without_pandas(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pip install 'cjm-media-storage\[explore\]'") as caught:
        to_dataframe(ROWS)
    assert isinstance(caught.value, ImportError) and caught.value.module == "pandas"
