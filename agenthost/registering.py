"""One plugin's hooks: validated by pluggy, called with registrars that check what they are given and hold it back."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pluggy

from agenthost import hookspecs
from agenthost.agents import Placement
from agenthost.auth import Authenticator
from agenthost.blame import Blame, did_you_mean
from agenthost.distributions import AGENT_NAME, AGENT_NAME_RULE
from agenthost.errors import LoadError
from agenthost.hookspecs import ANY_MODULE, PROJECT, Adapter, Dialect

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")

OWN_ADDRESSES: Mapping[str, tuple[str, ...]] = {
    "agent": ("/docs", "/health", "/invoke", "/openapi.json", "/resume", "/runs", "/stream", "/threads"),
    "host": ("/admin", "/agents", "/docs", "/health", "/metrics", "/openapi.json", "/plugins"),
}
"""By scope, the addresses that the host answers itself: no dialect stands at one of them or below."""


class Registrar(Generic[T]):
    """What a hook gets as `register`: it checks each object and keeps it until the hook has returned.

    Raises `TypeError` or `ValueError`, in the plugin's own line, for an object or a name that cannot be used, and
    `RuntimeError` once the hook has returned: registering is for start-up.
    """

    what = ""

    def __init__(self) -> None:
        self.offers: dict[str, T] = {}
        self.closed = False

    def add(self, name: object, value: T) -> None:
        """Keep `value` under `name`, once."""
        if self.closed:
            raise RuntimeError("register works only until its hook returns")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name for {self.what}: use letters, digits, '-', '_' and '.'")
        if name in self.offers:
            raise ValueError(f"{self.what} {name!r} is registered twice")
        self.offers[name] = value

    def need(self, given: object, fits: bool, wanted: str) -> None:
        """Raise `TypeError` unless `fits`, saying what was wanted and what was given."""
        if not fits:
            raise TypeError(f"{self.what} is {wanted}, not {type(given).__name__}")


class AgentRegistrar(Registrar[Any]):
    """`register(name, agent)` of `register_agents`."""

    what = "an agent"

    def __call__(self, name: str, agent: Any) -> None:
        """Keep any object but None: what it is, adapters decide when it is served."""
        if not AGENT_NAME.fullmatch(str(name)):
            raise ValueError(f"{name!r}: {AGENT_NAME_RULE}")
        self.need(agent, agent is not None, "any object but None")
        self.add(name, agent)


class AdapterRegistrar(Registrar[Adapter]):
    """`register(name, adapt, modules=, accepts=)` of `register_adapters`."""

    what = "an adapter"

    def __call__(
        self,
        name: str,
        adapt: Callable[[Any], Any],
        *,
        modules: Sequence[str],
        accepts: Callable[[Any], bool] | None = None,
    ) -> None:
        """Keep an `Adapter`; `modules` are top-level packages, at least one."""
        self.need(adapt, callable(adapt), "a function of the framework's object")
        self.need(accepts, accepts is None or callable(accepts), "narrowed by a function, accepts(obj)")
        listed = not isinstance(modules, str) and isinstance(modules, Collection)
        self.need(modules, listed and all(isinstance(module, str) for module in modules), "given a list of modules")
        if not modules:
            raise ValueError(f"adapter {name!r} names no modules, so no object would ever be its own")
        if ANY_MODULE in modules and accepts is None:
            raise ValueError(f"adapter {name!r} takes objects of any module, so it needs accepts(obj)")
        self.add(name, Adapter(name, tuple(modules), adapt, accepts))


class AuthenticatorRegistrar(Registrar[Authenticator]):
    """`register(name, authenticator)` of `register_authenticators`."""

    what = "an authenticator"

    def __call__(self, name: str, authenticator: Authenticator) -> None:
        """Keep an object with a plain method `authenticate(credentials)`; a coroutine would be true for everybody."""
        method = getattr(authenticator, "authenticate", None)
        usable = callable(method) and not isinstance(authenticator, type)
        self.need(authenticator, usable, "an object with authenticate(credentials)")
        if inspect.iscoroutinefunction(method):
            raise TypeError("an authenticator's authenticate is a plain function, not an async one")
        self.add(name, authenticator)


class ProtocolRegistrar(Registrar[Dialect]):
    """`register(dialect)` of `register_protocols`."""

    what = "a protocol"

    def __call__(self, dialect: Dialect) -> None:
        """Keep a `Dialect` under its name, once all that routing will read of it has been looked at."""
        self.need(dialect, isinstance(dialect, Dialect), "a Dialect")
        self.need(dialect.endpoints, callable(dialect.endpoints), "served by a function, endpoints(host, agent)")
        if dialect.scope not in {"agent", "host"}:
            raise ValueError(f"protocol {dialect.name!r} has scope {dialect.scope!r}; it is 'agent' or 'host'")
        for given, wanted in ((dialect.lifespan, "lifespan(host)"), (dialect.render_error, "render_error(error, id)")):
            self.need(given, given is None or callable(given), f"given a function as {wanted}")
        self.need(dialect.part_of, isinstance(dialect.part_of, str), "given the name of another in part_of")
        self._check_prefix(dialect)
        self._check_fast(dialect)
        self.add(dialect.name, dialect)

    def _check_prefix(self, dialect: Dialect) -> None:
        prefix: object = dialect.prefix
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise ValueError(f"protocol {dialect.name!r} has prefix {prefix!r}; it is '' or like '/{dialect.name}'")
        for own in OWN_ADDRESSES[dialect.scope]:
            if f"{prefix}/".startswith(f"{own}/"):
                raise ValueError(f"protocol {dialect.name!r} has prefix {prefix!r}, and {own!r} is the host's own")

    def _check_fast(self, dialect: Dialect) -> None:
        fast: Any = dialect.fast
        self.need(fast, isinstance(fast, Mapping), "given its fast handlers as a mapping")
        for key, handler in fast.items():
            pair = key if isinstance(key, tuple) and len(key) == 2 else (None, None)
            method, path = (word if isinstance(word, str) else "?" for word in pair)
            below = path.startswith("/") or (path == "" and dialect.prefix != "")
            if not (method.isalpha() and method.isupper() and below):
                raise ValueError(f"protocol {dialect.name!r} has fast handler {key!r}; it is like ('POST', '/path')")
            self.need(handler, callable(handler), f"answered at {key!r} by a function")


class PlacementRegistrar(Registrar[Placement]):
    """`register(name, placement)` of `register_placements`."""

    what = "a placement"

    def __call__(self, name: str, placement: Placement) -> None:
        """Keep an object with `async open(spec)`."""
        usable = callable(getattr(placement, "open", None)) and not isinstance(placement, type)
        self.need(placement, usable, "an object with open(spec)")
        self.add(name, placement)


REGISTRARS: Mapping[str, type[Registrar[Any]]] = {
    "register_agents": AgentRegistrar,
    "register_adapters": AdapterRegistrar,
    "register_authenticators": AuthenticatorRegistrar,
    "register_protocols": ProtocolRegistrar,
    "register_placements": PlacementRegistrar,
}
"""Every hook, in the order they are called, and what it gets as `register`."""


@dataclass(frozen=True, slots=True)
class HookFailure:
    """What went wrong in a plugin that could be imported; `hook` is None where it concerns no single known hook."""

    hook: str | None
    error: LoadError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one plugin brought: the hooks it implements, what each registered by name, and what failed."""

    hooks: tuple[str, ...] = ()
    offers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: tuple[HookFailure, ...] = ()


