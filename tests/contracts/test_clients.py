"""What both clients do, over real sockets: against servers that play a script, and against a real host."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agenthost.client import CallFailed, HostUnreachable, RunReply
from tests import actors
from tests.client.both import Connect, both
from tests.client.played import chunks, log
from tests.client.scripted import Act, Scripted, drops, hangs, lasting, reply, run, says, stream
from tests.serving import Hosted, agents_toml, key, secret

NAMES = ("say", "pieces", "hold", "gated", "everything", "mirror", "fail", "Structured")
ASKS = """
from agenthost import Interrupt

async def asks(ctx):
    if ctx.answers:
        yield " and ".join(str(answer.response) for answer in ctx.answers)
        return
    yield "Before I go on: "
    for question in ctx.prompt.split():
        yield Interrupt(question, options=["yes", "no"])
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    text = key("ops", more="admin = true") + key("some", agents='["say"]')
    text += "".join(f'[agents.{name.lower()}]\nuse = "tests.actors:{name}"\n' for name in NAMES)
    text += '[agents.asks]\nuse = "asks.py:asks"\n[agents.broken]\nuse = "no.py:agent"\n'
    config = agents_toml(tmp_path_factory.mktemp("host"), text)
    (config.parent / "asks.py").write_text(ASKS)
    with Hosted(config) as served:
        yield served


@pytest.fixture
def client(host: Hosted, connect: Connect) -> Iterator[Any]:
    with connect(f"http://127.0.0.1:{host.port}/", secret("ops")) as connected:
        yield connected


# ── a real host ───────────────────────────────────────────────────────────────────────────────────────────────────────


@both
def test_invoke_returns_the_whole_reply(client: Any):
    reply = client.invoke("say", "hello")
    assert isinstance(reply, RunReply)
    assert (reply.message, reply.success, reply.status, reply.stop_reason) == ("hello", True, "completed", "complete")
    assert client.run("say", reply.run_id).message == "hello"


@both
def test_thread_input_and_metadata_arrive(client: Any):
    client.delete_thread("mirror", "a/b c")
    client.invoke("mirror", "first", thread_id="a/b c")
    reply = client.invoke("mirror", "second", thread_id="a/b c", input={"n": 1}, metadata={"from": "tests"})
    assert reply.thread_id == "a/b c"
    assert reply.output["input"] == {"n": 1}
    assert reply.output["metadata"] == {"from": "tests"}
    assert [text for role, text in reply.output["messages"] if role == "user"] == ["first", "second"]


@both
def test_input_alone_is_enough(client: Any):
    assert client.invoke("structured", input={"item": "tea"}).output == {"item": "tea"}


@both
def test_stream_yields_every_event_as_it_is_on_the_wire(client: Any):
    events = list(client.stream("everything", "q"))
    assert [event["type"] for event in events][:3] == ["think", "tool_start", "tool_progress"]
    assert events[-1].type == "done"
    assert events[-1]["message"] == "the end"
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert list(client.events("everything", events[0].run_id)) == events
    assert list(client.events("everything", events[0].run_id, after=4)) == events[4:]


@both
def test_text_with_any_line_end_comes_back_the_same(client: Any):
    pieces = [
        "a\nb",
        "c\r\nd\re",
        "f\u2028g\u2029h\x85i",
        "\x0b\x0c\x1c\x1d\x1e",
        "data: x\n\ndata: y",
        "日本 \U0001f600",
    ]
    events = client.stream("pieces", "", input=pieces)
    assert [event["content"] for event in events if event["type"] == "model_chunk"] == pieces


@both
def test_a_stream_that_is_closed_cancels_its_run(client: Any, request: pytest.FixtureRequest):
    prompt = request.node.name
    events = client.stream("hold", prompt)
    assert next(events)["content"] == "holding"
    actors.wait_for(actors.HOLDING, prompt)
    events.close()
    actors.wait_for(actors.CANCELLED, prompt)


@both
def test_a_run_that_is_started_goes_on_without_its_readers(client: Any, host: Hosted, request: pytest.FixtureRequest):
    prompt = request.node.name
    started = client.start("gated", prompt)
    assert started.status in {"queued", "running"}
    events = client.events("gated", started.run_id)
    assert next(events)["content"] == "begun "
    events.close()
    actors.wait_for(actors.HOLDING, prompt)
    assert client.run("gated", started.run_id).status == "running"
    host.loop.call_soon_threadsafe(actors.GATES[prompt].set)
    ended = client.wait("gated", started.run_id)
    assert (ended.status, ended.message) == ("completed", "begun ended")
    assert client.wait("gated", started.run_id) == client.run("gated", started.run_id)


