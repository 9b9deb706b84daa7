"""Write docs/CLI.md, the page of all commands, from what the commands say of themselves.

    python tools/cli_page.py

`tools/nb.py build` runs it; `tests/test_cli.py` fails when that was forgotten.
"""

import inspect
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the package beside this file, also if another one is installed

from cjm_media_storage.cli import ROOMS, Commands, make_app  # noqa: E402

PAGE = ROOT / "docs" / "CLI.md"

HEAD = """# The command `media-storage`

It comes with the extra `cli`: `pip install 'cjm-media-storage[cli]'`. Written by `tools/cli_page.py`; do not edit.

- **The store** is that of `--store`, else of `MEDIA_STORAGE_STORE`, else the nearest at or above the current folder.
  Only `add` and `demo` make one.
- **A hash** is `sha256:` and 64 digits, the digits alone, or the first four or more of them, wherever one is asked for.
  If several objects begin so, they are listed.
- **JSON**: with `--json`, each line that is printed is one JSON object. A listing prints one for each entry (below:
  *JSON lines*), every other command exactly one. Times are seconds since 1970, sizes are bytes, errors are text on
  standard error.
- **Exit codes**: 0 all is well, 1 problems were found or something failed, 2 the command was wrongly used, 130 stopped
  with Ctrl-C, 141 the reader of the output went away (`media-storage ls | head`).
- **Ctrl-C** leaves everything whole: what was done stays done, and the same command goes on. Twice ends at once.
- **Questions** are only asked at a terminal; a script says `--yes`. Colours and progress bars are for terminals, too,
  and `NO_COLOR` is honoured.
- **Errors** are one line that says what to do. `media-storage --debug COMMAND` shows where they came from.
- **Completion** of commands, options, hashes and namespaces: `media-storage --install-completion`.
"""


def paragraphs(text):
    "The paragraphs of a docstring as markdown"
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        first, *rest = paragraph.strip("\b\n").split("\n")
        if first.startswith("Example"):
            yield "\n".join(["```sh", *(line.strip() for line in rest), "```"])
        else:
            kind, colon, keys = " ".join([first, *rest]).partition(": ")
            yield f"*{kind}*: {keys}" if colon and kind.startswith("JSON") else " ".join([first, *rest])


def usage(command, name):
    "How a command is typed"
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    shown = [(param.metavar or param.name).upper() + "..." * (param.nargs == -1) for param in arguments]
    named = [text if param.required else f"[{text}]" for param, text in zip(arguments, shown, strict=True)]
    return " ".join([name, *named])


def table(command):
    "The arguments and options of a command"
    rows = []
    for param in command.params:
        if param.param_type_name == "argument":
            names = (param.metavar or param.name).upper()
        else:
            names = ", ".join([*param.opts, *param.secondary_opts])
        rows.append(f"| `{names}` | {(param.help or '').replace('|', chr(92) + '|')} |")
    return "\n".join(["| | |", "| --- | --- |", *rows])


def section(command, name):
    "All that is said of a command"
    if subcommands := getattr(command, "commands", None):
        return "\n\n".join(section(each, f"{name} {sub}") for sub, each in subcommands.items())
    return "\n\n".join([f"### {usage(command, name)}", *paragraphs(command.help), table(command)])


def page():
    "The page, as text"
    import typer

    group, parts = typer.main.get_group(make_app()), [HEAD]
    assert isinstance(group, Commands)
    for (title, _), names in ROOMS.items():
        parts.append(f"## {title}")
        parts += [section(group.get_command(None, name), f"media-storage {name}") for name in names]
    common = [param for param in group.params if "completion" not in param.name]
    rows = "\n".join(f"| `{', '.join(param.opts)}` | {param.help} |" for param in common)
    parts.append(f"## Before the command\n\n| | |\n| --- | --- |\n{rows}")
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
