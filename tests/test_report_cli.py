"`media-storage report`, run as people run it."

import subprocess
import sys
from pathlib import Path

import pytest

from cjm_media_storage.demo import run
from cjm_media_storage.page import MARK


@pytest.fixture
def demo(here, monkeypatch):
    monkeypatch.delenv("MEDIA_STORAGE_STORE", raising=False)
    run(here / "demo", lambda line: None)
    return here / "demo"


def report(*args):
    command = [sys.executable, "-m", "cjm_media_storage.cli", "report", *args]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in run.stderr
    return run.returncode, run.stdout, run.stderr


def test_report(demo):
    results = [f"--db=demo/results/{name}.db" for name in ("analysis", "processing")]
    code, out, err = report("page.html", "--store", "demo/store", *results, "--verify", "hash")
    assert (code, out, err) == (0, Path("page.html").resolve().as_uri() + "\n", "")
    html = Path("page.html").read_text()
    assert html.startswith(MARK) and "no problems" in html and "S01E01.wav" in html


def test_the_nearest_store_is_found(demo, monkeypatch):
    monkeypatch.chdir(demo / "store" / "assets")
    assert report(str(demo / "page.html"))[0] == 0


def test_what_is_somebody_elses_stays(demo):
    Path("mine.html").write_text("mine")
    code, _, err = report("mine.html", "--store", "demo/store")
    assert code == 1 and "--force" in err
    assert Path("mine.html").read_text() == "mine"
    assert report("mine.html", "--store", "demo/store", "--force")[0] == 0
    assert Path("mine.html").read_text().startswith(MARK)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "nothing to report on"),
        (["--store", "nowhere"], 1, "nowhere"),
        (["--store", "demo/store", "--verify", "deeply"], 2, "is not a level"),
        (["--db", "demo/media/tmdb.png"], 1, "tmdb.png"),
        (["--store", "demo/store", "--lineage", "xyz"], 2, "xyz"),
    ],
)
def test_what_cannot_be_told(demo, args, code, message):
    found, out, err = report("page.html", *args)
    assert (found, out) == (code, "") and message in err
    assert not Path("page.html").exists()
