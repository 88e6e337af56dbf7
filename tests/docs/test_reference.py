"""What the manual lists is what the code has: hooks, settings, routes, error codes, variables, commands."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib import import_module

import click
import pytest
from fastapi.routing import APIRoute

from agenthost import RunContext, hookspecs
from agenthost.cli import agenthost as command_line
from agenthost.config import Config, StoreConfig, reference
from agenthost.errors import RequestError, RunError, catalogue
from agenthost.events import Event
from agenthost.host import Host
from agenthost.http.agent_app import agent_app
from agenthost.http.host_routes import host_app
from agenthost.http.security import PUBLIC
from agenthost.protocols import native, openai
from agenthost.registering import REGISTRARS
from tests.docs.pages import page, pages
from tests.house.tree import PACKAGE, Module, modules

ERRORS = page("errors.md")
HTTP = page("http.md")
CONFIGURATION = page("configuration.md")
AGENTS = page("agents.md")
SECURITY = page("security.md")
COMMANDS = page("commands.md")


# ── hooks and agents ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", REGISTRARS)
def test_a_hooks_heading_is_its_signature(name: str):
    hook = getattr(hookspecs, name)
    assert f"`{name}({', '.join(inspect.signature(hook).parameters)})`" in AGENTS.headings(3)


@pytest.mark.parametrize("name", REGISTRARS)
def test_what_a_hook_registers_with_is_told_as_it_is_called(name: str):
    register = inspect.signature(REGISTRARS[name].__call__)
    shown = ", ".join(
        f"{parameter.name}=" if parameter.kind is parameter.KEYWORD_ONLY else parameter.name
        for parameter in list(register.parameters.values())[1:]
    )
    hook = getattr(hookspecs, name)
    heading = f"`{name}({', '.join(inspect.signature(hook).parameters)})`"
    assert f"`register({shown})`" in AGENTS.section(heading)


def test_no_hook_is_documented_that_is_not_there():
    told = {heading.partition("(")[0].strip("`") for heading in AGENTS.headings(3) if heading.startswith("`register_")}
    assert told == set(REGISTRARS)


def test_every_event_an_agent_may_say_is_told_with_its_fields():
    rows = dict(re.findall(r"^\| `(\w+)\(.*\)` \| `([\w-]+)` \|", AGENTS.text, re.MULTILINE))
    by_agents = {kind.__name__: kind.kind for kind in Event.__subclasses__() if kind.__name__ not in {"Done", "Error"}}
    assert rows == by_agents | {"Custom": "x-name"} | {"Result": "done"}
    for kind in Event.__subclasses__():
        if kind.__name__ in by_agents:
            fields = ", ".join(field.name for field in dataclasses.fields(kind))  # type: ignore[arg-type]  # each is one
            assert f"`{kind.__name__}({fields})`" in AGENTS.text


def test_everything_an_agent_is_given_is_told_and_nothing_else():
    told = set(re.findall(r"^\| `ctx\.(\w+)", AGENTS.section("What an agent is given"), re.MULTILINE))
    fields = {field.name for field in dataclasses.fields(RunContext)}
    made = {name for name, value in vars(RunContext).items() if isinstance(value, property) or name == "call"}
    assert told == (fields | made) - {"call_agent"}


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_reference_of_settings_is_the_one_the_models_make():
    assert reference() in CONFIGURATION.text


# ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _routes() -> set[tuple[str, str]]:
    host = Host(Config(store=StoreConfig(url="memory:")), builtins=(native, openai))
    host.prepare()
    try:
        found = {(method, path) for method, path in _paths(host_app(host))}
        dialects = [dialect for dialect in host.dialects.values() if dialect.scope == "agent"]
        below = agent_app(host, "name", "Title", "What it does", dialects)
        found |= {(method, f"/agents/{{name}}{path}") for method, path in _paths(below)}
    finally:
        host.store.close()
    return found


def _paths(app: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in app.routes:  # type: ignore[attr-defined]  # a FastAPI app, or a router inside one
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if inner is not None and not isinstance(route, APIRoute):
            own = getattr(getattr(route, "include_context", None), "prefix", "")
            yield from _paths(route if getattr(route, "routes", None) else route.original_router, prefix + own)
            continue
        for method in sorted(route.methods - {"HEAD"}):
            yield method, prefix + route.path.replace(":path}", "}")


def test_every_route_is_told_and_no_other():
    told = re.findall(r"^\| `([A-Z]+) (/\S*)` \|", HTTP.text, re.MULTILINE)
    assert len(told) == len(set(told))
    assert set(told) == _routes()


def test_what_is_public_is_told():
    told = set(re.findall(r"^- `GET (/\S+)`", SECURITY.section("What is public"), re.MULTILINE))
    assert told == PUBLIC


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_code_is_told_with_its_status_and_title_and_no_other():
    told = re.findall(r"^\| `([a-z_]+)` \| ([0-9]{3}|—) \| ([^|]+) \|", ERRORS.text, re.MULTILINE)
    known = []
    for name in modules():
        if not name.startswith("__"):  # an error may be a module's own
            import_module(f"{PACKAGE}.{name}" if name != PACKAGE else PACKAGE)
    for kind in catalogue():
        seen = issubclass(kind, RequestError | RunError) or kind.code in {"internal"}
        row = (kind.code, str(kind.status) if seen else "—", kind.title)
        if row[0] not in [code for code, _status, _title in known]:
            known.append(row)
    assert sorted(told) == sorted(known)


def test_a_row_says_when_and_what_to_do():
    rows = [line for line in ERRORS.text.splitlines() if re.match(r"\| `[a-z_]+` \|", line)]
    for row in rows:
        _code, _status, _title, when, remedy = (cell.strip() for cell in row.strip("|").split("|"))
        assert len(when) > 10
        assert len(remedy) > 10


# ── environment variables ─────────────────────────────────────────────────────────────────────────────────────────────

NAMED_BY_OTHERS = {("config.forms", "variable"), ("cli.env_files", "name")}
"""Where a variable's name comes from agents.toml, or from a `.env`."""


