"Results of analysis: the seed's examples as written there, and both generations of callers."

import json
import logging
import os
import signal
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
from old import First, Last
from on_disk import memory_disk, query, unprivileged
from results import A, B, C, D, analysis_row
from together import in_threads

from cjm_media_storage.analysis import MediaAnalysisRow, MediaAnalysisStorage
from cjm_media_storage.errors import InvalidHash, InvalidRecord, NestedCompute, NoSpace, SourceChanged
from cjm_media_storage.hashing import hash_bytes, hash_dict_canonical, hash_file
from cjm_media_storage.journal import WIRES


@pytest.fixture
def storage(address):
    with MediaAnalysisStorage(address) as storage:
        yield storage


@pytest.fixture
def on_file(path):
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
    assert storage._database.fetch("SELECT ranges IS NULL FROM analysis_jobs") == [(ranges is None,)]


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


def test_verify_asks_for_path_and_settings(storage, tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"speech")
    storage.save(tmp_path / "a.wav", hash_file(tmp_path / "a.wav"), A)
    storage.save(tmp_path / "b.wav", hash_file(tmp_path / "b.wav"), B)
    assert storage.verify_file(tmp_path / "a.wav", A) is True
    assert storage.verify_file(tmp_path / "a.wav", B) is storage.verify_file(tmp_path / "c.wav", A) is None


def test_find_uses_an_index(on_file):
    sql = "EXPLAIN QUERY PLAN SELECT * FROM analysis_jobs WHERE file_hash = ? AND config_hash = ?"
    assert "idx_analysis_content" in query(on_file.db_path, sql, A, B)[0][-1]


def test_schema_is_that_of_all_releases(on_file):
    columns = [row[1:4] for row in query(on_file.db_path, "PRAGMA table_info(analysis_jobs)")]
    text, json = ("TEXT", 1), ("JSON", 0)
    names = ["file_path", "file_hash", "config_hash", "ranges", "metadata"]
    kinds = dict(zip(names, [text] * 3 + [json] * 2, strict=True))
    assert columns == [("id", "INTEGER", 0), *((n, *k) for n, k in kinds.items()), ("created_at", "REAL", 1)]
    assert "CREATE TABLE" in MediaAnalysisStorage.SCHEMA


# ---- computing what is not known


CONFIG = {"threshold": 0.5}
RANGES = [{"start": 0.0, "end": 2.5}]


class Speech:
    "An episode, a storage, and a detector that counts how often it is called"

    def __init__(self, path, db_path):
        self.episode, self.calls = path, 0
        path.write_bytes(b"speech")
        self.storage = MediaAnalysisStorage(db_path)

    def detect(self, path):
        self.calls += 1
        return RANGES, {"calls": self.calls}

    def get(self, compute=None, path=None, config=CONFIG, **options):
        return self.storage.get_or_compute(path or self.episode, config, compute or self.detect, **options)

    def never(self, **options):
        "Ask for what must not be computed"
        found = self.get(lambda path: pytest.fail("it was computed"), **options)
        assert found.hit and found.seconds == 0
        return found


@pytest.fixture
def speech(tmp_path, address):
    speech = Speech(tmp_path / "episode.wav", address)
    with speech.storage:
        yield speech


def test_what_was_computed_is_served_and_known_to_older_callers(speech):
    found = speech.get()
    assert (found.hit, found.why, found.row.ranges, found.row.metadata) == (
        False,
        "never computed",
        RANGES,
        {"calls": 1},
    )
    again = speech.never()
    assert (again.why, again.row) == ("cached", found.row)
    config_hash = hash_dict_canonical(CONFIG)
    assert speech.never(config=config_hash).row == found.row  # a hash that is ready
    assert speech.storage.get_cached(speech.episode, hash_file(speech.episode), config_hash) == found.row
    assert speech.storage.get_cached(speech.episode, config_hash) == found.row


def test_why_it_is_computed(speech):
    speech.get()
    assert speech.get(config={"threshold": 0.9}).why == "parameters changed"
    copy = speech.episode.with_name("copy.wav")
    copy.write_bytes(b"speech")
    assert speech.get(lambda path: (None, None), path=copy, config={"threshold": 0.1}).why == "parameters changed"
    other = speech.episode.with_name("other.wav")
    other.write_bytes(b"noise")
    assert speech.get(lambda path: (None, None), path=other).why == "never computed"
    speech.episode.write_bytes(b"music")
    assert speech.get().why == "input changed"
    assert speech.get(force=True).why == "forced"
    assert speech.never().row.metadata == {"calls": 4}