@both
def test_a_run_is_cancelled_and_listed_as_such(client: Any, request: pytest.FixtureRequest):
    prompt = request.node.name
    run_id = client.start("hold", prompt, thread_id=prompt).run_id
    actors.wait_for(actors.HOLDING, prompt)
    assert client.cancel("hold", run_id).run_id == run_id
    ended = client.wait("hold", run_id)
    assert (ended.status, ended.error.code) == ("cancelled", "cancelled")
    listed = list(client.runs("hold", thread_id=prompt, status="cancelled"))
    assert [one.run_id for one in listed] == [run_id]
    assert list(client.runs("hold", thread_id=prompt, status="completed")) == []


@both
def test_runs_and_threads_are_listed_page_after_page(client: Any, connect: Connect):
    agent = "say"
    threads = {f"{connect.__name__} {number}" for number in range(60)}
    ids = [client.invoke(agent, "x", thread_id=thread).run_id for thread in sorted(threads)]
    assert [one.run_id for one in client.runs(agent)][:60] == ids[::-1]
    assert threads <= {one.thread_id for one in client.threads(agent)}


@both
def test_a_thread_is_read_whole_and_deleted(client: Any, connect: Connect):
    thread_id = f"kept/{connect.__name__}"
    client.invoke("say", "hello", thread_id=thread_id)
    thread = client.thread("say", thread_id)
    assert [(one["role"], one["content"]) for one in thread.messages] == [("user", "hello"), ("assistant", "hello")]
    assert client.delete_thread("say", thread_id) is True
    assert client.delete_thread("say", thread_id) is False
    with pytest.raises(CallFailed, match=r"^no (such )?thread") as failed:
        client.thread("say", thread_id)
    assert failed.value.status == 404


@both
def test_a_question_is_answered_by_another_run(client: Any, connect: Connect):
    thread_id = f"one/{connect.__name__}"
    paused = client.invoke("asks", "Really?", thread_id=thread_id)
    assert (paused.status, paused.success) == ("paused", False)
    (asked,) = paused.interrupts
    assert (asked.question, asked.options) == ("Really?", ["yes", "no"])
    assert [one.run_id for one in client.runs("asks", thread_id=thread_id, status="paused")] == [paused.run_id]
    (waiting,) = client.run("asks", paused.run_id).open_interrupts
    assert waiting.interrupt_id == asked.interrupt_id
    with pytest.raises(CallFailed) as refused:
        list(client.resume("asks", thread_id, response="perhaps"))
    assert refused.value.status == 422
    events = list(client.resume("asks", thread_id, response="yes", interrupt_id=asked.interrupt_id))
    assert events[-1]["message"] == "yes"
    resumed = client.run("asks", events[0].run_id)
    assert resumed.resumes == paused.run_id
    with pytest.raises(CallFailed) as again:
        list(client.resume("asks", thread_id, response="no", interrupt_id=asked.interrupt_id))
    assert (again.value.status, again.value.code) == (409, "already_answered")


@both
def test_several_questions_are_answered_together(client: Any, connect: Connect):
    replied = client.invoke("asks", "First? Second?")
    assert [one.question for one in replied.interrupts] == ["First?", "Second?"]
    events = list(client.stream("asks", "First? Second?"))
    asked = [event for event in events if event.type == "interrupt"]
    assert [one["question"] for one in asked] == ["First?", "Second?"]
    answers = [
        {"interrupt_id": one["interrupt_id"], "response": said} for one, said in zip(asked, ("yes", "no"), strict=True)
    ]
    resumed = list(client.resume("asks", asked[0].run_id, answers=answers))
    assert resumed[-1]["message"] == "yes and no"


@both
def test_a_run_that_fails_raises_with_what_finds_it_in_the_log(client: Any):
    with pytest.raises(CallFailed) as failed:
        client.invoke("fail", "now")
    assert (failed.value.code, failed.value.status) == ("agent_error", 500)
    assert failed.value.correlation_id
    assert client.wait("fail", failed.value.run_id).error.code == "agent_error"
    assert actors.SECRET not in str(failed.value)


