"Old result files of both generations and kinds become one, and no row is lost, whatever happens meanwhile."

import json
import os
import signal
import sqlite3
from contextlib import closing

import pytest
from memory import peak_of
from old import First, Last
from on_disk import query
from results import A, B, D, analysis_row, counts, processing_row, result_file

from cjm_media_storage.analysis import MediaAnalysisStorage
from cjm_media_storage.errors import CorruptDatabase, NoResults, StoreUnavailable, UnsupportedFormat
from cjm_media_storage.importing import BATCH, OldFile, import_results
from cjm_media_storage.processing import MediaProcessingStorage

ANALYSES = f"SELECT {MediaAnalysisStorage.COLUMNS} FROM analysis_jobs"
JOBS = f"SELECT {MediaProcessingStorage.COLUMNS} FROM processing_jobs"


def everything(path):
    "All rows of all tables, ids too"
    tables = [name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: query(path, f"SELECT * FROM {name} ORDER BY rowid") for name in tables}


def listing(folder):
    "What is in a folder, and what tells a change"
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return [(path.name, path.stat().st_mtime_ns, path.read_bytes()) for path in paths]


def take_apart(path):
    "Rows of a file, of both kinds, as they stand; the first generation's with '' as config_hash"
    have = {row[1] for row in query(path, "PRAGMA table_info(processing_jobs)")}
    jobs = JOBS if "config_hash" in have else JOBS.replace("config_hash", "''")
    return set(query(path, ANALYSES)), set(query(path, jobs))


# ---- nothing is lost


@pytest.mark.parametrize("program", [First, Last])
def test_fault_61_rows_of_older_programs_come_over_as_they_stand(tmp_path, new, program):
    paths = [tmp_path / "a.db", tmp_path / "b.db"]
    for path in paths:
        each = program(path)
        for n in range(5):
            each.add_result(f"/{path.name}/{n}.wav", B, {"n": n} if n else None)
            each.add_job(f"{path.name} {n}", f"/{path.name}/{n}.mkv", B)
            each.add_job(f"{path.name} {n} again", f"/{path.name}/{n}.mkv", D)
    before = [take_apart(path) for path in paths]
    report = import_results(paths, new)
    assert (report.ok, counts(report)) == (True, (30, 0, 0))
    assert [file.kinds for file in report.files] == [("analysis", "processing")] * 2
    analyses, jobs = take_apart(new)
    assert analyses == before[0][0] | before[1][0] and jobs == before[0][1] | before[1][1]


def test_values_come_over_byte_for_byte(tmp_path, new):
    "Odd paths, JSON with spaces and in an order of its own, hashes that would be refused today"
    path = result_file(tmp_path / "a.db", analysis_row(file_path=os.fsdecode(b"caf\xe9.wav"), ranges=[], metadata={}))
    odd = ("naïve\nfile.wav", "md5:garbage", "", '[ {"end":2 , "start": 1.50} ]', "NaN", 1e9 + 1 / 3)
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(f"INSERT INTO analysis_jobs ({MediaAnalysisStorage.COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", odd)
    assert counts(import_results([path], new)) == (2, 0, 0)
    assert query(new, ANALYSES) == query(path, ANALYSES)
    with MediaAnalysisStorage(new) as storage:
        row = storage.get_cached(os.fsdecode(b"caf\xe9.wav"), A, B)
        assert (row.ranges, row.metadata) == ([], {})


def test_once_more_changes_nothing(tmp_path, new):
    row = processing_row(0, created_at=1.0)
    paths = [
        result_file(tmp_path / "a.db", analysis_row(metadata={"n": 1}, created_at=1.0), row),
        result_file(
            tmp_path / "b.db", analysis_row(metadata={"n": 2}, created_at=2.0), processing_row(0, output_hash=D)
        ),
        result_file(tmp_path / "c.db", processing_row(1, created_at=9.0), processing_row(2, input_path="/media/1.wav")),
    ]
    assert counts(import_results(paths, new)) == (4, 0, 2)
    before, content = everything(new), new.read_bytes()
    for order in (paths, paths[::-1]):
        report = import_results(order, new)
        assert (counts(report), report.conflicts) == ((0, 6, 0), ())
        assert everything(new) == before
    assert new.read_bytes() == content
    assert counts(import_results([new], tmp_path / "copy.db")) == (6, 0, 0)  # what is beside comes along
    assert set(map(str, everything(tmp_path / "copy.db"))) == set(map(str, before))


