"""How the client uses httpx."""

from __future__ import annotations

import httpx
import pytest

from agenthost.client.asking import Ask
from agenthost.client.connection import explained, request, settings
from agenthost.client.failures import HostUnreachable
from agenthost.client.steps import ConnectionBroke


@pytest.mark.parametrize("api_key", ["", " ", "schlüssel-0123456789", "two\r\nx: lines-0123456789"])
def test_a_key_that_cannot_be_sent_is_refused_without_repeating_it(api_key: str):
    with pytest.raises(ValueError) as refused:
        settings("http://host", api_key)
    assert str(refused.value) == "an API key is made of visible ASCII characters"


def test_a_key_is_sent_as_a_bearer_token():
    assert settings("http://host", " k ")["headers"]["authorization"] == "Bearer k"
    assert "authorization" not in settings("http://host", None)["headers"]


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://127.0.0.1:8000", False),
        ("http://localhost", False),
        ("http://[::1]:1", False),
        ("https://agents.example", True),
        ("http://10.0.0.1", True),
        ("http://[::1", True),
    ],
)
def test_a_proxy_of_the_environment_is_asked_for_other_machines_only(url: str, asked: bool):
    assert settings(url, None)["trust_env"] is asked


def test_a_request_says_how_long_silence_is_suffered():
    timeout = request("http://host", Ask("GET", "/x"))["timeout"]
    assert (timeout.connect, timeout.read, timeout.pool) == (10.0, 60.0, None)
    assert request("http://host", Ask("GET", "/x", silence=2.0))["timeout"].connect == 2.0


def test_what_httpx_raises_is_said_in_our_own_terms():
    refused = explained(httpx.ConnectError("x"), "http://host")
    assert isinstance(refused, ConnectionBroke)
    assert refused.unreachable
    cut = explained(httpx.ReadError("x"), "http://host")
    assert isinstance(cut, ConnectionBroke)
    assert (cut.why, cut.unreachable) == ("ReadError", False)
    for error in (httpx.InvalidURL("x"), httpx.UnsupportedProtocol("x")):
        wrong = explained(error, "nowhere")
        assert isinstance(wrong, HostUnreachable)
        assert wrong.detail == "'nowhere' is not an address such as http://127.0.0.1:8000"
