"Rows of results, of about 1 kB of JSON each: saved, looked up, listed"

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import Prepare, Scale, Steps, Target, Work, each, kept
from benchmarks.material import Material
from benchmarks.seed import Results
from cjm_media_storage.connections import LOG_LIMIT
from cjm_media_storage.storage import MediaAnalysisRow, MediaAnalysisStorage

A = f"sha256:{hashlib.sha256(b'a').hexdigest()}"
RANGES = [{"start": n / 4, "end": n / 4 + 0.2, "label": "speech", "score": 0.87} for n in range(14)]
METADATA = {"model": "silero", "threshold": 0.5, "language": "en"}
BATCH = 1000
RAW = "raw statement"
LISTED = 100

SAVE = """INSERT INTO analysis_jobs (file_path, file_hash, config_hash, ranges, metadata, created_at)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (file_path, config_hash) DO UPDATE SET file_hash = excluded.file_hash,
    ranges = excluded.ranges, metadata = excluded.metadata, created_at = excluded.created_at"""
GET = """SELECT file_path, file_hash, config_hash, ranges, metadata, created_at FROM analysis_jobs
    WHERE file_path = ? AND config_hash = ? LIMIT 1"""

Use = Callable[[Any], object]  # Takes a storage, or a connection to its file


def paths_of(count: int) -> list[str]:
    return [f"/media/{n // 100}/{n}.mp3" for n in range(count)]


def values_of(path: str) -> tuple[Any, ...]:
    return path, A, A, json.dumps(RANGES), json.dumps(METADATA), time.time()


def fill(path: Path | str, count: int) -> None:
    with MediaAnalysisStorage(path) as storage:
        for start in range(0, count, 50_000):
            some = paths_of(count)[start : start + 50_000]
            storage.save_many(MediaAnalysisRow(each, A, A, RANGES, METADATA, start + n) for n, each in enumerate(some))


def _filled(folder: Path, rows: int) -> Path:
    "A file of results: a new one, or one with rows, which is made once and only read"
    path = kept(folder, f"{rows} rows.db") if rows else folder / "results.db"
    if not path.exists():
        fill(path, rows)
    return path


def _ours(use: Use, rows: int = 0, durability: str = "full") -> Prepare:
    def prepare(folder: Path) -> Steps:
        with MediaAnalysisStorage(_filled(folder, rows), durability=durability) as storage:
            yield lambda: use(storage)

    return prepare


def _raw(use: Use, rows: int = 0, synchronous: str = "EXTRA") -> Prepare:
    "One held connection to the same file, and nothing around it; SQLite folds its log at 4 MB, ours at 16 if NORMAL"

    def prepare(folder: Path) -> Steps:
        con = sqlite3.connect(_filled(folder, rows), isolation_level=None, cached_statements=256)
        con.execute("PRAGMA foreign_keys=ON")
        con.execute(f"PRAGMA journal_size_limit={LOG_LIMIT}")
        con.execute(f"PRAGMA synchronous={synchronous}")
        yield lambda: use(con)
        con.close()

    return prepare


def _seed(use: Use, rows: int = 0) -> Prepare:
    def prepare(folder: Path) -> Steps:
        path = kept(folder, f"{rows} rows of the seed.db") if rows else folder / "results.db"
        if not path.exists():
            Results(path)
            with closing(sqlite3.connect(path)) as con, con:
                con.executemany(SAVE, map(values_of, paths_of(rows)))
        storage = Results(path)
        yield lambda: use(storage)

    return prepare


def _save_one_by_one(con: sqlite3.Connection, paths: Sequence[str]) -> None:
    for path in paths:
        con.execute(SAVE, values_of(path))  # its own transaction: BEGIN and COMMIT around it would take longer


def _saving(scale: Scale) -> Iterator[Work]:
    paths = paths_of(max(5, scale.rows // 4))

    def save(storage: Any) -> None:
        for path in paths:
            storage.save(path, A, A, RANGES, METADATA)

    one = {
        "ours": _ours(save),
        RAW: _raw(lambda con: _save_one_by_one(con, paths)),
        "seed": _seed(save),
    }
    targets = [Target(RAW, 0.95), Target("seed", 5.0)]
    yield Work("save", "rows", len(paths), one, targets, "durable, each", bare=RAW)
    relaxed = {
        "ours": _ours(save, durability="none"),
        RAW: _raw(lambda con: _save_one_by_one(con, paths), synchronous="NORMAL"),
        "seed": one["seed"],
    }
    targets = [Target(RAW, 0.95), Target("seed", 14.0)]
    note = "a power cut may take the newest; those of the seed are durable"
    yield Work("save, durability none", "rows", len(paths), relaxed, targets, note, bare=RAW)
    pieces = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]

    def ours(storage: MediaAnalysisStorage) -> None:
        for some in pieces:
            storage.save_many([MediaAnalysisRow(path, A, A, RANGES, METADATA) for path in some])

    def raw(con: sqlite3.Connection) -> None:
        for some in pieces:
            con.execute("BEGIN IMMEDIATE")
            con.executemany(SAVE, [values_of(path) for path in some])
            con.execute("COMMIT")

    many = {"ours": _ours(ours), RAW: _raw(raw), "seed": one["seed"]}
    targets = [Target(RAW, 0.95), Target("seed", 30.0)]
    yield Work("save_many", "rows", len(paths), many, targets, f"durable, by {BATCH}", bare=RAW)


def look_up(con: Any, path: str, sql: str = GET) -> MediaAnalysisRow | None:
    row = con.execute(sql, (path, A)).fetchone()
    if row is None:
        return None
    path, file_hash, config_hash, ranges, metadata, created_at = row
    return MediaAnalysisRow(path, file_hash, config_hash, json.loads(ranges), json.loads(metadata), created_at)


def _looking_up(scale: Scale, rows: int, hit: bool) -> Work:
    paths = [path if hit else path + "?" for path in paths_of(min(rows, scale.rows))]
    contenders = {
        "ours": _ours(lambda storage: each(lambda path: storage.get_cached(path, A), paths), rows),
        RAW: _raw(lambda con: each(lambda path: look_up(con, path), paths), rows),
        "seed": _seed(lambda storage: each(lambda path: storage.get_cached(path, A), paths), rows),
    }
    name = f"get_cached, {'hit' if hit else 'miss'}, {rows:,} rows"
    targets = [Target(RAW, 0.9), Target("seed", 4.5 if hit else 13.0)]
    return Work(name, "calls", len(paths), contenders, targets, "warm", bare=RAW)


def _listing(scale: Scale) -> Work:
    calls = 10
    contenders = {
        "ours": _ours(lambda storage: [storage.list_jobs(LISTED) for _ in range(calls)], scale.many_rows),
        "of 1,000 rows": _ours(lambda storage: [storage.list_jobs(LISTED) for _ in range(calls)], 1000),
        "seed": _seed(lambda storage: [storage.list_jobs(LISTED) for _ in range(calls)], scale.many_rows),
    }
    name = f"list_jobs({LISTED}), {scale.many_rows:,} rows"
    return Work(name, "calls", calls, contenders, [Target("of 1,000 rows", 1 / 1.2)], "warm")


def works(material: Material) -> Iterator[Work]:
    "Rows are of the size that plugins save"
    scale = material.scale
    yield from (replace(work, writes=True) for work in _saving(scale))
    for rows in (scale.rows, scale.many_rows):
        for hit in (True, False):
            yield _looking_up(scale, rows, hit)
    yield _listing(scale)
