"""How runs end: structured output, the run's own limits, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from agenthost_openai_agents import serve
from agenthost_openai_agents.settings import AgentSettings
from agents import (
    Agent,
    AgentOutputSchema,
    GuardrailFunctionOutput,
    UserError,
    function_tool,
    input_guardrail,
    output_guardrail,
)
from openai_doubles import Thread, asked_for, call, message_of, outputs_of, scripted
from pydantic import BaseModel

from agenthost import AgentError, AgentUnavailable, Custom, Result

pytestmark = pytest.mark.framework


class Weather(BaseModel):
    """What an agent answers."""

    city: str
    degrees: int


WEATHER = {
    "description": "What an agent answers.",
    "properties": {"city": {"title": "City", "type": "string"}, "degrees": {"title": "Degrees", "type": "integer"}},
    "required": ["city", "degrees"],
    "title": "Weather",
    "type": "object",
}


def test_structured_output_is_the_output_and_its_schema_is_shown(served: Any) -> None:
    client = served(WEATHERMAN)
    answer = client.post("/agents/app/invoke", json={"prompt": "Rome"}).json()
    assert answer["output"] == {"city": "Rome", "degrees": 30}
    assert json.loads(answer["message"]) == answer["output"]
    assert client.get("/agents/app").json()["output_schema"]["required"] == ["city", "degrees"]


WEATHERMAN = """
from openai_doubles import asked_for, scripted
from pydantic import BaseModel


class Weather(BaseModel):
    city: str
    degrees: int


