"A memo never gives a hash that the file does not have, and nothing that befalls its database stops the hashing."

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from on_disk import unprivileged

from cjm_media_storage import memo as memo_module
from cjm_media_storage.hashing import hash_bytes, hash_file
from cjm_media_storage.memo import Memo, racy

OLD = Path(os.__file__)  # a real file that nobody has written for longer than RACY
SECOND = 1_000_000_000  # Nanoseconds


@pytest.fixture
def episode(tmp_path):
    path = tmp_path / "episode.wav"
    path.write_bytes(b"aaaa")
    return path


@pytest.fixture
def fine_clock(monkeypatch):
    "Believe that the file system's clock ticks every 20 ms, which those of Linux do or better: files are old soon"
    monkeypatch.setattr(memo_module, "RACY", SECOND // 50)


def hash_until_remembered(memo, path):
    "Hash a file again and again, until it is no longer racy"
    until = time.monotonic() + 10
    while memo.recall(os.stat(path)) is None and time.monotonic() < until:
        memo.hash_file(path)
    assert memo.recall(os.stat(path))


def test_old_file_is_remembered(address):
    with Memo(address) as memo:
        assert memo.recall(os.stat(OLD)) is None
        assert memo.hash_file(OLD) == memo.recall(os.stat(OLD)) == hash_file(OLD)
        assert memo.recall(os.stat(OLD), "md5") is None
        assert memo.hash_file(OLD, "md5") == memo.recall(os.stat(OLD), "md5") == hash_file(OLD, "md5")


def test_remembered_file_is_not_read_again(address, monkeypatch):
    with Memo(address) as memo:
        memo.hash_file(OLD)
        monkeypatch.setattr(memo_module, "hash_file", None)
        assert memo.hash_file(OLD) == hash_file(OLD)


def test_racy_file_is_hashed_each_time(address, episode):
    with Memo(address) as memo:
        for n in range(200):  # many writes in each tick of the clock, all of one size
            content = b"%04d" % n
            episode.write_bytes(content)
            assert memo.hash_file(episode) == hash_bytes(content)
        assert memo.recall(os.stat(episode)) is None


def test_racy_rule(episode):
    found = os.stat(episode)
    assert racy(found, now=found.st_ctime_ns)
    assert racy(found, now=found.st_ctime_ns + 2 * SECOND - 1)
    assert not racy(found, now=found.st_ctime_ns + 2 * SECOND)
    os.utime(episode, ns=(0, 0))  # an old mtime alone does not make it old
    assert racy(os.stat(episode), now=time.time_ns())
    future = found.st_ctime_ns + 3600 * SECOND
    os.utime(episode, ns=(future, future))
    assert racy(os.stat(episode), now=found.st_ctime_ns + 3 * SECOND)


def test_racy_file_is_not_remembered(address, episode):
    with Memo(address) as memo:
        found = os.stat(episode)
        assert not memo.remember(found, hash_bytes(b"aaaa"), began=found.st_ctime_ns + SECOND)
        assert memo.remember(found, hash_bytes(b"aaaa"), began=found.st_ctime_ns + 3 * SECOND)
        assert memo.recall(os.stat(episode)) == hash_bytes(b"aaaa")


@pytest.mark.parametrize("how", ["rewritten", "replaced"])
def test_change_that_keeps_size_and_mtime_is_seen(address, episode, fine_clock, how):
    with Memo(address) as memo:
        hash_until_remembered(memo, episode)
        before = os.stat(episode)
        if how == "rewritten":
            episode.write_bytes(b"bbbb")
        else:
            (episode.parent / "new").write_bytes(b"bbbb")
            (episode.parent / "new").rename(episode)
        os.utime(episode, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert memo.recall(os.stat(episode)) is None
        assert memo.hash_file(episode) == hash_bytes(b"bbbb")


def test_file_written_while_it_is_hashed_is_not_remembered(address, episode, fine_clock, monkeypatch):
    def hash_then_write(file, algo):
        found = hash_file(file, algo)
        episode.write_bytes(b"bbbb")
        return found

    with Memo(address) as memo:
        hash_until_remembered(memo, episode)
        episode.write_bytes(b"cccc")
        with monkeypatch.context() as m:
            m.setattr(memo_module, "racy", lambda *_: False)
            m.setattr(memo_module, "hash_file", hash_then_write)
            assert memo.hash_file(episode) == hash_bytes(b"cccc")
        assert memo.recall(os.stat(episode)) is None


def test_processes_share_a_memo(path, program):
    program("import sys; from cjm_media_storage.memo import Memo; Memo(sys.argv[1]).hash_file(sys.argv[2])", path, OLD)
    with Memo(path) as memo:
        assert memo.recall(os.stat(OLD)) == hash_file(OLD)


def test_never_a_wrong_hash_while_others_hash_and_one_writes(path, episode, program, fine_clock):
    others = [
        program.start(
            """
            import sys
            from pathlib import Path
            from cjm_media_storage import memo
            from cjm_media_storage.hashing import hash_bytes
            memo.RACY = 20_000_000
            right = {hash_bytes(b"%04d" % n) for n in range(31)} | {hash_bytes(b""), hash_bytes(b"aaaa")}
            shared, episode = memo.Memo(sys.argv[1]), sys.argv[2]
            while not Path(sys.argv[3]).exists():
                assert shared.hash_file(episode) in right
            """,
            path,
            episode,
            episode.with_name("end"),
        )
        for _ in range(2)
    ]
    with Memo(path) as memo:
        for n in range(30):
            hash_until_remembered(memo, episode)
            before = os.stat(episode)
            episode.write_bytes(b"%04d" % n)
            os.utime(episode, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert memo.hash_file(episode) == hash_bytes(b"%04d" % n)
        episode.with_name("end").touch()
        for other in others:
            program.end(other)
        assert memo.recall(os.stat(episode)) in (None, hash_bytes(b"0029"))


# ---- what may befall the database


def test_damaged_database_is_left_alone(path):
    path.write_bytes(b"notes of somebody " * 1000)
    before = path.read_bytes()
    with Memo(path) as memo:
        assert memo.hash_file(OLD) == memo.hash_file(OLD) == hash_file(OLD)
    assert path.read_bytes() == before


def test_database_that_is_damaged_later(path):
    with Memo(path) as memo:
        memo.hash_file(OLD)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    with Memo(path) as memo:
        assert memo.hash_file(OLD) == hash_file(OLD)


def test_table_of_another_program(path):
    with closing(sqlite3.connect(path)) as con:
        con.execute("CREATE TABLE memo (note TEXT)")
    with Memo(path) as memo:
        assert memo.hash_file(OLD) == hash_file(OLD)


@pytest.mark.parametrize("kind", ["folder", "in a file", "dangling link", "socket"])
def test_path_that_cannot_be_a_database(tmp_path, kind):
    path = tmp_path / "memo.db"
    if kind == "folder":
        path.mkdir()
    elif kind == "in a file":
        path.write_bytes(b"a poster")
        path /= "memo.db"
    elif kind == "dangling link":
        path.symlink_to("gone/memo.db")
    else:
        os.mknod(path, 0o140600)
    with Memo(path) as memo:
        assert memo.hash_file(OLD) == hash_file(OLD)


def test_locked_database(path, monkeypatch):
    with Memo(path) as memo, closing(sqlite3.connect(path, isolation_level=None)) as other:
        memo._database.timeout = 0.05
        memo._database._mine().close()  # it is opened again with the short time-out
        other.execute("BEGIN IMMEDIATE")
        assert memo.hash_file(OLD) == hash_file(OLD)
        other.execute("ROLLBACK")
        assert memo.recall(os.stat(OLD)) is None
        memo.hash_file(OLD)
        assert memo.recall(os.stat(OLD))


def test_read_only_database(open_folder, monkeypatch):
    path, poster = open_folder / "memo.db", open_folder / "poster.jpg"
    poster.write_bytes(b"a poster")
    with Memo(path) as memo:
        memo.hash_file(OLD)
    path.chmod(0o444)
    open_folder.chmod(0o555)
    monkeypatch.setattr(memo_module, "racy", lambda *_: False)  # else it would not even try to remember
    with unprivileged(), Memo(path) as memo:
        assert memo.hash_file(poster) == hash_file(poster)
        assert memo.recall(os.stat(poster)) is None


def test_closed_memo_hashes(address):
    memo = Memo(address)
    memo.close()
    memo.close()
    assert memo.hash_file(OLD) == hash_file(OLD)


def test_missing_file_is_an_error(path):
    with Memo(path) as memo, pytest.raises(FileNotFoundError):
        memo.hash_file(path.with_name("gone"))


def test_many_files_are_remembered_and_recalled_at_once(address, tmp_path, fine_clock):
    names = [tmp_path / str(n) for n in range(1100)]
    for name in names:
        name.touch()
    found, began = [os.stat(name) for name in names], time.time_ns() + SECOND
    with Memo(address) as memo:
        hashes = [hash_bytes(b"%d" % n) for n in range(1100)]
        assert memo.recall_many(found) == [None] * 1100
        assert memo.remember_many(zip(found[1:], hashes[1:], [began] * 1099, strict=True)) == 1099
        assert memo.recall_many(found) == [None, *hashes[1:]]
        assert [memo.recall(each) for each in found[:3]] == [None, *hashes[1:3]]
        names[1].write_bytes(b"changed")
        assert memo.recall_many([os.stat(names[1]), found[2]]) == [None, hashes[2]]
        assert memo.recall_many(found[1:], "md5") == [None] * 1099
        assert memo.remember_many([(found[0], hashes[0], 0)]) == 0  # racy
    assert (memo.recall_many(found), memo.remember_many(zip(found, hashes, [began] * 1100, strict=True))) == (
        [None] * 1100,
        0,
    )


def test_a_server_that_is_not_there():
    with Memo("postgresql://ann:secret@127.0.0.1:1/media") as memo:
        assert memo.hash_file(OLD) == hash_file(OLD)
        assert memo.recall(os.stat(OLD)) is None and "secret" not in memo.path


def test_on_a_server_each_computer_has_inodes_of_its_own(url, monkeypatch):
    with Memo(url) as mine:
        mine.hash_file(OLD)
        monkeypatch.setattr(memo_module, "_computer", lambda: "another")
        with Memo(url) as theirs:
            assert mine.recall(os.stat(OLD)) and theirs.recall(os.stat(OLD)) is None
