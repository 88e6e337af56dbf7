"""Serves LangGraph graphs and entrypoints with agenthost, unchanged; LangGraph is imported with the first of them."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any, get_origin, get_type_hints

from agenthost import hookimpl

_GRAPHS = {"Pregel", "StateGraph"}
_CONFIG = re.compile(r"\bRunnableConfig\b")
_GRAPH = re.compile(r"\b(CompiledStateGraph|CompiledGraph|StateGraph|Pregel)\b")
_TABLE = re.compile(r"\b([Dd]ict|Mapping)\b")


@hookimpl
def register_adapters(register: Any) -> None:
    """Register for graphs, compiled or not, and for functions that make one for each run."""
    register("langgraph", _adapt_graph, modules=["langgraph"], accepts=_is_graph)
    register("langgraph-factories", _adapt_factory, modules=["*"], accepts=_makes_graphs)


def _is_graph(found: Any) -> bool:
    return any(kind.__name__ in _GRAPHS and _is_langgraphs(kind) for kind in type(found).__mro__)


def _is_langgraphs(found: Any) -> bool:
    """Whether a class, a function, a module or an object is LangGraph's."""
    home = getattr(found, "__module__", None) or getattr(found, "__name__", None)
    return isinstance(home, str) and home.partition(".")[0] == "langgraph"


def _makes_graphs(found: Any) -> bool:
    """Whether it is a function that makes a graph for each run: of a `RunnableConfig` alone, or async and of nothing.

    The config is known by its annotation. Where that does not say, it is enough that it is called `config` and may be a
    dict, or that the function is async and of nothing, if its module uses LangGraph: no agent is written so. A plain
    function of nothing is called by the host itself, once, and its graph is then served as any other.
    """
    if not inspect.isfunction(found):
        return False
    parameters = list(inspect.signature(found).parameters.values())
    hints = _hints(found)
    if not parameters:
        made = hints.get("return", found if _uses_langgraph(found) else None)
        graph = made is found or _is_langgraphs(get_origin(made) or made) or _named(made, _GRAPH)
        return inspect.iscoroutinefunction(found) and graph
    config, *others = parameters
    said = hints.get(config.name)
    unsaid = config.name == "config" and (said is None or _named(said, _TABLE)) and _uses_langgraph(found)
    return (_named(said, _CONFIG) or unsaid) and all(other.default is not other.empty for other in others)


def _hints(function: Any) -> dict[str, Any]:
    """A function's annotations; as they are written where they name what is there for a type checker alone."""
    try:
        return get_type_hints(function)
    except Exception:  # noqa: BLE001 - they may name anything, and run any code
        return dict(function.__annotations__)


def _named(annotation: Any, names: re.Pattern[str]) -> bool:
    """Whether an annotation, or its text, has one of these names in it."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return names.search(annotation.__name__) is not None
    return names.search(str(annotation)) is not None


def _uses_langgraph(function: Any) -> bool:
    return any(_is_langgraphs(value) for value in function.__globals__.values())


def _adapt_graph(found: Any) -> Any:
    return import_module(f"{__name__}.graph_agent").GraphAgent(found)


def _adapt_factory(found: Any) -> Any:
    return import_module(f"{__name__}.factories").FactoryAgent(found)
