"What other programs may rely on: the queries of docs/FORMATS.md, asked of the files of the demo by plain SQLite."

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cjm_media_storage.demo import run

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "FORMATS.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def demo(here, monkeypatch):
    run(here / "demo", lambda line: None)
    for name in ("analysis", "processing"):
        (here / f"{name}.db").symlink_to(here / "demo" / "results" / f"{name}.db")
    (here / "store").symlink_to(here / "demo" / "store")


def answers(query):
    *attached, select, _ = query.split(";")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as con:
        for each in attached:
            con.execute(each)
        return con.execute(select).fetchall()


def test_every_query_is_answered(demo):
    segments, made, sources = map(answers, QUERIES)
    assert [Path(row[0]).name for row in segments[:2]] == ["S01E01.wav", "S01E01.wav"]
    assert segments[0][1:] == (0.6, 3.0, "sound") and len(segments) == 7
    assert [(Path(row[0]).name, row[1], row[3]) for row in made] == [("S01E01.wav", "cut", 2)]
    assert {"TMDB", "Fanart.tv"} <= {row[0] for row in sources}
    assert all((Path("store") / row[2]).is_file() for row in sources)


@pytest.mark.parametrize("table", ["analysis_jobs", "processing_jobs", "replaced_jobs"])
def test_the_page_names_the_columns_that_are_there(demo, table):
    (told,) = re.findall(rf"^\| `{table}` \|.*\| (.*) \|$", PAGE, re.MULTILINE)
    if told.startswith("as "):
        (told,) = re.findall(rf"^\| {told[3:]} \|.*\| (.*) \|$", PAGE, re.MULTILINE)
    path = "analysis.db" if table == "analysis_jobs" else "processing.db"
    with closing(sqlite3.connect(path)) as con:
        there = [row[1] for row in con.execute(f"PRAGMA table_info({table})")]
    assert re.findall(r"`(\w+)`", told) == there
