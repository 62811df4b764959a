"""The JSON Schema that a provider publishes says of a configuration what its model would."""

import threading
from typing import Annotated, Any, Literal

import pytest
import structlog
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from lattice import EntityId
from lattice.lattice import Lattice
from lattice.memory import MemoryBroker
from providers.config import read_config
from providers.description import Description, publish, published
from providers.load import BUILTINS, resolve
from providers.schema import model_of, schema_of


class Settings(BaseModel):
    times: int = Field(ge=1, le=3)
    ratio: float | None = Field(None, gt=0)
    mode: Literal["soft", "loud"] = "soft"
    name: str = Field("a", pattern="^[a-z]+$", min_length=1)
    dry: bool = False
    token: SecretStr | None = None
    size: Annotated[int, BeforeValidator(lambda text: int(str(text).removesuffix("k")) * 1024)] = 1
    port: int = Field(1, validation_alias=AliasChoices("port", "my_port"))


@pytest.mark.parametrize(
    "config",
    [
        {"times": "1", "ratio": "0.5", "mode": "loud", "name": "abc", "dry": "yes", "token": "s", "size": "4k"},
        {"TIMES": "2", "my-port": "80"},
        {},
        {"times": "4"},
        {"times": "many", "ratio": "-1", "mode": "shrill", "name": "A", "dry": "perhaps"},
        {"times": "1", "tokne": "s"},
        {"times": "1", "port": "x"},
    ],
)
def test_a_model_and_its_schema_find_the_same(config: dict[str, str]):
    copy = model_of(schema_of(Settings))
    assert copy is not None
    direct, by_schema = (read_config(model, config, of="x").findings for model in (Settings, copy))
    assert by_schema == direct


def test_what_has_no_form_in_json_is_left_out():
    class Odd(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        moment: Any = object()
        size: int = 1

    class Impossible(Odd):
        lock: threading.Event

    found = schema_of(Odd)
    assert found is not None and found["properties"]["size"]["type"] == "integer"
    with structlog.testing.capture_logs() as logs:
        assert schema_of(Impossible) is None
    assert [line["event"] for line in logs] == ["schema.impossible"]


@pytest.mark.parametrize(("extra", "level"), [("forbid", "error"), ("ignore", "warning"), ("allow", None)])
def test_what_becomes_of_unknown_keys_is_part_of_the_schema(extra: Any, level: str | None):
    class Lenient(BaseModel):
        model_config = ConfigDict(extra=extra)
        known: int = 1

    copy = model_of(schema_of(Lenient))
    assert copy is not None
    found = read_config(copy, {"something-else": "1"}, of="x").findings
    assert [finding.level for _, finding in found] == ([level] if level else [])


def test_a_value_whose_schema_says_more_than_a_string_can_tell_is_let_pass():
    copy = model_of(
        {
            "properties": {"list": {"type": "array"}, "either": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]}},
            "additionalProperties": False,
        }
    )
    assert copy is not None
    assert read_config(copy, {"list": "a,b", "either": "x"}, of="x").findings == ()


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": [1]},
        {"properties": {"a": True}},
        {"properties": {"a": {"type": "integer", "minimum": "x"}}},
        {"properties": {"a": {}}, "required": 3},
    ],
)
async def test_a_description_with_what_is_no_schema_is_none(schema: dict[str, Any]):
    async with Lattice("schemas", MemoryBroker().connect()) as lattice:
        await publish(lattice, EntityId("theirs"), Description(link_config=schema))
        with structlog.testing.capture_logs() as logs:
            assert await published(lattice, EntityId("theirs")) is None
        assert [line["event"] for line in logs] == ["provider.description_unusable"]


def test_a_configuration_without_a_schema_takes_any_keys():
    assert schema_of(None) is None and model_of(None) is None and model_of({}) is None


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_every_provider_of_ours_has_a_schema_of_its_links_that_knows_their_keys(name: str):
    kind = resolve(f"builtin:{name}")
    copy = model_of(schema_of(kind.link_config))
    assert copy is not None
    keys = read_config(copy, {"no-such-key-at-all": "1"}, of="x").findings[0][1].why
    assert all(field in keys for field in kind.link_config.model_fields if "_" in field)
