"""What a user sends: text, files, data, structured input."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import AudioUrl, BinaryContent, DocumentUrl, ImageUrl, VideoUrl
from pydantic_ai_doubles import model, prompts, told

from agenthost import Part, Result

pytestmark = pytest.mark.framework


def given(**ctx: Any) -> Any:
    """What the model gets as the prompt."""
    seen: list[Any] = []

    def say(messages: Any) -> list[str]:
        seen.extend(prompts(messages))
        return ["ok"]

    events = told(Agent(model(say)), **ctx)
    return seen[0] if seen else events


def test_a_text_is_a_text() -> None:
    assert given(prompt="hello") == "hello"
    assert given(content=(Part(text="hello"),)) == "hello"


def test_files_and_data_are_the_frameworks_content() -> None:
    parts = (
        Part(text="Look:"),
        Part(data=b"\x89PNG", media_type="image/png"),
        Part(data=b"?"),
        Part(json={"n": 1}),
        Part(uri="data:text/plain;base64,aGk="),
    )
    assert given(content=parts) == [
        "Look:",
        BinaryContent(b"\x89PNG", media_type="image/png"),
        BinaryContent(b"?", media_type="application/octet-stream"),
        '{"n": 1}',
        BinaryContent(b"hi", media_type="text/plain"),
    ]


def test_addresses_are_handed_on_only_where_the_operator_says_so() -> None:
    """Some models have the framework fetch them, from where the host is."""
    address = "https://example.com/x"
    parts = [Part(uri=address, media_type=kind) for kind in ("image/png", "audio/mpeg", "video/mp4", "text/plain")]

    assert given(content=parts) == [
        Result("This agent takes no files by their address: send what is in them.", reason="unsupported_content")
    ]
    found = given(content=parts, settings={"urls": True})
    assert [type(one) for one in found] == [ImageUrl, AudioUrl, VideoUrl, DocumentUrl]
    assert {one.url for one in found} == {address}
    assert [one.media_type for one in found] == ["image/png", "audio/mpeg", "video/mp4", "text/plain"]


def test_an_address_that_holds_no_base64_is_refused() -> None:
    assert given(content=[Part(uri="data:text/plain,hi")]) == [
        Result("A file's data: address is not of base64.", reason="unsupported_content")
    ]


def test_structured_input_is_the_prompt_or_stands_after_it() -> None:
    assert given(prompt="", input={"n": 1}) == ['{"n": 1}']
    assert given(prompt="add", input=[1, 2]) == ["add", "[1, 2]"]


SEEN = """
from pydantic_ai import Agent
from pydantic_ai_doubles import model, prompts

agent = Agent(model(lambda messages: [f"{prompts(messages)}"]))
"""


@pytest.mark.parametrize(
    ("settings", "uri"),
    [("{ urls = true }", "data:text/plain,hello"), ("{}", "https://example.com/x"), ("{}", "data:text/plain,hello")],
)
def test_over_http_a_refused_message_does_not_spoil_its_thread(served: Any, settings: str, uri: str) -> None:
    client = served(SEEN, settings=settings)
    file = {"type": "file", "media_type": "text/plain", "uri": uri}
    body = {"content": [{"type": "text", "text": "See:"}, file], "thread_id": "t"}
    refused = client.post("/agents/app/invoke", json=body).json()
    assert (refused["success"], refused["stop_reason"]) == (False, "unsupported_content")

    for said in ("['one']", "['one', 'two']"):
        prompt = said[-5:-2]
        assert client.post("/agents/app/invoke", json={"prompt": prompt, "thread_id": "t"}).json()["message"] == said
