"""The two ends of what pyproject.toml allows of uvicorn: what is installed, and the lowest, put in front of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.commands import ROOT, environment

ENDS = ("newest", "lowest")
"""What a test of both is parametrised by."""


def lowest_uvicorn() -> str:
    """The lowest version of uvicorn that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (found,) = (found[1] for one in project["dependencies"] if (found := re.match(r"uvicorn>=([\d.]+)$", one)))
    return found


def site_of(end: str, folder: pytest.TempPathFactory) -> Path | None:
    """A folder for the module path on which that release stands, or None for the one that is installed."""
    if end == "newest":
        return None
    site = folder.getbasetemp() / "lowest-uvicorn"
    if not site.exists():
        uv = os.environ.get("UV") or shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        wanted = f"uvicorn=={lowest_uvicorn()}"
        command = [uv, "pip", "install", "-q", "--no-deps", "--python", sys.executable, "--target", str(site), wanted]
        subprocess.run(command, check=True, timeout=120)
    said = [sys.executable, "-c", "import uvicorn; print(uvicorn.__version__)"]
    imported = subprocess.run(said, env=environment(site), capture_output=True, text=True, check=True, timeout=60)
    assert imported.stdout.strip() == lowest_uvicorn()
    return site
