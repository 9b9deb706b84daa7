"Hashes are those of the published package, hash strings are parsed strictly, and many files take little memory."

import hashlib
import io
import json
import os
import signal
import sys
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cjm_media_storage import hashing
from cjm_media_storage.errors import InvalidHash
from cjm_media_storage.files import read_into
from cjm_media_storage.hashing import (
    BLOCK,
    CHUNK,
    LARGE,
    Hasher,
    hash_bytes,
    hash_dict_canonical,
    hash_file,
    hash_files,
    parse_hash,
    verify_hash,
)
from cjm_media_storage.workers import PIECE

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=20
)
settings = st.none() | st.dictionaries(st.text(), values, max_size=5)


@pytest.fixture(scope="module")
def upstream():
    reason = "cjm-plugin-system 0.0.46, which needs Python 3.12, is not installed"
    return pytest.importorskip("cjm_plugin_system.utils.hashing", reason=reason)


def outcome(function, *args):
    "What a call comes to: its result, or the type of its error"
    try:
        return function(*args)
    except Exception as e:
        return type(e)


# ---- parity with the published package


@pytest.mark.plugins
@given(content=st.binary(), algo=st.sampled_from(["sha256", "sha3_256", "blake2b", "md5", "shake_128", "md6", ""]))
def test_parity_of_hash_bytes(upstream, content, algo):
    assert outcome(hash_bytes, content, algo) == outcome(upstream.hash_bytes, content, algo)


@pytest.mark.plugins
@pytest.mark.parametrize("size", [0, 1, 8192, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
@pytest.mark.parametrize("chunk_size", [-1, 0, 1 << 12, 8192, CHUNK, 1 << 20])
def test_parity_of_hash_file(upstream, tmp_path, size, chunk_size):
    film = tmp_path / "film.mkv"
    film.write_bytes(bytes(i * 31 % 251 for i in range(size)))
    theirs = upstream.hash_file(film, chunk_size=chunk_size)
    assert hash_file(str(film), "sha256", chunk_size) == theirs
    assert hash_file(film) == theirs or chunk_size == 0  # chunks of nothing: both hash nothing
    assert hash_file(film, "sha3_256") == upstream.hash_file(film, "sha3_256")


@pytest.mark.plugins
def test_parity_of_hash_file_errors(upstream, tmp_path):
    for wrong in (tmp_path / "gone", tmp_path, "nul\0", None):
        assert outcome(hash_file, wrong) == outcome(upstream.hash_file, wrong)


@pytest.mark.plugins
@given(
    content=st.binary(max_size=8),
    expected=st.text() | st.from_regex(r"(sha256|md5|md6)?:?[0-9a-fA-F]*", fullmatch=True) | st.none() | st.binary(),
)
@example(b"", "")
@example(b"", "sha256")
@example(b"", "sha256:" + hashlib.sha256(b"").hexdigest())
@example(b"", "SHA256:" + hashlib.sha256(b"").hexdigest())
@example(b"", "sha256:" + hashlib.sha256(b"").hexdigest().upper())
def test_parity_of_verify_hash(upstream, content, expected):
    assert outcome(verify_hash, content, expected) == outcome(upstream.verify_hash, content, expected)


@pytest.mark.plugins
@given(data=settings)
@example({"threshold": float("nan")})
@example({"a": {1: 2, "b": 3}})
@example({(1, 2): 3})
@example({"a": b"bytes"})
@example({"film": "Amélie \U0001f3ac \ud800"})
@example({1: "a", 2.5: "b"})
@example([])
def test_parity_of_hash_dict_canonical(upstream, data):
    assert outcome(hash_dict_canonical, data) == outcome(upstream.hash_dict_canonical, data)


# ---- the same facts where the package is not installed


@given(data=settings)
def test_hash_dict_canonical_is_of_sorted_json(data):
    text = json.dumps(data or {}, sort_keys=True, separators=(",", ":"))
    assert hash_dict_canonical(data) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@given(content=st.binary(), cuts=st.lists(st.integers(0, 100)))
def test_hasher_does_not_care_how_bytes_come(content, cuts):
    hasher, start = Hasher(), 0
    for cut in [*sorted(cuts), len(content)]:
        hasher.update(content[start:cut])
        start = max(start, cut)
    assert (hasher.hash, hasher.size) == (hash_bytes(content), len(content))
    assert verify_hash(content, hasher.hash)


def test_a_file_is_counted_from_where_it_stands(tmp_path):
    (tmp_path / "film.mkv").write_bytes(b"a film")
    with open(tmp_path / "film.mkv", "rb", buffering=0) as file:
        file.seek(2)
        hasher = Hasher().read(file)
    assert (hasher.hash, hasher.size) == (hash_bytes(b"film"), 4)
    assert not verify_hash(b"film", f"{hasher.hash}:")


@pytest.mark.parametrize("algo", ["sha256", "sha3_256", "md5"])
def test_each_algorithm_is_the_one_that_was_named(tmp_path, algo):
    (tmp_path / "film.mkv").write_bytes(b"a film")
    wanted = f"{algo}:{hashlib.new(algo, b'a film').hexdigest()}"
    assert hash_bytes(b"a film", algo) == hash_file(tmp_path / "film.mkv", algo) == wanted
    assert [found.hash for found in hash_files([tmp_path / "film.mkv"], algo)] == [wanted]


@pytest.mark.parametrize("size", [6, LARGE])
def test_chunks_of_nothing_are_the_end_and_negative_ones_are_the_usual_ones(tmp_path, size):
    "As in the published package"
    (tmp_path / "film.mkv").touch()
    os.truncate(tmp_path / "film.mkv", size)
    assert hash_file(tmp_path / "film.mkv", chunk_size=0) == hash_bytes(b"")
    assert hash_file(tmp_path / "film.mkv", chunk_size=-1) == hash_file(tmp_path / "film.mkv", chunk_size=CHUNK)


# ---- read ahead


@pytest.mark.parametrize("thought", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_file_is_hashed_to_its_end_whatever_its_size_is_thought_to_be(tmp_path, size, thought):
    (tmp_path / "film").write_bytes(content := os.urandom(size))
    with open(tmp_path / "film", "rb") as file:
        hasher = Hasher().read_regular(file.fileno(), thought)
    assert (hasher.hash, hasher.size) == (hash_bytes(content), size)


def test_a_file_is_read_until_it_has_the_size_that_is_known_or_ends(tmp_path, monkeypatch):
    "It may come in pieces, as on a network; and its end need not be looked for"
    counts = []

    def read_three(fd, view):
        counts.append(read_into(fd, view[:3]))
        return counts[-1]

    monkeypatch.setattr(hashing, "read_into", read_three)
    (tmp_path / "film").write_bytes(b"a film")
    for size, wanted in ((6, [3, 3]), (7, [3, 3, 0])):
        counts.clear()
        with open(tmp_path / "film", "rb") as file:
            assert Hasher().read_regular(file.fileno(), size).hash == hash_bytes(b"a film")
        assert counts == wanted


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, LARGE + 1, LARGE + BLOCK])
def test_a_large_file_is_read_ahead_and_has_the_same_hash(tmp_path, size):
    content = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "film.mkv").write_bytes(content[:size])
    assert hash_file(tmp_path / "film.mkv") == hash_bytes(content[:size])


