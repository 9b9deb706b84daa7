"""How time and memory grow with what is stored: `python -m benchmarks.scale [names] [--sizes N …] [--json OUT]`

One store and one file of each kind of results grow by steps. At each size every work is done in a process of its own,
so that the peak of its memory is its own. Time is that of one object, row or call, and should not grow. A search among
a million takes half as many steps again as one among ten thousand: growth as slow as that counts as none.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.harness import scratch
from benchmarks.material import large
from benchmarks.records import BATCH, LISTED, METADATA, RANGES
from cjm_media_storage.contents import PutItem
from cjm_media_storage.maintenance import gc, rebuild_index, verify
from cjm_media_storage.processing import MediaProcessingStorage
from cjm_media_storage.storage import (
    ContentStore,
    MediaAnalysisRow,
    MediaAnalysisStorage,
    MediaProcessingRow,
    hash_file,
)

SIZES = (10_000, 100_000, 1_000_000)
LARGE = 2 << 30  # Bytes of the one large file
ASKED = 10_000  # Look-ups, at random
MEMORY = 100_000_000  # Bytes: no work on any number of objects may take more
EXPONENT = 0.15  # Of the growth of the time of one item: a factor of two over a hundredfold

CONFIG = f"sha256:{hashlib.sha256(b'config').hexdigest()}"


@dataclass(frozen=True)
class Place:
    "What has grown"

    folder: Path
    before: int  # Objects, and rows of each kind, before this step
    size: int  # After it

    def asked(self) -> list[int]:
        "Numbers of some of all that is there, in random order"
        return random.Random(self.size).sample(range(self.size), min(ASKED, self.size))


Timed = Callable[[], object]
Steps = Generator[tuple[int, Timed], None, None]  # Sets up, gives a count and what is timed, and cleans up
Prepare = Callable[[Place], Steps]


@dataclass(frozen=True)
class Work:
    "What is done at each size"

    name: str
    unit: str  # One of which is not to take longer when there are more
    prepare: Prepare
    times: int = 1  # It is done; the fastest counts


@dataclass(frozen=True)
class Measured:
    "What it took"

    size: int
    count: int
    seconds: float
    cpu: float  # Seconds of all threads, user and system
    memory: int  # Bytes: the peak of what is resident, Python and all it loads included


# ---- the store


def _content(n: int) -> bytes:
    "Some hundred bytes, of no two objects alike"
    return b"%09d" % n * (20 + n % 40)


def _hash(n: int) -> str:
    return f"sha256:{hashlib.sha256(_content(n)).hexdigest()}"


def _item(n: int) -> PutItem:
    "One in ten is needed by nobody"
    owner = f"movie:{n // 10}" if n % 10 else None
    return PutItem(_content(n), source=f"https://example.org/{n // 1000}/{n}.jpg", owner=owner, extension="jpg")


def _put_all(place: Place) -> Steps:
    def put() -> None:
        for outcome in store.put_many(map(_item, range(place.before, place.size))):
            if outcome.result is None or not outcome.result.created:
                raise AssertionError(outcome)

    with ContentStore(place.folder / "store") as store:
        yield place.size - place.before, put


def _asking(use: Callable[[ContentStore, str], object], hashes: Callable[[int], str] = _hash) -> Prepare:
    "Something that is asked of many objects, one after the other"

    def prepare(place: Place) -> Steps:
        asked = [hashes(n) for n in place.asked()]
        with ContentStore(place.folder / "store") as store:
            yield len(asked), lambda: [use(store, hash) for hash in asked]

    return prepare


def _exists(wanted: bool, store: ContentStore, hash: str) -> None:
    if (hash in store) is not wanted:
        raise AssertionError(hash)


def _on_all(use: Callable[[ContentStore], int]) -> Prepare:
    "Something that looks at all objects, and tells how many it saw"

    def prepare(place: Place) -> Steps:
        def timed() -> None:
            if (seen := use(store)) != place.size:
                raise AssertionError(f"{seen} of {place.size}")

        with ContentStore(place.folder / "store") as store:
            yield place.size, timed

    return prepare


def _verified(level: str, store: ContentStore) -> int:
    report = verify(store, level)
    return report.checked if report.ok else -1


def _rebuilt(place: Place) -> Steps:
    "The old index is put back: in the new one objects have the order of the tree"
    root, reports = place.folder / "store", []
    yield place.size, lambda: reports.append(rebuild_index(root))
    report = reports[0]
    if report.objects != place.size or not report.complete or report.kept is None:
        raise AssertionError(report)
    for file in report.kept.iterdir():
        os.replace(file, root / ".store" / file.name)


STORE = (
    Work("put_many", "object", _put_all),
    Work("get", "call", _asking(ContentStore.get), 3),
    Work("read", "call", _asking(ContentStore.read), 3),
    Work("exists, hit", "call", _asking(partial(_exists, True)), 3),
    Work("exists, miss", "call", _asking(partial(_exists, False), lambda n: _hash(-1 - n)), 3),
    Work("list", "object", _on_all(lambda store: sum(1 for _ in store))),
    Work("verify, presence", "object", _on_all(partial(_verified, "presence"))),
    Work("verify, size", "object", _on_all(partial(_verified, "size"))),
    Work("verify, hash", "object", _on_all(partial(_verified, "hash"))),
    Work("gc, dry run", "object", _on_all(lambda store: gc(store).objects)),
    Work("stats", "object", _on_all(len), 3),
    Work("rebuild_index", "object", _rebuilt),
)

# ---- the results

Storage = MediaAnalysisStorage | MediaProcessingStorage


def _name(n: int) -> str:
    return f"/media/{n // 100}/{n}.mkv"


def _analysis(n: int) -> MediaAnalysisRow:
    return MediaAnalysisRow(_name(n), f"sha256:{n:064x}", CONFIG, RANGES, METADATA)


def _job(n: int) -> MediaProcessingRow:
    hashes = f"sha256:{n:064x}", f"sha256:{n:063x}f"
    made = (f"job-{n}", "cut", _name(n), hashes[0], f"{_name(n)}.wav", hashes[1])
    return MediaProcessingRow(*made, {"start": n / 4, "end": n / 4 + 1}, METADATA, None, CONFIG)


def _results(kind: type[Storage], row: Callable[[int], Any], key: Callable[[int], tuple[str, ...]]) -> Iterator[Work]:
    "The same works for both storages"
    name = kind.__name__

    def opened(place: Place) -> Storage:
        return kind(place.folder / f"{name}.db")

    def save(place: Place) -> Steps:
        starts = range(place.before, place.size, BATCH)
        with opened(place) as storage:
            yield (
                place.size - place.before,
                lambda: [storage.save_many(map(row, range(at, min(at + BATCH, place.size)))) for at in starts],
            )

    def look_up(hit: bool, place: Place) -> Steps:
        def timed() -> None:
            if any((storage.get_cached(*key) is not None) is not hit for key in keys):
                raise AssertionError(name)

        keys = [key(n if hit else -1 - n) for n in place.asked()]
        with opened(place) as storage:
            yield len(keys), timed

    def jobs(place: Place) -> Steps:
        with opened(place) as storage:
            yield 20, lambda: [storage.list_jobs(LISTED) for _ in range(20)]

    def everything(place: Place) -> Steps:
        with opened(place) as storage:
            yield place.size, lambda: sum(1 for _ in storage)

    yield Work(f"{name}, save_many", "row", save)
    yield Work(f"{name}, get_cached, hit", "call", partial(look_up, True), 3)
    yield Work(f"{name}, get_cached, miss", "call", partial(look_up, False), 3)
    yield Work(f"{name}, list_jobs({LISTED})", "call", jobs, 3)
    yield Work(f"{name}, list", "row", everything)


RESULTS = (
    *_results(MediaAnalysisStorage, _analysis, lambda n: (_name(n), f"sha256:{n % 2**64:064x}", CONFIG)),
    *_results(MediaProcessingStorage, _job, lambda n: ("cut", _name(n), f"sha256:{n % 2**64:064x}", CONFIG)),
)

# ---- one large file


def _large_file(use: Callable[[ContentStore, str], object]) -> Prepare:
    def prepare(place: Place) -> Steps:
        with ContentStore(place.folder / "store of a large file") as store:
            yield place.size >> 20, lambda: use(store, str(place.folder / "large.mkv"))

    return prepare


LARGE_FILE = (
    Work("hash_file", "MiB", _large_file(lambda store, path: hash_file(path))),
    Work("put", "MiB", _large_file(ContentStore.put)),
)

# ---- measuring

WORKS = {work.name: work for work in (*STORE, *RESULTS, *LARGE_FILE)}


def _peak() -> int:
    "Bytes of memory that this process had at most; what it shared with its parent before it began does not count"
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _do(name: str, place: Place) -> Measured:
    "Do a work, in a process of its own"
    work, runs = WORKS[name], []
    with contextlib.closing(work.prepare(place)) as steps:
        count, timed = next(steps)
        for _ in range(work.times):
            cpu, wall = _cpu(), time.perf_counter()
            timed()
            runs.append((time.perf_counter() - wall, _cpu() - cpu))
        memory = _peak()
        next(steps, None)
    return Measured(place.size, count, *min(runs), memory)


def _measure(name: str, place: Place) -> Measured:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        done = process.submit(_do, name, place).result()
    each, unit = 1e6 * done.seconds / done.count, WORKS[name].unit
    print(
        f"{place.size:>13,}  {name:44} {each:10,.1f} us a {unit:6} {done.memory / 1e6:5,.0f} MB {done.seconds:7,.1f} s"
    )
    sys.stdout.flush()
    return done


@dataclass(frozen=True)
class Growth:
    "A work at all sizes"

    work: Work
    runs: list[Measured]  # From the smallest size to the largest

    @property
    def times(self) -> list[float]:
        "Seconds of one item, at each size"
        return [done.seconds / done.count for done in self.runs]

    @property
    def factor(self) -> float:
        "How many times longer one item takes at the largest size than at the smallest"
        return self.times[-1] / self.times[0]

    @property
    def cpu_factor(self) -> float:
        "The same of the time of the processor, which a busy machine changes less"
        first, last = (max(done.cpu, 1e-6) / done.count for done in (self.runs[0], self.runs[-1]))
        return last / first

    @property
    def memory(self) -> int:
        "Bytes at most, at any size"
        return max(done.memory for done in self.runs)

    @property
    def faults(self) -> list[str]:
        "What is worse than it should be"
        most = (self.runs[-1].size / self.runs[0].size) ** EXPONENT
        slower = [f"grows by {self.factor:.1f}, which is more than {most:.1f}"] if self.factor > most else []
        larger = [f"takes more than {MEMORY / 1e6:.0f} MB"] if self.memory > MEMORY else []
        return slower + larger

    def as_json(self) -> dict[str, Any]:
        "All that was measured"
        facts = {"name": self.work.name, "unit": self.work.unit, "factor": self.factor, "cpu_factor": self.cpu_factor}
        return {**facts, "faults": self.faults, "runs": [asdict(done) for done in self.runs]}


def chosen(names: Sequence[str]) -> list[str]:
    "The works whose names begin so, all if there are no names; and what lets the store and the results grow"
    return [name for name in WORKS if name.endswith("_many") or not names or name.startswith(tuple(names))]


def measure_all(folder: Path, names: Sequence[str], sizes: Sequence[int], large_size: int) -> list[Growth]:
    "Works at all sizes"
    runs: dict[str, list[Measured]] = {name: [] for name in chosen(names)}
    large(folder / "large.mkv", large_size)
    steps: list[tuple[int, int, Sequence[Work]]] = [(0, large_size, LARGE_FILE)]
    steps += [(before, size, (*STORE, *RESULTS)) for before, size in zip((0, *sizes), sizes, strict=False)]
    for before, size, works in steps:
        for name in (work.name for work in works if work.name in runs):
            runs[name].append(_measure(name, Place(folder, before, size)))
    return [Growth(WORKS[name], done) for name, done in runs.items()]


def table(growths: Iterable[Growth]) -> Iterator[str]:
    "Lines for people"
    for growth in growths:
        times = " ".join(f"{1e6 * each:12,.1f}" for each in growth.times)
        grown = f"x {growth.factor:5.2f} (CPU x {growth.cpu_factor:5.2f}) {growth.memory / 1e6:5,.0f} MB"
        faults = "".join(f"  FAULT: {fault}" for fault in growth.faults)
        yield f"{growth.work.name:44}{times} us a {growth.work.unit:6} {grown}{faults}"


def main(given: list[str] | None = None) -> None:
    "Measure, print and write"
    parser = argparse.ArgumentParser("python -m benchmarks.scale", description=__doc__.partition(":")[0])
    parser.add_argument("names", nargs="*", help="beginnings of works; all if none")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="objects, and rows of each kind; rising")
    parser.add_argument("--large", type=int, default=LARGE, help="bytes of the one large file")
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--folder", help="where to write meanwhile: the disk that is measured")
    arguments = parser.parse_args(given)
    began = time.monotonic()
    with scratch(arguments.folder) as folder:
        facts = machine.facts(folder)
        print(machine.told(facts), flush=True)
        growths = measure_all(folder, arguments.names, arguments.sizes, arguments.large)
        facts["minutes"] = f"{(time.monotonic() - began) / 60:.1f}"
        print("\n".join(table(growths)), f"{facts['minutes']} minutes; now all of it is removed", sep="\n", flush=True)
        if arguments.json:
            told = {"machine": facts, "sizes": list(arguments.sizes), "works": [each.as_json() for each in growths]}
            arguments.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
