"""Which agent is asked, with which metadata, on which thread."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agenthost.auth import Principal
from agenthost.errors import InvalidRequest
from agenthost.protocols.openai.chat_wire import ChatBody
from agenthost.protocols.openai.starting import new_thread, own_metadata
from tests.protocols.openai.conftest import Api, refusal


def body(**fields: Any) -> ChatBody:
    return ChatBody.model_validate({"model": "a", "messages": [{"role": "user", "content": "x"}], **fields})


def test_what_else_was_asked_stands_under_the_protocols_name_beside_the_clients_own() -> None:
    told = body(metadata={"a": "b"}, seed=1, user=None).told(more=2, nothing=None)
    assert told == {"a": "b", "openai": {"seed": 1, "more": 2}}
    assert own_metadata(told | {"number": 3}) == {"a": "b"}
    assert body().told() == {"openai": {}}


def test_what_json_cannot_carry_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="body holds a str with a lone surrogate"):
        body(stop="\ud800").told()


def test_a_thread_that_begins_has_a_name_of_its_own_or_that_of_its_idempotency_key() -> None:
    def name(key: bytes | None, caller: str = "ann", agent: str = "echo") -> str:
        headers = {} if key is None else {b"idempotency-key": key}
        exchange: Any = SimpleNamespace(headers=headers, caller=Principal(caller))
        entry: Any = SimpleNamespace(name=agent)
        return new_thread(exchange, entry)

    assert name(None) != name(None)
    assert name(b"k") == name(b"k")
    assert len({name(b"k"), name(b"l"), name(b"k", "bob"), name(b"k", "ann", "calc")}) == 4


def test_a_model_that_is_not_there_and_one_that_may_not_be_used(api: Api) -> None:
    def asked(model: str, caller: str) -> Any:
        return api.post("/chat/completions", {"model": model, "messages": [{"role": "user", "content": "x"}]}, caller)

    error = refusal(asked("nobody", "root"), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert error["message"] == "there is no model (agent) of that name here that you may use"
    assert refusal(asked("quiet", "root"), 404)["code"] == "model_not_found"
    assert refusal(asked("calculator", "bob"), 403)["code"] == "forbidden"
    assert refusal(asked("broken", "root"), 503)["code"] == "agent_not_ready"
