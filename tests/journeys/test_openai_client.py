"""OpenAI's own client against a host with keys: every answer and every event must be what its types say, strictly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from agenthost import Client
from tests.house.tree import PLUGINS
from tests.serving import Process, actors, agents_toml, key, secret

openai = pytest.importorskip("openai")
chat_types = pytest.importorskip("openai.types.chat")
response_types = pytest.importorskip("openai.types.responses")

pytestmark = pytest.mark.protocol

HAS_PYDANTIC_AI = bool(find_spec("pydantic_ai") and find_spec("agenthost_pydantic_ai"))

needs_pydantic_ai = pytest.mark.skipif(not HAS_PYDANTIC_AI, reason="pydantic-ai is not installed")

OPENAI = "tests.protocols.openai.players"


def strict(kind: Any, told: BaseModel) -> Any:
    """What the client took in, validated: it takes anything, so that new servers do not break it."""
    return TypeAdapter(kind).validate_json(told.model_dump_json(exclude_unset=True, by_alias=True), strict=True)


def events(stream: Iterable[Any]) -> list[Any]:
    """A response's stream, each event validated."""
    return [strict(response_types.ResponseStreamEvent, event) for event in stream]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("openai-client")
    text = key("root") + key("bob", agents='["echo"]') + "[agents.echo]\n[agents.calculator]\n"
    text += actors("everything", "fail", "hold", "asks")
    text += "".join(f'[agents.{name}]\nuse = "{OPENAI}:{name}"\n' for name in ("approves", "shows", "ponders"))
    if HAS_PYDANTIC_AI:
        use = PLUGINS / "agenthost-pydantic-ai" / "tests" / "reference_agent.py"
        text += f'[agents.pydantic-ai]\nuse = "{use}:agent"\n'
    with Process(agents_toml(folder, text, store=f"sqlite:///{folder}/store.db")) as process:
        yield process


