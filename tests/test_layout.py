"Names that are safe on a disk, and the marker of a store."

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cjm_media_storage.files import DISK, Disk
from cjm_media_storage.layout import (
    check_namespace,
    digest_of,
    digest_prefix,
    extension_of,
    is_kept,
    is_namespace,
    normalize_extension,
    object_path,
    open_root,
)
from cjm_media_storage.storage import (
    ContentStore,
    CorruptDatabase,
    InvalidExtension,
    InvalidHash,
    InvalidNamespace,
    NotAStore,
    UnsupportedFormat,
)

DIGEST = "ab" * 32


@pytest.mark.parametrize("value", ["../../etc/x", "/x", "a\\b", "jpg\0", "..", "a/b", "jpg\n/", b"jpg", 7])
def test_fault_01_extensions_that_could_be_paths_are_refused(value):
    with pytest.raises(InvalidExtension):
        normalize_extension(value)


@pytest.mark.parametrize(
    ("value", "extension"),
    [
        (".JPG", "jpg"),
        ("jpeg ", "jpeg"),
        ("", ""),
        (None, ""),
        ("x" * 300, ""),
        ("tar.gz", "gz"),
        ("🎬", ""),
        ("x" * 16, "x" * 16),
        ("x" * 17, ""),
        ("jp g", ""),
        ("ÉXT", ""),
        (".", ""),
    ],
)
def test_fault_02_extensions_follow_one_rule(value, extension):
    assert normalize_extension(value) == extension


@given(st.text())
def test_no_extension_and_no_name_ever_makes_an_unsafe_path(text):
    try:
        extension = normalize_extension(text)
    except InvalidExtension:
        extension = ""
    for ext in (extension, extension_of(text)):
        assert ext == "" or (ext.isascii() and ext.isalnum() and ext == ext.lower() and len(ext) <= 16)


@pytest.mark.parametrize("hash", [DIGEST, f"sha256:{DIGEST.upper()}", f"sha256:{DIGEST[:-1]}", "sha256:../" + "a" * 61])
@pytest.mark.parametrize("convert", [str, str.encode])
def test_fault_04_what_is_no_hash_never_becomes_a_path(hash, convert):
    with pytest.raises(InvalidHash):
        digest_of(convert(hash))


@pytest.mark.parametrize("hash", [f"sha1:{'ab' * 20}", f"md6:{DIGEST}", f"sha512:{'ab' * 64}"])
def test_fault_04_other_algorithms_are_refused(hash):
    with pytest.raises(InvalidHash):
        digest_of(hash)


@pytest.mark.parametrize("prefix", ["abc", "", "sha256:abc", "ABCD", "ab/c1", "ab" * 33, None, b"abcd"])
def test_fault_05_prefixes_that_are_none(prefix):
    with pytest.raises(InvalidHash):
        digest_prefix(prefix)


@pytest.mark.parametrize("value", ["..", "a/b", "", ".store", "Assets", "a" * 65, "-a", "ä", None, "a\n"])
def test_fault_06_namespaces_that_are_none(value):
    with pytest.raises(InvalidNamespace):
        check_namespace(value)
    assert not is_namespace(value) and is_namespace("actors")


NOT_KEPT = [("..", "jpg"), ("assets", "a/b"), ("", ""), (b"assets", "jpg"), (None, "")]


@pytest.mark.parametrize("namespace, extension", NOT_KEPT)
def test_objects_are_kept_with_good_names_only(namespace, extension):
    assert is_kept("assets", "jpg") and is_kept("actors", "") and not is_kept(namespace, extension)


def test_the_place_of_an_object():
    assert object_path("assets", DIGEST, "jpg") == f"assets/ab/ab/{DIGEST}.jpg"
    assert object_path("actors", DIGEST, "") == f"actors/ab/ab/{DIGEST}"


def test_the_marker_says_what_a_store_is(tmp_path):
    id = open_root(tmp_path / "store", DISK, 0o755)
    marker = json.loads((tmp_path / "store" / ".store" / "format.json").read_text())
    assert marker == {"format": 1, "algo": "sha256", "shard": [2, 2], "id": id}


def test_a_file_or_a_folder_with_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    for root in (tmp_path, tmp_path / "holiday.jpg", tmp_path / "holiday.jpg" / "store"):
        with pytest.raises(NotAStore):
            ContentStore(root)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"format": 1}'])
def test_a_damaged_marker_is_refused(tmp_path, content):
    (tmp_path / ".store").mkdir()
    (tmp_path / ".store" / "format.json").write_text(content)
    with pytest.raises(CorruptDatabase):
        ContentStore(tmp_path)


def test_a_later_format_is_refused(tmp_path):
    (tmp_path / ".store").mkdir()
    (tmp_path / ".store" / "format.json").write_text('{"format": 2, "algo": "sha256", "shard": [2, 2], "id": "x"}')
    with pytest.raises(UnsupportedFormat):
        ContentStore(tmp_path)


def test_processes_that_open_a_new_store_at_once_agree_on_its_id(tmp_path, program):
    ids = program(
        """
        import sys
        from cjm_media_storage.files import DISK
        from cjm_media_storage.layout import open_root
        from pathlib import Path
        from together import in_processes

        print(*in_processes(8, lambda n: open_root(Path(sys.argv[1]), DISK, 0o755)))
        """,
        tmp_path / "store",
    ).split()
    assert (len(ids), len(set(ids))) == (8, 1)


def test_a_store_can_be_made_without_hard_links(tmp_path):
    id = open_root(tmp_path / "store", Disk(hardlink=False), 0o755)
    assert open_root(tmp_path / "store", DISK, 0o755) == id


def test_a_store_that_is_made_and_filled_by_another_process_meanwhile_is_a_store(tmp_path):
    class Late(Disk):
        "A disk that is slow enough for another process to make the store and fill it"

        def make_folder(self, path, mode=0o755, sync=True):
            made = super().make_folder(path, mode, sync)
            if path == tmp_path / "store":
                with ContentStore(path) as other:
                    other.put(b"a poster")
                    ids.append(other.id)
            return made

    ids = []
    assert open_root(tmp_path / "store", Late(), 0o755) == ids[0]