@both
def test_a_stream_that_fails_raises_after_what_came_before(client: Any):
    seen: list[Any] = []
    with pytest.raises(CallFailed) as failed:
        lasting(client.stream("fail", "later"), seen)
    assert [event["content"] for event in seen] == ["so far so good"]
    assert (failed.value.code, failed.value.status) == ("agent_error", 200)
    assert failed.value.correlation_id
    assert failed.value.run_id == seen[0].run_id


@both
def test_refusals_are_the_hosts_own_words(client: Any, connect: Connect):
    with pytest.raises(CallFailed, match="no agent by that name") as failed:
        client.invoke("nope", "x")
    assert (failed.value.code, failed.value.status) == ("not_found", 404)
    with connect(client.url, secret("some")) as some, pytest.raises(CallFailed, match="'some' may not use") as failed:
        list(some.stream("hold", "x"))
    assert failed.value.code == "forbidden"
    with connect(client.url) as nobody, pytest.raises(CallFailed, match="Missing bearer token") as failed:
        nobody.agents()
    assert (failed.value.code, failed.value.status) == ("unauthorized", 401)
    with pytest.raises(CallFailed) as failed:
        client.run("say", "no-such-run")
    assert failed.value.status in {404, 410}


@both
def test_agents_are_those_that_the_caller_may_use(client: Any, connect: Connect):
    cards = {card.name: card for card in client.agents()}
    assert {"say", "broken"} <= set(cards)
    assert cards["structured"].input_schema["required"] == ["item"]
    assert cards["broken"].state == "failed"
    with connect(client.url, secret("some")) as some:
        assert [card.name for card in some.agents()] == ["say"]


@both
def test_a_plan_is_what_a_reload_would_change_and_for_operators(client: Any, connect: Connect):
    plan = client.plan()
    assert (plan["added"], plan["removed"], plan["changed"]) == ([], [], {})
    assert "say" in plan["unchanged"]
    with connect(client.url, secret("some")) as some, pytest.raises(CallFailed, match="may not operate this host"):
        some.plan()


@both
def test_health_is_the_hosts_or_one_agents(client: Any, connect: Connect):
    assert client.health()["agents"]["say"]["status"] == "ok"
    assert client.health("say")["status"] == "ok"
    assert client.health("broken")["state"] == "failed"
    with connect(client.url) as nobody:
        assert nobody.health("broken") == {"status": "failed"}
        with pytest.raises(CallFailed, match="Missing bearer token"):
            nobody.health()
    with connect(client.url, secret("some")) as some, pytest.raises(CallFailed, match="may not operate this host"):
        some.health()


@both
def test_a_name_cannot_lead_to_another_path(client: Any):
    with pytest.raises(CallFailed) as failed:
        client.invoke("../health", "x")
    assert failed.value.status in {403, 404, 405}


@both
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    client: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with connect(client.url, secret("ops")) as again:
        assert again.invoke("say", "hi").message == "hi"


# ── no host ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@both
def test_a_key_that_cannot_be_sent_is_refused(connect: Connect):
    with pytest.raises(ValueError, match="an API key is made of visible ASCII characters"):
        connect(api_key="schlüssel")


@both
def test_where_nothing_answers_it_says_so_at_once(connect: Connect):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with connect(url) as client:
            for ask in (_invoke, _events):
                with pytest.raises(HostUnreachable) as failed:
                    ask(client)
    assert failed.value.detail == f"nothing answers at {url}"
    assert (failed.value.status, failed.value.code) == (None, None)


@both
@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://[::1", ""])
def test_an_address_that_is_none_is_said_to_be_so(url: str, connect: Connect):
    with connect(url) as client, pytest.raises(HostUnreachable) as failed:
        client.agents()
    assert failed.value.detail == f"{url!r} is not an address such as http://127.0.0.1:8000"


# ── servers that play a script ────────────────────────────────────────────────────────────────────────────────────────


def _invoke(client: Any) -> Any:
    return client.invoke("a", "x")


def _events(client: Any) -> Any:
    return list(client.stream("a", "x"))


