"""The stage of the placement contract: what a test sees of agents that are played."""

from __future__ import annotations

from agenthost.testing import PlacementContract


def test_notes_are_read_as_they_come_and_waited_for() -> None:
    contract = PlacementContract()

    async def story() -> None:
        async with contract.stage("unread") as stage:
            assert stage.notes() == {}
            run = await stage.start("unread")
            await stage.quiet(0.2)
            assert {"0", "1"} <= stage.notes().keys()
            assert len(await stage.read(run)) > len(stage.notes()) // 2

    contract.play(story())


def test_a_reader_has_the_first_event_once_it_is_there() -> None:
    contract = PlacementContract()

    async def story() -> None:
        async with contract.stage("held") as stage:
            run = await stage.start("held")
            reader = await stage.first(run)
            assert (reader.seq, run.outcome.message) == (1, "begun")
            reader.close()

    contract.play(story())
