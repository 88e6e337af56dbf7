"""Which names are secrets, and where secrets are written out."""

from __future__ import annotations

import pytest

from agenthost.config.secret_names import is_secret, literal_secrets, secret_values

SECRET = """
    api_key apikey API_KEY OPENAI_API_KEY apiKey APIKey openai_key x-api-key token tokens access_token accessToken
    GITHUB_TOKEN bot_token refresh_token auth-token secret client_secret SECRET_KEY secretKey secret_access_key password
    passwords db_password dbpassword PGPASSWORD passwd passphrase private_key signing_key webhook_secret jwt github_pat
    Authorization bearer api_key_2 api_keys smtp_pass private_key_pem password_value AWS_SECRET_ACCESS_KEY
"""
PLAIN = """
    max_tokens max_token token_limit tokenizer stop_token eos_token pad_token special_tokens num_tokens input_tokens
    maxTokens public_key primary_key key keys sort_key api_key_file api_key_env token_url secret_name secret_arn
    access_key_id password_field pass monkey turkey keyboard tokenization model author path patience compass secretary
    "" 1 __ é cached_tokens reasoning_tokens prompt_token_count passport env file default
"""


@pytest.mark.parametrize("name", SECRET.split())
def test_a_name_of_a_secret_is_known(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", PLAIN.split())
def test_a_name_of_something_else_is_left_alone(name):
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        ({"api_key": "x"}, [("api_key",)]),
        ({"api_key": ""}, []),
        ({"api_key": True}, []),
        ({"password": 1234}, [("password",)]),
        ({"tokens": 1234}, []),
        ({"api_key": {"env": "X"}}, []),
        ({"api_key": {"env": "X", "default": ""}}, []),
        ({"api_key": {"env": "X", "default": "x"}}, [("api_key", "default")]),
        ({"api_key": {"file": "x"}}, []),
        ({"secret": {"sha256": "x"}}, []),
        ({"a": {"b": [{"password": "x"}]}}, [("a", "b", 0, "password")]),
        ({"tokens": ["x", {"env": "X"}, "y"]}, [("tokens", 0), ("tokens", 2)]),
        ({"tokens": {"alice": "x", "bob": {"env": "X"}}}, [("tokens", "alice")]),
        ({"token": {"type": "bearer", "url": "x"}}, []),
        ({"token": {"value": "x", "secret": "x"}}, [("token", "secret")]),
        ({"model": {"env": "X", "default": "x"}}, []),
    ],
)
def test_secrets_that_are_written_out_are_found(tree, found):
    assert list(literal_secrets(tree)) == found


def test_the_values_of_secrets_are_found_wherever_they_stand():
    tree = {
        "api_key": "a",
        "model": "no",
        "deep": [{"password": "b", "user": "no"}],
        "tokens": {"alice": "c", "bob": ["d", ""]},
        "token": {"type": "no"},
        "secret": 5,
    }
    assert set(secret_values(tree)) == {"a", "b", "c", "d"}
