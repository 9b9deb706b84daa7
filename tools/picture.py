"""Draw the picture of README.md: `python tools/picture.py` writes docs/explore.png"""

import array
import io
import math
import random
import tempfile
import wave
from pathlib import Path

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot
from PIL import Image

from cjm_media_storage.explore import plot_growth, plot_ranges, plot_timelines
from cjm_media_storage.media import RATE, samples
from cjm_media_storage.storage import ContentStore, MediaAnalysisRow, hash_file

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "explore.png"


def write_wav(path, parts):
    "Write tones as a recording: frequency in hertz, seconds, and how loud at the most, from 0 to 1"
    sound = array.array("h")
    for hertz, seconds, loud in parts:
        tone = list(samples([(hertz, seconds)]))
        sound.extend(round(each * loud * math.sin(math.pi * n / len(tone)) ** 0.4) for n, each in enumerate(tone))
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, RATE, 0, "NONE", ""))
        wav.writeframes(sound.tobytes())


def episode(folder, number):
    "A recording, and where in it speech and music are"
    chance, parts, ranges, at = random.Random(number), [], [], 0.0
    for n in range(chance.randint(8, 12)):
        pause, length, label = chance.uniform(0.3, 2), chance.uniform(1.5, 7), ("music", "speech", "speech")[n % 3]
        tones = [(0, pause, 1)]
        for _ in range(max(1, round(length * 4))):  # syllables, or beats
            loud = chance.betavariate(2, 3) if label == "speech" else chance.uniform(0.75, 0.95)
            tones += [(chance.choice((220, 330, 440)), 0.22, loud), (0, 0.05 if label == "speech" else 0.002, 1)]
        took = sum(seconds for _, seconds, _ in tones)
        ranges.append({"start": at + pause, "end": at + took, "label": label})
        parts, at = parts + tones, at + took
    path = folder / f"S01E{number:02}.wav"
    write_wav(path, parts)
    return MediaAnalysisRow(str(path), hash_file(path), "", ranges)


def fill(store):
    "Put posters, many of which were there already, as if they had come in the course of a year"
    chance, at, known = random.Random(3), 1.7e9, []
    for n in range(300):
        if not known or chance.random() < 0.42:
            known.append(chance.randbytes(chance.randint(200, 4000)))
        put = store.put(chance.choice(known[-40:]), source=f"https://example.org/{n}")
        at += chance.choice((3e3, 3e4, 1e5, 6e5))
        with store.parts.index.database.transaction() as con:
            con.execute("UPDATE sources SET first_seen = ? WHERE location = ?", (at, f"https://example.org/{n}"))
            if put.created:
                con.execute("UPDATE objects SET created_at = ? WHERE digest = ?", (at, put.hash[7:]))


def main():
    with tempfile.TemporaryDirectory() as name, ContentStore(Path(name) / "store", memo=False) as store:
        rows = [episode(Path(name), number) for number in range(1, 8)]
        figure, axes = pyplot.subplots(3, figsize=(8, 7.4), layout="constrained", height_ratios=(2, 2.6, 2.6))
        plot_ranges(rows[0], ax=axes[0])
        plot_timelines(rows, ax=axes[1])
        fill(store)
        plot_growth(store, ax=axes[2])
        PICTURE.parent.mkdir(exist_ok=True)
        figure.get_layout_engine().set(hspace=0.06)
        figure.savefig(drawn := io.BytesIO(), dpi=100)
        Image.open(drawn).convert("RGB").quantize(64).save(PICTURE, optimize=True)  # a third of the size


if __name__ == "__main__":
    main()
