"What callers say of content is checked before a byte is read, all of it and with one word for each fault."

import pytest

from cjm_media_storage.errors import InvalidExtension, InvalidHash, InvalidNamespace, InvalidRecord
from cjm_media_storage.index import NewReference, NewSource
from cjm_media_storage.ingest import Limits
from cjm_media_storage.terms import NO_LIMITS, Facts, Terms, check_terms

HASH = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "said, error",
    [
        ({"namespace": "../up"}, InvalidNamespace),
        ({"namespace": ""}, InvalidNamespace),
        ({"extension": "a/b"}, InvalidExtension),
        ({"source": "a\0b"}, InvalidRecord),
        ({"source": ""}, InvalidRecord),
        ({"owner": ""}, InvalidRecord),
        ({"owner": "movie:1", "role": "\ud800"}, InvalidRecord),
        ({"provider": "a\0b"}, InvalidRecord),
        ({"expected_hash": HASH[:-1]}, InvalidHash),
        ({"expected_hash": HASH.upper()}, InvalidHash),
    ],
)
def test_bad_words_are_refused(said, error):
    with pytest.raises(error):
        check_terms(**said)


def test_what_is_said_is_kept():
    terms = check_terms("posters", None, "https://example.org/a.JPG?size=2", "example", "movie:1", "poster")
    assert terms.facts.source == NewSource("https://example.org/a.JPG?size=2", "example")
    assert terms.facts.reference == NewReference("movie:1", "poster")
    assert (terms.facts.namespace, terms.facts.extension) == ("posters", "jpg")


def test_what_is_not_said_is_that_of_a_durable_copy_without_limits():
    terms = check_terms()
    assert terms == Terms(Facts("assets", "", None, None))
    assert terms == Terms(Facts("assets", "", None, None, ""), Limits(None, None, None, True), True, False, True)


def test_an_extension_that_is_said_counts_more_than_that_of_the_source():
    assert check_terms(extension=".PNG", source="a.jpg").facts.extension == "png"


@pytest.mark.parametrize(
    "said", [{"expected_hash": HASH}, {"expected_size": 0}, {"max_size": 0}, {"allow_empty": False}]
)
def test_any_limit_is_kept_and_none_is_recognised(said):
    assert check_terms(**said).limits is not NO_LIMITS
    assert check_terms(**said).limits._asdict().items() >= said.items()
    assert check_terms(owner="movie:1").limits is NO_LIMITS


@pytest.mark.parametrize("durability", ["full", "batch", "none"])
@pytest.mark.parametrize("move", [True, False])
def test_only_what_is_not_moved_and_need_not_be_durable_is_not_synced(durability, move):
    assert check_terms(durability=durability, move=move).durable is (move or durability != "none")
