"""The kinds of value: what each takes, and what it says to the rest."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenthost.config import values

DURATIONS = '; write "500ms", "30s", "10m", "1h30m", "7d" or a number of seconds'
SIZES = '; write "512B", "64kB", "10MiB", "1GiB" or a number of bytes'


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("10m", 600),
        ("1h30m", 5400),
        ("7d", 604800),
        ("0d", 0),
        ("0s", 0),
        (5, 5),
        (0.25, 0.25),
        ("1d2h3m4s5ms", 93784.005),
        ("90m", 5400),
        ("36500d", 3153600000),
    ],
)
def test_durations_are_seconds(written, seconds):
    assert values.duration(written) == seconds
    assert type(values.duration(written)) is float


@pytest.mark.parametrize(
    "written",
    [
        "",
        "10",
        "10 m",
        "m",
        "1.5h",
        "30m1h",
        "1h1h",
        "-5s",
        "10M",
        "5sec",
        "１m",
        "1m ",
        "36501d",
        -1,
        1e300,
        float("nan"),
        "9" * 5000 + "s",
        10**400,
    ],
)
def test_what_is_no_duration_is_told_the_forms(written):
    with pytest.raises(ValueError, match=r" is not a duration; write ") as caught:
        values.duration(written)
    assert str(caught.value) == f"{values.shown(written)} is not a duration{DURATIONS}"
    assert len(str(caught.value)) < 200


def test_a_number_too_long_to_be_written_is_not(project):
    assert refusal(project, "[server]\nport = 0x" + "f" * 5000) == (
        "expected a whole number from 0 to 65535, which a number of 20000 bits is not"
    )


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_the_parts_of_a_duration_add_up(days, hours, minutes, seconds, millis):
    written = f"{days}d{hours}h{minutes}m{seconds}s{millis}ms"
    expected = ((days * 24 + hours) * 60 + minutes) * 60 + seconds + millis / 1000
    assert values.duration(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("written", "count"),
    [("512B", 512), ("64kB", 64000), ("10MiB", 10485760), ("1GiB", 2**30), ("2MB", 2000000), ("1KiB", 1024), (7, 7)],
)
def test_sizes_are_bytes(written, count):
    assert values.size(written) == count


@pytest.mark.parametrize(
    "written", ["", "10", "10 MiB", "10mib", "10M", "1.5GiB", "-1B", "0B", 0, -1, "9" * 15 + "GiB", 2**63]
)
def test_what_is_no_size_is_told_the_forms(written):
    with pytest.raises(ValueError, match="is not a size") as caught:
        values.size(written)
    assert str(caught.value) == f"{written!r} is not a size{SIZES}"


@pytest.mark.parametrize(
    ("check", "what"),
    [
        (values.text, "a string"),
        (values.flag, "true or false"),
        (values.whole(1), "a whole number, 1 or more"),
        (values.duration, "a duration"),
        (values.size, "a size"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_by_its_type_alone(check, what):
    with pytest.raises(ValueError, match="expected") as caught:
        check(["secret"])
    assert str(caught.value) == f"expected {what}, got an array"
    for wrong in (None, {"a": 1}):
        with pytest.raises(ValueError, match=re.escape(f"expected {what}, got ")):
            check(wrong)


@pytest.mark.parametrize("check", [values.whole(0), values.duration, values.size, values.text])
def test_true_is_not_a_number(check):
    with pytest.raises(ValueError, match="got a boolean"):
        check(True)


def refusal(project, line):
    (problem,) = project.problems(line)
    return problem.partition(": ")[2].partition(": ")[2]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("host = ''", "'' is not a host name or an address"),
        ("host = 'http://x'", "'http://x' is not a host name or an address"),
        ("port = -1", "expected a whole number from 0 to 65535, which -1 is not"),
        ("port = 80.0", "expected a whole number from 0 to 65535, got a float"),
        ("serve = 'al'", "'al' is not one of 'configured', 'all'; did you mean 'all'?"),
        ("serve = 'zonk'", "'zonk' is not one of 'configured', 'all'"),
        ("cors_origins = ['*']", "'*' is refused, because requests carry credentials; name each origin"),
        ("cors_origins = ['null']", "'null' is not an origin; write \"https://app.example.com\""),
        ("cors_origins = ['https://a.b/']", "'https://a.b/' is not an origin; write \"https://app.example.com\""),
        ("cors_origins = 'https://a.b'", "expected an array, got a string"),
        ("public_url = 'a.example'", "'a.example' is not an absolute URL; write \"https://agents.example.com/path\""),
        ("public_url = 'ftp://a.b'", "'ftp://a.b' is not an absolute URL; write \"https://agents.example.com/path\""),
        (
            "public_url = 'https://u:p@b'",
            "'https://u:p@b' is not an absolute URL; write \"https://agents.example.com/path\"",
        ),
        (
            "public_url = 'https://b?q'",
            "'https://b?q' is not an absolute URL; write \"https://agents.example.com/path\"",
        ),
        ("trusted_proxies = ['*']", '\'*\' is not an address or network; write "10.0.0.7" or "10.0.0.0/8"'),
        ("trusted_proxies = [7]", "expected a string, got an integer"),
        ("allowed_hosts = ['*']", '\'*\' is not a Host value; write "agents.example.com" or "10.0.0.7:8000"'),
        ("max_body = '0B'", f"'0B' is not a size{SIZES}"),
    ],
)
def test_a_wrong_value_under_server_is_told(project, line, told):
    assert refusal(project, f"[server]\n{line}") == told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("url = 'postgresql://x'", '\'postgresql://x\' is not supported; write "sqlite:///agenthost.db" or "memory:"'),
        ("url = 'sqlite://'", '\'sqlite://\' is not supported; write "sqlite:///agenthost.db" or "memory:"'),
        ("durability = 'ful'", "'ful' is not one of 'full', 'normal'; did you mean 'full'?"),
    ],
)
def test_a_wrong_value_under_store_is_told(project, line, told):
    assert refusal(project, f"[store]\n{line}") == told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "on_busy_thread = 'rejct'",
            "'rejct' is not one of 'reject', 'queue', 'cancel-running'; did you mean 'reject'?",
        ),
        (
            "on_busy_thread = 'cancel'",
            "'cancel' is not one of 'reject', 'queue', 'cancel-running'; did you mean 'cancel-running'?",
        ),
        ("timeout = '0s'", "expected a duration of more than 0"),
        ("concurrency = 0", "expected a whole number, 1 or more, which 0 is not"),
        ("enabled = 'yes'", "expected true or false, got a string"),
        ("protocols = ['']", "expected a name, got an empty string"),
        ("environment.requirements = ['']", "expected a requirement, got an empty string"),
        ("environment.requirements = ['a\\nb']".replace("'", '"'), "'a\\nb' is not one line"),
        (
            "environment.requirements = ['-r more.txt']",
            (
                '\'-r more.txt\' is no requirement; write "acme-billing==2.1", "./folder" or "-e ./folder"; '
                "options are for uv's own settings (UV_INDEX, uv.toml)"
            ),
        ),
        ("environment.lock = ''", "expected a name, got an empty string"),
        ("placement = ' '", "expected a name, got an empty string"),
        ("title = 2020-01-01", "expected a string, got a date"),
        ("title = 2020-01-01T10:00:00", "expected a string, got a date-time"),
        ("title = 10:00:00", "expected a string, got a time"),
    ],
)
def test_a_wrong_value_of_an_agent_is_told(project, line, told):
    assert refusal(project, f"[agents.x]\n{line}") == told


def test_addresses_are_kept_in_one_spelling(project):
    server = project.load(
        "[server]\nhost = '::1'\npublic_url = 'HTTPS://Agents.Example.com:8443/Base/'\n"
        "cors_origins = ['https://App.Example.com', 'tauri://localhost', 'http://[::1]:3000']\n"
        "allowed_hosts = ['Agents.Example.com', '10.0.0.7:8000']\n"
        "trusted_proxies = ['10.1.2.3', '10.1.2.3/8', 'fd00::/8']\n"
    ).server
    assert server.public_url == "https://agents.example.com:8443/Base"
    assert server.cors_origins == ("https://app.example.com", "tauri://localhost", "http://[::1]:3000")
    assert server.allowed_hosts == ("agents.example.com", "10.0.0.7:8000")
    assert server.trusted_proxies == ("10.1.2.3", "10.1.2.3/8", "fd00::/8")


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a" * 63, "a-"])
def test_good_names_for_agents(name):
    assert values.agent_name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "better"),
    [("Echo", "echo"), ("my_agent", "my-agent"), ("a.b", "a-b"), ("-a", "a"), ("a" * 64, "a" * 63), ("a b!", "a-b")],
)
def test_a_bad_name_for_an_agent_is_told_with_one_that_would_do(name, better):
    assert values.agent_name_problem(name) == (
        f"is not a name for an agent: use a-z, 0-9 and '-', at most 63 characters, not '-' first; {better!r} would do"
    )
    assert values.agent_name_problem(better) is None


@given(st.text(max_size=80))
def test_the_name_that_would_do_does(name):
    problem = values.agent_name_problem(name)
    if problem and (found := re.search(r"'([^']*)' would do$", problem)):
        assert values.agent_name_problem(found[1]) is None


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("x", "expected a table of strings, got a string"),
        ({"A B": "x"}, "'A B' cannot name an environment variable"),
        ({"1A": "x"}, "'1A' cannot name an environment variable"),
        ({"PORT": 8000}, "PORT: expected a string, got an integer"),
        ({"A": "\0"}, "A: an environment variable holds no NUL"),
    ],
)
def test_variables_are_strings_under_names_that_a_variable_can_have(written, problem):
    assert values.variables({"A_1": "", "b": values.Given.by("file 'x'", "y")}) == {"A_1": "", "b": "y"}
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        values.variables(written)
