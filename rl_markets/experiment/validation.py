"""What is wrong with an experiment file, in one line: what, where, what was expected."""

from __future__ import annotations

import json
import math
import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rl_markets.envs.registry import did_you_mean
from rl_markets.errors import FieldError

M = TypeVar("M", bound=BaseModel)

MAX_DEPTH = 32
"""Levels of nesting in an experiment file; pydantic and PyYAML give up at some hundreds."""


def validate(model: type[M], data: dict[str, Any]) -> M:
    """`data` as strictly as a JSON document: no conversions, but lists for tuples."""
    return model.model_validate_json(json.dumps(data), strict=True)


def plain(value: Any, path: str = "", depth: int = 0) -> Any:
    """A copy of `value` in what JSON has.

    Mappings with text keys, lists, text, finite numbers, booleans and null.

    Args:
        value: from YAML, or a user's program.
        path: of the value in the file, for errors.
        depth: of the value.

    Raises:
        FieldError: for anything else.
    """
    if depth > MAX_DEPTH:
        raise FieldError(f"{path[:60]}...: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        return {_key(k, path): plain(item, f"{prefix}{k}", depth + 1) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{path}.{i}", depth + 1) for i, item in enumerate(value)]
    if (expected := _not_plain(value)) is not None:
        raise FieldError(f"{path} = {_shown(value)}: expected {expected}")
    return value


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str) or _not_plain(key) is not None:
        raise FieldError(f"{path or 'the file'}: key {_shown(key)}: expected text")
    return key


def _not_plain(value: Any) -> str | None:
    """What was expected in the place of a scalar that JSON has not, or None where it has."""
    if isinstance(value, float):
        return None if math.isfinite(value) else "a finite number"
    if isinstance(value, int):
        return None if value.bit_length() < 64 else "a whole number of at most 64 bits"
    if isinstance(value, str):
        return "Unicode text" if any("\ud800" <= c <= "\udfff" for c in value) else None
    return None if value is None else "text, a number, true, false, null, a list or a mapping"


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
"""pydantic's kinds of errors -> what was expected; braces hold what pydantic tells of the error."""


def first_line(model: type[BaseModel], error: ValidationError, prefix: str = "") -> str:
    """The first error as one line, and how many more there are."""
    errors = error.errors()
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return _line(model, errors[0], prefix) + more


def _line(model: type[BaseModel], error: Any, prefix: str) -> str:
    """One of pydantic's errors: field, what was found, what was expected."""
    location = tuple(key for key in error["loc"] if key != "[key]")  # its mark of a mapping's key
    path = (prefix + ".".join(map(str, location))).rstrip(".")
    kind = error["type"]
    context = error.get("ctx", {})
    if kind == "missing":
        return f"{path}: missing; {_description(model, location)}"
    if kind == "extra_forbidden":
        section = _section(model, location[:-1])
        known = list(section.model_fields) if section else []
        return f"{path}: unknown field{did_you_mean(str(location[-1]), known)}"
    if kind == "value_error":  # a validator's own words; those of a whole section name their field
        return f"{path}: {context['error']}" if location else f"{prefix}{context['error']}"
    if kind in _EXPECTED:
        expected = _EXPECTED[kind].format(**context)
    else:
        expected = error["msg"][:1].lower() + error["msg"][1:]
    return f"{path} = {_shown(error['input'])}: expected {expected}"


def _shown(value: Any) -> str:
    """A value in at most 60 characters."""
    if isinstance(value, int) and value.bit_length() >= 64:  # Python refuses to print some of them
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


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
    """What a missing field should hold."""
    section = _section(model, location[:-1])
    field = section.model_fields.get(str(location[-1])) if section else None
    if field is None or not field.description:
        return "it is required"
    return f"expected {field.description}"
