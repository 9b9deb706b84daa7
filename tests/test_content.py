"The store as its users meet it."

import hashlib
import os
import pickle
import sqlite3
from contextlib import closing

import pytest
from memory import peak_of
from on_disk import staged, tree, unprivileged

from cjm_media_storage.copying import copy_each
from cjm_media_storage.files import Disk
from cjm_media_storage.maintenance import explain, gc, repair, verify
from cjm_media_storage.publishing import Library, give_out, publications_of
from cjm_media_storage.storage import (
    AmbiguousHash,
    ContentStore,
    InvalidExtension,
    InvalidHash,
    InvalidNamespace,
    InvalidRecord,
    ObjectNotFound,
    ReadOnlyStore,
    StoreBusy,
    StoreClosed,
    StoreUnavailable,
    hash_bytes,
)

POSTER = b"a poster"
HASH = hash_bytes(POSTER)


def test_what_put_says(store):
    result = store.put(POSTER, extension=".JPG")
    assert result.hash == "sha256:" + hashlib.sha256(POSTER).hexdigest()
    assert (result.size, result.namespace, result.extension) == (8, "assets", "jpg")
    assert (result.created, result.link_mode, store.put(POSTER).created, store.put(POSTER).link_mode) == (
        True,
        "copy",
        False,
        "none",
    )
    assert result.path == store.root / "assets" / HASH[7:9] / HASH[9:11] / f"{HASH[7:]}.jpg"
    assert result.path.read_bytes() == POSTER
    assert result.path.stat().st_mode & 0o777 == 0o444


def test_looking_up(store):
    result = store.put(POSTER)
    assert store.get(HASH).path == result.path == store.path(HASH) == store.find(HASH[:11]).path
    assert store.exists(HASH) and HASH in store and hash_bytes(b"x") not in store
    assert (len(store), [each.hash for each in store]) == (1, [HASH])
    assert store.read(HASH) == store.read(HASH, verify=True) == POSTER
    with store.open(HASH) as file:
        assert file.read(3) == b"a p"
    for look in (store.get, store.path, store.open, store.read, lambda hash: store.get(HASH, "actors")):
        with pytest.raises(ObjectNotFound):
            look(hash_bytes(b"never stored"))


def test_an_empty_store_is_true(store):
    assert store and len(store) == 0 and list(store) == []


def test_objects_may_be_put_while_all_are_listed(store):
    for number in range(5):
        store.put(b"%d" % number)
    seen = [store.put(each.hash.encode()) and each for each in store if len(store) < 20]
    assert len(seen) > 5


@pytest.mark.parametrize("extension", ["../../etc/x", "/x", "a\\b", "jpg\0", "..", "a/b"])
def test_fault_01_bad_extensions_write_nothing(store, extension):
    with pytest.raises(InvalidExtension):
        store.put(POSTER, extension=extension)
    assert tree(store) == []


def test_where_the_extension_comes_from(store, tmp_path):
    (tmp_path / "film.MKV").write_bytes(b"film")
    assert store.put(tmp_path / "film.MKV").extension == "mkv"
    assert store.put(b"1", extension="tar.gz", source="https://example.org/a.zip").extension == "gz"
    assert store.put(b"2", source="https://example.org/a.PNG?size=large").extension == "png"
    assert store.put(b"3", source="https://example.org/").extension == ""
    assert store.put(b"4").extension == ""


def test_fault_03_another_extension_is_a_detail_of_its_source(store):
    store.put(POSTER, extension="jpg", source="https://a.example.org/1")
    again = store.put(POSTER, extension="jpeg", source="https://b.example.org/1")
    assert (again.extension, tree(store)) == ("jpg", [f"assets/{HASH[7:9]}/{HASH[9:11]}/{HASH[7:]}.jpg"])
    assert [source.extension for source in store.sources(HASH)] == ["jpg", "jpeg"]


