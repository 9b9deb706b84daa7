"Jobs: the seed's examples as written there, history that survives, and files of older programs that lose nothing."

import gc
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from old import CACHE_INDEX, First, Last, Published
from on_disk import query, unprivileged
from results import A, B, C, D, analysis_row, processing_row

from cjm_media_storage.analysis import MediaAnalysisStorage
from cjm_media_storage.errors import CorruptDatabase, InvalidRecord, ReadOnlyStore
from cjm_media_storage.hashing import hash_file
from cjm_media_storage.processing import MediaProcessingRow, MediaProcessingStorage


@pytest.fixture
def storage(address):
    with MediaProcessingStorage(address) as storage:
        yield storage


@pytest.fixture
def on_file(path):
    with MediaProcessingStorage(path) as storage:
        yield storage


def names(rows):
    return [row.job_id for row in rows]


def test_examples_of_the_seed(tmp_path):
    "Word for word but for the prints"
    proc_row = MediaProcessingRow(
        job_id="job_conv_001",
        action="convert",
        input_path="/tmp/source.mkv",
        input_hash="sha256:" + "a" * 64,
        output_path="/tmp/output.mp4",
        output_hash="sha256:" + "b" * 64,
        parameters={"output_format": "mp4", "codec": "h264"},
    )
    assert (proc_row.created_at, proc_row.config_hash) == (None, "")

    (tmp_path / "made by tempfile.db").touch()
    proc_storage = MediaProcessingStorage(str(tmp_path / "made by tempfile.db"))
    proc_storage.save(
        job_id="job_conv_001",
        action="convert",
        input_path="/tmp/source.mkv",
        input_hash="sha256:" + "a" * 64,
        output_path="/tmp/output.mp4",
        output_hash="sha256:" + "b" * 64,
        parameters={"output_format": "mp4", "codec": "h264"},
        metadata={"duration": 120.5},
    )
    row = proc_storage.get_by_job_id("job_conv_001")
    assert row is not None
    assert row.job_id == "job_conv_001"
    assert row.action == "convert"
    assert row.input_path == "/tmp/source.mkv"
    assert row.output_path == "/tmp/output.mp4"
    assert row.parameters["output_format"] == "mp4"
    assert row.created_at is not None
    assert proc_storage.get_by_job_id("nonexistent") is None

    proc_storage.save(
        job_id="job_ext_001",
        action="extract_segment",
        input_path="/tmp/source.mkv",
        input_hash="sha256:" + "a" * 64,
        output_path="/tmp/segment_10-20.wav",
        output_hash="sha256:" + "c" * 64,
        parameters={"start": 10.0, "end": 20.0},
    )
    jobs = proc_storage.list_jobs()
    assert len(jobs) == 2
    assert jobs[0].job_id == "job_ext_001"
    assert jobs[0].action == "extract_segment"
    proc_storage.close()


def test_both_generations_save(storage):
    first = ("job_1", "convert", "/a.mkv", A, "/a.mp4", C)
    storage.save(*first)
    storage.save(*first[:1], action="convert", input_path="/a.mkv", input_hash=A, output_path="/b.mp4", output_hash=C)
    storage.save("job_2", "convert", "/a.mkv", A, "/a.mp4", C, {"crf": 20}, {"took": 1.5}, B)
    assert storage.get_by_job_id("job_1").output_path == "/b.mp4"
    second = storage.get_cached(action="convert", input_path="/a.mkv", input_hash=A, config_hash=B)
    assert (second.parameters, second.metadata, second.config_hash) == ({"crf": 20}, {"took": 1.5}, B)


@pytest.mark.parametrize("change", ["action", "input_path", "input_hash", "config_hash"])
def test_a_hit_needs_all_four(storage, change):
    storage.save_many([processing_row()])
    asked = {"action": "convert", "input_path": "/media/0.wav", "input_hash": A, "config_hash": B}
    assert storage.get_cached(**asked).job_id == "job_0"
    assert storage.get_cached(**asked | {change: D}) is None


@pytest.mark.parametrize("change", ["action", "input_hash", "config_hash"])
def test_finding_by_content_needs_all_three(storage, change):
    storage.save_many([processing_row()])
    asked = {"action": "convert", "input_hash": A, "config_hash": B}
    assert storage.find(**asked).job_id == "job_0"
    assert storage.find(**asked | {change: D}) is None


