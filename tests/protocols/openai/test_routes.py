"""Models under `/v1`, and who may see which."""

from __future__ import annotations

import pytest

from tests.protocols.openai.conftest import Api, refusal
from tests.wire import ask


def test_models_are_the_agents_that_the_caller_may_use_that_serve_and_that_speak_it(api: Api) -> None:
    everything = api.get("/models").json
    assert everything["object"] == "list"
    names = [model["id"] for model in everything["data"]]
    assert {"echo", "calculator"} < set(names)
    assert {"quiet", "broken"}.isdisjoint(names)
    (mine,) = api.get("/models", "bob").json["data"]
    assert (mine["id"], mine["object"], mine["owned_by"], type(mine["created"])) == ("echo", "model", "agenthost", int)


def test_a_model_is_told_by_its_name(api: Api) -> None:
    assert api.get("/models/echo").json["id"] == "echo"
    assert refusal(api.get("/models/quiet"), 404)["code"] == "model_not_found"
    assert refusal(api.get("/models/echo2", "bob"), 403)["type"] == "permission_error"
    assert refusal(api.get("/models/broken"), 503)["type"] == "server_error"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code"),
    [
        ("GET", "/v1/models", {"authorization": "Bearer wrong-key-0123456789"}, None, 401, "invalid_api_key"),
        ("GET", "/v1/models", {"authorization": ""}, None, 401, "invalid_api_key"),
        ("GET", "/v1/nowhere", {}, None, 404, "not_found"),
        ("PUT", "/v1/models", {}, None, 405, "method_not_allowed"),
        ("POST", "/v1/responses", {"content-type": "text/plain"}, b"x", 415, "unsupported_media_type"),
        ("POST", "/v1/responses", {"content-length": "99999999"}, b"", 413, "body_too_large"),
        ("POST", "/v1/responses", {"content-type": "application/json"}, b"{", 400, "bad_request"),
        ("POST", "/v1/chat/completions", {"content-type": "application/json"}, b"{}", 400, "invalid_request"),
    ],
)  # fmt: skip
def test_every_refusal_under_v1_has_openais_shape(
    api: Api, method: str, path: str, headers: dict[str, str], body: bytes | None, status: int, code: str
) -> None:
    sent = {"authorization": "Bearer root-0123456789abcdef", **headers}
    assert refusal(ask(api.hosted.port, method, path, sent, body), status)["code"] == code


def test_elsewhere_a_refusal_is_a_problem_as_before(api: Api) -> None:
    reply = ask(api.hosted.port, "GET", "/v12")
    assert (reply.status, reply["content-type"]) == (401, "application/problem+json")


def test_cards_tell_where_an_agent_speaks_it(api: Api) -> None:
    listed = ask(api.hosted.port, "GET", "/agents", {"authorization": "Bearer root-0123456789abcdef"}).json["agents"]
    cards = {card["name"]: card["addresses"] for card in listed}
    assert cards["echo"]["openai"] == "http://127.0.0.1/v1"
    assert list(cards["quiet"]) == ["native"]
