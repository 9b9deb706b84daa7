"The pages: their links lead somewhere, their examples run, and what is computed from the code is up to date."

import ast
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from glob import glob
from itertools import count
from pathlib import Path

import pytest
from links import ROOT, anchors, broken, links, pages, text_of

from cjm_media_storage import errors, storage

PROSE = [path for path in pages() if path.suffix == ".md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path, kind):
    "The examples of a kind on a page"
    return [text for found, text in BLOCK.findall((ROOT / path).read_text()) if found == kind]


@pytest.mark.parametrize("path", pages(), ids=str)
def test_every_link_inside_the_project_leads_somewhere(path):
    assert list(broken(ROOT / path)) == []


def test_a_link_to_nowhere_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n[a](gone.md) [b](#here) [c](#a-page) [d](page.md#a-page) [e](https://example.org) `[f](f)`\n"
    )
    assert list(broken(page)) == ["gone.md", "#here"] and anchors(page) == {"a-page"}


def test_every_page_is_reached_from_the_readme():
    seen, to_see = set(), [ROOT / "README.md"]
    while to_see:
        path = to_see.pop()
        if path in seen or path.suffix not in (".md", ".ipynb"):
            continue
        seen.add(path)
        to_see += [(path.parent / link.partition("#")[0]).resolve() for link in links(path) if "://" not in link]
    assert {ROOT / path for path in pages()} - seen == {ROOT / "tests" / "POWER.md"}  # whose text README.md shows


def test_the_page_of_all_errors_is_up_to_date():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from errors_page import PAGE, page, raised_in
    finally:
        sys.path.pop(0)
    assert PAGE.read_text() == page(), "run `python tools/errors_page.py`"
    assert [name for name, modules in raised_in().items() if not modules] == ["StorageError"]


def test_every_error_is_public_says_when_and_shows_what_it_carries():
    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, errors.StorageError) and error.__doc__ and name in storage.__all__, name
        made = error(*(f"<{field}>" for field in error.fields))
        assert [getattr(made, field) for field in error.fields] == [f"<{field}>" for field in error.fields]
        assert all(f"<{field}>" in str(made) for field in re.findall(r"\{(\w+)", error.template))


@pytest.mark.parametrize(
    "path", [path for path in PROSE if path.name != "README.md" and blocks(path, "python")], ids=str
)
def test_python_examples_print_what_the_page_says(path, here):
    "Those of README.md are run by the build, of which `test_built` is the test"
    program = "\n".join(blocks(path, "python"))
    command = [sys.executable, "-W", "error", "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "".join(blocks(path, "text"))


FOR_CLUSTERS = {"SLURM_ARRAY_TASK_ID": r"--wrap \\\n *'(.*?)'\n", "JOB_COMPLETION_INDEX": r"\[sh, -c, '(.*?)'\]"}


@pytest.mark.parametrize("variable", FOR_CLUSTERS)
def test_what_clusters_run_verifies_a_shard_and_exits_with_1_if_it_is_damaged(here, variable):
    page = json.loads((ROOT / "nbs/900_many_machines.ipynb").read_text())
    text = "".join(line for cell in page["cells"] for line in cell["source"] if cell["cell_type"] == "markdown")
    (script,) = re.findall(FOR_CLUSTERS[variable], text)
    with storage.ContentStore(here / "store") as store:
        damaged, right = (store.put(content).path for content in (b"a poster", b"a still"))
    damaged.chmod(0o644)
    damaged.write_bytes(b"A POSTER")
    found = {}
    for path in (damaged, right):
        path_of_ours = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        number = {variable: str(int(path.name[:2], 16)), "MEDIA_STORAGE_STORE": str(here / "store")}
        ran = subprocess.run(
            ["sh", "-c", script], env={**os.environ, **number, "PATH": path_of_ours}, capture_output=True, timeout=60
        )
        found[path] = ran.returncode, json.loads(ran.stdout)["counts"]
    assert found == {damaged: (1, {"corrupt": 1}), right: (0, {})}


USERS = [path for path in pages() if re.match(r"nbs/(0\d\d|900)_", path.as_posix())]


@pytest.mark.parametrize("path", USERS, ids=str)
def test_what_users_type_needs_this_library_alone(path):
    cells = json.loads((ROOT / path).read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in imports}
    used = {name.partition(".")[0] for name in names}
    assert "cjm_media_storage" in used and used <= {"cjm_media_storage", *sys.stdlib_module_names}


def beginning_with(digits):
    "A content whose hash begins so"
    contents = (f"cover {n}".encode() for n in count())
    return next(content for content in contents if hashlib.sha256(content).hexdigest().startswith(digits))


def test_shell_examples_of_the_readme_run(here):
    "But for those that install the project, which .ci/run does"
    (example,) = [text for text in blocks("README.md", "sh") if "venv" not in text]
    (digits,) = set(re.findall(r"show (\w+)", example))
    for folder, content in (("Music", b"a song"), ("Pictures", beginning_with(digits)), ("Downloads", b"not stored")):
        (here / folder).mkdir()
        (here / folder / "a file").write_bytes(content)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(here), "PATH": path, "PYTHONPATH": str(ROOT)}
    example = example.replace("media-storage ", f"{sys.executable} -m cjm_media_storage.cli ")
    example = re.sub(r"(--missing) .*", r"\1 || test $? = 1  # something is", example)
    command = ["bash", "-euxo", "pipefail", "-c", example]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert (here / "cover.jpg").read_bytes() == beginning_with(digits)


