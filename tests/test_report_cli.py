"`media-storage report`, run as people run it."

from pathlib import Path

import pytest

from cjm_media_storage.demo import run
from cjm_media_storage.page import MARK


@pytest.fixture
def demo(here, monkeypatch):
    monkeypatch.delenv("MEDIA_STORAGE_STORE", raising=False)
    run(here / "demo", lambda line: None)
    return here / "demo"


def test_report(command, demo):
    results = [f"--db=demo/results/{name}.db" for name in ("analysis", "processing")]
    done = command("report", "page.html", "--store", "demo/store", *results, "--verify", "hash")
    assert (done.code, done.out, done.err) == (0, Path("page.html").resolve().as_uri() + "\n", "")
    html = Path("page.html").read_text()
    assert html.startswith(MARK) and "no problems" in html and "S01E01.wav" in html


def test_the_nearest_store_is_found(command, demo, monkeypatch):
    monkeypatch.chdir(demo / "store" / "assets")
    assert command("report", str(demo / "page.html")).code == 0


def test_what_is_somebody_elses_stays(command, demo):
    Path("mine.html").write_text("mine")
    done = command("report", "mine.html", "--store", "demo/store")
    assert done.code == 1 and "--force" in done.err
    assert Path("mine.html").read_text() == "mine"
    assert command("report", "mine.html", "--store", "demo/store", "--force").code == 0
    assert Path("mine.html").read_text().startswith(MARK)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "--db"),
        (["--store", "nowhere"], 1, "nowhere"),
        (["--store", "demo/store", "--verify", "deeply"], 2, "is not a level"),
        (["--db", "demo/media/tmdb.png"], 1, "tmdb.png"),
        (["--store", "demo/store", "--lineage", "xyz"], 2, "xyz"),
    ],
)
def test_what_cannot_be_told(command, demo, args, code, message):
    done = command("report", "page.html", *args)
    assert (done.code, done.raw) == (code, b"") and message in done.err
    assert not Path("page.html").exists()
