"Objects in a bucket: put, get and list, in turn with the clients that people use for it, on a server on this machine."

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.harness import NotHere, Prepare, Steps, Work
from benchmarks.material import Material
from cjm_media_storage.storage import ContentStore

THREADS = 8  # Of each contender
FILES = 200  # At most: each is a request or more


@contextlib.contextmanager
def _server() -> Iterator[tuple[str, str]]:
    "The URL of a server that runs for the length of the block, and the name of a fresh bucket"
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    try:
        from s3 import CREDENTIALS, ENDPOINT, Server, why_not
    finally:
        sys.path.pop(0)
    if reason := why_not():
        raise NotHere(reason)
    with contextlib.closing(Server()) as server:
        before = {name: os.environ.get(name) for name in (*CREDENTIALS, ENDPOINT)}
        os.environ.update({**CREDENTIALS, ENDPOINT: server.url})
        try:
            yield server.url, server.new_bucket()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def _all(work: Callable[[Any], object], items: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))


def _check(contents: list[bytes], expected: int) -> None:
    if sum(map(len, contents)) != expected:
        raise AssertionError("not all bytes came back")


class _Ours:
    "A store, with its index"

    def __init__(self, folder: Path, url: str, bucket: str) -> None:
        self.store = ContentStore(f"s3://{bucket}/ours", database=folder / "index", memo=False)

    def put(self, paths: list[str]) -> list[str]:
        return [each.result.hash for each in self.store.put_many(paths, threads=THREADS) if each.result]

    def get(self, keys: list[str]) -> list[bytes]:
        return _all(self.store.read, keys)

    def list(self) -> int:
        return sum(len(page) for page in self.store.parts.bucket.scan("assets"))

    def close(self) -> None:
        self.store.close()


class _Boto3:
    "Amazon's client, which hashes nothing, and keeps no index"

    def __init__(self, folder: Path, url: str, bucket: str) -> None:
        if importlib.util.find_spec("boto3") is None:
            raise NotHere("pip install boto3")
        import boto3
        from botocore.config import Config

        self.bucket = bucket
        self.client = boto3.client("s3", endpoint_url=url, config=Config(max_pool_connections=THREADS))

    def _put(self, path: str) -> str:
        key = f"boto3/{os.path.basename(path)}"
        self.client.put_object(Bucket=self.bucket, Key=key, Body=Path(path).read_bytes(), IfNoneMatch="*")
        return key

    def put(self, paths: list[str]) -> list[str]:
        return _all(self._put, paths)

    def get(self, keys: list[str]) -> list[bytes]:
        return _all(lambda key: self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read(), keys)

    def list(self) -> int:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix="boto3/")
        return sum(len(page.get("Contents", ())) for page in pages)

    def close(self) -> None:
        self.client.close()


class _S3fs:
    "The client of pandas and Dask"

    def __init__(self, folder: Path, url: str, bucket: str) -> None:
        if importlib.util.find_spec("s3fs") is None:
            raise NotHere("pip install s3fs")
        import s3fs

        self.bucket = bucket
        self.system = s3fs.S3FileSystem(
            endpoint_url=url, skip_instance_cache=True, config_kwargs={"max_pool_connections": THREADS}
        )

    def put(self, paths: list[str]) -> list[str]:
        keys = [f"{self.bucket}/s3fs/{os.path.basename(path)}" for path in paths]
        self.system.put(paths, keys, batch_size=THREADS)
        return keys

    def get(self, keys: list[str]) -> list[bytes]:
        return list(self.system.cat(keys, batch_size=THREADS).values())

    def list(self) -> int:
        self.system.invalidate_cache()
        return len(self.system.find(f"{self.bucket}/s3fs"))

    def close(self) -> None:
        self.system.invalidate_cache()


def _contender(make: Callable[[Path, str, str], Any], work: str, paths: list[str]) -> Prepare:
    def prepare(folder: Path) -> Steps:
        size = sum(os.path.getsize(path) for path in paths)
        with _server() as (url, bucket), contextlib.closing(make(folder, url, bucket)) as client:
            if work == "put":
                yield lambda: client.put(paths)
                assert client.list() == len(paths)
                return
            keys = client.put(paths)
            if work == "get":
                yield lambda: _check(client.get(keys), size)
            else:
                yield lambda: [client.list() for _ in range(5)]
                assert client.list() == len(paths)

    return prepare


def works(material: Material) -> Iterator[Work]:
    "Each client with as many threads"
    paths = material.small[:FILES]
    for work in ("put", "get", "list"):
        contenders = {"ours": _Ours, "boto3": _Boto3, "s3fs": _S3fs}
        prepared = {name: _contender(make, work, paths) for name, make in contenders.items()}
        yield Work(f"bucket {work}", "objects", len(paths) * (5 if work == "list" else 1), prepared)
