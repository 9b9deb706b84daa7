"`python -m benchmarks [names] [--scale tiny|small|full] [--rounds 5] [--json OUT] [--folder WHERE]`"

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks import buckets, floors, hashing, imports, ingest, machine, peers, reads, records, server
from benchmarks.harness import SCALES, Rest, Work, as_json, measure_all, scratch, table
from benchmarks.material import Material, make

GROUPS = {
    "hashing": hashing,
    "ingest": ingest,
    "reads": reads,
    "records": records,
    "imports": imports,
    "server": server,
    "bucket": buckets,
}


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=sys.modules["benchmarks"].__doc__)
    parser.add_argument("names", nargs="*", help=f"of groups ({', '.join(GROUPS)}) or beginnings of works; all if none")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--pause", type=float, default=0, help="seconds before each run that writes, for a disk that tires"
    )
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--folder", help="where to write meanwhile: the disk that is measured")
    return parser.parse_args(given)


def _works(material: Material, names: list[str]) -> Iterator[Work]:
    for group, module in GROUPS.items():
        for work in module.works(material):
            if not names or group in names or any(work.name.startswith(name) for name in names):
                yield work


def main(given: list[str] | None = None) -> None:
    "Measure, print and write"
    arguments, outcomes = _arguments(given), []
    began, scale = time.monotonic(), SCALES[arguments.scale]
    with scratch(arguments.folder) as folder:
        facts, others = machine.facts(folder) | {"floor": floors.kind()}, peers.versions()
        print(machine.told(facts), machine.told(others), sep="\n", flush=True)
        works = _works(make(folder / "sources", scale), arguments.names)
        settle: Callable[[], None] = Rest(folder) if scale.name == "full" else os.sync

        def rest() -> None:
            settle()
            time.sleep(arguments.pause)

        for outcome in measure_all(works, arguments.rounds, folder, rest):
            print("\n".join(table(outcome)), flush=True)
            outcomes.append(as_json(outcome))
        if arguments.pause:
            facts["rest before each run that writes"] = f"{arguments.pause:g} s"
        facts["minutes"] = f"{(time.monotonic() - began) / 60:.1f}"
        print(f"{facts['minutes']} minutes; now all of it is removed", flush=True)
        if arguments.json:
            told = {"machine": facts, "peers": others, "scale": asdict(scale), "rounds": arguments.rounds}
            arguments.json.write_text(json.dumps(told | {"works": outcomes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
