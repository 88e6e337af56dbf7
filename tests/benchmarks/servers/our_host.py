"""Our host: the configuration that the harness writes for it, and the command that serves it."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

AGENTS = Path(__file__).with_name("agents.py")
HEAD = """\
[store]
url = "sqlite:///{store}"
durability = "full"

[auth]
use = ["api-keys"]
[[auth.keys]]
id = "benchmark"
principal = "benchmark"
secret = {{ env = "BENCHMARK_KEY" }}
agents = ["*"]
concurrency = 10000

[defaults]
concurrency = 4096
queue = 4096
"""


def one_each() -> dict[str, str]:
    """Every benchmark agent under its own name."""
    return {name: name for name in ("echo", "ready", "turns", "idle")}


def many(number: int) -> dict[str, str]:
    """The echo agent under `number` names: `a0000`, `a0001` and so on."""
    return {f"a{index:04}": "echo" for index in range(number)}


def placed() -> dict[str, str]:
    """The agents that are compared by where they run: in the host's process, and in a worker."""
    return {"echo": "echo", "ready": "ready", "echo-worker": "echo@process", "ready-worker": "ready@process"}


def write_config(folder: Path, agents: Mapping[str, str]) -> Path:
    """Write an agents.toml that serves `agents` with a store beside it.

    They are name → attribute of agents.py, or `attribute@placement`.
    """
    tables = [_table(name, *found.split("@")) for name, found in agents.items()]
    path = folder / "agents.toml"
    path.write_text(HEAD.format(store=folder / "agenthost.db") + "".join(tables))
    return path


def _table(name: str, attribute: str, placement: str = "in-process") -> str:
    where = json.dumps(f"{AGENTS}:{attribute}")
    return f'\n[agents.{name}]\nuse = {where}\nplacement = "{placement}"\n'


def command(config: Path, port: int, *, access_log: bool = False) -> list[str]:
    """How it is served."""
    quiet = [] if access_log else ["--no-access-log"]
    return [sys.executable, "-m", "agenthost", "serve", "--config", str(config), "--port", str(port), *quiet]
