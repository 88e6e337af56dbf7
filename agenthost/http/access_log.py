"""One line per request, written in batches: request id, principal, agent, run, status, milliseconds."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TextIO

import orjson

from agenthost.protocols.exchange import Exchange
from agenthost.telemetry import escaped

FLUSH_AFTER = 0.1
"""Seconds that a line may wait for company."""


class AccessLog:
    """Collects lines and writes them together; a log per request would cost more than the request."""

    def __init__(self, log_format: str = "text", stream: TextIO | None = None) -> None:
        self._as_json = log_format == "json"
        self._stream = stream or sys.stdout
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = -1
        self._at = ""

    def add(self, exchange: Exchange, ended: float) -> None:
        """Take the line of a request that was answered; `ended` is `time.perf_counter()`."""
        milliseconds = (ended - exchange.started) * 1000.0
        self._lines.append((_json if self._as_json else _text)(self._now(), exchange, milliseconds))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Write what has been collected."""
        self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            try:
                self._stream.write("".join(lines))
                self._stream.flush()
            except (OSError, ValueError):
                pass  # a closed pipe must not end a request

    def _now(self) -> str:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return self._at


def _text(at: str, exchange: Exchange, milliseconds: float) -> str:
    principal, entry = exchange.principal, exchange.entry
    return (
        f"{at} {exchange.id} {escaped(principal.id) if principal else '-'} {entry.name if entry else '-'} "
        f"{exchange.run_id or '-'} {exchange.method} {escaped(exchange.path[:500])} "
        f"{exchange.status or 'gone'} {milliseconds:.1f}ms\n"
    )


def _json(at: str, exchange: Exchange, milliseconds: float) -> str:
    principal, entry = exchange.principal, exchange.entry
    fields = {
        "at": at,
        "request_id": exchange.id,
        "principal": principal.id if principal else None,
        "key": principal.key_id if principal else None,
        "agent": entry.name if entry else None,
        "run_id": exchange.run_id,
        "method": exchange.method,
        "path": escaped(exchange.path[:500]),
        "status": exchange.status,
        "ms": round(milliseconds, 1),
    }
    return orjson.dumps(fields).decode() + "\n"
