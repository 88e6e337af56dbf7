"""uv, found and run: its progress, its reasons, its end, and what it must not be told or tell."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agenthost.environments.uv import MAX_REASON, Uv, UvFailed, find_uv, reason_of, uv_environment
from tests.agents_for_tests import until, within

NEW = """\
Using Python 3.11.7 environment at: venv
error: No solution found when resolving dependencies
  cause: Because there is no version of six==99 and you require six==99, we can conclude
         that your requirements are unsatisfiable.
"""
OLD = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because there is no version of six==99 and you require six==99, we can conclude
      that your requirements are unsatisfiable.
"""
WHY = (
    "No solution found when resolving dependencies: Because there is no version of six==99 and you require six==99, "
    "we can conclude that your requirements are unsatisfiable."
)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (NEW, WHY),
        (OLD, WHY),
        ("error: Failed\n  Caused by: no net\n  Caused by: none at all\n", "Failed: no net: none at all"),
        ("  × Failed to build `a`\n  ├─▶ it returned an error\n  ╰─▶ exit 1\n\n      [stderr]\n      no gcc\n",
         "Failed to build `a`: it returned an error: exit 1 [stderr] no gcc"),
        ("Resolved 3 packages", ""),
    ],
)  # fmt: skip
def test_its_reason_is_its_own_words_in_one_line(output: str, reason: str) -> None:
    assert reason_of(output) == reason


def test_it_is_found_beside_this_python_and_else_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(folder: Path) -> str:
        folder.mkdir()
        (folder / "uv").touch(0o755)
        return str(folder / "uv")

    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / name))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_uv() is None
    on_path = install(tmp_path / "bin")
    assert find_uv() == on_path
    beside = install(tmp_path / "scripts")
    assert find_uv() == beside


def test_it_gets_the_hosts_environment_without_secrets_that_are_not_its_own() -> None:
    kept = {"PATH": "/bin", "HTTPS_PROXY": "p", "SSL_CERT_FILE": "c", "UV_INDEX_ACME_PASSWORD": "p", "UV_OFFLINE": "1"}
    held_back = {"OPENAI_API_KEY": "k", "DB_PASSWORD": "p", "AGENTHOST_URL": "u", "PYTHONPATH": "x", "VIRTUAL_ENV": "v"}
    assert uv_environment(kept | held_back) == kept


def script(folder: Path, text: str) -> str:
    path = folder / "uv"
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return str(path)


def test_progress_is_told_line_by_line_and_what_it_was_given_is_read(tmp_path: Path) -> None:
    program = script(
        tmp_path,
        "read line; echo \"$line in $PWD\" >&2; echo 'Using Python' >&2; echo 'warning: slow' >&2; echo ' + six' >&2\n"
        "echo 'Downloading torch (800MiB)' >&2; echo >&2; echo 'not told'",
    )
    told: list[str] = []
    asyncio.run(Uv(program, tmp_path).run("pip", tell=told.append, given="Resolved six\n"))
    assert told == [f"Resolved six in {tmp_path}", "Downloading torch (800MiB)"]


def test_a_failure_has_its_reason_and_all_it_said_and_shows_no_password(tmp_path: Path) -> None:
    program = script(
        tmp_path,
        "echo 'Resolved 1' >&2; echo \"error: cannot reach $UV_INDEX_URL\" >&2\n"
        'echo "  cause: hunter22 and $UV_INDEX_ACME_PASSWORD are wrong" >&2; exit 2',
    )
    environ = {
        **os.environ,
        "UV_INDEX_URL": "https://user:hunter22@example.test/simple?token=abcdefgh",
        "UV_INDEX_ACME_PASSWORD": "open-sesame",
    }
    told: list[str] = []
    with pytest.raises(UvFailed) as failed:
        asyncio.run(Uv(program, tmp_path, environ).run(tell=told.append))
    assert failed.value.reason == "cannot reach https://***@example.test/simple?token=***: *** and *** are wrong"
    assert failed.value.output.startswith("Resolved 1\nerror: cannot reach https://***@example.test/")
    assert "hunter22" not in failed.value.output
    assert told == ["Resolved 1"]
    assert not failed.value.cut


def test_a_long_reason_is_cut_and_a_missing_one_is_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(UvFailed) as failed:
        asyncio.run(Uv(script(tmp_path, "exit 3"), tmp_path).run(tell=print))
    assert failed.value.reason == "it ended with code 3"
    long = UvFailed("x" * 1000, "")
    assert (len(long.reason), long.cut) == (MAX_REASON, True)


def test_cancelled_it_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    program = script(tmp_path, "sleep 600 & echo $! > child.new; mv child.new child; wait")

    def alive() -> bool:
        status = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"

    async def main() -> None:
        task = asyncio.create_task(Uv(program, tmp_path).run(tell=print))
        await until((tmp_path / "child").exists)
        assert alive()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)
        await until(lambda: not alive())

    asyncio.run(main())
