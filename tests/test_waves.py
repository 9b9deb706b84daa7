"Recordings of every kind have an outline, and nothing else has."

import os
import struct
import wave

import pytest
from memory import peak_of

from cjm_media_storage.media import make_wav
from cjm_media_storage.waves import outline

FORMATS = {1: "B", 2: "<h", 3: None, 4: "<i"}


def write(path, width, levels, channels=1):
    "A recording with these samples, from -1 to 1"
    full = 2 ** (8 * width - 1)
    with wave.open(str(path), "wb") as wav:
        wav.setparams((channels, width, 100, 0, "NONE", ""))
        for level in levels:
            value = round(level * full)
            data = struct.pack("B", value + 128) if width == 1 else value.to_bytes(width, "little", signed=True)
            wav.writeframes(data * channels)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("width", FORMATS)
def test_samples_of_every_width(tmp_path, width, channels):
    write(tmp_path / "a.wav", width, [0, 0.5, -0.25, 0.25], channels)
    found = outline(tmp_path / "a.wav", slices=2)
    assert (found.seconds, found.low, found.high) == (0.04, (0, -0.25), (0.5, 0.25))


def test_no_more_slices_than_samples(tmp_path):
    write(tmp_path / "a.wav", 2, [0, 0.5, 1 - 2**-15])
    assert outline(tmp_path / "a.wav").high == (0, 0.5, 1 - 2**-15)


def test_what_is_no_recording_has_no_outline(tmp_path):
    whole = make_wav([(440, 1)])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_bytes(b"RIFF....WAVEfmt and no more")
    (tmp_path / "silent").write_bytes(make_wav([]))
    float_format = bytearray(whole)
    float_format[20] = 3
    (tmp_path / "float").write_bytes(float_format)
    os.mkfifo(tmp_path / "pipe")
    for name in ("empty", "text", "silent", "float", "pipe", "gone", ".", "a\0b"):
        assert outline(tmp_path / name) is None, name


def test_a_recording_that_was_cut_off_is_drawn_as_far_as_it_goes(tmp_path):
    (tmp_path / "a.wav").write_bytes(make_wav([(440, 1)])[:9001])
    assert 0 < len(outline(tmp_path / "a.wav", slices=100).high) < 100


def test_memory_does_not_grow_with_the_recording(tmp_path):
    with wave.open(str(tmp_path / "b.wav"), "wb") as wav:
        wav.setparams((1, 2, 8000, 0, "NONE", ""))
        for _ in range(100):
            wav.writeframes(b"\0\1" * 80_000)
    assert outline(tmp_path / "b.wav").seconds == 1000
    assert peak_of(lambda: outline(tmp_path / "b.wav"), 1 << 20) < 1 << 20
