"Outputs are found, brought back, or made: once, whole, and over nobody's file, whatever befalls whoever makes them."

import json
import logging
import os
import signal
import threading
from pathlib import Path

import pytest
from old import First, Last
from on_disk import memory_disk, query, unprivileged
from results import D, processing_row
from together import in_threads

from cjm_media_storage.errors import (
    Conflict,
    InvalidHash,
    InvalidRecord,
    NestedCompute,
    NoOutput,
    NoSpace,
    ReadOnlyStore,
    SourceChanged,
    StoreBusy,
)
from cjm_media_storage.hashing import hash_bytes, hash_dict_canonical, hash_file
from cjm_media_storage.journal import WIRES
from cjm_media_storage.outputs import hidden_folder
from cjm_media_storage.storage import ContentStore, MediaProcessingStorage

RATE = {"rate": 16_000}
MADE = b"made from a film"


class Films:
    "A film, a storage, and a converter that counts how often it is called"

    def __init__(self, folder, db_path):
        self.film, self.sound, self.calls = folder / "film.mkv", folder / "out" / "film.wav", 0
        self.film.write_bytes(b"a film")
        self.storage = MediaProcessingStorage(db_path)

    def convert(self, path):
        self.calls += 1
        path.write_bytes(b"made from " + self.film.read_bytes())
        return {"calls": self.calls}

    def get(self, compute=None, film=None, parameters=None, output_path=None, **options):
        arguments = ("convert", film or self.film, RATE if parameters is None else parameters, compute or self.convert)
        return self.storage.get_or_compute(*arguments, output_path=output_path or self.sound, **options)

    def never(self, **options):
        "Ask for what must not be computed"
        found = self.get(lambda path: pytest.fail("it was computed"), **options)
        assert found.hit and found.seconds == 0
        return found

    def out(self):
        return sorted(os.listdir(self.sound.parent))


@pytest.fixture
def films(tmp_path, path):
    films = Films(tmp_path, path)
    with films.storage:
        yield films


def test_what_was_made_is_served_and_known_to_older_callers(films):
    made = films.get()
    assert (made.hit, made.why, films.sound.read_bytes()) == (False, "never computed", MADE)
    assert made.seconds > 0 and films.out() == ["film.wav"]
    row = made.row
    assert (row.output_hash, row.input_hash, row.parameters) == (hash_bytes(MADE), hash_bytes(b"a film"), RATE)
    assert row.metadata == {"calls": 1} and len(row.job_id) == 36
    served = films.never()
    assert (served.why, served.row) == ("cached", row)
    old = films.storage.get_cached("convert", films.film, hash_file(films.film), hash_dict_canonical(RATE))
    assert old == row == films.storage.get_by_job_id(row.job_id)
    assert films.storage.verify_output(row.job_id) and len(films.storage) == 1


def test_the_staged_file_has_the_same_name_and_disk(films):
    def compute(path):
        assert path.name == films.sound.name and path.parent.parent.parent == films.sound.parent
        assert not path.exists() and path.parent.is_dir()
        return films.convert(path)

    films.get(compute)


def test_why_it_is_computed(films):
    films.get()
    assert (
        films.get(parameters={"rate": 8_000}, output_path=films.sound.with_name("low.wav")).why == "parameters changed"
    )
    films.sound.unlink()
    assert films.get().why == "output missing"
    assert films.get(force=True).why == "forced"
    films.film.write_bytes(b"another film")
    assert films.get().why == "input changed"
    assert films.sound.read_bytes() == b"made from another film"  # over what was recorded
    films.sound.write_bytes(b"edited")
    assert films.get(overwrite=True).why == "output changed"
    assert films.calls == 6 and films.out() == ["film.wav", "low.wav"]


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_the_same_content_at_another_path_is_recorded_for_that_too(films, how):
    films.get()
    other = films.film.with_name("S01E01.mkv")
    other.write_bytes(films.film.read_bytes())
    if how == "moved":
        films.film.unlink()
    found = films.never(film=other)
    assert found.why == "same content at another path" and found.row.metadata == {"calls": 1}
    assert films.storage.get_cached("convert", other, hash_file(other), hash_dict_canonical(RATE)) == found.row
    assert films.never(film=other).why == "cached" and len(films.storage) == 2


