"""Change the package in small ways, one at a time, and find the changes that no test notices.

    python tools/mutants.py hashing files     all changes of each of these modules, or of all in `TESTS`
    python tools/mutants.py --sample 80       some of each, drawn by chance but always the same
    python tools/mutants.py --since COMMIT    those that the modules of COMMIT did not have; all of its own were tried
    python tools/mutants.py --again           those that were left and have no reason, by all tests of their module

Each change is tried in a copy of the project, by those of the module's tests that run the changed line, in a process
forked from one that has loaded pytest already. What is left is kept in tests/mutants/; `tools/quality_page.py` tells
it. A changed program may delete anything: it sees all but the folder for temporary files as read-only (Linux, with
`unshare`). Not by mutmut, which leaves out what is decorated (most of our `with` blocks) and what second programs run.
"""

import argparse
import ast
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
import traceback
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOUND, REASONS = ROOT / "tests" / "mutants", ROOT / "tests" / "quality.toml"
LEFT_OUT = "slow"  # Marks of tests that take long, or that few machines can run
TESTS = {  # Module: the test files that are to notice
    "hashing": ["hashing", "executors"],
    "paths": ["paths", "hostile", "layout"],
    "kernel": ["kernel", "files", "groups"],
    "files": ["files", "layout", "ingest", "arrivals"],
    "ingest": ["ingest", "arrivals", "putting", "content", "groups"],
    "putting": ["putting", "ingest", "content", "groups"],
    "contents": ["contents", "groups"],
    "arrivals": ["arrivals", "groups"],
    "groups": ["groups", "batches"],
    "batches": ["batches", "groups"],
    "terms": ["terms", "content", "putting"],
    "duplicating": ["duplicating", "ingest"],
    "inserting": ["inserting", "groups"],
    "placement": ["placement", "ingest", "putting", "groups"],
    "staging": ["staging", "ingest"],
    "objects": ["objects", "putting", "groups", "copies"],
    "entries": ["entries", "index", "content"],
    "index": ["index", "entries", "putting"],
    "keeping": ["keeping", "content", "collecting"],
    "collecting": ["collecting"],
    "records": ["records", "journal", "processing"],
    "analysis": ["analysis", "records", "computing"],
    "jobs": ["jobs", "making"],
    "processing": ["processing", "jobs", "making", "records"],
}

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
WORDS = {"is": "is not", "is not": "is", "in": "not in", "not in": "in"}
ARITHMETIC = {"+": "-", "-": "+", "*": "//", "//": "*", "%": "*", "<<": ">>", ">>": "<<", "|": "&", "&": "|"}
SIGNS = {
    **dict.fromkeys(["Lt"], "<"), "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!=",
    "Is": "is", "IsNot": "is not", "In": "in", "NotIn": "not in",
    "Add": "+", "Sub": "-", "Mult": "*", "FloorDiv": "//", "Mod": "%", "LShift": "<<", "RShift": ">>",
    "BitOr": "|", "BitAnd": "&",
}  # fmt: skip
SQL = [
    (r" AND ", " OR "), (r" OR ", " AND "), (r" IS NOT NULL", " IS NULL"), (r" IS NULL", " IS NOT NULL"),
    (r" <> ", " = "), (r" = \?", " <> ?"), (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "),
    (r" DESC", " ASC"), (r"\bMAX\(", "MIN("), (r" NOT EXISTS", " EXISTS"),
]  # fmt: skip


TUNED = {"CHUNK", "BLOCK", "LARGE", "SMALL", "STEP", "SLICE"}  # Sizes that are right within wide bounds


class Changes(ast.NodeVisitor):
    "Finds what can be changed in a module: (statement, line, function, start, end, text that takes the place)"

    def __init__(self, text):
        self.found, self.function, self.statement = [], "", 0
        self.starts = [0]
        for line in text.encode().splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.bytes = text.encode()

    def span(self, node):
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def source(self, node):
        start, end = self.span(node)
        return self.bytes[start:end].decode()

    def change(self, node, text):
        self.found.append((self.statement, node.lineno, self.function, *self.span(node), text))

    def between(self, left, right, signs, name):
        "Change the operator between two operands"
        start, end = self.span(left)[1], self.span(right)[0]
        sign = SIGNS.get(name)
        gap = self.bytes[start:end].decode()
        if sign in signs and gap.count(sign) == 1:
            self.found.append(
                (self.statement, left.end_lineno, self.function, start, end, gap.replace(sign, signs[sign]))
            )

    def visit(self, node):
        if isinstance(node, ast.stmt):
            self.statement = node.lineno
        super().visit(node)

    def visit_FunctionDef(self, node):
        outer, self.function = self.function, f"{self.function}.{node.name}".lstrip(".")
        for each in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(each)
        first = node.body[0]
        documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        for each in node.body[documented:]:
            self.visit(each)
        self.function = outer

    def visit_ClassDef(self, node):
        outer, self.function = self.function, f"{self.function}.{node.name}".lstrip(".")
        for each in node.body:
            self.visit(each)
        self.function = outer

    def visit_AnnAssign(self, node):
        if node.value:
            self.visit(node.value)

    def visit_Compare(self, node):
        for left, op, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self.between(left, right, COMPARISONS | WORDS, type(op).__name__)
            if isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.Tuple) and len(right.elts) > 1:
                for left_out in right.elts:
                    rest = [self.source(each) for each in right.elts if each is not left_out]
                    self.change(right, f"({', '.join(rest)},)")
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            start, end = self.span(left)[1], self.span(right)[0]
            gap = self.bytes[start:end].decode()
            self.found.append((self.statement, left.end_lineno, self.function, start, end, gap.replace(word, other)))
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        if isinstance(node.op, ast.Not):
            self.change(node, f"({self.source(node.operand)})")
        self.generic_visit(node)

    def visit_BinOp(self, node):
        texts = [isinstance(each, ast.JoinedStr | ast.Constant) for each in (node.left, node.right)]
        if not any(texts) or all(isinstance(getattr(each, "value", 0), int) for each in (node.left, node.right)):
            self.between(node.left, node.right, ARITHMETIC, type(node.op).__name__)
        self.generic_visit(node)

    def visit_AugAssign(self, node):
        self.between(node.target, node.value, ARITHMETIC, type(node.op).__name__)
        self.generic_visit(node)

    def condition(self, node):
        "Turn a condition round that no other change does"
        if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant | ast.NamedExpr):
            self.change(node.test, f"(not {self.source(node.test)})")
        self.generic_visit(node)

    visit_If = visit_IfExp = visit_While = condition  # noqa: N815

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.change(node, str(not node.value))
        elif isinstance(node.value, int):
            self.change(node, str(node.value + 1))
        elif isinstance(node.value, str):
            self.sql(node)

    def sql(self, node):
        "Change words of SQL; what is inside of an f-string has no position of its own"
        text = self.source(node)
        if re.search(r"\b(SELECT|UPDATE|DELETE|INSERT|WHERE|ORDER BY|AND)\b", text):
            for pattern, other in SQL:
                for found in re.finditer(pattern, text):
                    self.change(node, text[: found.start()] + other + text[found.end() :])

    visit_JoinedStr = sql  # noqa: N815

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Call):
            self.change(node, "pass")
        self.generic_visit(node)

    def visit_Raise(self, node):
        self.change(node, "pass")
        # What an error says is not a promise, so its arguments stay

    def visit_Return(self, node):
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self.change(node, "return None")
        self.generic_visit(node)

    def visit_With(self, node):
        for item in node.items:
            if item.optional_vars is None:
                self.change(item.context_expr, '__import__("contextlib").nullcontext()')
        self.generic_visit(node)

    def visit_Break(self, node):
        self.change(node, "continue")

    def visit_Continue(self, node):
        self.change(node, "break")


