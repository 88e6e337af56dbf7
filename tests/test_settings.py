"""A plugin's own `Settings`, applied to agents.toml: every bad key is named, and no value ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest

from agenthost.errors import LoadError
from agenthost.settings import validate_settings
from tests.agents_for_tests import SECRET, served


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    name: str
    times: int = 1
    key: pydantic.SecretStr = pydantic.SecretStr("")


class Nested(pydantic.BaseModel):
    model: Model


@dataclass
class Plain:
    name: str
    times: int = 1
    ratio: float = 0.5
    loud: bool = False
    tags: list[str] = field(default_factory=list)
    made: int = field(init=False, default=3)


@dataclass
class Checked:
    times: int = 1

    def __post_init__(self) -> None:
        if self.times < 0:
            raise ValueError("times is at least 0")


class AnyType:
    def __init__(self, name: str = "x") -> None:
        self.name = name


def settings(kind: Any, **given: Any) -> Any:
    return validate_settings(kind, served(None, "billing", settings=given))


def refusal(kind: Any, **given: Any) -> LoadError:
    with pytest.raises(LoadError) as refused:
        settings(kind, **given)
    return refused.value


def test_without_a_type_the_settings_are_the_dict_they_are() -> None:
    assert settings(None, a=1, b={"c": 2}) == {"a": 1, "b": {"c": 2}}


def test_a_pydantic_model_validates_and_converts() -> None:
    found = settings(Model, name="n", times="3", key=SECRET)
    assert (found.name, found.times, found.key.get_secret_value()) == ("n", 3, SECRET)


def test_a_dataclass_takes_its_fields() -> None:
    assert settings(Plain, name="n", ratio=1, loud=True, tags=["a"]) == Plain("n", 1, 1, True, ["a"])


def test_any_other_type_is_called_with_them() -> None:
    assert settings(AnyType, name="n").name == "n"


PREFIX = "agent 'billing' (tests:billing) does not accept its settings: "
PROBLEMS: list[tuple[Any, dict[str, Any], str]] = [
    (Model, {}, "name: Field required"),
    (Model, {"name": "n", "times": SECRET},
     "times: Input should be a valid integer, unable to parse string as an integer"),
    (Model, {"name": 5, "nmae": SECRET}, "name: Input should be a valid string; nmae: Extra inputs are not permitted"),
    (Nested, {"model": {"name": 5}}, "model.name: Input should be a valid string"),
    (Plain, {}, "'name' is missing"),
    (Plain, {"name": "n", "tmies": 3}, "unknown key 'tmies'; did you mean 'times'?"),
    (Plain, {"name": "n", "zzz": 3}, "unknown key 'zzz'"),
    (Plain, {"name": "n", "made": 3}, "unknown key 'made'"),
    (Plain, {"name": SECRET, "times": SECRET}, "'times' must be int, not str"),
    (Plain, {"name": 5, "times": True}, "'name' must be str, not int; 'times' must be int, not bool"),
    (Plain, {"name": "n", "loud": 1, "ratio": "1"}, "'ratio' must be float, not str; 'loud' must be bool, not int"),
    (Checked, {"times": -1}, "times is at least 0"),
    (AnyType, {"nmae": 3}, "AnyType.__init__() got an unexpected keyword argument 'nmae'"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "problem"), PROBLEMS, ids=[row[2] for row in PROBLEMS])
def test_every_bad_key_is_named_and_no_value(kind: Any, given: dict[str, Any], problem: str) -> None:
    refused = refusal(kind, **given)
    assert refused.message == PREFIX + problem
    assert refused.hint == "correct [agents.billing.settings]"
    assert SECRET not in refused.describe()
