"""What a program that uses the library is told by its type checker: `assert_type` fails where that changes.

It is checked by mypy and by pyright, and never run.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, assert_type

from cjm_media_storage.explore import to_dataframe
from cjm_media_storage.lineage import Affected, Lineage, Name
from cjm_media_storage.maintenance import (
    Collection,
    MoveReport,
    Orphan,
    Problem,
    RebuildReport,
    RepairReport,
    VerifyReport,
    explain,
    gc,
    move_root,
    rebuild_index,
    repair,
    shards,
    snapshot,
    verify,
)
from cjm_media_storage.publications import Publication
from cjm_media_storage.publishing import Library, SyncReport
from cjm_media_storage.resultfiles import Analysis, Job
from cjm_media_storage.staleness import Stale
from cjm_media_storage.storage import (
    BatchProgress,
    Computed,
    ContentStore,
    Copied,
    CopySummary,
    FileHash,
    Hasher,
    InvalidHash,
    MediaAnalysisRow,
    MediaAnalysisStorage,
    MediaProcessingRow,
    MediaProcessingStorage,
    Memo,
    NoSpace,
    ObjectNotFound,
    Outcome,
    PutItem,
    PutResult,
    Reference,
    Source,
    SourceChanged,
    SourceError,
    StorageError,
    StoredObject,
    Trash,
    Trashed,
    copy_each,
    copy_to,
    hash_bytes,
    hash_dict_canonical,
    hash_file,
    hash_files,
    parse_hash,
    verify_hash,
    without_credentials,
)


def analyses(path: Path, hash: str) -> None:
    with MediaAnalysisStorage(path) as analyses:
        assert_type(analyses, MediaAnalysisStorage)
        schema: str = MediaAnalysisStorage.SCHEMA

        # Both generations of callers, positional and by keyword
        assert_type(analyses.get_cached(path, hash), MediaAnalysisRow | None)
        assert_type(analyses.get_cached(path, hash, hash), MediaAnalysisRow | None)
        assert_type(analyses.get_cached(file_path=path, config_hash=hash), MediaAnalysisRow | None)
        assert_type(analyses.get_cached(file_path=path, file_hash=hash, config_hash=hash), MediaAnalysisRow | None)
        analyses.get_cached(path)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

        print(schema)
        analyses.save(str(path), hash, hash, [{"start": 0.0}], {"model": "m"})
        analyses.save(path, hash, hash, ranges="0-1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert_type(analyses.save_with_logging(file_path=path, file_hash=hash, config_hash=hash), bool)
        analyses.save_with_logging(path, hash, hash)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        assert_type(analyses.save_many([MediaAnalysisRow(path, hash, hash)]), int)

        found = analyses.get_or_compute(path, {"threshold": 0.5}, lambda path: ([{"start": 0.0}], None))
        assert_type(found, Computed[MediaAnalysisRow])
        assert_type(found.row, MediaAnalysisRow)
        assert_type(found.row.ranges, list[dict[str, Any]] | None)
        assert_type(found.row.metadata, dict[str, Any] | None)
        assert_type(found.row.created_at, float | None)

        assert_type(iter(analyses), Iterator[MediaAnalysisRow])
        assert_type(len(analyses), int)
        assert_type(analyses.list_jobs(limit=10), list[MediaAnalysisRow])
        assert_type(analyses.naming("sha256:12"), list[MediaAnalysisRow])
        assert_type(analyses.find(hash, hash), MediaAnalysisRow | None)
        assert_type(analyses.mentions(hash), bool)
        assert_type(analyses.verify_file(path, hash), bool | None)
        assert_type(analyses.delete(path), int)
        analyses.close()


def jobs(path: Path, hash: str) -> None:
    with MediaProcessingStorage(path, memo=Memo(path), durability="full") as jobs:
        assert_type(jobs, MediaProcessingStorage)
        assert_type(jobs.get_cached("cut", path, hash, hash), MediaProcessingRow | None)
        jobs.save("job-1", "cut", path, hash, str(path), hash, {"start": 0.0}, None, hash)
        saved = jobs.save_with_logging(
            job_id="job-1", action="cut", input_path=path, input_hash=hash, output_path=path, output_hash=hash
        )
        assert_type(saved, bool)
        assert_type(jobs.save_many([MediaProcessingRow("job-1", "cut", path, hash, path, hash)]), int)

        made = jobs.get_or_compute("cut", path, {"start": 0.0}, lambda path: None, output_path=path)
        assert_type(made.row, MediaProcessingRow)
        assert_type(made.row.parameters, dict[str, Any] | None)
        assert_type((made.hit, made.why, made.seconds), tuple[bool, str, float])
        jobs.get_or_compute("cut", path, {}, lambda path: None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

        assert_type(list(jobs), list[MediaProcessingRow])
        assert_type(len(jobs), int)
        assert_type(jobs.list_jobs(limit=10), list[MediaProcessingRow])
        assert_type(jobs.naming("sha256:12"), list[MediaProcessingRow])
        assert_type(jobs.get_by_job_id("job-1"), MediaProcessingRow | None)
        assert_type(jobs.find("cut", hash, hash), MediaProcessingRow | None)
        assert_type(jobs.mentions(hash), bool)
        assert_type((jobs.verify_input("job-1"), jobs.verify_output("job-1")), tuple[bool | None, bool | None])
        assert_type(jobs.delete("job-1"), int)
        jobs.close()
        with MediaAnalysisStorage(path) as analyses:
            analyses.save_many(list(jobs))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def putting(path: Path, stream: BinaryIO) -> None:
    with ContentStore(path, quota=10**9, create=False) as store:
        assert_type(store, ContentStore)
        for content in (path, str(path), b"a poster", bytearray(), memoryview(b""), stream, [b"a ", b"poster"]):
            assert_type(store.put(content), PutResult)
        result = store.put(b"a poster", source="https://example.org/poster.jpg", provider="TMDB", owner="movie:1")
        assert_type((result.hash, result.created, result.link_mode), tuple[str, bool, str])
        store.put(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        assert_type(next(store.put_many([path, b"a poster", PutItem(path, owner="movie:1")])), Outcome)
        for outcome in store.put_many([path], progress=lambda done: print(assert_type(done, BatchProgress).failed)):
            assert_type(outcome.result, PutResult | None)
            assert_type(outcome.error, Exception | None)
        store.close()


def objects(store: ContentStore, hash: str) -> None:
    stored = store.get(hash)
    assert_type(stored, StoredObject)
    assert_type((stored.hash, stored.size, stored.namespace), tuple[str, int, str])
    assert_type((stored.extension, stored.path, stored.created_at), tuple[str, Path, float])
    assert_type(store.find("12ab"), StoredObject)
    assert_type((hash in store, len(store), store.exists(hash)), tuple[bool, int, bool])
    assert_type(store.known([hash]), set[str])
    assert_type(store.read(hash, verify=True), bytes)
    assert_type(store.path(hash), Path)
    assert_type(store.stats(), dict[str, int])
    with store.open(hash) as file:
        assert_type(file, BinaryIO)
    assert_type(store.pin(hash), AbstractContextManager[None])
    for each in store:
        assert_type(each, StoredObject)

    store.add_source(hash, "https://example.org/poster.jpg", provider="TMDB")
    assert_type(store.sources(hash), list[Source])
    assert_type(store.find_by_source("https://example.org/poster.jpg"), list[Source])
    store.add_reference(hash, "movie:1", "poster")
    assert_type(store.references(owner="movie:1"), list[Reference])
    assert_type(store.remove_reference(hash, "movie:1"), int)
    store.add_reference(hash)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    assert_type(store.delete(hash, "not needed", force=True), list[Trashed])
    store.delete()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(store.trash, Trash)
    for item in store.trash:
        assert_type(item, Trashed)
        assert_type(item.retention_days, float | None)
        store.trash.keep(item, 90)
    assert_type((store.trash.find(hash), store.trash.beginning("12ab")), tuple[list[Trashed], list[Trashed]])
    store.trash.restore(hash, outside=False)
    assert_type(store.trash.purge(dry_run=True), list[Trashed])


def upkeep(store: ContentStore, path: Path, hash: str) -> None:
    found = verify(store, "hash", hashes=[hash], record=True)
    assert_type(found, VerifyReport)
    assert_type(found.problems, tuple[Problem, ...])
    assert_type(found.counts, dict[str, int])
    assert_type(repair(store, report=found, donors=[path, store], dry_run=False), RepairReport)
    with MediaAnalysisStorage(path) as analyses:
        collected = gc(store, roots=[analyses, [hash]], progress=lambda count: None)
        assert_type(explain(store, hash, roots=[analyses]), str)
    assert_type(collected, Collection)
    assert_type(collected.orphans, tuple[Orphan, ...])
    assert_type(collected.taken, tuple[Trashed, ...])
    gc(store, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(rebuild_index(path), RebuildReport)
    assert_type(move_root(store, path), MoveReport)
    assert_type(snapshot(store), Path)
    assert_type(shards(), list[str])
    for copied in copy_each(store, store, [hash]):
        assert_type(copied, Copied)
    assert_type(copy_to(store, store), CopySummary)


def library(store: ContentStore, path: Path, hash: str) -> None:
    movies = Library(store, path)
    assert_type(movies.publish(hash, "Alien (1979)/poster.jpg", mode="hardlink"), Publication)
    assert_type(movies.publish(hash, path).path, Path)
    assert_type(movies.unpublish("Alien (1979)/poster.jpg"), Publication)
    assert_type(movies.sync(), SyncReport)
    assert_type(movies.status(deep=True), Iterator[Publication])
    assert_type(movies.publications(hash), Iterator[Publication])


def lineage(path: Path, hash: str) -> None:
    with Lineage(path, store=path) as lineage:
        assert_type(lineage.roots(hash), Iterator[str])
        assert_type(lineage.ancestors(hash, depth=2), Iterator[str])
        assert_type(lineage.descendants(hash), Iterator[str])
        assert_type((lineage.parents(hash), lineage.circle(hash)), tuple[list[str], list[str]])
        assert_type(lineage.children(hash), Iterator[str])
        assert_type(lineage.jobs(hash), Iterator[Job])
        assert_type(lineage.analyses(hash), Iterator[Analysis])
        assert_type(lineage.names(hash), list[Name])
        for again in lineage.affected(hash):
            assert_type(again, Affected)
        for stale in lineage.stale():
            assert_type(stale, Stale)
        assert_type(lineage.graph(hash).to_mermaid(), str)
        assert_type(lineage.to_openlineage(), Iterator[dict[str, Any]])
        lineage.close()


def hashes(path: Path) -> None:
    assert_type(hash_file(path), str)
    assert_type(hash_bytes(b"a poster", algo="sha256"), str)
    assert_type(hash_dict_canonical(None), str)
    assert_type(verify_hash(b"a poster", "sha256:"), bool)
    assert_type(parse_hash("sha256:"), tuple[str, str])
    for found in hash_files([path]):
        assert_type(found, FileHash)
        assert_type((found.hash, found.error), tuple[str | None, Exception | None])
    hasher = Hasher()
    hasher.update(b"a poster")
    assert_type((hasher.hash, hasher.digest), tuple[str, str])
    assert_type(without_credentials("https://ann:secret@example.org"), str)


def errors(store: ContentStore, path: Path) -> None:
    try:
        store.put(path)
    except SourceChanged as error:
        changed: SourceError = error
        print(changed.source)
    except NoSpace as error:
        print(error.path)
    try:
        store.get("sha256:")
    except InvalidHash as error:
        wrong: ValueError = error
        print(wrong, error.reason)
    except ObjectNotFound as error:
        missing: LookupError = error
        print(missing, error.hash)
    except StorageError as error:
        assert_type(error.fields, tuple[str, ...])


def tables(path: Path) -> None:
    with MediaAnalysisStorage(path) as analyses:
        to_dataframe(analyses, "ranges")
    to_dataframe(path)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
