"The report as a file, and in a real browser."

import re

import pytest
from browser import CHROMIUM, Browser
from on_disk import memory_disk
from page_names import HOSTILE
from rich_store import fill

from cjm_media_storage.demo import run
from cjm_media_storage.errors import Conflict, UnsafePath
from cjm_media_storage.page import MARK
from cjm_media_storage.reporting import replaceable, write_page, write_report
from cjm_media_storage.storage import ContentStore, NoSpace, StorageError, StoreUnavailable, hash_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- the file


def test_what_makes_no_sense_is_refused(store, tmp_path):
    for wrong in ({}, {"store": store, "limit": -1}, {"store": store, "media_bytes": -1}):
        with pytest.raises(ValueError):
            write_report(tmp_path / "a.html", **wrong)
    assert names(tmp_path) == ["store"]


def test_a_report_takes_the_place_of_an_earlier_one_only(store, tmp_path):
    out = write_report(tmp_path / "a.html", store)
    (tmp_path / "mine.html").write_text(MARK[:-1])
    assert write_report(out, store) == out
    with pytest.raises(Conflict):
        write_report(tmp_path / "mine.html", store)
    assert (tmp_path / "mine.html").read_text() == MARK[:-1]
    assert names(tmp_path) == ["a.html", "mine.html", "store"]


@pytest.mark.parametrize("force", [False, True])
def test_links_and_folders_are_left_alone(store, tmp_path, force):
    report = write_report(tmp_path / "a.html", store)
    (tmp_path / "link.html").symlink_to(report)
    (tmp_path / "folder.html").mkdir()
    for name in ("link.html", "folder.html"):
        with pytest.raises(Conflict):
            write_report(tmp_path / name, store, force=force)


def test_what_came_meanwhile_stays(tmp_path):
    out = tmp_path / "a.html"

    def pieces():
        yield MARK
        out.write_text("somebody was here first")

    with pytest.raises(Conflict):
        write_page(out, pieces(), replaceable(out, force=True))
    assert (out.read_text(), names(tmp_path)) == ("somebody was here first", ["a.html"])


def test_a_page_that_fails_leaves_the_earlier_one(tmp_path):
    out = tmp_path / "a.html"
    write_page(out, [MARK, "old"], None)

    def pieces():
        yield MARK
        raise StorageError("the store went away")

    with pytest.raises(StorageError):
        write_page(out, pieces(), replaceable(out, force=False))
    assert (out.read_text(), names(tmp_path)) == (MARK + "old", ["a.html"])


def test_fault_21_a_killed_report_leaves_no_half_page(program, tmp_path):
    out = tmp_path / "a.html"
    write_page(out, [MARK, "old"], None)
    code = f"""
        import os, signal
        from pathlib import Path
        from cjm_media_storage.page import MARK
        from cjm_media_storage.reporting import replaceable, write_page

        def pieces():
            yield MARK
            os.kill(os.getpid(), signal.SIGKILL)

        out = Path({str(out)!r})
        write_page(out, pieces(), replaceable(out, False))
    """
    killed = program.start(code)
    killed.communicate()
    assert killed.returncode == -9
    assert out.read_text() == MARK + "old"
    assert len(names(tmp_path)) == 2
    write_page(out, [MARK, "new"], replaceable(out, force=False))
    assert (out.read_text(), names(tmp_path)) == (MARK + "new", ["a.html"])


def test_fault_20_a_full_disk_leaves_the_earlier_report(open_folder):
    with memory_disk(open_folder, "1m"):
        out = open_folder / "a.html"
        write_page(out, [MARK, "old"], None)
        with pytest.raises(NoSpace):
            write_page(out, [MARK, *["x" * 100_000] * 20], replaceable(out, force=False))
        assert (out.read_text(), names(open_folder)) == (MARK + "old", ["a.html"])