@given(content=st.binary(max_size=40))
def test_blocks_that_are_read_ahead_keep_their_order(tmp_path_factory, content):
    film = tmp_path_factory.getbasetemp() / "ahead.mkv"
    film.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch, open(film, "rb", buffering=0) as file:
        patch.setattr(hashing, "BLOCK", 7)
        assert Hasher().read_ahead(file).hash == hash_bytes(content)


def test_an_error_of_what_is_read_ahead_is_raised():
    with open("/proc/self/mem", "rb", buffering=0) as file, pytest.raises(OSError):  # nothing is mapped at 0
        Hasher().read_ahead(file)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_reads_into_a_buffer_of_its_own(tmp_path):
    (tmp_path / "film.mkv").write_bytes(b"the child's")
    with hashing.buffers as view:
        view[:6] = b"parent"
    if (child := os.fork()) == 0:
        hash_file(tmp_path / "film.mkv")
        os._exit(0)
    os.waitpid(child, 0)
    with hashing.buffers as view:
        assert bytes(view[:6]) == b"parent"


def test_whoever_hashes_between_two_steps_of_ours_gets_another_buffer(tmp_path):
    (tmp_path / "film.mkv").write_bytes(b"a film")
    (tmp_path / "other.mkv").write_bytes(b"another")

    class Interrupted(io.FileIO):
        def readinto(self, view):
            count = super().readinto(view)
            assert hash_file(tmp_path / "other.mkv") == hash_bytes(b"another")
            return count

    with Interrupted(tmp_path / "film.mkv") as file:
        assert Hasher().read(file).hash == hash_bytes(b"a film")


def test_whoever_reads_ahead_between_two_steps_of_ours_gets_other_blocks(tmp_path):
    (tmp_path / "film.mkv").write_bytes(b"a film")
    (tmp_path / "other.mkv").write_bytes(b"another")

    class Interrupted(Hasher):
        def update(self, data):
            with open(tmp_path / "other.mkv", "rb", buffering=0) as other:
                assert Hasher().read_ahead(other).hash == hash_bytes(b"another")
            super().update(data)

    for _ in range(2):  # blocks that are new, and those of before
        with open(tmp_path / "film.mkv", "rb", buffering=0) as film:
            assert Interrupted().read_ahead(film).hash == hash_bytes(b"a film")


def test_a_signal_handler_may_hash_while_a_file_is_hashed(tmp_path, monkeypatch):
    def interrupted(fd, view):
        count = read_into(fd, view)
        signal.raise_signal(signal.SIGINT)  # handled before the next line
        return count

    (tmp_path / "film.mkv").write_bytes(b"a film")
    (tmp_path / "other.mkv").write_bytes(b"another")
    handled = []
    before = signal.signal(signal.SIGINT, lambda *_: handled.append(hash_file(tmp_path / "other.mkv")))
    monkeypatch.setattr(hashing, "read_into", interrupted)
    try:
        with open(tmp_path / "film.mkv", "rb") as film:
            assert Hasher().read_regular(film.fileno(), 6).hash == hash_bytes(b"a film")
    finally:
        signal.signal(signal.SIGINT, before)
    assert handled == [hash_bytes(b"another")]


