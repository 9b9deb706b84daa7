"""Make a site of all pages and notebooks, offline: `python tools/make_site.py OUT`.

To read it with its search: `python -m http.server -d OUT`. Nothing is run and nothing imported: the site has the
signatures of a notebook's exported cells with their comments, the source on demand, and what other cells have shown.
"""

import ast
import base64
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parent.parent
LOOK = Path(__file__).resolve().parent / "site_look"
PAGES = ("*.md", "docs/*.md", "tests/*.md")
CHAPTER = re.compile(r"^## (\d)\. (.+)$", re.MULTILINE)  # In docs/HOUSE.md: first digit of the notebooks, title
LINK = re.compile(r"(\]\()([^()\s#]*)(#[^()\s]*)?(\))")
CODE = re.compile(r"(^(`{3,}).*?^\2$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


# ---- names and links


def is_public(node):
    "Is that the definition of something that others use?"
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")


def names(node):
    "What a statement assigns to"
    return [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]


def cells(notebook):
    "Kind, source without directives, directives and outputs of each cell"
    for cell in json.loads(notebook.read_text())["cells"]:
        source = "".join(cell["source"])
        directives = re.findall(r"^#\| *(\w+)", source, re.MULTILINE)
        yield (
            cell["cell_type"],
            re.sub(r"^#\|.*\n?", "", source, flags=re.MULTILINE),
            directives,
            cell.get("outputs", []),
        )


def homes():
    "Where each public name is said what it is: page and anchor; a name that two rooms have is left out"
    found, twice = {}, set()
    for notebook in notebooks():
        for kind, source, directives, _ in cells(notebook):
            if kind == "code" and "export" in directives:
                defined = [node.name for node in ast.parse(source).body if is_public(node)]
                twice |= found.keys() & set(defined)
                found |= {name: f"nbs/{notebook.stem}.md#{name}" for name in defined}
    return {name: home for name, home in found.items() if name not in twice}


def notebooks():
    "All notebooks but that of README.md, in their order"
    return sorted(path for path in ROOT.glob("nbs/*.ipynb") if path.stem != "index")


class Links:
    "Turns the links of the project into those of the site, and names in prose into links"

    def __init__(self, docs):
        self.docs, self.homes = docs, homes()

    def prose(self, text, page):
        "Markdown for a page of the site; code is left as it is"
        parts = CODE.split(text)
        return "".join(
            self._prose(part, page) if n % 3 == 0 else self._name(part, page) if n % 3 == 1 else ""
            for n, part in enumerate(parts)
        )

    def _prose(self, text, page):
        return LINK.sub(lambda match: self._link(*match.groups(), page=page), text)

    def _name(self, code, page):
        home = self.homes.get(code.strip("`"))
        return code if home is None or code.startswith("```") else f"[{code}]({self._way(page, home)})"

    def _way(self, page, target):
        return ("../" if "/" in page else "") + target

    def _link(self, before, place, anchor, after, page):
        if "://" in place:
            return f"{before}{place}{anchor or ''}{after}"
        target = (ROOT / page).parent / place
        if place and target.suffix not in (".md", ".ipynb"):
            copy = self.docs / target.resolve().relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, copy)
        place = place.replace(".ipynb", ".md").replace("README.md", "index.md")
        return f"{before}{place}{(anchor or '').lower()}{after}"


# ---- notebooks