@pytest.mark.parametrize("hash", ["x", HASH[7:], HASH.upper(), HASH[:-1], "sha256:../../../etc/passwd", HASH.encode()])
def test_fault_04_no_method_takes_what_is_no_hash(store, hash):
    methods = [store.get, store.path, store.open, store.read, store.exists, store.sources, store.references]
    methods += [store.__contains__, lambda h: store.add_reference(h, "movie:1"), lambda h: store.add_source(h, "a")]
    methods += [lambda h: store.remove_reference(h, "movie:1"), lambda h: store.put(POSTER, expected_hash=h)]
    for method in methods:
        with pytest.raises(InvalidHash):
            method(hash)


def test_fault_05_prefixes(store):
    seen = {}
    for number in range(100_000):  # until two contents begin alike
        content = b"%d" % number
        prefix = hash_bytes(content)[7:11]
        if prefix in seen:
            break
        seen[prefix] = content
    hashes = {store.put(each).hash for each in (content, seen[prefix])}
    with pytest.raises(AmbiguousHash) as caught:
        store.find(prefix)
    assert set(caught.value.candidates) == hashes
    assert {store.find(hash[:20]).hash for hash in hashes} == hashes
    with pytest.raises(InvalidHash):
        store.find(prefix[:3])
    with pytest.raises(ObjectNotFound):
        store.find("0000" if prefix != "0000" else "1111")


@pytest.mark.parametrize("namespace", ["..", "a/b", "", ".store"])
def test_fault_06_bad_namespaces_write_nothing(store, namespace):
    with pytest.raises(InvalidNamespace):
        store.put(POSTER, namespace=namespace)
    assert tree(store) == []


# ---- sources and references


def test_two_providers_one_object(store):
    for url, provider in (("https://image.tmdb.org/p.jpg", "TMDB"), ("https://assets.fanart.tv/p.jpg", "Fanart.tv")):
        store.put(POSTER, source=url, provider=provider)
    assert [(source.provider, source.hash) for source in store.sources(HASH)] == [("TMDB", HASH), ("Fanart.tv", HASH)]
    assert (len(store), len(tree(store))) == (1, 1)
    sql = "SELECT count(DISTINCT cache_file_id), count(*) FROM asset_candidates"
    assert store._index.database.fetch(sql) == [(1, 2)]


def test_two_movies_one_object(store):
    for movie in ("movie:1", "movie:2", "movie:2"):
        store.put(POSTER, owner=movie, role="poster")
    assert [(each.owner, each.role) for each in store.references(HASH)] == [
        ("movie:1", "poster"),
        ("movie:2", "poster"),
    ]
    assert [each.hash for each in store.references(owner="movie:2")] == [HASH]
    assert len(tree(store)) == 1


def test_deleted_and_added_again(store):
    url = "https://image.tmdb.org/p.jpg"
    store.put(POSTER, source=url, provider="TMDB", owner="movie:1", role="poster")
    assert store.remove_reference(HASH, "movie:1") == 1
    assert store.remove_reference(HASH, "movie:1") == 0
    (known,) = store.find_by_source(url)  # so nothing is downloaded
    store.add_reference(known.hash, "movie:1", "poster")
    assert (store.read(known.hash), len(store.references(HASH))) == (POSTER, 1)


def test_one_url_with_several_objects_in_order_of_time(store):
    url = "https://image.tmdb.org/p.jpg"
    for content in (b"first", b"second", b"first"):
        store.put(content, source=url)
    assert [store.read(source.hash) for source in store.find_by_source(url)] == [b"second", b"first"]
    assert store.find_by_source(url, "TMDB") == store.find_by_source("https://never.example.org") == []


def test_a_file_is_found_by_its_path(store, here):
    (here / "poster.jpg").write_bytes(POSTER)
    store.put("poster.jpg")
    assert [source.hash for source in store.find_by_source(here / "poster.jpg")] == [HASH]


