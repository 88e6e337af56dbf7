"""What `settings` in agents.toml may say about a graph, checked against the graph it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

from pydantic import ValidationError

OWN = {
    "thread_id": "each conversation has its own",
    "user_id": "each run has its caller's",
    "run_id": "each run has its own",
}
"""What LangGraph reads in a run's config and the host alone says."""

REQUEST = "request"
"""The key of a run's metadata under which there is the request's: LangGraph reads some keys of it itself."""


@dataclass(frozen=True)
class GraphSettings:
    """How a graph is run; raises `ValueError` for what cannot be.

    `configurable`, `tags` and `metadata` go into the run's config, `context` is what nodes get as `runtime.context`.
    `recursion_limit` bounds the steps (0: the graph's own limit). `interrupt_before` and `interrupt_after` name nodes
    around which each run asks whether to go on. `subgraphs`: whether what nested graphs say is told. `speakers`: the
    nodes whose text is the answer as it comes (none named: all). `urls` lets the model have files that callers name by
    address.
    """

    configurable: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    recursion_limit: int = 0
    interrupt_before: Sequence[str] = ()
    interrupt_after: Sequence[str] = ()
    subgraphs: bool = True
    speakers: Sequence[str] = ()
    urls: bool = False

    nodes: ClassVar[frozenset[str] | None] = None
    speaking: ClassVar[frozenset[str]] = frozenset()
    context_schema: ClassVar[Any] = None

    def __post_init__(self) -> None:
        if self.recursion_limit < 0:
            raise ValueError("'recursion_limit' must be at least 1, or 0 for the graph's own")
        for name in ("configurable", "context", "metadata"):
            if not isinstance(getattr(self, name), Mapping | None):
                raise ValueError(f"'{name}' must be a table")
        for name, why in OWN.items():
            for place in ("configurable", "metadata"):
                if name in getattr(self, place):
                    raise ValueError(f"'{place}' must not hold '{name}': {why}")
        for name in ("tags", "speakers", "interrupt_before", "interrupt_after"):
            _check_names(name, getattr(self, name))
        for name in ("interrupt_before", "interrupt_after"):
            self._check_nodes(name)
        self._check_speakers()
        self._check_context()

    def _check_nodes(self, name: str) -> None:
        """A node that is not there would never be asked about."""
        for node in getattr(self, name):
            if self.nodes is not None and node not in self.nodes:
                near = get_close_matches(node, self.nodes, 1)
                raise ValueError(f"'{name}': no node '{node}'" + (f"; did you mean '{near[0]}'?" if near else ""))

    def _check_speakers(self) -> None:
        """A name that is near to none may be of a graph that a node makes, or calls out of sight."""
        for name in self.speakers:
            near = get_close_matches(name, self.speaking, 1)
            if near and name not in self.speaking:
                raise ValueError(f"'speakers': no node '{name}'; did you mean '{near[0]}'?")

    def _check_context(self) -> None:
        schema = self.context_schema
        if self.context is None:
            return
        if isinstance(schema, type) and (is_dataclass(schema) or hasattr(schema, "model_validate")):
            try:
                schema(**self.context)
            except ValidationError as refused:
                found = refused.errors(include_url=False, include_context=False, include_input=False)
                problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found]
                raise ValueError(f"'context': {'; '.join(problems)}") from None
            except (TypeError, ValueError) as refused:
                problem = str(refused).replace(f"{schema.__name__}.__init__()", schema.__name__)
                raise ValueError(f"'context': {problem}") from None


def _check_names(name: str, value: Any) -> None:
    if isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"'{name}' must be a list of names")


def settings_of(graph: Any) -> type[GraphSettings]:
    """The settings' type for one graph: what names its nodes, or its context, is checked when they are read."""
    graphs = [graph, *(nested for _name, nested in graph.get_subgraphs(recurse=True))]
    speaking = frozenset(node for one in graphs if hasattr(one, "builder") for node in one.nodes)
    own = {"nodes": frozenset(graph.nodes), "speaking": speaking, "context_schema": graph.context_schema}
    return type("GraphSettings", (GraphSettings,), {**own, "__doc__": GraphSettings.__doc__})


def check_settings(settings: GraphSettings, graph: Any) -> None:
    """Raise `ValueError` for settings that do not fit a graph which was made only now."""
    settings_of(graph)(**{each.name: getattr(settings, each.name) for each in fields(settings)})