def test_of_several_results_for_the_same_content_the_newest_is_taken(speech):
    file_hash, config_hash = hash_file(speech.episode), hash_dict_canonical(CONFIG)
    rows = [
        MediaAnalysisRow(f"/moved/{n}.wav", file_hash, config_hash, [{"n": n}], created_at=time)
        for n, time in enumerate([5.0, 9.0, 9.0, 1.0])
    ]
    speech.storage.save_many(rows)
    assert speech.never().row.ranges == [{"n": 2}]  # of two at the same moment, that which was saved last


@pytest.mark.parametrize("how", ["renamed", "copied"])
def test_the_same_content_at_another_path_is_recorded_for_that_too(speech, how):
    first = speech.get().row
    other = speech.episode.with_name("S01E01.wav")
    other.write_bytes(b"speech")
    if how == "renamed":
        speech.episode.unlink()
    found = speech.never(path=other)
    assert (found.why, found.row.ranges, found.row.file_path) == ("same content at another path", RANGES, str(other))
    assert speech.storage.get_cached(other, hash_dict_canonical(CONFIG)) == found.row
    assert speech.never(path=other).why == "cached" and len(speech.storage) == 2
    assert speech.storage.get_cached(speech.episode, hash_dict_canonical(CONFIG)) == first


class Segment:
    def to_dict(self):
        return RANGES[0]


Plugins = namedtuple("Plugins", "ranges metadata")


@pytest.mark.parametrize(
    ("result", "ranges", "metadata"),
    [
        ((None, None), None, None),
        (([], {}), [], {}),
        (((RANGES[0],), {"n": 1}), RANGES, {"n": 1}),
        (Plugins([Segment()], {}), RANGES, {}),
        (type("Result", (), {"ranges": [Segment()], "metadata": {"n": 1}})(), RANGES, {"n": 1}),
    ],
    ids=["none", "empty", "tuple", "named", "object"],
)
def test_what_plugins_return(speech, result, ranges, metadata):
    row = speech.get(lambda path: result).row
    assert (row.ranges, row.metadata) == (ranges, metadata)
    assert speech.never().row == row


def test_what_published_plugins_return(speech):
    core = pytest.importorskip("cjm_media_plugin_system.core")
    result = core.MediaAnalysisResult([core.TimeRange(0.0, 2.5, "speech", 0.9)], {"n": 1})
    row = speech.get(lambda path: result).row
    assert row.ranges == [{"start": 0.0, "end": 2.5, "label": "speech", "confidence": 0.9, "payload": {}}]


def test_progress_is_handed_on(speech):
    told = []
    speech.get(lambda path, progress: progress(0.5) or ([], {}), progress=told.append)
    assert told == [0.5]


def test_a_failure_goes_through_and_leaves_nothing(speech):
    error = RuntimeError("no memory left on the GPU")

    def fail(path):
        raise error

    with pytest.raises(RuntimeError) as caught:
        speech.get(fail)
    assert caught.value is error and len(speech.storage) == 0
    for wrong in ([("a", 1)], "text"), ([{"at": float("nan")}], {}):
        with pytest.raises(InvalidRecord):
            speech.get(lambda path, wrong=wrong: wrong)
    assert speech.get().why == "never computed"


def test_fault_12_an_input_that_changes_while_it_is_analysed(speech):
    def compute(path):
        path.write_bytes(b"MUSIC!")
        return [], {}

    with pytest.raises(SourceChanged, match=r"episode\.wav"):
        speech.get(compute)
    assert len(speech.storage) == 0


def test_fault_20_a_result_that_cannot_be_kept_is_an_error_and_a_hit_stays_one(tmp_path):
    with memory_disk(tmp_path / "small", "512k") as small:
        speech = Speech(tmp_path / "episode.wav", small / "results.db")
        copy = tmp_path / "copy.wav"
        copy.write_bytes(b"speech")
        with speech.storage:
            speech.get()
            with (small / "rest").open("wb", buffering=0) as rest, pytest.raises(OSError, match="No space"):
                while True:
                    rest.write(bytes(4096))
            with pytest.raises(NoSpace):
                speech.get(lambda path: ([{"text": "x" * 100_000}], {}), force=True)
            assert speech.never().why == "cached"
            assert speech.never(path=copy).why == "same content at another path"
            (small / "rest").unlink()
            assert speech.get(force=True).row.ranges == RANGES


def test_fault_60_eight_threads_compute_once(speech):
    results = []
    in_threads(8, lambda n: results.append(speech.get()))
    assert speech.calls == 1 and sorted(each.hit for each in results) == [False] + [True] * 7