# ---- old files are only read


LEAVE = """
import os, signal, sys
from old import First
from cjm_media_storage.analysis import MediaAnalysisStorage
from results import A, B
storage = MediaAnalysisStorage(sys.argv[1])
storage.save("/media/first.wav", A, B)
storage.save("/media/second.wav", A, B)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("index", ["with", "without"])
def test_a_file_with_a_log_is_read_right_and_left_as_it_is(tmp_path, new, program, temporary, index):
    folder = tmp_path / "old"
    folder.mkdir()
    program.start(LEAVE, folder / "a.db").communicate()
    if index == "without":
        (folder / "a.db-shm").unlink()
    before = listing(folder)
    assert "a.db-wal" in [name for name, *_ in before]
    assert counts(import_results([folder / "a.db"], new)) == (2, 0, 0)
    assert listing(folder) == before
    assert os.listdir(temporary) == []


INTERRUPTED = """
import os, signal, sqlite3, sys
con = sqlite3.connect(sys.argv[1])
con.execute("PRAGMA cache_size=1")
con.execute("UPDATE analysis_jobs SET metadata = printf('%.4000c', 'x')")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_whose_program_was_killed_in_a_transaction_is_read_as_it_was_before(tmp_path, new, program, temporary):
    folder = tmp_path / "old"
    folder.mkdir()
    first = First(folder / "a.db")
    for n in range(20):
        first.add_result(f"/media/{n}.wav", B, {"n": n})
    wanted = query(folder / "a.db", ANALYSES)
    program.start(INTERRUPTED, folder / "a.db").communicate()
    before = listing(folder)
    assert [name for name, *_ in before] == ["a.db", "a.db-journal"]
    assert counts(import_results([folder / "a.db"], new)) == (20, 0, 0)
    assert query(new, ANALYSES) == wanted
    assert listing(folder) == before
    assert os.listdir(temporary) == []


def test_old_files_are_left_as_they_are(tmp_path, new):
    folder = tmp_path / "old"
    folder.mkdir()
    First(folder / "first.db").add_job("job", "/media/a.mkv", B)
    Last(folder / "last.db").add_result("/media/a.wav", B)
    (folder / "note.db").write_text("a note")
    before = listing(folder)
    report = import_results([folder / name for name in ("first.db", "last.db", "note.db", "gone.db")], new)
    assert counts(report) == (2, 0, 0)
    assert listing(folder) == before


# ---- what is no result file


def test_what_cannot_be_read_is_reported_and_the_others_go_on(tmp_path, new):
    good = result_file(tmp_path / "good.db", analysis_row(), processing_row())
    (tmp_path / "note.db").write_text("this is a note, and somebody needs it. " * 100)
    (tmp_path / "empty.db").touch()
    with closing(sqlite3.connect(tmp_path / "later.db")) as con:
        con.execute("PRAGMA user_version=9")
    with closing(sqlite3.connect(tmp_path / "films.db")) as con:
        con.execute("CREATE TABLE analysis_jobs (id INTEGER PRIMARY KEY, title TEXT)")
    names = ["note.db", "empty.db", "later.db", "films.db", "gone.db", "", "good.db"]
    report = import_results([tmp_path / name for name in names], new)
    kinds = [CorruptDatabase, NoResults, UnsupportedFormat, NoResults, StoreUnavailable, CorruptDatabase]
    assert [type(file.error) for file in report.files] == [*kinds, type(None)]
    assert (report.ok, counts(report)) == (False, (2, 0, 0))
    assert counts(import_results([good], new)) == (0, 2, 0)
    assert "films.db" in str(report) and "has no column file_path" in str(report)
    json.dumps(report.to_dict())


def test_nothing_is_made_of_garbage(tmp_path, new):
    (tmp_path / "note.db").write_text("a note")
    assert not import_results([tmp_path / "note.db", tmp_path / "gone.db"], new).ok
    assert not new.exists() and not (tmp_path / "gone.db").exists()


