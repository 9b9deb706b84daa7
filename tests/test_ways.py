"The way of a file, drawn: columns, circles, and what the picture says."

import pytest
from matplotlib import pyplot

from cjm_media_storage.drawing import Edge, Graph, Node
from cjm_media_storage.hashing import hash_bytes
from cjm_media_storage.lineage import Lineage
from cjm_media_storage.storage import MediaProcessingStorage
from cjm_media_storage.ways import columns_of, plot_lineage

pytestmark = pytest.mark.usefixtures("figures")


def graph(*edges, complete=True, labels=None):
    ids = sorted({id for edge in edges for id in edge[:2]})
    nodes = (Node(id, "file", hash_bytes(id.encode()), (labels or {}).get(id, id)) for id in ids)
    return Graph(hash_bytes(ids[0].encode()), tuple(nodes), tuple(Edge(*edge) for edge in edges), complete=complete)


def test_a_file_stands_to_the_right_of_all_it_was_made_from():
    found = columns_of(graph(("a", "b", "cut"), ("b", "c", "cut"), ("a", "c", "mix"), ("c", "d", "cut")))
    assert found == {"a": 0, "b": 1, "c": 2, "d": 3}


def test_a_circle_has_an_end():
    assert columns_of(graph(("a", "b", "cut"), ("b", "a", "join"), ("b", "c", "cut"))) == {"a": 0, "b": 1, "c": 2}
    assert columns_of(graph(("a", "a", "copy"))) == {"a": 0}
    long = graph(*((f"{n:03}", f"{n + 1:03}", "cut") for n in range(199)), ("199", "000", "join"))
    assert max(columns_of(long).values()) == 199
    plot_lineage(graph(("a", "b", "cut"), ("b", "a", "join")))


def test_the_picture_has_every_name_and_step(tmp_path):
    films = graph(("a", "b", "cut"), ("a", "c", "mix", 3), labels={"b": "$x$ <script>.mkv"}, complete=False)
    ax = plot_lineage(films)
    ax.figure.savefig(tmp_path / "films.png")
    texts = {text.get_text() for text in ax.texts}
    assert {"a", "c", "cut", "mix, 3 jobs", r"\$x\$ <script>.mkv"} <= texts
    assert "there are more" in ax.get_title("right")
    (asked,) = [text for text in ax.texts if text.get_bbox_patch() and text.get_bbox_patch().get_linewidth() == 2]
    assert asked.get_text() == "a"


def test_on_axes_of_ones_own_from_recorded_jobs(tmp_path):
    film, clip = hash_bytes(b"film"), hash_bytes(b"clip")
    with MediaProcessingStorage(tmp_path / "jobs.db") as jobs:
        jobs.save("job-1", "cut", "/films/a.mkv", film, "/films/b.mkv", clip)
    _, ax = pyplot.subplots()
    with Lineage(tmp_path / "jobs.db") as lineage:
        assert plot_lineage(lineage.graph(clip), ax=ax) is ax
        lonely = plot_lineage(lineage.graph(hash_bytes(b"unknown")))
    assert {"a.mkv", "b.mkv", "cut"} <= {text.get_text() for text in ax.texts}
    assert len(lonely.texts) == 1
