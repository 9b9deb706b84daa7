"tests/QUALITY.md has a reason for each line that it tells, and tells each reason of tests/quality.toml."

import sys
import tomllib
from pathlib import Path

TESTS = Path(__file__).resolve().parent
REASONS = tomllib.loads((TESTS / "quality.toml").read_text())
PAGE = (TESTS / "QUALITY.md").read_text()

sys.path.insert(0, str(TESTS.parent / "tools"))
from mutants import TESTS as TRIED  # noqa: E402
from mutants import changes, shown  # noqa: E402

TEXT = """
def f(a, *, b=1):
    "A docstring stays"
    if a < b and not a:
        log("x")
    return con.execute("SELECT a FROM t WHERE a = ? AND b > ?")
"""


def test_every_line_that_is_left_has_a_reason():
    assert "no reason yet" not in PAGE


def test_each_reason_is_told_on_the_page():
    told = [each["why"] for each in REASONS["left"]]
    told += [each["why"] for some in REASONS["mutant"].values() for each in some]
    assert [why for why in told if why not in PAGE] == []


def test_what_was_tried_is_still_tried():
    assert {path.stem for path in TESTS.glob("mutants/*.json")} <= set(TRIED)


def test_what_is_changed():
    assert [shown(TEXT, each)[1] for each in changes(TEXT)] == [
        "def f(a, *, b=2):",
        "if a <= b and not a:",
        "if a < b or not a:",
        "if a < b and (a):",
        "pass",
        "return None",
        'return con.execute("SELECT a FROM t WHERE a <> ? AND b > ?")',
        'return con.execute("SELECT a FROM t WHERE a = ? AND b >= ?")',
        'return con.execute("SELECT a FROM t WHERE a = ? OR b > ?")',
    ]
