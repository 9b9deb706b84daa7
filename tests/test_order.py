"""The order of calls: bytes are synced before they get a name, names before the index says that they are there, and
only then is anything acknowledged. Leave any one sync out, and this fails."""

import os

import pytest
from crashing import Call, Tape
from test_crashes import STEPS

from cjm_media_storage.storage import ContentStore

WORK = {  # What comes before, and what is looked at
    "put": ([], "put"),
    "put for actors": (["put"], "put for actors"),
    "put many": ([], "put many"),
    "delete": (["put"], "delete"),
    "restore": (["put", "delete"], "restore"),
    "put what was deleted": (["put", "delete"], "put"),
    "purge": (["put", "delete"], "purge"),
}
CAREFUL = {"restore", "put what was deleted"}  # They sync more than they need to, since they cannot know what is synced

ABILITIES = [{}, {"hardlink": False}, {"syncfs": False}, {"rename_flags": False}]


class Forgetful(Tape):
    "A disk that leaves one sync out"

    def __init__(self, root, left_out, **abilities):
        super().__init__(root, **abilities)
        object.__setattr__(self, "left_out", left_out)

    def note(self, name, path=None, **more):
        if name.startswith("sync") and self.calls[:1] == [Call("begin")]:  # not while the store is opened
            object.__setattr__(self, "left_out", self.left_out - 1)
            if self.left_out == -1:
                return
        super().note(name, path, **more)


def changes_that_a_cut_may_lose(calls, end):
    "Names and bytes that the index is about to rely on, and that no sync has covered"
    lost, synced_files, synced_folders = [], set(), set()
    for call in reversed(calls[:end]):
        if call.name == "sync_all":
            break
        if call.name == "sync_file":
            synced_files.add(call.inode)
        elif call.name == "sync_folder":
            synced_folders.add(call.path)
        elif call.name == "content" and call.inode not in synced_files:
            lost.append(call)
        elif call.name in ("make", "name", "move", "unname"):
            folders = {os.path.dirname(path) or "." for path in _relied_on(call)}
            if not folders <= synced_folders:
                lost.append(call)
    named = {
        call.inode for call in calls[:end] if call.name in ("name", "move") and not _private(call.other or call.path)
    }
    return [
        call
        for call in lost
        if (call.inode in named if call.name == "content" else not _private(call.other or call.path))
    ]


def _relied_on(call):
    "Paths of a change that must be durable: a name that stays in staging or the trash as well is only waste"
    if call.name == "move":
        return [call.other, *([] if call.path.startswith(".store") else [call.path])]
    return [] if _private(call.path) else [call.path]


def _private(path):
    return path.startswith((".store/staging", ".store/pins"))


def out_of_order(calls):
    "What is wrong with the order of calls; empty if nothing is"
    wrong = []
    for n, call in enumerate(calls):
        if call.name in ("name", "move") and not _private(call.other or call.path):
            lost = [c for c in changes_that_a_cut_may_lose([*calls[:n], call], n + 1) if c.name == "content"]
            wrong += [("named before it was synced", call.path) for each in lost if each.inode == call.inode]
        if call.name == "commit":
            wrong += [("committed before it was synced", each) for each in changes_that_a_cut_may_lose(calls, n)]
    committed = max(n for n, call in enumerate(calls) if call.name == "commit")
    acknowledged = next(n for n, call in enumerate(calls) if call.name == "acknowledged")
    return wrong + ([] if committed < acknowledged else [("acknowledged before it was committed", "")])


def perform(disk, before, step):
    with ContentStore(disk.root, memo=False) as store:
        for each in before:
            STEPS[each][0](store)
    with ContentStore(disk.root, disk=disk, memo=False) as store:
        store.parts.staging.claim()  # a folder whose name nobody needs after a cut
        disk.calls[:] = [Call("begin")]
        disk.record_commits(store)
        STEPS[step][0](store)
        disk.note("acknowledged")
        calls = list(disk.calls)
    return calls


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("abilities", ABILITIES, ids=["plain", "no links", "no syncfs", "no flags of rename"])
def test_the_order_of_calls_and_that_every_sync_is_needed(tmp_path, work, abilities):
    calls = perform(Tape(tmp_path / "whole", **abilities), *WORK[work])
    assert out_of_order(calls) == []
    syncs = sum(call.name.startswith("sync") for call in calls)
    assert syncs > 0
    needless = []
    for n in range(0 if work in CAREFUL else syncs):
        disk = Forgetful(tmp_path / f"without-{n}", n, **abilities)
        if not out_of_order(perform(disk, *WORK[work])):
            needless.append([call for call in calls if call.name.startswith("sync")][n])
    assert needless == []