def test_an_output_that_is_wanted_elsewhere_is_copied_and_recorded(films):
    first, other = films.get().row, films.sound.with_name("other.wav")
    found = films.never(output_path=other)
    assert (found.why, found.row.output_path) == ("copied from another path", str(other))
    assert other.read_bytes() == MADE and found.row.job_id != first.job_id
    films.sound.write_bytes(b"edited")  # two files, not two names of one
    assert other.read_bytes() == MADE
    films.sound.unlink()
    assert films.never().why == "copied from another path"  # and back, under its own job
    assert films.never().row == first and films.never(output_path=other).row == found.row
    assert films.storage.get_by_job_id(first.job_id) == first


def test_an_output_that_its_owner_has_moved_is_recorded_there(films):
    films.get()
    other = films.sound.rename(films.sound.with_name("moved.wav"))
    assert films.never(output_path=other).why == "same content at another path"
    assert films.never(output_path=other).why == "cached"


def test_wrong_bytes_elsewhere_are_not_copied(films):
    films.get()
    films.sound.write_bytes(b"edited")
    found = films.get(output_path=films.sound.with_name("other.wav"))
    assert (found.why, films.calls) == ("output missing", 2)
    assert films.sound.read_bytes() == b"edited"


# ---- somebody's files


@pytest.mark.parametrize("when", ["before the first", "edited since"])
def test_somebodys_file_is_left_alone_unless_told(films, when):
    if when == "edited since":
        films.get()
    films.sound.parent.mkdir(exist_ok=True)
    films.sound.write_bytes(b"somebody's")
    for force in (False, True):
        with pytest.raises(Conflict, match="overwrite=True"):
            films.get(lambda path: pytest.fail("it was computed"), force=force)
    assert films.sound.read_bytes() == b"somebody's" and films.out() == ["film.wav"]
    assert not films.get(overwrite=True).hit and films.sound.read_bytes() == MADE


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_comes_while_it_is_computed_is_left_alone(films, overwrite):
    def compute(path):
        films.sound.write_bytes(b"somebody's")
        return films.convert(path)

    with pytest.raises(Conflict, match="since a moment ago"):
        films.get(compute, overwrite=overwrite)
    assert films.sound.read_bytes() == b"somebody's" and films.out() == ["film.wav"] and len(films.storage) == 0


def test_what_is_no_file_is_left_alone(films, tmp_path):
    films.sound.mkdir(parents=True)
    with pytest.raises(Conflict, match="no file"):
        films.get(overwrite=True)
    films.sound.rmdir()
    for target in (tmp_path / "nowhere", films.film):
        films.sound.symlink_to(target)
        with pytest.raises(Conflict, match="link"):
            films.get(overwrite=True)
        films.sound.unlink()


@pytest.mark.parametrize("name", ["itself", "hard link"])
def test_the_input_is_never_the_output(films, name):
    output = films.film
    if name == "hard link":
        output = films.film.with_name("same.mkv")
        os.link(films.film, output)
    with pytest.raises(Conflict, match="the input"):
        films.get(output_path=output, overwrite=True, force=True)
    assert films.film.read_bytes() == b"a film"


def test_a_link_to_the_output_is_served_as_it_is(films):
    films.get()
    real = films.sound.rename(films.sound.with_name("real.wav"))
    films.sound.symlink_to(real)
    assert films.never().why == "cached" and films.sound.is_symlink()


def test_paths_however_they_are_spelled(films, here):
    assert not films.get(film="film.mkv", output_path="out/film.wav").hit
    assert films.never(film="film.mkv", output_path=films.sound).why == "cached"
    films.sound.unlink()
    assert not films.get(film="film.mkv", output_path="out/../out/film.wav", force=True).hit
    assert films.get(film="film.mkv", force=True).why == "forced"  # it knows its own


