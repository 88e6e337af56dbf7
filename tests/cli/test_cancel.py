"""`agenthost cancel`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agenthost.client import Client
from tests import actors
from tests.cli.asking import asking_host
from tests.cli.conftest import Type
from tests.commands import Ended
from tests.serving import Hosted, secret


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with asking_host(tmp_path_factory.mktemp("host")) as served:
        yield served


@pytest.fixture
def client(host: Hosted) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{host.port}", secret("me")) as connected:
        yield connected


@pytest.fixture
def cancel(host: Hosted, enter: Type, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type `agenthost cancel …`."""
    monkeypatch.setenv("AGENTHOST_URL", f"http://127.0.0.1:{host.port}")
    monkeypatch.setenv("AGENTHOST_API_KEY", secret("me"))
    return lambda *arguments: enter("cancel", *arguments)


def test_a_run_is_ended(cancel: Type, client: Client):
    run_id = client.start("hold", "to be ended").run_id
    actors.wait_for(actors.HOLDING, "to be ended")
    assert cancel("hold", run_id) == Ended(0, "cancelled\n", "")
    actors.wait_for(actors.CANCELLED, "to be ended")
    assert client.run("hold", run_id).status == "cancelled"


def test_a_run_that_has_ended_stays_as_it_ended(cancel: Type, client: Client):
    run_id = client.invoke("say", "x").run_id
    assert cancel("say", run_id) == Ended(1, "", "it had ended already: completed\n")


def test_a_run_that_is_not_there_is_a_failure(cancel: Type):
    ended = cancel("hold", "nope")
    assert (ended.code, ended.out) == (1, "")
    assert "(code " in ended.err