agent = scripted(lambda items: [Weather(city=asked_for(items), degrees=30).model_dump_json()], output_type=Weather)
"""


def test_the_schema_is_that_of_the_output_type_and_none_where_another_agent_may_answer() -> None:
    def schema(output_type: Any, **fields: Any) -> Any:
        return serve(scripted(None, output_type=output_type, **fields)).output_schema  # type: ignore[attr-defined]

    assert schema(Weather) == WEATHER
    assert schema(AgentOutputSchema(Weather, strict_json_schema=False)) == WEATHER
    assert schema(list[int]) == {"items": {"type": "integer"}, "type": "array"}
    assert schema(str) is None
    assert schema(None) is None
    assert schema(Weather, handoffs=[scripted(None)]) is None


def test_a_list_is_output_too() -> None:
    async def main() -> None:
        events = await Thread(serve(scripted(lambda items: ['{"response": [1, 2]}'], output_type=list[int]))).run("?")
        assert events[-1] == Result("[1, 2]", output=[1, 2])

    asyncio.run(main())


def test_too_many_turns_are_an_end_with_a_reason_and_the_thread_goes_on() -> None:
    def answer(items: list[Any]) -> list[Any]:
        if asked_for(items) == "stop":
            return [f"after {len(items)} items"]
        return ["More.", call("again", f"c{len(outputs_of(items))}")]

    @function_tool
    def again() -> str:
        """Go on."""
        return "again"

    async def main() -> None:
        thread = Thread(serve(scripted(answer, tools=[again])), AgentSettings(max_turns=2))
        events = await thread.run("go")
        assert events[-1] == Result(reason="max_iterations")
        assert message_of(events) == "More.More."
        assert message_of(await thread.run("stop")) == "after 8 items"

    asyncio.run(main())


@input_guardrail
def no_secrets(context: Any, agent: Agent[Any], given: Any) -> GuardrailFunctionOutput:
    """Stop what asks for a secret."""
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=asked_for(given) == "the secret")


@output_guardrail
def no_numbers(context: Any, agent: Agent[Any], output: str) -> GuardrailFunctionOutput:
    """Stop what has a number in it."""
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered="7" in output)


def test_a_guardrail_ends_the_run_with_a_reason_and_the_model_never_hears_of_it_again() -> None:
    async def main() -> None:
        agent = scripted(
            lambda items: [f"{len(items)}: {asked_for(items)}"],
            input_guardrails=[no_secrets],
            output_guardrails=[no_numbers],
        )
        thread = Thread(serve(agent))
        await thread.run("hello")
        events = await thread.run("the secret")
        assert events[-2:] == [
            Custom("x-guardrail", {"guardrail": "no_secrets", "of": "input"}),
            Result("", reason="guardrail"),
        ]
        events = await thread.run("number 7")
        assert events[-2:] == [
            Custom("x-guardrail", {"guardrail": "no_numbers", "of": "output"}),
            Result("", reason="guardrail"),
        ]
        assert message_of(await thread.run("bye")) == "3: bye"

    asyncio.run(main())


def test_a_model_that_calls_no_tool_there_is_fails_without_its_words() -> None:
    async def main() -> None:
        with pytest.raises(AgentError) as failed:
            await Thread(serve(scripted(lambda items: [call("nothing", "c", key="sk-1")]))).run("?")
        assert failed.value.message == (
            "the model answered with what the SDK cannot use: no such tool, or JSON that does not fit"
        )

    asyncio.run(main())


def test_an_agent_that_the_sdk_finds_set_up_wrongly_says_how() -> None:
    def instructions(wrapper: Any, agent: Any) -> str:
        raise UserError("there is no prompt called x")

    async def main() -> None:
        with pytest.raises(AgentError) as failed:
            await Thread(serve(scripted(lambda items: ["ok"], instructions=instructions))).run("?")
        assert failed.value.message == "the agent is set up wrongly: there is no prompt called x"

    asyncio.run(main())


def test_what_a_model_raises_reaches_the_log_and_no_client(served: Any, caplog: pytest.LogCaptureFixture) -> None:
    client = served("from openai_doubles import reference\nagent = reference.agent\n")
    answer = client.post("/agents/app/invoke", json={"prompt": "fail"})
    assert (answer.status_code, answer.json()["code"]) == (500, "agent_error")
    assert "10.0.0.1" not in answer.text
    assert "RuntimeError: out of order at 10.0.0.1" in caplog.text


# ── the model's provider ────────────────────────────────────────────────────────────────────────────────────────────


class Provider:
    """Answers every request for a model with one status, as OpenAI's API would."""

    def __init__(self) -> None:
        self.status = 200
        self.keys: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                provider.keys.append(self.headers["authorization"])
                self.rfile.read(int(self.headers["content-length"]))
                said = {"message": "You said: hello, key sk-12345", "type": "t", "code": "the_code", "param": "model"}
                body = json.dumps({"error": said}).encode()
                self.send_response(provider.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.send_header("x-should-retry", "false")
                self.send_header("x-request-id", "req_1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: Any) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider on this machine."""
    one = Provider()
    yield one
    one.close()


@pytest.mark.parametrize("api", ["responses", "chat_completions"])
@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, AgentError, "the model's provider refused the key: AuthenticationError, status 401, "),
        (400, AgentError, "the model's provider refused the request: BadRequestError, status 400, "),
        (429, AgentUnavailable, "the model's provider does not answer now: RateLimitError, status 429, "),
        (500, AgentUnavailable, "the model's provider does not answer now: InternalServerError, status 500, "),
    ],
)
def test_the_providers_errors_are_told_without_its_words(
    provider: Provider, api: str, status: int, kind: type[Exception], said: str
) -> None:
    provider.status = status

    async def main() -> None:
        settings = AgentSettings(model="gpt-5", base_url=provider.url, api_key="sk-12345678", api=api)
        agent = serve(Agent(name="Remote"))
        thread = Thread(agent, settings)
        async with agent.lifespan():  # type: ignore[attr-defined]
            with pytest.raises(kind) as failed:
                await thread.run("hello")
        assert failed.value.message == f"{said}code the_code, parameter model, request req_1"
        assert provider.keys == ["Bearer sk-12345678"]
        if status == 401:
            assert failed.value.hint == "set OPENAI_API_KEY for the host, or settings.api_key of this agent"

    asyncio.run(main())


def test_a_provider_that_is_not_there_makes_the_agent_unavailable() -> None:
    async def main() -> None:
        settings = AgentSettings(model="gpt-5", base_url="http://127.0.0.1:9/v1", api_key="sk-12345678")
        with pytest.raises(AgentUnavailable) as failed:
            await Thread(serve(Agent(name="Remote")), settings).run("hello")
        assert failed.value.message == "the model's provider does not answer now: APIConnectionError"

    asyncio.run(main())


def test_without_a_key_the_error_says_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    async def main() -> None:
        with pytest.raises(AgentError) as failed:
            await Thread(serve(Agent(name="Remote", model="gpt-5"))).run("hello")
        assert failed.value.describe() == (
            "the model's provider cannot be asked: no key is given\n"
            "  → set OPENAI_API_KEY for the host, or settings.api_key of this agent"
        )

    asyncio.run(main())


def test_over_http_a_provider_that_is_down_is_503(
    served: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.status = 500
    monkeypatch.setenv("TEST_KEY", "sk-12345678")
    client = served(
        'from agents import Agent\nagent = Agent(name="Remote")\n',
        settings=f'{{ model = "gpt-5", base_url = "{provider.url}", api_key = {{ env = "TEST_KEY" }} }}',
    )
    answer = client.post("/agents/app/invoke", json={"prompt": "hello"})
    assert (answer.status_code, answer.json()["code"]) == (503, "agent_unavailable")
