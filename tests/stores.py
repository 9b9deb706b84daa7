"""The kinds of store that there are, and what somebody else may do to their bytes behind their back.

What every kind promises is tested once, for all of them: a test takes `kind`, and says nothing of where bytes are."""

import os
from pathlib import Path

from cjm_media_storage.entries import Entry
from cjm_media_storage.storage import ContentStore

DIGEST = "ab" * 32


def entry(digest=DIGEST, namespace="assets", extension="jpg", size=8):
    "A row of an object, to be committed"
    return Entry(0, digest, namespace, extension, size, 0, 0.0)


class OnDisk:
    "A store in a folder"

    name, on_disk = "disk", True

    def __init__(self, folder):
        self.folder, self.root = Path(folder), Path(folder) / "store"

    def open(self, **options):
        return ContentStore(self.root, **options)

    def names(self):
        "Where objects are, relative to the root"
        paths = (path for path in self.root.rglob("*") if path.is_file())
        keys = [path.relative_to(self.root).as_posix() for path in paths]
        return sorted(key for key in keys if not key.startswith(".store/"))

    def bytes_at(self, key):
        return (self.root / key).read_bytes()

    def write(self, key, content):
        "Put bytes at a place, as another program might"
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        os.utime(path, (0, 0))

    def remove(self, key):
        (self.root / key).unlink()


class Shared(OnDisk):
    "A store in a folder that many machines see, whose index is on a server"

    name = "shared"

    def __init__(self, folder, address):
        super().__init__(folder)
        self.database = address

    def open(self, **options):
        return super().open(**{"database": self.database, "folder": self.folder / "work", **options})


class InBucket:
    "A store in a bucket of a real server"

    name, on_disk = "bucket", False

    def __init__(self, folder, server):
        self.folder, self.server, self.bucket = Path(folder), server, server.new_bucket()
        self.url, self.database = f"s3://{self.bucket}/library", self.folder / "database"

    def open(self, **options):
        return ContentStore(self.url, **{"database": self.database, "retry_timeout": 2.0, **options})

    def names(self):
        keys = [key.removeprefix("library/") for key in self.server.keys(self.bucket)]
        return sorted(key for key in keys if not key.startswith(".store/"))

    def bytes_at(self, key):
        status, body = self.server.ask("GET", f"/{self.bucket}/library/{key}")
        assert status == 200
        return body

    def write(self, key, content):
        status, body = self.server.ask("PUT", f"/{self.bucket}/library/{key}", content)
        assert status == 200, body

    def remove(self, key):
        status, _ = self.server.ask("DELETE", f"/{self.bucket}/library/{key}")
        assert status == 204


class Served(InBucket):
    "A store in a bucket whose index is on a server"

    name = "server"

    def __init__(self, folder, server, address):
        super().__init__(folder, server)
        self.database = address

    def open(self, **options):
        return super().open(**{"folder": self.folder / "work", **options})
