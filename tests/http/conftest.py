"""One host for the tests that only ask: `root` operates it, `alice` may use every agent, `bob` only `say`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import Hosted, actors, agents_toml, key

KEYS = key("root", more="admin = true") + key("alice") + key("bob", agents='["say"]')
AGENTS = actors("say", "pieces", "everything", "mirror", "fail", "gives_up", "Structured", "Keeper").replace(
    "[agents.gives_up]", "[agents.gives-up]"
)


@pytest.fixture(scope="session")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with Hosted(agents_toml(tmp_path_factory.mktemp("host"), KEYS + AGENTS)) as host:
        yield host
