"""What a graph takes and what it says of that: structured input, prompts, schemas, settings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from agenthost_langgraph.graph_agent import GraphAgent
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph, add_messages
from langgraph.runtime import Runtime
from pydantic import BaseModel, Field

from agenthost import Result, ThreadKey

pytestmark = pytest.mark.framework

Run = Callable[..., list[Any]]
Serve = Callable[..., Any]


class Joke(TypedDict):
    topic: str
    joke: str


class Topic(TypedDict):
    topic: str


class Mixed(MessagesState):
    city: str


def tell(state: Any) -> dict[str, Any]:
    return {"joke": f"{state['topic']}!"}


def jokes(**schemas: Any) -> Any:
    return StateGraph(Joke, **schemas).add_node("tell", tell).add_edge(START, "tell").compile()


def echo(state: Any) -> dict[str, Any]:
    texts = [message.text for message in state["messages"]]
    return {"messages": [AIMessage(f"{state.get('city')}: {' | '.join(texts)}")]}


def mixed(saver: Any = None) -> Any:
    return StateGraph(Mixed).add_node("echo", echo).add_edge(START, "echo").compile(checkpointer=saver)


# ── schemas ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_graph_of_messages_alone_takes_a_prompt_and_says_nothing_of_input(reference: Any) -> None:
    agent = GraphAgent(reference.agent)
    assert (agent.input_schema, agent.output_schema, agent.needs_input, agent.title) == (None, None, False, "")


def test_a_graph_without_messages_takes_input_only() -> None:
    agent = GraphAgent(jokes())
    assert agent.needs_input
    assert {name: one["type"] for name, one in (agent.input_schema or {})["properties"].items()} == {
        "topic": "string",
        "joke": "string",
    }
    assert "required" not in (agent.input_schema or {}), "LangGraph asks for no key of a whole state"
    assert list((agent.output_schema or {})["properties"]) == ["topic", "joke"]


def test_an_input_schema_of_its_own_is_kept_as_it_is() -> None:
    agent = GraphAgent(jokes(input_schema=Topic, output_schema=Joke))
    assert (agent.input_schema or {})["required"] == ["topic"]


def test_what_is_beside_the_messages_is_the_structured_part() -> None:
    agent = GraphAgent(mixed())
    assert list((agent.input_schema or {})["properties"]) == ["city"]
    assert list((agent.output_schema or {})["properties"]) == ["city"]
    assert not agent.needs_input


def test_a_state_that_json_schema_has_no_word_for_is_served_all_the_same(run: Run) -> None:
    class Odd(TypedDict):
        messages: Annotated[list[BaseMessage], add_messages]
        call: Callable[[], int]

    agent = GraphAgent(StateGraph(Odd).add_node("echo", echo).add_edge(START, "echo"))
    assert (agent.input_schema or {})["properties"] == {"call": {}}
    assert not agent.needs_input
    assert run(agent, "hi")[-1] == Result("None: hi")


def test_a_name_that_the_graph_was_given_is_its_title() -> None:
    assert (
        GraphAgent(StateGraph(Joke).add_node("tell", tell).add_edge(START, "tell").compile(name="Jokes")).title
        == "Jokes"
    )


# ── input ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_input_goes_in_as_it_is_and_the_state_comes_out(run: Run) -> None:
    output = {"topic": "cats", "joke": "cats!"}
    assert run(jokes(), input={"topic": "cats"})[-1] == Result('{"topic": "cats", "joke": "cats!"}', output=output)


def test_one_text_that_comes_out_is_the_message(run: Run) -> None:
    class Told(TypedDict):
        joke: str

    assert run(jokes(output_schema=Told), input={"topic": "cats"})[-1] == Result("cats!", output={"joke": "cats!"})


def test_the_prompt_stands_beside_the_input(run: Run) -> None:
    assert run(mixed(), "hi", input={"city": "Rome"})[-1] == Result("Rome: hi", output={"city": "Rome"})
    assert run(mixed(), input={"city": "Rome"})[-1] == Result("Rome: ", output={"city": "Rome"})


def test_messages_in_the_input_take_the_place_of_the_prompts(run: Run) -> None:
    given = {"messages": [{"role": "user", "content": "mine"}], "city": "Rome"}
    assert run(mixed(), "not this", input=given)[-1] == Result("Rome: mine", output={"city": "Rome"})


def test_an_entrypoint_takes_what_its_annotation_says(run: Run) -> None:
    @entrypoint()
    async def of_text(text: str) -> str:
        return f"text {text}"

    @entrypoint()
    async def of_anything(given):  # type: ignore[no-untyped-def]  # as people write them
        return f"{type(given).__name__} {given}"

    @entrypoint()
    async def of_messages(messages: list[BaseMessage]) -> str:
        return f"messages {[message.text for message in messages]}"

    @entrypoint()
    async def of_data(data: dict[str, int]) -> dict[str, int]:
        return data

    class Order(BaseModel):
        count: int = Field(ge=1)

    @entrypoint()
    async def of_model(order: Order) -> str:
        return f"order {order}"

    assert run(of_text, "x")[-1] == Result("text x")
    assert run(of_text, "x", input="y")[-1] == Result("text y")
    assert run(of_anything, "x")[-1] == Result("str x")
    assert run(of_anything, input={"a": 1})[-1] == Result("dict {'a': 1}")
    assert run(of_messages, "x")[-1] == Result("messages ['x']")
    assert run(of_data, input={"a": 1})[-1] == Result('{"a": 1}', output={"a": 1})
    assert [GraphAgent(one).needs_input for one in (of_text, of_anything, of_messages, of_data, of_model)] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert (GraphAgent(of_model).input_schema or {})["properties"]["count"]["minimum"] == 1


JOKES = """
from typing import TypedDict
from langgraph.graph import START, StateGraph


