"Events that the official client takes."

import datetime
import json
import uuid
from urllib.parse import urlparse

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import A, B

from cjm_media_storage.openlineage import to_event
from cjm_media_storage.resultfiles import Analysis, Job

TEXT = st.text() | st.sampled_from(["caf\udce9", "", "[1]", '{"a": NaN}', '{"a": {"b": [1, null]}}', "{"])
TIME = st.floats(allow_nan=False)
JOBS = st.builds(Job, TEXT, TEXT, TEXT, st.just(A), TEXT, st.just(B), TEXT, TIME, TEXT, st.booleans())
ANALYSES = st.builds(Analysis, TEXT, st.just(A), TIME, TEXT)


@given(JOBS | ANALYSES)
def test_each_event_has_what_the_schema_requires(row):
    event = json.loads(json.dumps(to_event(row), allow_nan=False, ensure_ascii=False).encode())
    assert set(event) == {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"}
    assert event["eventType"] == "COMPLETE"
    assert datetime.datetime.fromisoformat(event["eventTime"]).tzinfo is datetime.UTC
    assert uuid.UUID(event["run"]["runId"]).version == 5
    for each in (event["job"], *event["inputs"], *event["outputs"]):
        assert isinstance(each["namespace"], str) and isinstance(each["name"], str)
    for owner in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
        for facet in owner["facets"].values():
            assert all(urlparse(facet[key]).scheme == "https" for key in ("_producer", "_schemaURL"))
            assert facet["_schemaURL"].endswith(facet["_schemaURL"].split("/")[-3].removesuffix(".json#"))


def job(**changes):
    values = {"job_id": "job-1", "action": "cut", "input_path": "film.mkv", "input_hash": A, "output_path": "cut.mkv"}
    values |= {"output_hash": B, "parameters": '{"start": 3}', "created_at": 1e9, "config_hash": A, "current": True}
    return Job(**values | changes)


def test_the_official_client_takes_it():
    client = pytest.importorskip("openlineage.client.event_v2")
    facets = pytest.importorskip("openlineage.client.facet_v2")
    event = to_event(job())

    def facet(kind, values):
        made = kind(**{key: value for key, value in values.items() if not key.startswith("_")})
        assert made._schemaURL == values["_schemaURL"]
        return made

    def data_set(kind, values):
        symlinks, version = values["facets"]["symlinks"], values["facets"]["version"]
        names = [facets.symlinks_dataset.Identifier(**each) for each in symlinks["identifiers"]]
        facet(facets.symlinks_dataset.SymlinksDatasetFacet, {**symlinks, "identifiers": names})
        facet(facets.dataset_version_dataset.DatasetVersionDatasetFacet, version)
        return kind(values["namespace"], values["name"])

    module = pytest.importorskip("openlineage.client.generated.execution_parameters_run")
    told = event["run"]["facets"]["executionParameters"]
    facet(
        module.ExecutionParametersRunFacet,
        {**told, "parameters": [module.ExecutionParameter(**p) for p in told["parameters"]]},
    )
    facet(facets.job_type_job.JobTypeJobFacet, event["job"]["facets"]["jobType"])
    made = client.RunEvent(
        eventType=client.RunState(event["eventType"]),
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=client.Run(event["run"]["runId"]),
        job=client.Job(event["job"]["namespace"], event["job"]["name"]),
        inputs=[data_set(client.InputDataset, each) for each in event["inputs"]],
        outputs=[data_set(client.OutputDataset, each) for each in event["outputs"]],
    )
    assert made.schemaURL == event["schemaURL"]


def test_one_run_is_one_id_and_two_are_two():
    ids = [to_event(each)["run"]["runId"] for each in (job(), job(created_at=5.0), job(job_id="2"), job(output_hash=A))]
    assert ids[0] == ids[1] and len(set(ids)) == 3
