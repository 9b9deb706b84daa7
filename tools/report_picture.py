"""Make docs/report.png: what a report looks like.

    python tools/report_picture.py [FOLDER]    with a folder, all pictures go there, also that of a phone

Needs Chromium. The store behind it is made up by tests/rich.py.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser  # noqa: E402
from rich_store import fill  # noqa: E402

from cjm_media_storage.reporting import write_report  # noqa: E402


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as made, Browser() as browser:
        made = str(Path(made).resolve())
        store, results = fill(Path(made) / "media")
        page = write_report(Path(made) / "report.html", store, results)
        page.write_text(page.read_text().replace(made, "/data"))  # as if it were a place that lasts
        browser.look(1200, 1020)
        browser.open(page)
        target = ROOT / "docs" / "report.png"
        target.parent.mkdir(exist_ok=True)
        if folder is None:
            target.write_bytes(browser.picture())
            return
        for name, width, scheme in (("light", 1200, "light"), ("dark", 1200, "dark"), ("phone", 390, "light")):
            browser.look(width, 900, scheme)
            picture = browser.picture(captureBeyondViewport=True, clip=clip(browser, width))
            (folder / f"{name}.png").write_bytes(picture)


def clip(browser, width):
    height = min(browser.ask("document.documentElement.scrollHeight"), 7000)
    return {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}


if __name__ == "__main__":
    main()