def changes(text):
    "All changes of a module, in order"
    finder = Changes(text)
    for node in ast.parse(text).body:
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"__all__", *TUNED}
        if not guarded and not names and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            finder.visit(node)
    return sorted(set(finder.found))


def shown(text, change):
    "The changed lines, before and after; of a text of many lines, those that differ"
    *_, start, end, other = change
    data = text.encode()
    first = data.rfind(b"\n", 0, start) + 1
    last = data.find(b"\n", end)
    both = [part.splitlines() for part in (data[first:last], data[first:start] + other.encode() + data[end:last])]
    for side in (0, -1):
        while all(len(lines) > 1 for lines in both) and both[0][side] == both[1][side]:
            for lines in both:
                del lines[side]
    return [" ".join(b" ".join(lines).decode().split()) for lines in both]


GUARD = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && cd "$PWD" && exec "$@"'
GUARDED = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount", "sh", "-ec", GUARD]


def copy(folder):
    "Copy the project, and make an interpreter that finds the copy first, for second programs too"
    project, names = folder / "project", ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(names, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    venv.create(folder / "venv", symlinks=True)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    (site / "paths.pth").write_text(f"{project}\n{sysconfig.get_path('purelib')}\n")
    return project, folder / "venv" / "bin" / "python"


def reason(table, module, before, after):
    "Why a change is known to make no difference; None if it is not"
    for each in table.get("mutant", {}).get(module, []):
        if each["before"] == before and each.get("after", after) == after:
            return each["why"]
    return None


def tell(module, every, tried, left):
    "Print what is left, and keep it"
    print(f"{module}: {every} changes, {tried} tried, {len(left)} left", flush=True)
    for each in left:
        print(f"  {each['line']} {each['function']}: {each['before']}\n      -> {each['after']}  ({each['fate']})")
    FOUND.mkdir(exist_ok=True)
    told = {"all": every, "tried": tried, "left": left}
    (FOUND / f"{module}.json").write_text(json.dumps(told, indent=1) + "\n")


def again(module, text, every):
    "Of the changes that were left, those that have a reason, those that have none, and how many were tried then"
    before, table = json.loads((FOUND / f"{module}.json").read_text()), tomllib.loads(REASONS.read_text())
    wanted = {(each["function"], each["before"], each["after"]) for each in before["left"]}
    left = [each for each in every if (each[2], *shown(text, each)) in wanted]
    known = [each for each in left if reason(table, module, *shown(text, each))]
    return known, [each for each in left if each not in known], min(before["tried"], len(every))


def since(module, text, every, commit):
    "The changes that were left and are there still, those that `commit` did not have, and how many were tried then"
    there = f"{commit}:cjm_media_storage/{module}.py"
    old = subprocess.run(["git", "show", there], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    had = {(each[2], *shown(old, each)) for each in changes(old)}
    before = json.loads((FOUND / f"{module}.json").read_text())
    wanted = {(each["function"], each["before"], each["after"]) for each in before["left"]}
    new = [each for each in every if (each[2], *shown(text, each)) not in had]
    return [each for each in every if each not in new and (each[2], *shown(text, each)) in wanted], new, len(every)


def run(module, project, python, options):
    "Try changes of a module"
    text = (project / "cjm_media_storage" / f"{module}.py").read_text()
    every = changes(text)
    some = every
    if options.sample is not None and options.sample < len(every):
        some = sorted(random.Random(module).sample(every, options.sample))
    known, tried = [], len(some)
    if options.again:
        known, some, tried = again(module, text, every)
    elif options.since:
        known, some, tried = since(module, text, every, options.since)
    files = [f"tests/test_{name}.py" for name in TESTS[module]]
    job = {"module": module, "files": files, "changes": some, "whole": options.again}
    command = [*GUARDED, tempfile.gettempdir(), python, __file__, "--work", json.dumps(job)]
    ran = some and subprocess.run(command, cwd=project, stdout=subprocess.PIPE, text=True, check=True)
    fates = ["survived"] * len(known) + (json.loads(ran.stdout.splitlines()[-1]) if ran else [])
    left = [
        {"function": change[2], "line": change[1], "before": before, "after": after, "fate": fate}
        for change, fate in zip([*known, *some], fates, strict=True)
        for before, after in [shown(text, change)]
        if fate != "killed"
    ]
    tell(module, len(every), tried, left)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=list(TESTS))
    parser.add_argument("--sample", type=int, help="changes of each module at most; all, if not given")
    parser.add_argument("--since", metavar="COMMIT", help="those that COMMIT did not have")
    parser.add_argument("--again", action="store_true", help="those that were left")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project, python = copy(Path(folder))
        for module in options.modules:
            run(module, project, python, options)


# What follows runs in the copy

OPTIONS = [
    "-q",
    "-p",
    "no:cacheprovider",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
]  # Hypothesis is there already


class Lines:
    "A plugin of pytest: which tests run which lines, and for how long"

    def __init__(self, coverage):
        self.coverage, self.seconds = coverage, {}

    def pytest_runtest_logstart(self, nodeid):
        self.coverage.switch_context(nodeid)
        self.began = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid):
        self.seconds[nodeid] = time.monotonic() - self.began
        self.coverage.switch_context("")


