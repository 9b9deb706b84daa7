"The page, as text: well formed, and with nothing in it that a name could add."

from html.parser import HTMLParser

import pytest
from page_names import HOSTILE

from cjm_media_storage.analysis import MediaAnalysisStorage
from cjm_media_storage.facts import result_facts, store_facts
from cjm_media_storage.look import SCRIPT
from cjm_media_storage.maintenance import verify
from cjm_media_storage.page import MARK, Facts, page

VOID = {"meta", "img", "br", "input"}


class Elements(HTMLParser):
    "The elements and attributes of a page; each that is opened must be closed in its turn"

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.names, self.texts = [], [], set(), {}
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


@pytest.fixture
def hostile(store, tmp_path):
    "Facts in which every name means harm"
    for n, name in enumerate(HOSTILE):
        store.put(b"%d" % n, source=f"/films/{name}", provider=name, owner=name, role=name)
        store.delete(store.put(b"gone %d" % n, source=name).hash)
    store.put(b"lost", source="/films/lost").path.unlink()
    (store.root / "assets" / HOSTILE[0].replace("/", "")).write_bytes(b"")
    with MediaAnalysisStorage(tmp_path / f"{HOSTILE[0].replace('/', '')}.db") as results:
        digest = "sha256:" + "0" * 64
        for name in HOSTILE:
            results.save(name, digest, digest, [{"start": 0, "end": 1, "label": name}])
        told = (result_facts(results),)
    return Facts(0.0, store_facts(store, report=verify(store)), told)


def test_fault_34_names_add_nothing_to_the_page(hostile):
    found = Elements("".join(page(hostile)))
    assert found.tags.count("script") == found.tags.count("style") == 1
    assert "".join(found.texts["script"]) == SCRIPT
    assert not {name for name in found.names if name.startswith("on")} | ({"style", "autofocus"} & found.names)
    assert not {"iframe", "object", "embed", "link", "base", "form", "i", "b", "video"} & set(found.tags)


def test_names_are_shown_as_they_are(hostile):
    texts = Elements("".join(page(hostile))).texts
    for name in (HOSTILE[0], HOSTILE[5], HOSTILE[6]):
        assert any(name.rpartition("/")[2] in shown for shown in texts["td"])


def test_problems_are_told(hostile):
    html = "".join(page(hostile))
    assert "1 missing" in html and "foreign" in html


def test_nothing_at_all(store):
    html = "".join(page(Facts(0.0, store_facts(store))))
    assert html.startswith(MARK)
    assert "Orphans" not in html and "<table" not in html
    Elements(html)


def test_size_does_not_grow_with_the_store(store):
    list(store.put_many([b"%d" % n for n in range(300)]))
    sizes = [sum(map(len, page(Facts(0.0, store_facts(store, limit))))) for limit in (0, 10, 20)]
    assert sizes[2] - sizes[1] < 2 * (sizes[1] - sizes[0]) < 40_000
