"""A pytest plugin: under it, Locus's own tests of its server meet agenthost's `AgentServer`.

Loaded with `-p substituted`, before the tests import anything. What they take from `locus.server` is ours from then on;
of Locus's private functions, what answers the same question.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import locus.server
import locus.server.app
import pytest

from agenthost import AgentServer

SERVES_FOR = 2.0
"""Seconds after which a test that serves is told to stop, as with Ctrl+C."""

OURS = {
    "_principal_key": "agenthost.agent_server:principal_of",
    "_is_loopback": "agenthost.http.security:is_loopback",
    "_INVOKE_SUCCESS_REASONS": "agenthost.events:SUCCESS_REASONS",
    "_accepts_kwarg": "agenthost_locus.recognising:accepts_keyword",
}
"""A private name of `locus.server.app` → what says the same of our server."""


LOADED_LATE = ("uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.loops.uvloop")
"""What uvicorn imports by name once it runs: some tests put an empty module of its name in its place before that."""


class Substitute(AgentServer):
    """Ours, and what Locus's tests ask of its privates."""

    def _resolve_docs_enabled(self) -> bool:
        return self.app.docs_url is not None or self.app.openapi_url is not None


def _found(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _payload(event: Any, *, scoped_thread_id: str | None, thread_id: str | None) -> Any:
    translation = _found("agenthost_locus.translating:Translation")(scoped_thread_id, thread_id)
    [said] = translation.of(event)
    return said.payload()


def pytest_configure() -> None:
    """Put ours in the places that the tests import from."""
    app = locus.server.app
    for name, path in OURS.items():
        setattr(app, name, _found(path))
    app._invoke_success = lambda reason: reason in app._INVOKE_SUCCESS_REASONS
    app._event_payload = _payload
    locus.server.AgentServer = app.AgentServer = Substitute
    alone = import_module("agenthost.agent_server")
    for name in LOADED_LATE:
        import_module(name)
    alone.LIKE_UVICORN = {**alone.LIKE_UVICORN, "log_config": None}  # it has names in it, looked up when it runs
    alone.listen = lambda host, _port, listen=alone.listen: listen(host, 0)  # the tests' ports may be taken here


@pytest.fixture(autouse=True)
def stopped_in_time() -> Iterator[None]:
    """A server that a test starts for real is stopped; Locus's tests count on a uvicorn that does nothing."""
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, SERVES_FOR)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
