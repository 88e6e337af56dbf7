"""The routes under `/v1`: models, chat completions, responses."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from agenthost.ended_run import EndedRun
from agenthost.entries import AgentEntry
from agenthost.protocols.bodies import StrictRoute
from agenthost.protocols.exchange import exchange_of
from agenthost.protocols.openai import responses
from agenthost.protocols.openai.chat import Completion
from agenthost.protocols.openai.chat_wire import ChatBody
from agenthost.protocols.openai.starting import PROTOCOL, begin, chosen
from agenthost.protocols.streaming_replies import Answer, fold_run, json_reply, stream_run
from agenthost.protocols.wire import Wire
from agenthost.run import Run


class Fault(Wire):
    """What is wrong, for people and for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Refusal(Wire):
    """Why a request was not served."""

    error: Fault


class Model(Wire):
    """An agent, as a model."""

    id: str
    object: str = "model"
    created: int
    owned_by: str


class ModelList(Wire):
    """The agents that this caller may use, and that serve."""

    object: str = "list"
    data: list[Model]


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    # with the range named, FastAPI says nothing of a 422 of its own, which there is none of here
    named: list[int | str] = ["4XX", *statuses]
    return {status: {"description": Refusal.__doc__, "model": Refusal} for status in named}


_RUNS = _refusals(400, 401, 403, 404, 409, 413, 415, 429, 500, 503, 504)
_STREAMS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


def endpoints(_host: Any, _agent: str | None) -> APIRouter:
    """The routes below `/v1`."""
    router = APIRouter(route_class=StrictRoute)
    router.add_api_route("/models", _models, methods=["GET"], response_model=ModelList,
                         summary="The agents this caller may use, as models", responses=_refusals(401))  # fmt: skip
    router.add_api_route("/models/{model}", _model, methods=["GET"], response_model=Model,
                         summary="An agent, as a model", responses=_refusals(400, 401, 403, 404, 503))  # fmt: skip
    router.add_api_route("/chat/completions", _chat, methods=["POST"], response_class=Response,
                         summary="Answer a conversation, which is not kept",
                         responses={**_STREAMS, **_RUNS})  # fmt: skip
    router.add_api_route("/responses", responses.create, methods=["POST"], response_class=Response,
                         summary="Answer, and keep the conversation", responses={**_STREAMS, **_RUNS})  # fmt: skip
    one = _refusals(400, 401, 404, 503)
    router.add_api_route("/responses/{response_id}", responses.retrieve, methods=["GET"], response_class=Response,
                         summary="A response, or its events from any point on",
                         responses={**_STREAMS, **one})  # fmt: skip
    router.add_api_route("/responses/{response_id}", responses.delete, methods=["DELETE"], response_class=Response,
                         summary="Delete a response", responses={**one, **_refusals(409)})  # fmt: skip
    router.add_api_route("/responses/{response_id}/cancel", responses.cancel, methods=["POST"],
                         response_class=Response, summary="Cancel a response", responses=one)  # fmt: skip
    return router


def _as_model(entry: AgentEntry) -> dict[str, Any]:
    return {"id": entry.name, "object": "model", "created": int(entry.since), "owned_by": "agenthost"}


async def _models(request: Request) -> Response:
    entries = exchange_of(request.scope).agents(PROTOCOL)
    return json_reply({"object": "list", "data": [_as_model(entry) for entry in entries if entry.available]})


async def _model(request: Request, model: str = Path(max_length=200, description="The agent's name.")) -> Response:
    return json_reply(_as_model(chosen(exchange_of(request.scope), model)))


async def _chat(body: ChatBody, request: Request) -> Response:
    exchange = exchange_of(request.scope)
    entry = chosen(exchange, body.model)
    said, metadata = body.conversation(), body.told()

    async def start() -> Run | EndedRun:
        return await begin(exchange, entry, said, metadata)

    told = partial(Completion, model=entry.name, as_json=body.wants_json, with_usage=body.wants_usage)
    if body.stream:
        return Answer(stream_run, exchange, start, 0, None, told)
    return Answer(fold_run, exchange, start, told)