def test_fault_60_eight_processes_compute_once_though_the_first_is_killed(speech, program, tmp_path):
    text = """
        import os, signal, sys
        from cjm_media_storage.storage import MediaAnalysisStorage
        db, episode, folder = sys.argv[1:]
        def compute(path):
            try:
                os.mkdir(folder + "/first")
            except FileExistsError:
                os.mkdir(folder + "/second")  # nobody comes third
                return [], {}
            os.kill(os.getpid(), signal.SIGKILL)
        with MediaAnalysisStorage(db) as storage:
            print(storage.get_or_compute(episode, {"threshold": 0.5}, compute).hit)
    """
    processes = [program.start(text, speech.storage.db_path, speech.episode, tmp_path) for _ in range(8)]
    said = [process.communicate()[0].strip() for process in processes]
    assert sorted(said) == ["", "False"] + ["True"] * 6
    assert sorted(process.returncode for process in processes) == [-signal.SIGKILL] + [0] * 7


def test_fault_60_eight_processes_on_a_fresh_database_compute_each_result_once(address, program, tmp_path):
    text = """
        import sys
        from together import in_processes
        from cjm_media_storage.storage import MediaAnalysisStorage

        db, folder = sys.argv[1:]

        def work(n):
            with MediaAnalysisStorage(db) as storage:
                found = [
                    storage.get_or_compute(f"{folder}/{(n + i) % 8}.wav", {}, lambda path: ([{"of": path}], {}))
                    for i in range(8)
                ]
            return [each.hit for each in found]

        if __name__ == "__main__":
            results = in_processes(8, work)
            print(sum(map(sum, results)), sum(map(len, results)))
    """
    files = [tmp_path / f"{n}.wav" for n in range(8)]
    for file in files:
        file.write_text(f"speech in {file.name}")
    assert program(text, address, tmp_path) == "56 64"
    with MediaAnalysisStorage(address) as storage:
        assert {row.file_path: row.ranges for row in storage} == {str(file): [{"of": str(file)}] for file in files}


def test_a_computation_may_need_another_but_not_itself(speech):
    found = speech.get(lambda path: (speech.get(config={"first": True}).row.ranges, {}))
    assert found.row.ranges == RANGES and len(speech.storage) == 2
    with pytest.raises(NestedCompute, match=r"episode\.wav"):
        speech.get(lambda path: speech.get(force=True), force=True)


def test_fault_58_what_no_row_can_hold_is_refused_before_it_is_computed(speech):
    for wrong in ("", "garbage", A.upper()):
        with pytest.raises(InvalidHash):
            speech.get(lambda path: pytest.fail("it was computed"), config=wrong)


@pytest.mark.parametrize(
    "wrong", [[], None, {}, (), ([], {}, 1), SimpleNamespace(ranges=[]), SimpleNamespace(metadata={})], ids=repr
)
def test_what_is_no_pair_of_ranges_and_metadata_is_told(speech, wrong):
    with pytest.raises(InvalidRecord, match=rf"compute returned {type(wrong).__name__}, not \(ranges, metadata\)"):
        speech.get(lambda path: wrong)
    assert len(speech.storage) == 0


@pytest.mark.parametrize("wrong", ["", "garbage", "sha256:abc", b"\xff"], ids=repr)
def test_fault_58_garbage_of_an_older_program_is_no_hit_and_stays(path, tmp_path, wrong):
    speech, older = Speech(tmp_path / "episode.wav", path), First(path)
    with speech.storage:
        older.add_result(str(speech.episode), hash_dict_canonical(CONFIG))
        older.add_result(str(speech.episode), wrong)
        older.add_result("/of/others.wav", wrong)
        speech.storage._database.execute("UPDATE analysis_jobs SET file_hash = ?", (wrong,))
        assert speech.get().why == "input changed" and speech.never().why == "cached"
        kept = {(row.file_path, row.config_hash) for row in speech.storage}
        assert {(str(speech.episode), wrong), ("/of/others.wav", wrong)} < kept and len(kept) == 3


@pytest.mark.parametrize("text", ['{"level": NaN}', '["a list"]'])
def test_fault_58_what_no_row_should_hold_is_served_as_an_older_program_wrote_it(path, tmp_path, text):
    speech, older = Speech(tmp_path / "episode.wav", path), First(path)
    with speech.storage:
        older.add_result("/of/others.wav", hash_dict_canonical(CONFIG))
        values = text, hash_file(speech.episode)
        speech.storage._database.execute("UPDATE analysis_jobs SET metadata = ?, file_hash = ?", values)
        found = speech.never()
        assert (found.why, found.row.file_path) == ("same content at another path", str(speech.episode))
        assert repr(found.row.metadata) == repr(json.loads(text)) and len(speech.storage) == 1


