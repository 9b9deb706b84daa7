"""Anything in any order: a store against plain dictionaries. Hypothesis makes up the programs; with
`--hypothesis-profile=long` it runs many more of them."""

import os
import shutil
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

import pytest
from effort import effort
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cjm_media_storage.maintenance import gc, move_root, rebuild_index, repair, snapshot, verify
from cjm_media_storage.storage import ContentStore, ObjectInUse, ObjectNotFound, PutItem, StoreUnavailable, hash_bytes

NUMBERS, NAMESPACES = st.integers(0, 2), st.sampled_from(["assets", "actors"])
OWNERS = st.sampled_from(["movie:1", "movie:2"])


def content(number):
    return b"content %d" % number


def name(number):
    return hash_bytes(content(number))


def url(number):
    return f"https://example.org/{number}"


class StoreModel(RuleBasedStateMachine):
    "What is done to a store is done to dictionaries, too"

    @initialize()
    def begin(self):
        memory = Path("/dev/shm")  # no power is cut here
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.live, self.trashed = {}, {}  # (number, namespace) to the owners who need it
        self.damaged, self.moves = set(), 0
        self.pins, self.pinned = ExitStack(), set()
        self.clock, self.ahead, self.latest = time.time, 0.0, 0.0
        time.time = lambda: self.clock() + self.ahead  # no test may set the clock of the computer
        self.root = self.folder / "store-0"
        self.store = ContentStore(self.root)

    def teardown(self):
        if hasattr(self, "store"):
            self.pins.close()
            self.store.close()
            time.time = self.clock
            shutil.rmtree(self.folder)

    def entry(self, key):
        (entry,) = self.store.parts.index.entries(name(key[0])[7:], key[1])
        return entry

    def arrive(self, key, owner):
        owners = self.live.setdefault(key, self.trashed.pop(key, set()))
        owners |= {owner} - {None}
        self.damaged.discard(key)

    # ---- putting and saying

    @rule(number=NUMBERS, namespace=NAMESPACES, owner=st.none() | OWNERS)
    def put(self, number, namespace, owner):
        known = (number, namespace) in self.live
        result = self.store.put(content(number), namespace=namespace, source=url(number), owner=owner)
        assert (result.hash, result.created) == (name(number), not known)
        self.arrive((number, namespace), owner)

    @rule(numbers=st.lists(NUMBERS, max_size=6), namespace=NAMESPACES, owner=st.none() | OWNERS)
    def put_many(self, numbers, namespace, owner):
        items = [PutItem(content(number), source=url(number)) for number in numbers]
        outcomes = self.store.put_many(items, namespace=namespace, owner=owner)
        for number, outcome in zip(numbers, outcomes, strict=True):
            assert outcome.result.hash == name(number)
            self.arrive((number, namespace), owner)

    @rule(number=NUMBERS, owner=OWNERS)
    def refer(self, number, owner):
        keys = [key for key in self.live if key[0] == number]
        if not keys:
            with pytest.raises(ObjectNotFound):
                self.store.add_reference(name(number), owner)
            return
        self.store.add_reference(name(number), owner)
        first = min(keys, key=lambda key: self.entry(key).id)
        self.live[first].add(owner)

    @rule(number=NUMBERS, owner=OWNERS)
    def no_longer_refer(self, number, owner):
        self.store.remove_reference(name(number), owner)
        for where in (self.live, self.trashed):
            for key, owners in where.items():
                if key[0] == number:
                    owners.discard(owner)

    @rule(number=NUMBERS)
    def pin(self, number):
        if any(key[0] == number for key in self.live):
            self.pins.enter_context(self.store.pin(name(number)))
            self.pinned.add(number)

    @rule()
    def unpin(self):
        self.pins.close()
        self.pinned.clear()

    # ---- deleting

    @precondition(lambda self: not self.damaged)
    @rule(number=NUMBERS, force=st.booleans())
    def delete(self, number, force):
        keys = [key for key in self.live if key[0] == number]
        if not keys:
            with pytest.raises(ObjectNotFound):
                self.store.delete(name(number), force=force)
        elif not force and (number in self.pinned or any(self.live[key] for key in keys)):
            with pytest.raises(ObjectInUse):
                self.store.delete(name(number))
        else:
            self.store.delete(name(number), force=force)
            self.trashed.update({key: self.live.pop(key) for key in keys})

    @rule(number=NUMBERS)
    def restore(self, number):
        keys = [key for key in self.trashed if key[0] == number]
        if not keys:
            with pytest.raises(ObjectNotFound):
                self.store.trash.restore(name(number))
            return
        self.store.trash.restore(name(number))
        self.live.update({key: self.trashed.pop(key) for key in keys})

    @rule()
    def purge(self):
        assert len(self.store.trash.purge(everything=True)) == len(self.trashed)
        self.trashed.clear()

    @precondition(lambda self: not self.damaged)
    @rule()
    def collect(self):
        self.ahead = self.latest  # what was used later than now is young
        gone = {key for key, owners in self.live.items() if not owners and key[0] not in self.pinned}
        assert len(gc(self.store, grace=0).condemned) == len(gone)
        assert len(gc(self.store, grace=0, dry_run=False, force=True).taken) == len(gone)
        self.trashed.update({key: self.live.pop(key) for key in gone})

    @rule(number=NUMBERS)
    def open(self, number):
        keys = {key for key in self.live if key[0] == number}
        if not keys & self.damaged and keys:
            with self.store.open(name(number), verify=True) as file:
                assert file.read() == content(number)
        elif not keys:
            with pytest.raises(ObjectNotFound):
                self.store.open(name(number))

    @rule(number=NUMBERS, owner=OWNERS)
    def put_in_a_forked_child(self, number, owner):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a snapshot may be taken on a thread just then
            child = os.fork()
        if child == 0:
            try:
                self.store.put(content(number), source=url(number), owner=owner)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        self.arrive((number, "assets"), owner)

    # ---- what happens behind its back

    @rule(step=st.sampled_from([-1e6, -1.0, 1.0, 1e6]))
    def set_the_clock(self, step):
        self.ahead += step
        self.latest = max(self.latest, self.ahead)

    @rule(number=NUMBERS, namespace=NAMESPACES, how=st.sampled_from(["other bytes", "longer", "gone"]))
    def damage(self, number, namespace, how):
        key = number, namespace
        if key in self.live:
            path = self.store.path(name(number), namespace)
            path.unlink(missing_ok=True)
            if how != "gone":
                path.write_bytes(b"x" * (len(content(number)) + (how == "longer")))
            self.damaged.add(key)

    @precondition(lambda self: self.damaged)
    @rule()
    def heal(self):
        assert len(verify(self.store).problems) == len(self.damaged)
        numbers = {url(number): number for number in range(5)}
        done = repair(self.store, fetch=lambda source: content(numbers[source.location]), dry_run=False)
        assert done.ok, str(done)
        self.damaged.clear()

    @rule()
    def reopen(self):
        self.unpin()
        self.store.close()
        self.store = ContentStore(self.root)

    @rule()
    def move_by_hand(self):
        self.unpin()
        self.store.close()
        self.moves += 1
        self.root = self.root.rename(self.folder / f"store-{self.moves}")
        self.store = ContentStore(self.root)

    @precondition(lambda self: not self.damaged)
    @rule(remove=st.booleans())
    def move(self, remove):
        self.unpin()
        self.moves += 1
        new = self.folder / f"store-{self.moves}"
        assert move_root(self.store, new, remove=remove).moved
        with pytest.raises(StoreUnavailable):
            self.store.put(b"too late")
        self.store.close()
        self.root, self.store = new, ContentStore(new)

    @precondition(lambda self: not self.damaged)
    @rule(lost=st.booleans())
    def rebuild(self, lost):
        self.unpin()
        snapshot(self.store)
        self.store.close()
        if lost:
            for path in (self.root / ".store").glob("index.db*"):
                path.unlink()
        rebuild_index(self.root)
        self.store = ContentStore(self.root)

    # ---- what is always so

    @invariant()
    def they_agree(self):
        if not hasattr(self, "store"):
            return
        assert {(int(self._number(each.hash)), each.namespace) for each in self.store} == set(self.live)
        assert {(int(self._number(item.hash)), item.namespace) for item in self.store.trash} == set(self.trashed)
        wanted = sorted((name(number), owner) for (number, _), owners in self.live.items() for owner in owners)
        assert sorted((each.hash, each.owner) for each in self.store.references()) == wanted
        for number in {number for number, _ in self.live} - {number for number, _ in self.damaged}:
            assert self.store.read(name(number), verify=True) == content(number)
            assert url(number) in [source.location for source in self.store.sources(name(number))]

    @staticmethod
    def _number(hash):
        return next(number for number in range(5) if name(number) == hash)


TestStore = StoreModel.TestCase
TestStore.settings = effort(max_examples=30, stateful_step_count=25)
