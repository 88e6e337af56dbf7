"""Every hook a plugin may implement: its moment, its arguments, what happens when it fails, an example.

Hooks only register typed objects at start-up; none runs on the request path. A plugin is a module named by an entry
point of the group `agenthost.plugins`; it implements hooks with `@hookimpl` and may leave out arguments it does not
use.
What a hook registers counts only when the hook returns: one that fails half-way has registered nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import pluggy

from agenthost.agents import Placement
from agenthost.auth import Authenticator
from agenthost.errors import HostError

PROJECT = "agenthost"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


ANY_MODULE = "*"
"""Among an adapter's `modules`: objects of any package, where no adapter claims them by name. It needs `accepts`."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """How one framework's objects become agents, importing no framework.

    An object is this adapter's if the top-level package of a class in `type(obj).__mro__` is in `modules`, and
    `accepts(obj)` (when given) is true. `adapt(obj)` returns an `Agent`.
    """

    name: str
    modules: tuple[str, ...]
    adapt: Callable[[Any], Any]
    accepts: Callable[[Any], bool] | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """A wire protocol, mounted under every agent that speaks it or once per host.

    `endpoints(host, agent)` returns FastAPI routes (an `APIRouter`) or any ASGI app to put under `prefix`; `agent` is a
    name, or None for scope `host`. `fast` maps (method, path below the agent) to handlers that answer the same requests
    without the router. `render_error(error, correlation_id)` returns `(status, headers, body)` where the dialect has
    its own error shape; None means problem+json. `lifespan(host)` is entered with the host's.

    A protocol with more addresses than one registers a dialect for each; all but one name that one in `part_of`: they
    are chosen, listed and left out with it, by its name.
    """

    name: str
    prefix: str
    endpoints: Callable[[Any, str | None], Any]
    scope: Literal["agent", "host"] = "agent"
    fast: Mapping[tuple[str, str], Callable[..., Any]] = field(default_factory=dict)
    render_error: Callable[[HostError, str], tuple[int, Mapping[str, str], bytes]] | None = None
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]] | None = None
    part_of: str = ""

    @property
    def protocol(self) -> str:
        """The name that `protocols` in agents.toml, cards and the start summary know it by."""
        return self.part_of or self.name


class RegisterAgent(Protocol):
    """`register` as `register_agents` gets it."""

    def __call__(self, name: str, agent: Any) -> None:
        """Offer `agent` under `name`; it is served once agents.toml names it. Raises `ValueError` for a bad name."""
        ...


class RegisterAdapter(Protocol):
    """`register` as `register_adapters` gets it."""

    def __call__(
        self,
        name: str,
        adapt: Callable[[Any], Any],
        *,
        modules: Sequence[str],
        accepts: Callable[[Any], bool] | None = None,
    ) -> None:
        """Offer an `Adapter`."""
        ...


class RegisterAuthenticator(Protocol):
    """`register` as `register_authenticators` gets it."""

    def __call__(self, name: str, authenticator: Authenticator) -> None:
        """Offer `authenticator` under `name`; it runs only where `[auth] use` names it."""
        ...


class RegisterProtocol(Protocol):
    """`register` as `register_protocols` gets it."""

    def __call__(self, dialect: Dialect) -> None:
        """Offer a `Dialect` under its name."""
        ...


class RegisterPlacement(Protocol):
    """`register` as `register_placements` gets it."""

    def __call__(self, name: str, placement: Placement) -> None:
        """Offer `placement` under `name`, the word that `placement = ` in agents.toml uses."""
        ...


@hookspec
def register_agents(register: RegisterAgent, config: Any) -> None:
    """Register agents by code, where entry points in group `agenthost.agents` cannot say it.

    When: at start and at each reload, before agents are loaded, and in each worker process.
    Arguments: `register(name, agent)`; `config`, the frozen configuration (None in a worker).
    On failure: this plugin's agents are `failed`, the host goes on.
    Example:

        @hookimpl
        def register_agents(register, config):
            for region in ("eu", "us"):
                register(f"support-{region}", SupportAgent(region))
    """


@hookspec
def register_adapters(register: RegisterAdapter, config: Any) -> None:
    """Register how a framework's objects become agents. Importing the framework is not allowed here.

    When: at start, and in each worker process, before agents are loaded.
    Arguments: `register(name, adapt, modules=, accepts=)`; `config`, the frozen configuration (None in a worker).
    On failure: agents that need the adapter are `failed`. Two adapters that claim one object are an error as well.
    Example:

        @hookimpl
        def register_adapters(register):
            register("acme", AcmeAgent, modules=["acme_agents"])
    """


@hookspec
def register_authenticators(register: RegisterAuthenticator, config: Any) -> None:
    """Register a way to tell who is calling.

    When: at start and at each reload.
    Arguments: `register(name, authenticator)`; `config`, the frozen configuration.
    On failure: the host refuses to start: a door whose lock is broken stays shut. `agenthost dev` and `AgentServer`,
    which ask no authenticator, go on.
    Example:

        @hookimpl
        def register_authenticators(register):
            register("staff", StaffTokens())
    """


@hookspec
def register_protocols(register: RegisterProtocol, config: Any) -> None:
    """Register a dialect: a wire protocol for every agent, or one address for the whole host.

    When: at start.
    Arguments: `register(dialect)`; `config`, the frozen configuration.
    On failure: the dialect is absent; agents whose `protocols` name it are `failed`.
    Example:

        @hookimpl
        def register_protocols(register):
            register(Dialect("acme", prefix="/acme", endpoints=acme_routes))
    """


@hookspec
def register_placements(register: RegisterPlacement, config: Any) -> None:
    """Register a place where agents run.

    When: at start.
    Arguments: `register(name, placement)`; `config`, the frozen configuration.
    On failure: agents placed there are `failed`.
    Example:

        @hookimpl
        def register_placements(register):
            register("cluster", ClusterPlacement())
    """
