"""Work that several contenders do in turn, A B C A B C, so that a busy machine slows them all alike.

Each contender gets a fresh folder a round. Nothing is deleted between rounds: on ext4 a freed inode is not used again
for minutes, and each create looks past all of them. Files are emptied instead, and go when all is measured.
"""

import contextlib
import gc
import os
import random
import resource
import shutil
import stat as stats
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import active_children
from pathlib import Path
from typing import Any

Timed = Callable[[], object]  # May give the seconds that count, where those of the clock do not
Steps = Generator[Timed, None, None]  # Sets up, gives what is timed, and cleans up
Prepare = Callable[[Path], Steps]  # Takes a fresh folder


PATIENCE = 10.0  # Seconds: who took longer, and has no target, sits out the rounds that are left
FREE = 512 << 20  # Bytes of memory that are left free
ROOM = 1 << 20  # Bytes: larger files are emptied after each round, the others after the work


class NotHere(Exception):
    "A contender that this machine lacks"


@dataclass(frozen=True)
class Scale:
    "How much work; a tiny run only shows that everything runs"

    name: str
    files: int  # Of `file_size` each
    file_size: int  # Bytes
    media: int  # Files of ten times `file_size`
    large: int  # Bytes of the one large file
    rows: int
    many_rows: int  # In the table that is to be as fast as a small one


SCALES = {
    "tiny": Scale("tiny", 8, 2_000, 4, 2 << 20, 20, 40),
    "small": Scale("small", 2_000, 50_000, 400, 256 << 20, 4_000, 100_000),
    "full": Scale("full", 10_000, 50_000, 2_000, 2 << 30, 20_000, 1_000_000),
}


@dataclass(frozen=True)
class Target:
    "What our rate divided by that of another contender is to be"

    other: str
    ratio: float

    def __str__(self) -> str:
        return f"{self.other} x {self.ratio:g}"


@dataclass(frozen=True)
class Work:
    "The same work for all contenders; 'ours' is the one whose ratio counts"

    name: str
    unit: str
    count: float  # Units in one run
    contenders: dict[str, Prepare]
    targets: Sequence[Target] = ()
    note: str = ""  # State of the page cache, and what is not alike
    writes: bool = False  # Is the disk to be at rest before each run? Else one contender waits for the bytes of another
    also: str = ""  # Another way of ours, which is compared with the same targets
    bare: str = ""  # The calls that ours cannot do without, which are, too
    reads: Sequence[str] = ()  # Files that are in the page cache when a run begins, whoever ran before

    def may_rest(self, name: str) -> bool:
        "Does no target need this contender in all rounds?"
        return name not in ("ours", self.also, self.bare, *(target.other for target in self.targets))


@dataclass
class Runs:
    "What was measured of one contender"

    wall: list[float] = field(default_factory=list)  # Seconds, a round each
    cpu: list[float] = field(default_factory=list)  # Seconds of all threads, user and system
    missing: str = ""  # Why it did not run


@dataclass(frozen=True)
class Outcome:
    "What was measured of one piece of work"

    work: Work
    runs: dict[str, Runs]

    def rate(self, name: str) -> float:  # 0 if it did not run
        "Units a second, in the median round"
        wall = self.runs[name].wall
        return self.work.count / statistics.median(wall) if wall else 0.0

    def ratio(self, other: str, of: str = "ours") -> float | None:  # None if one of the two did not run
        "The median of the rates of one divided by those of `other` in the same round"
        ours, theirs = (self.runs[name].wall if name in self.runs else [] for name in (of, other))
        return statistics.median(t / o for o, t in zip(ours, theirs, strict=False)) if ours and theirs else None

    def spread(self, name: str) -> float:
        "How far the rounds lie apart: from the slowest to the fastest, as a part of the median"
        wall = self.runs[name].wall
        return (max(wall) - min(wall)) / statistics.median(wall)


def _cpu() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ended = sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))
    return ended + _of_children()


def _of_children() -> float:
    "Processor time of those that run still; of those that have ended, the system tells"
    return sum(_of_child(child.pid) for child in active_children() if child.pid)


def _of_child(pid: int) -> float:  # 0 where the system does not tell
    "User and system, as in `man 5 proc`"
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _measure(prepare: Prepare, folder: Path, runs: Runs, work: Work, rest: Callable[[], None]) -> None:
    "One round of one contender"
    folder.mkdir()
    with contextlib.closing(prepare(folder)) as steps:
        try:
            timed = next(steps)
        except (NotHere, ImportError) as e:
            runs.missing = str(e)
            return
        if work.writes:
            rest()
        each(_read, work.reads)
        gc.collect()
        cpu, wall = _cpu(), time.perf_counter()
        told = timed()
        runs.wall.append(told if isinstance(told, float) else time.perf_counter() - wall)
        runs.cpu.append(_cpu() - cpu)
        next(steps, None)