def test_a_damaged_page_ends_one_file_and_what_came_before_is_there(tmp_path, new):
    path = result_file(tmp_path / "a.db", *(analysis_row(n, metadata={"text": "x" * 500}) for n in range(2000)))
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 20_000)
    other = result_file(tmp_path / "b.db", analysis_row(5000))
    report = import_results([path, other], new)
    first, second = report.files
    assert type(first.error) is CorruptDatabase and 0 < first.new < 2000 and first.new % BATCH == 0
    assert (second.error, second.new) == (None, 1)
    with MediaAnalysisStorage(new) as storage:
        assert len(storage) == first.new + 1


def test_a_file_is_not_imported_into_itself(tmp_path):
    path = result_file(tmp_path / "a.db", analysis_row())
    (tmp_path / "link.db").symlink_to(path)
    with pytest.raises(ValueError, match="into itself"):
        import_results([tmp_path / "link.db"], path)


def test_what_concerns_the_new_file_is_raised(tmp_path, new):
    path = result_file(tmp_path / "a.db", analysis_row())
    new.parent.mkdir()
    new.write_text("a note, and no database")
    with pytest.raises(CorruptDatabase):
        import_results([path], new)


# ---- stopping, trying, and size


KILLED = """
import os, signal, sys
from cjm_media_storage.importing import import_results

def progress(file):
    if file.rows >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

import_results([sys.argv[1]], sys.argv[2], progress=progress)
"""


def test_fault_21_killed_in_the_middle_and_run_again(tmp_path, new, program):
    rows = [row(n, created_at=float(n)) for n in range(2 * BATCH) for row in (analysis_row, processing_row)]
    path = result_file(tmp_path / "a.db", *rows)
    for batches in (1, 2, 3):
        process = program.start(KILLED, path, new, batches * BATCH)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    report = import_results([path], new)
    assert counts(report) == (BATCH, 3 * BATCH, 0)
    assert take_apart(new) == take_apart(path)
    assert query(new, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("there", [True, False])
def test_dry_run_tells_the_same_and_does_nothing(tmp_path, new, temporary, there):
    if there:
        new.parent.mkdir()
        result_file(new, analysis_row(metadata={"n": 1}, created_at=1.0))
    before = listing(new.parent) if there else None
    paths = [result_file(tmp_path / f"{n}.db", analysis_row(created_at=5.0), processing_row(n)) for n in range(2)]
    tried = import_results(paths, new, dry_run=True)
    assert os.listdir(temporary) == []
    assert (listing(new.parent) == before) if there else not new.exists()
    done = import_results(paths, new)
    assert (tried.files, tried.conflicts) == (done.files, done.conflicts)
    assert counts(done) == ((2, 1, 1) if there else (3, 1, 0))
    assert "rows to be added" in str(tried) and "rows added" in str(done)


def test_fault_50_rows_stream_through_in_little_memory(tmp_path, new):
    text = {"text": "x" * 2000}
    path = result_file(tmp_path / "a.db", *(analysis_row(n, metadata=text) for n in range(8000)))
    found = []
    assert peak_of(lambda: found.append(counts(import_results([path], new))), runs=1) < 6 << 20  # of 16 MB
    assert found == [(8000, 0, 0)]


MANY = """
import resource, sys
from cjm_media_storage.importing import import_results
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
report = import_results([sys.argv[1]] * 50, sys.argv[2])
assert report.ok, report
print(report.count("new"), report.count("known"))
"""


def test_fault_50_any_number_of_files(tmp_path, new, program):
    assert program(MANY, result_file(tmp_path / "a.db", analysis_row(), processing_row()), new) == "2 98"


def test_a_writer_goes_on_meanwhile(tmp_path, new):
    path = result_file(tmp_path / "a.db", *(analysis_row(n) for n in range(3 * BATCH)))
    with MediaAnalysisStorage(path) as writer:

        def save_more(file):
            writer.save(f"/media/more {file.rows}.wav", A, B)

        report = import_results([path], new, progress=save_more)
        assert report.ok and counts(report)[0] >= 3 * BATCH
        import_results([path], new)
    assert take_apart(new)[0] == set(query(path, ANALYSES))


def test_an_old_file_closes(tmp_path):
    path = result_file(tmp_path / "a.db", analysis_row())
    with closing(OldFile(path)) as file:
        assert file.kinds == ("analysis", "processing")
