"""A conversation on the wire: Locus's keys, and tool executions read out of the messages."""

from __future__ import annotations

from agenthost.protocols.threads import read_own, tool_executions, wire_message, wire_thread
from agenthost.store.records import RunSummary, StoredThread
from agenthost.threads import Message, Part, ThreadKey

KEY = ThreadKey("root", "say", "t")


def test_a_message_has_locus_keys_always_and_ours_where_they_mean_something() -> None:
    locus = {"role", "content", "tool_calls", "tool_call_id", "name", "metadata"}
    plain = wire_message(Message.of("user", "hello"))
    assert set(plain) == locus
    assert plain["content"] == "hello"
    marked = wire_message(Message.of("user", "hello", run_id="r", at=1.5, status="failed"))
    assert set(marked) - locus == {"run_id", "at", "status"}


def test_a_message_that_is_more_than_text_has_its_parts() -> None:
    message = Message("user", (Part(text="see "), Part(media_type="text/plain", data=b"hi"), Part(json={"n": 1})))
    wire = wire_message(message)
    assert wire["content"] == "see "
    assert wire["parts"] == [
        {"type": "text", "text": "see "},
        {"type": "file", "media_type": "text/plain", "data": "aGk="},
        {"type": "data", "data": {"n": 1}},
    ]


def test_an_assistant_that_only_called_tools_has_no_content() -> None:
    wire = wire_message(Message("assistant", tool_calls=({"id": "1", "name": "search", "arguments": {}},)))
    assert wire["content"] is None
    assert wire["tool_calls"] == [{"id": "1", "name": "search", "arguments": {}}]


def call(identifier: str, run_id: str) -> Message:
    return Message(
        "assistant", tool_calls=({"id": identifier, "name": "search", "arguments": {"q": 1}},), run_id=run_id
    )


def test_tool_executions_pair_calls_with_answers_run_by_run() -> None:
    messages = [
        call("1", "a"),
        Message.of("tool", "found", tool_call_id="1", name="search", run_id="a"),
        call("1", "b"),
        Message.of("tool", "boom", tool_call_id="1", name="search", run_id="b", metadata={"error": "boom"}),
        call("2", "b"),
        Message.of("tool", "stray", tool_call_id="9", name="odd", run_id="b"),
    ]
    assert tool_executions(messages) == [
        {"tool_name": "search", "tool_call_id": "1", "arguments": {"q": 1}, "result": "found", "error": None},
        {"tool_name": "search", "tool_call_id": "1", "arguments": {"q": 1}, "result": None, "error": "boom"},
        {"tool_name": "search", "tool_call_id": "2", "arguments": {"q": 1}, "result": None, "error": None},
        {"tool_name": "odd", "tool_call_id": "9", "arguments": None, "result": "stray", "error": None},
    ]


def test_a_call_that_a_pause_has_held_is_one_execution() -> None:
    paused, answer = call("1", "a"), Message.of("tool", "sent", tool_call_id="1", name="search", run_id="b")
    sent = {"tool_name": "search", "tool_call_id": "1", "arguments": {"q": 1}, "result": "sent", "error": None}
    assert tool_executions([paused, answer]) == [sent]
    assert tool_executions([paused, call("1", "b"), answer]) == [sent], "the run that goes on may begin it again"
    unrelated = [paused, Message.of("user", "never mind"), call("1", "b"), answer]
    assert tool_executions(unrelated) == [{**sent, "result": None}, sent], "a new turn may use an id again"


def test_what_an_agent_shows_of_its_own_thread_takes_the_place_of_the_hosts_reading() -> None:
    said = [Message.of("user", "q"), Message.of("assistant", "a")]
    messages, own = read_own({"messages": said, "paused": True, "iteration": 7, "metadata": {"from": "agent"}})
    wire = wire_thread(KEY, messages or (), None, own)
    assert (wire["iteration"], wire["metadata"], wire["tool_executions"]) == (7, {"from": "agent"}, [])
    assert "paused" not in wire
    assert read_own(said) == (said, {})
    assert read_own(None) == (None, {})


def test_a_thread_counts_the_assistants_messages_and_lists_its_runs() -> None:
    messages = [Message.of("user", "q"), call("1", "a"), Message.of("assistant", "answer")]
    run = RunSummary(
        run_id="r1",
        agent="say",
        principal="root",
        thread_id="t",
        status="completed",
        stop_reason="complete",
        code=None,
        resumes=None,
        resumed_by=None,
        parent=None,
        created=1.0,
        ended=2.0,
    )
    stored = StoredThread(KEY, messages, [run], 1.0, 2.0, {"kept": True})
    wire = wire_thread(KEY, messages, stored)
    assert list(wire) == ["thread_id", "iteration", "messages", "tool_executions", "runs", "metadata"]
    assert wire["iteration"] == 2
    assert wire["metadata"] == {"kept": True}
    assert wire["runs"] == [
        {"run_id": "r1", "status": "completed", "stop_reason": "complete", "created": 1.0, "ended": 2.0}
    ]


def test_a_thread_that_only_its_agent_keeps_has_no_runs() -> None:
    wire = wire_thread(KEY, [Message.of("user", "q")], None)
    assert (wire["runs"], wire["metadata"]) == ([], {})
