"The five verbs of a bucket, and what becomes of them on a bad network. The server is a real one."

import base64
import contextlib
import hashlib
import io
import multiprocessing
import os
import pickle
import re
import socket
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from s3 import CREDENTIALS, ENDPOINT, Proxy, free_port

from cjm_media_storage import bucket as room
from cjm_media_storage.bucket import PART, Bucket, open_key
from cjm_media_storage.errors import (
    AccessRefused,
    AfterFork,
    MissingExtra,
    NoSuchBucket,
    StoreClosed,
    StoreUnavailable,
)

HASTY = {"request_timeout": 2.0, "retry_timeout": 0.3}


@pytest.fixture
def bucket(s3):
    with closing(Bucket(f"s3://{s3.new_bucket()}/films", retry_timeout=5.0)) as bucket:
        yield bucket


def pages(bucket, folder=""):
    return [stat.key for page in bucket.scan(folder) for stat in page]


def test_an_object_is_created_once(bucket):
    assert bucket.create("a/b", b"first") and not bucket.create("a/b", b"second")
    assert bucket.read("a/b") == b"first" and bucket.stat("a/b").size == 5 and bucket.stat("a/c") is None
    assert bucket.create("empty", b"") and bucket.read("empty") == b"" and bucket.stat("empty").size == 0
    with pytest.raises(FileNotFoundError, match="films/a/c"):
        bucket.read("a/c")


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART + 5])
def test_a_body_of_any_size_is_uploaded_and_read_in_parts(bucket, size):
    content = os.urandom(size)
    bucket.upload("film", iter([content[:10], content[10:]]), size)
    assert bucket.stat("film").size == size and b"".join(bucket.chunks("film")) == content == bucket.read("film")
    assert all(len(part) <= PART for part in bucket.chunks("film"))
    if size > 2:
        assert bucket.read("film", size - 2, 10) == content[-2:]


def test_what_the_parts_raise_aborts_the_upload(bucket, s3):
    seen = []

    def parts():
        for _ in range(4):
            yield bytes(PART)
        seen.extend(s3.uploads(bucket.name))
        raise LookupError("these are not the bytes that were expected")

    with pytest.raises(LookupError, match="not the bytes"):
        bucket.upload("film", parts(), 5 * PART)
    assert seen == ["films/film"] and s3.uploads(bucket.name) == [] == s3.keys(bucket.name)


def test_copy_and_delete(bucket, monkeypatch):
    bucket.create("a", b"poster")
    bucket.copy("a", "b/c")
    assert bucket.read("b/c") == b"poster"
    with pytest.raises(FileNotFoundError):
        bucket.copy("nothing", "d")
    monkeypatch.setattr(room, "COPY_LIMIT", 3)  # as with more than 5 GiB, which the server refuses to copy
    bucket.copy("a", "large")
    assert bucket.read("large") == b"poster"
    bucket.delete(["a", "never there", "large"])
    bucket.delete([])
    assert pages(bucket) == ["b/c"]


def test_a_listing(bucket, monkeypatch):
    monkeypatch.setattr(room, "PAGE", 3)
    names = [f"assets/{n:02x}/x" for n in range(10)] + ["actors/00/y", "loose"]
    for name in names:
        bucket.create(name, b"1")
    assert pages(bucket) == sorted(names) and pages(bucket, "assets/03") == ["assets/03/x"]
    assert pages(bucket, "assets/0") == [] == pages(bucket, "nowhere")  # whole steps only
    assert bucket.folders() == ["actors", "assets"]


def test_a_file_asks_for_what_is_read(bucket, monkeypatch):
    content = os.urandom(3 << 20)
    bucket.upload("film", iter([content]), len(content))
    asked = []
    monkeypatch.setattr(Bucket, "read", lambda self, *args, read=Bucket.read: asked.append(args) or read(self, *args))
    with open_key(bucket, bucket.stat("film")) as file:
        assert isinstance(file, io.BufferedReader) and file.read(3) == content[:3]
        file.seek(-4, os.SEEK_END)
        assert file.read() == content[-4:]
        with pytest.raises(ValueError):
            file.seek(-1)
    assert sum(length for _, _, length in asked) < 1.5 * (1 << 20)