def in_fork(work, seconds):
    "Do `work` in a child: its exit code, or None when it took too long"
    if (child := os.fork()) == 0:
        os.setpgid(0, 0)
        code = 99
        try:
            out = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            code = int(work())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    signal.signal(signal.SIGALRM, lambda *args: os.killpg(child, signal.SIGKILL))
    signal.alarm(seconds)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    code = os.waitstatus_to_exitcode(status)
    return None if code == -signal.SIGKILL else code


def measure(module, files):
    "The tests of each line, and how long each test takes; in a child, so that nothing of ours is loaded here"
    kept = Path("lines.json")

    def work():
        import coverage
        import pytest

        watch = coverage.Coverage(data_file=None, include=[f"*/cjm_media_storage/{module}.py"], config_file=False)
        plugin = Lines(watch)
        watch.start()
        code = pytest.main([*files, *OPTIONS, "-m", f"not ({LEFT_OUT})", "-k", "not postgresql"], [plugin])
        watch.stop()
        data = watch.get_data()
        lines = {}
        for name in data.measured_files():
            for line, contexts in data.contexts_by_lineno(name).items():
                lines[line] = [context for context in contexts if context]  # none: it is run by an import
        kept.write_text(json.dumps([lines, plugin.seconds]))
        return code

    code = in_fork(work, 900)
    assert code == 0, f"the tests of {module} fail without a change:\n{Path('said.txt').read_text()}"
    lines, seconds = json.loads(kept.read_text())
    named = in_fork(lambda: __import__("pytest").main([*seconds, *OPTIONS, "--collect-only"]), 300)
    assert named == 0, f"a test is not found by its name:\n{Path('said.txt').read_text()}"
    return {int(line): tests for line, tests in lines.items()}, seconds


