"""Functions that make graphs: once for all runs, or for each run from its config."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.framework

Serve = Callable[..., Any]

APP = """
from __future__ import annotations

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import interrupt

made = []
SAVER = InMemorySaver()


def builder(says):
    made.append(says)
    return (
        StateGraph(MessagesState)
        .add_node("say", lambda state: {"messages": [AIMessage(f"{says}, {len(state['messages'])}")]})
        .add_edge(START, "say")
    )


def once():
    return builder(f"once {len(made)}")


def with_settings(settings):
    return builder(settings.get("greeting", "?")).compile()


def make_graph(config: RunnableConfig):
    \"\"\"Greets whoever asks.\"\"\"
    return builder(f"{config['configurable']['user_id']} {config['configurable'].get('style')}")


async def make_graph_later(config: RunnableConfig, verbose: bool = False) -> CompiledStateGraph:
    return builder("later").compile(checkpointer=SAVER)


async def make_typed() -> CompiledStateGraph:
    return builder("typed").compile()


def make_untyped(config):
    return builder(config["configurable"]["user_id"])


async def make_untyped_later():
    return builder("untyped")


def make_asking(config: RunnableConfig):
    def ask(state):
        return {"messages": [AIMessage(interrupt("Shall I?"))]}

    return StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")


def make_nothing(config: RunnableConfig):
    return "no graph"


async def agent(ctx):
    yield "no graph at all"
"""


def test_a_factory_of_nothing_makes_one_graph_for_all_runs(serve: Serve) -> None:
    host = serve(APP, "once")
    assert host.invoke("once", "a")["message"] == "once 0, 1"
    assert host.invoke("once", "b")["message"] == "once 0, 1"


def test_a_factory_of_a_config_makes_one_for_each_run(serve: Serve) -> None:
    host = serve(APP, "make_graph", settings='settings = { configurable = { style = "kind" } }')
    assert host.invoke("make-graph", "a")["message"] == "dev kind, 1"
    assert host.client.get("/agents/make-graph").json()["description"] == "Greets whoever asks."


def test_an_async_factory_with_its_own_checkpointer_keeps_threads_there(serve: Serve) -> None:
    host = serve(APP, "make_graph_later")
    assert host.invoke("make-graph-later", "a", thread_id="t")["message"] == "later, 1"
    assert host.invoke("make-graph-later", "b", thread_id="t")["message"] == "later, 3"
    thread = host.client.get("/agents/make-graph-later/threads/t").json()
    assert [one["content"] for one in thread["messages"]] == ["a", "later, 1", "b", "later, 3"]
    assert host.client.delete("/agents/make-graph-later/threads/t").json()["deleted"]
    assert host.invoke("make-graph-later", "c", thread_id="t")["message"] == "later, 1"


def test_an_async_factory_of_nothing_says_by_its_annotation_what_it_makes(serve: Serve) -> None:
    assert serve(APP, "make_typed").invoke("make-typed", "a")["message"] == "typed, 1"


def test_a_factory_without_annotations_is_known_by_its_parameter_and_its_module(serve: Serve) -> None:
    host = serve(APP, "make_untyped", "make_untyped_later")
    assert host.invoke("make-untyped", "a")["message"] == "dev, 1"
    assert host.invoke("make-untyped-later", "a")["message"] == "untyped, 1"


def test_what_pauses_goes_on_in_a_graph_that_is_made_again(serve: Serve) -> None:
    host = serve(APP, "make_asking")
    assert host.invoke("make-asking", "a", thread_id="t")["status"] == "paused"
    host = serve(APP, "make_asking")
    assert host.resume("make-asking", "t", response="yes")[-1]["message"] == "yes"


CHECKED = """
from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph


def pay(state):
    return {"messages": [AIMessage("paid")]}


builder = StateGraph(MessagesState).add_node("pay", pay).add_edge(START, "pay")


def of_config(config: RunnableConfig):
    return builder.compile()


def of_perhaps(config: RunnableConfig | None = None):
    return builder.compile()


def of_dict(config: dict):
    return builder.compile()


def of_dict_of_any(config: dict[str, object]):
    return builder.compile()


async def of_nothing() -> CompiledStateGraph:
    return builder.compile()


async def agent(config: RuntimeSettings):
    yield "no graph"
"""

FACTORIES = ["of_config", "of_perhaps", "of_dict", "of_dict_of_any", "of_nothing"]


def test_a_factory_is_known_by_annotations_that_only_a_type_checker_reads(serve: Serve) -> None:
    host = serve(CHECKED, *FACTORIES, "agent")
    for name in FACTORIES:
        assert host.invoke(name.replace("_", "-"), "a")["message"] == "paid", name
    assert host.invoke("agent", "a")["message"] == "no graph"


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ('interrupt_before = ["pai"]', "'interrupt_before': no node 'pai'; did you mean 'pay'?"),
        ('speakers = ["pai"]', "'speakers': no node 'pai'; did you mean 'pay'?"),
    ],
)
def test_a_node_that_is_not_there_stops_the_run_of_what_a_factory_made(
    serve: Serve, caplog: pytest.LogCaptureFixture, setting: str, problem: str
) -> None:
    host = serve(CHECKED, "of_config", settings=f"settings = {{ {setting} }}")
    assert host.client.post("/agents/of-config/invoke", json={"prompt": "a"}).status_code == 500
    assert f"the settings do not fit the graph that of_config made: {problem}" in caplog.text
    host = serve(CHECKED, "of_config", settings='settings = { interrupt_before = ["pay"] }')
    assert host.invoke("of-config", "a", thread_id="t")["status"] == "paused"


def test_a_factory_that_makes_no_graph_fails_its_run(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    host = serve(APP, "make_nothing")
    assert host.client.post("/agents/make-nothing/invoke", json={"prompt": "a"}).status_code == 500
    assert "make_nothing made str, which is no graph" in caplog.text


def test_functions_that_are_agents_themselves_stay_so(serve: Serve) -> None:
    assert serve(APP, "agent").invoke("agent", "a")["message"] == "no graph at all"
