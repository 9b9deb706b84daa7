"`python -m benchmarks [names] [--scale tiny|small|full] [--rounds 5] [--json OUT] [--folder WHERE]`"

import argparse
import json
import os
import platform
import sqlite3
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import buckets, floors, hashing, imports, ingest, reads, records
from benchmarks.harness import SCALES, Outcome, Work, as_json, measure_all, scratch, table
from benchmarks.material import Material, make

GROUPS = {
    "hashing": hashing,
    "ingest": ingest,
    "reads": reads,
    "records": records,
    "imports": imports,
    "bucket": buckets,
}


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=sys.modules["benchmarks"].__doc__)
    parser.add_argument("names", nargs="*", help=f"of groups ({', '.join(GROUPS)}) or beginnings of works; all if none")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--folder", help="where to write meanwhile: the disk that is measured")
    return parser.parse_args(given)


def _works(material: Material, names: list[str]) -> Iterator[Work]:
    for group, module in GROUPS.items():
        for work in module.works(material):
            if not names or group in names or any(work.name.startswith(name) for name in names):
                yield work


def _machine() -> dict[str, str]:
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "openssl": ssl.OPENSSL_VERSION}
    return {**versions, "kernel": platform.release(), "cores": str(os.cpu_count()), "floor": floors.kind()}


def main(given: list[str] | None = None) -> list[Outcome]:
    "Measure, print and write"
    arguments, outcomes = _arguments(given), []
    print(", ".join(f"{name} {value}" for name, value in _machine().items()), flush=True)
    with scratch(arguments.folder) as folder:
        works = _works(make(folder / "sources", SCALES[arguments.scale]), arguments.names)
        for outcome in measure_all(works, arguments.rounds, folder):
            print("\n".join(table(outcome)), flush=True)
            outcomes.append(outcome)
    if arguments.json:
        told = {"machine": _machine(), "scale": arguments.scale, "works": [as_json(each) for each in outcomes]}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    return outcomes


if __name__ == "__main__":
    main()