def call_hooks(plugin: object, name: str, blame: Blame, config: Any, hooks: Collection[str]) -> Outcome:
    """Validate `plugin` and call those of `hooks` that it implements; never raises.

    A hook that raises has registered nothing, the plugin's other hooks count. A plugin with an unknown hook or a wrong
    argument brings nothing: half of it might work without the half that guards it.
    """
    plugins = pluggy.PluginManager(PROJECT)
    plugins.add_hookspecs(hookspecs)
    try:
        plugins.register(plugin, name)
    except BaseException as error:  # noqa: BLE001 - reading a plugin's attributes may raise anything
        return Outcome(failures=(_invalid(plugin, blame, error),))
    callers = plugins.get_hookcallers(plugin) or []
    try:
        plugins.check_pending()
    except pluggy.PluginValidationError:
        return Outcome(failures=tuple(_unknown(c.name, blame) for c in callers if not c.has_spec()))
    implemented = tuple(hook for hook in REGISTRARS if any(caller.name == hook for caller in callers))
    if not implemented:
        reason, advice = "it implements no hook", "mark its functions with @hookimpl (from agenthost import hookimpl)"
        return Outcome(failures=(HookFailure(None, blame.error(reason, advice)),))
    offers: dict[str, Mapping[str, Any]] = {}
    failures: list[HookFailure] = []
    for hook in implemented:
        if hook in hooks:
            registrar = REGISTRARS[hook]()
            failure = _call(getattr(plugins.hook, hook), registrar, blame, config)
            if failure:
                failures.append(HookFailure(hook, failure))
            else:
                offers[hook] = registrar.offers
    return Outcome(implemented, offers, tuple(failures))


def _call(hook: pluggy.HookCaller, registrar: Registrar[Any], blame: Blame, config: Any) -> LoadError | None:
    failed = f"failed in {hook.name}"
    try:
        results = hook(register=registrar, config=config)
    except BaseException as error:  # noqa: BLE001 - a hook may raise anything, SystemExit included
        return blame.error(error, failed=failed)
    finally:
        registrar.closed = True
    # A wrapper may put anything in the place of the list.
    for result in results if isinstance(results, list) else [results]:
        if inspect.iscoroutine(result) or inspect.isgenerator(result):
            result.close()
        if inspect.iscoroutine(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
            return blame.error("a hook is a plain function, neither async nor a generator", failed=failed)
    return None


def _invalid(plugin: object, blame: Blame, error: BaseException) -> HookFailure:
    """Say which argument of which hook is wrong, where pluggy's complaint is about one."""
    if not isinstance(error, pluggy.PluginValidationError):
        return HookFailure(None, blame.error(error))
    hook = next((name for name in REGISTRARS if repr(name) in str(error)), None)
    known = ("register", "config")
    try:
        taken = list(inspect.signature(getattr(plugin, str(hook))).parameters)
    except (AttributeError, TypeError, ValueError):
        taken = []
    wrong = [argument for argument in taken if argument not in known]
    if not wrong:
        return HookFailure(hook, blame.error(" ".join(str(error).split())))
    advice = did_you_mean(wrong[0], known) or "a hook may take register and config"
    return HookFailure(hook, blame.error(f"its {hook} takes {wrong[0]!r}, which the hook does not give", advice))


def _unknown(name: str, blame: Blame) -> HookFailure:
    near = difflib.get_close_matches(name, REGISTRARS, 1)
    advice = f"did you mean {near[0]!r}?" if near else f"the hooks are {', '.join(REGISTRARS)}"
    # The nearest hook is the one that was meant; a lock that is misspelt is a lock that is missing.
    return HookFailure(near[0] if near else None, blame.error(f"it implements {name!r}, which is no hook", advice))
