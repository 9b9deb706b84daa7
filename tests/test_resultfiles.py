"How a file of results is looked at."

import sqlite3
from contextlib import closing

import pytest
from graphs import save

from cjm_media_storage.processing import MediaProcessingStorage
from cjm_media_storage.resultfiles import ResultFile, links, result_file, to_row
from cjm_media_storage.storage import ContentStore, NoResults, StoreUnavailable, hash_bytes


def linked(value):
    with closing(sqlite3.connect(":memory:")) as con:
        return bool(con.execute(f"SELECT {links('?1')}", (value,)).fetchone()[0])


@pytest.mark.parametrize("algo", ["md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256"])
def test_a_hash_of_any_algorithm_links(algo):
    assert linked(hash_bytes(b"x", algo))


@pytest.mark.parametrize(
    "value", ["", "unknown", None, 7, 1.5, b"sha256:" + b"a" * 64, "sha256:ab", "a" * 64, "sha256:" + "G" * 64]
)
def test_fault_58_what_is_no_hash_links_nothing(value):
    assert not linked(value)


def test_fault_58_a_row_of_garbage_is_read():
    job = to_row("jobs", (7, None, b"caf\xe9", 1.5, "", None, None, "yesterday", None, 1))
    assert (job.job_id, job.action, job.input_path, job.input_hash, job.created_at) == (
        "7",
        "",
        "caf\udce9",
        "1.5",
        0.0,
    )


def test_one_file_by_several_names(tmp_path):
    path = save(tmp_path / "a.db", [(0, 1)])
    (tmp_path / "link.db").symlink_to(path)
    (tmp_path / "hard.db").hardlink_to(path)
    with MediaProcessingStorage(path) as storage:
        files = [
            ResultFile(path),
            ResultFile(tmp_path / "link.db"),
            ResultFile(tmp_path / "hard.db"),
            result_file(storage),
        ]
        assert len({file.key() for file in files}) == 1


def test_storages_in_memory_are_told_apart():
    with MediaProcessingStorage(":memory:") as one, MediaProcessingStorage(":memory:") as two:
        assert result_file(one).key() == result_file(one).key() != result_file(two).key()


def test_what_is_no_file_of_results(tmp_path):
    ContentStore(tmp_path / "store").close()
    for path, error in ((tmp_path / "none", StoreUnavailable), (tmp_path, NoResults), (tmp_path / "store", NoResults)):
        with pytest.raises(error, match=path.name):
            ResultFile(path).key()
    with pytest.raises(NoResults, match="store="):
        ResultFile(tmp_path / "store").key()


def test_any_change_counts_where_rows_were_copied(tmp_path):
    path = save(tmp_path / "a.db", [(0, 1)])
    in_place, copied = ResultFile(path), ResultFile(path)
    copied.copied = True
    in_place.look()
    save(path, [(1, 2)])
    copied.look()
    save(path, [(2, 3)])
    assert (in_place.unchanged(), copied.unchanged()) == (True, False)
