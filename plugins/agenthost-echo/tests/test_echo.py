"""The echo agent says the prompt back unchanged, in words, and counts a thread's turns."""

import asyncio
from importlib.metadata import entry_points

import pytest
from agenthost_echo import agent
from hypothesis import given
from hypothesis import strategies as st

from agenthost import Message, Principal, RunContext, ThreadKey


def run(prompt: str, *earlier: Message, thread: bool = False) -> list[str]:
    """The pieces one run yields for `prompt`, after `earlier` messages."""
    ctx = RunContext(
        prompt=prompt,
        run_id="run-1",
        agent="echo",
        principal=Principal("ada"),
        history=earlier,
        thread=ThreadKey("ada", "echo", "t") if thread else None,
    )

    async def collect() -> list[str]:
        return [piece async for piece in agent(ctx)]

    return asyncio.run(collect())


def test_the_prompt_comes_back_word_by_word() -> None:
    assert run("hello brave  world") == ["hello ", "brave  ", "world"]


@given(st.text() | st.text(alphabet=" \t\n\r\u2028\u00a0ab"))
def test_the_pieces_joined_are_the_prompt_exactly(prompt: str) -> None:
    pieces = run(prompt)

    assert "".join(pieces) == prompt
    assert all(pieces)


def test_a_prompt_without_words_comes_back_too() -> None:
    assert run(" \n ") == [" \n "]


def test_an_empty_prompt_gets_an_empty_answer() -> None:
    assert run("") == []


@pytest.mark.parametrize("character", ["a", " ", "\U0001f600"])
def test_a_word_without_end_comes_in_pieces_far_smaller_than_an_event_may_be(character: str) -> None:
    pieces = run(character * 2_000_000)

    assert "".join(pieces) == character * 2_000_000
    assert max(len(piece.encode()) for piece in pieces) <= 8_000


def test_a_threads_first_turn_is_the_prompt_alone() -> None:
    assert "".join(run("hello world", thread=True)) == "hello world"


def test_a_threads_later_turns_start_with_their_number() -> None:
    first = [Message.of("user", "hello world"), Message.of("assistant", "hello world")]
    second = [Message.of("user", "and again"), Message.of("assistant", "(2) and again")]

    assert "".join(run("and again", *first, thread=True)) == "(2) and again"
    assert "".join(run("a  b\nc", *first, *second, thread=True)) == "(3) a  b\nc"


def test_the_installed_distribution_offers_this_agent_as_echo() -> None:
    (found,) = entry_points(group="agenthost.agents", name="echo")

    assert found.dist is not None
    assert found.dist.name == "agenthost-echo"
    assert found.load() is agent
