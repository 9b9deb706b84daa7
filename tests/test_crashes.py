"""Short workloads on a modelled disk, cut off after every call, with every choice of what was not synced yet. Whatever
is left: the store opens, what it lists is right, and what was acknowledged is there."""

import pytest
from crashing import Tape, Volume, build

from cjm_media_storage.storage import ContentStore, MissingObject, hash_bytes

pytestmark = pytest.mark.slow

A, B, C = b"a poster", b"another", b"a third one"
LIVE, TRASHED, GONE = "live", "in the trash", "gone"

# What each step does, and what it says of which content once it is acknowledged
STEPS = {
    "put": (lambda store: store.put(A, source="https://example.org/a", owner="movie:1"), {A: LIVE}),
    "put another": (lambda store: store.put(B), {B: LIVE}),
    "put again": (lambda store: store.put(A), {A: LIVE}),
    "put for actors": (lambda store: store.put(A, namespace="actors"), {A: LIVE}),
    "put many": (lambda store: [None for _ in store.put_many([A, B, C])], {A: LIVE, B: LIVE, C: LIVE}),
    "delete": (lambda store: store.delete(hash_bytes(A), force=True), {A: TRASHED}),
    "restore": (lambda store: store.trash.restore(hash_bytes(A)), {A: LIVE}),
    "purge": (lambda store: store.trash.purge(everything=True), {A: GONE}),
}
PLAIN, NO_LINKS, NO_SYNCFS = {}, {"hardlink": False}, {"syncfs": False}
WORKLOADS = [
    (PLAIN, ["put", "put another", "put again"]),
    (PLAIN, ["put many"]),
    (PLAIN, ["put", "put many"]),
    (PLAIN, ["put", "put for actors", "delete"]),
    (PLAIN, ["put", "delete", "put again"]),
    (PLAIN, ["put", "delete", "restore"]),
    (PLAIN, ["put", "delete", "purge", "put"]),
    (PLAIN, ["put many", "delete", "put many"]),
    (NO_LINKS, ["put", "put another"]),
    (NO_LINKS, ["put", "delete", "put again"]),
    (NO_LINKS, ["put", "delete", "restore"]),
    (NO_LINKS, ["put many"]),
    (NO_SYNCFS, ["put many"]),
]


def perform(root, disk, steps):
    "Run the steps on a store, and note when each is acknowledged"
    ContentStore(root, memo=False).close()
    volume = Volume.of(root, disk.calls)
    with ContentStore(root, disk=disk, memo=False) as store:
        disk.record_commits(store)
        for step in steps:
            STEPS[step][0](store)
            disk.note("acknowledged", fact=STEPS[step][1])
        cut = len(disk.calls)
    del disk.calls[cut:]  # closing is no part of it
    return volume


def allowed(calls, steps):
    "What may be said of each content after these calls: what was acknowledged, or what the step under way will say"
    done = [call.fact for call in calls if call.name == "acknowledged"]
    now = dict.fromkeys((A, B, C), GONE)
    for fact in done:
        now.update(fact)
    under_way = STEPS[steps[len(done)]][1] if len(done) < len(steps) else {}
    return {content: {state, under_way.get(content, state)} for content, state in now.items()}


def found(store, content):
    "What a store says of a content, after its bytes were read"
    hash = hash_bytes(content)
    if hash in store:
        assert store.read(hash, verify=True) == content
        return LIVE
    if items := store.trash.find(hash):
        try:
            for item in items:
                store.trash.restore(item)
        except MissingObject:  # half purged: fine if that was asked for
            return GONE
        assert store.read(hash, verify=True) == content
        return TRASHED
    return GONE


def check(root, calls, steps):
    with ContentStore(root, memo=False) as store:
        for stored in store:
            assert store.read(stored.hash, verify=True)
            assert stored.path.exists()
        for content, states in allowed(calls, steps).items():
            assert found(store, content) in states, content
        for content in (A, B, C):  # and it goes on
            assert store.read(store.put(content).hash, verify=True) == content


def name(value):
    return ", ".join(value if isinstance(value, list) else [f"no {ability}" for ability in value] or ["plain"])


@pytest.mark.parametrize(("abilities", "steps"), WORKLOADS, ids=name)
def test_fault_22_whatever_a_power_cut_leaves_is_a_good_store(tmp_path, steps, abilities):
    disk = Tape(tmp_path / "store", **abilities)
    volume = perform(tmp_path / "store", disk, steps)
    seen = set()
    for end in range(len(volume.calls) + 1):
        for names, contents, index in volume.states(end):
            key = hash(
                (
                    tuple(sorted(names.items(), key=str)),
                    tuple(sorted(contents.items())),
                    index,
                    str(allowed(volume.calls[:end], steps)),
                )
            )
            if key not in seen:
                seen.add(key)
                build(tmp_path / "after", names, contents, index)
                check(tmp_path / "after", volume.calls[:end], steps)
    assert len(seen) > 10
