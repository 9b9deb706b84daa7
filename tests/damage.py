"What goes wrong with a store, done to it, and what is seen of it"

import os

from on_disk import staged, tree

from cjm_media_storage.repairing import repair


def overwrite(path, content):
    "Write other bytes where an object is"
    path.chmod(0o644)
    path.write_bytes(content)


def damage(path, content=b"a qoster"):
    "Change bytes behind the index's back, as a bad disk does: size and time stay"
    times = path.stat()
    overwrite(path, content)
    path.chmod(0o444)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def lose_rows(store, *results):
    "Take the rows of objects away, as an older index lacks them"
    for result in results:
        store._index.database.execute("DELETE FROM objects WHERE digest = ?", (result.hash[7:],))


def fill(store, count):
    "Put some objects"
    return [store.put(b"object %d" % number) for number in range(count)]


def below(store, path):
    "A path as problems have it"
    return path.relative_to(store.root).as_posix()


def quarantined(store):
    "The bytes of all files in quarantine"
    return sorted(path.read_bytes() for path in (store.root / ".store" / "quarantine").glob("*") if path.is_file())


def repaired(store, **options):
    "Repair for real, and check that the dry run told the same"
    before = tree(store), quarantined(store), store._index.database.fetch("SELECT * FROM objects")
    planned = repair(store, **options)
    assert before == (tree(store), quarantined(store), store._index.database.fetch("SELECT * FROM objects"))
    done = repair(store, dry_run=False, **options)
    assert done.plan == planned.plan
    assert str(planned).splitlines()[1:] == str(done).splitlines()[1 : len(done.plan) + 1]
    assert staged(store) == []
    return done


def hows(report):
    "What is planned, in order"
    return [action.how for action in report.plan]
