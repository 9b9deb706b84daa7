"""What is given, or was done to the files, by somebody who means harm: it ends in a result or in one of our errors, and
nothing is changed outside the store. Input is made up by hypothesis; what was once found is among the examples."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import hostile
import pytest
from effort import effort
from hostile import HASHES, typed
from hypothesis import example, given
from hypothesis import strategies as st
from results import A, B, analysis_row, processing_row

from cjm_media_storage.maintenance import rebuild_index
from cjm_media_storage.names import wanted_path
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import (
    ContentStore,
    CorruptDatabase,
    InvalidRecord,
    MediaAnalysisStorage,
    MediaProcessingStorage,
    OutsideStore,
    UnsafePath,
)

pytestmark = pytest.mark.slow

NASTY = st.sampled_from(["..", "../../x", "/x", "a/b", "a\\b", "a\0b", ".store", "", "\ud800", "\udcff", "x" * 5000])
TEXT = NASTY | st.text(st.characters(), max_size=20)


@pytest.fixture(scope="module")
def room():
    "A folder for a module's stores, in memory where there is some"
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def template(room):
    "A store with everything in it, as a process that was killed leaves it: with a log"
    made = hostile.build(room / "made")
    with ContentStore(made / "store") as store:
        store.add_reference(HASHES[1], "movie:5")
        return Path(shutil.copytree(made, room / "template", symlinks=True))


@pytest.fixture
def work(template, room):
    "A fresh copy of that store"
    yield (folder := fresh(template, room))
    shutil.rmtree(folder)


def fresh(template, room):
    return Path(shutil.copytree(template, tempfile.mkdtemp(dir=room), symlinks=True, dirs_exist_ok=True))


# ---- arguments


@pytest.fixture(scope="module")
def scratch(template, room):
    "A copy for many examples"
    return fresh(template, room)


@effort(max_examples=60)
@given(TEXT, TEXT)
@example("\0/0", "..")
def test_any_text_is_taken_or_refused(scratch, one, other):
    with typed(), ContentStore(scratch / "store") as store:
        library = Library(store, scratch / "library")
        for ask in (store.get, store.find, store.open, store.sources, store.references, store.delete, store.exists):
            with typed():
                ask(one)
        terms = ("namespace", "extension", "provider", "owner", "role", "source", "expected_hash")
        for name in terms:
            with typed():
                store.put(b"bytes", **{"owner": "me"} | {name: one})
        for do in (
            lambda: store.remove_reference(HASHES[1], one, other),
            lambda: store.references(owner=one),
            lambda: store.add_reference(HASHES[1], one, other),
            lambda: store.add_source(HASHES[1], one, other),
            lambda: store.find_by_source(one, other),
            lambda: store.trash.restore(one),
            lambda: store.trash.purge(reason=one),
            lambda: store.delete(HASHES[1], one),
            lambda: library.unpublish(one),
            lambda: wanted_path(one),
        ):
            with typed():
                do()


@effort(max_examples=40)
@given(TEXT, TEXT)
def test_any_text_is_looked_up(one, other):
    with MediaAnalysisStorage(":memory:") as analysis, MediaProcessingStorage(":memory:") as processing:
        for do in (
            lambda: analysis.get_cached(one, other),
            lambda: analysis.find(one, other),
            lambda: analysis.delete(one, other),
            lambda: analysis.mentions(one),
            lambda: analysis.verify_file(one, other),
            lambda: analysis.save(one, other, B),
            lambda: analysis.save(one, A, B),
            lambda: processing.get_cached(one, other, one, other),
            lambda: processing.find(one, other, one),
            lambda: processing.get_by_job_id(one),
            lambda: processing.delete(one),
            lambda: processing.save(one, other, one, A, other, A),
        ):
            with typed():
                do()


def test_fault_51_numbers_that_sqlite_cannot_hold(tmp_path):
    with MediaAnalysisStorage(tmp_path / "a.db") as storage:
        with pytest.raises(InvalidRecord):
            storage.list_jobs(1 << 64)
        with pytest.raises(InvalidRecord):
            storage.save_many([analysis_row(created_at=10**400)])
        with pytest.raises(InvalidRecord):
            storage.get_cached("/a", object())
        assert len(storage) == 0


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary()
HUGE = st.sampled_from([4000, 5000]).map(lambda digits: 10**digits)
ODD = st.recursive(
    LEAVES | HUGE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.integers(), inner)
)


@effort(max_examples=60)
@given(ODD)
def test_fault_51_any_metadata_comes_back_as_json_has_it_or_is_refused(value):
    with MediaAnalysisStorage(":memory:") as storage:
        for ranges, metadata in ((value, None), (None, value), ([value], {"value": value})):
            with typed():
                storage.save_many([analysis_row(ranges=ranges, metadata=metadata)])
                (row,) = storage.list_jobs()
                assert [row.ranges, row.metadata] == json.loads(json.dumps([ranges, metadata]))
                storage.delete(row.file_path)


# ---- bytes

DAMAGE = st.lists(
    st.tuples(st.integers(0, 1 << 30), st.sampled_from(["flip", "zero", "cut", "splice"]), st.integers(1, 255)),
    min_size=1,
    max_size=8,
)


def spoil(path, damage):
    "Change bytes of a file here and there, cut it, or put one page in the place of another"
    content = bytearray(path.read_bytes())
    for at, how, value in damage:
        size = max(1, len(content))
        at %= min(size, 1 << (at % 18 + 1))  # most often where it matters: at the beginning
        if how == "flip" and content:
            content[at] ^= value
        elif how == "zero":
            content[at : at + value] = bytes(len(content[at : at + value]))
        elif how == "cut":
            del content[len(content) * value // 256 :]
        else:
            page = (value * 4096) % size
            content[at // 4096 * 4096 :][:4096] = content[page : page + 4096]
            content[at : at + 64] = content[page : page + 64]
    path.unlink()  # other names of it stay as they are
    path.write_bytes(content)


@effort(max_examples=25)
@given(st.sampled_from(["index.db", "index.db-wal", "memo.db"]), DAMAGE)
def test_fault_44_a_damaged_index_is_refused_or_used(template, room, name, damage):
    folder = fresh(template, room)
    if (path := folder / "store" / ".store" / name).exists():
        spoil(path, damage)
    outside = hostile.listing(folder / "outside")
    hostile.do_everything(folder)
    assert hostile.listing(folder / "outside") == outside
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def results(room):
    "A file with rows of both storages"
    path = room / "results.db"
    with MediaAnalysisStorage(path) as analysis, MediaProcessingStorage(path) as processing:
        analysis.save_many([analysis_row(n, ranges=[{"start": n}], metadata={"n": n}) for n in range(40)])
        processing.save_many([processing_row(n, metadata={"n": n}) for n in range(40)])
        processing.save_many([processing_row(0, job_id="again")])
    return path


def use_results(path):
    with typed(), MediaAnalysisStorage(path) as storage:
        for do in (
            storage.list_jobs,
            lambda: list(storage),
            lambda: storage.get_cached("/media/1.wav", B),
            lambda: storage.find(A, B),
            lambda: storage.verify_file("/nowhere", B),
            lambda: storage.save_many([analysis_row(n) for n in range(5)]),
            lambda: storage.delete("/media/2.wav"),
            lambda: storage.mentions(A),
            lambda: len(storage),
        ):
            with typed():
                do()
    with typed(), MediaProcessingStorage(path) as storage:
        for do in (
            storage.list_jobs,
            lambda: list(storage),
            lambda: storage.get_cached("convert", "/media/1.wav", A, B),
            lambda: storage.get_by_job_id("job_0"),
            lambda: storage.save_many([processing_row(n, job_id=f"new_{n}") for n in range(5)]),
            lambda: storage.delete("job_3"),
            lambda: storage.mentions(A),
        ):
            with typed():
                do()


@effort(max_examples=60)
@given(DAMAGE)
def test_a_damaged_file_of_results_is_refused_or_used(results, room, damage):
    path = Path(shutil.copy(results, room / "damaged.db"))
    spoil(path, damage)
    use_results(path)
    for each in room.glob("damaged.db*"):
        each.unlink()


VALUES = ["x'ff'", "CAST(x'ff' AS TEXT)", "'['", "'" + "[" * 20000 + "'", "5", "9e999", "'NaN'", "'" + "1" * 5000 + "'"]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:20])
def test_rows_of_other_programs_are_read_or_named(results, tmp_path, value):
    for number, column in enumerate(("metadata", "ranges", "created_at", "file_path", "file_hash", "config_hash")):
        path = shutil.copy(results, tmp_path / f"{number}.db")
        with closing(sqlite3.connect(path)) as con:
            con.execute(f"UPDATE analysis_jobs SET {column} = {value} WHERE id = 1")
            if column != "ranges":
                con.execute(f"UPDATE processing_jobs SET {column.replace('file', 'input')} = {value} WHERE id = 1")
            con.commit()
        use_results(path)


def test_json_that_is_none_is_told_and_can_be_saved_over(results, tmp_path):
    path = shutil.copy(results, tmp_path / "results.db")
    with closing(sqlite3.connect(path)) as con, con:
        con.execute("UPDATE analysis_jobs SET ranges = '[' WHERE id = 1")
    with MediaAnalysisStorage(path) as storage:
        with pytest.raises(CorruptDatabase, match="a row of analysis_jobs cannot be read"):
            storage.get_cached("/media/0.wav", B)
        storage.save("/media/0.wav", A, B, ranges=[])
        assert storage.get_cached("/media/0.wav", B).ranges == []


# ---- small files

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
MARKER = {"format": 1, "algo": "sha256", "shard": [2, 2], "id": "x"}
MARKERS = st.binary(max_size=50) | st.builds(
    lambda key, value: json.dumps({**MARKER, key: value}).encode(), st.sampled_from([*MARKER, "more"]), JSON
)


@effort(max_examples=60)
@given(
    st.sampled_from(["format", "moved", "moving"]), MARKERS | st.builds(lambda value: json.dumps(value).encode(), JSON)
)
@example("format", b"[" * 50000)
@example("moved", b"[]")
@example("moving", b'{"from": {}}')
def test_any_marker_or_note_is_read_or_refused(room, name, content):
    with tempfile.TemporaryDirectory(dir=room) as folder:
        own = Path(folder, "store", ".store")
        own.mkdir(parents=True)
        (own / f"{name}.json").write_bytes(content)
        with typed():
            ContentStore(Path(folder, "store")).close()
        with typed():
            rebuild_index(Path(folder, "store"))


def test_a_pipe_in_the_place_of_a_marker_is_not_waited_for(work):
    marker = work / "store" / ".store" / "format.json"
    marker.unlink()
    os.mkfifo(marker)
    with pytest.raises(CorruptDatabase):
        ContentStore(work / "store")


def forge(lines):
    "A snapshot that is whole"
    head = {"format": "cjm-media-storage snapshot", "version": 1, "store": "x"}
    content = b"".join(json.dumps(line).encode() + b"\n" for line in [head, *lines])
    end = {"end": len(lines), "sha256": hashlib.sha256(content).hexdigest()}
    return content + json.dumps(end).encode() + b"\n"


def facts(template):
    (taken,) = (template / "store" / ".store" / "backup").glob("index-*.jsonl")
    return [json.loads(line) for line in taken.read_bytes().splitlines()[1:-1]]


@effort(max_examples=60)
@given(st.data())
def test_any_snapshot_is_used_or_refused(template, room, data):
    lines = facts(template)
    for _ in range(data.draw(st.integers(1, 3))):
        line = data.draw(st.sampled_from(lines))
        if isinstance(line, dict):
            line[data.draw(st.sampled_from([*line]))] = data.draw(JSON | TEXT)
    folder = fresh(template, room)
    (folder / "forged").write_bytes(forge([*lines, *data.draw(st.lists(JSON, max_size=1))]))
    with typed():
        rebuild_index(folder / "store", snapshot=folder / "forged")
        with ContentStore(folder / "store") as store:
            hostile.look(store)
    shutil.rmtree(folder)


@pytest.mark.parametrize("version", ["1", None, [], 2])
def test_a_snapshot_of_an_odd_version_is_refused(work, version):
    content = forge([]).replace(b'"version": 1', b'"version": ' + json.dumps(version).encode())
    head, end = content.splitlines()
    (work / "forged").write_bytes(
        head + b"\n" + re.sub(rb"[0-9a-f]{64}", hashlib.sha256(head + b"\n").hexdigest().encode(), end)
    )
    with typed():
        rebuild_index(work / "store", snapshot=work / "forged")
        pytest.fail("it was believed")


# ---- an index that means harm

PROGRAM = """
import logging, os, shutil, sqlite3, sys, tempfile, traceback
from pathlib import Path
from urllib.parse import unquote
import hostile

