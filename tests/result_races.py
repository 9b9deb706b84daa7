"What two programs do to one file of results at once: ours, and those of older packages"

import functools
import sqlite3

from interleaving import POINTS, Rules, Stage, armed
from old import First, Last
from on_disk import query
from results import KINDS

from cjm_media_storage.database import Database
from cjm_media_storage.errors import StorageError

CONFIG = "sha256:" + "0" * 64


class Results:
    "A file of results, of one kind or the other"

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "results.db"

    @property
    def kind(self):
        return KINDS[(self.folder / "kind").read_text()]

    def row(self, n, by):
        "The `n`th result of a series: that of the same path and settings, whoever saves it"
        changes = {"metadata": {"by": by}, "config_hash": CONFIG}
        if self.kind.name == "processing":
            changes |= {"job_id": f"{n} {by}"}
        return self.kind.row(n, **changes)

    def save(self, *rows):
        with self.kind.storage(self.path) as storage, armed():
            storage.save_many(rows)
        return "saved"


def save(results):
    return results.save(results.row(0, "save"))


def replace(results):
    return results.save(results.row(0, "replace"))


def save_many(results):
    return results.save(*(results.row(n, "save_many") for n in range(3)))


def delete(results):
    with results.kind.storage(results.path) as storage, armed():
        return results.kind.delete(storage, results.row(0, "before"))


def walk(results):
    "What has results, read one by one: what is saved meanwhile may come or not, and come twice if it was replaced"
    Database.pages = functools.partialmethod(Database.pages, size=1)
    with results.kind.storage(results.path) as storage, armed():
        return sorted({getattr(row, results.kind.paths[0]) for row in storage})


def newest(results):
    with results.kind.storage(results.path) as storage, armed():
        return [row.metadata for row in storage.list_jobs()]


def migrate(results):
    with armed():
        results.kind.storage(results.path).close()
    return "opened"


def _write(results, program, name):
    with armed():
        old = program(results.path)
        if results.kind.name == "analysis":
            old.add_result("/media/0.wav", CONFIG, {"by": name})
        else:
            old.add_job(name, "/media/0.wav", CONFIG)
    return "written"


def first_opens(results):
    First(results.path)


def last_opens(results):
    Last(results.path)


def first_writes(results):
    return _write(results, First, "first")


def last_writes(results):
    return _write(results, Last, "last")


OPERATIONS = {
    each.__name__: each for each in (save, replace, save_many, delete, walk, newest, migrate, first_writes, last_writes)
}
STEPS = {name: [("migrate", name)] for name in ("save", "replace", "save_many", "delete", "walk", "newest")}
STEPS |= {"first_writes": [("first_opens", "first_writes")], "last_writes": [("last_opens", "last_writes")]}


def may_refuse(name, said, other):
    "The last release looks for the column, and then adds it: whoever was faster makes it fail, with nothing lost"
    return name == "last_writes" and said == "OperationalError: duplicate column name: config_hash"


def perform(results, name):
    try:
        said = {**OPERATIONS, "first_opens": first_opens, "last_opens": last_opens}[name](results)
    except (StorageError, sqlite3.Error) as e:
        said = f"{type(e).__name__}: {e}"
    POINTS.tell("result", said)


# ---- before and after


def prepare(results, before):
    "A file of today's program with a result, or one of the first generation with two jobs for one path"
    kind, _, old = before.partition(" ")
    (results.folder / "kind").write_text(kind)
    if not old:
        results.save(results.row(0, "before"))
        return
    program = First(results.path)
    program.add_result("/media/0.wav", CONFIG, {"by": "before"})
    for name in ("one", "two"):
        program.add_job(name, "/media/0.wav", CONFIG)


def describe(results):
    "Every result that can be found, and by whom it was saved"
    results.kind.storage(results.path).close()
    if results.kind.name == "analysis":
        rows = query(results.path, "SELECT file_path, config_hash, metadata FROM analysis_jobs ORDER BY 1, 2")
    else:
        rows = query(results.path, "SELECT job_id, input_path, config_hash FROM processing_jobs ORDER BY 1")
        rows += query(results.path, "SELECT job_id, 'replaced' FROM replaced_jobs ORDER BY 1")
    POINTS.tell("result", [rows, query(results.path, "PRAGMA integrity_check")])


def stage(folder):
    "Where all this happens"
    results = Results(folder / "work")
    works = [lambda before: prepare(results, before), lambda name: perform(results, name), lambda: describe(results)]
    return Stage(folder, *works, Rules(may_refuse, steps=STEPS))
