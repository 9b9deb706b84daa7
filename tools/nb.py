"""Work on the notebooks of nbs/ from a plain text editor.

    python tools/nb.py text     write the notebooks as text under .text/, to read and edit
    python tools/nb.py build    take edited text back into the notebooks, then make all that is made from them

Building formats the notebooks, exports the package, runs the notebooks and keeps what they show, strips what
would only be noise in a diff, and writes README.md, docs/CLI.md and docs/ERRORS.md. `tests/test_built.py`,
`tests/test_cli.py` and `tests/test_docs.py` fail when that was forgotten.
"""

import subprocess
import sys
from pathlib import Path

from fastcore.nbio import read_nb, render_text, write_nb
from jupytext.cli import jupytext

ROOT = Path(__file__).resolve().parent.parent
NBS, TEXT = ROOT / "nbs", ROOT / ".text"
KERNEL = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}


def newer(a, b):
    "Was file `a` written after file `b`?"
    return a.stat().st_mtime_ns > b.stat().st_mtime_ns


def to_text():
    "Write each notebook as text, without its outputs; text with edits of its own is left alone"
    for nb in NBS.rglob("*.ipynb"):
        text = (TEXT / nb.relative_to(NBS)).with_suffix(".py")
        if text.exists() and newer(text, nb):
            continue
        text.parent.mkdir(parents=True, exist_ok=True)
        jupytext(["--quiet", "--to", "py:percent", "--output", str(text), str(nb)])


def from_text():
    "Take each text back into its notebook, where cells that stay keep their ids and outputs"
    for text in TEXT.rglob("*.py"):
        nb = (NBS / text.relative_to(TEXT)).with_suffix(".ipynb")
        new = not nb.exists()
        if not new and newer(nb, text):
            sys.exit(f"{nb.relative_to(ROOT)} is newer than its text: run `text` to start again from the notebook")
        nb.parent.mkdir(parents=True, exist_ok=True)
        jupytext(["--quiet", *([] if new else ["--update"]), "--to", "ipynb", "--output", str(nb), str(text)])
        if new:
            write_nb(dict(read_nb(nb), metadata=KERNEL), nb)


def markdown(cell):
    "What a reader of README.md sees of `cell`"
    hidden, shows_output_only = cell.has_directive("hide"), cell.has_directive("echo")
    cell.remove_directives()
    if shows_output_only:
        return render_text(cell.outputs).strip("\n")
    if cell.cell_type == "markdown" or hidden:
        return "" if hidden else cell.source
    shown = render_text(cell.outputs).strip("\n")
    return f"```python\n{cell.source}\n```" + (f"\n\n```text\n{shown}\n```" if shown else "")


def readme():
    "Write README.md from nbs/index.ipynb"
    cells = map(markdown, read_nb(NBS / "index.ipynb").cells)
    (ROOT / "README.md").write_text("\n\n".join(filter(None, cells)) + "\n")


def run(command, *args):
    "Run a command of this Python's environment, and stop if it fails"
    if subprocess.run([Path(sys.executable).with_name(command), *args], cwd=ROOT).returncode:
        sys.exit(f"{command} failed")


def build():
    "Make everything that is made from the notebooks"
    run("ruff", "format", "--quiet", "nbs")
    run("nbdev-export")
    run("nbdev-test", "--save")
    run("nbdev-clean")
    readme()
    for page in ("cli_page", "errors_page"):
        run(Path(sys.executable).name, f"tools/{page}.py")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["text"]:
            to_text()
        case ["build"]:
            from_text()
            try:
                build()
            finally:
                if TEXT.exists():
                    to_text()
        case _:
            sys.exit(__doc__)
