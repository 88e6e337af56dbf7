"""A worker's stdout and stderr as records: line by line, capped, whatever bytes come."""

from __future__ import annotations

import time

import pytest

from agenthost.placement.allowance import AT_ONCE, LONGEST
from agenthost.placement.output import FLOOD, Output

Caplog = pytest.LogCaptureFixture


@pytest.fixture(autouse=True)
def at_info(caplog: Caplog) -> None:
    caplog.set_level("INFO")


def test_lines_are_logged_once_they_are_whole_and_the_rest_at_the_end(caplog: Caplog) -> None:
    output = Output("echo")
    for data in (b"one\ntw", b"o\n\n  \nthr", b"ee"):
        output.hear(data)
    assert caplog.messages == ["one", "two"]
    output.hear(b"")
    assert caplog.messages == ["one", "two", "three"]
    assert {(record.name, record.agent) for record in caplog.records} == {("agenthost.agent.echo", "echo")}  # type: ignore[attr-defined]  # an extra
    assert output.last == "three"


def test_bytes_that_are_no_text_are_spelled_out(caplog: Caplog) -> None:
    Output("echo").hear(b"a\xff\n")
    assert caplog.messages == ["a\\xff"]


def test_a_line_without_end_is_cut_and_not_collected(caplog: Caplog) -> None:
    output = Output("echo")
    output.hear(b"x" * (LONGEST + 1))
    assert caplog.messages == ["x" * LONGEST + f"… ({LONGEST + 1} characters)"]


def test_a_flood_is_capped_counted_and_slowed_down(caplog: Caplog) -> None:
    output = Output("echo")
    data = b"y\n" * (32 << 10)
    began = time.monotonic()
    for _ in range(FLOOD // len(data) + 8):
        output.hear(data)
    output.hear(b"")
    assert time.monotonic() - began > 0.9
    lines = (FLOOD // len(data) + 8) * (32 << 10)
    told = [message for message in caplog.messages if message != "y"]
    logged = len(caplog.messages) - len(told)
    assert AT_ONCE <= logged < 2 * AT_ONCE
    assert sum(int(message.split()[0]) for message in told) + logged == lines
