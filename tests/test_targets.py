"Which store, object and database is meant."

import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
from commands import PROGRAM

from cjm_media_storage.bucket import Bucket
from cjm_media_storage.errors import AmbiguousHash, CorruptDatabase, InvalidHash, ObjectNotFound
from cjm_media_storage.storage import ContentStore, MediaAnalysisStorage, MediaProcessingStorage, hash_bytes
from cjm_media_storage.targets import (
    InTrash,
    find_object,
    find_trashed,
    namespaces,
    nearest_store,
    open_results,
    open_store,
)
from cjm_media_storage.terminal import BadUse


def test_the_nearest_store(here):
    inner = here / "store" / "assets" / "ab"
    assert nearest_store(here) is None
    ContentStore(here / "store").close()
    inner.mkdir(parents=True)
    assert nearest_store(inner) == nearest_store(here / "store") == here / "store"


def test_no_store_is_made(here, monkeypatch):
    for named in (None, here / "nowhere"):
        with pytest.raises(BadUse):
            open_store(named)
    (here / "films").mkdir()
    (here / "films" / "a.mkv").write_bytes(b"a film")
    with pytest.raises(BadUse, match="is no store"):
        open_store(here / "films")
    assert sorted(path.name for path in here.rglob("*")) == ["a.mkv", "films"]


def two_alike(digits):
    "Contents whose hashes begin with the same digits"
    seen = {}
    for n in range(100_000):
        beginning = hash_bytes(b"%d" % n)[7 : 7 + digits]
        if beginning in seen:
            return seen[beginning], b"%d" % n
        seen[beginning] = b"%d" % n
    raise AssertionError


def test_hashes_by_their_first_digits_also_in_the_trash(store):
    one, other = (store.put(content).hash for content in two_alike(4))
    with pytest.raises(AmbiguousHash) as caught:
        find_object(store, one[7:11])
    assert caught.value.candidates == sorted([one, other])
    for text in (one, one[7:], one[7:20], f" {one[:20]}\n"):
        assert find_object(store, text).hash == one
    with pytest.raises(InvalidHash):
        find_object(store, one[7:10])
    with pytest.raises(ObjectNotFound):
        find_object(store, "0000000")

    store.delete(one)
    assert find_object(store, one[7:11]).hash == other
    with pytest.raises(InTrash, match="trash restore"):
        find_object(store, one)
    assert [item.hash for item in find_trashed(store, one[7:11])] == [one]
    store.delete(other)
    with pytest.raises(AmbiguousHash):
        find_trashed(store, one[7:11])
    with pytest.raises(ObjectNotFound):
        find_trashed(store, "0000000")


def test_an_object_of_two_namespaces_is_one_in_the_trash(store):
    hash = store.put(b"a poster").hash
    store.put(b"a poster", namespace="actors")
    store.delete(hash)
    assert sorted(item.namespace for item in find_trashed(store, hash[7:11])) == ["actors", "assets"]
    assert namespaces(store) == ["actors", "assets"]


def test_databases_of_both_kinds_in_one_file_and_of_none(tmp_path):
    hash = hash_bytes(b"a")
    with MediaAnalysisStorage(tmp_path / "both.db") as analyses:
        analyses.save("a.wav", hash, hash)
    MediaProcessingStorage(tmp_path / "both.db").close()
    with open_results([tmp_path / "both.db"]) as opened:
        assert [type(storage) for storage in opened] == [MediaAnalysisStorage, MediaProcessingStorage]

    for name, content in {"empty.db": b"", "text.db": b"no database at all" * 100}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises((BadUse, CorruptDatabase)), open_results([tmp_path / name]):
            pass
        assert (tmp_path / name).read_bytes() == content
    with sqlite3.connect(tmp_path / "other.db") as con:
        con.execute("CREATE TABLE songs (name)")
    con.close()
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(BadUse, match="was not changed"), open_results([tmp_path / "other.db"]):
        pass
    assert (tmp_path / "other.db").read_bytes() == before
    with pytest.raises(BadUse, match="no file"), open_results([tmp_path / "gone.db"]):
        pass


# ---- a folder whose index is on a server


@pytest.fixture
def posters(here):
    "A folder with some files"
    (here / "posters").mkdir()
    for n in range(3):
        (here / "posters" / f"{n}.jpg").write_bytes(b"poster %d" % n)
    return here / "posters"


def test_a_folder_for_many_machines(command, posters, here, url, monkeypatch):
    "It says itself that its index is elsewhere; where, says the environment, and so does the option of who makes it"
    shared, plain = here / "shared", here / "plain"
    assert command("add", posters, "--store", shared, "--database", url).code == 0
    assert command("add", posters, "--store", plain).code == 0
    done = command("stats", "--store", shared)
    assert done.code == 2 and "MEDIA_STORAGE_DATABASE" in done.err and "on a server, postgresql://" in done.err
    monkeypatch.setenv("MEDIA_STORAGE_DATABASE", url)
    for store in (shared, plain):  # which has its own
        monkeypatch.setenv("MEDIA_STORAGE_STORE", str(store))
        for words in (
            ["verify"],
            ["gc"],
            ["trash", "purge", "--yes"],
            ["doctor"],
            ["snapshot"],
            ["add", posters],
        ):
            assert command(*words).code == 0, (store, words)
    with ContentStore(shared, database=url) as opened, ContentStore(plain) as other:
        assert len(opened) == len(other) > 1
    for words in (["move", here / "new"], ["report", here / "new"]):
        done = command(*words, "--store", shared)
        assert done.code in (1, 2) and "is on a server" in done.err and not (here / "new").exists()


def test_a_folder_has_no_folder_for_an_index(command, posters, here):
    done = command("add", posters, "--store", here / "x", "--database", here / "index")
    assert done.code == 2 and "postgresql://" in done.err and not (here / "x").exists()


