"""A client of a running host: `Client` for programs that wait, `AsyncClient` for asyncio, one logic for both."""

from agenthost.client.async_client import AsyncClient
from agenthost.client.connection import DEFAULT_URL
from agenthost.client.failures import CallFailed, HostUnreachable
from agenthost.client.replies import (
    AgentCard,
    Event,
    Failure,
    Interrupt,
    RunReply,
    RunState,
    Thread,
    ThreadSummary,
    read_interrupt,
)
from agenthost.client.sync_client import Client

__all__ = [
    "DEFAULT_URL",
    "AgentCard",
    "AsyncClient",
    "CallFailed",
    "Client",
    "Event",
    "Failure",
    "HostUnreachable",
    "Interrupt",
    "RunReply",
    "RunState",
    "Thread",
    "ThreadSummary",
    "read_interrupt",
]
