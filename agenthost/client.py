"""A client of a running host: invoke and stream agents, list them, ask how they are; synchronous, on httpx."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"

CONNECT = 10.0
"""Seconds to reach the host. A run has no limit here: the host ends every run, and says so."""

SILENCE = 60.0
"""Seconds without a byte, heartbeats included, after which a stream counts as lost."""


class CallFailed(Exception):
    """The host said no, or the run did not complete, or there was no answer to understand.

    `detail` says what is wrong. From a problem body, or an `error` event, come `code`, `correlation_id` (the host's log
    has it too) and `run_id`; `status` is the reply's, None where there was none.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        correlation_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.correlation_id = correlation_id
        self.run_id = run_id


class HostUnreachable(CallFailed):
    """Nothing answers at that address: whatever was asked has not begun."""


class Client:
    """One host, as one caller; use it in a `with`, or `close` it. May be used from several threads.

    `url` is where the host is, `api_key` the key of `[[auth.keys]]`; a host of `agenthost dev` wants none. Every method
    raises `CallFailed`. Raises `ValueError` for a key that cannot be sent, without repeating it.
    """

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"accept": "application/json"}
        if api_key is not None:
            if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
                raise ValueError("an API key is made of visible ASCII characters")
            headers["authorization"] = f"Bearer {api_key.strip()}"
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(None, connect=CONNECT),
            trust_env=not _is_local(url),  # a proxy cannot reach this machine for us
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def invoke(
        self,
        agent: str,
        prompt: str | None = None,
        *,
        thread_id: str | None = None,
        input: Any = None,  # noqa: A002 - the wire's own name for it
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Run an agent and wait: `message, success, stop_reason, run_id, status` and what else `/invoke` answers."""
        body = _body(prompt, thread_id, input, metadata)
        with _explained(self.url):
            reply = self._http.post(self._agent(agent, "/invoke"), json=body)
        return _object(reply)

    def stream(
        self,
        agent: str,
        prompt: str | None = None,
        *,
        thread_id: str | None = None,
        input: Any = None,  # noqa: A002 - the wire's own name for it
        metadata: Mapping[str, Any] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Run an agent and yield its events as they come: dicts with a `type`; the last one is `done` or `interrupt`.

        An `error` event, and a stream that just stops, raise `CallFailed`. Closing the iterator cancels the run.
        """
        body = _body(prompt, thread_id, input, metadata)
        timeout = httpx.Timeout(None, connect=CONNECT, read=SILENCE)
        headers = {"accept": "text/event-stream"}
        with (
            _explained(self.url),
            self._http.stream(
                "POST", self._agent(agent, "/stream"), json=body, headers=headers, timeout=timeout
            ) as reply,
        ):
            if reply.status_code != 200:
                reply.read()
                raise _refusal(reply)
            yield from _events(reply)

    def agents(self) -> list[dict[str, Any]]:
        """The agents that this caller may use: name, title, description, state, protocols, address, schemas."""
        with _explained(self.url):
            reply = self._http.get(f"{self.url}/agents")
        listed: list[dict[str, Any]] = _object(reply).get("agents", [])
        return listed

    def health(self, agent: str | None = None) -> dict[str, Any]:
        """How the host is (for operators), or how one agent is (for everybody): `status`, and more for operators.

        An agent that does not serve is an answer, not an error.
        """
        with _explained(self.url):
            reply = self._http.get(f"{self.url}/health" if agent is None else self._agent(agent, "/health"))
        return _object(reply, also=503 if agent is not None else 200)

    def _agent(self, agent: str, path: str) -> str:
        return f"{self.url}/agents/{quote(agent, safe='')}{path}"


def _is_local(url: str) -> bool:
    host = ""
    try:
        host = urlsplit(url).hostname or ""
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _body(prompt: str | None, thread_id: str | None, given: Any, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    body = {"prompt": prompt, "thread_id": thread_id, "input": given, "metadata": dict(metadata) if metadata else None}
    return {name: value for name, value in body.items() if value is not None}


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what httpx raises into `CallFailed`."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise HostUnreachable(f"nothing answers at {url}") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise HostUnreachable(f"{url!r} is not an address such as {DEFAULT_URL}") from None
    except httpx.HTTPError as broken:
        raise CallFailed(f"the connection to {url} broke: {type(broken).__name__}", code="connection_lost") from None


def _object(reply: httpx.Response, *, also: int = 200) -> dict[str, Any]:
    """The JSON object of a good reply; raises `CallFailed` for any other."""
    body = _json(reply.content)
    if reply.status_code not in {200, also} or (reply.status_code != 200 and "code" in body):
        raise _refusal(reply)
    if not body:
        raise CallFailed(f"{reply.url} does not answer like a host of agents", status=reply.status_code)
    return body


def _refusal(reply: httpx.Response) -> CallFailed:
    body = _json(reply.content)
    detail = body.get("detail")
    if not isinstance(detail, str):
        return CallFailed(f"{reply.url} answered {reply.status_code} without saying why", status=reply.status_code)
    return CallFailed(detail, status=reply.status_code, **_marks(body))


def _marks(body: Mapping[str, Any]) -> dict[str, str | None]:
    return {name: body[name] for name in ("code", "correlation_id", "run_id") if isinstance(body.get(name), str)}


def _json(raw: bytes | str) -> dict[str, Any]:
    """A JSON object, or an empty one where it is none."""
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _events(reply: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream, as far as it goes; raises `CallFailed` unless it ends as a run ends."""
    last = ""
    for data in _data(reply.iter_bytes()):
        if data == "[DONE]":
            break
        event = _json(data)
        last = str(event.get("type"))
        if last == "error":
            raise CallFailed(str(event.get("error")), status=reply.status_code, **_marks(event))
        yield event
    if last not in {"done", "interrupt"}:
        raise CallFailed("the stream stopped before the run ended", code="connection_lost", status=reply.status_code)


def _data(pieces: Iterator[bytes]) -> Iterator[str]:
    """The `data` of each server-sent event, split at newline bytes only: text may hold other line ends."""
    rest = b""
    lines: list[bytes] = []
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            field, _, value = line.removesuffix(b"\r").partition(b":")
            if field == b"data":
                lines.append(value.removeprefix(b" "))
            elif not line.strip(b"\r") and lines:
                yield b"\n".join(lines).decode()
                lines = []
