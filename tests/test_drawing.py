"Names are names, whatever is in them."

import json
import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from on_disk import ODD_NAMES

from cjm_media_storage.drawing import Edge, Graph, Node, escaped, readable

NAMES = [
    '"]--><script>alert(1)</script>',
    "``` \n# x",
    "end",
    "%%{init: {}}%%",
    "a|b",
    "#35;",
    "\\",
    "\ud800",
    "日本.wav",
]
NAMES += [name.decode(errors="surrogateescape") for name in ODD_NAMES]


def drawn(label, action="cut"):
    nodes = (Node("n0", "file", "sha256:aa", label), Node("a0", "analysis", "sha256:bb", "analysis"))
    return Graph("sha256:aa", nodes, (Edge("n0", "a0", action),), circle=("sha256:aa",), complete=False)


def unescaped(text):
    return re.sub(r"#(\d+);", lambda match: chr(int(match[1])), text)


@given(st.sampled_from(NAMES) | st.text(st.characters()))
def test_a_name_is_only_a_name(label):
    text = drawn(label, label).to_mermaid()
    text.encode()
    node, edge = rf'    n0\["([^"]*)<br/>{escaped("sha256:aa")}"\]', r'    n0 -->\|"([^"]*)"\| a0'
    lines = text.split("\n")
    assert len(lines) == 7 and lines[2].startswith('    a0(["analysis')
    for line, pattern in ((lines[1], node), (lines[3], edge)):
        match = re.fullmatch(pattern, line)
        assert not re.search(r"[^\w ._,/#;]", match[1])
        assert unescaped(match[1]) == readable(label)


@given(st.sampled_from(NAMES) | st.text(st.characters()))
def test_a_table_has_only_its_own_tags(label):
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)
    parser.feed(drawn(label).table._repr_html_())
    assert set(tags) <= {"div", "style", "header", "strong", "span", "table", "tr", "th", "td"}
    assert (tags.count("th"), tags.count("td")) == (5, 5)


def test_the_table_is_aligned_and_each_line_is_one():
    text = repr(drawn("two\nlines").table)
    assert text.split("\n")[1].split("  ")[0] == r"two\nlines"
    assert text.count("\n") == 1


def test_the_drawing_says_what_it_leaves_out():
    text = drawn("a").to_mermaid()
    assert "%% not all is drawn" in text and "%% a circle leads back to the file" in text
    assert drawn("a")._repr_markdown_().startswith("```mermaid\nflowchart LR\n")


def test_json_has_no_surrogates():
    for label in NAMES:
        json.dumps(drawn(label).to_dict(), ensure_ascii=False).encode()


def test_a_graph_shows_its_table_to_a_program():
    assert repr(drawn("a film")) == repr(drawn("a film").table)