def fates(job):
    "What becomes of each change"
    module, files = job["module"], job["files"]
    path = Path("cjm_media_storage", f"{module}.py")
    lines, seconds = measure(module, files)
    print(f"{module}: {len(seconds)} tests in {sum(seconds.values()):.0f} s", file=sys.stderr, flush=True)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    whole = path.read_bytes()

    def work(tests):
        import pytest

        return pytest.main([*tests, *OPTIONS, "-x"])

    try:
        for statement, line, _, start, end, other in job["changes"]:
            run = [lines[each] for each in range(statement, line + 1) if each in lines]
            if not run and not job["whole"]:
                yield "no test runs it"
                continue
            tests = set().union(*run)
            tests = sorted(seconds if job["whole"] else tests or seconds, key=seconds.get)
            changed = whole[:start] + other.encode() + whole[end:]
            path.write_bytes(changed)
            for old in path.parent.glob(f"__pycache__/{module}.*"):
                old.unlink()
            limit = int(20 + 5 * sum(seconds[each] for each in tests))
            code = in_fork(lambda tests=tests: work(tests), limit)
            yield "survived" if code == 0 else "killed"
    finally:
        path.write_bytes(whole)


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        sys.path.insert(0, os.getcwd())
        for loaded_once in ("pytest", "hypothesis", "anyio", "asyncio", "sqlite3", "multiprocessing.pool"):
            importlib.import_module(loaded_once)

        print(json.dumps(list(fates(json.loads(sys.argv[2])))))
    else:
        main()
