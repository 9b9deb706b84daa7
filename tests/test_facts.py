"What a report tells is what is there."

from pathlib import Path

import pytest
from memory import peak_of
from results import analysis_row
from rich_store import fill

from cjm_media_storage.analysis import MediaAnalysisStorage
from cjm_media_storage.facts import result_facts, store_facts, timeline
from cjm_media_storage.processing import MediaProcessingStorage
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import ContentStore, NoResults, StoreUnavailable


def test_counts_are_those_of_the_store(store, tmp_path):
    poster = store.put(b"a poster", source="https://me:secret@a.org/p.png", owner="movie:1")
    store.put(b"a poster", source="https://b.org/p.png")
    store.put(b"an actor", namespace="actors", extension="jpg")
    Library(store, tmp_path / "movies").publish(poster.hash, "Alien/poster.png")
    store.delete(store.put(b"a draft", source="/films/draft.txt").hash)
    facts = store_facts(store)
    assert (facts.objects, facts.bytes, facts.never) == (2, 16, 2)
    assert (facts.spared.objects, facts.spared.bytes) == (1, 8)
    assert {(share.name, share.objects) for share in facts.namespaces} == {("assets", 1), ("actors", 1)}
    assert {share.name for share in facts.kinds} == {"png", "jpg"}
    assert (facts.orphans.total, facts.orphan_bytes) == (1, 8)
    assert [each.name for each in facts.trash.rows] == ["/films/draft.txt"]
    assert [Path(each.path).name for each in facts.publications.rows] == ["poster.png"]
    assert [item.needed for item in facts.newest.rows] == [0, 2]
    assert facts.newest.rows[1].name == "https://b.org/p.png"
    assert (facts.growth[-1].objects, facts.growth[-1].bytes) == (2, 16)


def test_fault_52_a_password_is_not_told(store):
    store.put(b"a poster", source="https://me:secret@a.org/p.png")
    assert store_facts(store).newest.rows[0].name == "https://a.org/p.png"


def test_an_empty_store(store):
    facts = store_facts(store)
    assert (facts.objects, facts.growth, facts.kinds, facts.newest.rows) == (0, (), (), ())


def test_growth_ends_with_all_and_only_grows(tmp_path):
    root, _ = fill(tmp_path / "demo", 500)
    with ContentStore(root) as store:
        facts = store_facts(store, limit=10)
    assert (facts.growth[-1].objects, facts.growth[-1].bytes) == (facts.objects, facts.bytes)
    assert [step.at for step in facts.growth] == sorted(step.at for step in facts.growth)
    assert [step.bytes for step in facts.growth] == sorted(step.bytes for step in facts.growth)
    assert len(facts.growth) <= 2 * 60 + 1
    assert (len(facts.newest.rows), facts.newest.left_out) == (10, facts.objects - 10)


def test_only_right_and_small_media_are_shown(store):
    right, wrong, large = (store.put(bytes([n]) * size, extension="png") for n, size in ((1, 50), (2, 50), (3, 600)))
    wrong.path.chmod(0o644)
    wrong.path.write_bytes(b"x" * 50)
    store.put(b"<svg onload='alert(1)'/>", extension="svg")
    assert [media.item.hash for media in store_facts(store, media_bytes=1000).media] == [right.hash]
    assert store_facts(store, media_bytes=0).media == ()
    assert large.hash in {media.item.hash for media in store_facts(store).media}


def test_media_together_stay_below_the_limit(store):
    for n in range(20):
        store.put(bytes([n]) * 100, extension="jpg")
    assert sum(len(media.content) for media in store_facts(store, media_bytes=450).media) == 400


@pytest.mark.parametrize(
    "values",
    [
        None,
        "x",
        {},
        [[]],
        [{"start": 2, "end": 1}],
        [{"start": float("nan"), "end": 1}],
        [{"start": 1}],
        [{"start": -5, "end": 1}],
    ],
)
def test_what_is_no_range_is_not_drawn(values):
    assert timeline(values).count == 0


def test_covered_time_counts_overlaps_once():
    found = timeline([{"start": 0, "end": 4}, {"start": 1, "end": 2}, {"start": 3, "end": 6}, {"start": 8, "end": 9}])
    assert (found.spans, found.covered, found.count) == (((0, 6), (8, 9)), 7, 4)


def test_results_of_all_kinds(tmp_path):
    path = tmp_path / "results.db"
    with MediaAnalysisStorage(path) as analyses:
        analyses.save_many(analysis_row(n) for n in range(5))
        analyses._database.execute("UPDATE analysis_jobs SET ranges = '{half', created_at = 'then' WHERE id = 1")
        assert result_facts(analyses).newest.total == 5
    with MediaProcessingStorage(path) as jobs:
        digest = "sha256:" + "0" * 64
        jobs.save("j", "cut", "/a.wav", digest, "/b.wav", digest, {"start": 1, "end": 2.5}, None)
    before = path.read_bytes()
    facts = result_facts(path, limit=3)
    assert (facts.analyses, facts.jobs, len(facts.newest.rows), facts.newest.left_out) == (5, 1, 3, 3)
    assert facts.newest.rows[0].timeline.spans == ((1.0, 2.5),)
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"results.db"}


def test_what_are_no_results(tmp_path, store):
    with pytest.raises(StoreUnavailable):
        result_facts(tmp_path / "nowhere.db")
    assert not (tmp_path / "nowhere.db").exists()
    with pytest.raises(NoResults):
        result_facts(store.root / ".store" / "memo.db")


def test_fault_50_memory_is_bounded(tmp_path):
    root, results = fill(tmp_path / "demo", 8000)
    with ContentStore(root) as store:
        store_facts(store)
        assert peak_of(lambda: (store_facts(store), [result_facts(path) for path in results]), 6 << 20) < 6 << 20
