"Where a database may have a write-ahead log, and how it gets one."

import os
import sqlite3
from contextlib import closing

import pytest

from cjm_media_storage.wal import NETWORK, keep_log, on_network


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "ext4", "tmpfs"])
def test_on_network(tmp_path, kind):
    device = os.stat(tmp_path).st_dev
    table = tmp_path / "mountinfo"
    row = f"36 35 {os.major(device)}:{os.minor(device)} / /films rw shared:1 - {kind} server:/films rw\n"
    table.write_text("24 30 0:22 / /proc rw - proc proc rw\n" + row)
    assert on_network(tmp_path, str(table)) == (kind in NETWORK)
    assert not on_network(tmp_path, str(tmp_path / "no such table"))
    assert not on_network(tmp_path / "gone", str(table))


def test_changing_over_waits_for_who_uses_the_file(tmp_path):
    path = tmp_path / "words.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as con:
        con.execute("CREATE TABLE words (word)")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                keep_log(con, 0.0)
            other.execute("ROLLBACK")
        assert keep_log(con, 0.0)
        assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_is_only_in_memory_has_no_log():
    with closing(sqlite3.connect(":memory:")) as con:
        assert not keep_log(con, 0.0)
