"""What is wrong with an experiment file, in one line: what, where, what was expected."""

from __future__ import annotations

import json
import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rl_markets.envs.registry import did_you_mean

M = TypeVar("M", bound=BaseModel)


class ExperimentError(ValueError):
    """An experiment file cannot be run; the message is one line."""


def validate(model: type[M], data: dict[str, Any]) -> M:
    """`data` as strictly as a JSON document: no conversions, but lists for tuples."""
    return model.model_validate_json(json.dumps(data, default=str), strict=True)


_EXPECTED = {
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le}",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a section",
    "model_attributes_type": "a section",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "at most {max_length} characters",
}


def first_line(model: type[BaseModel], data: Any, error: ValidationError, prefix: str = "") -> str:
    """The first error as one line, and how many more there are."""
    errors = error.errors()
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return _line(model, errors[0], prefix) + more


def _line(model: type[BaseModel], error: Any, prefix: str) -> str:
    path = prefix + ".".join(str(key) for key in error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return f"{path}: missing; {_description(model, error['loc'])}"
    if kind == "extra_forbidden":
        section = _section(model, error["loc"][:-1])
        known = list(section.model_fields) if section else []
        return f"{path}: unknown field{did_you_mean(str(error['loc'][-1]), known)}"
    if kind == "value_error":  # raised by a rule of ours, which names its own field
        return f"{prefix}{context['error']}"
    found = error["input"]
    shown = repr(found) if isinstance(found, str) else str(found)
    expected = _EXPECTED.get(kind, error["msg"][:1].lower() + error["msg"][1:]).format(**context)
    return f"{path} = {shown if len(shown) <= 60 else shown[:57] + '...'}: expected {expected}"


def _section(model: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel] | None:
    """The model that describes `location`, through nested sections and mappings of sections."""
    current: Any = model
    for key in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(key))
            current = None if field is None else field.annotation
        elif typing.get_origin(current) is dict:
            current = typing.get_args(current)[1]
        else:
            return None
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _description(model: type[BaseModel], location: tuple[Any, ...]) -> str:
    section = _section(model, location[:-1])
    field = section.model_fields.get(str(location[-1])) if section else None
    return f"expected {field.description}" if field is not None and field.description else "it is required"