# ---- a bad network


def test_fault_66_a_missing_bucket(s3, tmp_path):
    with closing(Bucket("s3://nobody-made-this", **HASTY)) as bucket:
        for ask in (
            lambda: bucket.create("a", b""),
            lambda: bucket.upload("a", iter([b"1"]), 1),
            lambda: bucket.read("a"),
            lambda: list(bucket.scan()),
            lambda: bucket.delete(["a"]),
        ):
            with pytest.raises(NoSuchBucket, match="Make the bucket"):
                ask()


def test_fault_66_a_server_that_is_not_there(s3):
    with closing(Bucket("s3://films", endpoint=f"http://127.0.0.1:{free_port()}", **HASTY)) as bucket:
        for ask in (lambda: bucket.create("a", b""), lambda: bucket.stat("a"), lambda: list(bucket.scan())):
            with pytest.raises(StoreUnavailable, match="s3://films is unavailable"):
                ask()


def test_fault_66_a_server_that_never_answers(s3):
    with closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with closing(Bucket("s3://films", endpoint=endpoint, request_timeout=0.3, retry_timeout=0.1)) as bucket:
            with pytest.raises(StoreUnavailable):
                bucket.stat("a")
            with pytest.raises(StoreUnavailable):
                bucket.create("a", b"1")


@pytest.fixture
def answers(s3):
    "A server that gives every request the next of these answers, and then what the real one does"
    given, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                status, code = given.pop(0) if given else (0, "")
            text, headers = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), {}
            if not status:
                status, text, headers = s3.pass_on(self.command, self.path, body, self.headers)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(text)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text if self.command != "HEAD" else b"")

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    given_url = f"http://127.0.0.1:{server.server_port}"
    yield given, given_url
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_fault_66_refused_credentials(s3, answers, code):
    "The server of the tests takes any secret, so this one says what Amazon says of a wrong one"
    given, url = answers
    with closing(Bucket("s3://films", endpoint=url, **HASTY)) as bucket:
        for ask in (lambda: bucket.create("a", b""), lambda: bucket.read("a"), lambda: list(bucket.scan())):
            given[:] = [(403, code)]
            with pytest.raises(AccessRefused, match="AWS_SECRET_ACCESS_KEY") as e:
                ask()
            assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in str(e.value) + str(e.value.__cause__)


def test_fault_67_errors_of_the_server_are_asked_again(s3, answers):
    given, url = answers
    name = s3.new_bucket()
    with closing(Bucket(f"s3://{name}", endpoint=url, retry_timeout=10.0)) as bucket:
        given[:] = [(503, "SlowDown"), (500, "InternalError")]
        assert bucket.create("a", b"poster") and not given
        for ask, answer in (
            (lambda: bucket.read("a"), b"poster"),
            (lambda: bucket.read("a", 2, 3), b"ste"),
            (lambda: bucket.stat("a").size, 6),
            (lambda: pages(bucket), ["a"]),
            (lambda: bucket.folders(), []),
            (lambda: bucket.copy("a", "b"), None),
            (lambda: bucket.delete(["a"]), None),
            (lambda: bucket.upload("film", iter([bytes(PART), b"1"]), PART + 1), None),
        ):
            given[:] = [(503, "SlowDown"), (429, "SlowDown")]
            assert ask() == answer and not given
        assert pages(bucket) == ["b", "film"] and bucket.stat("film").size == PART + 1


