"""Anything in any order: both storages of results against plain lists. Hypothesis makes up the programs; with
`--hypothesis-profile=long` it runs many more of them."""

import json
import os
import pickle
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from effort import effort
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from old import First, Last
from programs import Program
from results import KINDS, A, B, C, D
from together import in_threads

from cjm_media_storage.storage import InvalidHash, InvalidRecord, StoreClosed, hash_bytes

OTHER = """
import json, sys
from results import KINDS
for line in sys.stdin:
    name, path, facts = json.loads(line)
    with KINDS[name].storage(path) as storage:
        storage.save_many([KINDS[name].row(**facts)])
    print("saved", flush=True)
"""
NAMES = [os.fsdecode(name) for name in (b"0.wav", b"it's.wav", b"caf\xe9.wav")]
METADATA = st.sampled_from([None, {}, {"a": [1, 2.5, None]}, {"\udce9": "\ud800"}])
FACTS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(NAMES),
        "job": st.integers(0, 3),
        "config": st.sampled_from([B, D, ""]),
        "right": st.booleans(),  # Is the hash that of the file?
        "metadata": METADATA,
        "listed": st.sampled_from([None, [], [{"start": 0.5}]]),
    }
)
WAYS = st.sampled_from(["save", "save_with_logging", "save_many", "thread", "fork", "process", "pickle", "Path"])
STEPS = st.sampled_from([-1e6, -1.0, 0.0, 1.0, 1e6])


@pytest.fixture(scope="module", autouse=True)
def other_process(tmp_path_factory):
    "A second program that saves what it is told"
    process = Program(tmp_path_factory.mktemp("other")).start(OTHER)
    ResultsModel.other = process
    yield
    process.communicate(timeout=60)


class ResultsModel(RuleBasedStateMachine):
    "What is done to a storage is done to a list of rows, in the order of their ids, and a dictionary of replaced jobs"

    kind, other = None, None

    @initialize()
    def begin(self):
        memory = Path("/dev/shm")  # no power is cut here
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        for name in NAMES:
            (self.folder / name).write_bytes(b"content")
        self.rows, self.replaced = [], {}
        self.now, self.clock = 1e9, time.time
        time.time = lambda: self.now  # no test may set the clock of the computer
        self.path = self.folder / "results.db"
        self.storage = self.kind.storage(self.path)

    def teardown(self):
        if hasattr(self, "storage"):
            time.time = self.clock
            self.storage.close()
            shutil.rmtree(self.folder)

    def content_hash(self, name):
        path = self.folder / name
        return hash_bytes(path.read_bytes()) if path.exists() else A

    def row(self, facts, at=None):
        file = os.fspath(self.folder / facts["name"])
        hash = self.content_hash(facts["name"]) if facts["right"] else A
        common = {"config_hash": facts["config"], "metadata": facts["metadata"], "created_at": at or self.now}
        return self.kind.row(**self.own(facts, file, hash), **common)

    # ---- saving

    @rule(facts=FACTS, way=WAYS)
    def save(self, facts, way):
        row = self.row(facts)
        if row.config_hash == "" and self.kind.name == "analysis":
            with pytest.raises(InvalidHash):
                self.storage.save(**self.kind.arguments(row))
            return
        getattr(self, f"by_{way}", self.told)(row, way)
        self.keep(row)

    def told(self, row, way):
        if way == "save":
            self.storage.save(**self.kind.arguments(row))
        elif way == "save_many":
            assert self.storage.save_many([row]) == 1
        else:
            assert self.storage.save_with_logging(**self.kind.arguments(row))

    def by_thread(self, row, way):
        in_threads(1, lambda n: self.storage.save_many([row]))

    def by_fork(self, row, way):
        child = os.fork()
        if child == 0:
            try:
                self.storage.save_many([row])
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0

    def by_process(self, row, way):
        self.other.stdin.write(json.dumps([self.kind.name, os.fspath(self.path), vars(row)]) + "\n")
        self.other.stdin.flush()
        assert self.other.stdout.readline() == "saved\n"

    def by_pickle(self, row, way):
        with pickle.loads(pickle.dumps(self.storage)) as storage:
            storage.save_many([row])

    def by_Path(self, row, way):  # noqa: N802
        paths = {name: Path(getattr(row, name)) for name in self.kind.paths}
        self.storage.save(**self.kind.arguments(replace(row, **paths)))

    @rule(several=st.lists(FACTS, max_size=5), ages=st.lists(STEPS, min_size=5, max_size=5))
    def save_many(self, several, ages):
        rows = [self.row(facts, self.now + age) for facts, age in zip(several, ages, strict=False)]
        rows = [row for row in rows if row.config_hash or self.kind.name == "processing"]
        assert self.storage.save_many(iter(rows)) == len(rows)
        for row in rows:
            self.keep(row)

    @rule(good=FACTS, bad=FACTS, value=st.sampled_from([float("nan"), b"", object()]))
    def save_what_cannot_be(self, good, bad, value):
        rows = [replace(self.row(good), config_hash=B), replace(self.row(bad), metadata={"a": value}, config_hash=B)]
        with pytest.raises(InvalidRecord):
            self.storage.save_many(rows)

    @rule(facts=FACTS, generation=st.sampled_from([First, Last]))
    def an_older_program_saves(self, facts, generation):
        if facts["name"].isascii():
            self.older(generation(self.path), replace(self.row(facts), metadata=None), facts["metadata"] or None)

    # ---- what else happens

    @rule(facts=FACTS)
    def delete(self, facts):
        row = self.row(facts)
        assert self.kind.delete(self.storage, row) == self.forget(row)

    @rule(step=STEPS)
    def set_the_clock(self, step):
        self.now += step

    @rule(name=st.sampled_from(NAMES), content=st.sampled_from([b"content", b"edited", None]))
    def edit(self, name, content):
        (self.folder / name).unlink(missing_ok=True)
        if content is not None:
            (self.folder / name).write_bytes(content)

    @rule()
    def reopen(self):
        self.storage.close()
        with pytest.raises(StoreClosed):
            self.storage.list_jobs()
        self.storage = self.kind.storage(os.fspath(self.path))

    # ---- what is always so

    def agrees(self, check, path, hash):
        "Is a check of a file right?"
        if not os.path.exists(path):
            with pytest.raises(FileNotFoundError):
                check()
        else:
            assert check() is (hash_bytes(Path(path).read_bytes()) == hash)

    @invariant()
    def they_agree(self):
        if not hasattr(self, "storage"):
            return
        assert list(self.storage) == self.rows
        newest = sorted(enumerate(self.rows), key=lambda pair: (pair[1].created_at, pair[0]), reverse=True)
        assert self.storage.list_jobs(-1) == [row for _, row in newest]
        assert self.storage.list_jobs(2) == [row for _, row in newest][:2]
        assert len(self.storage) == len(self.rows)
        ever = [*self.rows, *self.replaced.values()]
        for hash in (A, C, hash_bytes(b"content")):
            named = [name for name in self.kind.hashes if name != "config_hash"]
            assert self.storage.mentions(hash) is any(getattr(row, name) == hash for name in named for row in ever)
        for row in self.rows:
            hits = [each for _, each in newest if self.content(each) == self.content(row)]
            known = row.config_hash or self.kind.name == "analysis"
            assert self.kind.get(self.storage, row) == (row if known else None)
            assert self.kind.find(self.storage, row) == (hits[0] if known else None)
        self.look()


