"Where an object came from, and who needs it."

import pytest

from cjm_media_storage.storage import ContentStore, ObjectNotFound, hash_bytes

URL = "https://example.org/poster.jpg"


@pytest.fixture
def store(tmp_path):
    with ContentStore(tmp_path / "store") as store:
        yield store


@pytest.fixture
def poster(store):
    return store.put(b"a poster", extension="jpg").hash


def test_each_source_is_said_once_with_what_it_called_the_object(store, poster):
    for _ in range(2):
        store.add_source(poster, URL, "TMDB")
        store.add_source(poster, URL + "?size=large", "Fanart.tv")
    assert [(each.provider, each.extension) for each in store.sources(poster)][:1] == [("TMDB", "jpg")]
    assert len(store.sources(poster)) == 2


def test_a_location_gives_what_it_had_last_at_the_end(store, poster):
    newer = store.put(b"a better poster").hash
    store.add_source(poster, URL, "TMDB")
    store.add_source(newer, URL, "TMDB")
    assert [each.hash for each in store.find_by_source(URL)] == [poster, newer]
    assert store.find_by_source(URL, "Fanart.tv") == []


def test_references_are_said_once_and_taken_back_by_role_or_all(store, poster):
    for role in ("poster", "poster", "thumbnail"):
        store.add_reference(poster, "movie:1", role)
    store.add_reference(poster, "movie:2")
    assert len(store.references(poster)) == 3 and len(store.references(owner="movie:1")) == 2
    assert store.remove_reference(poster, "movie:1", "poster") == 1
    assert store.remove_reference(poster, "movie:1") == 1
    assert [each.owner for each in store.references()] == ["movie:2"]
    assert store.read(poster) == b"a poster"


def test_nothing_is_said_of_what_is_not_here(store, poster):
    store.delete(poster)
    for hash in (poster, hash_bytes(b"never stored")):
        with pytest.raises(ObjectNotFound):
            store.add_source(hash, URL)
        with pytest.raises(ObjectNotFound):
            store.add_reference(hash, "movie:1")
    assert store.find_by_source(URL) == [] == store.references()


def test_a_reference_holds_in_the_namespace_it_was_said_for(store, poster):
    store.put(b"a poster", namespace="actors")
    store.add_reference(poster, "actor:1", namespace="actors")
    with pytest.raises(ObjectNotFound):
        store.add_reference(poster, "actor:1", namespace="films")
    assert [item.namespace for item in store.delete(poster, namespace="assets")] == ["assets"]