def measure(work: Work, rounds: int, folder: Path, rest: Callable[[], None] = os.sync) -> Outcome:
    "Let all contenders work in turn; one that writes begins when the machine is at `rest`"
    runs = {name: Runs() for name in work.contenders}
    for n in range(rounds):
        # In another order each time: nobody is always the one who comes after the same other.
        for m, (name, prepare) in enumerate(random.Random(n).sample(list(work.contenders.items()), len(runs))):
            rests = sum(runs[name].wall) > PATIENCE and work.may_rest(name)
            if not (rests or runs[name].missing):
                _measure(prepare, folder / f"{n}-{m}", runs[name], work, rest)
                _empty(folder / f"{n}-{m}", ROOM)
    _empty(folder)
    return Outcome(work, runs)


def _empty(folder: Path, above: int = 0) -> None:
    "Give back the room of files of more bytes than `above`, but for those with other names elsewhere"
    for place, _, names in os.walk(folder):
        if not os.stat(place).st_mode & stats.S_IWUSR:
            os.chmod(place, 0o755)
        for path in (os.path.join(place, name) for name in names):
            stat = os.lstat(path)
            if stats.S_ISREG(stat.st_mode) and stat.st_nlink == 1 and stat.st_size > above:
                os.chmod(path, 0o644)
                os.truncate(path, 0)


def _read(path: str) -> None:
    "Bring a file into the page cache"
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def each(do: Callable[[Any], object], items: Sequence[Any]) -> None:
    "Do it with each, and let go of what it gives: to keep 500 MB, or a million dictionaries, takes longer than they do"
    for item in items:
        do(item)


def kept(folder: Path, name: str) -> Path:
    "A place beside those of all works, for what is made once and only read; `folder` is that of a contender"
    return folder.parents[1] / name


def measure_all(
    works: Iterator[Work], rounds: int, folder: Path, rest: Callable[[], None] = os.sync
) -> Iterator[Outcome]:
    "Each work in a folder of its own"
    for n, work in enumerate(works):
        (place := folder / f"work-{n}").mkdir()
        yield measure(work, rounds, place, rest)


class Rest:
    """Waits until the disk is at rest, and no memory is free.

    A virtual machine gives free memory back to its host, and gets it anew, page by page, when a file is written: that
    can take longer than the writing. So free memory is filled with the zeros of a file without blocks: then a page that
    is written takes the place of one of those, as on any machine that has run for a while.
    """

    def __init__(self, folder: Path) -> None:
        self._zeros = folder / "zeros"
        self._zeros.touch()
        self._size = 0

    def __call__(self) -> None:
        os.sync()
        room = _free_memory() - FREE
        if room <= 0:
            return
        os.truncate(self._zeros, self._size + room)
        with open(self._zeros, "rb", buffering=0) as file:
            file.seek(self._size)
            while file.read(1 << 20):
                pass
        self._size += room


def _free_memory() -> int:
    "Bytes; 0 where the system does not tell"
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemFree:")), 0)


@contextlib.contextmanager
def scratch(parent: str | None) -> Iterator[Path]:
    "A folder for all that is written, which goes at the end"
    folder = Path(tempfile.mkdtemp(prefix="media-storage-benchmarks-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- what is told


def table(outcome: Outcome) -> Iterator[str]:
    "Lines for people"
    work = outcome.work
    yield f"{work.name} ({work.count:,.0f} {work.unit})" + (f": {work.note}" if work.note else "")
    targets = {target.other: target.ratio for target in work.targets}
    for name, runs in outcome.runs.items():
        if runs.missing:
            yield f"  {name:34} not here: {runs.missing}"
            continue
        cpu = 1e6 * statistics.median(runs.cpu) / work.count
        line = (
            f"  {name:34} {outcome.rate(name):12,.1f}/s  +-{50 * outcome.spread(name):3.0f} %  {cpu:10,.1f} us CPU each"
        )
        ratio = None if name == "ours" else outcome.ratio(name)
        if ratio is not None:
            line += f"  ours is x {ratio:.2f}"
        if ratio is not None and name in targets:
            line += f" of x {targets[name]:g}: {'reached' if ratio >= targets[name] else 'MISSED'}"
            if (also := outcome.ratio(name, work.also)) is not None:
                line += f"; {work.also}: x {also:.2f}"
            if (bare := outcome.ratio(name, work.bare)) is not None and name != work.bare:
                line += f"; {work.bare}: x {bare:.2f}"
        yield line


def as_json(outcome: Outcome) -> dict[str, object]:
    "All that was measured"
    work = outcome.work
    targets = [
        {
            "other": target.other,
            "wanted": target.ratio,
            "measured": outcome.ratio(target.other),
            "also": outcome.ratio(target.other, work.also),
            "bare": None if work.bare == target.other else outcome.ratio(target.other, work.bare),
        }
        for target in work.targets
    ]
    contenders = {name: {"wall": r.wall, "cpu": r.cpu, "missing": r.missing} for name, r in outcome.runs.items()}
    facts = {"name": work.name, "unit": work.unit, "count": work.count, "note": work.note}
    facts |= {"also": work.also, "bare": work.bare}
    return {**facts, "contenders": contenders, "targets": targets}