def client_of(host: Process, api_key: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{host.port}/v1", api_key=api_key, max_retries=0) as client:
        yield client


@pytest.fixture
def client(host: Process) -> Iterator[Any]:
    yield from client_of(host, secret("root"))


@pytest.fixture
def bob(host: Process) -> Iterator[Any]:
    yield from client_of(host, secret("bob"))


@pytest.fixture
def native(host: Process) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{host.port}", secret("root")) as client:
        yield client


# ── models and refusals ──────────────────────────────────────────────────────────────────────────────────────────────


def test_models(client: Any, bob: Any) -> None:
    models = [strict(openai.types.Model, model) for model in client.models.list()]
    assert {"echo", "calculator"} <= {model.id for model in models}
    assert [model.id for model in bob.models.list()] == ["echo"]
    assert strict(openai.types.Model, client.models.retrieve("echo")).id == "echo"


def test_refusals_are_the_exceptions_that_programs_catch(host: Process, client: Any, bob: Any) -> None:
    said = [{"role": "user", "content": "x"}]
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody", messages=said)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert unknown.value.request_id
    with pytest.raises(openai.PermissionDeniedError):
        bob.responses.create(model="calculator", input="1")
    with pytest.raises(openai.BadRequestError) as invalid:
        client.responses.create(model="echo", input="x", temperature="hot")
    assert invalid.value.param == "temperature"
    with pytest.raises(openai.InternalServerError, match="The agent failed"):
        client.chat.completions.create(model="fail", messages=said)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_" + "0" * 32)
    for stranger in client_of(host, "wrong-key-0123456789"):
        with pytest.raises(openai.AuthenticationError) as wrong:
            stranger.models.list()
        assert wrong.value.code == "invalid_api_key"


def test_a_run_that_failed_is_not_run_again_by_a_client_that_tries_again(host: Process, native: Client) -> None:
    address = f"http://127.0.0.1:{host.port}/v1"
    with (
        openai.OpenAI(base_url=address, api_key=secret("root"), max_retries=5) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.responses.create(model="fail", input="once", conversation="once")
    assert [run.status for run in native.runs("fail", thread_id="once")] == ["failed"]


# ── chat completions ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_chat_whole_and_streamed(client: Any) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello  world"}]
    whole = strict(chat_types.ChatCompletion, client.chat.completions.create(model="echo", messages=messages))
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("hello  world", "stop")
    stream = client.chat.completions.create(
        model="echo", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = [strict(chat_types.ChatCompletionChunk, chunk) for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "hello  world"
    assert chunks[-1].usage.total_tokens == 0


def test_two_turns_of_chat_and_the_clients_own_accumulator(client: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": "one"}]
    first = client.chat.completions.create(model="echo", messages=messages)
    messages += [first.choices[0].message.model_dump(exclude_none=True), {"role": "user", "content": "two"}]
    with client.chat.completions.stream(model="echo", messages=messages) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "(2) two"


def test_images_reach_the_agent(client: Any) -> None:
    content = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AP8="}},
    ]
    found = client.chat.completions.create(
        model="shows", messages=[{"role": "user", "content": content}], response_format={"type": "json_object"}
    )
    said = json.loads(found.choices[0].message.content)["messages"][-1]["content"]
    assert said[1] == {"type": "file", "media_type": "image/png", "data": "AP8="}


class Seen(BaseModel):
    seen: str


def test_structured_answers_are_parsed_by_the_client(client: Any) -> None:
    messages = [{"role": "user", "content": "x"}]
    chat = client.chat.completions.parse(model="everything", messages=messages, response_format=Seen)
    assert chat.choices[0].message.parsed == Seen(seen="x")
    assert client.responses.parse(model="everything", input="x", text_format=Seen).output_parsed == Seen(seen="x")


def test_an_error_inside_of_a_stream_is_raised(client: Any) -> None:
    stream = client.chat.completions.create(model="fail", messages=[{"role": "user", "content": "later"}], stream=True)
    with pytest.raises(openai.APIError, match="internal error"):
        list(stream)


def test_an_ordinary_loop_over_tool_calls_answers_what_an_agent_asks(client: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": "7**999"}]
    while True:
        found = strict(chat_types.ChatCompletion, client.chat.completions.create(model="calculator", messages=messages))
        message = found.choices[0].message
        if not message.tool_calls:
            break
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            assert json.loads(call.function.arguments)["options"] == ["yes", "no"]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "yes"})
    assert message.content == str(7**999)


# ── responses ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", ["echo", "calculator", "everything", "ponders", "asks", "approves"])
def test_responses_and_their_events_are_what_the_clients_types_say(client: Any, model: str) -> None:
    whole = strict(response_types.Response, client.responses.create(model=model, input="2 + 3"))
    told = events(client.responses.create(model=model, input="2 + 3", stream=True))
    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert told[-1].type == "response.completed"
    assert told[-1].response.output_text == whole.output_text
    assert strict(response_types.Response, client.responses.retrieve(whole.id)) == whole


def test_the_clients_own_accumulator_has_the_same_response(client: Any) -> None:
    with client.responses.stream(model="everything", input="x") as stream:
        seen = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.mcp_call.completed" in seen
    assert final.output_text == "the end"


def test_two_turns_on_one_thread_which_the_native_protocol_has_too(client: Any, native: Client) -> None:
    first = client.responses.create(model="echo", input="one")
    second = client.responses.create(model="echo", input="two", previous_response_id=first.id)
    assert (first.output_text, second.output_text) == ("one", "(2) two")
    thread = native.thread("echo", first.conversation.id)
    assert [message["content"] for message in thread.messages] == ["one", "one", "two", "(2) two"]


def test_what_an_agent_asks_is_answered_as_a_function_is(client: Any) -> None:
    asked = client.responses.create(model="calculator", input="7**999")
    (call,) = [item for item in asked.output if item.type == "function_call"]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "yes"}
    found = client.responses.create(model="calculator", input=[output], previous_response_id=asked.id)
    assert found.output_text == str(7**999)
    with pytest.raises(openai.ConflictError):
        client.responses.create(model="calculator", input=[output], previous_response_id=asked.id)


def test_whether_a_tool_may_run_is_approved_as_for_a_remote_tool(client: Any) -> None:
    asked = client.responses.create(model="approves", input="x")
    request = asked.output[-1]
    answer = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    stream = client.responses.create(model="approves", input=[answer], previous_response_id=asked.id, stream=True)
    assert events(stream)[-1].response.output_text == "approved: True"


def test_background_joined_cancelled_deleted(client: Any, native: Client) -> None:
    begun = strict(response_types.Response, client.responses.create(model="hold", input="x", background=True))
    assert begun.status in {"queued", "in_progress"}
    with client.responses.retrieve(begun.id, stream=True) as stream:
        seen = []
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    run_id = begun.id.removeprefix("resp_")
    assert native.run("hold", run_id).status == "running", "a reader that leaves ends nothing"
    assert strict(response_types.Response, client.responses.cancel(begun.id)).status == "cancelled"
    rest = events(client.responses.retrieve(begun.id, stream=True, starting_after=seen[-1].sequence_number))
    assert rest[0].sequence_number == seen[-1].sequence_number + 1
    assert (rest[-1].type, rest[-1].response.status) == ("response.failed", "cancelled")
    client.responses.delete(begun.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(begun.id)


def test_a_run_that_the_client_began_is_cancelled_by_the_native_protocol(client: Any, native: Client) -> None:
    begun = client.responses.create(model="hold", input="x", background=True)
    native.cancel("hold", begun.id.removeprefix("resp_"))
    told = events(client.responses.retrieve(begun.id, stream=True))
    assert told[-1].response.status == "cancelled"


# ── an agent of a framework ──────────────────────────────────────────────────────────────────────────────────────────


@needs_pydantic_ai
def test_an_agent_of_pydantic_ai(client: Any) -> None:
    told = events(client.responses.create(model="pydantic-ai", input="hello", stream=True))
    assert told[-1].response.status in {"completed", "incomplete"}
    assert told[-1].response.output
    messages = [{"role": "user", "content": "hello"}]
    chunks = list(client.chat.completions.create(model="pydantic-ai", messages=messages, stream=True))
    assert chunks[-1].choices[0].finish_reason in {"stop", "tool_calls"}