def test_a_job_without_config_hash_is_never_a_hit(storage):
    storage.save_many(processing_row(0, job_id=f"job_{n}", config_hash="") for n in range(5))
    assert len(storage) == 5
    assert storage.get_cached("convert", "/media/0.wav", A, "") is None
    assert storage.find("convert", A, "") is None


@pytest.mark.parametrize("parameters", [None, {}, {"start": 0.0, "tracks": []}], ids=repr)
def test_empty_parameters_are_kept_apart(storage, parameters):
    storage.save_many([processing_row(parameters=parameters)])
    assert storage.get_by_job_id("job_0").parameters == parameters


@pytest.mark.parametrize("name", ["job_id", "action"])
@pytest.mark.parametrize("wrong", ["", "a\0b", None, 7, "\ud800"], ids=repr)
def test_names_are_checked(storage, name, wrong):
    with pytest.raises(InvalidRecord, match=name):
        storage.save_many([processing_row(), processing_row(1, **{name: wrong})])
    assert len(storage) == 0


# ---- jobs that replace others


def test_a_replaced_job_stays_readable(storage):
    for n in range(3):
        storage.save_many([processing_row(0, job_id=f"job_{n}", metadata={"n": n}, created_at=n)])
    assert names(storage.list_jobs()) == ["job_2"]
    assert [storage.get_by_job_id(f"job_{n}") for n in range(3)] == [
        processing_row(0, job_id=f"job_{n}", metadata={"n": n}, created_at=float(n)) for n in range(3)
    ]


def test_a_replaced_job_stays_verifiable(storage, tmp_path):
    film, out = tmp_path / "film.mkv", tmp_path / "film.mp4"
    film.write_bytes(b"a film")
    out.write_bytes(b"as mp4")
    row = processing_row(
        input_path=film, input_hash=hash_file(film), output_path=out, output_hash=hash_file(out), job_id="first"
    )
    storage.save_many([row])
    out.write_bytes(b"again!")
    storage.save_many([MediaProcessingRow(**vars(row) | {"job_id": "second", "output_hash": hash_file(out)})])
    assert (storage.verify_input("first"), storage.verify_output("first")) == (True, False)
    assert (storage.verify_input("second"), storage.verify_output("second")) == (True, True)
    out.unlink()
    with pytest.raises(FileNotFoundError):
        storage.verify_output("first")
    assert storage.verify_output("third") is None


def test_the_same_job_id_again_replaces_that_job(storage):
    storage.save_many([processing_row(0), processing_row(1)])
    storage.save_many([processing_row(7, job_id="job_0", config_hash=D)])
    assert sorted(names(storage)) == ["job_0", "job_1"]
    assert storage.get_by_job_id("job_0").input_path == "/media/7.wav"
    assert storage.get_cached("convert", "/media/0.wav", A, B) is None


def test_a_job_that_collides_with_two_rows(storage):
    "job_0 is saved anew under the key of job_1: one row is left, and job_1 is history"
    storage.save_many([processing_row(0), processing_row(1), processing_row(2)])
    storage.save_many([processing_row(1, job_id="job_0", metadata={"new": True})])
    assert sorted(names(storage)) == ["job_0", "job_2"]
    assert storage.get_cached("convert", "/media/1.wav", A, B).job_id == "job_0"
    assert storage.get_by_job_id("job_0").metadata == {"new": True}
    assert storage.get_by_job_id("job_1").input_path == "/media/1.wav"


def test_a_job_that_is_refused_takes_no_other_with_it(on_file, path):
    "job_0 would be saved under the key of job_1, for which its own row goes"
    on_file.save_many([processing_row(0), processing_row(1)])
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON processing_jobs "
            "BEGIN SELECT RAISE(ABORT, 'somebody else will have none of it'); END"
        )
    with pytest.raises(CorruptDatabase, match="will have none of it"):
        on_file.save_many([processing_row(1, job_id="job_0")])
    assert names(on_file) == ["job_0", "job_1"]


