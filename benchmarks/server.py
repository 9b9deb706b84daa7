"""Rows of results on a PostgreSQL server, beside psycopg alone and beside a file

A server of the tests is started in the folder for temporary files, whose disk its commits wait for. Where none can
be, all say so.
"""

import atexit
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.harness import NotHere, Prepare, Scale, Steps, Target, Work, each
from benchmarks.material import Material
from benchmarks.records import BATCH, GET, METADATA, RANGES, SAVE, A, fill, look_up, paths_of, values_of
from cjm_media_storage.storage import MediaAnalysisRow, MediaAnalysisStorage

Use = Callable[[Any], object]


@functools.cache
def _server() -> Callable[[], AbstractContextManager[str]]:  # Makes a schema, which goes at the end of a block
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    try:
        import servers
    finally:
        sys.path.pop()
    try:
        server = servers.start("fsync=on")
    except servers.Unavailable as e:
        raise NotHere(f"no PostgreSQL server: {e}") from e
    atexit.register(server.close)
    return lambda: servers.schema(server.url)


def _ours(use: Use, rows: int = 0) -> Prepare:
    def prepare(folder: Path) -> Steps:
        with _server()() as url:
            fill(url, rows)
            with MediaAnalysisStorage(url) as storage:
                yield lambda: use(storage)

    return prepare


def _raw(use: Use, rows: int = 0) -> Prepare:
    "One held connection to the same tables, and nothing around it"

    def prepare(folder: Path) -> Steps:
        import psycopg

        with _server()() as url:
            fill(url, rows)
            with psycopg.connect(url, autocommit=True) as con:
                yield lambda: use(con)

    return prepare


def _file(use: Use, rows: int = 0) -> Prepare:
    def prepare(folder: Path) -> Steps:
        fill(folder / "results.db", rows)
        with MediaAnalysisStorage(folder / "results.db") as storage:
            yield lambda: use(storage)

    return prepare


def _of_server(sql: str) -> str:
    return sql.replace("?", "%s")


def _three(ours: Use, raw: Use, rows: int = 0) -> dict[str, Prepare]:
    return {"ours": _ours(ours, rows), "psycopg": _raw(raw, rows), "a file": _file(ours, rows)}


def _saving(scale: Scale) -> Iterator[Work]:
    paths = paths_of(max(5, scale.rows // 8))
    save = _of_server(SAVE)

    def one(storage: MediaAnalysisStorage) -> None:
        for path in paths:
            storage.save(path, A, A, RANGES, METADATA)

    def raw(con: Any) -> None:
        for path in paths:
            con.execute(save, values_of(path))

    yield Work("save on a server", "rows", len(paths), _three(one, raw), [Target("psycopg", 0.8)], "durable, each")
    pieces = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]

    def many(storage: MediaAnalysisStorage) -> None:
        for some in pieces:
            storage.save_many([MediaAnalysisRow(path, A, A, RANGES, METADATA) for path in some])

    def raw_many(con: Any) -> None:
        for some in pieces:
            with con.transaction(), con.cursor() as cursor:
                cursor.executemany(save, [values_of(path) for path in some])

    contenders = _three(many, raw_many)
    note = f"durable, by {BATCH}"
    yield Work("save_many on a server", "rows", len(paths), contenders, [Target("psycopg", 0.8)], note)


def works(material: Material) -> Iterator[Work]:
    "Saved one by one and in batches, and looked up"
    scale = material.scale
    yield from _saving(scale)
    paths, get = paths_of(scale.rows), _of_server(GET)
    contenders = _three(
        lambda storage: each(lambda path: storage.get_cached(path, A), paths),
        lambda con: each(lambda path: look_up(con, path, get), paths),
        scale.rows,
    )
    yield Work("get_cached on a server", "calls", len(paths), contenders, [Target("psycopg", 0.8)])
