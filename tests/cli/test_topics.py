"""`agenthost help`."""

from __future__ import annotations

import pytest

from agenthost.cli.topics import MANUAL, topics
from tests.cli.conftest import Type

PAGES = ("agents", "configuration", "errors", "http", "security")


def test_the_pages_of_the_manual_are_topics():
    assert set(PAGES) <= set(topics())


def test_without_a_topic_it_lists_them_with_their_titles(enter: Type):
    ended = enter("help")
    assert (ended.code, ended.err) == (0, "")
    for name, page in topics().items():
        title = page.read_text().splitlines()[0].removeprefix("# ")
        assert any(line.split(None, 1) == [name, title] for line in ended.out.splitlines()), name
    assert ended.out.endswith("\nagenthost help TOPIC prints one; agenthost COMMAND --help tells a command's options\n")


@pytest.mark.parametrize("topic", sorted(topics()))
def test_a_topic_is_its_page(enter: Type, topic: str):
    assert enter("help", topic).out == (MANUAL / f"{topic}.md").read_text()


def test_a_topic_that_is_not_there_is_answered_with_the_nearest(enter: Type):
    ended = enter("help", "confguration")
    assert ended.code == 2
    assert ended.err.endswith("Error: there is no topic 'confguration'; did you mean 'configuration'?\n")


def test_a_word_that_is_near_nothing_is_answered_with_all_topics(enter: Type):
    ended = enter("help", "xyzzy")
    assert ended.code == 2
    assert ended.err.endswith(f"Error: there is no topic 'xyzzy'; there are {', '.join(topics())}\n")


def test_a_path_is_no_topic(enter: Type):
    assert enter("help", "../../README").code == 2
