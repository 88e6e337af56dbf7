"""A file that changes is seen, however it was changed, once it is whole."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from agenthost.watching import marks_of, watch
from tests.agents_for_tests import PATIENCE

EVERY = 0.01

NEVER = float("inf")
"""Before then a file was not read that is known by its marks."""


def told(path: Path, *changes: Callable[[], Any], files: Callable[[], dict[Path, float]] | None = None) -> int:
    """How often a change was told, after each of these, one at a time."""

    async def main() -> int:
        news = asyncio.Queue[None]()
        named = files or (lambda: {path: NEVER})
        watching = asyncio.create_task(watch(named, lambda _files: news.put_nowait(None), marks_of(named()), EVERY))
        number = 0
        try:
            for change in changes:
                change()
                async with asyncio.timeout(PATIENCE):
                    await news.get()
                number += 1
            await asyncio.sleep(EVERY * 10)
            return number + news.qsize()
        finally:
            watching.cancel()

    return asyncio.run(main())


def test_a_file_that_is_written_renamed_over_removed_and_made_again_is_told_each_time(tmp_path: Path) -> None:
    path = tmp_path / "agents.toml"
    path.write_text("1")

    def rename() -> None:
        (tmp_path / "new").write_text("3")
        os.replace(tmp_path / "new", path)

    assert told(path, partial(path.write_text, "22"), rename, path.unlink, lambda: path.touch()) == 4


def test_a_volume_that_is_mounted_by_links_is_seen_to_change(tmp_path: Path) -> None:
    """agents.toml → ..data/agents.toml, and ..data → a folder by date, which another one takes the place of."""

    def volume(name: str, text: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "agents.toml").write_text(text)

    def swap() -> None:
        volume("..2026_11_25", "two")
        (tmp_path / "..data_tmp").symlink_to("..2026_11_25")
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")

    volume("..2026_11_24", "one")
    (tmp_path / "..data").symlink_to("..2026_11_24")
    path = tmp_path / "agents.toml"
    path.symlink_to("..data/agents.toml")
    assert told(path, swap) == 1
    assert path.read_text() == "two"


def test_a_file_that_is_being_written_is_told_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "agents.toml"
    path.write_text("")

    async def main() -> list[int]:
        told_at: list[int] = []
        pieces = 0

        def more() -> dict[Path, float]:
            """Called before each look: the file grows from one to the next, 20 times."""
            nonlocal pieces
            pieces += 1
            if 1 < pieces <= 20:
                path.write_text("x" * pieces)
            return {path: NEVER}

        watching = asyncio.create_task(watch(more, lambda _files: told_at.append(pieces), {}, EVERY))
        async with asyncio.timeout(PATIENCE):
            while pieces < 40:
                await asyncio.sleep(EVERY)
        watching.cancel()
        return told_at

    assert asyncio.run(main()) == [21]


def test_files_that_come_to_be_looked_at_have_not_changed_by_that(tmp_path: Path) -> None:
    path, other = tmp_path / "agents.toml", tmp_path / "key"
    path.write_text("1")
    files = {path: NEVER}

    def name_another() -> None:
        other.write_text("key")
        files[other] = NEVER
        path.write_text("22")

    assert told(path, name_another, partial(other.write_text, "another key"), files=lambda: files) == 2


def test_a_file_that_is_not_there_has_no_mark(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    marks = marks_of([tmp_path / "there", tmp_path / "gone"])
    assert marks[tmp_path / "gone"] is None
    assert marks[tmp_path / "there"] is not None


def test_which_files_have_changed_is_told(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    one.touch()

    async def main() -> set[Path]:
        news = asyncio.Queue[Collection[Path]]()
        files = dict.fromkeys((one, two, three), NEVER)
        watching = asyncio.create_task(watch(lambda: files, news.put_nowait, marks_of(files), EVERY))
        one.write_text("1")
        two.write_text("2")
        told: set[Path] = set()
        async with asyncio.timeout(PATIENCE):
            while len(told) < 2:
                told.update(await news.get())
        watching.cancel()
        return told

    assert asyncio.run(main()) == {one, two}


def test_a_file_that_comes_to_be_looked_at_after_it_was_written_has_changed_since_it_was_read(tmp_path: Path) -> None:
    path, other = tmp_path / "agents.toml", tmp_path / "app.py"
    path.write_text("1")
    files = {path: NEVER}

    def name_another() -> None:
        files[other] = time.time() - 10
        other.write_text("read before, written since")

    assert told(path, name_another, files=lambda: files) == 1
