"""The contract of placements finds what is wrong with a placement, and takes one that a plugin brings."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from unittest import SkipTest

import pytest

from agenthost import hookimpl
from agenthost.encoding import encode_event
from agenthost.errors import AgentError
from agenthost.importing import Importer
from agenthost.placement.in_process import InProcess
from agenthost.testing import PlacementContract


class Lossy:
    """A placement that leaves out every thousandth event, and keeps failures to itself."""

    def __init__(self) -> None:
        self._inner = InProcess(Importer(), list, encode_event)

    async def open(self, spec: Any) -> Any:
        return LossyRef(await self._inner.open(spec))

    @hookimpl
    def register_placements(self, register: Any) -> None:
        register("lossy", self)


class LossyRef:
    def __init__(self, inner: Any) -> None:
        self._inner, self.info = inner, inner.info

    async def run(self, ctx: Any, emit: Any) -> None:
        with suppress(AgentError):
            await self._inner.run(ctx, lambda entry: None if entry.seq % 1000 == 0 else emit(entry))

    async def close(self, grace: float) -> None:
        await self._inner.close(grace)


class Contract(PlacementContract):
    __test__ = False
    placement = "lossy"
    hooks = (Lossy(),)
    isolates = False


def test_a_placement_of_a_plugin_is_played() -> None:
    Contract().test_what_an_agent_says_is_sent_as_it_was_said()
    Contract().test_a_run_pauses_and_its_answers_find_everything_again()


def test_an_event_that_is_missing_is_found() -> None:
    with pytest.raises(AssertionError):
        Contract().test_ten_thousand_events_come_in_order()


def test_a_failure_that_is_kept_back_is_found() -> None:
    with pytest.raises(AssertionError, match="the run did not fail"):
        Contract().test_a_failure_fails_the_run_and_is_told_to_operators_alone()


def test_what_a_placement_does_not_promise_is_skipped() -> None:
    with pytest.raises(SkipTest, match="here an agent that ends its process ends the host"):
        Contract().test_a_process_that_ends_fails_its_run_and_the_agent_serves_again()


def test_a_story_that_takes_too_long_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agenthost.testing.placement_contract.WITHIN", 0.01)
    with pytest.raises(TimeoutError):
        Contract().play(asyncio.sleep(600))
