"""agenthost: serve pip-installed AI agents of any framework, many at once, from one process and one file."""

from importlib import import_module
from typing import Any

_HOME = {
    "Agent": "agents",
    "AgentError": "errors",
    "AgentPaused": "errors",
    "AgentServer": "agent_server",
    "AgentUnavailable": "errors",
    "Answer": "agents",
    "Artifact": "events",
    "AsyncClient": "client",
    "Authenticator": "auth",
    "Client": "client",
    "Credentials": "auth",
    "Custom": "events",
    "Dialect": "hookspecs",
    "Event": "events",
    "Health": "agents",
    "HostError": "errors",
    "Interrupt": "events",
    "InvalidRequest": "errors",
    "LoadError": "errors",
    "Message": "threads",
    "ModelChunk": "events",
    "Part": "threads",
    "Principal": "auth",
    "Result": "events",
    "RunContext": "agents",
    "RunRequest": "agents",
    "RunResult": "agents",
    "Think": "events",
    "ThreadKey": "threads",
    "ToolComplete": "events",
    "ToolProgress": "events",
    "ToolStart": "events",
    "Unauthorized": "errors",
    "Usage": "events",
    "agent": "adapters",
    "approval_of": "approvals",
    "ask_approval": "approvals",
    "create_app": "http.app",
    "hookimpl": "hookspecs",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - the table above is the one list of names


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'agenthost' has no attribute {name!r}")
    return getattr(import_module(f"agenthost.{home}"), name)
