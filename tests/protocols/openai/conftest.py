"""One host for all tests of OpenAI's API, on a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving import Hosted, actors, agents_toml, bearer, key
from tests.wire import Frame, Reply, ask

PLAYERS = ("approves", "fills", "listens", "shows", "late", "ponders", "Orders")

ROOT = bearer("root")


def players(*names: str, more: str = "") -> str:
    """The tables of `players.py`'s agents."""
    use = "tests.protocols.openai.players"
    return "".join(f'[agents.{name.lower()}]\nuse = "{use}:{name}"\n{more}\n' for name in names)


class Api:
    """The API of one host, as one caller; headers may be added."""

    def __init__(self, hosted: Hosted) -> None:
        self.hosted = hosted

    def post(self, path: str, body: Any = None, caller: str = "root", **headers: str) -> Reply:
        """Post to an address below `/v1`."""
        return ask(self.hosted.port, "POST", f"/v1{path}", bearer(caller) | headers, body)

    def get(self, path: str, caller: str = "root") -> Reply:
        """Get an address below `/v1`."""
        return ask(self.hosted.port, "GET", f"/v1{path}", bearer(caller))

    def chat(self, model: str, *messages: Any, caller: str = "root", **fields: Any) -> Any:
        """A completion's choice; messages that are text are the user's."""
        return self.completion(model, *messages, caller=caller, **fields)["choices"][0]

    def completion(self, model: str, *messages: Any, caller: str = "root", **fields: Any) -> Any:
        """A whole completion."""
        said = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
        reply = self.post("/chat/completions", {"model": model, "messages": said, **fields}, caller)
        assert reply.status == 200, reply.body
        return reply.json

    def chunks(self, model: str, *messages: Any, **fields: Any) -> list[Any]:
        """A streamed completion's chunks."""
        said = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
        reply = self.post("/chat/completions", {"model": model, "messages": said, "stream": True, **fields})
        assert reply.status == 200, reply.body
        *frames, done = reply.frames
        assert done.data == "[DONE]"
        return [frame.json for frame in frames]

    def respond(self, model: str | None = None, input: Any = "hello", caller: str = "root", **fields: Any) -> Any:
        """A response."""
        body = {"input": input, **({"model": model} if model else {}), **fields}
        reply = self.post("/responses", body, caller)
        assert reply.status == 200, reply.body
        return reply.json

    def events(self, model: str | None = None, input: Any = "hello", **fields: Any) -> list[Any]:
        """A streamed response's events, whose numbers have no gap."""
        body = {"input": input, "stream": True, **({"model": model} if model else {}), **fields}
        reply = self.post("/responses", body)
        assert reply.status == 200, reply.body
        return numbered(reply.frames, 0)


def numbered(frames: list[Frame], first: int) -> list[Any]:
    """The events of a stream, numbered from `first` on; each frame is called what its event is."""
    *told, done = frames
    assert done.data == "[DONE]"
    assert [frame.json["sequence_number"] for frame in told] == list(range(first, first + len(told)))
    assert all(frame.event == frame.json["type"] for frame in told)
    return [frame.json for frame in told]


def text_of(response: Any) -> str:
    """What a response says, in all its messages."""
    messages = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for message in messages for part in message["content"])


def refusal(reply: Reply, status: int) -> Any:
    """The error of a refused request, which has OpenAI's shape and no other."""
    assert reply.status == status, reply.body
    assert reply["content-type"] == "application/json"
    assert list(json.loads(reply.body)) == ["error"]
    error = reply.json["error"]
    assert list(error) == ["message", "type", "param", "code"]
    return error


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("openai")
    text = key("root") + key("bob", agents='["echo"]') + key("carol")
    text += "[agents.echo]\n[agents.calculator]\n[agents.quiet]\n"
    text += 'use = "tests.actors:say"\nprotocols = ["native"]\n'
    text += actors("everything", "fail", "hold", "asks", "Keeper", "gated") + players(*PLAYERS)
    text += '[agents.gives-up]\nuse = "tests.actors:gives_up"\n'
    text += '[agents.broken]\nuse = "no_such_module:agent"\n'
    with Hosted(agents_toml(folder, text, store=f"sqlite:///{folder}/store.db")) as hosted:
        yield Api(hosted)
