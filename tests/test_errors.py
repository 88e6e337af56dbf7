"""Every error has a code, a status and a title of its own, and says to a client only what a client may read."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from agenthost import errors
from agenthost.errors import (
    AgentError,
    AgentPaused,
    BadEvent,
    ConfigError,
    HostError,
    InvalidRequest,
    LoadError,
    RequestError,
    RunError,
    StoreError,
    by_code,
    catalogue,
)
from agenthost.events import Interrupt

OURS = [kind for kind in catalogue() if kind.__module__ == "agenthost.errors"]

SHARED_CODES = {"bad_request": {"RequestError", "BadRequest"}, "agent_error": {"RunError", "AgentError"}}
"""A parent that is never raised itself shares its code with its plainest child."""


def test_the_tree_on_top_of_the_module_names_every_error_and_its_status() -> None:
    drawn = inspect.getdoc(errors) or ""
    for kind in OURS:
        assert re.search(rf"\b{kind.__name__}\b", drawn), kind
        if issubclass(kind, RequestError) and kind is not RequestError:
            assert f"{kind.__name__} {kind.status}" in drawn


def test_a_code_is_one_words_worth_and_belongs_to_one_class() -> None:
    by: dict[str, set[str]] = {}
    for kind in OURS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
        by.setdefault(kind.code, set()).add(kind.__name__)
    assert {code: kinds for code, kinds in by.items() if len(kinds) > 1} == SHARED_CODES


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_only_what_concerns_the_request_is_public(kind: type[HostError]) -> None:
    assert kind.public is issubclass(kind, RequestError)
    assert kind.title
    assert 400 <= kind.status <= 504
    assert (kind.__doc__ or "").strip()


def test_a_client_reads_the_message_where_it_is_public_else_the_title() -> None:
    assert InvalidRequest("input is not a number").detail == "input is not a number"
    assert AgentError("ValueError: sk-secret").detail == "The agent failed"
    assert StoreError("the store /var/lib/x.db is full").detail == "The run could not be recorded"


def test_an_operator_reads_the_message_and_under_it_what_to_do() -> None:
    assert HostError("it broke", hint="mend it").describe() == "it broke\n  → mend it"
    assert HostError("it broke").describe() == "it broke"
    assert (HostError().message, str(HostError())) == ("Internal error", "Internal error")
    assert ConfigError("one", "two").problems == ("one", "two")
    assert ConfigError("one", "two").message == "one\ntwo"
    assert InvalidRequest("x", retry_after=2.0).retry_after == 2.0


def test_a_load_error_says_whose_it_is() -> None:
    error = LoadError("no", hint="h", distribution="acme", version="1", traceback="t")
    assert (error.distribution, error.version, error.traceback, error.hint) == ("acme", "1", "t", "h")


def test_a_pause_carries_the_question() -> None:
    asked = Interrupt("q?")
    assert AgentPaused(asked).interrupt is asked


@pytest.mark.parametrize(
    "kind",
    [kind for kind in OURS if issubclass(kind, RunError) and kind is not RunError],
    ids=lambda kind: kind.__name__,
)
def test_a_runs_error_is_found_again_by_its_code(kind: Any) -> None:
    assert by_code(kind.code).code == kind.code
    assert by_code(BadEvent.code) is BadEvent


def test_a_code_nobody_knows_is_the_agents_error() -> None:
    assert by_code("something_else") is AgentError
    assert by_code("invalid_request") is AgentError, "no run ends with it"
