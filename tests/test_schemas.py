"""What is wrong with an input is said by the schema's own words, never by the input's."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.schemas import input_check

SECRET = "sk-do-not-send-me"

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "word": {"type": "string", "minLength": 3, "pattern": "^[a-z]+$"},
        "list": {"type": "array", "items": {"enum": ["x", "y"]}},
        "pair": {"prefixItems": [{"type": "integer"}]},
        "closed": {"additionalProperties": False},
        "names": {"patternProperties": {"^k": {"type": "integer"}}},
        "short": {"propertyNames": {"maxLength": 2}},
        "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "not": {"not": {"const": SECRET}},
        "properties": {"type": "integer"},
        "named": {"$ref": "#/$defs/Named"},
        "many": {"items": {"$ref": "#/$defs/Named"}},
        "long": {"enum": ["x" * 200]},
    },
    "required": ["word"],
    "$defs": {"Named": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}

WRONG: list[tuple[Any, str]] = [
    ([], "input does not meet 'type' ('object')"),
    ({}, "input does not meet 'required' (['word'])"),
    ({"word": 5}, "input.word does not meet 'type' ('string')"),
    ({"word": "ab"}, "input.word does not meet 'minLength' (3)"),
    ({"word": SECRET}, "input.word does not meet 'pattern' ('^[a-z]+$')"),
    ({"word": "abc", "list": ["x", SECRET]}, "input.list[] does not meet 'enum' (['x', 'y'])"),
    ({"word": "abc", "pair": [SECRET]}, "input.pair[] does not meet 'type' ('integer')"),
    ({"word": "abc", "closed": {SECRET: 1}}, "input.closed does not meet 'additionalProperties' (False)"),
    ({"word": "abc", "names": {f"k{SECRET}": SECRET}}, "input.names.* does not meet 'type' ('integer')"),
    ({"word": "abc", "short": {SECRET: 1}}, "input.short does not meet 'maxLength' (2)"),
    ({"word": "abc", "either": SECRET}, "input.either does not meet 'anyOf' ([{'type': 'integer'}, {'type': 'null'}])"),
    ({"word": "abc", "not": SECRET}, f"input.not does not meet 'not' ({{'const': '{SECRET}'}})"),
    ({"word": "abc", "properties": SECRET}, "input.properties does not meet 'type' ('integer')"),
    ({"word": "abc", "named": {"name": 5}}, "input.named.name does not meet 'type' ('string')"),
    ({"word": "abc", "many": [{"name": "n"}, {}]}, "input.many[] does not meet 'required' (['name'])"),
    ({"word": "abc", "long": SECRET}, "input.long does not meet 'enum'"),
]


@pytest.mark.parametrize(("value", "problem"), WRONG, ids=[row[1] for row in WRONG])
def test_a_problem_says_where_and_which_rule(value: Any, problem: str) -> None:
    assert input_check(SCHEMA)(value) == problem


def test_what_meets_the_schema_has_no_problem() -> None:
    assert input_check(SCHEMA)({"word": "abc", "list": ["x"], "named": {"name": "n"}, "anything": 1}) is None


SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text(string.ascii_uppercase, min_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(list(SCHEMA["properties"])) | st.text(string.ascii_uppercase, min_size=3), inner
        )
    ),
)


@given(VALUES)
def test_no_word_of_the_input_is_ever_repeated(value: Any) -> None:
    problem = input_check(SCHEMA)(value) or ""
    assert not any(word in problem for word in words(value))


def words(value: Any) -> list[str]:
    """Every text in a value that is the caller's own: in capitals, which the schema never uses."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [key for key in value if key.isupper()] + [word for item in value.values() for word in words(item)]
    return [word for item in value for word in words(item)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    "schema",
    [
        5,
        {"type": 5},
        {"type": "nonsense"},
        {"$ref": "#/nowhere"},
        {"$ref": "http://else.where/schema"},
        {"pattern": "("},
    ],
    ids=str,
)
def test_a_schema_that_is_none_is_refused_and_nothing_is_fetched(schema: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        input_check(schema)


def test_older_drafts_are_spoken_where_the_schema_says_so() -> None:
    check = input_check({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "integer"}]})
    assert check(["x"]) == "input[] does not meet 'type' ('integer')"
