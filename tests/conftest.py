"The fixtures that several test files share."

import io
import os
import shutil
import tempfile
from contextlib import closing
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
from commands import Command
from hypothesis import settings
from left import Before
from on_disk import ODD_NAMES, Place, memory_disk
from programs import Program
from results import KINDS
from s3 import CREDENTIALS, ENDPOINT, Server, why_not
from servers import running, schema, start
from stores import InBucket, OnDisk, Served, Shared
from words import open_words

from cjm_media_storage.index import Index
from cjm_media_storage.storage import ContentStore

settings.register_profile("project", deadline=None, database=None)  # a busy machine is no failure
settings.register_profile("long", deadline=None, database=None, max_examples=2000, stateful_step_count=60)
settings.load_profile("project")

SLOW = {"plugins", "dask", "buckets", "kills", "release", "types", "site", "power"}


def pytest_collection_modifyitems(items):
    "Mark what asks an S3 server, and as slow whatever has a mark of its own"
    for item in items:
        where = item.callspec.params.get("where", "disk") if hasattr(item, "callspec") else "disk"
        if "s3_server" in item.fixturenames or where != "disk":
            item.add_marker(pytest.mark.buckets)
        if SLOW & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    "One more than there are cores: tests wait for disks, servers and other processes, too"
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def nothing_left():
    "Descriptors and threads are as many after a test as before it"
    before = Before()
    yield
    left = before.left()
    assert not left, "\n".join(left)


@pytest.fixture
def program(tmp_path_factory):
    "Runs second programs"
    return Program(tmp_path_factory.mktemp("programs"))


@pytest.fixture(params=KINDS.values(), ids=lambda kind: kind.name)
def kind(request):
    "Each of the two result storages"
    return request.param


@pytest.fixture
def path(tmp_path):
    "Where a database will be"
    return tmp_path / "results.db"


@pytest.fixture(scope="session")
def server():
    "A PostgreSQL server"
    yield from running(start)


@pytest.fixture
def url(server):
    "A new schema on a server"
    with schema(server.url) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request):
    "Where a database will be, on each of the engines"
    return request.getfixturevalue("path" if request.param == "sqlite" else "url")


@pytest.fixture
def new(tmp_path):
    "Where the results of all files come together"
    return tmp_path / "new" / "results.db"


@pytest.fixture
def database(path):
    "A database of words"
    with closing(open_words(path)) as database:
        yield database


@pytest.fixture(params=["log", "rollback journal"])
def journal(request, monkeypatch):
    "Both journals: that of local disks, and that of network file systems"
    if request.param == "rollback journal":
        monkeypatch.setattr("cjm_media_storage.database.on_network", lambda folder: True)
    return request.param


@pytest.fixture
def store(tmp_path):
    "A new store"
    with ContentStore(tmp_path / "store") as store:
        yield store


@pytest.fixture
def poster(store):
    "A poster in the store: its hash"
    return store.put(b"a poster").hash


@pytest.fixture
def index(address):
    "The index of a new store, on each of the engines"
    index = Index(address)
    yield index
    index.database.close()


@pytest.fixture
def small_groups(monkeypatch):
    "Groups of ten, in tasks of two"
    monkeypatch.setattr("cjm_media_storage.groups.GROUP_ITEMS", 10)
    monkeypatch.setattr("cjm_media_storage.batches.ITEMS_PER_TASK", 2)


@pytest.fixture
def mine(tmp_path):
    "A person's own file"
    path = tmp_path / os.fsdecode(b"caf\xe9 \n mine.jpg")
    path.write_bytes(b"my own poster")
    path.chmod(0o640)
    os.utime(path, (1000, 1000))
    return path


@pytest.fixture
def episode(tmp_path):
    "A recording"
    path = tmp_path / "episode.wav"
    path.write_bytes(b"speech")
    return path


@pytest.fixture(scope="session")
def fonts():
    "Matplotlib keeps the files of fonts open once it has drawn"
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    with io.BytesIO() as png:
        pyplot.figure().suptitle("drawn", fontweight="bold")
        pyplot.gcf().text(0, 0, "drawn")
        pyplot.savefig(png)


