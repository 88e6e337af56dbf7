"""What `settings` in agents.toml may say about a graph, checked against the graph it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from difflib import get_close_matches
from typing import Any, ClassVar


@dataclass(frozen=True)
class GraphSettings:
    """How a graph is run; raises `ValueError` for what cannot be.

    `configurable`, `tags` and `metadata` go into the run's config, `context` is what nodes get as `runtime.context`.
    `recursion_limit` bounds the steps (0: the graph's own limit). `interrupt_before` and `interrupt_after` name nodes
    around which each run asks whether to go on. `subgraphs`: whether what nested graphs say is told. `speakers`: the
    nodes whose text is the answer as it comes (none named: all).
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

    nodes: ClassVar[frozenset[str] | None] = None
    context_schema: ClassVar[Any] = None

    def __post_init__(self) -> None:
        if self.recursion_limit < 0:
            raise ValueError("'recursion_limit' must be at least 1, or 0 for the graph's own")
        for name in ("configurable", "context", "metadata"):
            if not isinstance(getattr(self, name), Mapping | None):
                raise ValueError(f"'{name}' must be a table")
        if "thread_id" in self.configurable:
            raise ValueError("'configurable' must not hold 'thread_id': each conversation has its own")
        for name in ("tags", "speakers", "interrupt_before", "interrupt_after"):
            _check_names(name, getattr(self, name))
        for name in ("interrupt_before", "interrupt_after"):
            self._check_nodes(name)
        self._check_context()

    def _check_nodes(self, name: str) -> None:
        """A node that is not there would never be asked about."""
        for node in getattr(self, name):
            if self.nodes is not None and node not in self.nodes:
                near = get_close_matches(node, self.nodes, 1)
                raise ValueError(f"'{name}': no node '{node}'" + (f"; did you mean '{near[0]}'?" if near else ""))

    def _check_context(self) -> None:
        schema = self.context_schema
        if self.context is None:
            return
        if isinstance(schema, type) and (is_dataclass(schema) or hasattr(schema, "model_validate")):
            try:
                schema(**self.context)
            except (TypeError, ValueError) as refused:
                problem = str(refused).replace(f"{schema.__name__}.__init__()", schema.__name__)
                raise ValueError(f"'context': {problem}") from None


def _check_names(name: str, value: Any) -> None:
    if isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"'{name}' must be a list of names")


def settings_of(graph: Any) -> type[GraphSettings]:
    """The settings' type for one graph: what names its nodes, or its context, is checked when they are read."""
    own = {"nodes": frozenset(graph.nodes), "context_schema": graph.context_schema}
    return type("GraphSettings", (GraphSettings,), {**own, "__doc__": GraphSettings.__doc__})
