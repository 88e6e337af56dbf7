"""OpenAI's API for every agent, under `/v1`: `model` is an agent's name; models, chat completions and responses."""

from agenthost.hookspecs import Dialect, RegisterProtocol, hookimpl
from agenthost.protocols.openai.refusals import render_error
from agenthost.protocols.openai.routes import endpoints
from agenthost.protocols.openai.starting import PROTOCOL

OPENAI = Dialect(PROTOCOL, prefix="/v1", endpoints=endpoints, scope="host", render_error=render_error)


@hookimpl
def register_protocols(register: RegisterProtocol) -> None:
    """Register the dialect, through the door every dialect uses."""
    register(OPENAI)