# ---- failures


def test_a_failure_goes_through_and_leaves_nothing(films):
    class BrokenCodec(Exception):
        pass

    error = BrokenCodec("no such codec")

    def fail(path):
        path.write_bytes(b"half")
        raise error

    with pytest.raises(BrokenCodec) as caught:
        films.get(fail)
    assert caught.value is error and films.out() == [] and len(films.storage) == 0

    def stop(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        films.get(stop)
    assert films.get().why == "never computed"
    with pytest.raises(BrokenCodec):
        films.get(fail, force=True)
    assert films.sound.read_bytes() == MADE and films.never().why == "cached"


def test_no_output_or_metadata_that_cannot_be_kept(films):
    with pytest.raises(NoOutput, match="nothing is there"):
        films.get(lambda path: None)
    for wrong in ({"level": float("nan")}, "text", {"path": Path("a")}):
        with pytest.raises(InvalidRecord):
            films.get(lambda path, wrong=wrong: path.write_bytes(b"x") and wrong)
    assert films.out() == [] and len(films.storage) == 0


def test_fault_12_an_input_that_changes_meanwhile(films):
    def compute(path):
        before = os.stat(films.film)
        films.convert(path)
        films.film.write_bytes(b"A FILM")
        os.utime(films.film, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(SourceChanged, match=r"film\.mkv"):
        films.get(compute)
    assert films.out() == [] and len(films.storage) == 0


@pytest.mark.parametrize("what", ["output", "database"])
def test_fault_20_full_disk(tmp_path, what):
    with memory_disk(tmp_path / "small", "1m") as small:
        films = Films(tmp_path, (small if what == "database" else tmp_path) / "results.db")
        films.sound = (small if what == "output" else tmp_path) / "film.wav"
        with films.storage:
            films.get(parameters={}, output_path=tmp_path / "first.wav")

            def fill(path):
                films.convert(path)
                with (small / "rest").open("wb", buffering=0) as rest, pytest.raises(OSError, match="No space"):
                    while True:
                        rest.write(bytes(4096))
                return {"large": "x" * 100_000}

            with pytest.raises(NoSpace):
                films.get(fill)
            assert len(films.storage) == 1
            (small / "rest").unlink()
            found = films.get()
            # what was finished but not recorded is recorded now; it is not computed again
            assert (found.hit, films.calls) == ((True, 2) if what == "database" else (False, 3))
            assert films.sound.read_bytes() == MADE and films.never().why == "cached"
            assert not hidden_folder(films.sound).exists()


def test_fault_41_a_read_only_database_serves_and_computes_nothing(place, tmp_path):
    films = Films(place.path, place.path / "results.db")
    with films.storage:
        films.get()
    with place.read_only(), MediaProcessingStorage(place.path / "results.db") as films.storage:
        assert films.never().why == "cached"
        writable = {"force": True, "output_path": tmp_path / "other.wav"}
        for options in ({"force": True}, {"output_path": place.path / "other.wav"}, writable):
            with pytest.raises(ReadOnlyStore):
                films.get(lambda path: pytest.fail("it was computed"), **options)


# ---- kills

KILLED = """
    import os, signal, sys
    from cjm_media_storage import making
    from cjm_media_storage.outputs import Stage
    from cjm_media_storage.storage import MediaProcessingStorage

    db, film, sound, moment = sys.argv[1:]

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def then_die(method):
        def both(*args, **options):
            method(*args, **options)
            die()
        return both

    def compute(path):
        path.write_bytes(b"made from a film")
        if moment == "compute":
            path.write_bytes(b"half")
            die()

    if moment in ("finish", "note", "place"):
        setattr(Stage, moment, then_die(getattr(Stage, moment)))
    if moment == "record":
        MediaProcessingStorage.save_many = then_die(MediaProcessingStorage.save_many)
    with MediaProcessingStorage(db) as storage:
        storage.get_or_compute("convert", film, {"rate": 16_000}, compute, output_path=sound, force=True)
"""


@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("moment", ["compute", "finish", "note", "place", "record"])
def test_fault_21_killed_at_any_moment(films, program, moment, before):
    if before:
        films.get(lambda path: path.write_bytes(b"made by an older version") and None)
    process = program.start(KILLED, films.storage.db_path, films.film, films.sound, moment)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    placed = moment in ("place", "record")
    assert os.listdir(hidden_folder(films.sound)) != []  # the one thing that is left
    if not before and not placed:
        assert not films.sound.exists()
    found = films.get()
    assert found.hit == (before or placed)
    assert films.sound.read_bytes() == (b"made by an older version" if before and not placed else MADE)
    assert films.never().why == "cached"
    films.get(force=True)
    assert films.out() == ["film.wav"]


def test_what_a_dead_job_of_another_database_left_waits_for_that(films, program, tmp_path):
    other = tmp_path / "other.db"
    program.start(KILLED, other, films.film, films.sound, "place").communicate()
    with pytest.raises(Conflict):
        films.get()
    with MediaProcessingStorage(other) as storage:
        assert storage.get_or_compute("convert", films.film, RATE, None, output_path=films.sound).hit
    assert films.out() == ["film.wav"]


def test_somebodys_file_in_a_dead_jobs_folder_is_not_removed(films, program):
    films.get()
    program.start(KILLED, films.storage.db_path, films.film, films.sound, "place").communicate()
    [left] = hidden_folder(films.sound).glob("*/film.wav")
    left.write_bytes(b"somebody's, in the moment in which the two were swapped")
    films.get(force=True)
    assert left.read_bytes().startswith(b"somebody's")


# ---- many at once

MANY = """
    import os, sys
    from together import in_processes, in_threads
    from cjm_media_storage.storage import MediaProcessingStorage

    db, film, sound, count = sys.argv[1:]

    def compute(path):
        with open(count, "a") as file:
            file.write("x")
        path.write_bytes(b"made from a film")

    def work(n):
        found = []
        with MediaProcessingStorage(db) as storage:
            def get(_):
                found.append(storage.get_or_compute("convert", film, {"rate": 16_000}, compute, output_path=sound))
            in_threads(2, get)
        return [(each.hit, each.row.output_hash) for each in found]

    if __name__ == "__main__":
        results = sum(in_processes(8, work, method="fork"), [])
        print(sum(not hit for hit, _ in results), len({hash for _, hash in results}), len(results))
"""


def test_fault_60_eight_processes_and_their_threads_compute_once(films, program, tmp_path):
    count = tmp_path / "count"
    assert program(MANY, films.storage.db_path, films.film, films.sound, count) == "1 1 16"
    assert count.read_text() == "x" and len(films.storage) == 1 and films.out() == ["film.wav"]


def test_fault_60_eight_threads_in_memory(tmp_path):
    films = Films(tmp_path, ":memory:")
    results = []
    with films.storage:
        in_threads(8, lambda n: results.append(films.get()))
    assert films.calls == 1 and sorted(each.hit for each in results) == [False] + [True] * 7


def test_those_who_wait_for_one_that_fails_or_dies_compute_themselves(films, program):
    text = """
        import sys
        from cjm_media_storage.storage import MediaProcessingStorage
        def compute(path):
            print("computing", flush=True)
            sys.stdin.read()
            raise KeyError
        db, film, sound = sys.argv[1:]
        MediaProcessingStorage(db).get_or_compute("convert", film, {"rate": 16_000}, compute, output_path=sound)
    """
    for end in ("killed", "failed"):
        process = program.start(text, films.storage.db_path, films.film, films.sound)
        assert process.stdout.readline() == "computing\n"
        with pytest.raises(StoreBusy, match=r"film\.wav"):
            films.get(timeout=0)
        results = []
        waiting = threading.Thread(target=lambda results=results: results.append(films.get()))
        waiting.start()
        if end == "killed":
            process.kill()
        process.communicate()
        waiting.join()
        assert results[0].why == "never computed" and films.out() == ["film.wav"]
        films.sound.unlink()
        films.storage.delete(results[0].row.job_id)


def test_the_same_place_for_other_work_waits_too(films):
    "Or both would take it for free, and one would find the file of the other"

    def in_turn(n):
        parameters = {"rate": n}
        films.get(lambda path: path.write_bytes(b"%d" % n) and None, parameters=parameters)

    in_threads(4, in_turn)
    assert len(films.storage) == 4 and films.out() == ["film.wav"]


def test_a_computation_may_need_another_but_not_itself(films):
    def needs_another(path):
        sound = films.get(parameters={"first": True}, output_path=films.sound.with_name("first.wav"))
        path.write_bytes(Path(sound.row.output_path).read_bytes())

    assert not films.get(needs_another).hit and len(films.storage) == 2
    with pytest.raises(NestedCompute, match=r"film\.wav"):
        films.get(lambda path: films.get(force=True), force=True)
    with pytest.raises(NestedCompute, match=r"film\.wav"):  # other work, for the same place
        films.get(lambda path: films.get(parameters={"other": True}), force=True)
    assert films.never().why == "cached"


# ---- a store


@pytest.fixture
def kept(films, store):
    "An output that was computed with a store"
    films.get(store=store)
    return films


@pytest.mark.parametrize("damage", ["gone", "edited"])
def test_an_output_comes_back_from_the_store(kept, store, damage):
    [reference] = store.references()
    [job] = kept.storage
    assert (reference.hash, reference.owner, reference.role) == (hash_bytes(MADE), f"job:{job.job_id}", "convert")
    assert store.find_by_source(kept.sound)[0].hash == hash_bytes(MADE)
    kept.sound.unlink() if damage == "gone" else kept.sound.write_bytes(b"edited")
    found = kept.never(store=store, overwrite=damage == "edited")
    assert (found.why, found.row) == ("restored from the store", job)
    assert kept.sound.read_bytes() == MADE and kept.out() == ["film.wav"] and len(kept.storage) == 1
    assert kept.sound.stat().st_mode & 0o200  # a file of its own, not the object


def test_an_edited_output_is_somebodys_though_the_store_could_bring_it_back(kept, store):
    kept.sound.write_bytes(b"edited")
    with pytest.raises(Conflict):
        kept.get(store=store)


@pytest.mark.parametrize("damage", ["corrupt", "missing", "deleted"])
def test_a_store_that_cannot_give_it_back_is_done_without(kept, store, damage):
    kept.sound.unlink()
    path = store.path(hash_bytes(MADE))
    if damage == "corrupt":
        path.chmod(0o644)
        path.write_bytes(b"MADE FROM A FILM")
    elif damage == "missing":
        path.unlink()
    else:
        store.delete(hash_bytes(MADE), force=True)
    assert kept.get(store=store).why == "output missing"
    assert kept.sound.read_bytes() == MADE == store.read(hash_bytes(MADE), verify=True)


def test_a_failing_store_fails_the_call_before_anything_is_recorded(films, tmp_path):
    store = ContentStore(tmp_path / "store")
    store.close()
    with pytest.raises(Exception, match="closed"):
        films.get(store=store)
    assert films.out() == [] and len(films.storage) == 0


# ---- rows of others, and what is told


def test_fault_61_jobs_of_older_programs_are_never_hits(films):
    old = {"input_path": films.film, "input_hash": hash_bytes(b"a film"), "output_path": films.sound}
    films.sound.parent.mkdir()
    films.sound.write_bytes(MADE)
    films.storage.save("old", "convert", **old, output_hash=hash_bytes(MADE))
    found = films.get()
    assert (found.hit, found.why, films.calls) == (False, "never computed", 1)  # and their outputs are ours to replace
    assert films.storage.get_by_job_id("old").config_hash == ""


def test_fault_58_what_no_row_can_hold_is_refused_before_it_is_computed(films):
    for wrong in ({"parameters": {"level": float("nan")}}, {"output_path": "a\ud800"}, {"parameters": "text"}):
        with pytest.raises((InvalidRecord, UnicodeEncodeError)):
            films.get(lambda path: pytest.fail("it was computed"), **wrong)
    with pytest.raises(TypeError):
        films.get(parameters={"path": Path("a")})
    films.storage.save_many([processing_row(0)])
    with pytest.raises(InvalidHash):
        films.storage.save_many([processing_row(1, output_hash=D[:-1])])


@pytest.mark.parametrize("wrong", ["garbage", "sha256:abc", b"\xff"], ids=repr)
@pytest.mark.parametrize("column", ["input_hash", "output_hash", "config_hash"])
def test_fault_58_garbage_of_an_older_program_is_no_hit_and_stays(films, column, wrong):
    films.get()
    films.storage._database.execute(f"UPDATE processing_jobs SET {column} = ?, job_id = 'old'", (wrong,))
    if column == "output_hash":  # then nobody knows that the file is ours
        with pytest.raises(Conflict):
            films.get()
        films.sound.rename(films.sound.with_name("theirs.wav"))
    assert not films.get().hit and films.calls == 2
    assert getattr(films.storage.get_by_job_id("old"), column) == wrong
    assert films.never().why == "cached" and films.sound.read_bytes() == MADE


@pytest.mark.parametrize("text", ['{"level": NaN}', '["a list"]'])
@pytest.mark.parametrize("film", ["film.mkv", "S01E01.mkv"])
def test_fault_58_what_no_row_should_hold_is_served_in_its_place_and_made_anew_elsewhere(films, here, film, text):
    "Or an output would be named, and its job refused"
    (here / film).write_bytes(b"a film")
    films.get(film="film.mkv")
    other = films.sound.with_name("other.wav")
    films.storage._database.execute("UPDATE processing_jobs SET metadata = ?", (text,))
    assert repr(films.never(film="film.mkv").row.metadata) == repr(json.loads(text))
    assert films.get(film=film, output_path=other).row.metadata == {"calls": 2}
    assert films.never(film=film, output_path=other).why == "cached" and films.out() == ["film.wav", "other.wav"]


@pytest.mark.parametrize("write", [Path, str, "./{}".format, "out/../{}".format], ids=["path", "text", "dot", "up"])
def test_fault_59_paths_are_kept_as_their_caller_wrote_them(films, here, write):
    films.sound.parent.mkdir()
    paths = {"film": write("film.mkv"), "output_path": write("film.wav")}
    row = films.get(**paths).row
    assert (row.input_path, row.output_path) == tuple(map(os.fspath, paths.values())) and list(films.storage) == [row]
    assert films.never(**paths).why == "cached" and (here / "film.wav").read_bytes() == MADE


def test_fault_59_names_that_are_no_text(films, tmp_path):
    film, sound = (tmp_path / os.fsdecode(name) for name in (b"caf\xe9.mkv", b"caf\xe9.wav"))
    film.write_bytes(b"a film")
    assert films.get(film=film, output_path=sound).row.output_path == str(sound)
    assert films.never(film=film, output_path=sound).why == "cached"


@pytest.mark.parametrize("older", [First, Last], ids=["first", "last"])
def test_fault_61_a_file_of_an_older_program_is_computed_into_and_stays_that_programs(path, tmp_path, older):
    program = older(path)
    for n in range(3):
        program.add_job(f"old_{n}", str(tmp_path / "film.mkv"), f"sha256:{n:064x}")  # of another film, A
    before = query(path, "SELECT id, job_id, created_at FROM processing_jobs ORDER BY id")
    films, config_hash = Films(tmp_path, path), hash_dict_canonical(RATE)
    with films.storage:
        made = films.get().row
        old = {"old_0", "old_1", "old_2"}
        assert older(path).jobs() == program.jobs() == old | {made.job_id}
        program.add_job("theirs", made.input_path, config_hash)  # which replaces ours, in the last release
        assert not (found := films.get()).hit if older is Last else (found := films.never()).why == "cached"
        assert all(films.storage.get_by_job_id(job) for job in (*old, made.job_id, "theirs", found.row.job_id))
        assert films.sound.read_bytes() == MADE and films.out() == ["film.wav"]
    assert query(path, "SELECT id, job_id, created_at FROM processing_jobs ORDER BY id")[:3] == before


@pytest.mark.parametrize("options", [{}, {"force": True, "overwrite": True}], ids=["asked", "forced"])
def test_fault_62_an_input_that_is_gone(films, options):
    made = films.get().row
    films.film.unlink()
    with pytest.raises(FileNotFoundError, match=r"film\.mkv"):
        films.get(lambda path: pytest.fail("it was computed"), **options)
    assert list(films.storage) == [made] and films.sound.read_bytes() == MADE


@pytest.mark.parametrize("options", [{}, {"force": True, "overwrite": True}], ids=["asked", "forced"])
@pytest.mark.parametrize("closed", ["film.mkv", "film.wav", "out"])
def test_fault_62_what_may_not_be_read_is_neither_computed_nor_replaced(open_folder, closed, options):
    films = Films(open_folder, ":memory:")
    films.sound = (open_folder / "out" if closed == "out" else open_folder) / "film.wav"
    with films.storage:
        made = films.get().row
        (open_folder / closed).chmod(0)
        with unprivileged(), pytest.raises(PermissionError, match="film"):
            films.get(lambda path: pytest.fail("it was computed"), **options)
        (open_folder / closed).chmod(0o700)
        assert list(films.storage) == [made] and films.sound.read_bytes() == MADE
    assert not hidden_folder(films.sound).exists()


def test_fault_62_an_output_elsewhere_that_may_not_be_read_is_left_alone(open_folder, path):
    films = Films(open_folder, ":memory:")
    films.sound, other = open_folder / "film.wav", open_folder / "other.wav"
    with films.storage:
        films.get()
        films.sound.chmod(0)
        with unprivileged():
            found = films.get(output_path=other)
        assert (found.why, other.read_bytes(), len(films.storage)) == ("output missing", MADE, 1)
        films.sound.chmod(0o600)
        assert films.sound.read_bytes() == MADE and films.never().row.output_path == str(films.sound)


def test_progress_is_handed_on(films):
    told = []

    def compute(path, progress):
        progress(0.5)
        films.convert(path)

    films.get(compute, progress=told.append)
    assert told == [0.5]
    with pytest.raises(TypeError):
        films.get(compute, force=True)


def test_a_logger_is_told_and_silence_is_the_default(films, caplog):
    with caplog.at_level(logging.DEBUG):
        films.get()
        films.get()
        assert caplog.text == ""
        films.get(logger=logging.getLogger("plugin"), force=True)
        films.get(logger=logging.getLogger("plugin"))
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == f"Saved to {films.storage.db_path}"
    assert said[1].startswith(f"{films.film}: computed in ") and said[2] == f"{films.film}: hit (cached)"
    films.storage._database.execute("DROP TABLE replaced_jobs")
    films.storage._database.execute("DROP TABLE processing_jobs")
    with pytest.raises(Exception, match="no such table"):
        films.get(logger=logging.getLogger("plugin"))


def test_a_workers_journal_hears_what_it_always_did(films, monkeypatch):
    events = []

    class Wire:
        record_account = staticmethod(lambda event, payload: events.append((event, payload["row_job_id"])))

    monkeypatch.setitem(__import__("sys").modules, WIRES[0], Wire)
    job = films.get().row.job_id
    films.get()
    assert events == [("result_saved", job), ("cache_hit", job)]


def test_another_programs_view_of_the_file(films):
    films.get()
    [(path, text)] = query(films.storage.db_path, "SELECT output_path, parameters FROM processing_jobs")
    assert (path, json.loads(text)) == (str(films.sound), RATE)
    tables = {name for (name,) in query(films.storage.db_path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"processing_jobs", "replaced_jobs", "sqlite_sequence"}
