"""A real power cut: a file system of its own is shut down without flushing its log, mounted again, and everything
that was acknowledged is read and hashed. Needs root, for mounting; elsewhere it is skipped."""

import subprocess
import sys
from contextlib import ExitStack, suppress

import pytest
from power_cuts import KINDS, CannotMount, powered

from cjm_media_storage.maintenance import verify
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import (
    ContentStore,
    CorruptObject,
    MediaAnalysisStorage,
    MediaProcessingStorage,
    MissingObject,
    StorageError,
)

pytestmark = pytest.mark.power
COUNT = 40

WORK = """
import os, sys
from pathlib import Path
from cjm_media_storage.files import Disk
from cjm_media_storage.storage import ContentStore, MediaAnalysisStorage, MediaProcessingStorage

class Careless(Disk):
    def sync_file(self, path): pass
    def sync_folder(self, path): pass

root, disk = Path(sys.argv[1]), Careless() if sys.argv[2] == "careless" else Disk()
ContentStore(root / "store").close()  # that the store itself is there
store = ContentStore(root / "store", disk=disk)
analyses, jobs = MediaAnalysisStorage(root / "new" / "a.db"), MediaProcessingStorage(root / "new" / "p.db")
for n in range(int(sys.argv[3])):
    hash = store.put(os.urandom(50_000), source=f"https://example.org/{n}", owner=f"movie:{n}").hash
    analyses.save(f"/films/{n}", hash, hash, ranges=[{"start": n}])
    jobs.save(f"job-{n}", "cut", f"/films/{n}", hash, "/out", hash, config_hash=hash)
    print(hash, flush=True)
sys.stdin.read()  # lives until the power is cut
"""


BATCH = """
import sys
from pathlib import Path
from cjm_media_storage import groups
from cjm_media_storage.files import Disk
from cjm_media_storage.storage import ContentStore, PutItem

groups.GROUP_ITEMS = 128

class Careless(Disk):
    def sync_filesystem(self, fd): pass

root, disk, durability = Path(sys.argv[1]), Careless() if sys.argv[2] == "careless" else Disk(), sys.argv[3]
ContentStore(root / "store").close()  # that the store itself is there
store = ContentStore(root / "store", disk=disk)

def posters():
    for n in range(500):
        content = b"poster %d" % n * 1000
        yield PutItem(content, source=f"https://example.org/{n}", owner=f"movie:{n}")
        if n == 350:  # the third group is on its way, the first two may be reported or not
            print("cut", flush=True)

for outcome in store.put_many(posters(), durability=durability):
    print(outcome.result.hash, flush=True)
sys.stdin.read()  # lives until the power is cut
"""

LIFE = """
import sys
from pathlib import Path
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import ContentStore

root = Path(sys.argv[1])
store = ContentStore(root / "store")
library = Library(store, root / "films")
for n in range(10):  # what is said was done, whatever comes then
    hashes = [store.put(b"%s %d" % (what, n) * 1000).hash for what in (b"gone", b"back", b"purged", b"given")]
    gone, back, purged, given = hashes
    store.delete(gone)
    store.delete(back)
    store.trash.restore(back)
    (item,) = store.delete(purged, retention_days=0)
    assert item in store.trash.purge()
    library.publish(given, f"Movie {n}/poster.jpg")
    print(*hashes, flush=True)
sys.stdin.read()  # lives until the power is cut
"""


@pytest.fixture(params=KINDS)
def mounted(request, tmp_path):
    "A fresh file system, whose power can be cut"
    try:
        with powered(request.param, tmp_path) as mounted:
            yield mounted
    except CannotMount as e:
        pytest.skip(str(e))


