"""The client, against real hosts and against servers that are none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from agenthost.client import CallFailed, Client, HostUnreachable
from tests import actors
from tests.serving import Hosted, agents_toml, key, secret

NAMES = ("say", "pieces", "hold", "everything", "mirror", "fail", "gives_up", "ask", "Structured")


def _agent(name: str) -> str:
    return f'[agents.{name.lower().replace("_", "-")}]\nuse = "tests.actors:{name}"\n'


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    names = [name for name in NAMES if hasattr(actors, name)]
    text = key("ops", more="admin = true") + key("some", agents='["say"]') + "".join(map(_agent, names))
    with Hosted(
        agents_toml(tmp_path_factory.mktemp("host"), text + '[agents.broken]\nuse = "no.py:agent"\n')
    ) as served:
        yield served


@pytest.fixture
def client(host: Hosted) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{host.port}", secret("ops")) as connected:
        yield connected


def test_invoke_returns_the_whole_reply(client: Client):
    reply = client.invoke("say", "hello")
    assert (reply["message"], reply["success"], reply["status"]) == ("hello", True, "completed")
    assert reply["run_id"]


def test_thread_input_and_metadata_arrive(client: Client):
    client.invoke("mirror", "first", thread_id="a/b c")
    reply = client.invoke("mirror", "second", thread_id="a/b c", input={"n": 1}, metadata={"from": "tests"})
    assert reply["thread_id"] == "a/b c"
    assert reply["output"]["input"] == {"n": 1}
    assert reply["output"]["metadata"] == {"from": "tests"}
    assert [text for role, text in reply["output"]["messages"] if role == "user"] == ["first", "second"]


def test_input_alone_is_enough(client: Client):
    assert client.invoke("structured", input={"item": "tea"})["output"] == {"item": "tea"}


def test_stream_yields_every_event_as_it_is_on_the_wire(client: Client):
    events = list(client.stream("everything", "q"))
    assert [event["type"] for event in events][:3] == ["think", "tool_start", "tool_progress"]
    assert events[-1]["type"] == "done"
    assert events[-1]["message"] == "the end"


def test_text_with_any_line_end_comes_back_the_same(client: Client):
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


def test_a_stream_that_is_closed_cancels_its_run(client: Client):
    events = client.stream("hold", "closed-by-client")
    assert next(events)["content"] == "holding"
    actors.wait_for(actors.HOLDING, "closed-by-client")
    events.close()
    actors.wait_for(actors.CANCELLED, "closed-by-client")


def test_a_run_that_fails_raises_with_what_finds_it_in_the_log(client: Client):
    with pytest.raises(CallFailed) as failed:
        client.invoke("fail", "now")
    assert (failed.value.code, failed.value.status) == ("agent_error", 500)
    assert failed.value.correlation_id
    assert failed.value.run_id
    assert actors.SECRET not in str(failed.value)


def test_a_stream_that_fails_raises_after_what_came_before(client: Client):
    seen = []
    with pytest.raises(CallFailed) as failed:
        seen.extend(client.stream("fail", "later"))
    assert [event["content"] for event in seen] == ["so far so good"]
    assert (failed.value.code, failed.value.status) == ("agent_error", 200)
    assert failed.value.correlation_id
    assert failed.value.run_id


def test_refusals_are_the_hosts_own_words(client: Client, host: Hosted):
    with pytest.raises(CallFailed, match="no agent by that name") as failed:
        client.invoke("nope", "x")
    assert (failed.value.code, failed.value.status) == ("not_found", 404)
    with closing(_client(host, "some")) as some, pytest.raises(CallFailed, match="'some' may not use") as failed:
        list(some.stream("hold", "x"))
    assert failed.value.code == "forbidden"
    with pytest.raises(CallFailed, match="Missing bearer token") as failed, Client(client.url) as nobody:
        nobody.agents()
    assert (failed.value.code, failed.value.status) == ("unauthorized", 401)


def _client(host: Hosted, name: str) -> Client:
    return Client(f"http://127.0.0.1:{host.port}/", secret(name))


def test_agents_are_those_that_the_caller_may_use(client: Client, host: Hosted):
    assert {"say", "broken"} <= {agent["name"] for agent in client.agents()}
    with closing(_client(host, "some")) as some:
        assert [agent["name"] for agent in some.agents()] == ["say"]


def test_health_is_the_hosts_or_one_agents(client: Client, host: Hosted):
    assert client.health()["agents"]["say"]["status"] == "ok"
    assert client.health("say")["status"] == "ok"
    assert client.health("broken")["state"] == "failed"
    with Client(client.url) as nobody:
        assert nobody.health("broken") == {"status": "failed"}
        with pytest.raises(CallFailed, match="Missing bearer token"):
            nobody.health()
    with closing(_client(host, "some")) as some, pytest.raises(CallFailed, match="may not operate this host"):
        some.health()


def test_a_name_cannot_lead_to_another_path(client: Client):
    with pytest.raises(CallFailed) as failed:
        client.invoke("../health", "x")
    assert failed.value.status in {403, 404, 405}


@pytest.mark.parametrize("api_key", ["", " ", "schlüssel-0123456789", "two\r\nx: lines-0123456789"])
def test_a_key_that_cannot_be_sent_is_refused_without_repeating_it(api_key: str):
    with pytest.raises(ValueError) as refused:
        Client(api_key=api_key)
    assert str(refused.value) == "an API key is made of visible ASCII characters"


def test_where_nothing_answers_it_says_so():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url) as client, pytest.raises(HostUnreachable) as failed:
            client.invoke("say", "x")
    assert failed.value.detail == f"nothing answers at {url}"
    assert (failed.value.status, failed.value.code) == (None, None)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://[::1", ""])
def test_an_address_that_is_none_is_said_to_be_so(url: str):
    with Client(url) as client, pytest.raises(HostUnreachable) as failed:
        client.agents()
    assert failed.value.detail == f"{url!r} is not an address such as http://127.0.0.1:8000"


@contextmanager
def _answering(reply: bytes) -> Iterator[str]:
    """A server that says this to whoever connects, and hangs up."""

    def serve() -> None:
        connection, _address = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(reply)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):  # a close with something unread would take back what was sent
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


def _reply(status: str, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


def _stream(*events: dict[str, Any], end: bytes = b"") -> bytes:
    body = b"".join(b"id: 1\r\ndata: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: hello\n\n" + body + end


def _invoke(client: Client) -> Any:
    return client.invoke("say", "x")


def _events(client: Client) -> Any:
    return list(client.stream("say", "x"))


@pytest.mark.parametrize(
    ("reply", "ask", "said", "code"),
    [
        (_reply("502 Bad Gateway", b"<html>", "text/html"), _invoke, " answered 502 without saying why", None),
        (_reply("200 OK", b"<html>", "text/html"), _invoke, " does not answer like a host of agents", None),
        (_reply("200 OK", b"[1]"), _invoke, " does not answer like a host of agents", None),
        (_reply("503 Unavailable", b"{}"), _events, " answered 503 without saying why", None),
        (b"", _invoke, " broke: RemoteProtocolError", "connection_lost"),
        (_reply("200 OK", b"{}")[:-1], _invoke, " broke: RemoteProtocolError", "connection_lost"),
        (_stream({"type": "think"}), _events, "the stream stopped before the run ended", "connection_lost"),
        (_stream(end=b"data: [DONE]\n\n"), _events, "the stream stopped before the run ended", "connection_lost"),
    ],
)
def test_what_is_no_answer_is_a_failure(reply: bytes, ask: Callable[[Client], Any], said: str, code: str | None):
    with _answering(reply) as url, Client(url) as client, pytest.raises(CallFailed) as failed:
        ask(client)
    assert failed.value.detail.endswith(said)
    assert failed.value.code == code


def test_a_stream_may_come_with_other_line_ends_and_in_any_pieces():
    done = {"type": "done", "message": "ü", "reason": "complete"}
    with _answering(_stream({"type": "model_chunk", "content": "ü"}, done)) as url, Client(url) as client:
        assert list(client.stream("say", "x")) == [{"type": "model_chunk", "content": "ü"}, done]


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Client(client.url, secret("ops")) as again:
        assert again.invoke("say", "hi")["message"] == "hi"
