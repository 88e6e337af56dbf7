"""Values that stand in the environment or in a file."""

from __future__ import annotations

import pytest

AT = "agents.toml:2: [agents.x] title:"


def title(project, form, environ=None):
    return project.load(f"[agents.x]\ntitle = {form}", environ).agents["x"].title


def test_a_variable_gives_its_value_else_the_default(project):
    form = "{ env = 'X', default = 'd' }"
    assert title(project, form, {"X": "x"}) == "x"
    assert title(project, form) == "d"
    assert title(project, form, {"X": ""}) == ""
    assert title(project, "{ env = 'X', default = '' }") == ""


def test_a_file_gives_its_text_without_the_newlines_at_its_end(project):
    project.write("one\ntwo\n\n", "text")
    (project.folder / "sub").mkdir()
    project.write("three", "sub/text")
    assert title(project, "{ file = 'text' }") == "one\ntwo"
    assert title(project, "{ file = 'sub/text' }") == "three"
    assert title(project, f"{{ file = '{project.folder}/text' }}") == "one\ntwo"


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ("{ env = 'X' }", "environment variable X is not set; set it, or give { env, default }"),
        ("{ env = 'X', default = 1 }", "the default of { env } must be a string"),
        ("{ env = 'a=b' }", '"a=b" cannot name an environment variable'),
        ("{ env = '' }", '"" cannot name an environment variable'),
        ("{ env = 'BYTES' }", "environment variable BYTES is not UTF-8"),
        ("{ file = 'gone' }", "file 'gone' cannot be read: No such file or directory"),
        ("{ file = '' }", "file '' cannot be read: Is a directory"),
        ('{ file = "a\\u0000b" }', "file 'a\\x00b' cannot be read: not a path"),
        ("{ file = 'large' }", "file 'large' is larger than 65536 bytes"),
        ("{ file = 'bytes' }", "file 'bytes' is not UTF-8"),
        (
            "{ env = 'X', file = 'x' }",
            'expected a string, got a table; write the value, { env = "X", default = "…" } or { file = "…" }',
        ),
        (
            "{ env = 1 }",
            'expected a string, got a table; write the value, { env = "X", default = "…" } or { file = "…" }',
        ),
    ],
)
def test_a_form_that_does_not_resolve_is_a_problem_of_its_key(project, form, problem):
    (project.folder / "large").write_bytes(b"x" * 65537)
    (project.folder / "bytes").write_bytes(b"\xff\xfe")
    assert project.problems(f"[agents.x]\ntitle = {form}", {"BYTES": "\udcff"}) == [f"{AT} {problem}"]


def test_any_single_value_may_be_a_form(project):
    config = project.load(
        "[server]\nport = { env = 'PORT' }\ndrain = { env = 'DRAIN' }\nmax_body = { env = 'BODY' }\n"
        "cors_origins = [{ env = 'ORIGIN' }, 'https://b.example']\n"
        "[agents.x]\nenabled = { env = 'ON' }\nqueue = { env = 'QUEUE', default = '0' }\n",
        {"PORT": "9000", "DRAIN": "1m", "BODY": "1kB", "ORIGIN": "https://a.example", "ON": "false"},
    )
    assert (config.server.port, config.server.drain, config.server.max_body) == (9000, 60.0, 1000)
    assert config.server.cors_origins == ("https://a.example", "https://b.example")
    assert (config.agents["x"].enabled, config.agents["x"].queue) == (False, 0)


def test_what_came_from_outside_is_never_shown(project):
    text = (
        "[server]\nport = { env = 'S' }\ndrain = { env = 'S' }\nserve = { file = 's' }\nhost = { env = 'S' }\n"
        "[agents.x]\nenabled = { env = 'S' }\n"
    )
    project.write("se cret", "s")
    assert project.problems(text, {"S": "se cret"}) == [
        (
            "agents.toml:2: [server] port: expected a whole number from 0 to 65535, "
            "which the value of environment variable S is not"
        ),
        (
            "agents.toml:3: [server] drain: the value of environment variable S is not a duration; "
            'write "500ms", "30s", "10m", "1h30m", "7d" or a number of seconds'
        ),
        "agents.toml:4: [server] serve: the value of file 's' is not one of 'configured', 'all'",
        "agents.toml:5: [server] host: the value of environment variable S is not a host name or an address",
        "agents.toml:7: [agents.x] enabled: expected true or false, which the value of environment variable S is not",
    ]


def test_inside_settings_forms_are_resolved_at_any_depth_and_other_tables_are_left_alone(project):
    config = project.load(
        "[agents.x.settings]\nenv = 'prod'\na = [{ b = { env = 'X' } }]\nfile = { file = 't', mode = 'r' }\n"
        "when = 2020-01-01\nn = { env = 5 }\n",
        {"X": "x"},
    )
    settings = config.agents["x"].settings
    assert settings["env"] == "prod"
    assert settings["a"] == [{"b": "x"}]
    assert settings["file"] == {"file": "t", "mode": "r"}
    assert settings["n"] == {"env": 5}
    assert settings["when"].year == 2020
    assert type(settings["a"][0]["b"]) is str


def test_settings_that_hold_only_a_key_called_env_are_settings(project):
    assert project.load("[agents.x]\nsettings = { env = 'prod' }").agents["x"].settings == {"env": "prod"}


def test_a_form_inside_settings_that_does_not_resolve_is_told_with_its_whole_key(project):
    assert project.problems("[agents.x.settings]\na = [\n{ b = { env = 'GONE' } }]\n") == [
        "agents.toml:3: [agents.x] settings.a.b: environment variable GONE is not set; set it, or give { env, default }"
    ]


def test_the_files_that_values_came_from_are_known(project):
    project.write("Echo", "title.txt")
    assert {path.name for path in project.load("[agents.x]\ntitle = { file = 'title.txt' }").files} == {
        "agents.toml",
        "title.txt",
    }
