"The pictures show what is there: their axes, bars and words are looked at, and each is drawn."

import io

import pytest
from matplotlib import pyplot
from pages import HOSTILE

from cjm_media_storage.media import make_wav
from cjm_media_storage.plots import (
    COLOURS,
    FILES,
    OTHER,
    name,
    plot_growth,
    plot_ranges,
    plot_shards,
    plot_timelines,
    plot_totals,
)
from cjm_media_storage.storage import MediaAnalysisRow, MediaAnalysisStorage, hash_bytes, hash_file

pytestmark = pytest.mark.usefixtures("figures")

HASH = hash_bytes(b"")
SEGMENTS = [{"start": 0, "end": 2, "label": "speech"}, {"start": 3, "end": 4, "label": "music"}]
SEGMENTS += [{"start": 6, "end": 8.0, "label": "speech"}]
ODD = [None, 5, {}, {"start": "x", "end": 1}, {"start": 3, "end": 1}, {"start": 0, "end": 10**400}]


def drawn(ax):
    ax.figure.savefig(png := io.BytesIO())
    assert png.getvalue().startswith(b"\x89PNG")
    return ax


def row(path="one.wav", ranges=SEGMENTS, hash=HASH):
    return MediaAnalysisRow(path, hash, HASH, ranges)


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def boxes(ax):
    "From where to where each bar of a timeline goes"
    spans = (path.vertices[:, 0] for each in ax.collections for path in each.get_paths() if len(path.vertices) == 5)
    return sorted((x.min().item(), x.max().item()) for x in spans)


def test_ranges_of_one_file():
    ax = drawn(plot_ranges(row()))
    assert ax.get_title("left") == "one.wav: 3 segments"
    assert ax.get_xlabel() == "time (s)" and ax.get_xlim() == (0, 8)
    assert labels(ax) == ["music", "speech"]
    assert boxes(ax) == [(0, 2), (3, 4), (6, 8)]


def test_ranges_on_their_sound(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(make_wav([(440, 10.0)]))
    ax = drawn(plot_ranges(row(path, hash=hash_file(path))))
    assert ax.get_xlim() == (0, 10) and legend(ax) == ["music", "speech"]
    assert ax.get_ylabel() == "level (full scale: 1)" and len(ax.patches) == 3
    ax = drawn(plot_ranges(SEGMENTS, wav=path))
    assert ax.get_title("left") == "a.wav: 3 segments" and len(ax.patches) == 3


def test_sound_that_is_not_what_was_analysed_is_not_drawn(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(make_wav([(440, 10.0)]))
    ax = plot_ranges(row(path))
    assert ax.get_xlim() == (0, 8) and not ax.patches


def test_timelines_of_many_files(tmp_path):
    ax = drawn(plot_timelines([row("a/one.wav"), row("two.wav", None), row("three.wav", SEGMENTS[:1] + ODD)]))
    assert labels(ax) == ["one.wav", "two.wav", "three.wav"] and legend(ax) == ["music", "speech"]
    assert ax.get_title("left") == "Segments in 3 files"
    assert boxes(ax) == [(0, 2), (0, 2), (3, 4), (6, 8)]


def test_more_files_than_fit(tmp_path):
    with MediaAnalysisStorage(tmp_path / "a.db") as storage:
        storage.save_many(row(f"{n}.wav") for n in range(FILES + 5))
        assert plot_timelines(storage).get_title("left") == "Segments in 30 files, the newest of 35"
        assert plot_totals(storage).get_title("left") == "Total of each label in the 30 of 35 files with the most"
        assert plot_timelines(iter(storage), limit=2).get_title("left") == "Segments in 2 files, and more"


def test_totals(tmp_path):
    long = [{"start": 0, "end": 90.0, "label": "speech"}]
    ax = drawn(plot_totals([row("short.wav"), row("long.wav", long), row("long.wav", SEGMENTS[:1])]))
    assert labels(ax) == ["long.wav", "short.wav"] and ax.get_xlabel() == "total (seconds)"
    music, speech = ax.containers
    assert [bar.get_width() for bar in music] == [0, 1] and [bar.get_width() for bar in speech] == [92, 4]
    assert [bar.get_x() for bar in speech] == [0, 1]
    assert plot_totals([row("f", [{"start": 0, "end": 7200}])]).get_xlabel() == "total (hours)"


@pytest.mark.parametrize("longest, label", [(90, "time (s)"), (600, "time (m:ss)"), (8000, "time (h:mm:ss)")])
def test_times_as_on_a_player(longest, label):
    ax = drawn(plot_ranges([{"start": 0, "end": longest}]))
    assert ax.get_xlabel() == label
    assert len(ax.get_xticks()) < 20
    if longest == 8000:
        assert "1:30:00" in [text.get_text() for text in ax.get_xticklabels()]


def test_growth(store):
    for n in range(4):
        store.put(b"x" * 1000 if n % 2 else b"%d" % n * 500, source=f"https://example.org/{n}")
    ax = drawn(plot_growth(store))
    came, kept = ax.lines
    assert (came.get_ydata()[-1], kept.get_ydata()[-1]) == (3000, 2000)
    assert ax.get_title("right") == "33% saved" and (ax.get_xlabel(), ax.get_ylabel()) == ("time (UTC)", "size")
    assert [text.get_text().strip() for text in ax.texts] == ["came: 3.0 kB", "kept: 2.0 kB"]


def test_shards(store):
    list(store.put_many(b"%d" % n for n in range(300)))
    ax = drawn(plot_shards(store))
    heights = [bar.get_height() for bar in ax.containers[0]]
    assert len(heights) == 256 and sum(heights) == 300
    digests = [stored.hash.removeprefix("sha256:") for stored in store]
    assert heights[0xC4] == sum(digest.startswith("c4") for digest in digests)
    assert ax.get_title("left") == "300 objects in 256 folders" and ax.get_ylabel() == "objects"


def test_nothing_is_a_picture_too(store):
    for ax in (plot_ranges([]), plot_ranges(row(ranges=None)), plot_ranges(ODD), plot_timelines([]), plot_totals([])):
        drawn(ax)
    drawn(plot_growth(store))
    drawn(plot_shards(store))


def test_a_given_axes_is_drawn_on():
    _, ax = pyplot.subplots()
    for plot in (plot_ranges, lambda found, ax: plot_timelines([row(ranges=found)], ax=ax)):
        assert plot(SEGMENTS, ax=ax) is ax
    assert len(pyplot.get_fignums()) == 1


@pytest.mark.parametrize("odd", [*HOSTILE, "$x^{$.wav", "_hidden", "x" * 300, "a\nb" * 99])
def test_names_are_names(odd):
    segments = [{"start": 0, "end": 1, "label": odd}]
    for ax in (
        plot_ranges(row(odd, segments)),
        plot_timelines([row(odd, segments)]),
        plot_totals([row(odd, segments)]),
    ):
        drawn(ax)
    assert len(name(odd)) <= 34 + 2 and "\n" not in name(odd)


def test_more_labels_than_colours():
    segments = [{"start": n, "end": n + 1, "label": f"label {n}"} for n in range(9)]
    ax = drawn(plot_timelines([row(ranges=segments)]))
    assert legend(ax) == [*(f"label {n}" for n in range(len(COLOURS))), "other"] and OTHER not in COLOURS
