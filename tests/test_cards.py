"Every object shows itself, whatever is in it."

import json
import sqlite3
from contextlib import closing

import pytest
from on_disk import query
from pages import HOSTILE, Page

from cjm_media_storage.cards import SHOWN, card, in_bytes, in_utc, rows, value_of
from cjm_media_storage.lineage import Lineage
from cjm_media_storage.maintenance import gc, repair, verify
from cjm_media_storage.media import make_png, make_wav
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import (
    ContentStore,
    MediaAnalysisRow,
    MediaAnalysisStorage,
    MediaProcessingRow,
    MediaProcessingStorage,
)

HASH = f"sha256:{'ab' * 32}"
PNG, WAV = make_png((9, 9, 9)), make_wav([(440, 0.1)])


def page_of(item):
    page = Page(item._repr_html_())
    assert page.is_ours()
    return page


def test_a_store_shows_its_counts_and_what_came_last(store):
    for n in range(7):
        store.put(b"%d" % n)
    picture = store.put(PNG, owner="movie:1")
    page = page_of(store)
    told = "|".join(page.texts)
    assert "ContentStore" in page.texts and "objects|8|" in told and "references|1|" in told
    assert page.tags.count("img") == 1 and page.tags.count("code") == 5
    assert ("title", picture.hash) in page.attributes


def test_objects_show_a_picture_or_a_player(store):
    for content, tag in ((PNG, "img"), (WAV, "audio")):
        put = store.put(content, extension="txt")
        assert page_of(put).tags.count(tag) == page_of(store.get(put.hash)).tags.count(tag) == 1
    put.path.unlink()
    assert "no preview: No such file or directory" in page_of(put).texts


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_rows_are_names(name):
    found = [{"start": 1, "end": 2, "label": name, name: name}, name]
    for row in (
        MediaAnalysisRow(name, HASH, HASH, found, {name: name}, 1.0),
        MediaProcessingRow(name, name, name, HASH, name, HASH, {name: name}, {name: [name]}, 1.0, name),
    ):
        page_of(row)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "\ud800"])
def test_names_in_a_store_are_names(tmp_path, name):
    with ContentStore(tmp_path / "store") as store:
        (tmp_path / "file").write_bytes(b"x")
        put = store.put(tmp_path / "file", source=name, provider="<i>", owner="<b>", role="'")
        page_of(store.sources(put.hash)[0])
        page_of(store.references(put.hash)[0])
        store.delete(put.hash, "<script>", force=True)
        assert "<script>" in page_of(store.trash).texts
        page_of(next(iter(store.trash)))


def test_reports_say_whether_all_is_well(store):
    put = store.put(PNG)
    assert "✓ all is well" in page_of(verify(store)).texts
    put.path.chmod(0o644)
    put.path.write_bytes(b"broken")
    (store.root / "assets" / "<script>").write_bytes(b"")
    report = page_of(verify(store))
    assert "✗ not all is well" in report.texts and "1 corrupt, 1 foreign" in report.texts
    assert "assets/<script>" in report.texts
    page_of(repair(store))
    page_of(repair(store, dry_run=False))
    collection = page_of(gc(store, grace=0))
    assert "orphans" in collection.texts


def test_result_storages_libraries_and_lineage_show_themselves(tmp_path, store):
    with MediaAnalysisStorage(tmp_path / "a.db") as analyses, MediaProcessingStorage(tmp_path / "p.db") as jobs:
        (tmp_path / "f").write_bytes(b"f")
        computed = analyses.get_or_compute(tmp_path / "f", {}, lambda path: ([{"start": 0, "end": 1}], None))
        assert {"never computed", "1 segment"} <= set(page_of(computed).texts)
        jobs.save("<script>", "cut", "a", HASH, "b", HASH)
        assert {"rows", "1", "<script>"} <= set(page_of(jobs).texts)
        page_of(analyses)
        page_of(Library(store, tmp_path / "films"))
        with Lineage(jobs) as lineage:
            page_of(lineage)
            page_of(lineage.graph(HASH).table)


def test_what_is_closed_or_broken_still_shows_itself(tmp_path):
    with ContentStore(tmp_path / "store") as store, MediaAnalysisStorage(tmp_path / "a.db") as analyses:
        analyses.save("f", HASH, HASH, [])
    assert page_of(store).texts[-1].startswith("cannot be shown: ")
    assert page_of(analyses).texts[-1].startswith("cannot be shown: ")
    with closing(sqlite3.connect(tmp_path / "a.db")) as con, con:
        con.execute("UPDATE analysis_jobs SET ranges = 'no JSON'")
    with MediaAnalysisStorage(tmp_path / "a.db") as analyses:
        assert "cannot be shown: " in page_of(analyses).texts[-1]


@pytest.mark.parametrize("ranges", [None, [], [1], [[1]], [{"start": "x"}], "text", {"a": 1}, [None, {"end": 10**400}]])
@pytest.mark.parametrize("created_at", [None, 0.0, 1e300, -1e18])
def test_any_json_shows_itself(ranges, created_at):
    page_of(MediaAnalysisRow("f", "no hash", "", ranges, {"deep": [[{}]]}, created_at))


def test_long_things_are_cut():
    row = MediaAnalysisRow("f" * 10_000, HASH, HASH, [{"start": n, "end": n + 1} for n in range(100_000)])
    html = row._repr_html_()
    assert len(html) < 100_000 and "100,000 segments" in html and "and 99,980 more" in html
    table = Page(rows([row] * (SHOWN + 5), SHOWN + 5))
    assert table.tags.count("tr") == SHOWN + 1 and "and 5 more" in table.texts


def test_values_say_what_they_mean():
    assert [in_bytes(size) for size in (0, 999, 1000, 10**6, 10**18)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "1.0 MB",
        "1,000.0 PB",
    ]
    assert in_utc(1e9) == "2001-09-09 01:46:40 UTC" and in_utc(float("nan")) == "nan"
    assert "2001" in value_of("created_at", 1e9) and "2001" in value_of("first_seen", 10**9)
    assert value_of("metadata", b"x" * 10**6) == "1.0 MB"
    assert json.loads(Page(value_of("parameters", {"<b>": 1})).texts[0]) == {"<b>": 1}


def test_showing_changes_nothing(store, tmp_path):
    put = store.put(PNG)
    before = query(store.root / ".store" / "index.db", "SELECT * FROM objects")
    card(store), card(put)
    assert query(store.root / ".store" / "index.db", "SELECT * FROM objects") == before
