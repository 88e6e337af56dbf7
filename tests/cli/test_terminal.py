"""Text on a terminal."""

from __future__ import annotations

import pytest

from agenthost.cli.terminal import complain, harmless, murmur, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünï, 日本\n\tagain", "plain, ünï, 日本\n\tagain"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("over\rwritten", "over\\rwritten"),
        ("\x9b2J", "\\x9b2J"),
        ("a\u2028b\u202ec\u2066d", "a\\u2028b\\u202ec\\u2066d"),
        ("\x7f\x00", "\\x7f\\x00"),
    ],
)
def test_control_characters_are_spelled_out(text: str, shown: str):
    assert harmless(text) == shown


def test_what_was_asked_for_goes_to_stdout_and_what_is_wrong_to_stderr(capsys: pytest.CaptureFixture[str]):
    say("an\x1b[1m")
    say("swer", end="")
    complain("no\x1b[1m")
    assert capsys.readouterr() == ("an\\x1b[1m\nswer", "no\\x1b[1m\n")


def test_what_goes_on_beside_it_is_on_stderr_and_without_colours_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
):
    murmur("beside\x1b[1m")
    assert capsys.readouterr() == ("", "beside\\x1b[1m\n")
