"""Published plugins run on our storages, in their host's worker: also those that fail with upstream's of today.

ffmpeg 0.0.5 and silero-vad 0.0.8 are of the first generation, ffmpeg 0.0.20 is of the second.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
from on_disk import query
from published import IN_PLACE_OF_UPSTREAM, Environment

from cjm_media_storage.hashing import hash_dict_canonical, hash_file
from cjm_media_storage.media import make_wav
from cjm_media_storage.storage import MediaAnalysisStorage, MediaProcessingStorage

pytestmark = pytest.mark.plugins

FFMPEG = "cjm_media_plugin_ffmpeg.plugin:FFmpegProcessingPlugin"
SILERO = "cjm_media_plugin_silero_vad.plugin:SileroVADPlugin"
FLAC = {"action": "convert", "output_format": "flac"}
HALVES = {"action": "segment_audio", "boundaries": [{"start": 0.0, "end": 0.5}, {"start": 0.5, "end": 1.0}]}
MISSING = "missing 1 required positional argument: 'config_hash'"

# In the place of the model, which is large; all else is the plugin's own.
STAND_INS = {
    "numpy": "ndarray, float32, max, abs = list, float, max, list",
    "librosa": """class Samples(list):
    def __truediv__(self, peak): return self
    def astype(self, kind): return self
def load(path, sr, mono): return Samples([1.0] * sr), sr""",
    "silero_vad": """def load_silero_vad(onnx): return "model"
