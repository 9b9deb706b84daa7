"""What two programs do to a store at once, what is there before, and what may come of it.

The measure is simple: afterwards the store, and what each of the two was told, must be as if one had come after the
other. What may be different is listed here, each with its reason.
"""

import contextlib
import logging
import os
import shutil
from pathlib import Path

from interleaving import POINTS, ArmedDisk, Rules, Stage, armed
from on_disk import query

from cjm_media_storage.maintenance import gc, move_root, rebuild_index, repair, snapshot, verify
from cjm_media_storage.publishing import Library
from cjm_media_storage.snapshots import check_snapshot
from cjm_media_storage.storage import ContentStore, StorageError, hash_bytes

X, NEEDED, DELETED, FURTHER = b"a poster", b"needed by a movie", b"deleted before", b"a further one"
NAMES = {hash_bytes(each): each.decode() for each in (X, NEEDED, DELETED, FURTHER)}
HASH, URL = hash_bytes(X), "https://example.org/a.jpg"
QUOTA = len(X) + len(NEEDED) + 1
DISK = ArmedDisk()


class Place:
    "The folder of a test"

    def __init__(self, folder):
        self.folder = Path(folder)
        self.root, self.films, self.elsewhere = (self.folder / name for name in ("store", "films", "elsewhere"))

    @property
    def now(self):
        "Where the store is now"
        return self.elsewhere if (self.elsewhere / ".store" / "format.json").exists() else self.root

    def open(self, **options):
        return ContentStore(self.root, memo=False, create=False, disk=DISK, **options)


# ---- what is done: each takes a store and its place, and says what it did in a word


def put(store, place):
    result = store.put(X, source=URL)
    return "put, new" if result.created else "put, known"


def put_many(store, place):
    outcomes = list(store.put_many([X, FURTHER], owner="movie:3", durability="batch"))
    return [str(each.error) if each.error else "new" if each.result.created else "known" for each in outcomes]


def refer(store, place):
    store.add_reference(HASH, "movie:2")
    return "referred"


def pin(store, place):
    with store.pin(HASH):
        POINTS.pass_by("while it is pinned")
        try:
            return store.read(HASH).decode()
        except StorageError as e:
            return f"pinned, and {type(e).__name__}"


def read(store, place):
    with store.open(HASH) as file:
        beginning = file.read(2)
        POINTS.pass_by("while it is read")
        return (beginning + file.read()).decode()


def read_all(store, place):
    return store.read(HASH).decode()


def delete(store, place):
    store.delete(HASH)
    return "deleted"


def restore(store, place):
    store.trash.restore(HASH)
    return "restored"


def purge(store, place):
    return sorted(NAMES.get(item.hash, "a person's") for item in store.trash.purge(everything=True))


def collect(store, place):
    return sorted(NAMES[item.hash] for item in gc(store, dry_run=False, force=True).taken)


def check(store, place):
    report = verify(store, record=True)
    return [f"{each.kind} {each.path}" for each in report.problems]


def heal(store, place):
    report = repair(store, dry_run=False)
    return "repaired" if report.ok else str(report)


def write_down(store, place):
    return "written down" if check_snapshot(snapshot(store)) else "not whole"


def publish(store, place):
    publication = Library(store, place.films).publish(HASH, "poster.jpg")
    return f"published, {publication.state}"


def overwrite(store, place):
    publication = Library(store, place.films).publish(HASH, "poster.jpg", overwrite=True)
    return f"published, {publication.state}"


def unpublish(store, place):
    return Library(store, place.films).unpublish("poster.jpg").state


def sync(store, place):
    return [trouble.reason for trouble in Library(store, place.films).sync().troubles]


def move(store, place):
    return "moved" if move_root(store, place.elsewhere).moved else "not moved"


def evict(store, place):
    store.put(FURTHER)
    return "put"


def add(store, place):
    store.put(FURTHER)
    return "put"