@both
@pytest.mark.parametrize(
    ("act", "ask", "said", "code"),
    [
        (says(reply("502 Bad Gateway", b"<html>", "text/html")), _invoke, " answered 502 without saying why", None),
        (says(reply("200 OK", b"<html>", "text/html")), _invoke, " does not answer like a host of agents", None),
        (says(reply("200 OK", b"[1]")), _invoke, " does not answer like a host of agents", None),
        (says(reply("503 Unavailable", b"{}")), _events, " answered 503 without saying why", None),
        (says(b""), _invoke, " broke: RemoteProtocolError", "connection_lost"),
        (drops(), _invoke, " broke: ReadError", "connection_lost"),
        (says(reply("200 OK", b"{}")[:-1]), _invoke, " broke: RemoteProtocolError", "connection_lost"),
        (says(stream(log({"type": "think"})[0])), _events, " broke: the stream stopped before the run ended",
         "connection_lost"),
        (says(stream(b"data: [DONE]\n\n")), _events, "the stream was ended before the run was", "connection_lost"),
        (says(stream(b'data: {"type":"done"}\n\n')), _events, " does not answer like a host of agents", None),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_a_failure(
    act: Act, ask: Callable[[Any], Any], said: str, code: str | None, connect: Connect
):
    with Scripted(act) as server, connect(server.url, reconnect=0) as client, pytest.raises(CallFailed) as failed:
        ask(client)
    assert failed.value.detail.endswith(said)
    assert failed.value.code == code


@both
def test_a_stream_may_come_with_other_line_ends(connect: Connect):
    frames = [frame.replace(b"\n", b"\r\n") for frame in log(*chunks(2))]
    with Scripted(says(stream(b": hello\r\n\r\n", *frames))) as server, connect(server.url) as client:
        assert _events(client) == chunks(2)


@both
def test_a_dropped_stream_goes_on_where_it_stopped(connect: Connect):
    frames = log(*chunks(3))
    acts = [
        drops(),
        drops(stream(frames[0], frames[1][:9])),
        says(stream(*frames[1:2])),
        says(reply("503 Unavailable", b'{"detail": "loading"}', retry_after="0")),
        says(stream(*frames[2:])),
    ]
    with Scripted(*acts) as server, connect(server.url) as client:
        assert _events(client) == chunks(3)
    assert server.asked == ["POST /agents/a/stream"] * 2 + ["GET /agents/a/runs/r1/events"] * 3
    keys = [request.lower().partition("idempotency-key: ")[2][:32] for request in server.requests]
    assert len(keys[0]) == 32
    assert keys == [keys[0], keys[0], "", "", ""]
    after = [request.lower().partition("last-event-id: ")[2][:1] for request in server.requests]
    assert after == ["", "", "1", "2", "2"]


@both
def test_an_invoke_whose_answer_was_lost_is_asked_for_again(connect: Connect):
    body = {"run_id": "r1", "status": "completed", "message": "hi", "success": True, "stop_reason": "complete"}
    with (
        Scripted(drops(), says(reply("200 OK", json.dumps(body).encode()))) as server,
        connect(server.url) as client,
    ):
        assert _invoke(client).message == "hi"
    assert server.requests[0] == server.requests[1]


@both
def test_a_host_that_does_not_come_back_is_given_up(connect: Connect):
    seen: list[Any] = []
    with (
        Scripted(drops(stream(log(*chunks(3))[0]))) as server,
        connect(server.url, reconnect=0.5) as client,
        pytest.raises(CallFailed) as failed,
    ):
        lasting(client.stream("a", "x"), seen)
    assert failed.value.detail == (
        f"the connection to {server.url} broke: ConnectError, and 0.5 seconds of trying have not mended it"
    )
    assert (failed.value.code, failed.value.run_id) == ("connection_lost", "r1")
    assert seen == chunks(3)[:1]


@both
def test_a_caller_that_leaves_a_stream_cancels_the_run_with_its_last_words(connect: Connect):
    with Scripted(hangs(stream(log(*chunks(3))[0])), says(run("running"))) as server, connect(server.url) as client:
        events = client.stream("a", "x")
        next(events)
        events.close()
    assert server.asked == ["POST /agents/a/stream", "POST /agents/a/runs/r1/cancel"]


@both
def test_a_reader_that_leaves_cancels_nothing(connect: Connect):
    with Scripted(hangs(stream(log(*chunks(3))[0]))) as server, connect(server.url) as client:
        events = client.events("a", "r1")
        next(events)
        events.close()
    assert server.asked == ["GET /agents/a/runs/r1/events"]
