"The commands that look at results."

import csv
import io
import os

import pytest
from old import First
from results import analysis_row

from cjm_media_storage.storage import (
    MediaAnalysisRow,
    MediaAnalysisStorage,
    MediaProcessingRow,
    MediaProcessingStorage,
    hash_bytes,
)

A, B, C, CONFIG = (hash_bytes(content) for content in (b"a sound", b"a cut", b"another", b"{}"))


@pytest.fixture
def databases(here):
    "Options for a database of each kind; of the two files that they name, both are there"
    (here / "a.wav").write_bytes(b"a sound")
    (here / "cut.wav").write_bytes(b"a cut")
    with MediaAnalysisStorage(here / "analysis.db") as analyses:
        analyses.save("a.wav", A, CONFIG, ranges=[{"start": 0.5, "end": 1.0}], metadata={"of": "=1+1"})
    with MediaProcessingStorage(here / "processing.db") as jobs:
        jobs.save("job-1", "cut", "a.wav", A, "cut.wav", B, config_hash=CONFIG)
    return ["--db", "analysis.db", "--db", "processing.db"]


def test_list_and_show(command, databases):
    listed = command("results", "list", *databases, "--json").lines
    assert [row["kind"] for row in listed] == ["analysis", "processing"]
    assert listed[0]["ranges"] == [{"start": 0.5, "end": 1.0}]
    assert "job-1" in command("results", "list", *databases).out
    assert command("results", "list", *databases, "--hash", B[7:12], "--json").one["job_id"] == "job-1"
    assert len(command("results", "list", *databases, "--hash", A, "--json").lines) == 2
    assert len(command("results", "list", *databases, "--limit", "0").raw) == 0

    assert command("results", "show", "job-1", *databases, "--json").one["output_hash"] == B
    assert len(command("results", "show", A[7:12], *databases, "--json").lines) == 2
    assert "cut.wav" in command("results", "show", B[7:12], *databases).out


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["show", "job-9"], 2, "the id of no job"),
        (["show", "00000"], 1, "no object"),
        (["list", "--hash", "0"], 2, "hex digits"),
        (["export", "--csv"], 2, "one kind of rows"),
    ],
)
def test_mistakes(command, databases, args, code, says):
    done = command("results", *args, *databases)
    assert (done.code, done.raw, done.err.count("\n")) == (code, b"", 1)
    assert says in done.err


def test_digits_with_which_several_hashes_begin(command, here):
    with MediaAnalysisStorage(here / "analysis.db") as analyses:
        for letter in "cd":
            analyses.save(f"{letter}.wav", f"sha256:abba{letter * 60}", CONFIG)
    done = command("results", "show", "abba", "--db", "analysis.db")
    assert done.code and not done.raw and "abbac" in done.err and "abbad" in done.err
    assert "c.wav" in command("results", "show", "abbac", "--db", "analysis.db").out


def test_databases_from_the_environment(command, databases, monkeypatch):
    assert command("results", "list").code == 2
    monkeypatch.setenv("MEDIA_STORAGE_DB", os.pathsep.join(["analysis.db", "processing.db"]))
    assert len(command("results", "list", "--json").lines) == 2


def test_verify_tells_what_became_of_each_file(command, databases, here):
    assert command("results", "verify", *databases).code == 0
    (here / "cut.wav").write_bytes(b"something else")
    (here / "folder").mkdir()
    with MediaAnalysisStorage(here / "analysis.db") as analyses:
        analyses.save("gone.wav", C, CONFIG)
        analyses.save("folder", C, CONFIG)
    done = command("results", "verify", *databases, "--json")
    assert {each["path"]: each["state"] for each in done.lines} == {
        "a.wav": "same",
        "cut.wav": "changed",
        "gone.wav": "missing",
        "folder": "unreadable",
    }
    assert done.code == 1 and len(done.lines) == 4  # each file once
    assert "a.wav" not in command("results", "verify", *databases).out


def test_export(command, databases):
    exported = command("results", "export", *databases).lines
    assert [row["file_hash" if row["kind"] == "analysis" else "input_hash"] for row in exported] == [A, A]
    (row,) = csv.DictReader(io.StringIO(command("results", "export", "--csv", *databases[:2]).out))
    assert row["metadata"] == '{"of": "=1+1"}' and row["file_hash"] == A


def test_a_file_of_an_older_program_is_read(command, here):
    First(here / "old.db").add_result("a.wav", CONFIG)
    kinds = {row["kind"] for row in command("results", "list", "--db", "old.db", "--json").lines}
    assert kinds == {"analysis"}


def test_rows_that_name_a_hash_newest_first(tmp_path):
    with MediaAnalysisStorage(tmp_path / "a.db") as analyses:
        analyses.save_many([MediaAnalysisRow(f"{n}.wav", A, CONFIG, created_at=n) for n in range(3)])
        analyses.save("other.wav", B, CONFIG)
        assert [row.file_path for row in analyses.naming(A[:12])] == ["2.wav", "1.wav", "0.wav"]
        assert analyses.naming("sha256:" + "0" * 64) == []
    with MediaProcessingStorage(tmp_path / "p.db") as jobs:
        jobs.save_many([MediaProcessingRow("1", "cut", "a", A, "b", B), MediaProcessingRow("2", "cut", "b", B, "c", C)])
        assert [row.job_id for row in jobs.naming(B[:12])] == ["2", "1"]


def save_analyses(path, *metadata):
    with MediaAnalysisStorage(path) as storage:
        storage.save_many(analysis_row(n, metadata=each, created_at=1.0) for n, each in enumerate(metadata))


def test_import_results(command, here):
    save_analyses("a.db", {"n": 1}, None)
    save_analyses("b.db", {"n": 2})
    done = command("import-results", "a.db", "b.db", "--into", "new.db", "--dry-run")
    assert (done.code, done.err, os.path.exists("new.db")) == (0, "", False)
    assert "rows to be added to 'new.db': 2;" in done.out
    done = command("import-results", "a.db", "b.db", "--into", "new.db")
    assert (done.code, done.err) == (0, "")
    assert "'b.db': analysis: 0 new, 0 known, 1 in conflict" in done.out
    assert "rows added to 'new.db': 2; there already: 0; in conflict, and both kept: 1" in done.out
    assert "conflict: analysis of '/media/0.wav' in 'b.db'" in done.out
    again = command("import-results", "a.db", "b.db", "--into", "new.db", "--json").one
    assert [(file["new"], file["known"]) for file in again["files"]] == [(0, 2), (0, 1)]


def test_import_results_of_garbage(command, here):
    save_analyses("a.db", None)
    (here / "notes.db").write_text("a note")
    done = command("import-results", "notes.db", "a.db", "--into", "new.db")
    assert done.code == 1
    assert "file is not a database" in done.out
    assert "rows added to 'new.db': 1;" in done.out
    assert command("import-results", "a.db", "--into", "a.db").code == 2
    assert command("import-results", "--into", "a.db").code == 2
