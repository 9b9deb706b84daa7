"Walks, circles and orders, against plain dictionaries."

import sqlite3
from contextlib import closing

import pytest
from graphs import name, reached, save, save_fast
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cjm_media_storage.ancestry import Links, circle, in_order, walk
from cjm_media_storage.edges import Edges

PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)


def walked(edges, start, down=True, depth=None):
    rows = edges.stream(lambda con, table: walk(con, edges, table, name(start), down, depth))
    return {hash: steps for _, _, hash, _, steps in rows}


def circle_of(edges, start):
    def question(con):
        con.execute("DROP TABLE IF EXISTS temp.round")
        walk(con, edges, "round", name(start), True)
        return circle(con, edges, "round")

    return edges.ask(question)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=PAIRS, cuts=st.integers(1, 3), depth=st.none() | st.integers(0, 4))
def test_any_graph_in_any_number_of_files(tmp_path_factory, pairs, cuts, depth):
    folder = tmp_path_factory.mktemp("graph")
    paths = [save(folder / f"{n}.db", set(pairs[n::cuts]) | set(pairs[:1])) for n in range(cuts)]
    with closing(Edges(paths)) as edges:
        for down in (True, False):
            found = walked(edges, 0, down, depth)
            assert found == {name(n): steps for n, steps in reached(pairs, 0, down, depth).items()}
            assert list(found.items()) == sorted(found.items(), key=lambda item: (item[1], item[0]))
        way = circle_of(edges, 0)
        back = [reached(pairs, b)[0] + 1 for a, b in pairs if a == 0 and 0 in reached(pairs, b)]
        assert len(way) == min(back, default=0)
        hashes = {(name(a), name(b)) for a, b in pairs}
        assert all(step in hashes for step in zip(way, way[1:] + way[:1], strict=True))


@settings(max_examples=200)
@given(pairs=PAIRS)
def test_the_order_of_any_graph(pairs):
    pairs = sorted(set(pairs))
    found = list(in_order(Links(10, pairs), 0))
    place = {node: n for n, (node, _) in enumerate(found)}
    to = {n: set(reached(pairs, n)) for n in range(10)}
    assert set(place) == to[0] and len(place) == len(found)
    around = {n for n in range(10) if any(n in to[b] for a, b in pairs if a == n)}
    assert {node for node, looped in found if looped} == around & set(place)
    for a, b in pairs:
        if a in place and a not in to[b]:
            assert place[a] < place[b]


def test_fault_58_garbage_links_nothing(tmp_path):
    path = save(tmp_path / "a.db", [(0, 1), (2, 3)])
    with closing(Edges([path])) as edges:
        with closing(sqlite3.connect(path)) as con:
            for n, (a, b) in enumerate([(name(1), ""), ("", name(2)), (name(1), "unknown"), (b"\xff", name(2))]):
                con.execute(
                    "INSERT INTO processing_jobs VALUES (?,?,'a','',?,'',?,'[',NULL,'x','')", (50 + n, f"g{n}", a, b)
                )
            con.commit()
        assert set(walked(edges, 0)) == {name(0), name(1)}
        assert set(walked(edges, 3, down=False)) == {name(2), name(3)}


SHAPES = {
    "chain": [(n, n + 1) for n in range(3_000)],
    "fan": [(0, n) for n in range(1, 20_000)],
    "circle": [(n, (n + 1) % 1_000) for n in range(1_000)],
    "layers": [(layer * 10 + a, (layer + 1) * 10 + b) for layer in range(50) for a in range(10) for b in range(10)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_fault_50_large_graphs_are_not_loaded(tmp_path, program, shape):
    pairs = SHAPES[shape]
    path = save_fast(tmp_path / "a.db", pairs)
    text = """
        import sys
        from cjm_media_storage.lineage import Lineage
        from graphs import name
        from resource import RUSAGE_SELF, getrusage
        with Lineage(sys.argv[1]) as lineage:
            before = getrusage(RUSAGE_SELF).ru_maxrss
            counts = [sum(1 for _ in ask(name(0))) for ask in (lineage.descendants, lineage.affected)]
            print(*counts, (getrusage(RUSAGE_SELF).ru_maxrss - before) >> 10)
    """
    found, redone, megabytes = map(int, program(text, path).split())
    below = reached(pairs, 0)
    assert found == len(below) - 1
    assert redone == sum(1 for a, _ in pairs if a in below)
    assert megabytes < 60
