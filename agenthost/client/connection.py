"""How the client uses httpx, in both its forms: headers, limits, proxies, and what is made of what httpx raises."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import httpx

from agenthost.client.asking import Ask
from agenthost.client.failures import HostUnreachable
from agenthost.client.steps import Answer, ConnectionBroke

DEFAULT_URL = "http://127.0.0.1:8000"

CONNECT = 10.0
"""Seconds to reach the host."""

ERRORS = (httpx.HTTPError, httpx.InvalidURL)
"""What httpx raises when a request does not bring a reply."""


def settings(url: str, api_key: str | None) -> dict[str, Any]:
    """What an httpx client is made with. Raises `ValueError` for a key that cannot be sent, without repeating it."""
    headers = {"accept": "application/json"}
    if api_key is not None:
        if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
            raise ValueError("an API key is made of visible ASCII characters")
        headers["authorization"] = f"Bearer {api_key.strip()}"
    return {
        "headers": headers,
        "limits": httpx.Limits(max_connections=None),
        "trust_env": not _is_local(url),  # a proxy cannot reach this machine for us
    }


def _is_local(url: str) -> bool:
    host = ""
    try:
        host = urlsplit(url).hostname or ""
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def request(url: str, ask: Ask) -> dict[str, Any]:
    """The arguments of an httpx request."""
    timeout = httpx.Timeout(ask.silence, connect=min(CONNECT, ask.silence), pool=None)
    return {
        "method": ask.method,
        "url": url + ask.path,
        "headers": dict(ask.headers),
        "content": ask.body,
        "timeout": timeout,
    }


def answer(reply: httpx.Response, body: bytes = b"") -> Answer:
    """What the logic is told of a reply."""
    return Answer(reply.status_code, dict(reply.headers), body, str(reply.url))


def explained(error: Exception, url: str) -> ConnectionBroke | HostUnreachable:
    """What httpx raised, in the client's own terms."""
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return HostUnreachable(f"{url!r} is not an address such as {DEFAULT_URL}")
    return ConnectionBroke(
        type(error).__name__, unreachable=isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    )