class AnalysisModel(ResultsModel):
    kind = KINDS["analysis"]

    def own(self, facts, file, hash):
        return {"file_path": file, "file_hash": hash, "ranges": facts["listed"]}

    def content(self, row):
        return row.file_hash, row.config_hash

    def _at(self, row):
        key = row.file_path, row.config_hash
        return next((n for n, each in enumerate(self.rows) if (each.file_path, each.config_hash) == key), None)

    def keep(self, row):
        at = self._at(row)
        self.rows[len(self.rows) if at is None else at :][:1] = []
        if at is None:
            self.rows.append(row)
        else:
            self.rows[at] = row

    def forget(self, row):
        before, self.rows = self.rows, [each for each in self.rows if each.file_path != row.file_path]
        return len(before) - len(self.rows)

    def older(self, program, row, metadata):
        program.add_result(row.file_path, row.config_hash, metadata)
        if (at := self._at(row)) is not None:
            del self.rows[at]
        self.rows.append(replace(row, file_hash=A, ranges=None, metadata=metadata))

    def look(self):
        for row in self.rows:
            path, config = row.file_path, row.config_hash
            assert self.storage.get_cached(path, config) == row == self.storage.get_cached(path, config_hash=config)
            assert self.storage.get_cached(file_path=path, file_hash=C, config_hash=config) is None
            self.agrees(lambda path=path, config=config: self.storage.verify_file(path, config), path, row.file_hash)


class ProcessingModel(ResultsModel):
    kind = KINDS["processing"]

    def own(self, facts, file, hash):
        out = {"output_path": file, "output_hash": C, "parameters": {"list": facts["listed"]}}
        return {"job_id": f"job_{facts['job']}", "input_path": file, "input_hash": hash, **out}

    def content(self, row):
        return row.action, row.input_hash, row.config_hash

    def _places(self, row):
        "Where the current job of the same input and parameters is, and where that of the same name is"
        key = row.action, row.input_path, row.config_hash
        same = [n for n, each in enumerate(self.rows) if (each.action, each.input_path, each.config_hash) == key]
        named = [n for n, each in enumerate(self.rows) if each.job_id == row.job_id]
        return same[0] if same and row.config_hash else None, named[0] if named else None

    def _replace(self, at, row):
        if at is not None and self.rows[at].job_id != row.job_id:
            self.replaced[self.rows[at].job_id] = self.rows[at]

    def keep(self, row):
        same, named = self._places(row)
        self._replace(same, row)
        if same is None and named is None:
            self.rows.append(row)
            return
        self.rows[named if same is None else same] = row
        if None not in (same, named) and same != named:
            del self.rows[named]

    def forget(self, row):
        known = len(self.rows) + len(self.replaced)
        self.rows = [each for each in self.rows if each.job_id != row.job_id]
        self.replaced.pop(row.job_id, None)
        return int(len(self.rows) + len(self.replaced) < known)

    def older(self, program, row, metadata):
        if isinstance(program, Last):
            same, named = self._places(row)
            self._replace(same, row)
            self.rows = [each for n, each in enumerate(self.rows) if n not in (same, named)]
        elif any(each.job_id == row.job_id for each in self.rows):
            return  # it cannot
        else:
            row = replace(row, config_hash="")
        program.add_job(row.job_id, row.input_path, row.config_hash)
        told = {"input_hash": A, "output_path": f"/out/{row.job_id}", "parameters": None}
        self.rows.append(replace(row, **told))

    def look(self):
        current = {row.job_id: row for row in self.rows}
        for job_id, row in {**self.replaced, **current}.items():
            assert self.storage.get_by_job_id(job_id) == row
            self.agrees(lambda job_id=job_id: self.storage.verify_input(job_id), row.input_path, row.input_hash)
            self.agrees(lambda job_id=job_id: self.storage.verify_output(job_id), row.output_path, row.output_hash)


TestAnalysis = AnalysisModel.TestCase
TestProcessing = ProcessingModel.TestCase
TestAnalysis.settings = TestProcessing.settings = effort(max_examples=25, stateful_step_count=25)
