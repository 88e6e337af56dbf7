"""Which keys are named like a secret: a literal under one stops the start, its value is scrubbed from logs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from agenthost.config.lines import Keys

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_SECRET = re.compile(
    "secret|password|passwd|pwd|passphrase|passcode|bearer|jwt|pat|authorization|authtoken|accesstoken|refreshtoken"
    "|apitoken|bearertoken|privatekey|accesskey|.*(?:password|passphrase|apikey|secretkey|clientsecret)"
)
_KEY_OF = re.compile(
    "access|account|admin|aes|anthropic|api|auth|azure|client|cohere|deepseek|encryption|gemini|google|groq|hmac"
    "|huggingface|jwt|license|master|mistral|openai|openrouter|private|secret|service|shared|signature|signing|ssh|ssl"
    "|subscription|tls|webhook|xai"
)
_PASS_OF = re.compile("auth|db|mail|mongo|mysql|pg|postgres|redis|smtp|user")
_VOCABULARY = re.compile(
    "added|allowed|begin|bos|cached|class|cls|completion|count|decoder|end|eos|extra|forced|image|input|limit|mask|max"
    "|min|new|next|num|number|output|pad|per|prompt|reasoning|sep|special|start|stop|suppress|think|thinking|total|unk"
    "|used"
)
"""Words before `token` in the speech of language models, where a token is a piece of text and no credential."""

_TAILS = frozenset({"value", "string", "str", "text", "pem", "base", "hex", "raw"})
_FORMS = ("env", "file", "sha256")


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether a key of this name holds a secret: its last words decide (`api_key`, `DB_PASSWORD`, `authToken`).

    `max_tokens`, `stop_token`, `token_limit`, `tokenizer`, `public_key` and `api_key_file` do not.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    while len(words) > 1 and (words[-1].isdigit() or words[-1] in _TAILS):
        words.pop()
    if not words:
        return False
    last = words[-1] if words[-1].endswith("ss") else words[-1].removesuffix("s")
    before = words[-2] if len(words) > 1 else ""
    if last == "token":
        return not _VOCABULARY.fullmatch(before)
    if last == "key":
        return bool(_KEY_OF.fullmatch(before))
    if last == "pass":
        return bool(_PASS_OF.fullmatch(before))
    return bool(_SECRET.fullmatch(last))


def literal_secrets(node: Mapping[str, Any], keys: Keys = ()) -> Iterator[Keys]:
    """Yield where `node`, a table as TOML gave it, holds a secret written out in a key named like one.

    The value forms `{ env }`, `{ file }` and `{ sha256 }` are none, unless a `default` holds the literal; nor are an
    empty string, a boolean, and a number in a key called token.
    """
    for name, value in node.items():
        yield from _literals(name, value, (*keys, name), is_secret(name))


def _literals(name: str, value: Any, here: Keys, secret: bool) -> Iterator[Keys]:
    if isinstance(value, dict):
        if secret and any(isinstance(value.get(form), str) for form in _FORMS):
            if value.get("default"):
                yield (*here, "default")
            return
        for inner, item in value.items():
            yield from _literals(inner, item, (*here, inner), is_secret(inner) or (secret and _many(name)))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _literals(name, item, (*here, position), secret)
    elif secret and _is_literal(name, value):
        yield here


def _is_literal(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return value != ""
    return isinstance(value, int | float) and not isinstance(value, bool) and "token" not in name.lower()


def _many(name: str) -> bool:
    """`tokens = { alice = "…" }` holds secrets by name; `token = { type = "bearer" }` says something about one."""
    return name.lower().endswith("s")


def secret_values(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the strings that stand in keys named like a secret, in a table whose value forms are resolved."""
    for name, value in node.items():
        yield from _values(name, value, is_secret(name))


def _values(name: str, value: Any, secret: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner, item in value.items():
            yield from _values(inner, item, is_secret(inner) or (secret and _many(name)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _values(name, item, secret)
    elif secret and isinstance(value, str) and value:
        yield value
