"A real browser without a window, driven by its DevTools protocol over a pipe"

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from base64 import b64decode
from itertools import count

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT = 60  # Seconds until a browser that hangs is a failure
OPTIONS = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--autoplay-policy=no-user-gesture-required",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "about:blank",
]


class Browser:
    "One page in a browser, and what happened in it: `said` by its console and its errors, `requested` from elsewhere"

    def __init__(self):
        self._numbers, self._rest, self.events = count(1), b"", []
        self._folder = tempfile.mkdtemp()
        theirs, self._out = os.pipe()
        self._in, back = os.pipe()
        sandbox = ["--no-sandbox"] if os.getuid() == 0 else []  # a browser of root refuses to have one
        command = [CHROMIUM, f"--user-data-dir={self._folder}", *sandbox, *OPTIONS]
        # The browser reads from descriptor 3 and writes to 4.
        shell = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{back}', "bash", *command]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(shell, pass_fds=(theirs, back), start_new_session=True, **quiet)
        os.close(theirs)
        os.close(back)
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _receive(self, until):
        while b"\0" not in self._rest:
            if not select.select([self._in], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise ConnectionError("the browser ended")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def call(self, method, **params):
        "Call a method of the protocol; events that come meanwhile are kept"
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        message = json.dumps({"id": number, "method": method, "params": params, **session}).encode() + b"\0"
        while message:
            message = message[os.write(self._out, message) :]
        until = time.monotonic() + TIMEOUT
        while (answer := self._receive(until)).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait(self, event):
        "Wait for an event"
        until = time.monotonic() + TIMEOUT
        while not any(each.get("method") == event for each in self.events):
            self.events.append(self._receive(until))

    def open(self, path):
        "Show a file"
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("Page.loadEventFired")

    def ask(self, script):
        "The value of an expression in the page; a promise is waited for"
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def look(self, width=1200, height=900, scheme="light"):
        "Change the window, and the colours that its user prefers"
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, key, text=""):
        "Press and release a key"
        code = {"Tab": 9, "Enter": 13, "Escape": 27}.get(key, 0)
        facts = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **facts, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def picture(self, **options):
        "A screenshot"
        return b64decode(self.call("Page.captureScreenshot", **options)["data"])

    @property
    def said(self):
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [each["params"] for each in self.events if each.get("method") in kinds]

    @property
    def requested(self):
        "Addresses that the page asked for, besides the page itself"
        sent = [each["params"] for each in self.events if each.get("method") == "Network.requestWillBeSent"]
        urls = [each["request"]["url"] for each in sent if each["type"] != "Document"]
        return [url for url in urls if not url.startswith("data:")]

    def close(self):
        for fd in (self._in, self._out):
            os.close(fd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