@pytest.mark.parametrize("write", [Path, str, "./{}".format, "../here/{}".format], ids=["path", "text", "dot", "up"])
def test_fault_59_a_path_is_kept_as_its_caller_wrote_it(speech, tmp_path, monkeypatch, write):
    (tmp_path / "here").mkdir()
    speech.episode.rename(tmp_path / "here" / "episode.wav")
    monkeypatch.chdir(tmp_path / "here")
    path = write("episode.wav")
    row = speech.get(path=path).row
    assert row.file_path == os.fspath(path) and list(speech.storage) == [row]
    assert speech.never(path=path).why == "cached"
    assert speech.storage.get_cached(path, hash_dict_canonical(CONFIG)) == row


def test_fault_59_a_name_that_is_no_text(speech, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    path.write_bytes(b"music")
    assert speech.get(path=path).row.file_path == str(path)
    assert speech.never(path=str(path)).why == "cached"


def test_fault_61_results_of_older_programs_are_hits_only_for_the_bytes_that_were_analysed(path, tmp_path):
    First(path).add_result(str(tmp_path / "episode.wav"), hash_dict_canonical(CONFIG), {"old": 1})  # of a file A
    speech = Speech(tmp_path / "episode.wav", path)
    with speech.storage:
        assert speech.get().why == "input changed"
        speech.storage.save("/of/others.wav", hash_bytes(b"music"), hash_dict_canonical(CONFIG), [], {"old": 2})
        speech.episode.write_bytes(b"music")
        assert speech.never().row.metadata == {"old": 2}


@pytest.mark.parametrize("older", [First, Last], ids=["first", "last"])
def test_fault_61_a_file_of_an_older_program_is_computed_into_and_stays_that_programs(path, tmp_path, older):
    program = older(path)
    program.add_result("/of/others.wav", B, {"n": 1})
    [before] = query(path, "SELECT * FROM analysis_jobs")
    speech, config_hash = Speech(tmp_path / "episode.wav", path), hash_dict_canonical(CONFIG)
    with speech.storage:
        made = speech.get().row
        assert query(path, "SELECT * FROM analysis_jobs WHERE id = 1") == [before]
        assert older(path).results() == program.results() == {("/of/others.wav", B), (made.file_path, config_hash)}
        program.add_result(made.file_path, config_hash, {"theirs": True})  # of another file, A
        program.add_result("/of/theirs.wav", B)
        assert speech.get().why == "input changed"
        assert len(speech.storage) == len(program.results()) == 3
    assert query(path, "SELECT * FROM analysis_jobs WHERE id = 1") == [before]


@pytest.mark.parametrize("force", [False, True])
def test_fault_62_a_file_that_is_gone(speech, force):
    made = speech.get().row
    speech.episode.unlink()
    with pytest.raises(FileNotFoundError, match=r"episode\.wav"):
        speech.get(lambda path: pytest.fail("it was computed"), force=force)
    assert list(speech.storage) == [made]


@pytest.mark.parametrize("force", [False, True])
def test_fault_62_a_file_that_may_not_be_read(open_folder, force):
    speech = Speech(open_folder / "episode.wav", ":memory:")
    with speech.storage:
        made = speech.get().row
        speech.episode.chmod(0)
        with unprivileged(), pytest.raises(PermissionError, match=r"episode\.wav"):
            speech.get(lambda path: pytest.fail("it was computed"), force=force)
        assert list(speech.storage) == [made]


def test_logger_and_journal_hear_what_they_always_did(speech, caplog, monkeypatch):
    events = []

    class Wire:
        record_account = staticmethod(lambda event, payload: events.append((event, payload)))

    monkeypatch.setitem(__import__("sys").modules, WIRES[0], Wire)
    with caplog.at_level(logging.DEBUG):
        speech.get()
        assert caplog.text == ""
        speech.get(logger=logging.getLogger("plugin"))
        speech.get(logger=logging.getLogger("plugin"), force=True)
    said = [record.getMessage() for record in caplog.records]
    assert said[:2] == [f"{speech.episode}: hit (cached)", f"Saved to {speech.storage.db_path}"]
    assert said[2].startswith(f"{speech.episode}: computed in ")
    assert [event for event, _ in events] == ["result_saved", "cache_hit", "result_saved"]
    assert len(json.dumps(events)) < 2000
