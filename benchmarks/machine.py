"What a measurement was made on, as far as it matters to what was measured; nothing that names the machine"

import os
import platform
import sqlite3
import ssl
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime
from pathlib import Path


def _processor() -> str:
    "Its model, where Linux tells it"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _file_system(folder: Path) -> str:
    try:
        told = subprocess.run(["df", "--output=fstype", folder], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.split()[-1]


def _python() -> str:
    "Its version, and whether it was optimised by a profile, which takes a quarter off the time of all that is Python"
    build = (
        "built with" if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "") else "built without"
    )
    if sys.base_prefix == "/usr":  # systems optimise theirs, and some do not tell by what means
        build = "the system's, built with"
    return f"{platform.python_version()} ({build} optimisation)"


def facts(folder: Path) -> dict[str, str]:
    "Date, machine and versions; `folder` is where the measured files are"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "file system": _file_system(folder),
        "Python": _python(),
        "SQLite": sqlite3.sqlite_version,
        "OpenSSL": " ".join(ssl.OPENSSL_VERSION.split()[1:2]),
    }


def told(facts: dict[str, str]) -> str:
    "In a line"
    return ", ".join(f"{name} {value}" for name, value in facts.items())
