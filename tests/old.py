"""Programs that were built with older packages, which read and write the same files.

`First` and `Last` issue the SQL of the first generation and of the last upstream release, `Published` calls the
published package, of whichever generation it is. All open a connection for each call, with SQLite's defaults.
"""

import inspect
import json
import sqlite3
import time
from contextlib import closing, contextmanager

from results import A, C

RESULTS = """CREATE TABLE IF NOT EXISTS analysis_jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, file_path TEXT NOT NULL, file_hash TEXT NOT NULL, config_hash TEXT NOT NULL,
    ranges JSON, metadata JSON, created_at REAL NOT NULL, UNIQUE(file_path, config_hash))"""
RESULTS_INDEX = "CREATE INDEX IF NOT EXISTS idx_analysis_file_path ON analysis_jobs(file_path)"
JOBS = """CREATE TABLE IF NOT EXISTS processing_jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT UNIQUE NOT NULL, action TEXT NOT NULL, input_path TEXT NOT NULL,
    input_hash TEXT NOT NULL, {}output_path TEXT NOT NULL, output_hash TEXT NOT NULL, parameters JSON, metadata JSON,
    created_at REAL NOT NULL)"""
JOBS_INDEX = "CREATE INDEX IF NOT EXISTS idx_processing_job_id ON processing_jobs(job_id)"
CONFIG = "config_hash TEXT NOT NULL DEFAULT ''"
CACHE_INDEX = (
    "CREATE UNIQUE INDEX IF NOT EXISTS idx_processing_cache ON processing_jobs(action, input_path, config_hash)"
)
NEWEST = "SELECT max(id) FROM processing_jobs GROUP BY action, input_path, config_hash"


class First:
    "The first generation: jobs are appended, and have no config_hash"

    def __init__(self, path):
        self.path = path
        with self._open() as con:
            self._prepare(con)

    @contextmanager
    def _open(self):
        with closing(sqlite3.connect(self.path)) as con, con:
            yield con

    def _prepare(self, con):
        for sql in (RESULTS, RESULTS_INDEX, JOBS.format(""), JOBS_INDEX):
            con.execute(sql)

    def add_result(self, file_path, config_hash, metadata=None):
        text = json.dumps(metadata) if metadata else None
        with self._open() as con:
            con.execute(
                "INSERT OR REPLACE INTO analysis_jobs (file_path, file_hash, config_hash, ranges, metadata, created_at)"
                " VALUES (?, ?, ?, NULL, ?, ?)",
                (file_path, A, config_hash, text, time.time()),
            )

    def add_job(self, job_id, input_path, config_hash):
        with self._open() as con:
            con.execute(
                "INSERT INTO processing_jobs (job_id, action, input_path, input_hash, output_path, output_hash,"
                " parameters, metadata, created_at) VALUES (?, 'convert', ?, ?, ?, ?, NULL, NULL, ?)",
                (job_id, input_path, A, f"/out/{job_id}", C, time.time()),
            )

    def results(self):
        with self._open() as con:
            return set(con.execute("SELECT file_path, config_hash FROM analysis_jobs"))

    def jobs(self):
        with self._open() as con:
            return {job_id for (job_id,) in con.execute("SELECT job_id FROM processing_jobs")}


class Last(First):
    "The last upstream release: a job replaces the one before, and opening a file deletes what is in the way of that"

    def _prepare(self, con):
        for sql in (RESULTS, RESULTS_INDEX, JOBS.format(CONFIG + ", ")):
            con.execute(sql)
        if CONFIG.split()[0] not in {row[1] for row in con.execute("PRAGMA table_info(processing_jobs)")}:
            con.execute(f"ALTER TABLE processing_jobs ADD COLUMN {CONFIG}")
        con.execute(JOBS_INDEX)
        try:
            con.execute(CACHE_INDEX)
        except sqlite3.IntegrityError:
            con.execute(f"DELETE FROM processing_jobs WHERE id NOT IN ({NEWEST})")
            con.execute(CACHE_INDEX)

    def add_job(self, job_id, input_path, config_hash):
        with self._open() as con:
            con.execute(
                "INSERT OR REPLACE INTO processing_jobs (job_id, action, input_path, input_hash, config_hash,"
                " output_path, output_hash, parameters, metadata, created_at)"
                " VALUES (?, 'convert', ?, ?, ?, ?, ?, NULL, NULL, ?)",
                (job_id, input_path, A, config_hash, f"/out/{job_id}", C, time.time()),
            )


class Published:
    "The published package, where it is installed"

    def __init__(self, path):
        from cjm_media_plugin_system.storage import MediaAnalysisStorage, MediaProcessingStorage

        self.analysis, self.processing = MediaAnalysisStorage(str(path)), MediaProcessingStorage(str(path))

    def add_result(self, file_path, config_hash, metadata=None):
        self.analysis.save(file_path=file_path, file_hash=A, config_hash=config_hash, metadata=metadata)

    def add_job(self, job_id, input_path, config_hash):
        values = {"job_id": job_id, "action": "convert", "input_path": input_path, "input_hash": A}
        values |= {"output_path": f"/out/{job_id}", "output_hash": C}
        if "config_hash" in inspect.signature(self.processing.save).parameters:
            values["config_hash"] = config_hash
        self.processing.save(**values)

    def results(self):
        return {(row.file_path, row.config_hash) for row in self.analysis.list_jobs(10_000)}

    def jobs(self):
        return {row.job_id for row in self.processing.list_jobs(10_000)}
