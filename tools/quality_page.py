"""Write tests/QUALITY.md: what the tests do not run, which changes of the code they do not notice, and why that may be.

It reads the data of coverage.py, what tools/mutants.py kept in tests/mutants/, and the reasons in tests/quality.toml.
CONTRIBUTING.md says how to make all of them again.
"""

import contextlib
import io
import json
import tomllib
from pathlib import Path

from coverage import Coverage
from mutants import FOUND, reason

ROOT = Path(__file__).resolve().parent.parent
TESTS, PACKAGE = ROOT / "tests", ROOT / "cjm_media_storage"
PAGE = TESTS / "QUALITY.md"
NO_REASON = "no reason yet"
OPEN = "**open**: a test is missing, or was added since"

HEAD = """
# What the tests do not see

Written by `tools/quality_page.py`; do not edit. The reasons are those of [quality.toml](quality.toml), and
`tests/test_quality.py` fails when one of them is about code that is no more.

## Lines and branches that no test takes

The whole suite, without what needs a power cut, a trace of system calls, a browser or the package index
(`-m 'not (power or kills or site or types or release)'`), on Linux and Python {python}. Second programs, forked
children and threads are counted, except those that are killed. Of {statements:,} statements and {branches:,} branches,
**{share:.1f} %** are taken; {whole} of {modules} modules are taken as a whole. Of the others this is left, where an
`if` or a `for` leads one way only.
""".strip()

CHANGED = """
## Changes that no test notices

`tools/mutants.py` changes the code of the rooms that data depends on, one place at a time: a comparison, a condition,
a number, an operator, a word of SQL, a call or an error left out, a result that is None, a `with` block without its
guard. The changes of a module are tried by the tests of the module and of its neighbours: all of them, or, where fewer
were tried than there are, some that were drawn by chance. What is left makes no difference that a program could see,
for the reason that is given, or is open.
""".strip()


def reasons():
    "The table of reasons"
    return tomllib.loads((TESTS / "quality.toml").read_text())


def measured():
    "What coverage.py found, by module"
    coverage, out = Coverage(), io.StringIO()
    coverage.load()
    with contextlib.redirect_stdout(out):
        coverage.json_report(outfile="-")
    return json.loads(out.getvalue())


def missing(file, lines):
    "The lines of a module that are not run, or lead one way only; of some that stand together, the first"
    gone = set(file["missing_lines"])
    found = [line for line in gone if line - 1 not in gone]
    found += [start for start, end in file["missing_branches"] if start not in gone and abs(end) not in gone]
    return [" ".join(lines[line - 1].split()) for line in sorted(found)]


def code(text):
    "Code in a cell of a table"
    return "`` " + text.replace("|", "\\|") + " ``"


def left(table, files):
    "For each reason, the lines of each module"
    found = {}
    for name, file in sorted(files.items()):
        module, lines = Path(name).stem, (ROOT / name).read_text().splitlines()
        for line in missing(file, lines):
            why = next((each["why"] for each in table["left"] if line in each["lines"].get(module, [])), NO_REASON)
            found.setdefault(why, {}).setdefault(module, {})[line] = None
    for why in [*(each["why"] for each in table["left"]), NO_REASON]:
        if why in found:
            rows = [f"| {module} | {'<br>'.join(map(code, lines))} |" for module, lines in found[why].items()]
            yield "\n".join([f"**{why}:**\n", "| module | line |", "| --- | --- |", *rows])


def changed(table):
    "Lines of the tables of changes: how many, and what is left"
    counts, rows = [], []
    for path in sorted(FOUND.glob("*.json")):
        told = json.loads(path.read_text())
        killed = told["tried"] - len(told["left"])
        counts.append(f"| {path.stem} | {told['all']} | {told['tried']} | {killed} | {len(told['left'])} |")
        for each in told["left"]:
            before, after = each["before"], each["after"]
            why = reason(table, path.stem, before, after) or OPEN
            rows.append(f"| {path.stem} | {code(before)} | {code(after)} | {why} |")
    return counts, rows


def page():
    "The whole page"
    table, found = reasons(), measured()
    totals, files = found["totals"], found["files"].values()
    head = HEAD.format(
        python=found["meta"].get("python", "3.11"),
        statements=totals["num_statements"],
        branches=totals["num_branches"],
        share=totals["percent_covered"],
        whole=sum(file["summary"]["percent_covered"] == 100 for file in files),
        modules=len(files),
    )
    first = left(table, found["files"])
    counts, rows = changed(table)
    second = ["| module | changes | tried | noticed | left |", "| --- | ---: | ---: | ---: | ---: |", *counts]
    third = ["| module | code | changed | why it makes no difference |", "| --- | --- | --- | --- |", *rows]
    return "\n\n".join([head, *first, CHANGED, "\n".join(second), "\n".join(third)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    text = PAGE.read_text()
    print(f"{PAGE.relative_to(ROOT)}: {text.count(NO_REASON)} lines without a reason, {text.count(OPEN)} changes open")
