"""What operators see: one record, one line, no secret in it; and the numbers that prometheus scrapes."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.agents import RunContext, RunRequest
from agenthost.errors import Cancelled
from agenthost.events import Interrupt, Usage
from agenthost.telemetry import (
    BUCKETS,
    LineFormatter,
    RunMetrics,
    escaped,
    own_stream,
    render_metrics,
    set_up_logging,
)
from tests.agents_for_tests import Deaf, Held, hosting, idle, raising, served, started, told, until, within

KEY = "sk-do-not-log-me"
ODD_KEY = 'hun"ter\\wörd\n2'


def record(message: str, *arguments: Any, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("agenthost.runs", logging.ERROR, __file__, 1, message, arguments, None)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    for name, value in extra.items():
        setattr(made, name, value)
    return made


def failed(text: str) -> logging.LogRecord:
    try:
        raise ValueError(text)
    except ValueError as error:
        made = record("failed")
        made.exc_info = (ValueError, error, error.__traceback__)
        return made


def formatters(*secrets: str) -> list[LineFormatter]:
    return [LineFormatter(as_json=as_json, secrets=secrets) for as_json in (False, True)]


def test_for_people_a_record_has_the_lines_of_its_message_and_its_traceback_and_no_other_begins_a_line() -> None:
    formatter = LineFormatter(for_people=True, secrets=["sk-not-for-you"])
    first, *more = formatter.format(record("not reloaded\nsk-not-for-you\x1b[1m\u2028x", agent="app")).split("\n")
    assert first == "2023-11-14T22:13:20.250Z error   agenthost.runs: not reloaded agent=app"
    assert more == ["    ***\\x1b[1m", "    x"]
    first, *more = formatter.format(failed("two\nlines")).split("\n")
    assert first.endswith("agenthost.runs: failed")
    assert more[0] == "    Traceback (most recent call last):"
    assert more[-2:] == ["    ValueError: two", "    lines"]
    assert formatter.format(record("")).endswith("agenthost.runs: ")


def test_a_record_is_a_line_of_text_with_what_is_known_of_it() -> None:
    line = LineFormatter().format(record("run %s failed", 3, agent="echo", run_id="r1", ms=1.5))
    assert line == "2023-11-14T22:13:20.250Z error   agenthost.runs: run 3 failed agent=echo run_id=r1 ms=1.5"


def test_a_record_is_a_line_of_json_where_that_is_asked_for() -> None:
    line = LineFormatter(as_json=True).format(record("run %s failed", 3, agent="echo", status=500))
    assert json.loads(line) == {
        "at": "2023-11-14T22:13:20.250Z",
        "level": "error",
        "logger": "agenthost.runs",
        "message": "run 3 failed",
        "agent": "echo",
        "status": 500,
    }


def test_a_traceback_is_on_the_same_line() -> None:
    for formatter in formatters():
        line = formatter.format(failed("no"))
        assert "\n" not in line
        assert "ValueError: no" in line
        assert "Traceback" in line


NASTY = [
    "a\nb",
    "a\r\nb",
    "\x1b[31mred",
    "\x00",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202egnp",
    "\u2066",
    "\ud800",
    "\x9b1m",
]


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_control_characters_are_escaped_wherever_they_stand(nasty: str) -> None:
    for formatter in formatters():
        for made in (record(nasty), record("%s", nasty), record("x", path=nasty), failed(nasty)):
            line = formatter.format(made)
            assert line.isprintable()
            line.encode()
    assert escaped(nasty) == "".join(one if one.isprintable() else repr(one)[1:-1] for one in nasty)


def test_text_of_every_language_stays_readable() -> None:
    assert escaped("Grüße, 世界, مرحبا, 🙂") == "Grüße, 世界, مرحبا, 🙂"


@given(st.text())
def test_one_record_is_always_one_line(text: str) -> None:
    for formatter in formatters():
        line = formatter.format(record("%s", text, path=text))
        assert len(line.splitlines()) == 1
        line.encode()


@pytest.mark.parametrize("secret", [KEY, ODD_KEY], ids=ascii)
def test_known_secrets_are_scrubbed_wherever_they_stand(secret: str) -> None:
    for formatter in formatters("short", KEY, ODD_KEY, KEY + "-longer"):
        for made in (record(f"key {secret}!"), record("%s", secret), record("x", path=f"/{secret}/"), failed(secret)):
            line = formatter.format(made)
            assert "***" in line
            assert "do-not-log" not in line
            assert not any(piece in line for piece in ("hun", "ter\\", "rd\\n2"))


def test_the_longest_secret_goes_first_and_what_is_too_short_to_be_one_stays() -> None:
    (line,) = [LineFormatter(secrets=["abcdefgh", "abcdefghij", "info"]).format(record("abcdefghij info"))]
    assert line.endswith(": *** info")


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Puts back what `set_up_logging` changes."""
    root, ours = logging.getLogger(), logging.getLogger("agenthost")
    before, level, our_level = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    ours.setLevel(our_level)


@pytest.mark.usefixtures("logging_as_it_was")
def test_logging_is_set_up_for_the_whole_process_and_only_once() -> None:
    for log_format in ("text", "json"):
        stream = io.StringIO()
        set_up_logging(log_format, [KEY], stream)
        logging.getLogger("agenthost.anything").info("hello %s", KEY)
        logging.getLogger("someone.elses").info("not heard")
        logging.getLogger("someone.elses").warning("heard")
        lines = stream.getvalue().splitlines()
        assert len(lines) == 2
        assert "hello ***" in lines[0]
        assert (lines[0][0] == "{") is (log_format == "json")


