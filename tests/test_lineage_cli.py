"The command that tells where a file comes from."

import os
import re

import pytest

from cjm_media_storage.storage import MediaProcessingStorage, hash_file


@pytest.fixture
def recorded(here):
    (here / "film.mkv").write_bytes(b"a film")
    (here / "cut <1>.mkv").write_bytes(b"a cut")
    with MediaProcessingStorage(here / "jobs.db") as storage:
        files = [each for name in ("film.mkv", "cut <1>.mkv") for each in (here / name, hash_file(here / name))]
        storage.save("job-1", "cut", *files)
    return hash_file(here / "film.mkv")


def test_by_path_and_by_hash(command, recorded):
    for file in ("film.mkv", recorded):
        done = command("lineage", file, "--db", "jobs.db")
        assert done.code == 0
        assert re.search(r"^film\.mkv +cut +cut <1>\.mkv +1", done.out, re.MULTILINE)
    assert "nobody recorded" in command("lineage", "jobs.db", "--db", "jobs.db").out


def test_for_other_programs(command, recorded):
    options = ("lineage", "film.mkv", "--db", "jobs.db")
    assert 'n1["cut #60;1#62;.mkv<br/>' in command(*options, "--mermaid").out
    assert command(*options, "--json").one["hash"] == recorded
    assert command(*options, "--openlineage").one["inputs"][0]["name"] == recorded


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["nowhere.mkv", "--db", "jobs.db"], 1, "nowhere.mkv"),
        (["film.mkv", "--db", "nowhere.db"], 1, "nowhere.db is unavailable"),
        (["film.mkv", "--db", "film.mkv"], 1, "cannot be used as a database"),
        (["film.mkv", "--db", "jobs.db", "--store", "nowhere"], 1, "there is no store"),
        (["film.mkv", "--db", "jobs.db", "--json", "--mermaid"], 2, "give one of"),
        (["film.mkv"], 2, "--db"),
    ],
)
def test_mistakes(command, recorded, here, args, code, message):
    before = sorted(os.listdir(here))
    done = command("lineage", *args)
    assert (done.code, done.raw, done.err.count("\n")) == (code, b"", 1) and message in done.err
    assert sorted(os.listdir(here)) == before
