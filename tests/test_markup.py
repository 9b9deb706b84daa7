"Whatever a name is, it is text."

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import HOSTILE, Page

from cjm_media_storage.markup import STYLE, escaped, facts, framed, readable, table, tag


@given(st.sampled_from(HOSTILE) | st.text(st.characters()))
def test_text_is_text_everywhere(name):
    name = f"name: {name}"  # no other text on the page
    page = Page(framed(name, name, table([[name, 5]], [name, "n"]), facts([(name, name)]), tag("i", "", title=name)))
    assert set(page.tags) == {"div", "style", "header", "strong", "span", "table", "tr", "th", "td", "i"}
    assert ("title", readable(name)) in page.attributes
    assert page.texts.count(readable(name)) == 6


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_html_is_not_escaped_twice(name):
    assert escaped(escaped(name)) == escaped(name)


def test_the_style_has_no_colour_of_its_own():
    "A fixed colour cannot be read on one of the two kinds of page"
    assert "color-scheme:light dark" in STYLE
    assert set(re.findall(r"(?<![-\w])color:(\w+)", STYLE)) == {"inherit"}
    assert set(re.findall(r"background:(\w+)", STYLE)) == {"none"}
    assert not re.search(r"#[0-9a-f]{3}|rgb\(|hsl|url\(|@import", STYLE)