@pytest.mark.usefixtures("logging_as_it_was")
def test_a_line_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    set_up_logging("text", [], closed)
    logging.getLogger("agenthost.anything").error("nobody reads this")


def test_a_stream_of_our_own_outlives_the_one_that_it_leads_beside(tmp_path: Path) -> None:
    theirs = (tmp_path / "log").open("w", encoding="utf-8")
    with own_stream(theirs) as ours:
        theirs.close()
        ours.write("still here \ud800\n")
    assert (tmp_path / "log").read_text() == "still here \\ud800\n"


def test_a_stream_that_leads_nowhere_is_used_as_it_is() -> None:
    stream = io.StringIO()
    assert own_stream(stream) is stream


def numbers(page: bytes, name: str) -> dict[str, float]:
    """The samples of one metric, by what stands in braces."""
    found = {}
    for line in page.decode().splitlines():
        if line.startswith(name + "{"):
            labels, _, value = line.removeprefix(name)[1:].rpartition("} ")
            found[labels] = float(value)
    return found


def test_runs_are_counted_by_agent_and_by_how_they_ended() -> None:
    async def ends(ctx: RunContext) -> Any:
        yield Usage(input_tokens=3, output_tokens=4)
        match ctx.prompt:
            case "pause":
                yield Interrupt("q?")
            case "fail":
                raise ValueError

    async def main() -> None:
        held = Held()
        async with hosting(served(ends, "ends"), served(held, "held"), served(raising, "broken")) as host:
            for prompt in ("pause", "fail", "complete", "complete"):
                await told(host, prompt, agent="ends")
            run = await started(host, agent="held")
            await within(held.begun.wait())
            page = host.metrics_page()
            assert numbers(page, "agenthost_runs_running") == {
                'agent="ends"': 0,
                'agent="held"': 1,
                'agent="broken"': 0,
            }
            run.cancel(Cancelled())
            await run.ended()
            page = host.metrics_page()
        assert numbers(page, "agenthost_runs_started_total") == {'agent="ends"': 4, 'agent="held"': 1}
        ended = numbers(page, "agenthost_runs_ended_total")
        assert {labels: number for labels, number in ended.items() if number} == {
            'agent="ends",status="paused"': 1,
            'agent="ends",status="failed"': 1,
            'agent="ends",status="completed"': 2,
            'agent="held",status="cancelled"': 1,
        }
        assert numbers(page, "agenthost_tokens_total") == {
            'agent="ends",kind="input"': 12,
            'agent="ends",kind="output"': 16,
            'agent="held",kind="input"': 0,
            'agent="held",kind="output"': 0,
        }
        assert numbers(page, "agenthost_run_seconds_count") == {'agent="ends"': 4, 'agent="held"': 1}
        assert numbers(page, "agenthost_agent_state") == {
            'agent="ends",state="ready"': 1,
            'agent="held",state="ready"': 1,
            'agent="broken",state="failed"': 1,
        }

    asyncio.run(main())


def test_what_waits_and_what_is_stuck_is_counted() -> None:
    async def main() -> None:
        deaf = Deaf()
        async with hosting(served(deaf, concurrency=1)) as host:
            run = await started(host)
            await until(lambda: deaf.begun)
            waiting = asyncio.create_task(started(host))
            await until(lambda: host.entries["agent"].queued)
            run.cancel(Cancelled())
            await run.ended()
            page = host.metrics_page()
            counted = [
                numbers(page, f"agenthost_runs_{name}")['agent="agent"'] for name in ("running", "queued", "stuck")
            ]
            assert counted == [1, 1, 1]
            deaf.go.set()
            await (await within(waiting)).ended()
            await idle(host)

    asyncio.run(main())


def test_a_run_that_is_refused_or_given_up_before_it_began_is_no_run_or_a_whole_one() -> None:
    async def main() -> None:
        held = Held()
        async with hosting(held) as host:
            starting = asyncio.create_task(started(host, RunRequest("x", thread_id="t")))
            await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait((starting,))
            await idle(host)

            def counted(name: str) -> float:
                return sum(numbers(host.metrics_page(), name).values())

            await until(lambda: counted("agenthost_runs_started_total") == counted("agenthost_runs_ended_total"))

    asyncio.run(main())


def test_durations_fall_into_buckets_that_add_up() -> None:
    metrics = RunMetrics()
    for seconds in (0.001, 0.005, 0.0051, 3.0, 1000.0):
        metrics.started("a")
        metrics.ended("a", "completed", seconds, None)
    page = render_metrics(metrics)
    buckets = numbers(page, "agenthost_run_seconds_bucket")
    assert list(buckets.values()) == [2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5]
    assert list(buckets)[-1] == 'agent="a",le="+Inf"'
    assert len(buckets) == len(BUCKETS) + 1
    assert numbers(page, "agenthost_run_seconds_sum")['agent="a"'] == pytest.approx(1003.0111)


def test_two_hosts_in_one_process_share_no_numbers() -> None:
    one, two = RunMetrics(), RunMetrics()
    one.started("a")
    assert numbers(render_metrics(two), "agenthost_runs_started_total") == {}
