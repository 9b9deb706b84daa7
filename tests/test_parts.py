"What a store is made of: is it still the one that was opened, and who may be alone in it?"

import pytest

from cjm_media_storage.files import Disk
from cjm_media_storage.storage import ContentStore, LocksUnreliable, StoreBusy, StoreUnavailable


def test_whoever_writes_looks_whether_the_store_is_there(store, tmp_path):
    store.put(b"a poster")
    store.root.rename(tmp_path / "away")
    store.root.mkdir()
    for write in (store.parts.check_root, store.parts.alone().__enter__, store.parts.maintenance().__enter__):
        with pytest.raises(StoreUnavailable):
            write()
    store.root.rmdir()
    (tmp_path / "away").rename(store.root)
    store.parts.check_root()


def test_fault_28_only_one_maintains(store, tmp_path):
    with ContentStore(store.root) as other, store.parts.maintenance():
        with pytest.raises(StoreBusy), other.parts.maintenance():
            raise AssertionError("two at once")
        assert other.put(b"a poster").created  # everybody else goes on
    with store.parts.maintenance():
        pass


@pytest.mark.parametrize("exclusive", [False, True])
def test_fault_57_without_locks_only_by_promise(tmp_path, exclusive):
    with ContentStore(tmp_path / "store", disk=Disk(flock=False), exclusive=exclusive) as store:
        assert (store.locks_work, store.parts.locks_work) == (False, exclusive)
        for hold in (store.parts.alone, store.parts.maintenance):
            if exclusive:
                with hold():
                    pass
            else:
                with pytest.raises(LocksUnreliable), hold():
                    raise AssertionError("somebody else may be there")
