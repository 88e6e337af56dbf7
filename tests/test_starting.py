"""A request is read back from the store as it was asked."""

from __future__ import annotations

import asyncio

from agenthost.agents import RunRequest
from agenthost.starting import asked_again
from agenthost.threads import Part
from tests.agents_for_tests import hosting, speaks, started, within


def test_what_is_kept_of_a_request_asks_for_the_same_again() -> None:
    async def main() -> None:
        content = [Part(text="look"), Part(media_type="image/png", data=b"\x89PNG"), Part(json={"a": [1]})]
        request = RunRequest(
            "look",
            thread_id="t",
            input={"n": 1},
            metadata={"m": None},
            content=content,
            idempotency_key="k",
            request_digest="d",
            detached=True,
        )
        async with hosting(speaks) as host:
            run = await started(host, request)
            await within(run.ended())
            stored = await host.store.get_run(run.id)
            assert stored is not None
            assert asked_again(stored, ()) == request
            assert stored.input["caller"] == {"agents": ["*"], "groups": []}

    asyncio.run(main())
