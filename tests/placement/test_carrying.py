"""What crosses to a worker and back is the same on the other side: runs, messages, results, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agenthost.agents import AgentInfo, Answer, RunContext, RunRequest, RunResult
from agenthost.auth import Principal
from agenthost.encoding import encode_json
from agenthost.errors import (
    AgentCrashed,
    AgentError,
    AgentPaused,
    AgentUnavailable,
    BadEvent,
    Forbidden,
    HostError,
    InvalidRequest,
    LoadError,
    NotFound,
    RunError,
    RunTimeout,
)
from agenthost.events import Interrupt
from agenthost.placement.allowance import LONGEST, LONGEST_TRACE
from agenthost.placement.carrying import (
    RaisedInWorker,
    context_of,
    error_of,
    info_of,
    message_of,
    plain_request,
    result_of,
    spec_of,
    told_call,
    told_context,
    told_error,
    told_info,
    told_message,
    told_result,
    told_spec,
)
from agenthost.threads import Message, Part, ThreadKey
from tests.agents_for_tests import SECRET, served


def sent(told: Any) -> Any:
    """As the other side reads it."""
    return json.loads(encode_json(told))


def test_a_run_crosses_whole() -> None:
    asked = Interrupt("which?", options=["a"], interrupt_id="q", state={"k": [1]}, metadata={"m": 1})
    ctx = RunContext(
        prompt="p",
        run_id="r",
        agent="agent",
        principal=Principal("ann", ("g",), ("*",), True, "key", 3),
        history=[Message.of("user", "before", run_id="r0", at=1.5), Message("assistant", tool_calls=[{"id": "c"}])],
        content=(Part(text="t"), Part(media_type="a/b", data=b"\xff"), Part(media_type="a/b", uri="u"), Part(json=[1])),
        input={"i": None},
        metadata={"m": "x"},
        thread=ThreadKey("ann", "agent", "t"),
        answers=(Answer(asked, "a", {"d": 1}, perform_dangling=False), Answer(Interrupt("when?"))),
        state={"s": 1},
        deadline=12.5,
    )
    back = context_of(sent(told_context(ctx)), "agent", ctx.call_agent)  # type: ignore[arg-type]  # none is None again
    assert back.messages[1].tool_calls == ({"id": "c"},)
    for name in ("prompt", "run_id", "principal", "content", "input", "metadata", "thread", "answers", "state",
                 "deadline"):  # fmt: skip
        assert getattr(back, name) == getattr(ctx, name), name
    assert (back.history[0], back.answer) == (ctx.history[0], ctx.answers[0])


def test_a_run_of_nothing_but_a_prompt_has_no_end_of_its_time() -> None:
    ctx = RunContext(prompt="p", run_id="r", agent="agent", principal=Principal("ann"))
    told = sent(told_context(ctx))
    assert told.keys() == {"op", "prompt", "run_id", "principal", "deadline"}
    assert context_of(told, "agent", ctx.call_agent) == ctx  # type: ignore[arg-type]  # as above


def test_messages_cross_whole() -> None:
    message = Message("tool", (Part(text="x"),), ({"id": 1},), "c", "n", "r", 1.0, "failed", {"error": "e"})
    assert message_of(sent(told_message(message))) == message
    assert message_of(sent(told_message(Message("user")))) == Message("user")


def test_a_result_and_what_an_agent_is_cross_whole() -> None:
    result = RunResult("r", "completed", "m", "complete", "t", {"o": 1}, {"input_tokens": 1}, None, 3, 1, 2.5)
    assert result_of(sent(told_result(result))) == result
    info = AgentInfo("T", "D", {"type": "object"}, None, True, True, 64)
    assert info_of(sent(told_info(info, LoadError))) == info


def test_what_an_agent_says_of_itself_and_json_cannot_carry_is_named() -> None:
    with pytest.raises(LoadError, match="input_schema holds a dict with a key that is not a str"):
        told_info(AgentInfo(input_schema={1: 2}), LoadError)  # type: ignore[dict-item]  # that is the point


def test_what_a_worker_needs_to_load_an_agent_crosses() -> None:
    spec = served(None, settings={"a": 1}, concurrency=7, load_timeout=3.0, timeout=9.0)
    told = sent(told_spec(spec, Path("/base"), ("acme",)))
    assert (told["use"], told["base_dir"], told["block"]) == ("tests:agent", "/base", ["acme"])
    assert told["max_memory"] is None
    back = spec_of(told, spec.source)
    assert (back.name, back.settings, back.concurrency, back.load_timeout) == ("agent", {"a": 1}, 7, 3.0)


def test_a_call_of_another_agent_is_plain_and_what_is_not_is_named() -> None:
    told = sent(told_call(4, "echo", RunRequest("p", input=(1, 2), metadata={"a": 1}, thread_id="t")))
    assert told == {"op": "call", "run": 4, "name": "echo",
                    "request": {"prompt": "p", "input": [1, 2], "metadata": {"a": 1}, "thread_id": "t"}}  # fmt: skip
    with pytest.raises(InvalidRequest, match=r"ctx\.call: input holds object"):
        plain_request(RunRequest("p", input=object()))
    with pytest.raises(InvalidRequest, match=r"ctx\.call: prompt is a str, not int"):
        plain_request(RunRequest(3))  # type: ignore[arg-type]  # that is the point


def caused(error: HostError, cause: BaseException) -> HostError:
    error.__cause__ = cause
    return error


ERRORS: list[HostError] = [
    AgentError("ValueError: x"),
    BadEvent("b", hint="h"),
    RunTimeout("t"),
    AgentUnavailable("u", retry_after=2.0),
    AgentCrashed("c"),
    NotFound("n"),
    Forbidden("f"),
    InvalidRequest("i"),
    AgentPaused(Interrupt("which?", interrupt_id="q")),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_crosses_with_its_class_and_its_words(error: HostError) -> None:
    if isinstance(error, RunError):
        error.run_id = "r"
    back = error_of(sent(told_error(error)))
    assert type(back) is type(error)
    assert (back.message, back.hint, back.retry_after) == (error.message, error.hint, error.retry_after)
    assert getattr(back, "run_id", None) == getattr(error, "run_id", None)
    assert getattr(back, "interrupt", None) == getattr(error, "interrupt", None)
    assert back.__cause__ is None


def test_a_load_error_crosses_with_whose_it_is_and_where_it_came_from() -> None:
    error = LoadError("m", hint="h", distribution="acme", version="1.0", traceback="trace")
    back = error_of(sent(told_error(error)))
    assert isinstance(back, LoadError)
    assert vars(back) == vars(error)


def test_what_an_agent_raised_crosses_as_the_text_of_its_traceback() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as raised:
        back = error_of(sent(told_error(caused(AgentError("ValueError: …"), raised))))
        assert isinstance(back.__cause__, RaisedInWorker)
        assert f"ValueError: {SECRET}" in str(back.__cause__)
        assert "in test_what_an_agent_raised" in str(back.__cause__)
        unknown = error_of(sent(told_error(raised)))
    assert (type(unknown), unknown.message) == (AgentError, "ValueError was raised")
    assert SECRET in str(unknown.__cause__)


def test_an_error_crosses_in_part_where_its_words_are_a_document() -> None:
    long = "x" * (1 << 20)
    back = error_of(sent(told_error(caused(AgentError(long, hint=long), ValueError(long)))))
    assert len(back.message) + len(back.hint or "") + len(str(back.__cause__)) < 4 * LONGEST + 2 * LONGEST_TRACE


def test_text_that_json_cannot_carry_is_spelled_out() -> None:
    assert error_of(sent(told_error(AgentError("a \ud800")))).message == "a \\ud800"
    assert error_of({"code": "of a later version", "message": "m"}).message == "m"
