"The site: links lead somewhere, nothing is asked of the network, and a browser shows it well on every screen."

import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import CHROMIUM, Browser

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.site


class Page(HTMLParser):
    "The anchors of a page, where it leads, and what it loads"

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        self.ids |= {facts[key] for key in ("id", "name") if facts.get(key)}
        if tag == "a" and facts.get("href") is not None:
            self.links.append(facts["href"])
        elif tag == "link" and facts.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(facts["href"])
        elif tag in ("script", "img", "iframe", "source", "audio", "video") and facts.get("src"):
            self.loads.append(facts["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "out"
    run = subprocess.run([sys.executable, "tools/make_site.py", out], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return out


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def notebooks():
    "All notebooks but that of README.md"
    return sorted(ROOT.glob("nbs/[0-9]*.ipynb"))


def test_every_page_of_the_project_is_there(site):
    made = {f"nbs/{path.stem}.html" for path in notebooks()}
    documents = {f"docs/{path.stem}.html" for path in ROOT.glob("docs/*.md")}
    assert made | documents | {"index.html", "CONTRIBUTING.html", "CHANGELOG.html"} <= {
        path.relative_to(site).as_posix() for path in site.rglob("*.html")
    }


def test_every_notebook_is_under_the_tab_of_its_chapter(site):
    tab = re.compile(r'md-tabs__item--active">\s*<a [^>]*>\s*([^<]+?)\s*</a>')
    tabs = {path.stem: tab.findall((site / "nbs" / f"{path.stem}.html").read_text()) for path in notebooks()}
    wanted = {"00": ["Tutorials"], "01": ["Plugins"], "90": ["Operators"]}
    assert tabs == {name: wanted.get(name[:2], ["The house"]) for name in tabs}


def test_every_link_inside_the_site_leads_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            if re.match(r"[a-z]+:", link):
                continue
            place, _, anchor = unquote(link.partition("?")[0]).partition("#")
            target = (path.parent / place).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (anchor and anchor not in ("", "__skip") and anchor not in pages[target].ids):
                broken.append((path.relative_to(site).as_posix(), link))
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site, pages):
    assert [load for page in pages.values() for load in page.loads if re.match(r"(https?:)?//", load)] == []
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']*", sheet.read_text()) == []


def test_no_page_tells_of_the_machine_it_was_made_on(site):
    assert [path.name for path in site.rglob("*.html") if str(ROOT) in path.read_text()] == []


# ---- in a browser


@contextmanager
def serving(folder):
    "Serve a folder to this machine"
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with Browser() as browser:
        yield browser


def visit(browser, url):
    browser.events.clear()
    browser.call("Page.navigate", url=url)
    browser.wait("Page.loadEventFired")


SHOWN = ("index.html", "docs/FORMAT.html", "docs/ERRORS.html", "nbs/362_content.html", "nbs/712_plots.html")


def test_it_fits_every_screen_and_asks_nobody_else(site, browser):
    with serving(site) as url:
        for width, scheme in ((1280, "light"), (390, "dark")):
            browser.look(width, 900, scheme)
            for page in SHOWN:
                visit(browser, url + page)
                assert browser.ask("document.documentElement.scrollWidth") <= width, (page, width)
                assert (
                    browser.ask("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
                )
                assert [each for each in browser.requested if not each.startswith(url)] == [], page


def test_the_search_finds_a_function(site, browser):
    typed = """new Promise(done => {
        const box = document.querySelector('.md-search__input');
        document.querySelector('#__search').click();
        box.focus(); box.value = 'rebuild_index'; box.dispatchEvent(new Event('input', {bubbles: true}));
        const look = () => {
            const found = document.querySelector('.md-search-result__link');
            found ? done(found.href) : requestAnimationFrame(look);
        };
        look();
    })"""
    with serving(site) as url:
        visit(browser, url + "index.html")
        assert "rebuilding.html" in browser.ask(typed)
        assert [each for each in browser.requested if not each.startswith((url, "blob:"))] == []
