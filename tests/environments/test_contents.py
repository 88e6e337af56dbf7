"""What an environment is made of, and the name that this gives it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agenthost.agents import EnvironmentSpec
from agenthost.environments import environment_name, told
from tests.packages import wheel


def name(folder: Path, *requirements: str, **fields: str) -> str:
    return environment_name(EnvironmentSpec(folder=str(folder), requirements=requirements, **fields))


@pytest.mark.parametrize(
    ("requirement", "word"),
    [
        ("acme-billing==2.1", "acme-billing"),
        ("Acme_Billing[fast]>=2 ; python_version > '3'", "acme-billing"),
        ("acme @ https://user:word@example.test/acme-1.whl", "acme-1"),
        ("./wheels/acme_billing-2.1-py3-none-any.whl", "acme-billing-2"),
        ("-e ./billing[dev]", "billing"),
        ("-e .", "environment"),
        ("git+https://example.test/acme.git@v1", "acme"),
        ("a" * 90, "a" * 40),
    ],
)
def test_an_environment_is_called_by_a_word_and_a_digest(requirement: str, word: str, tmp_path: Path) -> None:
    assert re.fullmatch(re.escape(word) + "-[0-9a-f]{12}", name(tmp_path, requirement))


def test_the_same_content_is_the_same_environment_wherever_agents_toml_is(tmp_path: Path) -> None:
    assert name(tmp_path, "six==1.16", "rich") == name(tmp_path / "elsewhere", "six==1.16", "rich")
    assert name(tmp_path, "six==1.16") != name(tmp_path, "six==1.17")


def test_another_python_makes_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = name(tmp_path, "six")
    monkeypatch.setattr("sys.base_prefix", "/another/python")
    assert name(tmp_path, "six") != before


def test_a_lock_counts_by_its_text_and_not_by_its_name(tmp_path: Path) -> None:
    lock = tmp_path / "billing.lock"
    lock.write_text("six==1.16.0\n")
    before = name(tmp_path, lock=str(lock))
    lock.write_text("six==1.17.0\n")
    after = name(tmp_path, lock=str(lock))
    assert before.startswith("billing-")
    assert after.startswith("billing-")
    assert before != after


def test_a_wheel_that_was_built_again_and_a_project_that_says_something_else_count(tmp_path: Path) -> None:
    built = wheel(tmp_path / "wheels", "acme")
    asked = [f"./wheels/{built.name}", f"acme @ file://{built} ; python_version > '3'", f"acme @ {built}"]
    names = {name(tmp_path, requirement) for requirement in asked}
    wheel(tmp_path / "wheels", "acme", modules={"acme": "new = True"})
    assert not names & {name(tmp_path, requirement) for requirement in asked}

    project = tmp_path / "billing"
    project.mkdir()
    before = name(tmp_path, "-e ./billing[dev]")
    (project / "pyproject.toml").write_text('[project]\nname = "billing"\n')
    (project / "code.py").write_text("")
    after = name(tmp_path, "-e ./billing[dev]")
    (project / "code.py").write_text("editable = True")
    assert before != after == name(tmp_path, "-e ./billing[dev]")


def test_an_environment_made_elsewhere_has_no_name_and_a_lock_that_is_not_there_none_either(tmp_path: Path) -> None:
    assert name(tmp_path, venv="/envs/billing") == ""
    with pytest.raises(OSError, match=re.escape("gone.lock")):
        name(tmp_path, lock=str(tmp_path / "gone.lock"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"requirements": ("six", "rich==1")}, "six, rich==1"),
        ({"requirements": ("a", "b", "c", "d", "e", "f")}, "a, b, c, d and 2 more"),
        (
            {"requirements": ("acme @ https://user:pass-word@example.test/a.whl",)},
            "acme @ https://***@example.test/a.whl",
        ),
        ({"lock": "/app/locks/a.lock"}, 'lock = "locks/a.lock"'),
        ({"venv": "/envs/a"}, 'venv = "/envs/a"'),
    ],
)
def test_what_was_asked_for_is_told_shortly_and_without_passwords(fields: dict[str, object], said: str) -> None:
    assert told(EnvironmentSpec(folder="/app", **fields)) == said  # type: ignore[arg-type]  # one table, many kinds