def test_fault_52_a_url_is_stored_as_given(store):
    urls = ["https://user:password@example.org/a.jpg", "https://example.org/" + "x" * 10_000, "javascript:alert(1)"]
    for url in urls:
        store.put(POSTER, source=url)
    assert [source.location for source in store.sources(HASH)] == urls
    assert all(store.find_by_source(url) for url in urls)
    assert len(tree(store)) == 1


def test_fault_53_references_that_cannot_be(store):
    with pytest.raises(ObjectNotFound):
        store.add_reference(HASH, "movie:1")
    with pytest.raises(ObjectNotFound):
        store.add_source(HASH, "https://example.org")
    for owner in ("", "nul\0", "\ud800", 7):
        with pytest.raises(ValueError):
            store.put(POSTER, owner=owner)
        assert tree(store) == []
    store.put(POSTER)
    with pytest.raises(ValueError):
        store.add_reference(HASH, "")
    for source in ("", "nul\0"):
        with pytest.raises(InvalidRecord):
            store.put(POSTER, source=source)
        with pytest.raises(InvalidRecord):
            store.add_source(HASH, source)
    for provider in ("\ud800", "nul\0", 7):
        with pytest.raises(InvalidRecord):
            store.put(POSTER, source="https://example.org", provider=provider)
        with pytest.raises(InvalidRecord):
            store.add_source(HASH, "https://example.org", provider)
    assert store.sources(HASH) == []


# ---- threads, processes, and the end


def test_fault_54_a_store_travels_to_other_processes(store, program):
    store.put(POSTER)
    options = {"object_mode": 0o440, "folder_mode": 0o750, "memo": False}
    with ContentStore(store.root, **options) as other:
        copy = pickle.loads(pickle.dumps(other))
        assert (copy.root, copy.id, copy._options) == (other.root, other.id, other._options)
        copy.close()
    said = program(
        """
        import sys
        from cjm_media_storage.storage import ContentStore
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        if __name__ == "__main__":
            with ContentStore(sys.argv[1]) as store, ProcessPoolExecutor(2, get_context("spawn")) as pool:
                print(list(pool.map(store.read, [sys.argv[2]] * 3)))
        """,
        store.root,
        HASH,
    )
    assert said == repr([POSTER] * 3)


def test_fault_54_a_forked_child_and_its_parent_both_go_on(store, program):
    program(
        """
        import os, sys
        from cjm_media_storage.storage import ContentStore
        store = ContentStore(sys.argv[1])
        store.put(b"before the fork")
        child = os.fork()
        store.put(b"%d" % (child == 0))
        store.put(b"x" * 3_000_000 + b"%d" % (child == 0))
        if child == 0:
            store.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        store.put(b"after the child")
        store.close()
        """,
        store.root,
    )
    assert (len(store), staged(store)) == (6, [])
    assert all(store.read(each.hash, verify=True) for each in store)


def test_fault_54_use_after_close(store):
    store.put(POSTER)
    store.close()
    store.close()
    uses = [lambda: store.put(POSTER), lambda: store.read(HASH), lambda: len(store), lambda: list(store)]
    uses += [lambda: store.sources(HASH), lambda: store.add_reference(HASH, "a"), lambda: HASH in store]
    for use in uses:
        with pytest.raises(StoreClosed):
            use()


def test_fault_55_modes_are_set_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        for name, options, modes in (
            ("usual", {}, (0o444, 0o755, 0o644)),
            ("group", {"object_mode": 0o440, "folder_mode": 0o2770}, (0o440, 0o2770, 0o660)),
        ):
            with ContentStore(tmp_path / name, **options) as store:
                path = store.put(POSTER).path
                found = (path, path.parent, store.root / ".store" / "index.db")
                assert tuple(each.stat().st_mode & 0o7777 for each in found) == modes
                assert store.root.stat().st_mode & 0o7777 == modes[1]
    finally:
        os.umask(before)


