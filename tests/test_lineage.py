"Lineage, asked as people ask."

import pytest
from graphs import name, reached, row, save
from hypothesis import given, settings
from hypothesis import strategies as st

from cjm_media_storage.analysis import MediaAnalysisStorage
from cjm_media_storage.lineage import Lineage
from cjm_media_storage.memo import Memo
from cjm_media_storage.processing import MediaProcessingStorage
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import ContentStore, InvalidHash, StoreClosed, StoreUnavailable, hash_file

DIAMOND = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)]


def numbers(hashes):
    by_name = {name(n): n for n in range(100)}
    return [by_name[hash] for hash in hashes]


@pytest.fixture
def diamond(tmp_path):
    paths = [save(tmp_path / f"{n}.db", DIAMOND[n::2]) for n in range(2)]
    with MediaAnalysisStorage(tmp_path / "0.db") as analyses:
        for n in (0, 3, 4):
            analyses.save(f"/m/{n}", name(n), name(90))
    with Lineage(*paths) as lineage:
        yield lineage


def test_relatives(diamond):
    assert sorted(numbers(diamond.ancestors(name(3)))) == [0, 1, 2]
    assert numbers(diamond.descendants(name(3))) == [4]
    assert sorted(numbers(diamond.parents(name(3)))) == [1, 2]
    assert sorted(numbers(diamond.children(name(0)))) == [1, 2]
    assert sorted(numbers(diamond.ancestors(name(4), depth=2))) == [1, 2, 3]
    assert numbers(diamond.roots(name(4))) == numbers(diamond.roots(name(0))) == [0]
    assert diamond.circle(name(3)) == []
    assert list(diamond.descendants(name(0), 0)) == []


def test_what_nobody_recorded_has_no_relatives(diamond):
    for ask in (
        diamond.ancestors,
        diamond.descendants,
        diamond.jobs,
        diamond.analyses,
        diamond.affected,
        diamond.names,
    ):
        assert list(ask(name(50))) == []
    assert numbers(diamond.roots(name(50))) == [50]
    assert [node.label for node in diamond.graph(name(50)).nodes] == ["a file"]


def test_fault_04_what_is_no_hash_is_refused_at_once(diamond):
    asks = (diamond.ancestors, diamond.children, diamond.roots, diamond.circle, diamond.jobs, diamond.analyses)
    for ask in (*asks, diamond.names, diamond.graph):
        with pytest.raises(InvalidHash):
            ask("film.mkv")
    for ask in (diamond.affected, diamond.to_openlineage):
        with pytest.raises(InvalidHash):
            list(ask("film.mkv"))
    with pytest.raises(ValueError, match="depth"):
        diamond.ancestors(name(0), -1)


def test_jobs_and_analyses(diamond):
    assert sorted(job.job_id for job in diamond.jobs(name(3))) == ["1-3", "2-3", "3-4"]
    assert [analysis.file_path for analysis in diamond.analyses(name(3))] == ["/m/3"]


def test_what_is_to_be_done_again_comes_after_what_it_is_made_from(diamond):
    found = [(each.kind, each.path) for each in diamond.affected(name(0))]
    assert found[0] == ("analysis", "/m/0")
    assert found[-4:] == [("job", "/m/3"), ("analysis", "/m/3"), ("job", "/m/4"), ("analysis", "/m/4")]
    assert len(found) == 8 and not any(each.looped for each in diamond.affected(name(0)))


def test_history_is_followed_and_not_done_again(tmp_path):
    with MediaProcessingStorage(tmp_path / "a.db") as storage, Lineage(storage) as lineage:
        again = {"input_path": "/film", "config_hash": name(90)}
        storage.save_many([row(0, 1, **again), row(1, 2)])
        storage.save_many([row(0, 5, **again)])
        assert sorted(numbers(lineage.descendants(name(0)))) == [1, 2, 5]
        assert [job.current for job in lineage.jobs(name(0))] == [False, True]
        assert {each.path for each in lineage.affected(name(0))} == {"/m/2", "/m/5"}


@settings(max_examples=25)
@given(pairs=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20, unique=True))
def test_any_graph(tmp_path_factory, pairs):
    path = save(tmp_path_factory.mktemp("graph") / "a.db", pairs)
    with Lineage(path) as lineage:
        found = [(each.made_from, each.hash) for each in lineage.affected(name(0))]
        below, above = reached(pairs, 0), reached(pairs, 0, down=False)
        assert sorted(found) == sorted((name(a), name(b)) for a, b in pairs if a in below)
        made = {b for a, b in pairs if a != b}
        assert set(numbers(lineage.roots(name(0)))) == set(above) - made
        graph = lineage.graph(name(0))
        assert {node.hash for node in graph.nodes} == {name(n) for n in {*below, *above}}
        way = {(a, b) for a, b in pairs if (a in below and b in below) or (a in above and b in above)}
        hashes = {node.id: node.hash for node in graph.nodes}
        assert {(hashes[edge.source], hashes[edge.target]) for edge in graph.edges} == {
            (name(a), name(b)) for a, b in way
        }
        assert bool(graph.circle) == any(a in below for a, b in pairs if b == 0)
        assert len(list(lineage.to_openlineage(name(0)))) == len(way)
        assert len(list(lineage.to_openlineage())) == len(pairs)


def test_a_drawing_of_the_nearest(tmp_path):
    path = save(tmp_path / "a.db", [(0, n) for n in range(1, 50)] + [(60, 0)])
    with Lineage(path) as lineage:
        graph = lineage.graph(name(0), limit=10)
        assert len(graph.nodes) == 10 and not graph.complete
        assert len(graph.edges) == 9
        assert lineage.graph(name(60), depth=1).complete
        assert len(lineage.graph(name(60), depth=1).nodes) == 2


def test_names_of_a_store(tmp_path):
    jobs = save(tmp_path / "a.db", [(0, 1)])
    with ContentStore(tmp_path / "store") as store:
        kept = store.put(b"a film", source="https://me:secret@example.org/film.mkv", provider="archive").hash
        published = Library(store, tmp_path / "films").publish(kept, "Film (2024)/film.mkv")
        for given_store in (store, store.root):
            with Lineage(jobs, store=given_store) as lineage:
                names = [(each.kind, each.name, each.provider) for each in lineage.names(kept)]
                assert lineage.graph(kept).nodes[0].label == str(published.path)
        assert names == [
            ("publication", str(published.path), ""),
            ("source", "https://example.org/film.mkv", "archive"),
        ]
    with pytest.raises(StoreUnavailable):
        Lineage(jobs, store=tmp_path / "films")


def test_stale_uses_a_memo(tmp_path):
    (tmp_path / "film").write_bytes(b"a film")
    with MediaProcessingStorage(tmp_path / "a.db") as storage, Memo(tmp_path / "memo.db") as memo:
        storage.save("1", "cut", tmp_path / "film", hash_file(tmp_path / "film"), tmp_path / "cut", name(1))
        with Lineage(storage) as lineage:
            assert [each.reasons for each in lineage.stale(memo)] == [("output gone",)]


def test_use_after_close(tmp_path):
    lineage = Lineage(save(tmp_path / "a.db", [(0, 1)]))
    lineage.close()
    with pytest.raises(StoreClosed):
        list(lineage.ancestors(name(1)))
    assert "a.db" in repr(lineage)


def test_importing_the_public_face_does_not_load_it(program):
    assert (
        program("import sys, cjm_media_storage.storage; print('cjm_media_storage.lineage' in sys.modules)") == "False"
    )
