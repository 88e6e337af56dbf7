"""What is new in a conversation, what came before, and what only answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agenthost.errors import InvalidRequest
from agenthost.protocols.openai.dialogue import audio_part, conversation, decoded, file_of, file_part, text_part
from agenthost.protocols.openai.pauses import Given
from agenthost.threads import Message, Part

GIVEN = Given("0" * 32, "q", "yes")


def said(*roles: str) -> list[Message]:
    return [Message.of(role, f"{role} {at}") for at, role in enumerate(roles)]  # type: ignore[arg-type]  # they are


def test_the_last_message_of_the_user_is_new_and_system_messages_behind_it_are_not() -> None:
    found = conversation(said("system", "user", "assistant", "user", "system"), (), "messages")
    assert found.prompt == "user 3"
    assert found.content is None
    assert [message.text for message in found.history] == ["system 0", "user 1", "assistant 2", "system 4"]


def test_parts_are_kept_where_there_is_more_than_text() -> None:
    image = Part(media_type="image/png", uri="http://a/b.png")
    found = conversation([Message("user", (Part(text="see"), image))], (), "messages")
    assert (found.prompt, found.content) == ("see", (Part(text="see"), image))


@pytest.mark.parametrize("roles", [(), ("system",), ("user", "assistant"), ("user", "tool")])
def test_without_a_new_message_there_is_nothing_to_answer(roles: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest, match="the last message is the user's, or answers what the agent asked"):
        conversation(said(*roles), (), "messages")


def test_answers_take_the_place_of_a_new_message() -> None:
    found = conversation(said("user", "assistant"), [GIVEN], "input")
    assert (found.message, found.answers, len(found.history)) == (None, [GIVEN], 2)


def test_what_json_cannot_carry_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="messages holds a str with a lone surrogate"):
        conversation([Message.of("user", "\ud800")], (), "messages")


def test_a_file_is_its_bytes_or_its_address() -> None:
    assert text_part("a") == Part(text="a")
    assert file_part("data:image/png;base64,AP8=", "x") == Part(media_type="image/png", data=b"\x00\xff")
    assert file_part("data:text/plain,a%20b", "x") == Part(media_type="text/plain", data=b"a b")
    assert file_part("data:;base64,AA==", "x", name="a.pdf") == Part(media_type="application/pdf", data=b"\x00")
    assert file_part("data:;base64,AA==", "x").media_type == "application/octet-stream"
    assert file_part("https://a/b.jpeg?c", "x") == Part(media_type="image/jpeg", uri="https://a/b.jpeg?c")
    assert file_part("https://a/b", "x").media_type == "image/*"
    assert audio_part("AA==", "mp3", "x") == Part(media_type="audio/mpeg", data=b"\x00")
    assert audio_part("AA==", "wav", "x").media_type == "audio/wav"


def test_a_file_with_neither_data_nor_address_is_not_here() -> None:
    nothing = SimpleNamespace(file_data=None, file_url=None, filename=None)
    with pytest.raises(InvalidRequest, match="input: a file comes with its data or its URL; this host stores none"):
        file_of(nothing, "input")
    with_data = SimpleNamespace(file_data="AA==", filename="a.txt")
    assert file_of(with_data, "input") == Part(media_type="text/plain", data=b"\x00")
    by_url = SimpleNamespace(file_data=None, file_url="https://a/b.pdf", filename=None)
    assert file_of(by_url, "input") == Part(media_type="application/pdf", uri="https://a/b.pdf")


def test_what_is_no_base64_and_no_data_url_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="input: it is not base64"):
        decoded("?", "input")
    with pytest.raises(InvalidRequest, match="input: a data URL has a comma before its data"):
        file_part("data:image/png", "input")