class Joke(TypedDict):
    topic: str
    joke: str


graph = StateGraph(Joke).add_node("tell", lambda state: {"joke": state["topic"] + "!"}).add_edge(START, "tell")
"""


def test_over_http_a_prompt_alone_is_422_and_input_is_checked(serve: Serve) -> None:
    host = serve(JOKES, "graph")
    refused = host.client.post("/agents/graph/invoke", json={"prompt": "cats"})
    assert refused.status_code == 422
    assert refused.json()["detail"] == "this agent takes structured input only: give it as `input`"
    wrong = host.client.post("/agents/graph/invoke", json={"input": {"topic": 7}})
    assert (wrong.status_code, wrong.json()["detail"]) == (422, "input.topic does not meet 'type' ('string')")
    assert host.invoke("graph", input={"topic": "cats"})["output"] == {"topic": "cats", "joke": "cats!"}
    assert list(host.client.get("/agents/graph").json()["input_schema"]["properties"]) == ["topic", "joke"]


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Shop:
    region: str
    limit: int = 1


def look(state: Any, config: RunnableConfig, runtime: Runtime[Shop]) -> dict[str, Any]:
    said = {**config["configurable"], "tags": config["tags"], "about": config["metadata"], "context": runtime.context}
    return {"seen": {name: said[name] for name in ("user_id", "model", "thread_id", "tags", "about", "context")}}


class Seen(TypedDict):
    seen: dict[str, Any]


def looking() -> Any:
    return StateGraph(Seen, context_schema=Shop).add_node("look", look).add_edge(START, "look").compile()


def test_settings_reach_the_graph_as_config_and_context(run: Run) -> None:
    settings = {
        "configurable": {"model": "m"},
        "context": {"region": "eu"},
        "tags": ["blue"],
        "metadata": {"team": "shop"},
        "recursion_limit": 5,
    }
    key = ThreadKey("ada", "graph", "t")
    said = run(looking(), input={}, settings=settings, thread=key, metadata={"ticket": 7})
    seen = said[-1].output["seen"]
    assert (seen["user_id"], seen["model"], seen["thread_id"]) == ("ada", "m", key.digest)
    assert seen["context"] == {"region": "eu", "limit": 1}
    assert "blue" in seen["tags"]
    assert (seen["about"]["team"], seen["about"]["request"]) == ("shop", {"ticket": 7})


def test_a_callers_metadata_cannot_take_the_place_of_what_the_host_says(run: Run) -> None:
    theirs = {"user_id": "eve", "thread_id": "z", "run_id": "same", "langgraph_node": "n", "team": "theirs"}
    settings = {"configurable": {"model": "m"}, "metadata": {"team": "shop"}, "tags": ["blue"]}
    key = ThreadKey("ada", "graph", "t")
    about = run(looking(), input={}, settings=settings, thread=key, metadata=theirs)[-1].output["seen"]["about"]
    assert (about["user_id"], about["thread_id"], about["team"]) == ("ada", key.digest, "shop")
    assert about["langgraph_node"] == "look"
    assert "run_id" not in about
    assert about["request"] == theirs


def test_a_callers_run_id_does_not_make_a_new_message_an_old_one(run: Run) -> None:
    agent, key = GraphAgent(mixed(InMemorySaver())), ThreadKey("ada", "graph", "t")
    run(agent, "one", thread=key, metadata={"run_id": "same"})
    assert run(agent, "two", thread=key, metadata={"run_id": "same"})[-1].message == "None: one | None: one | two"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("recursion_limt = 5", "unknown key 'recursion_limt'; did you mean 'recursion_limit'?"),
        ("recursion_limit = -1", "'recursion_limit' must be at least 1, or 0 for the graph's own"),
        ('tags = "blue"', "'tags' must be a list of names"),
        ("context = 5", "'context' must be a table"),
        (
            'configurable = { thread_id = "x" }',
            "'configurable' must not hold 'thread_id': each conversation has its own",
        ),
        ('metadata = { run_id = "x" }', "'metadata' must not hold 'run_id': each run has its own"),
        ('configurable = { user_id = "x" }', "'configurable' must not hold 'user_id': each run has its caller's"),
        ('speakers = ["tel"]', "'speakers': no node 'tel'; did you mean 'tell'?"),
        ('interrupt_before = ["tel"]', "'interrupt_before': no node 'tel'; did you mean 'tell'?"),
    ],
)
def test_a_setting_that_is_wrong_is_told_at_load(serve: Serve, settings: str, problem: str) -> None:
    host = serve(JOKES, "graph", settings=f"settings = {{ {settings} }}")
    health = host.client.get("/health").json()
    assert problem in str(health)


def test_a_context_that_does_not_fit_is_told_before_any_run() -> None:
    agent = GraphAgent(looking())
    with pytest.raises(ValueError, match=r"'context': Shop missing 1 required positional argument: 'region'"):
        agent.Settings(context={})
    with pytest.raises(ValueError, match=r"'context': Shop got an unexpected keyword argument 'regoin'"):
        agent.Settings(context={"regoin": "eu"})


def test_a_context_that_does_not_fit_is_told_without_its_values() -> None:
    class Keys(BaseModel):
        api_key: str
        region: str
        limit: int

    graph = StateGraph(Seen, context_schema=Keys).add_node("look", look).add_edge(START, "look").compile()
    with pytest.raises(ValueError, match="'context'") as refused:
        GraphAgent(graph).Settings(context={"api_key": "sk-secret", "limit": "sk-other"})
    assert str(refused.value) == (
        "'context': region: Field required; "
        "limit: Input should be a valid integer, unable to parse string as an integer"
    )


def test_a_speaker_in_a_nested_graph_and_one_that_nobody_sees_are_names_as_well() -> None:
    inner = StateGraph(Joke).add_node("whisper", tell).add_edge(START, "whisper").compile()
    agent = GraphAgent(StateGraph(Joke).add_node("inner", inner).add_edge(START, "inner"))
    assert agent.Settings(speakers=["whisper", "model"]).speakers == ["whisper", "model"]
    with pytest.raises(ValueError, match="'speakers': no node 'wisper'; did you mean 'whisper'"):
        agent.Settings(speakers=["wisper"])
