"""Each OpenAPI document against the host that publishes it: replies are of the shape and status that it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serving import Hosted, agents_toml, bearer, key
from tests.wire import ask

AGENTS = '[agents.echo]\nuse = "agenthost_echo:agent"\n[agents.calculator]\nuse = "agenthost_calculator:agent"\n'
PLACES = pytest.mark.parametrize(
    "where", ["", "/agents/echo", "/agents/calculator"], ids=["host", "echo", "calculator"]
)
MODES = pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)

NOT_SPELLED = [positive_data_acceptance]
"""Thread ids, cursors and files have rules that JSON Schema does not spell: what it allows may still be a 422."""

load_all_checks()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("openapi")
    with Hosted(agents_toml(folder, AGENTS + key("root", more="admin = true"))) as host:
        yield host


def try_operations(host: Hosted, where: str, mode: GenerationMode, examples: int) -> int:
    """Call every operation of a document with generated cases and hold each reply against it; returns how many."""
    base = f"http://127.0.0.1:{host.port}{where}"
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json", headers=bearer("root"))
    rejection = schema.config.checks.negative_data_rejection
    rejection.expected_statuses = [*rejection.expected_statuses, "414"]
    calls = 0
    with requests.Session() as session:
        session.headers.update(bearer("root"))
        for result in schema.get_all_operations():

            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=result.ok().as_strategy(mode))
            def replies_as_documented(case: Case) -> None:
                nonlocal calls
                calls += 1
                case.call_and_validate(base_url=base, session=session, excluded_checks=NOT_SPELLED, timeout=20)

            try:
                replies_as_documented()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, "only an operation that takes nothing cannot be called wrongly"
    return calls


@MODES
@PLACES
def test_replies_are_what_the_document_says(published: Hosted, where: str, mode: GenerationMode) -> None:
    calls = try_operations(published, where, mode, 8)
    if mode is GenerationMode.POSITIVE or where:
        assert calls >= 6


@pytest.mark.fault
@MODES
@PLACES
def test_many_replies_are_what_the_document_says(published: Hosted, where: str, mode: GenerationMode) -> None:
    try_operations(published, where, mode, 40)


@PLACES
def test_every_operation_documents_the_refusals_that_it_can_meet(published: Hosted, where: str) -> None:
    public = {"/health"} if where else {"/health/live", "/health/ready"}
    document = ask(published.port, "GET", f"{where}/openapi.json", bearer("root")).json
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            said = set(operation["responses"])
            assert path in public or "401" in said, f"{method} {path}"
            if "requestBody" in operation:
                assert {"400", "403", "409", "413", "415", "429", "503"} <= said
                assert ("422" in said) is not path.startswith("/v1/"), "OpenAI's API has none"
            if path.startswith("/v1/"):
                continue
            problems = [
                reply["content"] for status, reply in operation["responses"].items() if status in {"401", "422"}
            ]
            assert all("application/problem+json" in content for content in problems)
