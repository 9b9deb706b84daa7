"A file is read where nothing may be written, however it was left and whoever writes to it meanwhile."

import gc
import os
from contextlib import closing

import pytest
from on_disk import Place, unprivileged
from together import in_threads
from words import WORDS, add, alone, open_words, words

from cjm_media_storage.errors import ReadOnlyStore, StoreUnavailable

LEAVE = """
path, left = sys.argv[1:]
if "journal" in left:
    from cjm_media_storage import database as module
    module.on_network = lambda folder: True
open_words(path).close()
database = open_words(path)
add(database, "word")
if left.startswith("closed"):
    database.close()
elif left == "killed in a commit, with a journal":
    with database.transaction() as con:
        con.execute("PRAGMA cache_size=2")  # much of the transaction is on the disk before it is committed
        add(database, *["x" * 3000] * 100)
        os.kill(os.getpid(), 9)
else:
    os.kill(os.getpid(), 9)
"""
LEFT = {
    "closed": [],
    "killed": ["words.db-shm", "words.db-wal"],
    "killed, without the index of the log": ["words.db-wal"],
    "closed, with a journal": [],
    "killed in a commit, with a journal": ["words.db-journal"],
}


def leave(place, program, left):
    "A database as a program leaves it"
    path = place.path / "words.db"
    program.start(WORDS + LEAVE, path, left).communicate()
    if "without" in left:
        os.unlink(f"{path}-shm")
    assert sorted(each.name for each in place.path.iterdir()) == ["words.db", *LEFT[left]]
    for each in place.path.iterdir():
        each.chmod(0o644)
    return path


@pytest.mark.parametrize("left", LEFT)
def test_fault_41_a_file_is_read_where_nothing_may_be_written(place, program, temporary, left):
    path = leave(place, program, left)
    with place.read_only():
        with closing(open_words(path)) as database:
            assert words(database) == ["word"]
            in_threads(3, lambda n: words(database))
            with pytest.raises(ReadOnlyStore, match="mount it for writing"):
                add(database, "no")
            assert words(database) == ["word"]
        assert os.listdir(temporary) == []
    with closing(open_words(path)) as database:
        add(database, "more")
    assert alone(path) == ["more", "word"]


def test_fault_41_a_copy_is_given_up_with_its_database(place, program, temporary):
    path = leave(place, program, "killed, without the index of the log")
    with place.read_only():
        database = open_words(path)
        assert words(database) == ["word"]
        [copy] = temporary.iterdir()
        assert copy.stat().st_mode & 0o777 == 0o700
        child = os.fork()
        if child == 0:
            right = words(database) == ["word"] and len(os.listdir(temporary)) == 2
            del database
            gc.collect()
            os._exit(not right)
        assert os.waitpid(child, 0)[1] == 0
        assert words(database) == ["word"] and list(temporary.iterdir()) == [copy]
        del database
        gc.collect()
        assert os.listdir(temporary) == []


@pytest.mark.parametrize("mode", [0o444, 0o644])
@pytest.mark.parametrize("left", ["closed", "killed", "closed, with a journal"])
def test_fault_41_a_file_without_write_permission(open_folder, program, left, mode):
    "Its folder could be written to, but nothing is left there that its writers would stumble over"
    place = Place(open_folder, "folder")
    path = leave(place, program, left)
    for each in place.path.iterdir():
        each.chmod(mode)
    before = place.listing()
    with unprivileged(), closing(open_words(path)) as database:
        assert words(database) == ["word"]
        with pytest.raises(ReadOnlyStore):
            add(database, "no")
    assert place.listing() == before


WRITE = """
for line in sys.stdin:
    if line == "open\\n":
        database = open_words(sys.argv[1])
        for suffix in ("-wal", "-shm"):
            os.chmod(sys.argv[1] + suffix, 0o644)
    elif line == "close\\n":
        database.close()
    else:
        add(database, line.strip())
    print("done", flush=True)
"""


def test_fault_41_a_reader_follows_a_writer_who_has_the_permission(open_folder, program):
    path = open_folder / "words.db"
    open_words(path).close()
    open_folder.chmod(0o755)
    writer, written = program.start(WORDS + WRITE, path), []

    def tell(line):
        writer.stdin.write(line + "\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "done\n"

    with unprivileged(), closing(open_words(path)) as database:
        for line in ("open", "a", "b", "close", "open", "c", "close", "open", "d"):
            tell(line)
            written += [line] if len(line) == 1 else []
            assert words(database) == written, line
        with closing(open_words(path)) as second:
            assert words(second) == written
        tell("close")
        assert words(database) == written
    program.end(writer)


def test_fault_41_readers_never_see_half_of_what_a_writer_does(open_folder, program):
    "The writer opens, writes and closes all the time, and folds its log into the file under the readers"
    path = open_folder / "words.db"
    open_words(path).close()
    open_folder.chmod(0o755)
    writer = program.start(
        WORDS
        + """
print("begun", flush=True)
for n in range(150):
    database = open_words(sys.argv[1])
    for suffix in ("-wal", "-shm"):
        os.chmod(sys.argv[1] + suffix, 0o644)
    add(database, *[str(n) * 500] * 20)
    database.close()
""",
        path,
    )
    assert writer.stdout.readline() == "begun\n"
    with unprivileged(), closing(open_words(path)) as database:

        def read(n):
            seen = 0
            while seen < 150 * 20:
                [(count, distinct)] = database.fetch("SELECT count(*), 20 * count(DISTINCT word) FROM words")
                assert seen <= count == distinct
                seen = count if writer.poll() is None else 150 * 20

        in_threads(3, read)
        assert len(words(database)) == 150 * 20
    program.end(writer)


def test_fault_41_a_file_that_may_not_be_read_says_so(open_folder):
    path = open_folder / "words.db"
    open_words(path).close()
    path.chmod(0)
    with unprivileged(), pytest.raises(StoreUnavailable, match="Permission denied"):
        open_words(path)


def test_fault_41_odd_names(place):
    path = place.path / "what? 100% #1 caf\udce9.db"
    with closing(open_words(path)) as database:
        add(database, "word")
    with place.read_only(), closing(open_words(path)) as database:
        assert words(database) == ["word"]
