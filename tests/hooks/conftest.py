"""One plugin, real and installed, for the tests of a hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from agenthost.importing import Importer
from agenthost.plugins import Plugins
from tests.distributions import Site

Install = Callable[..., Plugins]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site") as made:
        yield made


@pytest.fixture
def load(site: Site) -> Install:
    """Install each source as the plugin of a distribution `acme-one`, `acme-two`, … and load them all."""

    def install_and_load(*sources: str) -> Plugins:
        for number, source in zip(("one", "two", "three"), sources, strict=False):
            module = f"acme_{number}"
            preamble = "from agenthost import hookimpl\n"
            site.install(f"acme-{number}", plugins={number: module}, modules={module: preamble + source})
        plugins = Plugins()
        plugins.load(SimpleNamespace(word="from the configuration"), importer=Importer())
        return plugins

    return install_and_load