def test_fault_67_an_answer_that_is_cut_off_is_no_shorter_object(s3, bucket, monkeypatch):
    "Half of the bytes is an error, or all of them at the second try"
    bucket.create("a", content := os.urandom(200_000))
    cut = threading.Event()

    def answers(self, here, there):
        with contextlib.suppress(OSError):
            while data := there.recv(1 << 16):
                here.sendall(data[:2000] if len(data) > 2000 and not cut.is_set() else data)
                if len(data) > 2000 and not cut.is_set():
                    break
        self._end(here, there)

    monkeypatch.setattr(Proxy, "_answers", answers)
    with (
        closing(Proxy(s3.url, every=10**9)) as proxy,
        closing(Bucket(bucket.url, endpoint=proxy.url, **HASTY)) as through,
    ):
        for read in (lambda: through.read("a"), lambda: through.read("a", 0, 200_000)):
            cut.clear()
            with pytest.raises(StoreUnavailable):
                read()
            cut.set()
            assert read() == content


def test_fault_67_one_request_in_twenty_is_dropped(s3):
    with (
        closing(Proxy(s3.url)) as proxy,
        closing(Bucket(f"s3://{s3.new_bucket()}", endpoint=proxy.url, retry_timeout=10.0)) as bucket,
    ):
        for n in range(100):
            try:
                bucket.create(f"{n}", b"%d" % n)
            except StoreUnavailable:  # nobody knows whether it was obeyed; asking again is right in either case
                bucket.create(f"{n}", b"%d" % n)
        assert proxy.dropped >= 5
        assert [bucket.read(f"{n}") for n in range(100)] == [b"%d" % n for n in range(100)]


def test_the_server_is_given_a_checksum(s3, monkeypatch):
    monkeypatch.setattr(Proxy, "_is_time", lambda self: False)
    with closing(Proxy(s3.url)) as proxy:
        name = s3.new_bucket()
        with closing(Bucket(f"s3://{name}", endpoint=proxy.url)) as bucket:
            bucket.create("a", b"poster")
            bucket.upload("b", iter([bytes(PART + 1)]), PART + 1)
            with closing(Bucket(f"s3://{name}", endpoint=proxy.url, checksum=False)) as other:
                other.create("c", b"for a server that refuses the header")
                assert bucket.read("c") == b"for a server that refuses the header"
    given = re.findall(rb"x-amz-checksum-sha256: (\S+)", b"".join(proxy.heard))
    parts = (b"poster", bytes(PART), bytes(1))
    assert {*given} == {base64.b64encode(hashlib.sha256(part).digest()) for part in parts}


# ---- processes


def _ask(bucket, connection):
    try:
        connection.send(bucket.create("from a child", b"1"))
    except Exception as e:
        connection.send(f"{type(e).__name__}: {e}")


@pytest.mark.skipif(sys.platform != "linux", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told(bucket):
    "Without the guard it would hang for ever"
    bucket.create("first", b"")
    here, there = multiprocessing.Pipe()
    fresh = Bucket(bucket.url)  # also one that was never used: what hangs is the client as a whole
    for one in (bucket, fresh):
        child = multiprocessing.get_context("fork").Process(target=_ask, args=(one, there))
        child.start()
        assert here.poll(30)
        assert here.recv().startswith(AfterFork.__name__)
        child.join()
    here.close(), there.close()


def test_a_spawned_child_goes_on(bucket, program):
    text = """
        import pickle, sys

        bucket = pickle.loads(bytes.fromhex(sys.argv[1]))
        print(bucket.create("from a child", b"1"))
        bucket.close()
    """
    assert program(text, pickle.dumps(bucket).hex()) == "True" and bucket.read("from a child") == b"1"


def test_a_pickle_has_the_options_and_no_credentials(bucket, monkeypatch):
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    pickled = pickle.dumps(bucket)
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode() not in pickled
    assert pickle.loads(pickled).options == bucket.options


def test_after_close(bucket):
    bucket.close()
    with pytest.raises(StoreClosed):
        bucket.stat("a")


def test_without_the_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(MissingExtra, match=r"cjm-media-storage\[s3\]"):
        Bucket("s3://films").stat("a")


@pytest.mark.parametrize(
    "url", ["http://films", "s3:///x", "s3://u:p@films", "s3://films?x=1", "s3://films/a//b", "s3://"]
)
def test_urls_that_are_none_of_ours(url):
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        Bucket(url)
