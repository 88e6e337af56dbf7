"""How a problem is told: place, key, nearest word."""

from __future__ import annotations

import pytest

from agenthost.config.problems import Problems, key_text, nearest, place
from agenthost.errors import ConfigError


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("server",), "[server]"),
        (("server", "port"), "[server] port"),
        (("server", "cors_origins", 3), "[server] cors_origins"),
        (("auth", "keys"), "[auth] keys"),
        (("auth", "keys", 0), "[[auth.keys]]"),
        (("auth", "keys", 0, "secret", "sha256"), "[[auth.keys]] secret.sha256"),
        (("agents",), "[agents]"),
        (("agents", "echo"), "[agents.echo]"),
        (("agents", "a b", "settings", "x y", 0, "z"), '[agents."a b"] settings."x y".z'),
    ],
)
def test_a_place_is_told_as_the_file_would_write_it(keys, told):
    assert place(keys) == told


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("a-b_1", "a-b_1"),
        ("a.b", '"a.b"'),
        ("\n\u202e", '"\\n\\u202e"'),
        ("", '""'),
        ("a" * 61, '"' + "a" * 59 + '\\u2026"'),
    ],
)
def test_a_key_is_one_harmless_line(key, told):
    assert key_text(key) == told


@pytest.mark.parametrize(
    ("word", "meant"),
    [("placment", "placement"), ("LOAD-TIMEOUT", "load_timeout"), ("zonk", None), ("", None), ("x" * 10000, None)],
)
def test_the_nearest_word_is_found(word, meant):
    assert nearest(word, ["placement", "load_timeout", "queue"]) == meant


def test_problems_are_told_once_in_the_order_of_the_file_those_without_a_place_first():
    problems = Problems("f.toml", "[a]\nb = 1\n\nc = 2")
    assert not problems
    problems.add(("a", "c"), "third")
    problems.add(("a", "b"), "second")
    problems.add(("a", "b"), "second")
    problems.add(("zonk",), "first of all")
    problems.add_outside("VARIABLE: first")
    assert problems
    with pytest.raises(ConfigError) as caught:
        problems.raise_any()
    assert caught.value.problems == (
        "f.toml: first of all",
        "VARIABLE: first",
        "f.toml:2: second",
        "f.toml:4: third",
    )


def test_a_text_that_cannot_be_scanned_costs_the_line_numbers_only():
    problems = Problems("f.toml", "a = [1")
    problems.add(("a",), "told")
    with pytest.raises(ConfigError) as caught:
        problems.raise_any()
    assert caught.value.problems == ("f.toml: told",)


def test_no_problem_raises_nothing():
    Problems("f.toml", "").raise_any()