# ---- completion


def completed(words, **environment):
    "What the shell would propose for the last word"
    asked = {"_MEDIA_STORAGE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    run = subprocess.run(
        PROGRAM, env={**os.environ, **asked, **environment}, capture_output=True, text=True, timeout=60
    )
    assert not run.stderr
    return run.stdout.split()


def test_the_shell_completes_commands_hashes_and_namespaces(here):
    with ContentStore(here / "store") as store:
        hash = store.put(b"a poster", namespace="actors").hash
    assert completed("media-storage unp") == ["unpublish"]
    assert completed(f"media-storage show {hash[7:9]}", MEDIA_STORAGE_STORE="store") == [hash[7:]]
    assert completed("media-storage ls --store store --namespace a") == ["actors"]
    assert completed(f"media-storage show {hash[7:9]}") == []  # there is no store here
    assert Path("store").is_dir() and os.listdir() == ["store"]


def test_results_on_a_server_are_refused_without_showing_a_password():
    with pytest.raises(BadUse, match="on a server") as caught, open_results([Path("postgresql://ann:secret@db/media")]):
        pass
    assert "secret" not in str(caught.value)


# ---- stores in buckets


@pytest.fixture(params=["folder", "server"])
def bucket(request, s3, monkeypatch, tmp_path_factory):
    "The URL of a place in a bucket, which the environment names with its index"
    url = f"s3://{s3.new_bucket()}/library"
    index = tmp_path_factory.mktemp("index") if request.param == "folder" else request.getfixturevalue("url")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
    monkeypatch.setenv("MEDIA_STORAGE_DATABASE", str(index))
    return url


def test_the_commands_of_a_store_work_on_one_in_a_bucket(command, here, bucket, monkeypatch):
    monkeypatch.setenv("MEDIA_STORAGE_STORE", bucket)
    (here / "films").mkdir()
    for n in range(3):
        (here / "films" / f"{n}.mkv").write_bytes(b"film %d" % n)
    done = command("add", "films", "--json")
    assert (done.code, done.one["new"], done.one["store"]) == (0, 3, bucket), done.err
    hash, other, _ = [hash_bytes(b"film %d" % n)[7:] for n in range(3)]
    assert command("stats", "--json").one["root"] == bucket
    assert command("stats", "--json").one["namespaces"] == ["assets"]
    assert command("show", hash[:8], "--json").one["path"] == f"assets/{hash[:2]}/{hash[2:4]}/{hash}.mkv"
    assert str(here) not in command("show", hash).out.partition("source")[0]
    assert command("cat", hash[:8]).raw == b"film 0" and command("find", "films").code == 0
    assert command("get", hash, here / "out.mkv").code == 0 and (here / "out.mkv").read_bytes() == b"film 0"
    assert command("rm", other).code == 0 and command("trash", "restore", other).code == 0
    assert command("gc", "--json").code == 0 and command("snapshot").code == 0
    assert command("doctor", "--json").lines[-1]["what"] != "store"
    assert sorted(path.name for path in here.iterdir()) == ["films", "out.mkv"]  # no folder that is called s3:


def test_the_exit_code_of_a_shard_in_a_bucket(command, here, bucket, s3, monkeypatch):
    "As a cluster asks, which runs one command for each"
    with ContentStore(bucket, database=os.environ["MEDIA_STORAGE_DATABASE"]) as store:
        hashes = [outcome.result.hash[7:] for outcome in store.put_many(b"film %d" % n for n in range(20))]
        key = store.get(f"sha256:{hashes[0]}").path
    s3.ask("PUT", f"/{bucket[5:]}/{key}", b"FILM 0")
    for prefix in {hash[:2] for hash in hashes}:
        done = command("verify", "--store", bucket, "--record", "--json", "--prefix", prefix)
        assert done.code == (prefix == hashes[0][:2]), done.err
        assert done.one["checked"] == sum(hash.startswith(prefix) for hash in hashes)
    assert command("verify", "--store", bucket, "--prefix", "xy").code in (1, 2)
    (here / "donor").write_bytes(b"film 0")
    assert command("repair", "--store", bucket, "--apply", "--donor", here).code == 0
    assert command("verify", "--store", bucket).code == 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    hasty = Bucket.__init__.__kwdefaults__ | {"request_timeout": 1.0, "retry_timeout": 0.1}
    monkeypatch.setattr(Bucket.__init__, "__kwdefaults__", hasty)
    done = command("verify", "--store", bucket, "--prefix", hashes[0][:2])
    assert done.code == 1 and "unavailable" in done.err


def test_a_store_in_a_bucket_is_never_made_and_its_index_must_be_named(command, here, s3, monkeypatch):
    bucket = f"s3://{s3.new_bucket()}/library"
    monkeypatch.delenv("MEDIA_STORAGE_DATABASE", raising=False)
    for words in (["add", here], ["verify"]):
        done = command(*words, "--store", bucket)
        assert done.code == 2 and "MEDIA_STORAGE_DATABASE" in done.err
    monkeypatch.setenv("MEDIA_STORAGE_DATABASE", str(here / "index"))
    done = command("verify", "--store", bucket)
    assert done.code == 1 and "there is no store" in done.err
    monkeypatch.setenv("MEDIA_STORAGE_DATABASE", "postgresql+psycopg://ann:hunter2@db/media")
    done = command("add", here, "--store", bucket)
    assert done.code == 2 and "another kind" in done.err and "hunter2" not in done.err
    for words in (["move", here / "x"], ["rebuild"], ["report", here / "x.html"]):
        done = command(*words, "--store", bucket)
        assert done.code == 2 and "in a folder" in done.err
    assert not any(here.iterdir())
