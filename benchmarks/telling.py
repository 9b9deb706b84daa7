"What was measured, as text for the pages: all that they say of speed is computed from the files in `results`"

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
Told = dict[str, Any]  # As it stands in a file


def results(name: str) -> Told:
    "What one of the commands wrote"
    told: Told = json.loads((RESULTS / f"{name}.json").read_text())
    return told


def machine(told: Told) -> str:
    "On what it was measured, and when"
    facts = dict(told["machine"])
    date, minutes = facts.pop("date"), facts.pop("minutes")
    listed = ", ".join(f"{name} {value}" for name, value in facts.items())
    return f"{date}, in {minutes} minutes, on a machine with {listed}."


def peers(told: Told) -> str:
    "Who was measured along, and who was not there"
    return ", ".join(f"{name} {version}" for name, version in told["peers"].items())


def _table(titles: Sequence[str], rows: Iterator[Sequence[str]], right: int) -> str:
    "Columns from number `right` on hold numbers"
    rule = ["---" if n < right else "---:" for n in range(len(titles))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rule, *rows))


def _number(value: float) -> str:
    "With three digits that count"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


# ---- ratios


def rate(work: Told, contender: str) -> float | None:  # None if it is not there
    "Units a second, in the median round"
    wall = work["contenders"][contender]["wall"]
    return work["count"] / statistics.median(wall) if wall else None


def targets(told: Told) -> Iterator[tuple[Told, Told]]:
    "Each target that could be measured, with its work"
    return ((work, target) for work in told["works"] for target in work["targets"] if target["measured"] is not None)


def reached(target: Told, by: str = "measured") -> bool:  # Or 'also': by processes
    "Is our rate what it should be?"
    return bool(target[by] >= target["wanted"])


def _measured(target: Told, by: str) -> str:
    if target[by] is None:
        return ""
    return f"{target[by]:.2f}" if reached(target, by) else f"**{target[by]:.2f}, missed**"


def targets_table(told: Told) -> str:
    "Our rates beside what they should be"
    rows = (
        (
            work["name"] if target is work["targets"][0] else "",
            target["other"],
            f"{target['wanted']:.2f}",
            _measured(target, "measured"),
            _measured(target, "also"),
            "" if target["bare"] is None else f"{target['bare']:.2f}",
        )
        for work, target in targets(told)
    )
    return _table(("work", "our rate, divided by that of", "wanted", "measured", "by processes", "bare calls"), rows, 2)


def rates_table(told: Told) -> str:
    "All contenders of all works"
    return _table(("work", "who", "a second", "± %", "CPU µs each", "rounds"), _rates(told), 2)


def beside_table(told: Told) -> str:
    "Our rate and CPU time of each work, divided by those of each other contender"
    return _table(("work", "beside", "rate", "CPU time"), _beside(told), 2)


def _beside(told: Told) -> Iterator[Sequence[str]]:
    for work in told["works"]:
        title, ours = f"{work['name']} ({work['note']})" if work["note"] else work["name"], rate(work, "ours")
        for name, runs in work["contenders"].items():
            if name != "ours" and ours and (speed := rate(work, name)):
                cpu = statistics.median(work["contenders"]["ours"]["cpu"]) / statistics.median(runs["cpu"])
                yield title, name, _number(ours / speed), _number(cpu)
                title = ""


def _rates(told: Told) -> Iterator[Sequence[str]]:
    for work in told["works"]:
        note = f" ({work['note']})" if work["note"] else ""
        title = f"{work['name']}: {work['count']:,.0f} {work['unit']}{note}"
        for name, runs in work["contenders"].items():
            speed = rate(work, name)
            if speed is None:
                yield title, name, f"not here: {runs['missing']}", "", "", ""
            else:
                cpu = 1e6 * statistics.median(runs["cpu"]) / work["count"]
                yield (
                    title,
                    f"**{name}**" if name == "ours" else name,
                    _number(speed),
                    f"{50 * (max(runs['wall']) - min(runs['wall'])) / statistics.median(runs['wall']):.0f}",
                    _number(cpu),
                    str(len(runs["wall"])),
                )
            title = ""


# ---- growth


def times(work: Told) -> list[float]:
    "Microseconds of one object, row or call, at each size"
    return [1e6 * run["seconds"] / run["count"] for run in work["runs"]]


def memory(work: Told) -> float:
    "MB at most, at any size"
    return float(max(run["memory"] for run in work["runs"]) / 1e6)


def growth_table(told: Told) -> str:
    "Time of one item at each size, how it grew, and memory"
    sizes = [f"{size:,}" for size in told["sizes"]]
    rows = (
        (
            work["name"],
            *(f"{_number(each)}" for each in times(work)),
            work["unit"],
            f"{work['factor']:.2f}",
            f"{work['cpu_factor']:.2f}",
            f"{memory(work):.0f}",
            "; ".join(work["faults"]) or "none",
        )
        for work in told["works"]
        if len(work["runs"]) == len(sizes)
    )
    return _table(("work", *sizes, "µs each", "growth", "of CPU", "MB at most", "faults"), rows, 1)


def large_table(told: Told) -> str:
    "One large file"
    rows = (
        (work["name"], f"{1e6 / times(work)[0]:,.0f}", f"{memory(work):.0f}")
        for work in told["works"]
        if work["unit"] == "MiB"
    )
    return _table(("one large file", "MiB a second", "MB of memory at most"), rows, 1)


# ---- the three figures that matter


def _named(told: Told, beginning: str) -> Told:
    "The last work whose name begins so"
    work: Told = [work for work in told["works"] if work["name"].startswith(beginning)][-1]
    return work


def _ratio(work: Told, beginning: str, by: str = "measured") -> str:
    "The measured ratio to the contender whose name begins so"
    found = (target for target in work["targets"] if target["other"].startswith(beginning))
    measured = next(found, {by: None})[by]
    return "(not measured)" if measured is None else f"{measured:.2f}" if measured < 2 else f"{measured:.1f}"


def figures(ratios: Told, scale: Told) -> str:
    "What a reader of the README wants to know"
    put = next(work for work in ratios["works"] if work["name"] == "put_many")
    hit, found = _named(ratios, "get_cached, hit"), _named(scale, "exists, hit")
    size = ratios["scale"]["file_size"] // 1000
    floor, peer, seed = _ratio(put, "floor"), _ratio(put, "disk-objectstore, loose"), _ratio(hit, "seed")
    by_processes = _ratio(put, "floor", "also")
    most = max(memory(_named(scale, name)) for name in ("list", "verify"))
    return (
        f"- `put_many` stores {put['count']:,} files of {size} kB, durable when they are reported,"
        f" at {_number(rate(put, 'ours') or 0)} files a second: {floor} times as fast as C code that syncs alike and"
        f" keeps no index, and {peer} times as fast as disk-objectstore. By {put['also'].rpartition(', ')[2]} it is"
        f" {by_processes} times as fast as that C code.\n"
        f"- `get_cached` answers from {hit['name'].rpartition(', ')[2]} in {1e6 / (rate(hit, 'ours') or 1):.0f} µs:"
        f" {seed} times as fast as the code that this library replaces.\n"
        f"- Among {scale['sizes'][-1]:,} objects, one is looked up in {times(found)[-1]:.0f} µs, {found['factor']:.1f}"
        f" times what it takes among {scale['sizes'][0]:,}; all are listed and verified in {most:.0f} MB of memory."
    )
