"What can be shown is shown, and nothing is opened that should not be."

import base64
import os

import pytest
from on_disk import unprivileged
from pages import Page

from cjm_media_storage.media import make_png, make_wav
from cjm_media_storage.previews import LANES, LARGEST, SEGMENTS, preview, strips, thumbnail

PNG, WAV = make_png((9, 9, 9)), make_wav([(440, 0.1)])
MEDIA = {
    PNG: ("img", "image/png"),
    WAV: ("audio", "audio/wav"),
    b"\xff\xd8\xff\xe0 jpeg": ("img", "image/jpeg"),
    b"ID3 and sound": ("audio", "audio/mpeg"),
    b"\0\0\0\x20ftypisom": ("video", "video/mp4"),
    b"\x1aE\xdf\xa3 film": ("video", "video/webm"),
}


@pytest.mark.parametrize("content", MEDIA, ids=lambda content: MEDIA[content][1])
def test_media_are_shown_by_their_bytes(tmp_path, content):
    (tmp_path / "x.txt").write_bytes(content)
    tag, kind = MEDIA[content]
    page = Page(preview(tmp_path / "x.txt", len(content)))
    assert page.tags == ["figure", tag] and page.is_ours()
    uri = dict(page.attributes)["src"].partition(",")
    assert uri[0] == f"data:{kind};base64" and base64.b64decode(uri[2]) == content


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'>", b"<html>", b"%PDF-1.7", b"RIFF", b"text"])
def test_what_is_no_medium_or_could_hold_a_script_is_not_shown(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    assert preview(tmp_path / "x.png", len(content)) is None


def test_a_large_file_is_a_note(tmp_path):
    (tmp_path / "x.png").write_bytes(PNG)
    os.truncate(tmp_path / "x.png", LARGEST + 1)
    assert "image/png, too large" in preview(tmp_path / "x.png", LARGEST + 1)
    assert len(preview(tmp_path / "x.png", LARGEST + 1)) < 200
    assert thumbnail(tmp_path / "x.png", LARGEST + 1) == ""


def test_pipes_links_folders_and_what_is_gone_are_notes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.png").write_bytes(PNG)
    (tmp_path / "link").symlink_to(tmp_path / "x.png")
    for name in ("pipe", "link", ".", "gone"):
        assert Page(preview(tmp_path / name, 10)).texts[0].startswith("no preview: ")
        assert thumbnail(tmp_path / name, 10) == ""


def test_what_may_not_be_read_is_a_note(open_folder):
    (open_folder / "x.png").write_bytes(PNG)
    (open_folder / "x.png").chmod(0)
    with unprivileged():
        assert "no preview: Permission denied" in preview(open_folder / "x.png", len(PNG))


def test_a_thumbnail_is_a_small_picture(tmp_path):
    (tmp_path / "x").write_bytes(PNG)
    (tmp_path / "y").write_bytes(WAV)
    assert Page(thumbnail(tmp_path / "x", len(PNG))).tags == ["figure", "img"]
    assert thumbnail(tmp_path / "y", len(WAV)) == ""


def test_each_label_has_its_line():
    found = [{"start": 0, "end": 5, "label": "<b>"}, {"start": 5, "end": 10}, {"start": 7.5, "end": 10, "label": "<b>"}]
    lines = dict(strips(found))
    assert list(lines) == ["<b>", "segment"]
    page = Page(lines["<b>"])
    assert page.is_ours() and page.tags == ["svg", "rect", "rect", "title", "rect", "title"]
    assert [value for name, value in page.attributes if name == "x"] == ["0", "0.0", "750.0"]
    assert page.texts == ["<b> 0.00 to 5.00 s", "<b> 7.50 to 10.00 s"]


@pytest.mark.parametrize(
    "segment",
    [
        5,
        None,
        [],
        {},
        {"start": "a", "end": 1},
        {"start": 2, "end": 1},
        {"start": 0, "end": 10**400},
        {"start": float("nan"), "end": 1},
        {"start": -1, "end": 1},
        {"start": 0, "end": float("inf")},
    ],
)
def test_segments_without_a_place_have_none(segment):
    assert strips([segment]) == []


def test_a_picture_of_segments_stays_small():
    assert len(strips({"start": n, "end": n + 1, "label": str(n)} for n in range(9 * SEGMENTS))) == LANES
    ((_, line),) = strips({"start": n, "end": n + 1} for n in range(9 * SEGMENTS))
    assert line.count("<title>") == SEGMENTS