WHOLE = {"open", "os.chmod", "os.chown", "os.truncate", "os.utime", "sqlite3.connect"}  # follow a link at the end
PATHS = {"os.rename": 2, "os.link": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "shutil.rmtree": 1}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
template, room = map(Path, sys.argv[1:3])
allowed, seen = None, 0

def real(event, path, follows):
    path = os.fsdecode(path)
    if path.startswith("file:"):
        path = unquote(path[5:].partition("?")[0])
    path = "/" + path.lstrip("/")
    folder, name = os.path.split(path)
    return os.path.realpath(path) if event in WHOLE and follows else os.path.join(os.path.realpath(folder), name)

def watch(event, args):
    global seen
    if allowed is None or not (event in WHOLE or event in PATHS or event == "os.symlink"):
        return
    if event == "open" and not args[2] & WRITING:
        return
    paths = args[1:2] if event == "os.symlink" else args[: PATHS.get(event, 1)]
    for path in paths:
        if isinstance(path, int) or "memory:" in str(path) or "memdb" in str(path):
            continue
        seen += 1
        if event in ("os.remove", "os.rmdir") and args[1] != -1:
            path = os.path.join(os.readlink(f"/proc/self/fd/{args[1]}"), path)
        follows = event != "open" or not args[2] & os.O_NOFOLLOW
        if not real(event, path, follows).startswith(allowed):
            print("outside:", event, path, flush=True)