def get_speech_timestamps(audio, model, **settings): return [{"start": 0.25, "end": 0.75}]""",
}


@pytest.fixture(scope="module", autouse=True)
def host():
    "The host and its interfaces, as installed here"
    for name in ("cjm_plugin_system.core.wire", "cjm_media_plugin_system.processing_interface"):
        pytest.importorskip(name, reason="cjm-plugin-system and cjm-media-plugin-system are not installed")


@pytest.fixture(scope="module")
def needs_ffmpeg():
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")


@pytest.fixture(scope="module")
def early(tmp_path_factory, needs_ffmpeg):
    requirements = ["cjm-media-plugin-ffmpeg==0.0.5", "cjm-ffmpeg-utils==0.0.5", "tqdm"]
    return Environment(tmp_path_factory.mktemp("plugins") / "early", *requirements)


@pytest.fixture(scope="module")
def late(tmp_path_factory, needs_ffmpeg):
    return Environment(tmp_path_factory.mktemp("plugins") / "late", "cjm-media-plugin-ffmpeg==0.0.20", "tqdm")


@pytest.fixture(scope="module")
def silero(tmp_path_factory):
    environment = Environment(tmp_path_factory.mktemp("plugins") / "silero", "cjm-media-plugin-silero-vad==0.0.8")
    for name, text in STAND_INS.items():
        (environment.packages / f"{name}.py").write_text(text)
    return environment


@pytest.fixture
def tone(tmp_path):
    "Real audio, made with ffmpeg"
    path = tmp_path / "tone.wav"
    source = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1"]
    subprocess.run(["ffmpeg", "-loglevel", "error", *source, path], check=True)
    return path


def test_the_page_for_plugin_authors_has_the_line_that_is_used_here():
    page = Path(__file__).parent.parent / "nbs" / "012_coming_from_upstream.ipynb"
    assert IN_PLACE_OF_UPSTREAM.strip() in page.read_text()


def events(accounts):
    return [account["event_type"] for account in accounts]


def copied(path):
    "A copy of the one file, without its log"
    return shutil.copy(path, path.with_name("copy.db"))


def folder_of(environment, data):
    "The plugin's folder in `data`; the early release looks in its environment, so that leads there, too"
    folder = data / "cjm-media-plugin-ffmpeg"
    folder.mkdir(parents=True, exist_ok=True)
    link = environment.folder / "data"
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    return folder


def test_fault_61_a_late_release_opens_the_file_of_an_early_one(early, late, tone, tmp_path):
    early.use_ours()
    late.use_ours()
    path = folder_of(early, tmp_path) / "ffmpeg_jobs.db"
    with early.worker(FFMPEG, tmp_path) as worker:
        answers = [worker.execute(**request, input_path=str(tone)) for request in (FLAC, FLAC, HALVES)]
    assert [events(accounts) for _, accounts in answers] == [["result_saved"]] * 2 + [["result_saved"] * 2]
    assert len(query(copied(path), "SELECT * FROM processing_jobs")) == 4  # though a signal has ended the worker
    with MediaProcessingStorage(path) as jobs:
        before = list(jobs)
    assert [row.action for row in before] == ["convert", "convert", "segment_audio", "segment_audio"]
    assert all(row.input_path == str(tone) and row.input_hash == hash_file(tone) for row in before)
    assert all(row.output_hash == hash_file(row.output_path) for row in before)

    with late.worker(FFMPEG, tmp_path) as worker:
        made, accounts = worker.execute(**FLAC, input_path=str(tone))
        assert events(accounts) == ["result_saved"]  # the early release did not write down the parameters' hash
        stat = Path(made["output_path"]).stat()
        again, accounts = worker.execute(**FLAC, input_path=str(tone))
        assert (again, events(accounts)) == (made, ["cache_hit"])
        assert Path(made["output_path"]).stat() == stat  # not made again
        cut, accounts = worker.execute(**HALVES, input_path=str(tone))
        again, hits = worker.execute(**HALVES, input_path=str(tone))
        assert (events(accounts), events(hits)) == (["result_saved"] * 2, ["cache_hit"] * 2)
        assert [each["job_id"] for each in again["segments"]] == [each["job_id"] for each in cut["segments"]]

        tone.write_bytes(make_wav([(550, 1.0)]))  # other content under the same name
        _, accounts = worker.execute(**FLAC, input_path=str(tone))
        assert events(accounts) == ["result_saved"]
    with MediaProcessingStorage(path) as jobs:
        assert list(jobs)[:4] == before
        assert len(jobs) == 4 + 1 + 2
        row = jobs.list_jobs(1)[0]
        assert row.parameters["output_format"] == "flac" and row.config_hash == hash_dict_canonical(row.parameters)
        assert jobs.verify_input(row.job_id) and jobs.verify_output(row.job_id)


def test_an_early_processing_fails_with_upstream_and_works_with_ours(early, tone, tmp_path):
    folder_of(early, tmp_path)
    early.use_upstreams()
    with early.worker(FFMPEG, tmp_path) as worker:
        assert MISSING in worker.failure(**FLAC, input_path=str(tone))
    early.use_ours()
    with early.worker(FFMPEG, tmp_path) as worker:
        _, saved = worker.execute(**FLAC, input_path=str(tone))
    assert events(saved) == ["result_saved"]


def test_an_early_analysis_fails_with_upstream_and_works_with_ours(silero, tmp_path):
    path = tmp_path / "tone.wav"
    path.write_bytes(make_wav([(440, 1.0)]))
    silero.use_upstreams()
    with silero.worker(SILERO, tmp_path) as worker:
        assert MISSING in worker.failure(media_path=str(path))
    silero.use_ours()
    with silero.worker(SILERO, tmp_path) as worker:
        found, saved = worker.execute(media_path=str(path))
        again, hit = worker.execute(media_path=str(path))
    assert again == found  # with the time when it was computed
    assert (events(saved), events(hit)) == (["result_saved"], ["cache_hit"])
    with MediaAnalysisStorage(tmp_path / "cjm-media-plugin-silero-vad" / "vad_jobs.db") as results:
        [row] = results
    assert (row.file_path, row.file_hash) == (str(path), hash_file(path))
    assert [(each["start"], each["end"]) for each in row.ranges] == [(0.25, 0.75)]
