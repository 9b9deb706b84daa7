"What a test leaves behind in the process that runs it: open descriptors, and threads"

import gc
import os
import threading
import time
from collections import Counter

PATIENCE = 20  # Seconds for a thread that was told to end


def descriptors():
    "What is open, by what it leads to, and how often; nothing where the system does not tell"
    found = Counter()
    for fd in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            found[os.readlink(f"/proc/self/fd/{fd}")] += 1
        except FileNotFoundError:
            continue  # the listing itself
    return found


class Before:
    "What there is before a test"

    def __init__(self):
        self.descriptors, self.threads = descriptors(), set(threading.enumerate())

    def opened(self):
        "Descriptors that are left, in words"
        now = descriptors()
        if now.total() <= self.descriptors.total():
            return []
        return [f"{count} open: {target}" for target, count in sorted((now - self.descriptors).items())]

    def started(self):
        "Threads that are left"
        return [thread for thread in threading.enumerate() if thread not in self.threads]

    def left(self):
        "All that is left, in words; garbage is collected, and threads that are about to end are waited for, if need be"
        if self.opened() or self.started():
            gc.collect()
            for thread in self.started():
                thread.join(PATIENCE)
            self._wait_for_sockets()
        return self.opened() + [f"a thread: {thread}" for thread in self.started()]

    def _wait_for_sockets(self):
        "The client of a bucket closes its connections on threads of its own, a moment after it is dropped"
        pause, until = threading.Event(), time.monotonic() + PATIENCE
        while any(": socket:" in each for each in self.opened()) and time.monotonic() < until:
            pause.wait(0.01)
