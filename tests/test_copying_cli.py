"The commands `push` and `pull`, run as people run them."

import os
import signal
import subprocess

import pytest
from commands import PROGRAM, run
from damage import damage, fill

from cjm_media_storage.storage import ContentStore
from cjm_media_storage.verifying import verify


@pytest.fixture
def films(here, monkeypatch):
    "A store of three objects, which is the one that is meant"
    with ContentStore(here / "films") as store:
        results = fill(store, 3)
        store.put(b"a portrait", namespace="actors", owner="actor:1")
    monkeypatch.setenv("MEDIA_STORAGE_STORE", str(here / "films"))
    return results


def held(folder):
    with ContentStore(folder, create=False) as store:
        assert verify(store).ok
        return {(each.namespace, each.hash) for each in store}


def test_push_makes_a_store_and_sends_what_it_lacks(command, films, here):
    done = command("push", here / "other")
    assert (done.code, done.out) == (0, "copied: 4 objects, 34 bytes; known: 0\n")
    assert held(here / "other") == held(here / "films")
    again = command("push", here / "other", "--json")
    assert (again.code, again.one) == (
        0,
        {"copied": 0, "bytes": 0, "known": 4, "failed": 0, "failures": [], "ok": True},
    )


def test_pull_fetches_what_this_store_lacks(command, films, here):
    ContentStore(here / "home").close()
    done = command("pull", here / "films", "--store", here / "home", "--threads", 1)
    assert done.code == 0 and held(here / "home") == held(here / "films")


def test_a_namespace_and_first_digits_narrow_it(command, films, here):
    assert command("push", here / "actors", "--namespace", "actors", "--json").one["copied"] == 1
    first = [each.hash[7:17] for each in films[:2]]
    assert command("push", here / "some", *first, "--json").one["copied"] == 2
    assert held(here / "some") == {("assets", each.hash) for each in films[:2]}


def test_damage_is_named_and_exits_with_1(command, films, here):
    damage(films[0].path, b"objecx 0")
    films[1].path.unlink()
    done = command("push", here / "other")
    assert done.code == 1 and "copied: 2 objects" in done.out
    assert all(each.hash in done.out for each in films[:2]) and "media-storage repair" in done.out
    told = command("push", here / "other", "--json")
    assert told.code == 1 and not told.one["ok"] and told.one["failed"] == 2
    assert {each["hash"] for each in told.one["failures"]} == {each.hash for each in films[:2]}
    assert len(held(here / "other")) == 2


def test_what_cannot_be_meant_is_refused_and_makes_nothing(command, films, here):
    (here / "full").mkdir()
    (here / "full" / "letter.txt").write_bytes(b"dear")
    before = sorted(os.walk(here))
    for words in (
        ["pull", here / "nowhere"],
        ["pull", here / "full"],
        ["push", here / "full"],
        ["push", here / "films" / "assets" / "inside"],
        ["push", here / "other", "--store", here / "nowhere"],
    ):
        done = command(*words)
        assert done.code == 2 and done.err.startswith("media-storage: ") and not done.out, words
    assert command("push").code == command("pull").code == 2
    assert sorted(os.walk(here)) == before


def test_a_hash_that_is_not_there_is_told(command, films, here):
    done = command("push", here / "other", "00000000")
    assert done.code == 1 and "no object" in done.err


def test_ctrl_c_ends_it_between_two_objects_and_the_same_command_goes_on(here):
    with ContentStore(here / "films") as store:
        list(store.put_many(b"object %d" % number for number in range(3000)))
    process = subprocess.Popen(
        [*PROGRAM, "push", here / "other", "--store", here / "films"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(here.glob("other/assets/??")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out.startswith("copied: ") and "run the same command again" in err
    done = run("push", here / "other", "--store", here / "films", "--json")
    assert done.code == 0 and done.one["known"] > 0 and done.one["copied"] + done.one["known"] == 3000


# ---- buckets


@pytest.mark.parametrize("database", ["folder", "server"])
def test_to_a_bucket_and_back(command, films, here, s3, database, request):
    bucket, index = (
        f"s3://{s3.new_bucket()}/library",
        here / "index" if database == "folder" else request.getfixturevalue("url"),
    )
    done = command("push", bucket, "--database", index)
    assert (done.code, done.out) == (0, "copied: 4 objects, 34 bytes; known: 0\n"), done.err
    assert command("push", bucket, "--database", index, "--json").one["known"] == 4
    ContentStore(here / "back").close()
    done = command("pull", bucket, "--database", index, "--store", here / "back")
    assert (done.code, held(here / "back")) == (0, held(here / "films"))


def test_to_a_folder_for_many_machines_and_back(command, films, here, url):
    done = command("push", here / "shared", "--database", url)
    assert (done.code, done.out) == (0, "copied: 4 objects, 34 bytes; known: 0\n"), done.err
    ContentStore(here / "back").close()
    assert command("pull", here / "shared", "--store", here / "back").code == 2
    done = command("pull", here / "shared", "--database", url, "--store", here / "back")
    assert (done.code, held(here / "back")) == (0, held(here / "films"))


def test_a_bucket_needs_a_database_and_a_folder_has_its_own(command, films, here, s3):
    bucket = f"s3://{s3.new_bucket()}/library"
    for words in (["push", bucket], ["pull", bucket], ["push", here / "other", "--database", here / "index"]):
        done = command(*words)
        assert done.code == 2 and "--database" in done.err and not (here / "other").exists()
    done = command("pull", bucket, "--database", here / "index")
    assert done.code == 1 and "there is no store" in done.err


def test_a_password_in_the_address_is_not_shown(command, films, s3):
    done = command("push", f"s3://{s3.new_bucket()}/x", "--database", "postgresql://ann:hunter2@127.0.0.1:1/media")
    assert done.code == 1 and "hunter2" not in done.out + done.err
