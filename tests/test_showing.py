"What is not shown costs nothing."

import pickle
from dataclasses import FrozenInstanceError, dataclass

import pytest
from pages import Page

from cjm_media_storage.problems import Problem
from cjm_media_storage.showing import Shown

HEAVY = ("cards", "markup", "previews", "frames", "plots", "explore")


def test_the_core_loads_nothing_that_shows(program):
    names = [f"cjm_media_storage.{name}" for name in HEAVY] + ["html", "base64", "pandas", "numpy", "matplotlib"]
    loaded = program(f"import sys, cjm_media_storage.storage; print([n for n in {names} if n in sys.modules])")
    assert loaded == "[]"


def test_showing_needs_no_extra(program):
    text = """
        import sys
        sys.modules.update(dict.fromkeys(("pandas", "numpy", "matplotlib")))
        from cjm_media_storage.storage import MediaAnalysisRow
        from cjm_media_storage.explore import show
        print(len(show([MediaAnalysisRow("f", "", "", [])])._repr_html_()) > 100)"""
    assert program(text) == "True"


def test_a_dataclass_stays_what_it_is():
    problem = Problem("missing", "a")
    assert problem == Problem("missing", "a") and len({problem, Problem("missing", "a")}) == 1
    assert pickle.loads(pickle.dumps(problem)) == problem and not hasattr(problem, "__dict__")
    with pytest.raises(FrozenInstanceError):
        problem.kind = "corrupt"


def test_fields_are_shown():
    @dataclass
    class Poster(Shown):
        name: str

    assert Page(Poster("<b>")._repr_html_()).texts[-2:] == ["name", "<b>"]
