"""The requests that the client makes of a host: paths, headers and bodies, and no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

SILENCE = 60.0
"""Seconds without a byte, heartbeats included, after which a connection counts as lost. A run has no limit here: the
host ends every run, and says so."""

LAST_WORDS = 5.0
"""Seconds of silence that are suffered when a caller has left, and its run is to be cancelled."""

_JSON = {"content-type": "application/json"}
_EVENTS = {"accept": "text/event-stream"}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: `path` from the host's root on, encoded, with its query; `silence` in seconds."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    silence: float = SILENCE


def agent_path(agent: str, *parts: str) -> str:
    """`/agents/<name>/…`, each part encoded: no name leads elsewhere."""
    return "/".join(("/agents", *(quote(part, safe="") for part in (agent, *parts))))


def run_body(
    prompt: str | None, thread_id: str | None, given: Any, metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What asks for a run; what is None is left out."""
    return _given(prompt=prompt, thread_id=thread_id, input=given, metadata=dict(metadata) if metadata else None)


def resume_body(
    thread_id: str,
    interrupt_id: str | None,
    response: Any,
    decision: Mapping[str, Any] | None,
    answers: Sequence[Mapping[str, Any]] | None,
    metadata: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What answers a paused run; what is None is left out."""
    return _given(
        thread_id=thread_id,
        interrupt_id=interrupt_id,
        response=response,
        decision=dict(decision) if decision is not None else None,
        answers=[dict(answer) for answer in answers] if answers is not None else None,
        metadata=dict(metadata) if metadata else None,
    )


def post_run(agent: str, route: str, body: Mapping[str, Any], *, streams: bool = False, key: str = "") -> Ask:
    """A request for a run, with an `Idempotency-Key`: sent again, it is the same run.

    Raises `ValueError` for what is not JSON, `UnicodeEncodeError` for text that is not UTF-8.
    """
    encoded = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    headers = {**_JSON, **(_EVENTS if streams else {}), "idempotency-key": key or uuid4().hex}
    return Ask("POST", agent_path(agent, route), headers, encoded)


def get_events(agent: str, run_id: str, after: int) -> Ask:
    """The events of a run that come after the one with that number."""
    return Ask("GET", agent_path(agent, "runs", run_id, "events"), {**_EVENTS, "last-event-id": str(after)})


def get_run(agent: str, run_id: str) -> Ask:
    """How a run is."""
    return Ask("GET", agent_path(agent, "runs", run_id))


def cancel_run(agent: str, run_id: str, *, silence: float = SILENCE) -> Ask:
    """The end of a run."""
    return Ask("POST", agent_path(agent, "runs", run_id, "cancel"), silence=silence)


def get_page(agent: str, what: str, cursor: str | None, **wanted: str | None) -> Ask:
    """A page of the caller's `runs` or `threads`, from `cursor` on."""
    query = urlencode(_given(**wanted, cursor=cursor))
    return Ask("GET", agent_path(agent, what) + (f"?{query}" if query else ""))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