def test_fault_55_a_group_shares_a_store(open_folder):
    with ContentStore(open_folder / "store", folder_mode=0o777) as store:
        store.put(POSTER)
    with unprivileged(), ContentStore(open_folder / "store", folder_mode=0o777) as store:
        assert not store.put(POSTER).created
        assert store.put(b"by somebody else").created


def test_memory_stays_small_while_a_large_file_is_put(store, tmp_path, program):
    with (tmp_path / "film.mkv").open("wb") as file:
        file.truncate(100 << 20)
    more = program(
        """
        import resource, sys
        from cjm_media_storage.storage import ContentStore
        with ContentStore(sys.argv[1]) as store:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            store.put(sys.argv[2])
            store.put(x for x in [b"y" * 65536] * 1600)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """,
        store.root,
        tmp_path / "film.mkv",
    )
    assert int(more) < 20_000  # kB


# ---- opening, and what lies at the root


def test_a_log_that_vanishes_while_the_store_is_opened(store):
    class Folded(Disk):
        def chmod(self, path, mode):
            if path.name == "index.db-wal":
                raise FileNotFoundError(path)
            super().chmod(path, mode)

    store.put(POSTER)
    with ContentStore(store.root, disk=Folded()) as other:
        assert HASH in other


def test_fault_59_a_source_may_be_given_as_a_path_object(store, tmp_path):
    paths = [tmp_path / "poster.jpg", tmp_path / "other.png"]
    assert store.put(POSTER, source=paths[0]).extension == "jpg"
    store.add_source(HASH, paths[1])
    assert [each.location for each in store.sources(HASH)] == [str(path) for path in paths]


@pytest.mark.parametrize("swap", [True, False], ids=["another store", "nothing"])
def test_an_open_store_whose_folder_was_moved_takes_nothing(tmp_path, swap):
    "It put the bytes into the store that was there instead, and the row into its own index"
    root, moved, other = (tmp_path / name for name in ("store", "moved", "other"))
    ContentStore(other).close()
    with ContentStore(root) as store:
        root.rename(moved)
        if swap:
            other.rename(root)
        with pytest.raises(StoreUnavailable):
            store.put(POSTER)
        assert (len(store), root.exists()) == (0, swap)
        if swap:
            root.rename(other)
        moved.rename(root)
        assert store.put(POSTER).path.read_bytes() == POSTER


