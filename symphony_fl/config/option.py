"""One key of a recipe: its default, its meaning and the values it admits. The base of all classes of options."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from symphony_fl import registry


def option(
    default: Any, doc: str, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> Any:
    """A recipe's field: its default, its meaning, and the range it admits (`above` excludes the bound)."""
    if isinstance(default, list):
        return Field(default_factory=lambda: list(default), description=doc)
    return Field(default=default, description=doc, ge=low, le=high, gt=above)


class Options(BaseModel):
    """A section of a recipe. Exactly its fields, exactly their types, nothing infinite, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


class ComponentOptions(Options):
    """The options of a component that a recipe chooses by name; subclasses fix the name."""

    name: str


class Chosen:
    """Marks a field whose value is a component of `kind`: `Annotated[ComponentOptions, Chosen("rules")]`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def options_of(self, name: str) -> type[ComponentOptions]:
        """The options class of that name.

        Raises
        ------
        KeyError
            No component of this kind has the name.
        """
        found: type[ComponentOptions] = registry.components(self.kind)[name].options
        return found

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.model_dump()),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        known = registry.components(self.kind)
        return {
            "anyOf": [
                {"enum": list(known)},
                *(handler(component.options.__pydantic_core_schema__) for component in known.values()),
            ]
        }

    def _validate(self, value: Any, info: ValidationInfo) -> ComponentOptions:
        if isinstance(value, ComponentOptions):
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("mapping", "must be a mapping of keys to values")
        name = value.get("name")
        if not isinstance(name, str) or name not in registry.components(self.kind):
            raise PydanticCustomError("component", "unknown", {"name": name, "kind": self.kind})
        return self.options_of(name).model_validate(value, context=info.context)