def test_a_store_is_no_place_for_a_report(store, tmp_path):
    (tmp_path / "link").symlink_to(store.root)
    for place in (store.root / "a.html", tmp_path / "link" / "assets" / "a.html"):
        with pytest.raises(UnsafePath):
            write_report(place, store)
    with pytest.raises(StoreUnavailable):
        write_report(tmp_path / "a.html", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_store_that_may_not_be_written_to(place, temporary):
    with ContentStore(place.path / "store") as store:
        store.put(b"a poster", source="/films/poster.png")
    with place.read_only():
        html = write_report(temporary / "a.html", place.path / "store", verify="hash").read_text()
    assert "1 object checked by hash, no problems" in html and "poster.png" in html


def test_lineage_of_chosen_files(tmp_path):
    run(tmp_path / "demo", lambda line: None)
    results = [tmp_path / "demo" / "results" / "processing.db"]
    (cut,) = (tmp_path / "demo" / "cuts").iterdir()
    out = write_report(tmp_path / "a.html", None, results, lineage=[hash_file(cut)])
    html = out.read_text()
    assert 'id="lineage"' in html and html.count(cut.name) >= 2


# ---- in a browser

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    "A rich report, open in a browser"
    folder = tmp_path_factory.mktemp("report")
    root, results = fill(folder / ("demo" * 30), 1500)  # a name that fits no line
    with ContentStore(root) as store:
        for n, name in enumerate(HOSTILE):
            store.put(b"harm %d" % n, source=f"/films/{name}")
        store.put(b"no picture at all", source="/films/<script>alert(1)</script>.png", extension="png")
    with Browser() as browser:
        browser.page = write_report(folder / "a report.html", root, results)
        yield browser


@pytest.fixture
def fresh(shown):
    shown.look()
    shown.open(shown.page)
    return shown


PICTURES = 1 + sum(name.endswith(".png") for name in HOSTILE)  # that are none
BOX = "document.querySelector('#objects .table')"
NAMES = f"[...{BOX}.querySelectorAll('tbody tr:not([hidden]) td:first-child')].map(e => e.firstChild.textContent)"


@in_browser
def test_it_loads_quietly_and_asks_for_nothing(fresh):
    assert fresh.said == []
    assert fresh.requested == []
    assert fresh.ask("document.scripts.length") == 1
    assert HOSTILE[0].rpartition("/")[2] in fresh.ask("document.body.textContent")


REFUSED = """new Promise(done => {
  document.addEventListener("securitypolicyviolation", event => done(event.effectiveDirective), {once: true});
  %s
})"""


@in_browser
@pytest.mark.parametrize(
    ("tried", "refused"),
    [
        ("fetch('https://example.org/').catch(() => 0)", "connect-src"),
        ("new Image().src = 'https://example.org/a.png'", "img-src"),
        ("new Audio('https://example.org/a.mp3').load()", "media-src"),
        ("document.body.append(Object.assign(document.createElement('script'), {text: 'x = 1'}))", "script-src-elem"),
        (
            "document.querySelector('h1').innerHTML = '<b onclick=alert(1)>'; document.querySelector('h1 b').click()",
            "script-src-attr",
        ),
        ("document.body.setAttribute('style', 'color: red')", "style-src-attr"),
        ("document.body.setAttribute('onclick', 'alert(1)'); document.body.click()", "script-src-attr"),
    ],
)
def test_the_browser_refuses_what_a_page_like_this_never_does(fresh, tried, refused):
    assert fresh.ask(REFUSED % tried) == refused


@in_browser
def test_columns_are_sorted_by_click(fresh):
    sizes = f"[...{BOX}.querySelectorAll('td:nth-child(3)')].map(e => +e.dataset.key)"
    head = f"{BOX}.querySelectorAll('th')[2]"
    fresh.ask(f"{head}.firstChild.click()")
    found = fresh.ask(sizes)
    assert found == sorted(found) and len(set(found)) > 2
    assert fresh.ask(f"{head}.getAttribute('aria-sort')") == "ascending"
    fresh.ask(f"{head}.firstChild.click()")
    assert fresh.ask(sizes) == sorted(found, reverse=True)
    assert fresh.ask(f"{BOX}.querySelectorAll('[aria-sort]').length") == 1


@in_browser
def test_the_keyboard_is_enough(fresh):
    fresh.ask(f"{BOX}.querySelector('input').focus()")
    fresh.call("Input.insertText", text="NIGHT train")
    found = fresh.ask(NAMES)
    assert found and all("night" in name.lower() for name in found)
    assert re.fullmatch(r"\d+ of 200 listed", fresh.ask(f"{BOX}.querySelector('output').value"))
    fresh.press("Escape")
    assert len(fresh.ask(NAMES)) == 200
    fresh.press("Tab")  # the table, which scrolls
    assert fresh.ask("document.activeElement.getAttribute('role')") == "region"
    fresh.press("Tab")
    fresh.press("Enter", "\r")
    assert fresh.ask("document.activeElement.parentNode.getAttribute('aria-sort')") == "ascending"
    assert fresh.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@in_browser
def test_whole_hashes_are_found(fresh):
    digest = fresh.ask(f"{BOX}.querySelector('tbody code').title")
    fresh.ask(f"{BOX}.querySelector('input').focus()")
    fresh.call("Input.insertText", text=digest)
    assert len(fresh.ask(NAMES)) == 1


@in_browser
def test_media_play(fresh):
    sound = "document.querySelector('audio[aria-label=\"S01E02.wav\"]')"
    until = "new Promise(done => a.addEventListener('timeupdate', () => a.currentTime > 0 && done(true)))"
    assert fresh.ask(f"(a => a.play().then(() => {until}))({sound})")
    assert fresh.ask(f"{sound}.duration") > 4
    sizes = fresh.ask("[...document.images].map(e => e.naturalWidth)")
    assert len(sizes) > 8 and [size > 0 for size in sizes].count(False) == PICTURES


@in_browser
@pytest.mark.parametrize("width", [320, 390, 768, 1600])
def test_the_page_never_scrolls_sideways(fresh, width):
    fresh.look(width)
    assert fresh.ask("document.documentElement.scrollWidth") <= width
    assert fresh.ask("document.body.getBoundingClientRect().right") <= width


CONTRAST = """(() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const back = element => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = [];
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, code = ["SCRIPT", "STYLE"].includes(element.tagName);
    if (code || !walk.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    const pair = [light(parse(getComputedStyle(element).color)), light(back(element))].sort((a, b) => a - b);
    if ((pair[1] + 0.05) / (pair[0] + 0.05) < 4.5) low.push(element.outerHTML.slice(0, 80));
  }
  return low;
})()"""


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_all_that_is_written(fresh, scheme):
    fresh.look(scheme=scheme)
    dark = fresh.ask("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert fresh.ask(CONTRAST) == []


@in_browser
def test_everything_has_a_label(fresh):
    unnamed = "[...document.querySelectorAll('input,audio,img,svg:not([aria-hidden]),[role=region]')]"
    assert fresh.ask(f"{unnamed}.filter(e => !(e.getAttribute('aria-label') || e.alt)).length") == 0
    assert fresh.ask("[...document.querySelectorAll('th')].filter(e => e.scope !== 'col').length") == 0
    assert fresh.ask("document.documentElement.lang") == "en"


@in_browser
def test_it_can_be_printed(fresh):
    fresh.call("Emulation.setEmulatedMedia", media="print")
    hidden = "['nav', '.find', 'audio'].map(s => getComputedStyle(document.querySelector(s)).display)"
    assert fresh.ask(hidden) == ["none"] * 3
    assert fresh.ask("getComputedStyle(document.querySelector('.scroll')).maxHeight") == "none"
    fresh.call("Emulation.setEmulatedMedia", media="")
