"What goes into a batch, and what is known on the way."

import io

import pytest

from cjm_media_storage.contents import Job, PutItem
from cjm_media_storage.errors import InvalidNamespace
from cjm_media_storage.storage import hash_bytes


def test_facts_of_its_own_count_and_all_else_is_that_of_the_batch():
    item = PutItem(b"a poster", namespace="posters", role="", max_size=0, move=False)
    terms = item.terms({"namespace": "assets", "owner": "movie:603", "role": "poster", "max_size": 5, "move": True})
    assert (terms.facts.namespace, terms.facts.reference.role) == ("posters", "")
    assert (terms.limits.max_size, terms.move) == (0, False)  # what is False or empty was said, too


def test_wrong_facts_are_refused():
    with pytest.raises(InvalidNamespace):
        PutItem(b"a poster", namespace="../up").terms({})
    with pytest.raises(ValueError, match="hash"):
        PutItem(b"a poster", expected_hash=hash_bytes(b"")[:-1]).terms({})


@pytest.mark.parametrize(
    ("content", "held", "stream"),
    [(b"a poster", 8, False), (memoryview(b"a"), 1, False), ("/a/path", 0, False), (io.BytesIO(b"a"), 0, True)],
)
def test_what_is_held_in_memory_and_what_comes_only_once(content, held, stream):
    job = Job(content, content)
    assert (job.in_memory, job.is_stream) == (held, stream)


def test_what_became_of_it_is_told_once():
    job = Job(b"a poster", b"a poster", error=OSError("no"))
    assert not job.reported
    outcome = job.outcome()
    assert (outcome.content, outcome.result, str(outcome.error)) == (b"a poster", None, "no")
    assert job.reported
