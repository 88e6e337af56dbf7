"""Bearer keys, found by their digest."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from agenthost.api_keys import ApiKeys, digest
from agenthost.auth import Credentials, Principal

ANN, BOB = Principal("ann"), Principal("bob")
KEYS = ApiKeys([(digest("ann-0123456789abcdef"), ANN), (digest("bob-0123456789abcdef"), BOB)])


def test_a_key_is_its_owners() -> None:
    assert KEYS.authenticate(Credentials(b"ann-0123456789abcdef")) is ANN
    assert KEYS.authenticate(Credentials(b"bob-0123456789abcdef")) is BOB
    assert len(KEYS) == 2


@given(st.none() | st.binary(max_size=64))
def test_no_other_bytes_are_anybodys(bearer: bytes | None) -> None:
    assert KEYS.authenticate(Credentials(bearer)) is None


def test_a_digest_is_no_key() -> None:
    assert KEYS.authenticate(Credentials(digest("ann-0123456789abcdef"))) is None
    assert KEYS.authenticate(Credentials(digest("ann-0123456789abcdef").hex().encode())) is None


def test_two_keys_may_be_one_persons() -> None:
    keys = ApiKeys([(digest("old"), ANN), (digest("new"), ANN)])
    assert keys.authenticate(Credentials(b"old")) is keys.authenticate(Credentials(b"new")) is ANN


def test_the_digest_is_the_one_that_agents_toml_takes() -> None:
    assert digest("schlüssel") == hashlib.sha256("schlüssel".encode()).digest()
