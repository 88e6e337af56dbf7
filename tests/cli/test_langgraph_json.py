"""A langgraph.json is read as it is; what cannot be served of it is told by what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from agenthost.cli.langgraph_json import agent_name_of, read_langgraph_json
from agenthost.errors import StartError
from agenthost.testing import serving
from tests.cli.conftest import Type

PLAIN = "async def graph(ctx):\n    import os\n    from shared import WORD\n    yield WORD + os.environ['LOUD']\n"
"""Stands for a graph: what is served is whatever the file names, and no framework is needed for that."""


def written(folder: Path, **said: Any) -> Path:
    path = folder / "langgraph.json"
    path.write_text(json.dumps(said))
    return path


def test_graphs_are_agents_with_names_that_agents_can_have(tmp_path: Path) -> None:
    graphs = {
        "chat": "./chat.py:graph",
        "My_Agent 2": {"path": "./src/mine.py:make_graph", "description": "Mine"},
        "packaged": "acme.agents:graph",
    }
    project = read_langgraph_json(written(tmp_path, graphs=graphs))
    assert {name: graph.use for name, graph in project.graphs.items()} == {
        "chat": f"{tmp_path}/chat.py:graph",
        "my-agent-2": f"{tmp_path}/src/mine.py:make_graph",
        "packaged": "acme.agents:graph",
    }
    assert project.graphs["my-agent-2"].description == "Mine"
    assert project.served.endswith("langgraph.json (My_Agent 2 is my-agent-2)")
    assert (project.env, project.folders) == ({}, ())


def test_what_the_graphs_need_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "lib" / "src").mkdir(parents=True)
    (tmp_path / "prod.env").touch()
    needs: dict[str, Any] = {"graphs": {"a": "./a.py:a"}, "dependencies": [".", "./lib", "langchain_openai"]}
    project = read_langgraph_json(written(tmp_path, env="prod.env", **needs))
    assert project.folders == (tmp_path, tmp_path / "lib", tmp_path / "lib" / "src")
    assert project.env == tmp_path / "prod.env"
    assert read_langgraph_json(written(tmp_path, env={"A": "b", "N": 5}, **needs)).env == {"A": "b", "N": "5"}


def test_a_folder_that_is_no_project_may_be_a_package_of_the_one_around_it(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for folder in ("agent", "lib"):
        (project / folder).mkdir(parents=True)
    (project / "lib" / "pyproject.toml").touch()
    needs: dict[str, Any] = {"graphs": {"a": "./agent/a.py:a"}, "dependencies": ["./agent", "./lib"]}
    assert read_langgraph_json(written(project, **needs)).folders == (project / "agent", project / "lib", project)
    (project / "__init__.py").touch()
    needs["dependencies"] = ["."]
    assert read_langgraph_json(written(project, **needs)).folders == (project, tmp_path)


def test_a_graph_imports_the_package_that_it_is_in(tmp_path: Path) -> None:
    package = tmp_path / "project" / "my_agent"
    (package / "parts").mkdir(parents=True)
    (package / "parts" / "words.py").write_text("WORD = 'well'\n")
    (package / "agent.py").write_text(
        "from my_agent.parts.words import WORD\n\n\nasync def graph(ctx):\n    yield WORD\n"
    )
    written(tmp_path / "project", graphs={"agent": "./my_agent/agent.py:graph"}, dependencies=["./my_agent"])
    with serving("--from=project/langgraph.json", folder=tmp_path) as host:
        answer = httpx.post(f"{host.url}/agents/agent/invoke", json={"prompt": "x"}, trust_env=False)
        assert answer.json()["message"] == "well"


GRAPHS = {"a": "./a.py:a"}


@pytest.mark.parametrize(
    ("said", "problem", "hint"),
    [
        ({}, "names no graphs", 'it needs "graphs": {"NAME": "./file.py:attribute"}'),
        ({"graphs": []}, "names no graphs", 'it needs "graphs": {"NAME": "./file.py:attribute"}'),
        ({"graphs": {"a": 5}}, "graph 'a' does not say where it is", "it needs"),
        ({"graphs": {"a": "./a.py"}}, "graph 'a' is './a.py', which names no attribute", "it needs"),
        ({"graphs": {"a": "./a.ts:g"}}, "graph 'a' is in './a.ts', which is no Python file", "it needs"),
        (
            {"graphs": {"A_b": "./a.py:a", "a-b": "./a.py:b"}},
            "graphs 'A_b' and 'a-b' would both be agent 'a-b'",
            "rename one: agents have names of a-z, 0-9 and -",
        ),
        (
            {"graphs": {"日本": "./a.py:a"}},
            "no agent can be called like graph '日本'",
            "use a-z, 0-9 and - in its name",
        ),
        (
            {"graphs": GRAPHS, "env": "no.env"},
            "there is no env file 'no.env' beside it",
            "create it, or remove the key env",
        ),
        ({"graphs": GRAPHS, "env": [1]}, "env is neither a file's name nor variables with their values", "correct it"),
        ({"graphs": GRAPHS, "dependencies": "."}, "dependencies is no list of texts", 'such as ["."]'),
        (
            {"graphs": GRAPHS, "dependencies": ["./no"]},
            "there is no folder './no', which dependencies names",
            "correct it",
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, said: dict[str, Any], problem: str, hint: str) -> None:
    path = written(tmp_path, **said)
    with pytest.raises(StartError) as refused:
        read_langgraph_json(path)
    assert refused.value.message.removeprefix(str(path)).lstrip(": ") == problem
    assert str(refused.value.hint).startswith(hint)


@pytest.mark.parametrize(
    ("text", "problem"), [("[1]", " is no JSON object"), ("{", " is not JSON: "), ("\ufeff{}", " is not JSON: ")]
)
def test_a_file_that_is_none_is_told(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "langgraph.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StartError) as refused:
        read_langgraph_json(path)
    assert refused.value.message.startswith(f"{path}{problem}")


def test_a_missing_file_is_told_on_the_terminal(enter: Type, here: Path) -> None:
    ended = enter("dev", "--from", "langgraph.json")
    assert (ended.code, ended.err) == (
        2,
        "langgraph.json: no such file\n  → name a langgraph.json: agenthost dev --from FILE\n",
    )


def test_one_object_or_a_langgraph_json_not_both(enter: Type, here: Path) -> None:
    ended = enter("dev", "app.py:graph", "--from", "langgraph.json")
    assert ended.code == 2
    assert "either app.py:graph or --from langgraph.json, not both" in ended.err


@pytest.mark.parametrize(
    ("name", "agent"), [("agent", "agent"), ("My Agent!", "my-agent"), ("a" * 80, "a" * 63), ("__", "")]
)
def test_a_graphs_name_as_an_agents(name: str, agent: str) -> None:
    assert agent_name_of(name) == agent


def test_dev_serves_every_graph_of_a_langgraph_json(tmp_path: Path) -> None:
    for folder in ("project/lib", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    project = tmp_path / "project"
    (project / "app.py").write_text(PLAIN)
    (project / "lib" / "shared.py").write_text("WORD = 'well'\n")
    graphs = {"One_Graph": "./app.py:graph", "two": "./app.py:graph"}
    written(project, graphs=graphs, dependencies=["./lib"], env={"LOUD": "!", "PATH": "/nowhere"})
    with serving("--from=../project/langgraph.json", folder=tmp_path / "empty") as host:
        from_one, from_two = (
            httpx.post(f"{host.url}/agents/{name}/invoke", json={"prompt": "x"}, trust_env=False).json()["message"]
            for name in ("one-graph", "two")
        )
        assert (from_one, from_two) == ("well!", "well!")
        assert "langgraph.json (One_Graph is one-graph); no agents.toml" in host.log()
        assert "langgraph.json: LOUD" in host.log()
    assert list((tmp_path / "empty").iterdir()) == []
    assert str(project / "lib") not in sys.path


def test_a_langgraph_json_has_everything_but_agents_from_agents_toml(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("async def graph(ctx):\n    yield 'x'\n")
    (tmp_path / "agents.toml").write_text(
        '[store]\nurl = "sqlite:///kept.db"\n[agents.other]\nuse = "app.py:nothing"\n[defaults]\ntimeout = "5s"\n'
    )
    written(tmp_path, graphs={"mine": "./app.py:graph"})
    with serving("--from=langgraph.json", folder=tmp_path) as host:
        listed = httpx.get(f"{host.url}/agents", trust_env=False).json()["agents"]
        assert [one["name"] for one in listed] == ["mine"]
        assert "[agents] of agents.toml not used" in host.log()
    assert (tmp_path / "kept.db").exists()