def test_a_replaced_job_may_come_back(storage):
    for job_id in ("job_0", "job_1", "job_0"):
        storage.save_many([processing_row(0, job_id=job_id)])
    assert names(storage) == ["job_0"]
    assert storage.get_by_job_id("job_1")
    assert storage.delete("job_0") == 1
    assert storage.get_by_job_id("job_0") is None and storage.get_by_job_id("job_1")
    assert (storage.delete("job_1"), storage.delete("job_1")) == (1, 0)


def test_history_holds_what_was_replaced_and_nothing_else(storage):
    "A copy of a current job there would go on naming files that the job itself names no more"
    others = {"action": "cut", "input_path": "/other.wav", "config_hash": D}
    rows = [processing_row(), *(processing_row(job_id=name, **{name: other}) for name, other in others.items())]
    storage.save_many([*rows, processing_row(job_id="history", config_hash=""), *rows])
    replaced = "SELECT job_id FROM replaced_jobs"
    assert storage._database.fetch(replaced) == []
    storage.save_many([processing_row(job_id="newer")])
    assert storage._database.fetch(replaced) == [("job_0",)]


def test_find_uses_an_index(on_file):
    sql = "EXPLAIN QUERY PLAN SELECT * FROM processing_jobs WHERE input_hash = ? AND action = ? AND config_hash = ?"
    assert "USING INDEX" in query(on_file.db_path, sql, A, "convert", B)[0][-1]


def test_fault_41_nothing_is_made_that_could_not_be_recorded(open_folder):
    closed, film = open_folder / "closed", open_folder / "film.mkv"
    film.write_bytes(b"a film")
    made = []

    def make(path):
        made.append(Path(path).write_bytes(b"as mp4"))

    def ask(storage, name):
        return storage.get_or_compute("convert", film, {"to": name}, make, output_path=open_folder / name)

    with MediaProcessingStorage(closed / "results.db") as storage:
        ask(storage, "film.mp4")
    (closed / "results.db").chmod(0o444)
    closed.chmod(0o555)
    with unprivileged(), MediaProcessingStorage(closed / "results.db") as storage:
        assert ask(storage, "film.mp4").hit
        with pytest.raises(ReadOnlyStore):
            ask(storage, "film.webm")
    assert len(made) == 1


# ---- files of older programs

COLUMNS = "id, job_id, action, input_path, input_hash, output_path, output_hash, parameters, metadata, created_at"


