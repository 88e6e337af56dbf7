"""Who somebody is, and which agents they may use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.auth import Credentials, Principal


@pytest.mark.parametrize(
    ("patterns", "agent", "may"),
    [
        (("*",), "anything", True),
        (("echo",), "echo", True),
        (("echo",), "echoes", False),
        (("echo",), "ech", False),
        (("risk-*",), "risk-eu", True),
        (("risk-*",), "risk-", True),
        (("risk-*",), "brisk-eu", False),
        (("a", "b-?"), "b-1", True),
        (("a", "b-?"), "b-12", False),
        (("v[12]",), "v2", True),
        (("v[!12]",), "v2", False),
        (("echo",), "ECHO", False),
        ((), "echo", False),
        (("echo",), "", False),
    ],
)
def test_a_principal_may_use_what_its_patterns_match_whole(patterns: tuple[str, ...], agent: str, may: bool) -> None:
    assert Principal("p", agents=patterns).may_use(agent) is may


@given(st.text(max_size=80))
def test_no_name_gets_past_a_pattern_that_is_a_name(agent: str) -> None:
    assert Principal("p", agents=("echo",)).may_use(agent) is (agent == "echo")


def test_nobody_may_do_anything_that_was_not_given() -> None:
    principal = Principal("p")
    assert not principal.admin
    assert not principal.may_use("echo")
    assert principal.concurrency is None


def test_credentials_are_empty_until_a_request_brings_some() -> None:
    assert (Credentials().bearer, Credentials().headers, Credentials().peer) == (None, {}, None)
