"The demo: real files through all three storages, and every number it prints is true."

import contextlib
import os
import re
import shlex
import subprocess
import sys

import pytest

from cjm_media_storage.demo import run
from cjm_media_storage.storage import (
    ContentStore,
    MediaAnalysisStorage,
    MediaProcessingStorage,
    NotAStore,
    hash_file,
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "a demo"  # a space, so that what is printed must be quoted


def run_quietly(folder):
    lines = []
    return run(folder, lines.append), lines


def test_counts_are_true(folder):
    report, _ = run_quietly(folder)
    media = [path for path in (folder / "media").rglob("*") if path.is_file()]
    kept = {hash_file(path): path.stat().st_size for path in media}
    assert (report.received, report.received_bytes) == (len(media), sum(path.stat().st_size for path in media))
    assert (report.kept, report.kept_bytes) == (len(kept), sum(kept.values()))
    assert report.kept < report.received
    with ContentStore(folder / "store") as store:
        assert len(store) == report.created == report.kept + 1  # and the cut
        assert all(hash in store for hash in kept)
        poster = hash_file(folder / "media" / "tmdb.png")
        assert [source.provider for source in store.sources(poster)] == ["TMDB", "Fanart.tv"]
        assert all(source.location.startswith("https://") for source in store.sources(poster))
        assert {reference.owner for reference in store.references(poster)} == {"movie:101", "movie:102"}
    with MediaAnalysisStorage(folder / "results" / "analysis.db") as results:
        assert len(results) == 3
    assert (report.analysed, report.analyses_cached) == (2, 4)  # the backup was found by its content
    assert (report.cuts, report.cuts_cached) == (1, 1)
    assert (report.verified, report.damaged) == (len(kept) + 1 + 3 + 2, 0)


def test_second_run_does_nothing_twice(folder):
    first, _ = run_quietly(folder)
    again, lines = run_quietly(folder)
    assert (again.created, again.analysed, again.cuts) == (0, 0, 0)
    assert (again.kept_bytes, again.verified) == (first.kept_bytes, first.verified)
    assert not any(line.endswith("new") or "computed" in line for line in lines)


def test_same_bytes_in_each_run(tmp_path):
    for name in ("a", "b"):
        run_quietly(tmp_path / name)
    one, other = (
        {path.relative_to(root): hash_file(path) for path in sorted(root.rglob("*.[wp][an][vg]"))}
        for root in (tmp_path / "a", tmp_path / "b")
    )
    assert one == other


def test_lost_and_edited_files_are_made_again(folder):
    run_quietly(folder)
    next((folder / "cuts").iterdir()).unlink()
    (folder / "media" / "S01E02.wav").write_bytes(b"half")
    report, _ = run_quietly(folder)
    assert (report.cuts, report.damaged, report.analysed) == (1, 0, 0)


def test_an_edited_cut_is_made_again(folder):
    run_quietly(folder)
    (made,) = (folder / "cuts").iterdir()
    whole = made.read_bytes()
    made.write_bytes(b"edited")
    report, _ = run_quietly(folder)
    assert (report.cuts, report.cuts_cached, report.damaged, made.read_bytes() == whole) == (1, 1, 0, True)
    assert os.listdir(folder / "cuts") == [made.name]


def test_damage_is_told(folder, caplog):
    run_quietly(folder)
    with ContentStore(folder / "store") as store:
        store.put(b"one more object").path.unlink()
    report, lines = run_quietly(folder)
    assert report.damaged == 1
    assert "   objects in the store           5 of 6 intact" in lines
    assert "is gone" in caplog.text


def test_moved_folder(folder):
    run_quietly(folder)
    moved = folder.rename(folder.with_name("moved"))
    report, _ = run_quietly(moved)
    assert (report.created, report.analysed, report.cuts, report.damaged) == (0, 0, 0, 0)


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "S01E01.wav").write_bytes(b"somebody's own")
    with pytest.raises(NotAStore):
        run_quietly(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["media"]
    assert (tmp_path / "media" / "S01E01.wav").read_bytes() == b"somebody's own"


def test_fits_a_terminal(here):
    _, lines = run_quietly("media-storage-demo")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40
    assert all(line.isascii() for line in lines)


def test_what_it_says_to_try_works(folder):
    report, lines = run_quietly(folder)
    shell, add = (line.strip() for line in lines[-7:-5])
    checked = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(checked) == report.created
    assert all(re.fullmatch(r"(\w{64})  \S+/\1\.\w+", line) for line in checked)
    *statements, sources, jobs = (line.strip() for line in lines[-4:])
    names = {}
    exec("\n".join(statements), names)
    with contextlib.closing(names["store"]):
        assert [source.provider for source in eval(sources, names)] == ["TMDB", "Fanart.tv"]
    assert [row.ranges[0]["start"] for row in eval(jobs, names)] == [0.6, 0.0, 0.6]

    command = [sys.executable, "-m", "cjm_media_storage.cli", *shlex.split(add)[1:]]
    added = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^ *new +0 ", added, re.MULTILINE)
    assert re.search(rf"^ *already known, saved +{report.received} ", added, re.MULTILINE)


def test_jobs_are_recorded_with_both_hashes(folder):
    run_quietly(folder)
    with MediaProcessingStorage(folder / "results" / "processing.db") as jobs:
        (job,) = jobs.list_jobs()
    assert (job.input_hash, job.output_hash) == (hash_file(job.input_path), hash_file(job.output_path))
    assert os.path.isabs(job.input_path)