def test_fault_46_another_writer_holds_the_index_for_too_long(tmp_path):
    with ContentStore(tmp_path / "store", timeout=0.2) as store:
        with closing(sqlite3.connect(store.root / ".store" / "index.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreBusy):
                store.put(b"a poster")
        assert hash_bytes(b"a poster") not in store
        assert len(tree(store)) == 1  # the bytes are safe
        again = store.put(b"a poster")
        assert (again.created, again.link_mode, store.read(again.hash, verify=True)) == (True, "none", b"a poster")


def test_fault_50_listing_in_constant_memory(store):
    many = 30_000
    rows = ((f"{n:064x}", "assets", "", 1, 1, 1.0) for n in range(many))
    with store.parts.index.database.transaction() as con:
        sql = "INSERT INTO objects (digest, namespace, extension, size, mtime_ns, created_at) VALUES (?, ?, ?, ?, ?, ?)"
        con.executemany(sql, rows)
    handles = len(os.listdir("/proc/self/fd"))
    counts = []
    assert peak_of(lambda: counts.append(sum(1 for _ in store)), 4 << 20) < 4 << 20
    assert (set(counts), len(os.listdir("/proc/self/fd"))) == ({many}, handles)


def test_fault_40_no_store_is_made_where_one_should_be(tmp_path):
    with ContentStore(tmp_path / "store") as store:
        store.put(POSTER)
    (tmp_path / "store").rename(tmp_path / "unmounted")
    for options in ({"create": False}, {"id": store.id}):
        with pytest.raises(StoreUnavailable):
            ContentStore(store.root, **options)
        assert not store.root.exists()
    store.root.mkdir()  # a mount point
    for options in ({"create": False}, {"id": store.id}):
        with pytest.raises(StoreUnavailable):
            ContentStore(store.root, **options)
    assert list(store.root.iterdir()) == []
    ContentStore(store.root).close()  # another disk
    with pytest.raises(StoreUnavailable, match="another store"):
        ContentStore(store.root, id=store.id)
    with ContentStore(tmp_path / "unmounted", create=False, id=store.id) as moved:
        assert moved.read(HASH) == POSTER


def test_fault_40_a_worker_makes_no_store_on_an_empty_mount_point(store):
    travelling = pickle.dumps(store)
    store.root.rename(store.root.with_name("unmounted"))
    store.root.mkdir()
    with pytest.raises(StoreUnavailable):
        pickle.loads(travelling)
    assert list(store.root.iterdir()) == []
    with pytest.raises(StoreUnavailable):
        store.put(POSTER)


@pytest.mark.parametrize("end", ["closed", "killed", "killed in a put"])
def test_fault_41_a_store_is_read_where_nothing_may_be_written(place, program, end):
    root = place.path / "store"
    program.start(
        """
        import os, sys
        from cjm_media_storage.storage import ContentStore
        store = ContentStore(sys.argv[1])
        store.put(b"a poster", source="https://example.org/poster.jpg", owner="movie:1")
        store.put(sys.modules[ContentStore.__module__].__file__)  # an old file, for the memo, of ours

        def endless():
            yield b"x" * 2_000_000
            os.kill(os.getpid(), 9)

        if sys.argv[2] == "closed":
            store.close()
        elif sys.argv[2] == "killed":
            os.kill(os.getpid(), 9)
        else:
            store.put(endless())
        """,
        root,
        end,
    ).communicate()
    (place.path / "film.mkv").write_bytes(b"a film")
    with place.read_only():
        with ContentStore(root) as store:
            assert (len(store), store.read(HASH, verify=True), store.find(HASH[:20]).hash) == (2, POSTER, HASH)
            assert next(iter(store)).hash == HASH and HASH in store
            assert [each.location for each in store.sources(HASH)] == ["https://example.org/poster.jpg"]
            assert [each.owner for each in store.references(owner="movie:1")] == ["movie:1"]
            for content in (b"new", b"x" * 3_000_000, [b"x" * 3_000_000], place.path / "film.mkv"):
                with pytest.raises(ReadOnlyStore):
                    store.put(content)
            with pytest.raises(ReadOnlyStore):
                store.put(POSTER, owner="movie:2")
            with pytest.raises(ReadOnlyStore):
                store.add_reference(HASH, "movie:2")
            assert len(store) == 2
        with pytest.raises(ReadOnlyStore):
            ContentStore(place.path / "other")
    with ContentStore(root) as store:
        assert store.put(b"new").created
        assert staged(store) == []


USES = [
    verify,
    repair,
    gc,
    lambda store: explain(store, HASH),
    lambda store: list(copy_each(store, store)),
    lambda store: publications_of(store, HASH),
    lambda store: give_out(store, HASH, "poster.jpg"),
    lambda store: Library(store, "movies"),
]


@pytest.mark.parametrize("use", USES)
def test_what_takes_an_open_store_says_so(store, use):
    for root in (store.root, str(store.root)):
        with pytest.raises(TypeError, match=rf"is no open store: give ContentStore\('{store.root}'\)"):
            use(root)
    with pytest.raises(TypeError, match="None is no open store: give a ContentStore"):
        use(None)


def test_both_stores_of_a_copy_are_open(store):
    with pytest.raises(TypeError, match="is no open store"):
        list(copy_each(store, store.root))


@pytest.mark.parametrize("one", ["poster.png", b"a poster"])
def test_one_content_in_the_place_of_many_is_refused(store, one):
    "A string would be taken for paths of one letter each"
    with pytest.raises(TypeError, match="give a list, or use put"):
        store.put_many(one)
    assert len(store) == 0
