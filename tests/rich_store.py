"A store with a history, for pages that tell of one: rows as many programs would have left them"

import random
import time
from pathlib import Path

from cjm_media_storage.analysis import MediaAnalysisRow, MediaAnalysisStorage
from cjm_media_storage.content import ContentStore
from cjm_media_storage.demo import run
from cjm_media_storage.maintenance import verify
from cjm_media_storage.media import make_png
from cjm_media_storage.processing import MediaProcessingRow, MediaProcessingStorage
from cjm_media_storage.publishing import Library

TITLES = [
    "Night Train",
    "Harbour Lights",
    "The Long Winter",
    "Paper Boats",
    "North Wind",
    "Glass Garden",
    "Low Tide",
    "Red Kite",
]
KINDS = {"mkv": 2_000_000_000, "wav": 60_000_000, "jpg": 900_000, "png": 400_000, "mp4": 700_000_000, "srt": 90_000}
DAY = 86400


def fill(folder: Path, rows: int = 3000, now: float | None = None) -> tuple[Path, list[Path]]:
    "Make a store and files of results in `folder`: those of the demo, and `rows` rows about files that are not there"
    now, chance = time.time() if now is None else now, random.Random(7)
    run(folder, lambda line: None)
    results = [folder / "results" / name for name in ("analysis.db", "processing.db")]
    with ContentStore(folder / "store") as store:
        for n, title in enumerate(TITLES):
            colour = (40 + 25 * n, 90 + 40 * (n % 3), 200 - 20 * n)
            for provider in ("TMDB", "Fanart.tv"):
                source = f"https://{provider.lower()}/posters/{title.lower().replace(' ', '-')}.png"
                poster = store.put(make_png(colour), source=source, provider=provider, owner=f"movie:{n}").hash
            Library(store, folder / "movies").publish(poster, f"{title} ({2001 + n})/poster.png")
        verify(store, record=True)
        _age(store, chance, rows, now)
        for n in range(4):
            store.delete(store.put(f"draft {n}".encode(), source=f"/films/drafts/scene-{n}.srt").hash)
    _results(results, chance, rows, now)
    return folder / "store", results


def _age(store, chance, rows, now):
    "Rows of a year, below those that are there"
    objects, sources, needs = [], [], []
    for n in range(rows):
        kind = chance.choice(list(KINDS))
        at, name = now - 400 * DAY + 380 * DAY * (n / rows) ** 0.7, chance.choice(TITLES)
        size = int(KINDS[kind] * chance.uniform(0.2, 1.6))
        space = "assets" if n % 9 else "actors"
        objects.append((-rows + n, f"{n:064x}", space, kind, size, 0, at, at + DAY * (n % 5 > 0) * chance.random() * 9))
        sources.append((-rows + n, f"/films/{name}/{name} {n:04}.{kind}", "", kind, at, at))
        if n % 4 == 0:
            sources.append((-rows + n, f"/backup/{name}/{name} {n:04}.{kind}", "", kind, at, at))
        if n % 20:
            needs.append((-rows + n, f"movie:{n % 700}", "media", at))
    with store.parts.index.database.transaction() as con:
        con.executemany(
            "INSERT INTO objects (id, digest, namespace, extension, size, mtime_ns, created_at, checked_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            objects,
        )
        con.execute("UPDATE objects SET checked_at = 0 WHERE checked_at = created_at")
        con.executemany(
            "INSERT INTO sources (object_id, location, provider, extension, first_seen, last_seen)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            sources,
        )
        con.executemany("INSERT INTO object_references (object_id, owner, role, created_at) VALUES (?, ?, ?, ?)", needs)


def _ranges(chance):
    at, found = chance.uniform(0, 60), []
    for _ in range(chance.randrange(3, 40)):
        end = at + chance.expovariate(1 / 70)
        found.append({"start": at, "end": end, "label": "speech"})
        at = end + chance.expovariate(1 / 60)
    return found


def _results(results, chance, rows, now):
    "Results of as many files"
    paths = [f"/films/{chance.choice(TITLES)}/S{1 + n // 24:02}E{1 + n % 24:02}.mkv" for n in range(rows)]
    hashes = [f"sha256:{n:064x}" for n in range(rows)]
    times = [now - DAY * 200 * (1 - n / rows) for n in range(rows)]
    with MediaAnalysisStorage(results[0]) as analyses, MediaProcessingStorage(results[1]) as jobs:
        analyses.save_many(
            MediaAnalysisRow(path, hash, hashes[n % 3], _ranges(chance), None, at)
            for n, (path, hash, at) in enumerate(zip(paths, hashes, times, strict=True))
        )
        jobs.save_many(
            MediaProcessingRow(
                f"job-{n}",
                ("cut", "convert", "normalise")[n % 3],
                path,
                hash,
                f"{path[:-4]} {n}.wav",
                hashes[-n],
                {"start": 10.0 * n, "end": 10.0 * n + 45} if n % 3 == 0 else {"rate": 16000},
                None,
                at,
                f"sha256:{n:064x}",
            )
            for n, (path, hash, at) in enumerate(zip(paths, hashes, times, strict=True))
        )
