"""Log records of a worker: what is sent of them, and what becomes of them in the host's log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from agenthost.events import encode_json
from agenthost.placement.allowance import AT_ONCE, LONGEST_TRACE
from agenthost.placement.worker_log import WorkerLog, log_here, run_id
from agenthost.telemetry import LineFormatter

AGENT = "agenthost.agent.echo"


class Sent(WorkerLog):
    """A handler, and what it has sent."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        super().__init__("echo", self.told.append)

    def record(self, name: str, message: object, *arguments: object, **more: Any) -> dict[str, Any]:
        logger = logging.getLogger(name)
        self.handle(logger.makeRecord(name, logging.WARNING, "", 0, message, arguments, None, **more))
        encode_json(self.told[-1])
        return self.told[-1]


def test_a_record_of_the_agents_own_logger_is_sent_as_it_is_and_others_with_their_name() -> None:
    sent = Sent()
    assert sent.record(AGENT, "a %s", "b")["message"] == "a b"
    assert sent.record("httpx", "a \ud800") == {
        "level": logging.WARNING, "message": "httpx: a \\ud800", "run_id": None, "traceback": None,
    }  # fmt: skip


def test_a_record_says_which_run_it_belongs_to() -> None:
    sent = Sent()
    assert sent.record(AGENT, "x", extra={"run_id": "by the adapter"})["run_id"] == "by the adapter"
    token = run_id.set("by the context")
    assert sent.record("other", "x")["run_id"] == "by the context"
    run_id.reset(token)


def test_a_traceback_is_sent_as_text() -> None:
    sent = Sent()
    try:
        raise ValueError("why")
    except ValueError as raised:
        sent.handle(
            logging.LogRecord(AGENT, logging.ERROR, "", 0, "x", None, (ValueError, raised, raised.__traceback__))
        )
    assert sent.told[0]["traceback"].endswith("ValueError: why")


def test_a_traceback_is_sent_in_part_where_it_is_a_document() -> None:
    sent = Sent()
    raised = ValueError("x" * (1 << 20))
    sent.handle(logging.LogRecord(AGENT, logging.ERROR, "", 0, "x", None, (ValueError, raised, None)))
    assert len(sent.told[0]["traceback"]) < 2 * LONGEST_TRACE


def test_a_record_that_cannot_be_rendered_is_said_to_be_so() -> None:
    assert Sent().record("other", "%d", "x")["message"] == "a record of other that TypeError spoils"


def test_a_flood_is_capped() -> None:
    sent = Sent()
    for number in range(3 * AT_ONCE):
        sent.handle(logging.LogRecord(AGENT, logging.ERROR, "", 0, str(number), None, None))
    assert AT_ONCE <= len(sent.told) < 2 * AT_ONCE


def test_in_the_host_a_record_stands_under_the_agents_name(caplog: pytest.LogCaptureFixture) -> None:
    log_here("echo", {"level": logging.ERROR, "message": "m", "run_id": "r", "traceback": "Traceback\nwhy"})
    log_here("echo", {"level": logging.DEBUG, "message": "not wanted here"})
    [record] = caplog.records
    line = LineFormatter().format(record)
    assert (record.name, record.levelno) == (AGENT, logging.ERROR)
    assert line.endswith("error   agenthost.agent.echo: m agent=echo run_id=r traceback=Traceback\\nwhy")
