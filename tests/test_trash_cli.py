"The commands that delete, and how it is undone."

import os
import signal
import time

import pytest

from cjm_media_storage.storage import ContentStore, MediaAnalysisStorage


@pytest.fixture
def hashes(here, monkeypatch):
    "Of three objects, of which the first is needed"
    with ContentStore(here / "store") as store:
        put = [store.put(content).hash for content in (b"a poster", b"a film", b"a song")]
        store.add_reference(put[0], "movie:1", "poster")
        with store.parts.index.database.transaction() as con:
            con.execute("UPDATE objects SET used_at = ?", (time.time() - 86400,))
    monkeypatch.setenv("MEDIA_STORAGE_STORE", str(here / "store"))
    return put


def test_what_was_removed_comes_back_as_the_command_says(command, hashes):
    done = command("rm", hashes[1][7:12], "--reason", "a bad rip", "--keep", "7d")
    (undo,) = [line.partition("media-storage ")[2].split() for line in done.out.splitlines() if "to undo" in line]
    listed = command("trash", "list", "--json").one
    assert (listed["hash"], listed["reason"], listed["retention_days"]) == (hashes[1], "a bad rip", 7)
    assert "a bad rip" in command("trash", "list").out
    assert command(*undo).code == 0
    assert command("cat", hashes[1]).raw == b"a film"


def test_one_mistake_removes_nothing(command, hashes):
    assert command("rm", hashes[1], "00000").code == 1
    assert command("rm", hashes[1], "0").code == 2
    assert len(command("ls", "--json").lines) == 3


def test_what_is_needed_is_removed_only_with_force(command, hashes):
    done = command("rm", hashes[0])
    assert done.code == 1 and "movie:1" in done.err and "--force" in done.err
    assert command("rm", hashes[0], "--force", "--json").one["hash"] == hashes[0]
    done = command("show", hashes[0][7:])
    assert done.code == 1 and "trash restore" in done.err


def test_gc_is_a_dry_run_unless_told(command, hashes):
    planned = command("gc", "--json").one
    assert {each["hash"]: each["goes"] for each in planned["orphans"]} == {hashes[1]: True, hashes[2]: True}
    dry = command("gc")
    assert dry.code == 0 and "--delete --force" in dry.out  # more than half would go
    assert len(command("ls", "--json").lines) == 3
    refused = command("gc", "--delete")
    assert refused.code == 1 and "66%" not in refused.out and "--force" in refused.err
    assert len(command("ls", "--json").lines) == 3
    done = command("gc", "--delete", "--max-share", "1", "--keep", "1h")
    assert done.code == 0 and "To undo" in done.out
    assert command("ls", "--json").one["hash"] == hashes[0]
    assert command("gc", "--grace", "often").code == 2


def test_gc_of_a_prefix(command, hashes):
    (prefix,) = {hashes[1][7:9]} - {hashes[0][7:9], hashes[2][7:9]}
    planned = command("gc", "--prefix", prefix, "--json").one
    assert planned["objects"] == 1 and [each["hash"] for each in planned["orphans"]] == [hashes[1]]
    assert command("gc", "--prefix", prefix, "--delete", "--force").code == 0
    assert len(command("ls", "--json").lines) == 2
    assert command("gc", "--prefix", "no").code == 2


def test_gc_keeps_what_results_name(command, hashes, here):
    with MediaAnalysisStorage(here / "analysis.db") as analyses:
        analyses.save("a.mkv", hashes[1], hashes[1])
    report = command("gc", "--db", "analysis.db", "--json").one
    assert {each["hash"]: each["goes"] for each in report["orphans"]} == {hashes[1]: False, hashes[2]: True}
    assert "analysis.db name it" in command("explain", hashes[1][7:12], "--db", "analysis.db").out
    assert "no reference" in command("gc", "--explain", hashes[1]).out
    assert command("explain", hashes[0], "--json").one["why"] == "referenced by movie:1 as poster"
    assert command("gc", "--db", "nowhere.db").code == 2


def test_pins_of_the_dead_are_freed(command, hashes, here, program):
    holder = program.start(
        """
        import sys
        from cjm_media_storage.storage import ContentStore
        with ContentStore(sys.argv[1]) as store, store.pin(sys.argv[2]):
            print("pinned", flush=True)
            sys.stdin.read()
    """,
        here / "store",
        hashes[1],
    )
    assert holder.stdout.readline() == "pinned\n"
    assert command("pin-free", "--json").one == {"freed": 0, "pinned": [hashes[1]]}
    assert "pinned" in command("explain", hashes[1]).out
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert "1 freed, 0 pinned" in command("pin-free").out


def test_purge_wants_a_yes_from_a_script(command, hashes):
    command("rm", hashes[1])
    assert "nothing" in command("trash", "purge").out
    assert command("trash", "purge", "--all", "--dry-run", "--json").one["hash"] == hashes[1]
    done = command("trash", "purge", "--all")
    assert done.code == 2 and "--yes" in done.err
    assert len(command("trash", "list", "--json").lines) == 1
    assert "gone for good" in command("trash", "purge", "--all", "--yes").out
    assert command("trash", "list").raw == b""


def test_files_that_are_no_objects_come_back_by_their_number(command, hashes, here):
    (here / "mine.jpg").write_bytes(b"mine")
    with ContentStore(here / "store") as store:
        item = store.trash.take_file(here / "mine.jpg", "in the way")
    assert "a file" in command("trash", "list").out
    assert command("trash", "restore", "--id", "99").code == 2
    assert command("trash", "restore").code == 2
    refused = command("trash", "restore", "--id", item.id)
    assert (refused.code, (here / "mine.jpg").exists()) == (2, False) and "--outside" in refused.err
    restored = command("trash", "restore", "--id", item.id, "--outside", "--json").one
    assert restored["origin"] == os.fspath(here / "mine.jpg")
    assert (here / "mine.jpg").read_bytes() == b"mine"