def fenced(text, language):
    "A block of code"
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`{3,}", text)), 3)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def signature(node, lines):
    "The lines of a definition up to its docstring, or up to its first method"
    has_doc = ast.get_docstring(node) is not None
    methods = (
        [each for each in node.body if isinstance(each, ast.FunctionDef)] if isinstance(node, ast.ClassDef) else []
    )
    body = node.body[has_doc:] if isinstance(node, ast.ClassDef) else []
    fields = [each for each in body if each not in methods]
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    last = node.body[0].lineno - 1
    shown = [line for line in lines[first - 1 : last] if line.strip()]
    if fields and not methods:
        shown += lines[fields[0].lineno - 1 : fields[-1].end_lineno]
    elif fields:
        shown += [
            line
            for each in fields
            if each.lineno < methods[0].lineno
            for line in lines[each.lineno - 1 : each.end_lineno]
        ]
    return "\n".join(shown)


def defined(node, lines, above=""):
    "What is said of a function or class, and of the methods that others use"
    name = f"{above}{node.name}"
    parts = [
        f"{'####' if above else '###'} `{name}` {{ #{name.replace('__', '')} }}",
        fenced(dedent(signature(node, lines)), "python"),
    ]
    if doc := ast.get_docstring(node):
        parts.append(f"{doc}.")
    if isinstance(node, ast.ClassDef):
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and (is_public(each) or each.name == "__init__"):
                parts += defined(each, lines, f"{node.name}.")
    return parts


def dedent(text):
    "Take away the white space that all lines begin with"
    lines = text.splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] for line in lines)


def exported(source):
    "What an exported cell has for others, and its source for who wants to see it"
    lines = source.splitlines()
    body = ast.parse(source).body
    if all(isinstance(node, ast.Import | ast.ImportFrom) or names(node) == ["_all_"] for node in body):
        return []
    parts = [part for node in body if is_public(node) for part in defined(node, lines)]
    indented = "\n".join(f"    {line}" for line in fenced(source, "python").splitlines())
    return [*parts, f'??? note "Source"\n\n{indented}']


def shown(outputs, picture):
    "What a cell has shown; `picture` keeps one, and gives its name"
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            yield f"![Output]({picture(base64.b64decode(''.join(data['image/png'])))})"
        elif "text/html" in data:
            html = re.sub(r"\n\s*\n", "\n", "".join(data["text/html"]))
            yield f'<div class="shown">{html}</div>'
        elif text := "".join(output.get("text", data.get("text/plain", ""))).strip("\n"):
            yield fenced(text, "text")


def page_of(notebook, links):
    "The Markdown of a notebook; its pictures are written beside it"
    name, pictures, parts = f"nbs/{notebook.stem}.md", [], []

    def picture(data):
        pictures.append(f"{notebook.stem}-{len(pictures) + 1}.png")
        (links.docs / "nbs" / pictures[-1]).write_bytes(data)
        return pictures[-1]

    for kind, source, directives, outputs in cells(notebook):
        if "hide" in directives or "default_exp" in directives:
            continue
        if kind == "markdown":
            parts.append(links.prose(source, name))
        elif "export" in directives or "exporti" in directives:
            parts += exported(source)
        else:
            parts += [fenced(source, "python"), *shown(outputs, picture)]
    return "\n\n".join(parts) + "\n"


# ---- the site


def title_of(notebook):
    "What a notebook is called in the list of all pages"
    return next(
        source.removeprefix("# ").partition("\n")[0] for kind, source, *_ in cells(notebook) if kind == "markdown"
    )


def pages_of(digit):
    "The notebooks whose number begins with a digit"
    return [{title_of(path): f"nbs/{path.stem}.md"} for path in notebooks() if path.stem.startswith(digit)]


def navigation():
    "All pages in the order in which they are read; notebooks go by the chapters of docs/HOUSE.md"
    chapters = {title: pages_of(digit) for digit, title in CHAPTER.findall((ROOT / "docs" / "HOUSE.md").read_text())}
    _, *house, (_, operators) = chapters.items()
    look_up = [f"docs/{name}.md" for name in ("CLI", "ERRORS", "FORMAT", "COMPATIBILITY", "PROMISES", "SECURITY")]
    others = sorted({f"docs/{path.name}" for path in ROOT.glob("docs/*.md")} - {*look_up, "docs/HOUSE.md"})
    return [
        {"Home": "index.md"},
        {"Tutorials": pages_of("00")},
        {"Plugins": pages_of("01")},
        {"Operators": operators},
        {"Reference": [*look_up, *others]},
        {"The house": ["docs/HOUSE.md", *({title: pages} for title, pages in house)]},
        {"The project": ["CHANGELOG.md", "CONTRIBUTING.md", "tests/FAULTS.md"]},
    ]


# As the reader's system has it, until one of the two is chosen
PALETTE = [
    {"media": "(prefers-color-scheme)", "toggle": {"icon": "material/brightness-auto", "name": "Light"}},
    {
        "media": "(prefers-color-scheme: light)",
        "scheme": "default",
        "primary": "custom",
        "toggle": {"icon": "material/weather-sunny", "name": "Dark"},
    },
    {
        "media": "(prefers-color-scheme: dark)",
        "scheme": "slate",
        "primary": "custom",
        "toggle": {"icon": "material/weather-night", "name": "As the system"},
    },
]


def settings(docs, out):
    "The settings of mkdocs"
    theme = {
        "name": "material",
        "font": False,  # else they come from elsewhere
        "features": [
            "navigation.tabs",
            "navigation.top",
            "search.highlight",
            "content.code.copy",
            "navigation.indexes",
            "navigation.footer",
        ],
        "palette": PALETTE,
    }
    extensions = ["admonition", "attr_list", "md_in_html", "tables", "pymdownx.details", "pymdownx.superfences"]
    return {
        "site_name": "cjm-media-storage",
        "docs_dir": str(docs),
        "site_dir": str(out),
        "theme": theme,
        "nav": navigation(),
        "use_directory_urls": False,
        "plugins": ["search"],
        "extra": {"generator": False},
        "extra_css": ["look.css"],
        "markdown_extensions": [
            *extensions,
            {"toc": {"toc_depth": 4}},
            {"pymdownx.highlight": {"pygments_lang_class": True}},
        ],
        "not_in_nav": "/tests/POWER.md",
        "validation": {"links": {"anchors": "warn", "unrecognized_links": "warn"}},
        "strict": True,
    }


def write_pages(docs):
    "The Markdown of all pages, and what they show"
    links = Links(docs)
    (docs / "nbs").mkdir()
    for pattern in PAGES:
        for path in ROOT.glob(pattern):
            name = path.relative_to(ROOT).as_posix()
            target = docs / name.replace("README.md", "index.md")
            target.parent.mkdir(exist_ok=True)
            target.write_text(links.prose(path.read_text(), name))
    for notebook in notebooks():
        (docs / "nbs" / f"{notebook.stem}.md").write_text(page_of(notebook, links))
    shutil.copytree(LOOK, docs, dirs_exist_ok=True)


def make(out):
    "Make the site in the folder `out`"
    with tempfile.TemporaryDirectory() as folder:
        docs, written = Path(folder) / "docs", Path(folder) / "mkdocs.yml"
        docs.mkdir()
        write_pages(docs)
        written.write_text(json.dumps(settings(docs, out.resolve())))  # JSON is YAML
        config = load_config(str(written))
        config.mdx_configs["toc"]["slugify"] = slugify(case="lower")  # as GitHub does
        build(config)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [out]:
            make(Path(out))
        case _:
            sys.exit(__doc__)
