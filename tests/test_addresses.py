"Which engine an address names, and that its password is never shown."

from pathlib import Path

import pytest

from cjm_media_storage.addresses import holds_secret, is_url, shown
from cjm_media_storage.errors import InvalidUrl
from cjm_media_storage.index import Index
from cjm_media_storage.memo import Memo
from cjm_media_storage.storage import ContentStore


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("postgresql://", True),
        ("postgres:///media", True),
        ("results.db", False),
        (":memory:", False),
        ("POSTGRESQL.db", False),
        ("C://results.db", False),
        ("films: the best/results.db", False),
        (Path("mysql://db/media"), False),
    ],
)
def test_a_server_or_a_file(address, found):
    assert is_url(address) is found


@pytest.mark.parametrize(
    "address",
    [
        "mysql://ann:secret@db/media",
        "postgresql+psycopg://ann:secret@db/media",
        "Postgresql://ann:secret@db/media",
        " postgresql://ann:secret@db/media",
        "s3://ann:secret@films/x",
        Path("postgresql://ann:secret@db/media"),
    ],
    ids=str,
)
def test_a_url_of_another_kind_is_no_file_and_is_not_repeated(kind, here, address):
    for open_it in (kind.storage, Index, Memo, lambda address: ContentStore("s3://films", database=address)):
        with pytest.raises(InvalidUrl) as caught:
            open_it(address)
        assert "secret" not in str(caught.value)
    assert not any(here.iterdir())


@pytest.mark.parametrize(
    "root", ["gs://ann:secret@films", "S3://films", "postgresql://ann:secret@db/media", "file:///x"]
)
def test_a_store_in_an_unknown_place_is_no_folder(here, root):
    with pytest.raises(ValueError, match="s3://bucket/prefix") as caught:
        ContentStore(root)
    assert "secret" not in str(caught.value) and not any(here.iterdir())


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("postgresql://ann:secret@db/media", "postgresql://ann@db/media"),
        ("postgres://ann:s%40cret@[::1]:5433/media?a=b", "postgres://ann@[::1]:5433/media?a=b"),
        ("postgresql://db/media?password=secret&user=ann", "postgresql://db/media?user=ann"),
        ("postgresql://db/media?pass%77ord=secret", "postgresql://db/media"),
        ("postgresql://one:1,two:2/media?sslpassword=secret", "postgresql://one:1,two:2/media"),
        ("postgresql://ann:@/media?host=/run/x", "postgresql://ann@/media?host=/run/x"),
        ("postgresql:///media", "postgresql:///media"),
        ("a folder/results.db", "a folder/results.db"),
    ],
)
def test_a_password_is_not_shown(address, wanted):
    assert shown(address) == wanted
    assert holds_secret(address) is ("cret" in address)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ann:secr@et@db/media",
        "postgresql://ann:secr/et@db/media",
        "postgresql://ann:secr?et@db/media",
        "postgresql://ann:secr#et@db/media",
        "postgresql://ann:[secret@db/media",
        "postgresql://ann:secret",
        "postgresql://ann:secret/media",
    ],
)
def test_an_address_in_which_a_password_could_be_taken_for_a_host_is_refused_and_not_repeated(address):
    with pytest.raises(InvalidUrl) as caught:
        shown(address)
    assert "secr" not in str(caught.value) and caught.value.__cause__ is None