def outgrow(store, place):
    add(store, place)
    store.delete(HASH, "over the quota", retention_days=0)
    return "put"


def finish_evict(store, place):
    store.trash.purge(reason="over the quota")
    return "put"


def close(store, place):
    store.close()
    return "closed"


def begin(place):
    ContentStore(place.root, memo=False, disk=DISK).close()
    return "opened"


def rebuild(place):
    report = rebuild_index(place.root, disk=DISK)
    return [dict(report.problems), report.missing]


WITHOUT_STORE = {"begin": begin, "rebuild": rebuild}
USE = (put, put_many, refer, pin, read, read_all, publish, overwrite, unpublish, sync, write_down, check, close)
CLEAR_UP = (delete, restore, purge, collect, heal, move, evict)
STEPS_ALONE = (add, outgrow, finish_evict)
WITH_STORE = {each.__name__: each for each in (*USE, *CLEAR_UP, *STEPS_ALONE)}
OPERATIONS = [*(each.__name__ for each in (*USE, *CLEAR_UP)), *WITHOUT_STORE]


def perform(place, name):
    "Do it, and tell what came of it"
    logging.disable()
    options = {"quota": QUOTA} if name == "evict" else {}
    with contextlib.ExitStack() as stack:
        try:
            if name in WITH_STORE:
                store = stack.enter_context(place.open(**options))
            with armed():
                said = WITH_STORE[name](store, place) if name in WITH_STORE else WITHOUT_STORE[name](place)
        except (StorageError, OSError) as e:
            said = type(e).__name__
        POINTS.tell("result", said)


# ---- what is there before


def _damage(store):
    path = store.path(HASH, "assets")
    path.chmod(0o644)
    path.write_bytes(b"a qoster!")


def _make_untracked(store):
    store.parts.index.database.execute("DELETE FROM objects WHERE digest = ?", (HASH[7:],))


BEFORE = {  # What has happened to X
    "new": lambda store, place: None,
    "live": lambda store, place: store.put(X),
    "needed": lambda store, place: store.put(X, owner="movie:1"),
    "condemned": lambda store, place: (store.put(X), store._index.database.execute(CONDEMN, (HASH[7:],))),
    "trashed": lambda store, place: (store.put(X, owner="movie:1"), store.delete(HASH, force=True)),
    "published": lambda store, place: (store.put(X), Library(store, place.films).publish(HASH, "poster.jpg")),
    "live, and a person's file": lambda store, place: (store.put(X), (place.films / "poster.jpg").write_text("mine")),
    "damaged": lambda store, place: (store.put(X), store.put(X, namespace="actors"), _split(store), _damage(store)),
    "untracked": lambda store, place: (store.put(X), _make_untracked(store)),
}
CONDEMN = "UPDATE objects SET condemned_at = 1 WHERE digest = ?"


def _split(store):
    "Give the object of another namespace its own file"
    path = store.path(HASH, "actors")
    copy = path.with_suffix(".copy")
    shutil.copy2(path, copy)
    os.replace(copy, path)


def prepare(place, before):
    "Make a store that was left alone for long"
    shutil.rmtree(place.folder, ignore_errors=True)
    place.films.mkdir(parents=True)
    with ContentStore(place.root, memo=False) as store:
        store.put(NEEDED, owner="movie:9")
        store.put(DELETED)
        store.delete(hash_bytes(DELETED))
        BEFORE[before](store, place)
        store._index.database.execute("UPDATE objects SET used_at = 1")


# ---- what is there afterwards


def _facts(store, hash, namespace):
    owners = {each.owner for each in store.references(hash)}
    return {"owners": sorted(owners), "sources": sorted({each.location for each in store.sources(hash)})}


def _left(root):
    "What nobody may leave who has come to an end"
    own = root / ".store"
    places = ("staging/*", "pins/*", "*.part", "backup/*.part", "moving.json")
    return sorted(path.relative_to(own).as_posix() for each in places for path in own.glob(each))


