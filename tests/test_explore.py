"The face for notebooks, and what is said without pandas."

import itertools

from pages import HOSTILE, Page

from cjm_media_storage import explore
from cjm_media_storage.explore import show
from cjm_media_storage.storage import MediaAnalysisRow


def test_any_list_shows_itself():
    rows = [MediaAnalysisRow(name, "", "", [{"start": 0, "end": 1}]) for name in HOSTILE]
    page = Page(show(rows)._repr_html_())
    assert page.is_ours() and page.tags.count("tr") == len(HOSTILE) + 1
    assert f"{len(HOSTILE)} shown" in page.texts and "1 segment" in page.texts


def test_only_the_first_are_read():
    rows = (MediaAnalysisRow(str(n), "", "") for n in itertools.count())
    assert Page(show(rows, limit=3)._repr_html_()).texts[1:3] == [" ", "the first 3 shown"]
    assert next(rows).file_path == "4"


def test_nothing_is_shown_too():
    assert Page(show([])._repr_html_()).texts[-1] == "0 shown" and repr(show([])) == "Listing of 0"


def test_without_the_extra(program):
    text = """
        import sys
        sys.modules.update(dict.fromkeys(("pandas", "matplotlib")))
        from cjm_media_storage.explore import plot_ranges, to_dataframe
        for call in (plot_ranges, to_dataframe):
            try:
                call([])
            except ImportError as e:
                print(e)"""
    told = "this needs {}: pip install 'cjm-media-storage[explore]'"
    assert program(text).splitlines() == [told.format("matplotlib"), told.format("pandas")]


def test_all_of_it_is_on_its_face():
    assert {"show", "to_dataframe", "dataframes", "plot_ranges", "plot_timelines", "plot_totals"} <= set(
        explore.__all__
    )
    assert {"plot_growth", "plot_shards"} <= set(explore.__all__)