# ---- commands in the pages

LINE = re.compile(r"^ *(media-storage [a-z].*)$", re.MULTILINE)
ELSEWHERE = "media-storage push s3://films/library --database postgresql://db.example.org/media"


def commands():
    "Each command that a page shows, without what it is piped into"
    for path in pages():
        for block in re.findall(r"^```sh\n(.*?)^```$", text_of(ROOT / path), re.MULTILINE | re.DOTALL):
            for line in LINE.findall(block):
                yield re.split(r" [|>#]|  +#", line)[0].strip().replace("{}", "a3")


COMMANDS = sorted(set(commands()) - {ELSEWHERE})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    "A machine on which everything is that the examples name: its root"
    root = tmp_path_factory.mktemp("world")
    files = (
        "Pictures/cat.jpg",
        "Videos/a.mkv",
        "Music/a.mp3",
        "Downloads/a.zip",
        "portraits/a.jpg",
        "plugins/vad/data/a",
    )
    for name in (*files, "clip.wav", "film.mkv", "Desktop/a", "mnt/nas/a", "mnt/new/a", "mnt/laptop/a"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "mnt/new/a").unlink()
    (root / "media" / "movies").mkdir(parents=True)
    for place in ("data", "mnt/backup", "mnt/laptop"):
        with storage.ContentStore(root / place / "media-store") as store:
            for digits in ("3f9a", "77c0"):
                store.put(beginning_with(digits), source=root / "portraits" / "a.jpg")
            store.delete(store.put(b"x", owner="movie:1").hash, force=True)
    inputs = root / "film.mkv", storage.hash_file(root / "film.mkv")
    outputs = root / "clip.wav", storage.hash_file(root / "clip.wav")
    for name in ("analysis.db", "results.db", "plugins/vad/data/a.db"):
        with storage.MediaAnalysisStorage(root / name) as results:
            results.save(*inputs, storage.hash_dict_canonical({}), ranges=[])
    for name in ("processing.db", "jobs.db", "resampling.db", "cutting.db"):
        with storage.MediaProcessingStorage(root / name) as jobs:
            jobs.save("job-1", "cut", *inputs, *outputs)
    return root


@pytest.mark.parametrize("example", COMMANDS)
def test_every_command_in_a_page_is_understood(example, world, tmp_path, monkeypatch, command):
    "Exit code 2 is that of a command that cannot be meant; what is not there in this world is 1"
    here = tmp_path / "here"
    shutil.copytree(world, here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("MEDIA_STORAGE_STORE", str(here / "data/media-store"))
    monkeypatch.setenv("MEDIA_STORAGE_LIBRARY", str(here / "media/movies"))
    example = re.sub(r"~/|/(?=data|mnt|media/|tmp/media-storage-demo)", f"{here}/", example)
    example = example.replace("sha256:3f9a...", storage.hash_bytes(beginning_with("3f9a")))
    _, *words = shlex.split(example)
    done = command(*(found for word in words for found in (glob(word) or [word])))
    assert done.code in (0, 1) or "--yes" in done.err, done.err
    assert "Traceback" not in done.err