def _described(store):
    report = verify(store)
    trash = {NAMES.get(item.hash, "a person's"): _content(store, item) for item in store.trash}
    live = {f"{NAMES[each.hash]} in {each.namespace}": _facts(store, each.hash, each.namespace) for each in store}
    return {"live": live, "trash": trash, "problems": sorted(f"{each.kind} {each.path}" for each in report.problems)}


def _content(store, item):
    "What lies in the trash"
    (path,) = (path for each, path in store.trash._rows() if each.id == item.id)
    return path.read_text() if path.exists() else "gone"


_PUBLISHED = "SELECT path, digest FROM publications JOIN objects ON objects.id = object_id"


def _published(place, root):
    "The rows of publications, and the files"
    rows = query(root / ".store" / "index.db", _PUBLISHED)
    files = {path.relative_to(place.films).as_posix(): path.read_text() for path in place.films.rglob("*")}
    return {os.path.relpath(path, place.films): NAMES[f"sha256:{digest}"] for path, digest in rows}, files


def describe(place):
    "All that counts of a store, when nobody uses it"
    root = place.now
    left, quarantine = _left(root), sorted(path.read_text() for path in (root / ".store" / "quarantine").glob("*"))
    on_their_way = query(root / ".store" / "index.db", "SELECT digest FROM objects WHERE state = 'trashing'")
    with ContentStore(root, memo=False, create=False) as store:
        state = _described(store)
        rows, files = _published(place, root)
    state |= {"quarantine": quarantine, "rows of publications": rows, "published": files, "left": left}
    POINTS.tell("result", state | {"on their way": len(on_their_way), "moved": root == place.elsewhere})


# ---- what may come of it

MAINTENANCE = ("collect", "heal", "rebuild", "move")
OTHER_PLACE = ("StoreMoved", "StoreUnavailable")


def may_refuse(name, said, other):
    "May an operation say that it did nothing, because of what the other is just doing?"
    if said == "StoreBusy":
        return (name in MAINTENANCE and other in MAINTENANCE) or name == other == "write_down"
    if said in OTHER_PLACE:
        return other in ("move", "rebuild")
    if said == "IndexMissing":
        return other == "rebuild"  # the old one is set aside, and the new one not yet in its place
    if said == "ObjectInUse":
        return name == "delete" and other == "pin"
    return said == [] and name == "collect" and other == "pin"


# What is pinned is not evicted, and where the store is another one by now, eviction stops halfway
INSTEAD = {("evict", "pin"): ["add"], **{("evict", other): ["add", "outgrow"] for other in ("move", "rebuild")}}
STEPS = {"evict": [("add", "evict"), ("outgrow", "finish_evict")]}


TAKING = ("delete", "purge", "evict")  # Operations that may take an object which was just put
SUCCESS = ("put, new", "put, known", "referred", "restored", ["new", "new"], ["known", "new"])


def holds(name, said, other, state):
    "Is an object there that somebody was told is there?"
    return said not in SUCCESS or other in TAKING or "a poster in assets" in state["live"]


KILLED = ("put", "put_many", "refer", "delete", "restore", "publish")  # All of it is done, or nothing


def lasting(state):
    "A state without what a dead process leaves for those who come later; a file without a row is waste (I3)"
    problems = [each for each in state["problems"] if not each.startswith(("leftover", "untracked"))]
    published = {name: content for name, content in state["published"].items() if not name.startswith(".")}
    return state | {"problems": problems, "published": published, "left": [], "on their way": 0}


def stage(folder):
    "Where all this happens"
    place = Place(folder / "work")
    works = [lambda before: prepare(place, before), lambda name: perform(place, name), lambda: describe(place)]
    return Stage(folder, *works, Rules(may_refuse, INSTEAD, STEPS, holds, lasting))
