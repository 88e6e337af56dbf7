"""Messages come back from their rows as they went in."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agenthost.store.messages import decode_message, encode_message
from agenthost.threads import Message, Part, ThreadKey

KEY = ThreadKey("acme", "echo", "t")

text = st.text(st.characters(exclude_categories=["Cs"]))
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
parts = (
    st.builds(Part, text=text)
    | st.builds(Part, media_type=text, data=st.binary())
    | st.builds(Part, media_type=text, uri=text)
    | st.builds(Part, json=json)
)
calls = st.fixed_dictionaries({"id": text, "name": text, "arguments": st.dictionaries(text, json, max_size=2)})
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.lists(parts, max_size=3).map(tuple),
    st.lists(calls, max_size=2).map(tuple),
    st.none() | text,
    st.none() | text,
    metadata=st.dictionaries(text, json, max_size=2),
)


@given(messages)
def test_any_message_survives_its_row(message):
    back = decode_message(message.role, encode_message(message), "r1", 2.5, "completed")
    assert back == replace(message, run_id="r1", at=2.5)


def test_messages_come_back_as_they_went_in(store, new_run, end):
    said = [
        Message("assistant", (), tool_calls=({"id": "c1", "name": "add", "arguments": {"a": 1}},), at=5.0),
        Message.of("tool", "3", tool_call_id="c1", name="add", metadata={"error": True}),
        Message(
            "user", (Part(text="a\x00b\u2028"), Part(media_type="image/png", data=b"\x89\xff"), Part(json=[1, None]))
        ),
    ]

    async def main():
        await store.start_run(new_run("t"))
        await store.end_run(replace(end("r1"), messages=said))
        back = (await store.get_thread(KEY)).messages
        assert back == [replace(message, run_id="r1", at=message.at or 1001.0) for message in said]

    asyncio.run(main())
