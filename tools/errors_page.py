"""Write docs/ERRORS.md, the page of all errors, from what the errors say of themselves.

`tests/test_docs.py` fails when that was forgotten. To write it again: `python tools/errors_page.py`.
"""

import ast
import re
from pathlib import Path

from cjm_media_storage import errors

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "ERRORS.md"

HEAD = """
# Errors

Every error of this library is a `StorageError`. Written from `nbs/100_errors.ipynb` by `tools/errors_page.py`; do not
edit.

```python
from cjm_media_storage.storage import ContentStore, ObjectNotFound, hash_bytes

with ContentStore("media-store") as store:
    try:
        store.read(hash_bytes(b"a poster"))
    except ObjectNotFound as error:
        print(error.hash[:11], error, sep=": ")
```

```text
sha256:78db: no object 'sha256:78dbb01dda9ef4c2025686a3e7372fe6e77ac35ac97af8841bd2183b38f5a87c' in this store
```

- **What it carries** are attributes, in the order of its arguments: a program need not read the message.
  `__cause__` is the error of the system or of SQLite, where there was one.
- **What it says** is the message, with the values in the place of *names*. It ends with what to do.
- Some are also errors of Python, so that code which knows nothing of this library catches them, as a `FileExistsError`.
- Bad input is refused before anything is written. Errors of the caller's own code, such as those of `compute`, pass as
  they are; so do `ValueError` and `TypeError` for an argument that no value of its kind could be, and
  `FileNotFoundError` and `PermissionError` for a file of the caller's that cannot be read.
- **Raised in** are the rooms that make it.
"""


def rooms():
    "The notebook of each module"
    notebooks = [path for path in sorted(ROOT.glob("nbs/[0-9]*.ipynb")) if "#| default_exp" in path.read_text()]
    return {re.sub(r"^\d+[a-z]?_", "", path.stem): path.name for path in notebooks}


def raised_in():
    "Modules that make each error"
    found = {name: [] for name in errors.__all__}
    for module in rooms():
        tree = ast.parse((ROOT / "cjm_media_storage" / f"{module}.py").read_text())
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        for name in called & found.keys():
            found[name].append(module)
    return found


def message(error):
    "The template of an error, with its fields in italics"
    text = re.sub(r"(\w)_(?=\w)", r"\1\\_", error.template)
    return re.sub(r"\{([\w\\]+)(!r)?\}", r"*\1*", text)


def kinds(error):
    "What an error is besides a `StorageError`"
    for base in error.__bases__:
        if base.__module__ == "builtins":
            yield f"`{base.__name__}`"
        elif base is not errors.StorageError:
            yield f"[{base.__name__}](#{base.__name__.lower()})"


def entry(error, modules):
    "What the page says of an error"
    names = rooms()
    facts = [f"{error.__doc__}."]
    if also := ", ".join(kinds(error)):
        facts.append(f"- Also: {also}")
    facts.append(f"- Carries: {', '.join(f'`{name}`' for name in error.fields)}")
    facts.append(f"- Says: {message(error)}")
    if modules:
        facts.append("- Raised in: " + ", ".join(f"[{module}](../nbs/{names[module]})" for module in modules))
    return f"## {error.__name__}\n\n" + facts[0] + "\n\n" + "\n".join(facts[1:])


def page():
    "The whole page"
    found = raised_in()
    entries = [entry(getattr(errors, name), found[name]) for name in sorted(errors.__all__) if name != "StorageError"]
    return "\n\n".join([HEAD.strip(), *entries]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
