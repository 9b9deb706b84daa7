"""Published plugins, each in an environment of its own, and the worker of their host that runs them.

The environments see what is installed here (the host and its interfaces); the plugin comes from the package index.
"""

import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import sysconfig
from contextlib import closing, contextmanager

import pytest

# This line, in a file of the environment, has a released plugin find our storages where it looks for upstream's.
IN_PLACE_OF_UPSTREAM = (
    "import sys, cjm_media_storage.storage as ours; sys.modules['cjm_media_plugin_system.storage'] = ours\n"
)
DATA = "CJM_DATA_DIR", "CJM_PLUGIN_DATA_DIR"  # Where a plugin keeps its files, in the words of two generations
TIMEOUT = 60  # Seconds for an answer


class Environment:
    "A virtual environment with a plugin in it"

    def __init__(self, folder, *requirements):
        self.folder = folder
        if importlib.util.find_spec("pip") is None:
            pytest.skip("pip is not installed here")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        [self.packages] = folder.glob("lib/python*/site-packages")
        self.switch = self.packages / "cjm-media-storage.pth"
        pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--retries=1", "--timeout=15"]
        command = [sys.executable, *pip, "--no-deps", "--no-compile", f"--target={self.packages}", *requirements]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            pytest.skip(f"the package index gives no {requirements[0]}: {run.stderr.strip().splitlines()[-1]}")
        # Named so that it is read first, and our storages can be imported when the next file is read.
        (self.packages / "a.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")

    def use_ours(self):
        "Put our storages in the place of upstream's"
        self.switch.write_text(IN_PLACE_OF_UPSTREAM)

    def use_upstreams(self):
        "Leave the plugin with the storages that it was made for, in their last release"
        self.switch.unlink(missing_ok=True)

    @contextmanager
    def worker(self, plugin, data):
        "Run the plugin `module:class` in a worker, as its host does; `data` is where the host keeps the plugins' files"
        module, name = plugin.split(":")
        command = [self.folder / "bin" / "python", "-m", "cjm_plugin_system.core.worker", "--module", module]
        command += ["--class", name, "--fd"]
        environment = os.environ | dict.fromkeys(DATA, str(data))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            fd, port = listening.fileno(), listening.getsockname()[1]
            process = subprocess.Popen([*command, str(fd)], pass_fds=[fd], env=environment)
        with process:
            try:
                yield Worker(port)
            finally:
                process.terminate()  # as its host does


class Worker:
    "Asks a worker, as its host does; the socket takes questions before the worker is up"

    def __init__(self, port):
        self.port = port
        assert self._post("/initialize", {})[0] == 200

    def _post(self, path, body):
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)) as connection:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            accounts = json.loads(response.headers.get("X-CJM-Accounts", "[]"))
            return response.status, json.load(response), accounts

    def execute(self, **arguments):
        "What the plugin answers, and the worker's account of it for the host's journal"
        status, answer, accounts = self._post("/execute", {"args": [], "kwargs": arguments})
        assert status == 200, answer
        return answer, accounts

    def failure(self, **arguments):
        "What the plugin fails with"
        status, answer, _ = self._post("/execute", {"args": [], "kwargs": arguments})
        assert status == 500, answer
        return json.dumps(answer)
