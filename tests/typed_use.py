"""What a program that uses the library is told by its type checker: `assert_type` fails where that changes.

It is checked by mypy and by pyright, and never run.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

from cjm_media_storage.explore import to_dataframe
from cjm_media_storage.lineage import Affected, Lineage
from cjm_media_storage.maintenance import Collection, RepairReport, VerifyReport, gc, repair, verify
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import (
    Computed,
    ContentStore,
    FileHash,
    MediaAnalysisRow,
    MediaAnalysisStorage,
    MediaProcessingRow,
    MediaProcessingStorage,
    ObjectNotFound,
    Outcome,
    PutResult,
    Source,
    StoredObject,
    Trashed,
    hash_dict_canonical,
    hash_file,
    hash_files,
)


def results(path: Path, hash: str) -> None:
    with MediaAnalysisStorage(path) as analyses, MediaProcessingStorage(path) as jobs:
        assert_type(analyses, MediaAnalysisStorage)
        assert_type(jobs, MediaProcessingStorage)

        # Both generations of callers, positional and by keyword
        assert_type(analyses.get_cached(path, hash), MediaAnalysisRow | None)
        assert_type(analyses.get_cached(path, hash, hash), MediaAnalysisRow | None)
        assert_type(analyses.get_cached(file_path=path, config_hash=hash), MediaAnalysisRow | None)
        assert_type(analyses.get_cached(file_path=path, file_hash=hash, config_hash=hash), MediaAnalysisRow | None)
        assert_type(jobs.get_cached("cut", path, hash, hash), MediaProcessingRow | None)
        analyses.get_cached(path)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

        found = analyses.get_or_compute(path, {"threshold": 0.5}, lambda path: ([{"start": 0.0}], None))
        assert_type(found, Computed[MediaAnalysisRow])
        assert_type(found.row, MediaAnalysisRow)
        assert_type(found.row.ranges, list[dict[str, Any]] | None)
        made = jobs.get_or_compute("cut", path, {"start": 0.0}, lambda path: None, output_path=path)
        assert_type(made.row, MediaProcessingRow)
        assert_type((made.hit, made.why, made.seconds), tuple[bool, str, float])

        assert_type(iter(analyses), Iterator[MediaAnalysisRow])
        assert_type(list(jobs), list[MediaProcessingRow])
        assert_type(jobs.list_jobs(limit=10), list[MediaProcessingRow])
        assert_type(analyses.verify_file(path, hash), bool | None)
        analyses.save_many(list(jobs))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def objects(path: Path) -> None:
    with ContentStore(path) as store:
        assert_type(store, ContentStore)
        assert_type(store.put(path), PutResult)
        assert_type(store.put(b"a poster").hash, str)
        assert_type(next(store.put_many([path, b"a poster"])), Outcome)
        for outcome in store.put_many([path]):
            assert_type(outcome.result, PutResult | None)
        try:
            assert_type(store.get("sha256:"), StoredObject)
        except ObjectNotFound as error:
            print(error.hash)
        assert_type(store.sources("sha256:"), list[Source])
        for each in store:
            assert_type(each, StoredObject)
        for item in store.trash:
            assert_type(item, Trashed)
        assert_type(verify(store), VerifyReport)
        assert_type(repair(store), RepairReport)
        assert_type(gc(store), Collection)
        assert_type(Library(store, path).publish("sha256:", "poster.jpg").path, Path)
        store.put(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        store.delete()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def the_rest(path: Path) -> None:
    assert_type(hash_file(path), str)
    assert_type(hash_dict_canonical(None), str)
    for found in hash_files([path]):
        assert_type(found, FileHash)
    with Lineage(path) as lineage:
        assert_type(lineage.roots("sha256:"), Iterator[str])
        for again in lineage.affected("sha256:"):
            assert_type(again, Affected)
    with MediaAnalysisStorage(path) as analyses:
        to_dataframe(analyses, "ranges")
    to_dataframe(path)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
