"The code that this library replaces, in its shape: 8 KiB at a time, hash and then copy, a connection a call"

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

CHUNK = 8 << 10


def hash_file(path: str) -> str:
    "Read in small steps"
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(CHUNK):
            state.update(data)
    return f"sha256:{state.hexdigest()}"


def store_all(paths: Sequence[str], root: Path) -> None:
    "Hash each file, and copy it to its name, unless that is taken"
    for path in paths:
        digest = hash_file(path).partition(":")[2]
        target = root / digest[:2] / digest[2:4] / f"{digest}{os.path.splitext(path)[1]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(path, target)


class Results:
    "Rows of results, with a new connection for each call, SQLite's own settings, and no index on the time"

    COLUMNS = "file_path, file_hash, config_hash, ranges, metadata, created_at"

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as con, con:
            con.execute(
                "CREATE TABLE IF NOT EXISTS analysis_jobs (id INTEGER PRIMARY KEY AUTOINCREMENT,"
                " file_path TEXT NOT NULL, file_hash TEXT NOT NULL, config_hash TEXT NOT NULL,"
                " ranges JSON, metadata JSON, created_at REAL NOT NULL, UNIQUE(file_path, config_hash))"
            )

    def save(self, path: str, file_hash: str, config_hash: str, ranges: Any, metadata: Any) -> None:
        "Save a result"
        row = (path, file_hash, config_hash, json.dumps(ranges), json.dumps(metadata), time.time())
        with closing(sqlite3.connect(self.path)) as con, con:
            con.execute(f"INSERT OR REPLACE INTO analysis_jobs ({self.COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", row)

    def get_cached(self, path: str, config_hash: str) -> tuple[Any, ...] | None:
        "Look a result up"
        with closing(sqlite3.connect(self.path)) as con, con:
            con.row_factory = sqlite3.Row
            sql = f"SELECT {self.COLUMNS} FROM analysis_jobs WHERE file_path = ? AND config_hash = ?"
            row = con.execute(sql, (path, config_hash)).fetchone()
        return row and (*row[:3], json.loads(row["ranges"]), json.loads(row["metadata"]), row["created_at"])

    def list_jobs(self, limit: int) -> list[tuple[Any, ...]]:
        "The newest results"
        with closing(sqlite3.connect(self.path)) as con, con:
            sql = f"SELECT {self.COLUMNS} FROM analysis_jobs ORDER BY created_at DESC LIMIT ?"
            rows = con.execute(sql, (limit,)).fetchall()
        return [(*row[:3], json.loads(row[3]), json.loads(row[4]), row[5]) for row in rows]
