"Links and headings of the project's pages: Markdown files, and the Markdown cells of notebooks"

import json
import re
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = "*.md", "docs/*.md", "tests/*.md", "nbs/*.ipynb"
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?)\)")
FENCE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def pages():
    "All pages, as paths relative to the project; README.md is made from the notebook that is left out"
    found = {path.relative_to(ROOT) for pattern in PATTERNS for path in ROOT.glob(pattern)}
    return sorted(found - {Path("nbs/index.ipynb")})


def text_of(path):
    "The Markdown of a page"
    if path.suffix != ".ipynb":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def links(path):
    "Where a page leads"
    return LINK.findall(FENCE.sub("", text_of(path)))


def anchors(path):
    "The anchors of a page's headings: as GitHub makes them, and for a notebook as Jupyter does"
    headings = HEADING.findall(re.sub(r"^```.*?^```$", "", text_of(path), flags=re.MULTILINE | re.DOTALL))
    if path.suffix == ".ipynb":
        return {heading.replace(" ", "-") for heading in headings}
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(path):
    "The links of a page that lead nowhere inside the project; other sites are not asked"
    for link in links(path):
        if re.match(r"https?:|mailto:", link):
            continue
        place, _, anchor = unquote(link).partition("#")
        target = (path.parent / place).resolve() if place else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link
