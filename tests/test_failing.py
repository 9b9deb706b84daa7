"What SQLite says when it cannot, in typed errors."

import errno
import os
import sqlite3

import pytest

from cjm_media_storage.errors import (
    CorruptDatabase,
    InvalidRecord,
    NoSpace,
    ReadOnlyStore,
    StoreBusy,
    StoreUnavailable,
)
from cjm_media_storage.failing import fail
from cjm_media_storage.files import Disk, disk_errors


class Full(Disk):
    "Room for a name, and for no bytes"

    def write(self, fd, data):
        with disk_errors("file"):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")


@pytest.mark.parametrize(
    ("code", "disk", "kind"),
    [
        (sqlite3.SQLITE_IOERR_WRITE, Full(), NoSpace),
        (sqlite3.SQLITE_IOERR_READ, Full(), StoreUnavailable),
        (sqlite3.SQLITE_IOERR_WRITE, Disk(), StoreUnavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, Disk(), StoreUnavailable),
        (sqlite3.SQLITE_CANTOPEN, Disk(), StoreUnavailable),
    ],
)
def test_the_disk_is_asked_what_is_wrong(tmp_path, code, disk, kind):
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    with pytest.raises(kind) as e:
        fail(error, str(tmp_path / "words.db"), disk)
    assert e.value.__cause__ is error
    assert os.listdir(tmp_path) == []


def test_errors_of_sqlite_are_typed():
    wanted = {
        sqlite3.SQLITE_BUSY_SNAPSHOT: StoreBusy,
        sqlite3.SQLITE_LOCKED: StoreBusy,
        sqlite3.SQLITE_PROTOCOL: StoreBusy,
        sqlite3.SQLITE_FULL: NoSpace,
        sqlite3.SQLITE_READONLY_DIRECTORY: ReadOnlyStore,
        sqlite3.SQLITE_CORRUPT_INDEX: CorruptDatabase,
        sqlite3.SQLITE_NOTADB: CorruptDatabase,
        sqlite3.SQLITE_TOOBIG: InvalidRecord,
        sqlite3.SQLITE_ERROR: sqlite3.OperationalError,
    }
    for code, kind in wanted.items():
        error = sqlite3.OperationalError("as SQLite said")
        error.sqlite_errorcode = code
        with pytest.raises(kind) as e:
            fail(error, "results.db")
        assert e.value is error or e.value.__cause__ is error
