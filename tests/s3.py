"A real server of S3 on this machine, for the tests: ministack, started once, with a fresh bucket a test"

import contextlib
import ctypes
import http.client
import importlib.util
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from urllib.parse import quote, urlsplit

START = 30  # Seconds in which a server must answer
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "s3cr3t-of-the-tests", "AWS_REGION": "us-east-1"}
ENDPOINT = "AWS_ENDPOINT_URL"

_numbers = itertools.count()


def why_not():
    "Why there can be no server here; '' if there can"
    missing = [name for name in ("ministack", "obstore") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} cannot be imported: pip install -e '.[dev]'"
    return "" if sys.platform == "linux" else "it is started so that it ends with the tests, which needs Linux"


def _end_with_parent():
    "Have this process killed when the tests are, however that happens"
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: man 2 prctl


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    "A server that is running"

    def __init__(self, port=None, folder=None):
        self.port, self.folder = port or free_port(), folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        "Start it; what was in `folder` is there again"
        own = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port), "SERVICES": "s3", "LOG_LEVEL": "ERROR"}
        if self.folder is not None:
            own |= {"S3_PERSIST": "1", "S3_DATA_DIR": str(self.folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_end_with_parent,
        )
        self._wait()

    def _wait(self):
        "Wait until it answers"
        pause = threading.Event()
        for _ in range(START * 50):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            assert self.process.poll() is None, "the server has ended"
            pause.wait(0.02)
        raise AssertionError("the server does not answer")

    def ask(self, method, path, body=None):
        "A request of no library: status and body"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def pass_on(self, method, path, body, headers):
        "A request that somebody else has made: status, body and headers"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        ours = {"host", "connection", "content-length", "transfer-encoding", "date", "server"}
        try:
            given = {name: value for name, value in headers.items() if name.lower() not in ours}
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            length = {"content-length"} if method == "HEAD" else set()
            told = {name: value for name, value in answer.getheaders() if name.lower() not in ours - length}
            return answer.status, answer.read(), {name.title(): value for name, value in told.items()}
        finally:
            connection.close()

    def new_bucket(self):
        "Make a bucket, and give its name"
        name = f"bucket-{os.getpid()}-{next(_numbers)}"
        status, body = self.ask("PUT", f"/{name}")
        assert status == 200, body
        return name

    def keys(self, bucket):
        "All keys of a bucket"
        keys = []
        while True:
            _, body = self.ask(
                "GET", f"/{bucket}?list-type=2&max-keys=1000&start-after={quote(keys[-1] if keys else '')}"
            )
            found = re.findall("<Key>(.*?)</Key>", body.decode())
            keys += found
            if len(found) < 1000:
                return keys

    def uploads(self, bucket):
        "Keys of the uploads that are neither complete nor aborted"
        _, body = self.ask("GET", f"/{bucket}?uploads")
        return re.findall("<Key>(.*?)</Key>", body.decode())

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


class Proxy:
    "A way to a server on which one request in `every` is dropped, before it is sent or before it is answered"

    def __init__(self, url, every=20):
        self.every, self.dropped, self._count = every, 0, 0
        self.heard = []  # What was said, a piece an item
        self._there = (urlsplit(url).hostname, urlsplit(url).port)
        self._mutex, self._open, self._threads = threading.Lock(), set(), []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._begin(self._accept)

    def _begin(self, work, *args):
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(self._there)
                with self._mutex:
                    self._open |= {here, there}
                for work in (self._requests, self._answers):
                    self._begin(work, here, there)

    def _requests(self, here, there):
        "What the client says: each request begins with a line that names its method"
        with contextlib.suppress(OSError):
            while data := here.recv(1 << 16):
                self.heard.append(data)
                if re.match(rb"(GET|PUT|POST|HEAD|DELETE) /", data) and self._is_time():
                    if self.dropped % 2:
                        there.sendall(data)  # it is obeyed, and the answer is lost
                    break
                there.sendall(data)
        self._end(here, there)

    def _is_time(self):
        with self._mutex:
            self._count += 1
            self.dropped += self._count % self.every == 0
            return self._count % self.every == 0

    def _answers(self, here, there):
        with contextlib.suppress(OSError):
            while data := there.recv(1 << 16):
                here.sendall(data)
        self._end(here, there)

    def _end(self, *sockets):
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._mutex:
            self._end(*self._open)
        for thread in list(self._threads):
            thread.join()
        for each in self._open:
            each.close()