@pytest.fixture
def figures(fonts):
    "Figures may be drawn, and are closed"
    from matplotlib import pyplot

    yield
    pyplot.close("all")


@pytest.fixture
def here(tmp_path, monkeypatch):
    "The test's own folder, as the current one"
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(here, monkeypatch, capfdbinary):
    "Runs `media-storage` in this process, and reads what it printed"
    for name in ("STORE", "DATABASE", "DB", "LIBRARY"):
        monkeypatch.delenv(f"MEDIA_STORAGE_{name}", raising=False)
    return Command(monkeypatch, capfdbinary)


@pytest.fixture
def films(here):
    "Files with odd names, each there twice; and some that are none"
    folder = here / "films"
    (folder / "copies").mkdir(parents=True)
    for name in ODD_NAMES:
        for place in (folder, folder / "copies"):
            Path(os.fsdecode(os.path.join(os.fsencode(place), name))).write_bytes(b"content of " + name)
    (folder / "gone.mkv").symlink_to(here / "nowhere")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture
def open_folder():
    "A folder that every user can reach, which pytest's own is not"
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    for path in (folder, *folder.iterdir()):
        path.chmod(0o777)  # a test may have closed it
    shutil.rmtree(folder)


@pytest.fixture
def quick(tmp_path):
    "A folder in memory, where there is one: for tests that sync thousands of times, and cut no power"
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["disk", "folder"])
def place(request, open_folder):
    "A folder that a test can close for writing"
    if request.param == "folder":
        yield Place(open_folder, "folder")
        return
    with memory_disk(open_folder, "8m"):
        yield Place(open_folder, "disk")


@pytest.fixture
def temporary(monkeypatch):
    "The folder for temporary files, with nothing else in it"
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def s3_server():
    "A server of S3, once for all tests"
    if reason := why_not():
        pytest.skip(reason)
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def s3_client(s3_server):
    "The client's threads and descriptors, which stay to the end of the program, are there before a test is looked at"
    from cjm_media_storage.bucket import Bucket

    patch = pytest.MonkeyPatch()
    for name, value in {**CREDENTIALS, ENDPOINT: s3_server.url}.items():
        patch.setenv(name, value)
    bucket = Bucket(f"s3://{s3_server.new_bucket()}")
    bucket.create("first", b"")
    bucket.close()
    patch.undo()


@pytest.fixture
def s3(s3_server, s3_client, monkeypatch):
    "A server of S3, and an environment that leads to it"
    for name, value in {**CREDENTIALS, ENDPOINT: s3_server.url}.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def in_bucket(tmp_path, s3):
    "A store in a fresh bucket, not open yet"
    return InBucket(tmp_path, s3)


@pytest.fixture
def served(tmp_path, s3, url):
    "A store in a fresh bucket whose index is on a server, not open yet"
    return Served(tmp_path, s3, url)


@pytest.fixture
def shared(tmp_path, url):
    "A store in a folder whose index is on a server, not open yet"
    return Shared(tmp_path, url)


@pytest.fixture(scope="session")
def tracker():
    "Whoever spawns first starts a process of Python's own that stays until the end; here that is before a test"
    resource_tracker.ensure_running()


KINDS_OF_STORE = {"disk": (), "shared": ("server",), "bucket": ("s3_client",), "server": ("s3_client", "server")}


@pytest.fixture(scope="session", params=KINDS_OF_STORE)
def where(request):
    "Where bytes and rows are; servers are started before a test is looked at"
    for name in KINDS_OF_STORE[request.param]:
        request.getfixturevalue(name)
    return request.param


@pytest.fixture
def any_kind(request, where, tmp_path):
    "Each kind of store, not open yet"
    if where == "disk":
        return OnDisk(tmp_path)
    return request.getfixturevalue({"shared": "shared", "bucket": "in_bucket", "server": "served"}[where])


@pytest.fixture
def any_store(any_kind):
    "A new store of each kind"
    with any_kind.open() as store:
        yield store
