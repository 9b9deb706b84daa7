"Rows for both result storages, so that one test serves both"

from collections.abc import Callable
from dataclasses import dataclass

from cjm_media_storage.analysis import MediaAnalysisRow, MediaAnalysisStorage
from cjm_media_storage.processing import MediaProcessingRow, MediaProcessingStorage

A, B, C, D = ("sha256:" + letter * 64 for letter in "abcd")


def analysis_row(n=0, **changes):
    "The `n`th analysis of a series"
    values = {"file_path": f"/media/{n}.wav", "file_hash": A, "config_hash": B}
    return MediaAnalysisRow(**values | changes)


def processing_row(n=0, **changes):
    "The `n`th job of a series"
    paths = {"input_path": f"/media/{n}.wav", "input_hash": A, "output_path": f"/out/{n}.wav", "output_hash": C}
    return MediaProcessingRow(**{"job_id": f"job_{n}", "action": "convert", "config_hash": B, **paths} | changes)


@dataclass(frozen=True)
class Kind:
    "One of the two result storages, and how to speak of it"

    name: str
    storage: Callable
    row: Callable
    paths: tuple[str, ...]
    hashes: tuple[str, ...]
    table: str

    def get(self, storage, row):
        "The current result that `row` would replace"
        if self.name == "analysis":
            return storage.get_cached(row.file_path, row.file_hash, row.config_hash)
        return storage.get_cached(row.action, row.input_path, row.input_hash, row.config_hash)

    def find(self, storage, row):
        "The newest result of the content of `row`, whatever its path"
        if self.name == "analysis":
            return storage.find(row.file_hash, row.config_hash)
        return storage.find(row.action, row.input_hash, row.config_hash)

    def verify(self, storage, row):
        "Verify the file that went in"
        if self.name == "analysis":
            return storage.verify_file(row.file_path, row.config_hash)
        return storage.verify_input(row.job_id)

    def delete(self, storage, row):
        "Delete the result that `row` names"
        return storage.delete(row.file_path if self.name == "analysis" else row.job_id)

    def arguments(self, row):
        "What `save` takes"
        return {name: value for name, value in vars(row).items() if name != "created_at"}


KINDS = {
    "analysis": Kind(
        "analysis", MediaAnalysisStorage, analysis_row, ("file_path",), ("file_hash", "config_hash"), "analysis_jobs"
    ),
    "processing": Kind(
        "processing",
        MediaProcessingStorage,
        processing_row,
        ("input_path", "output_path"),
        ("input_hash", "output_hash", "config_hash"),
        "processing_jobs",
    ),
}


def result_file(path, *rows):
    "A file that this library has written, of both kinds"
    analyses = [row for row in rows if hasattr(row, "file_path")]
    jobs = [row for row in rows if not hasattr(row, "file_path")]
    with MediaAnalysisStorage(path) as storage:
        storage.save_many(analyses)
    with MediaProcessingStorage(path) as storage:
        for row in jobs:
            storage.save_many([row])
    return path


def counts(report):
    "Rows of an import that were new, known, and in conflict"
    return tuple(report.count(fate) for fate in ("new", "known", "conflict"))
