"Media files are real ones, and what is found and cut in them is there."

import wave
import zlib

import pytest

from cjm_media_storage.media import cut, find_sound, levels, make_png, make_wav


def test_files_are_real(tmp_path):
    png = make_png((230, 120, 40))
    width, height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
    length = int.from_bytes(png[33:37])
    assert len(zlib.decompress(png[41 : 41 + length])) == height * (1 + 3 * width)
    wav = tmp_path / "tone.wav"
    wav.write_bytes(make_wav([(440, 1.0)]))
    with wave.open(str(wav)) as opened:
        assert opened.getnframes() == opened.getframerate() == 8000


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(0, 1.0)], []),
        ([(440, 1.0)], [(0.0, 1.0)]),
        ([(440, 1.0), (0, 0.2), (440, 1.0)], [(0.0, 2.2)]),
        ([(440, 1.0), (0, 0.4), (440, 1.0)], [(0.0, 1.0), (1.4, 2.4)]),
        ([], []),
    ],
)
def test_find_sound(tmp_path, parts, expected):
    path = tmp_path / "tone.wav"
    path.write_bytes(make_wav(parts))
    assert [(found["start"], found["end"]) for found in find_sound(path)] == expected


def test_other_wav_files(tmp_path):
    path = tmp_path / "8 bits.wav"
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 1, 8000, 0, "NONE", ""))
        wav.writeframes(b"\x80" * 100)
    with pytest.raises(wave.Error, match="8 bits"):
        list(levels(path))


def test_cut(tmp_path):
    path, output = tmp_path / "tone.wav", tmp_path / "cut.wav"
    path.write_bytes(make_wav([(0, 0.5), (440, 1.0), (0, 0.5)]))
    cut(path, output, 0.5, 1.5)
    assert output.read_bytes() == make_wav([(440, 1.0)])
