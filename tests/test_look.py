"Values as HTML, tables and drawings; what a browser makes of them is in test_reporting."

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cjm_media_storage.look import (
    POLICY,
    SCRIPT,
    STYLE,
    Cell,
    Column,
    area,
    bars,
    bytes_text,
    day,
    name_cell,
    table,
    text,
)


@given(st.text(st.characters()) | st.binary().map(lambda raw: raw.decode(errors="surrogateescape")))
def test_any_text_is_text(value):
    shown = text(value)
    shown.encode()
    assert not re.search(r"[<>\"'\n\r\0\u2028\u2029\u202e]", shown)


def test_text_can_be_read_back():
    for value in ("a & b <i> \"x\" 'y'", "naïve/日本.mkv", "</script>"):
        assert unescape(text(value)) == value


def test_long_names_keep_both_ends():
    shown = text("start" + "x" * 100_000 + "end.mkv")
    assert len(shown) < 300
    assert shown.startswith("start") and shown.endswith("end.mkv")


def test_cells_of_hostile_names():
    cell = name_cell('/<b>/<script>alert(1)</script>".mp3')
    assert "<script>" not in cell.html and "<b>" not in cell.html


def test_a_table_says_what_it_leaves_out():
    html = "".join(table("films", [Column("size")], [[Cell("1 kB", 1e3)]], 1234))
    assert "1,234 older films are not listed" in html


@pytest.mark.parametrize(
    "draw", [lambda: bars([], 0, "x"), lambda: area([(0, 0)], "x"), lambda: bars([(0, 0)], 0, "x")]
)
def test_drawings_of_nothing(draw):
    assert "nan" not in draw() and "inf" not in draw()


@pytest.mark.parametrize("at", [1e300, -1e300, float("inf"), -5e9])
def test_any_clock(at):
    assert day(at)


def test_units():
    assert [bytes_text(n) for n in (0, 999, 1000, 99_449, 1e6, 1e18)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "99.4 kB",
        "1.0 MB",
        "1,000 PB",
    ]


def test_the_policy_names_the_only_style_and_script():
    assert POLICY.startswith("default-src 'none'; ")
    assert "unsafe" not in POLICY and POLICY.count("sha256-") == 2
    assert "</" not in SCRIPT and "</" not in STYLE and "url(" not in STYLE


def _colours(block):
    return dict(re.findall(r"--(\w+):(#\w+)", block))


def _light(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    parts = (int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4))
    red, green, blue = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((_light(one), _light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["light", "dark", "print"])
def test_contrast(which):
    colours = _colours(re.findall(r":root{[^}]*}", STYLE)[0]) | _colours(re.findall(r":root{[^}]*}", STYLE)[which])
    for front in ("text", "quiet", "mark", "bad"):
        for back in ("page", "soft"):
            assert contrast(colours[front], colours[back]) >= 4.5, (front, back)
