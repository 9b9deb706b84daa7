"A file system of its own whose power can be cut: it is shut down without flushing its log, and mounted again"

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

KINDS = ["ext4", "xfs"]
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # FS_IOC_SHUTDOWN, with the flag of xfs_fs.h and ext4.h
MEMORY = Path("/dev/shm")  # Where a disk is kept, if it can be: what counts is what reached it


class CannotMount(Exception):
    "There is no such file system here, and why"


class Powered:
    "A file system that is mounted at `folder`"

    def __init__(self, kind, image, folder):
        self.folder, self.command = folder, ["mount", "-o", "loop", image, folder]
        if os.name != "posix" or os.geteuid() != 0:
            raise CannotMount("only root can mount a file system to cut off")
        make = shutil.which(f"mkfs.{kind}")
        if make is None:
            raise CannotMount(f"mkfs.{kind} is not installed")
        os.truncate(image, 400 << 20)
        subprocess.run([make, "-q", image], check=True)
        if subprocess.run(self.command, capture_output=True).returncode:
            raise CannotMount(f"{kind} cannot be mounted here")

    def cut_power(self):
        "Nothing that was not written until now will ever be"
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("i", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def mount_again(self):
        "As after the power is back"
        subprocess.run(["umount", self.folder], check=True)
        subprocess.run(self.command, check=True)


@contextmanager
def powered(kind, folder):
    "A fresh file system at `folder / 'mounted'`, for the length of a block"
    (folder / "mounted").mkdir()
    with tempfile.NamedTemporaryFile(dir=MEMORY if MEMORY.is_dir() else folder) as image:
        disk = Powered(kind, image.name, folder / "mounted")
        try:
            yield disk
        finally:
            subprocess.run(["umount", disk.folder], check=True)
