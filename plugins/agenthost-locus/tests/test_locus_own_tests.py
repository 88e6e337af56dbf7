"""Locus's own tests of its server, from its source distribution, against `AgentServer`.

Those that fail are in the table of this plugin's README, with the reason; a test compares it with what comes out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.framework

FOLDER = Path(__file__).parent
FILES = ("test_server_app_full.py", "test_server_threads.py", "test_server_resume_stream.py")
TESTS = 58
AT_LEAST = 53


def pip() -> list[str] | None:
    """A pip that can download: this environment's, or one that uv brings."""
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    return [uv, "run", "--no-project", "--isolated", "--with", "pip", "python", "-m", "pip"] if uv else None


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution of the Locus that is installed here."""
    command, folder = pip(), tmp_path_factory.mktemp("locus")
    if command is None:
        pytest.skip("neither pip nor uv is here to fetch Locus's source distribution")
    wanted = f"locus-sdk=={version('locus-sdk')}"
    options = ["--no-deps", "--no-binary", "locus-sdk", "--quiet", "--dest", str(folder)]
    subprocess.run([*command, "download", *options, wanted], check=True, cwd=folder)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def written_down() -> set[str]:
    """The tests of the README's table."""
    text = (FOLDER.parent / "README.md").read_text()
    return set(re.findall(r"^\| `(test_server_\S+)` \|", text, re.MULTILINE))


def test_locus_own_tests_pass_against_ours_but_those_of_the_table(source: Path) -> None:
    if version("locus-sdk") != "3.0.1":
        pytest.skip("the table is of Locus 3.0.1")
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    command = [sys.executable, "-m", "pytest", "-p", "substituted", "--noconftest", "-p", "no:cacheprovider", "-rf"]
    ran = subprocess.run(
        [*command, "-q", "--tb=no", "-c", os.devnull, "--rootdir", ".", *FILES],
        cwd=source / "tests" / "unit",
        env={**environment, "PYTHONPATH": str(FOLDER)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    failed = set(re.findall(r"^FAILED (\S+)", ran.stdout, re.MULTILINE))
    passed = re.search(r"^(?:\d+ failed, )?(\d+) passed", ran.stdout, re.MULTILINE)
    assert passed is not None, ran.stdout + ran.stderr
    assert failed == written_down()
    assert int(passed[1]) + len(failed) == TESTS
    assert int(passed[1]) >= AT_LEAST
