"""What operators see of the running host: log records, one a line, and metrics read at scrape time."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from agenthost.agents import RunStatus
from agenthost.entries import AgentEntry

BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
"""Upper bounds of a run's duration, in seconds."""

_EXTRAS = ("request_id", "principal", "agent", "run_id", "correlation_id", "method", "path", "status", "ms")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends, marks that turn the direction of what follows, and what UTF-8 cannot carry."""


class _AgentCounts:
    """Plain numbers, written on the request path; prometheus sees them when it asks."""

    __slots__ = ("buckets", "ended", "seconds", "started", "tokens")

    def __init__(self) -> None:
        self.started = 0
        self.ended: dict[RunStatus, int] = {"completed": 0, "paused": 0, "failed": 0, "cancelled": 0}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.tokens = {"input_tokens": 0, "output_tokens": 0}


class RunMetrics:
    """Counts runs by agent and status, their durations and their tokens."""

    def __init__(self) -> None:
        self._agents: dict[str, _AgentCounts] = {}

    def started(self, agent: str) -> None:
        """Count a run that starts."""
        self._of(agent).started += 1

    def _of(self, agent: str) -> _AgentCounts:
        counts = self._agents.get(agent)
        if counts is None:
            counts = self._agents[agent] = _AgentCounts()
        return counts

    def ended(self, agent: str, status: RunStatus, seconds: float, usage: Mapping[str, Any] | None) -> None:
        """Count a run that ended, `seconds` after it started."""
        counts = self._of(agent)
        counts.ended[status] += 1
        counts.seconds += seconds
        counts.buckets[bisect_left(BUCKETS, seconds)] += 1
        if usage:
            for name in counts.tokens:
                counts.tokens[name] += usage.get(name, 0)

    def collect(self) -> Iterable[Metric]:
        """What prometheus scrapes."""
        started = CounterMetricFamily("agenthost_runs_started", "Runs started.", labels=["agent"])
        ended = CounterMetricFamily("agenthost_runs_ended", "Runs ended.", labels=["agent", "status"])
        tokens = CounterMetricFamily("agenthost_tokens", "Tokens that agents reported.", labels=["agent", "kind"])
        duration = HistogramMetricFamily("agenthost_run_seconds", "Duration of ended runs.", labels=["agent"])
        for agent, counts in self._agents.items():
            started.add_metric([agent], counts.started)
            for status, number in counts.ended.items():
                ended.add_metric([agent, status], number)
            for kind, number in counts.tokens.items():
                tokens.add_metric([agent, kind.removesuffix("_tokens")], number)
            duration.add_metric([agent], list(_cumulative(counts.buckets)), counts.seconds)
        return (started, ended, tokens, duration)


def _cumulative(buckets: list[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, number in zip([*map(str, BUCKETS), "+Inf"], buckets, strict=True):
        total += number
        yield bound, total


class HostCollector:
    """The state of every agent, read from the registry's entries at scrape time."""

    def __init__(self, entries: Mapping[str, AgentEntry]) -> None:
        self._entries = entries

    def collect(self) -> Iterable[Metric]:
        """What prometheus scrapes."""
        state = GaugeMetricFamily("agenthost_agent_state", "1 for the state an agent is in.", labels=["agent", "state"])
        running = GaugeMetricFamily("agenthost_runs_running", "Runs going on now.", labels=["agent"])
        queued = GaugeMetricFamily("agenthost_runs_queued", "Runs waiting for a slot.", labels=["agent"])
        stuck = GaugeMetricFamily("agenthost_runs_stuck", "Cancelled runs whose agent goes on.", labels=["agent"])
        for name, entry in self._entries.items():
            state.add_metric([name, entry.state], 1)
            running.add_metric([name], entry.running)
            queued.add_metric([name], entry.queued)
            stuck.add_metric([name], entry.stuck)
        return (state, running, queued, stuck)


def render_metrics(*collectors: Any) -> bytes:
    """The Prometheus text format of these collectors, from a registry of their own: hosts do not share numbers."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)


def escaped(text: str) -> str:
    """Text that stays on one line of a log: control characters become escapes."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text)


class LineFormatter(logging.Formatter):
    """One record, one line: as text with key=value, or as JSON; known secrets become `***`.

    `for_people` lets text have more lines, which are indented.
    """

    def __init__(self, *, as_json: bool = False, secrets: Collection[str] = (), for_people: bool = False) -> None:
        super().__init__()
        self._as_json = as_json
        self._for_people = for_people
        found = sorted((secret for secret in secrets if len(secret) >= 8), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, found))) if found else None

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        fields = self._fields(record)
        if self._secrets is not None:  # before anything is escaped, or a secret might not look like itself
            for name, value in fields.items():
                fields[name] = value if isinstance(value, int | float) else self._secrets.sub("***", str(value))
        return _json_line(fields) if self._as_json else (_text_lines if self._for_people else _text_line)(fields)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        fields: dict[str, Any] = {
            "at": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in _EXTRAS:
            value = getattr(record, name, None)
            if value is not None:
                fields[name] = value
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:  # a worker's, whose exceptions are not here
            fields["traceback"] = record.exc_text
        return fields


def _json_line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, default=str)


def _text_line(fields: Mapping[str, Any]) -> str:
    rest = dict(fields)
    head = f"{rest.pop('at')} {rest.pop('level'):<7} {rest.pop('logger')}: {escaped(rest.pop('message'))}"
    trace = rest.pop("traceback", "")
    tail = "".join(f" {name}={escaped(str(value))}" for name, value in rest.items())
    return head + tail + (f" traceback={escaped(trace)}" if trace else "")


def _text_lines(fields: Mapping[str, Any]) -> str:
    """The line of text, and below it, indented, the lines that message and traceback have besides."""
    message, *more = str(fields["message"]).rstrip().splitlines() or [""]
    more += str(fields.get("traceback", "")).rstrip().splitlines()
    head = _text_line({name: value for name, value in fields.items() if name != "traceback"} | {"message": message})
    return "\n".join([head, *(f"    {escaped(line)}" for line in more)])


def own_stream(stream: TextIO) -> TextIO:
    """Where `stream` leads, by a descriptor of its own: an agent in this process may close `sys.stdout`."""
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError):
        return stream  # it leads to no descriptor, or nowhere at all
    return open(descriptor, "w", encoding=stream.encoding, errors="backslashreplace")


class _LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines; one that cannot be written is lost, and not the run that it was about."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name for it
        """Say it on `sys.stderr`, as logging does, unless an agent has closed that."""
        with suppress(ValueError):
            super().handleError(record)


def set_up_logging(
    log_format: str, secrets: Collection[str], stream: TextIO | None = None, *, for_people: bool = False
) -> None:
    """Send every record of this process to `stream` (stderr), formatted `text` or `json`; replaces earlier handlers."""
    handler = _LineHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(as_json=log_format == "json", secrets=secrets, for_people=for_people))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("agenthost").setLevel(logging.INFO)