def rows(path):
    "All that is in a file of any generation, as it stands there; jobs that were replaced included"
    tables = {name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    found = {"results": set(query(path, "SELECT * FROM analysis_jobs"))}
    found["jobs"] = set(query(path, f"SELECT {COLUMNS} FROM processing_jobs"))
    if "replaced_jobs" in tables:
        found["jobs"] |= set(query(path, f"SELECT {COLUMNS} FROM replaced_jobs"))
    return found


def assert_kept(before, after):
    for name in before:
        assert before[name] <= after[name], name


def fill(program, prefix, count=30):
    "Work as an older program: jobs over three inputs, each with other parameters"
    for n in range(count):
        program.add_job(f"{prefix}_{n}", f"/media/{n % 3}.mkv", f"sha256:{n:064x}")
        program.add_result(f"/media/{prefix}_{n}.wav", B, {"n": n})


def test_fault_61_thousand_jobs_of_the_seed_over_few_inputs(path):
    with closing(sqlite3.connect(path)) as con:
        First(path)
        con.executemany(
            f"INSERT INTO processing_jobs ({COLUMNS}) VALUES (?, ?, 'convert', ?, ?, '/out', ?, ?, NULL, ?)",
            [(n * 2, f"job_{n}", f"/media/{n % 60}", A, C, f'{{"n": {n}}}', n / 7) for n in range(1, 1001)],
        )
        con.commit()
    before = rows(path)
    with MediaProcessingStorage(path) as storage:
        assert len(storage) == 1000
        assert storage.get_by_job_id("job_7").parameters == {"n": 7}
        assert {row.config_hash for row in storage} == {""}
        assert names(storage.list_jobs(2)) == ["job_1000", "job_999"]
    assert rows(path) == before
    [backup] = path.parent.glob("results.db.v0.*.backup")
    assert rows(backup) == before
    Last(path)  # which deleted 940 of them, had it come first
    First(path)
    MediaProcessingStorage(path).close()
    assert rows(path) == before
    assert [*path.parent.glob("*.backup")] == [backup]


def test_fault_61_the_old_programs_of_these_tests_do_lose_rows(path):
    "What the remedy is for: without us, the last release deletes jobs of the first"
    fill(First(path), "first")
    Last(path)
    assert len(query(path, "SELECT * FROM processing_jobs")) == 3


def test_fault_61_full_index_of_the_last_release_is_replaced(path):
    fill(Last(path), "last")
    before = rows(path)
    with MediaProcessingStorage(path) as storage:
        assert storage.get_cached("convert", "/media/0.mkv", A, f"sha256:{0:064x}").job_id == "last_0"
        storage.save_many(processing_row(0, job_id=f"history_{n}", config_hash="") for n in range(5))
        assert len(storage) == 35
    assert_kept(before, rows(path))
    [(sql,)] = query(path, "SELECT sql FROM sqlite_master WHERE name = 'idx_processing_cache'")
    assert sql.endswith("WHERE config_hash <> ''") and sql != CACHE_INDEX


def published():
    reason = "cjm-media-plugin-system is not installed"
    pytest.importorskip("cjm_media_plugin_system.storage", reason=reason)
    return Published


programs = {"argvalues": [lambda: First, lambda: Last, pytest.param(published, marks=pytest.mark.plugins)]}
programs["ids"] = ["first", "last", "published"]


@pytest.fixture
def collected():
    "The published classes leave their connections to the garbage collector, which Python 3.13 warns of: it runs here"
    yield
    gc.collect()


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.parametrize("maker", **programs)
@pytest.mark.parametrize("user", **programs)
def test_fault_61_files_go_to_and_fro(path, maker, user):
    "An older program makes the file, we open it, any older program uses it, we read it: nothing is lost"
    maker, user = maker(), user()
    fill(maker(path), "old")
    before = rows(path)
    with MediaProcessingStorage(path) as jobs, MediaAnalysisStorage(path) as results:
        assert rows(path) == before
        jobs.save_many(processing_row(n, job_id=f"ours_{n}", config_hash=f"sha256:{n:064x}") for n in range(30))
        results.save_many(analysis_row(n) for n in range(30))

        kept = rows(path)
        program = user(path)  # while ours are open
        assert rows(path) == kept
        assert len(program.jobs()) == len(program.results()) == 60
        fill(program, "new")
        after = rows(path)
        assert_kept(kept, after)
        for prefix in ("old", "ours", "new"):
            assert all(jobs.get_by_job_id(f"{prefix}_{n}") for n in range(30))
        assert results.get_cached("/media/new_3.wav", A, B).metadata == {"n": 3}
        assert results.get_cached("/media/old_3.wav", B).metadata == {"n": 3}

    again = user(path)  # after ours were closed
    program.add_result("/media/old_3.wav", B, {"n": "again"})
    assert again.results() == program.results() and again.jobs() == program.jobs()
    assert rows(path)["jobs"] == after["jobs"]
    with MediaAnalysisStorage(path) as results:
        assert results.get_cached("/media/old_3.wav", A, B).metadata == {"n": "again"}
        assert len(results) == 90
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.parametrize("user", **programs)
def test_fault_61_job_replaced_by_an_older_program_stays_readable(path, user):
    user = user()
    with MediaProcessingStorage(path) as storage:
        storage.save_many([processing_row(0, config_hash=B, metadata={"ours": True})])
        user(path).add_job("theirs", "/media/0.wav", B)
        theirs = storage.get_by_job_id("theirs")
        assert theirs.input_path == "/media/0.wav"
        assert len(storage) == (1 if theirs.config_hash else 2)  # the first generation has none, and replaces nothing
        assert storage.get_by_job_id("job_0").metadata == {"ours": True}


def test_columns_of_the_first_release_keep_their_order(on_file):
    columns = [row[1] for row in query(on_file.db_path, "PRAGMA table_info(processing_jobs)")]
    assert columns == [*COLUMNS.split(", "), "config_hash"]
