"""Configuration as strangers may see it."""

from __future__ import annotations

import json
import tomllib

import pytest

from agenthost.config.redaction import HIDDEN, LONGEST, Redactor, as_lines

SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    "line",
    [
        f'api_key = "{SECRET}"',
        f'API_KEY = ["{SECRET}"]',
        f'passwords = {{ alice = "{SECRET}" }}',
        f'token = {{ type = "x", value = "{SECRET}" }}',
        f'token = {{ deep = [{{ deeper = "{SECRET}" }}] }}',
        f'secret = {{ env = "X", default = "{SECRET}" }}',
        f'secret = {{ env = "{SECRET}" }}',
        f'secret = {{ file = ["{SECRET}"], env = "X" }}',
        f'secret = {{ sha256 = "{SECRET}" }}',
        f'sha256 = "{SECRET}"',
        f'headers = {{ Authorization = "{SECRET}", Cookie = "{SECRET}", x-api-key = "{SECRET}" }}',
        f'credentials = "{SECRET}"',
        f'url = "postgresql://user:{SECRET}@db.example/x"',
        f'url = "https://{SECRET}@example.com/x"',
        f'url = "https://example.com/?a=1&api_key={SECRET}&b=2"',
        f'api_key = "{SECRET}"\nargs = ["--key", "{SECRET}"]',
        f'args = ["--key={SECRET}"]\n[later]\napi_key = "{SECRET}"',
        f'args = ["Bearer {SECRET}"]',
        f'tokens = {{ "{SECRET}" = "{SECRET}" }}',
    ],
)
def test_no_secret_is_left_wherever_it_stands(line):
    redactor = Redactor()
    shown = json.dumps(redactor.tree(tomllib.loads(line)))
    assert SECRET not in redactor.text(shown)
    assert HIDDEN in shown


@pytest.mark.parametrize("key", ["sk-proj-abcdefgh1234567890", "ghp_abcdefgh1234567890", "ah_abcdefgh1234567890"])
def test_what_has_the_looks_of_a_key_is_hidden_under_any_name(key):
    assert Redactor().tree({"model": [f"x {key} y"]}) == {"model": ["x *** y"]}


def test_a_secret_that_came_from_elsewhere_is_hidden_in_every_text():
    assert Redactor([SECRET]).text(f"expected a number, got '{SECRET}'") == "expected a number, got '***'"


def test_a_secret_of_a_few_characters_does_not_blank_out_words():
    redactor = Redactor(["on"])
    assert redactor.tree({"password": "on", "x": "one"}) == {"password": "***", "x": "one"}


def test_what_is_no_secret_is_shown_as_it_was_written():
    tree = tomllib.loads(
        '[server]\nport = 8000\n[agents.billing]\nenabled = false\nsettings.api_key = { env = "BILLING_KEY" }\n'
        'settings.password = { file = "/run/secrets/x" }\nsettings.max_tokens = 5\nsettings.token = 1\n'
        'settings.secret = ""\nsettings.ratio = 0.5\nsettings.url = "https://api.example.com/v1?page=1"\n'
        'settings.public_key = "abc"\n'
    )
    assert Redactor().tree(tree) == tree


def test_values_that_json_does_not_know_become_text():
    tree = tomllib.loads("day = 2026-11-24\nmost = inf\nnone = nan\n")
    assert Redactor().tree(tree) == {"day": "2026-11-24", "most": "inf", "none": "nan"}


def test_a_long_text_is_cut():
    shown = Redactor().tree({"instructions": "x" * 5000})["instructions"]
    assert shown == "x" * LONGEST + "… (5000 characters)"


def test_what_utf8_cannot_carry_is_spelled_out():
    assert Redactor().text("a\udcffb") == "a\\udcffb"


def test_every_value_has_a_line_with_the_keys_that_lead_to_it():
    tree = {"server": {"port": 1}, "agents": {"a": {"settings": {"key x": "é", "none": {}}}}, "list": [{"id": "w"}]}
    assert list(as_lines(tree)) == [
        "server.port = 1",
        'agents.a.settings."key x" = "é"',
        "agents.a.settings.none = {}",
        'list = [{"id": "w"}]',
    ]
