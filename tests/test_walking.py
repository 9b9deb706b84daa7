"What lies in a store's folders."

import os

import pytest
from on_disk import unprivileged

from cjm_media_storage.layout import object_path
from cjm_media_storage.storage import hash_bytes
from cjm_media_storage.walking import prove, walk

DIGEST = hash_bytes(b"a poster")[7:]
PLACE = object_path("assets", DIGEST, "jpg")
TRASH = f".store/trash/assets/{DIGEST}.jpg"


def place(root, path, content=b"a poster"):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


def told(root):
    "What a walk tells, proven"
    return {found.path: found.problem for found in (prove(root, found) for found in walk(root))}


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (PLACE, ""),
        (object_path("actors", DIGEST, ""), ""),
        (TRASH, ""),
        (".store/trash/.files/0f.nfo", ""),
        (PLACE.replace(DIGEST[2:4], "00", 1), "misplaced"),
        (PLACE.replace(DIGEST, DIGEST.upper()), "misplaced"),
        (PLACE.replace(".jpg", ".JPG"), "misplaced"),
        (f"assets/{DIGEST}", "misplaced"),
        (TRASH.replace(DIGEST, DIGEST.upper()), "misplaced"),
        (PLACE.replace(DIGEST, "Thumbs.db"), "foreign"),
        (".DS_Store", "foreign"),
        ("lost+found/#1", "foreign"),
        ("assets/@eaDir/a/b/c", "foreign"),
        (PLACE + "/" + DIGEST, "corrupt"),
        (PLACE.replace(DIGEST, "0" * 64).replace(f"/{DIGEST[:2]}/{DIGEST[2:4]}/", "/00/00/"), "corrupt"),
        (TRASH.replace(DIGEST, "0" * 64), "corrupt"),
        (".store/trash/A/" + DIGEST, "foreign"),
    ],
)
def test_what_each_name_is(tmp_path, path, problem):
    place(tmp_path, path)
    ((found, told_problem),) = told(tmp_path).items()
    assert told_problem == problem
    assert path == found or path.startswith(found + "/")  # a folder that is foreign is not entered


def test_names_that_are_no_text(tmp_path):
    place(tmp_path, PLACE)
    with open(os.fsencode(tmp_path) + b"/assets/caf\xe9", "wb"):
        pass
    assert told(tmp_path) == {PLACE: "", os.fsdecode(b"assets/caf\xe9"): "foreign"}


def test_links_are_not_followed(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    place(outside, "poster")
    for path in (PLACE, "assets/00", "actors", object_path("assets", DIGEST, "")):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(outside / "poster" if DIGEST in path else outside)
    os.mkfifo(root / "assets" / "pipe")
    links = {
        PLACE: "corrupt",
        object_path("assets", DIGEST, ""): "corrupt",
        "assets/00": "foreign",
        "actors": "foreign",
    }
    assert told(root) == {**links, "assets/pipe": "foreign"}


def test_what_cannot_be_looked_at_stops_nothing(open_folder):
    for namespace in ("assets", "actors", "films"):
        place(open_folder, object_path(namespace, DIGEST, "jpg"))
    closed, unread = open_folder / "actors", open_folder / object_path("films", DIGEST, "jpg")
    closed.chmod(0)
    unread.chmod(0)
    with unprivileged():
        found = told(open_folder)
    closed.chmod(0o755)
    assert found == {PLACE: "", "actors": "unreadable", unread.relative_to(open_folder).as_posix(): "unreadable"}