def lines_until_the_power_is_cut(mounted, count, *arguments):
    "What a program said before the cut, in so many lines; the file system is mounted again"
    text, *rest = arguments
    command = [sys.executable, "-c", text, mounted.folder, *map(str, rest)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        lines = [program.stdout.readline().strip() for _ in range(count)]
        mounted.cut_power()
        program.kill()
    mounted.mount_again()
    return lines


def work_until_the_power_is_cut(mounted, disk):
    "Hashes that were acknowledged before the cut"
    hashes = lines_until_the_power_is_cut(mounted, COUNT, WORK, disk, COUNT)
    assert len(set(hashes)) == COUNT
    return hashes


def test_everything_acknowledged_is_there_after_a_power_cut(mounted):
    hashes = work_until_the_power_is_cut(mounted, "careful")
    folder = mounted.folder
    with ExitStack() as stack:
        store = stack.enter_context(ContentStore(folder / "store"))
        analyses = stack.enter_context(MediaAnalysisStorage(folder / "new" / "a.db"))
        jobs = stack.enter_context(MediaProcessingStorage(folder / "new" / "p.db"))
        assert [stored.hash for stored in store] == hashes
        for n, hash in enumerate(hashes):
            assert len(store.read(hash, verify=True)) == 50_000
            assert [source.location for source in store.sources(hash)] == [f"https://example.org/{n}"]
            assert [reference.owner for reference in store.references(hash)] == [f"movie:{n}"]
            assert analyses.get_cached(f"/films/{n}", hash, hash).ranges == [{"start": n}]
            assert jobs.get_by_job_id(f"job-{n}").output_hash == hash
        assert store.put(b"and it goes on").created


def test_a_disk_that_does_not_sync_loses_what_it_acknowledged(mounted):
    "That the test above can fail"
    hashes = work_until_the_power_is_cut(mounted, "careless")
    lost = 0
    with ContentStore(mounted.folder / "store") as store:
        for hash in hashes:
            try:
                store.read(hash, verify=True)
            except StorageError:
                lost += 1
    assert lost > 0


def batch_until_the_power_is_cut(mounted, disk, durability, wanted):
    "Hashes that were acknowledged before the cut, in their order: `wanted` at least"
    command = [sys.executable, "-c", BATCH, mounted.folder, disk, durability]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        said = []
        while len(said) - said.count("cut") < wanted or "cut" not in said:
            line = program.stdout.readline().strip()
            assert line, "it ended before the power was cut"
            said.append(line)
        mounted.cut_power()
        program.kill()
    mounted.mount_again()
    return [line for line in said if line != "cut"]


def content_of(store, hash):
    (source,) = store.sources(hash)
    return b"poster %d" % int(source.location.rpartition("/")[2]) * 1000


@pytest.mark.parametrize("wanted", [1, 200])
def test_fault_22_a_batch_that_is_reported_is_there_after_a_power_cut(mounted, wanted):
    hashes = batch_until_the_power_is_cut(mounted, "careful", "batch", wanted)
    with ContentStore(mounted.folder / "store") as store:
        for n, hash in enumerate(hashes):
            assert store.read(hash, verify=True) == b"poster %d" % n * 1000
            assert [source.location for source in store.sources(hash)] == [f"https://example.org/{n}"]
            assert [reference.owner for reference in store.references(hash)] == [f"movie:{n}"]
        for stored in store:  # also what was not reported
            assert store.read(stored.hash, verify=True) == content_of(store, stored.hash)
        again = [outcome.result.created for outcome in store.put_many(b"poster %d" % n * 1000 for n in range(500))]
        assert (len(store), sum(again[: len(hashes)])) == (500, 0)


def test_a_batch_on_a_disk_that_does_not_sync_is_lost(mounted):
    "That the test above can fail"
    hashes = batch_until_the_power_is_cut(mounted, "careless", "batch", 200)
    assert lost(mounted.folder / "store", hashes) > 0


def lost(folder, hashes):
    count = 0
    with ContentStore(folder) as store:
        for hash in hashes:
            try:
                assert store.read(hash) == content_of(store, hash)
            except (StorageError, AssertionError, ValueError):
                count += 1
    return count


def test_fault_22_what_was_not_synced_is_right_or_missed_after_a_power_cut(mounted):
    hashes = batch_until_the_power_is_cut(mounted, "careful", "none", 200)
    with ContentStore(mounted.folder / "store") as store:
        store._index.database.execute("UPDATE objects SET boot = 'another' WHERE boot <> ''")  # the machine goes on
        for stored in store:
            with suppress(MissingObject, CorruptObject):
                assert store.read(stored.hash) == content_of(store, stored.hash)
        again = list(store.put_many(b"poster %d" % n * 1000 for n in range(500)))
        assert [outcome.result.hash for outcome in again[: len(hashes)]] == hashes
        assert all(store.read(stored.hash, verify=True) for stored in store)


def test_fault_22_what_was_deleted_restored_purged_and_published_is_so_after_a_power_cut(mounted):
    lines = lines_until_the_power_is_cut(mounted, 10, LIFE)
    folder = mounted.folder
    with ContentStore(folder / "store") as store:
        for n, line in enumerate(lines):
            gone, back, purged, given = line.split()
            assert (gone in store, back in store, purged in store, given in store) == (False, True, False, True)
            assert not store.trash.find(purged) and len(store.trash.find(gone)) == 1
            store.trash.restore(gone)
            for hash in (gone, back, given):
                assert store.read(hash, verify=True)
            assert (folder / "films" / f"Movie {n}" / "poster.jpg").read_bytes() == store.read(given)
        library = Library(store, folder / "films")
        assert {row.state for row in library.status(deep=True)} == {"in sync"}
        assert verify(store).ok
