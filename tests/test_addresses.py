"Which engine an address names, and that its password is never shown."

from pathlib import Path

import pytest

from cjm_media_storage.addresses import holds_secret, is_url, shown
from cjm_media_storage.errors import InvalidUrl


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("postgresql://", True),
        ("postgres:///media", True),
        ("results.db", False),
        (":memory:", False),
        (Path("postgresql://db/media"), False),
        ("POSTGRESQL.db", False),
        ("mysql://db/media", False),
    ],
)
def test_a_server_or_a_file(address, found):
    assert is_url(address) is found


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
