"Second programs for the tests: fresh interpreters, in which a warning is an error, as it is here"

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

TIMEOUT = 120  # Seconds until a program that hangs is a failure


class Program:
    "Starts programs whose text is kept in a folder, so that they may spawn processes of their own"

    def __init__(self, folder):
        self.folder, self.count = folder, 0

    def start(self, text, *args):
        "Start a program; it talks through its standard input and output"
        self.count += 1
        path = self.folder / f"program_{self.count}.py"
        path.write_text(dedent(text))
        command = [sys.executable, "-W", "error", str(path), *map(str, args)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, text=True, env=environment, **pipes)

    def end(self, process, told=""):
        "Tell a program something, wait for its end, and give what it printed"
        out, err = process.communicate(told, timeout=TIMEOUT)
        assert process.returncode == 0 and not err, err or f"it ended with {process.returncode}"
        return out.strip()

    def __call__(self, text, *args):
        "Run a program to its end, and give what it printed"
        return self.end(self.start(text, *args))