def _variables() -> set[str]:
    """Every environment variable the code reads, found where it takes something out of an environment."""
    found = set()
    for module in modules().values():
        for node in ast.walk(module.tree):
            name = _read_from_environment(node)
            if name is not None:
                found |= _spelled(name, module)
    return found


def _read_from_environment(node: ast.AST) -> ast.expr | None:
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg == "envvar":
                return keyword.value
        called = ast.unparse(node.func)
        if node.args and (called.endswith("environ.get") or called in {"os.getenv", "getenv", "os.environ.pop"}):
            return node.args[0]
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
        return node.slice
    if isinstance(node, ast.Compare) and any(ast.unparse(one).endswith("environ") for one in node.comparators):
        return node.left
    return None


def _spelled(name: ast.expr, module: Module) -> set[str]:
    if isinstance(name, ast.Constant):
        return {str(name.value)}
    shown = ast.unparse(name)
    if (module.name, shown) in NAMED_BY_OTHERS:
        return set()
    for other in modules().values():
        for node in other.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == shown.rpartition(".")[2]:
                return {str(ast.literal_eval(node.value))}
    raise AssertionError(f"{module.shown}: which environment variable is {shown}?")


def test_every_variable_the_code_reads_is_told_and_no_other():
    told = set(re.findall(r"^\| `([A-Z_]+)` \|", COMMANDS.section("Environment variables"), re.MULTILINE))
    assert told == _variables()


def test_no_page_names_a_variable_of_ours_that_is_not_read():
    named = {name for one in pages() for name in re.findall(r"\b(?:AGENTHOST|LOCUS)_[A-Z_]+\b", one.text)}
    assert named <= _variables()


# ── the command line ──────────────────────────────────────────────────────────────────────────────────────────────────


def _commands() -> dict[str, click.Command]:
    found = {}
    context = click.Context(command_line)
    for name in command_line.list_commands(context):
        command = command_line.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            inner = click.Context(command)
            for deeper in command.list_commands(inner):
                child = command.get_command(inner, deeper)
                assert child is not None
                found[f"{name} {deeper}"] = child
        else:
            found[name] = command
    return found


def test_every_command_has_a_heading_and_no_other():
    told = [heading.strip("`").removeprefix("agenthost ") for heading in COMMANDS.headings(3)]
    assert [_named(heading) for heading in told] == sorted(_commands(), key=[*_commands()].index)


def _named(heading: str) -> str:
    """`keys new ID [--x]` is `keys new`."""
    return " ".join(word for word in heading.split() if re.fullmatch(r"[a-z]+", word))


@pytest.mark.parametrize("name", [*_commands()])
def test_every_option_of_a_command_is_told_and_no_other(name: str):
    command = _commands()[name]
    heading = next(one for one in COMMANDS.headings(3) if _named(one.strip("`").removeprefix("agenthost ")) == name)
    section = COMMANDS.section(heading)
    options = {
        max([*one.opts, *one.secondary_opts], key=len) if not one.secondary_opts else one.secondary_opts[0]
        for one in command.params
        if isinstance(one, click.Option) and not one.hidden
    }
    told = set(re.findall(r"^\| `(--[a-z-]+)(?: [A-Z|a-z]+)?` \|", section, re.MULTILINE))
    assert told == options
    arguments = [one.make_metavar(click.Context(command)) for one in command.params if isinstance(one, click.Argument)]
    for argument in arguments:
        assert argument.strip("[]") in heading
