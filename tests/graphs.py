"Graphs of jobs, in files of results and as plain dictionaries"

import hashlib
import sqlite3
from contextlib import closing

from cjm_media_storage.processing import MediaProcessingRow, MediaProcessingStorage


def name(n):
    "The hash of the `n`th file"
    return "sha256:" + hashlib.sha256(str(n).encode()).hexdigest()


def row(a, b, **changes):
    "The job that made file `b` from file `a`"
    files = {"input_path": f"/m/{a}", "input_hash": name(a), "output_path": f"/m/{b}", "output_hash": name(b)}
    return MediaProcessingRow(**{"job_id": f"{a}-{b}", "action": "make", "created_at": 1e9, **files} | changes)


def save(path, pairs, **changes):
    "Save jobs in the file `path`, and give it"
    with MediaProcessingStorage(path) as storage:
        storage.save_many(row(a, b, **changes) for a, b in pairs)
    return path


def save_fast(path, pairs):
    "Save any number of jobs, past the package"
    MediaProcessingStorage(path).close()
    with closing(sqlite3.connect(path)) as con:
        con.executemany(
            "INSERT INTO processing_jobs (job_id, action, input_path, input_hash, output_path, output_hash, created_at)"
            " VALUES (?, 'make', '', ?, '', ?, 0)",
            ((f"{n}", name(a), name(b)) for n, (a, b) in enumerate(pairs)),
        )
        con.commit()
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def reached(pairs, start, down=True, depth=None):
    "What `start` leads to, by distance"
    next_to, steps, front = {}, {start: 0}, [start]
    for a, b in pairs:
        next_to.setdefault(a if down else b, set()).add(b if down else a)
    while front and (depth is None or steps[front[0]] < depth):
        front = [node for node in dict.fromkeys(m for n in front for m in next_to.get(n, ())) if node not in steps]
        steps |= dict.fromkeys(front, max(steps.values()) + 1)
    return steps