def test_a_buffer_is_used_again_and_another_is_let_go():
    with hashing.buffers as view:
        with hashing.buffers as second:
            assert second is not view
        with hashing.buffers as third:
            assert third is second
    with hashing.buffers as again:
        assert again in (view, second) and len(again) == hashing.CHUNK
    assert len(hashing.buffers._free) == 1 and not hashing.buffers._taken


def test_a_buffer_can_be_written_to_on_windows_too(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    view = hashing.aligned(8)
    view[:] = b"a poster"
    assert bytes(view) == b"a poster"


# ---- hash strings


@given(value=st.text() | st.from_regex(r"[a-z0-9_-]*:[0-9a-f]*", fullmatch=True) | st.from_regex(r"sha256:.{60,66}"))
def test_parse_hash_passes_only_what_is_well_formed(value):
    try:
        algo, digest = parse_hash(value)
    except InvalidHash as e:
        assert e.value == value
    else:
        assert f"{algo}:{digest}" == value
        assert len(digest) == hashlib.new(algo).digest_size * 2 > 0
        assert set(digest) <= set("0123456789abcdef")


@given(digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True))
def test_parse_hash_passes_all_that_is_well_formed(digest):
    assert parse_hash("sha256:" + digest) == parse_hash("sha256:" + digest, "sha256") == ("sha256", digest)


@pytest.mark.parametrize(
    "value",
    [
        "sha256:../../etc/passwd",
        "sha256:" + "a" * 62 + "/a",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "A" * 64,
        "SHA256:" + "a" * 64,
        "sha256:" + "٣" * 64,  # digits, but not those of hex
        "sha257:" + "a" * 64,
        "shake_128:" + "a" * 64,  # of no fixed length
        "../x:" + "a" * 64,
        "a" * 64,
        ":",
        "",
        b"sha256:" + b"a" * 64,
        None,
        7,
    ],
    ids=repr,
)
def test_fault_04_hash_that_could_be_a_path(value):
    with pytest.raises(InvalidHash, match="64 lower-case hex digits"):
        parse_hash(value)


def test_fault_04_another_algorithm_than_wanted():
    with pytest.raises(InvalidHash, match="is not sha256"):
        parse_hash("md5:" + "a" * 32, "sha256")


# ---- many files


def test_hash_files_keeps_the_order_and_goes_on_after_errors(tmp_path):
    paths = [tmp_path / f"{n}.jpg" for n in range(100)]
    for n, path in enumerate(paths):
        if n % 10:
            path.write_bytes(b"%d" % n)
    paths[50:50] = [tmp_path, "nul\0"]
    found = list(hash_files(iter(paths), threads=3))
    assert [f.path for f in found] == paths
    wanted = {path: hash_bytes(path.read_bytes()) for path in tmp_path.iterdir()}
    assert {f.path: f.hash for f in found if f.hash} == wanted
    errors = [type(f.error) for f in found if not f.hash]
    assert errors == [FileNotFoundError] * 5 + [IsADirectoryError, ValueError] + [FileNotFoundError] * 5


def test_hash_files_takes_a_generator_lazily(tmp_path):
    poster, taken, furthest = tmp_path / "poster.jpg", 0, 0
    poster.write_bytes(b"a poster")

    def paths():
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield poster

    given_back = 0
    for result in hash_files(paths(), threads=2):
        given_back += 1
        furthest = max(furthest, taken - given_back)
        assert result.hash
    assert taken == given_back == 10_000
    assert furthest <= (4 * 2 + 1) * PIECE


def test_hash_files_closed_early_stops(tmp_path):
    poster, taken = tmp_path / "poster.jpg", []
    poster.write_bytes(b"a poster")
    results = hash_files((taken.append(n) or poster for n in range(10_000)), threads=2)
    next(results)
    results.close()
    assert len(taken) <= 4 * 2 * PIECE
    assert not [t for t in threading.enumerate() if t.name.startswith("in_parallel")]


def test_a_size_that_is_not_known_is_0(tmp_path):
    (tmp_path / "poster.jpg").write_bytes(b"a poster")
    assert [hashing.size_of_file(path) for path in (tmp_path / "poster.jpg", tmp_path / "gone", "nul\0")] == [8, 0, 0]


def test_hash_files_of_an_unknown_algorithm():
    with pytest.raises(ValueError, match="unsupported hash type"):
        list(hash_files([], "md6"))


def test_hash_files_leaves_no_descriptor(tmp_path):
    (tmp_path / "poster.jpg").write_bytes(b"a poster")
    before = len(os.listdir("/proc/self/fd"))
    list(hash_files([tmp_path / "poster.jpg", tmp_path / "gone"] * 500))
    assert len(os.listdir("/proc/self/fd")) == before
