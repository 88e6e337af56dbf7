"""What the tests of this plugin share: where their doubles are, and a host in this process."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agenthost import create_app

with warnings.catch_warnings():  # newer Starlette would rather have another HTTP client
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

# the rest of the house is tested without the framework
collect_ignore_glob = [] if importlib.util.find_spec("pydantic_ai") else ["test_*.py"]

sys.path.insert(0, str(Path(__file__).parent))  # for pydantic_ai_doubles, also in the files that the tests have served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Serves, in this process, what a file called `app.py` holds: `served(text, settings="…")` returns a client."""
    with ExitStack() as stack:

        def serve(text: str, **keys: str) -> Any:
            (tmp_path / "app.py").write_text(text)
            lines = ["[agents.app]", 'use = "app.py:agent"', "required = false"]
            lines += [f"{key} = {value}" for key, value in keys.items()]
            (tmp_path / "agents.toml").write_text("\n".join([*lines, ""]))
            app = create_app(tmp_path / "agents.toml", dev=True)
            return stack.enter_context(TestClient(app, base_url="http://127.0.0.1"))

        yield serve
