"Everybody at once on one store: who puts, reads, refers, collects, verifies, publishes and deletes, each in a process."

from on_disk import staged, tree

from cjm_media_storage.maintenance import verify
from cjm_media_storage.storage import ContentStore

ROUNDS = 40

SHARED = """
import random, sys
from cjm_media_storage.maintenance import gc, repair, verify
from cjm_media_storage.publishing import Library
from cjm_media_storage.storage import (
    ContentStore, ObjectInUse, ObjectNotFound, PutItem, StoreBusy, hash_bytes
)
root, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
store = ContentStore(root)
def content(number):
    return b"poster %d" % number * 500
"""

PUTS = (
    SHARED
    + """
for round in range(rounds):
    numbers = [chance.randrange(60) for _ in range(4)]
    mine = 1000 + seed * 1000 + round  # nobody else puts, needs or deletes this one
    assert store.put(content(mine), owner=f"process:{seed}").path.exists()
    for outcome in store.put_many([PutItem(content(n), owner=None) for n in numbers]):
        assert outcome.error is None, outcome.error
    print(hash_bytes(content(mine)), flush=True)
"""
)

READS = (
    SHARED
    + """
for round in range(rounds * 3):
    hash = hash_bytes(content(chance.randrange(60)))
    try:
        with store.pin(hash):
            assert hash_bytes(store.read(hash)) == hash
    except ObjectNotFound:
        pass
"""
)

TIDIES = (
    SHARED
    + """
for round in range(rounds // 4):
    try:
        gc(store, grace=0, dry_run=False, force=True)
        done = repair(store, dry_run=False)
        assert done.counts == {}, str(done)
    except StoreBusy:
        pass
    report = verify(store)
    assert report.ok, str(report)
    store.trash.purge(everything=chance.random() < 0.5)
"""
)

DELETES = (
    SHARED
    + """
for round in range(rounds):
    hash = hash_bytes(content(chance.randrange(60)))
    try:
        (item, *_) = store.delete(hash)
        if chance.random() < 0.5:
            store.trash.restore(item)
    except (ObjectInUse, ObjectNotFound):
        pass
"""
)

PUBLISHES = (
    SHARED
    + """
library = Library(store, sys.argv[4])
for round in range(rounds):
    number = chance.randrange(60)
    try:
        library.publish(hash_bytes(content(number)), f"{number % 7}/poster.jpg")
    except (ObjectNotFound, StoreBusy):
        pass
library.sync()
"""
)


def test_everybody_at_once(tmp_path, program):
    root, films = tmp_path / "store", tmp_path / "films"
    ContentStore(root).close()
    texts = [f"{text}\nstore.close()" for text in (PUTS, PUTS, READS, TIDIES, TIDIES, DELETES, PUBLISHES, PUBLISHES)]
    running = [program.start(text, root, seed, ROUNDS, films) for seed, text in enumerate(texts)]
    said = [program.end(each).split() for each in running]
    acknowledged = [hash for hashes in said[:2] for hash in hashes]
    assert len(acknowledged) == 2 * ROUNDS
    with ContentStore(root) as store:
        assert [hash for hash in acknowledged if hash not in store] == []
        report = verify(store)
        assert report.ok and report.complete, str(report)
        assert len(tree(store)) == len(store) and staged(store) == []
    for path in films.rglob("*.jpg"):
        number = int(path.read_bytes().split()[1].removesuffix(b"poster"))
        assert path.read_bytes() == b"poster %d" % number * 500