sys.addaudithook(watch)
logging.disable()
for name in sys.argv[3:] or [*hostile.EVIL, *hostile.FILES]:
    folder = Path(shutil.copytree(template, room / "work", symlinks=True))
    tempfile.tempdir = os.fspath(folder / "tmp")
    hostile.do_evil(folder, name)
    before = hostile.listing(folder / "outside")
    (folder / "begin").mkdir()
    allowed = tuple(f"{folder}/{each}" for each in ("store", "library", "moved", "tmp"))
    try:
        hostile.do_everything(folder)
    except Exception:
        print("raised by", name, traceback.format_exc(), flush=True)
    allowed = None
    (folder / "end").mkdir()
    if hostile.listing(folder / "outside") != before:
        print("changed by", name, flush=True)
    shutil.rmtree(folder)
print("looked at", seen > 100)
"""


def test_fault_63_nothing_outside_is_changed_whatever_the_index_says(template, room, program):
    assert program(PROGRAM, template, room) == "looked at True"


HARMFUL = [
    "trash.path = 'FOLDER/outside/store-' || id",
    "trash.origin = '../outside/new' || id",
    "publications.path = 'FOLDER/library/../outside/' || id || '.jpg'",
    "objects.extension = '../../../../outside/victim'",
    ".store/trash/assets leads out",
    "the lock of a dead process leads to a file",
    "a journal that deletes a file",
    "the memo is a link",
    "sources.provider",
]
CHANGES = (
    "openat,open,creat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat"
)
CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')


def changed(log):
    "The paths that successful calls changed between the marks `begin` and `end`"
    watching, pending = False, {}
    for line in log.splitlines():
        pid, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            pending[pid] = text.removesuffix("<unfinished ...>")
            continue
        if "resumed>" in text:
            text = pending.pop(pid, "") + text.partition("resumed>")[2]
        match = CALL.match(text)
        if match is None or match[3].startswith("-"):
            continue
        paths = [os.path.join(folder, path) for folder, path in PATH.findall(match[2])]
        if paths and paths[0].endswith(("/begin", "/end")) and match[1].startswith("mkdir"):
            watching = paths[0].endswith("/begin")
        elif watching and not (match[1] == "openat" and "O_RDONLY" in match[2] and "O_CREAT" not in match[2]):
            yield from paths[1:] if match[1].startswith("symlink") else paths


@pytest.mark.kills
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_fault_63_no_system_call_changes_anything_outside(template, room, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = ["strace", "-f", "-qq", "-y", "-s", "4096", "-o", tmp_path / "log", "-e"]
    command += [f"trace={CHANGES},chmod,fchmodat,chown,fchownat,truncate,utimensat", sys.executable, "-B"]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "SQLITE_TMPDIR": os.fspath(room)}
    subprocess.run([*command, tmp_path / "program.py", template, room, *HARMFUL], check=True, env=environment)
    paths = list(changed((tmp_path / "log").read_text()))
    places = tuple(os.fspath(room / "work" / name) for name in ("store", "library", "moved", "tmp"))
    strange = {path for path in paths if not os.path.normpath(path).startswith(places)}
    assert len(paths) > 100 and {path for path in strange if "/etilqs_" not in path and path != "/dev/null"} == set()


# ---- what was found


def test_fault_63_a_journal_never_makes_sqlite_delete_a_file(work):
    victim = work / "outside" / "victim"
    hostile.journal_that_deletes(work / "store" / ".store" / "index.db", victim)
    with pytest.raises(CorruptDatabase, match="names another file"):
        ContentStore(work / "store")
    assert rebuild_index(work / "store").objects == 4
    hostile.journal_that_deletes(work / "results.db", victim)
    MediaAnalysisStorage(path := work / "other.db").close()
    hostile.journal_that_deletes(path, victim)
    with pytest.raises(CorruptDatabase, match="names another file"):
        MediaAnalysisStorage(path)
    assert victim.read_text() == "precious"


def test_fault_63_a_persons_file_goes_outside_only_where_that_is_asked_for(work):
    hostile.tamper(work, "UPDATE trash SET origin = 'FOLDER/outside/new' WHERE object_id IS NULL")
    with ContentStore(work / "store") as store:
        (item,) = (item for item in store.trash if not item.hash)
        with pytest.raises(OutsideStore, match="outside=True"):
            store.trash.restore(item)
        assert not (work / "outside" / "new").exists()
        store.trash.restore(item, outside=True)
        assert (work / "outside" / "new").read_text() == "my notes"


@pytest.mark.parametrize("place", ["store/.store", "outside/../store/assets", "store"])
def test_not_even_then_into_what_is_ours(work, place):
    hostile.tamper(work, f"UPDATE trash SET origin = 'FOLDER/{place}/../.store/new' WHERE object_id IS NULL")
    with ContentStore(work / "store") as store:
        (item,) = (item for item in store.trash if not item.hash)
        with typed():
            store.trash.restore(item, outside=True)
    assert not (work / "store" / ".store" / "new").exists()


def test_fault_63_a_rebuilding_leaves_out_what_no_store_has_written(work, caplog):
    hostile.tamper(
        work,
        "UPDATE sources SET provider = CAST(x'ff' AS TEXT) WHERE id = 1",
        "UPDATE publications SET path = 'FOLDER/library/../outside/x' WHERE id = 1",
    )
    shutil.rmtree(work / "store" / ".store" / "backup")
    report = rebuild_index(work / "store")
    assert (report.objects, report.sources, report.publications) == (4, 2, 1)
    assert "2 rows of the old index" in caplog.text
    assert report.kept is not None and (report.kept / "index.db").exists()


@pytest.mark.parametrize("name", [".store/trash", ".store/staging", ".store/x.db", ".store/trash/.files"])
def test_fault_11_no_link_in_our_own_folder_is_followed(work, name):
    hostile.FILES.get(f"{name} is a link", hostile._lead_out(name))(work)
    with pytest.raises(UnsafePath):
        ContentStore(work / "store")


def test_fault_11_a_link_that_comes_later_is_not_followed(work):
    with ContentStore(work / "store") as store:
        hostile.link(work / "store" / ".store" / "trash" / "assets", work / "outside")
        before = hostile.listing(work / "outside")
        for do in (lambda: store.delete(HASHES[2], force=True), lambda: store.trash.purge(everything=True)):
            with pytest.raises(UnsafePath):
                do()
        assert hostile.listing(work / "outside") == before
        assert store.exists(HASHES[2])
