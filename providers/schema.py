"""The JSON Schema of a configuration, and back: a model to hold strings against, where only the schema is at hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import structlog
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaError

from providers.config import spellings

log = structlog.get_logger("providers")

RANGES = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
LENGTHS = {"minLength": "min_length", "maxLength": "max_length"}
"""From JSON Schema's words to pydantic's."""


def schema_of(model: type[BaseModel] | None) -> dict[str, Any] | None:
    """What is taken as this configuration: None for any keys.

    It says `additionalProperties: false` where an unknown key is an error and `true` where it is none; a property's
    further names are its `aliases`.
    """
    if model is None:
        return None
    try:
        schema = model.model_json_schema(schema_generator=_Taken)
    except PydanticInvalidForJsonSchema as error:
        log.warning("schema.impossible", model=model.__qualname__, error=error.message)
        return None
    for name in model.model_fields:
        first, *others = spellings(model, name)
        if others and first in schema.get("properties", {}):
            schema["properties"][first]["aliases"] = others
    extra = model.model_config.get("extra", "forbid")
    if extra != "ignore":
        schema["additionalProperties"] = extra == "allow"
    return schema


class _Taken(GenerateJsonSchema):
    """What a validator makes of a value is not what people write: anything may be what it takes."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  pydantic's own

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        return super().function_before_schema(schema) if _told(schema) else {}

    def function_wrap_schema(self, schema: Any) -> JsonSchemaValue:
        return super().function_wrap_schema(schema) if _told(schema) else {}

    def function_plain_schema(self, schema: Any) -> JsonSchemaValue:
        return super().function_plain_schema(schema) if _told(schema) else {}


def _told(schema: Any) -> bool:
    """What such a validator takes is known: its author said so, or it is that of a whole model."""
    return "json_schema_input_schema" in schema or schema.get("schema", {}).get("type") in ("model", "model-fields")


def model_of(schema: Mapping[str, Any] | None) -> type[BaseModel] | None:
    """A model that takes what the schema takes, as far as a string can tell; None where any keys are taken.

    Raises ValueError for what is no schema of an object.
    """
    try:
        return _model(schema)
    except (AttributeError, TypeError, PydanticUserError, SchemaError) as error:
        raise ValueError(f"not a JSON Schema of an object: {error}") from error


def _model(schema: Mapping[str, Any] | None) -> type[BaseModel] | None:
    if schema is None or ("properties" not in schema and schema.get("additionalProperties") is not False):
        return None
    unknown: dict[Any, Any] = {True: "allow", False: "forbid"}
    extra = unknown.get(schema.get("additionalProperties"), "ignore")
    fields: dict[str, Any] = {}
    for number, (name, its) in enumerate(schema.get("properties", {}).items()):
        kind = _kind(its, schema.get("$defs", {}))
        names = AliasChoices(name, *its.get("aliases", ()))
        needed = name in schema.get("required", ())
        fields[f"field_{number}"] = (
            (kind, Field(validation_alias=names)) if needed else (kind | None, Field(None, validation_alias=names))
        )
    return create_model("Published", __config__=ConfigDict(extra=extra, regex_engine="python-re"), **fields)


def _kind(schema: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    """The type of one value. Any, where a string cannot be held against it without knowing more."""
    match schema:
        case {"$ref": str(place)}:
            return _kind(known.get(place.rpartition("/")[2], {}), known)
        case {"anyOf": [*ways]}:
            values = [way for way in ways if way.get("type") != "null"]
            return _kind(values[0], known) if len(values) == 1 else Any
        case {"enum": [*values]} if values and all(isinstance(value, str) for value in values):
            return Literal[tuple(values)]
        case {"type": "string", "writeOnly": True}:
            return SecretStr
        case {"type": "string"}:
            return Annotated[str, Field(**_limits(schema, LENGTHS), pattern=_pattern(schema))]
        case {"type": "integer"}:
            return Annotated[int, Field(**_limits(schema, RANGES))]
        case {"type": "number"}:
            return Annotated[float, Field(**_limits(schema, RANGES))]
        case {"type": "boolean"}:
            return bool
    return Any


def _limits(schema: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    return {ours: schema[theirs] for theirs, ours in known.items() if theirs in schema}


def _pattern(schema: Mapping[str, Any]) -> str | None:
    """None for one in another language's dialect."""
    try:
        re.compile(schema["pattern"])
    except (KeyError, re.error):
        return None
    return str(schema["pattern"])
