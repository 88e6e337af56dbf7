"""What an agent's runs end with, and the schema of it."""

from __future__ import annotations

from datetime import date
from typing import Any, Union

import jsonschema_rs
import pytest
from agenthost_pydantic_ai import serve
from agenthost_pydantic_ai.outputs import Outputs
from pydantic import BaseModel, Field
from pydantic_ai import Agent, DeferredToolRequests, NativeOutput, PromptedOutput, TextOutput, ToolOutput
from pydantic_ai.agent import WrapperAgent
from pydantic_ai.messages import BinaryContent
from pydantic_ai_doubles import call, model, of, told

from agenthost import AgentError, Result

pytestmark = pytest.mark.framework


class City(BaseModel):
    """A city."""

    name: str
    founded: date = Field(serialization_alias="since")


def written(output: str) -> str:
    return output.upper()


def of_city(city: City) -> int:
    return city.founded.year


CITY = {"name": "Rome", "since": "0753-04-21"}


def agent_of(output_type: Any, **arguments: Any) -> Agent[Any, Any]:
    """An agent whose model ends with the first output tool, or a text."""
    given = arguments or {"name": "Rome", "founded": "0753-04-21"}
    return Agent(model(lambda messages: [call("final_result", "c", **given)]), output_type=output_type)


def test_text_is_no_structured_output() -> None:
    assert serve(Agent("test")).output_schema is None
    assert not of(Result, told(Agent(model(lambda messages: ["Hel", "lo"]))))


def test_a_models_schema_is_published_and_its_output_fits_it() -> None:
    agent = agent_of(City)
    (result,) = of(Result, told(agent))

    assert result.output == CITY
    assert result.message == '{"name": "Rome", "since": "0753-04-21"}'
    schema = serve(agent).output_schema
    assert schema is not None
    jsonschema_rs.meta.validate(schema)
    assert jsonschema_rs.is_valid(schema, result.output)
    assert not jsonschema_rs.is_valid(schema, {"name": "Rome"})


def test_an_output_tool_is_not_told_as_a_tool_call() -> None:
    kinds = [type(event).__name__ for event in told(agent_of(City))]
    assert kinds == ["Usage", "Result"]


@pytest.mark.parametrize(
    "output_type",
    [ToolOutput(City), [City], Union[City, DeferredToolRequests], [City, DeferredToolRequests]],  # noqa: UP007 - a kind of its own
    ids=["a tool's", "in a list", "in a union with the framework's own", "in a list with it"],
)
def test_ways_to_say_one_type_are_one_schema(output_type: Any) -> None:
    agent = agent_of(output_type)

    assert serve(agent).output_schema == serve(agent_of(City)).output_schema
    assert of(Result, told(agent))[0].output == CITY


def test_of_several_types_any_fits() -> None:
    agent = Agent(model(lambda messages: ["just text"]), output_type=[City, str])

    assert [one.get("type") for one in serve(agent).output_schema["anyOf"]] == ["object", "string"]
    assert of(Result, told(agent)) == [Result(output="just text")]


@pytest.mark.parametrize("kind", [NativeOutput, PromptedOutput])
def test_an_output_that_is_written_as_text_is_streamed_and_structured(kind: Any) -> None:
    agent = Agent(model(lambda messages: ['{"name": "Rome", ', '"founded": "0753-04-21"}']), output_type=kind(City))
    events = told(agent)

    assert of(str, events) == ['{"name": "Rome", ', '"founded": "0753-04-21"}']
    assert of(Result, events)[0].output == CITY


def test_a_function_that_makes_the_output_has_the_last_word() -> None:
    text = Agent(model(lambda messages: ["quiet"]), output_type=TextOutput(written))
    assert of(Result, told(text)) == [Result("QUIET", output="QUIET")]

    number = agent_of(of_city, city={"name": "Rome", "founded": "0753-04-21"})
    assert serve(number).output_schema == {"type": "integer"}
    assert of(Result, told(number)) == [Result("753", output=753)]


def test_output_validators_are_found_in_an_agent_that_is_wrapped() -> None:
    inner = Agent(model(lambda messages: ["Hello."]))

    @inner.output_validator
    def louder(output: str) -> str:
        return output.upper()

    events = told(WrapperAgent(WrapperAgent(inner)))
    assert events[0] == "Hello."
    assert of(Result, events) == [Result("HELLO.")]


class Opaque:
    """Nothing that pydantic knows."""


def make_opaque(name: str) -> Opaque:
    return Opaque()


@pytest.mark.filterwarnings("ignore:Could not generate return schema for .make_opaque.")  # newer releases say so
def test_an_output_that_is_not_json_is_an_error_that_names_its_type() -> None:
    agent = agent_of(make_opaque, name="x")

    assert serve(agent).output_schema is None
    with pytest.raises(AgentError, match=r"^the agent's output, of type Opaque, is not JSON$"):
        told(agent)


def test_a_file_is_an_artifact_and_no_output() -> None:
    outputs = Outputs(agent_of(City))
    assert outputs.result(BinaryContent(b"\x89PNG", media_type="image/png"), []) == Result()
