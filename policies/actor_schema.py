"""What the spec of an actor may hold, typed and bounded: it may come from a stranger.

Exported policies are read without any package but torch, numpy and safetensors: this one asks for
none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rl_markets.errors import PolicyError

WIDEST = 10_000_000
MOST_CHOICES = 1_000_000
MOST_COPIES = 1_000_000
WIDEST_LAYER = 65_536
DEEPEST = 64
MOST_HEADS = 1_000
KINDS = ("network", "table")
ACTIVATIONS = ("tanh", "relu", "silu")
DISTRIBUTIONS = ("logit-normal", "squashed-gaussian", "noisy-tanh")


class Fields:
    """A mapping out of a file, read field by field: each of its type and within its bounds.

    Args:
        data: what should be a mapping.
        where: names it in errors, such as `policy.json: actors.seller`.

    Raises:
        PolicyError: here and in all methods: the field, what was found, what is expected.
    """

    def __init__(self, data: Any, where: str) -> None:
        self.where = where
        if not isinstance(data, dict):
            raise PolicyError(f"{where} = {shown(data)}: expected a mapping")
        self.data: dict[Any, Any] = data
        self.asked: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the field is there, and not null."""
        self.asked.add(name)
        return self.data.get(name) is not None

    def get(self, name: str) -> Any:
        """A field that must be there."""
        if not self.has(name):
            raise PolicyError(f"{self.where}.{name}: missing")
        return self.data[name]

    def whole(self, name: str, least: int, most: int) -> int:
        """A whole number."""
        value = self.get(name)
        if type(value) is not int or not least <= value <= most:
            self.fail(name, value, f"a whole number from {least} to {most}")
        return int(value)

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.get(name)
        if type(value) not in (int, float) or not _finite(value):
            self.fail(name, value, "a finite number")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false; false where it is left out."""
        value = self.get(name) if self.has(name) else False
        if not isinstance(value, bool):
            self.fail(name, value, "true or false")
        return bool(value)

    def one_of(self, name: str, options: Sequence[str]) -> str:
        """One of some words."""
        value = self.get(name)
        if not isinstance(value, str) or value not in options:
            self.fail(name, value, f"one of {', '.join(options)}")
        return str(value)

    def list(self, name: str, most: int) -> list[Any]:
        """A list of at most so many entries."""
        value = self.get(name)
        if not isinstance(value, list) or len(value) > most:
            self.fail(name, value, f"a list of at most {most} entries")
        return list(value)

    def fields(self, name: str) -> Fields:
        """A mapping inside."""
        return Fields(self.get(name), f"{self.where}.{name}")

    def nothing_else(self) -> None:
        """All fields were asked for."""
        for name in self.data:
            if name not in self.asked:
                raise PolicyError(f"{self.where}.{str(name)[:60]}: unknown field")

    def fail(self, name: str, value: Any, expected: str) -> None:
        """Refuses a field."""
        raise PolicyError(f"{self.where}.{name} = {shown(value)}: expected {expected}")


def shown(value: Any) -> str:
    """A value in at most 60 characters."""
    if isinstance(value, int) and value.bit_length() > 200:  # Python refuses to print some of them
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def check_actor(spec: Any, where: str) -> int:
    """Holds a spec to what `actors.build_actor` takes.

    Args:
        spec: see `actors.Actor` and `actors.NetworkActor`.
        where: names it in errors.

    Returns:
        how many numbers its weights are, at least.

    Raises:
        PolicyError: the field, what was found, what is expected.
    """
    fields = Fields(spec, where)
    kind = fields.one_of("kind", KINDS) if fields.has("kind") else KINDS[0]
    observation = fields.whole("observation", 1, WIDEST)
    action = fields.fields("action")
    outputs, choices = _check_action(action)
    copies = fields.whole("copies", 1, MOST_COPIES) if fields.has("copies") else 1
    heads = fields.whole("heads", 1, MOST_HEADS) if fields.has("heads") else 1
    masked = fields.flag("masked")
    if fields.has("distribution"):
        fields.one_of("distribution", DISTRIBUTIONS)
    if not choices and (heads > 1 or masked):
        action.fail("type", "box", "choices, with heads or masked")
    if masked and observation < outputs:
        fields.fail("observation", observation, f"at least {outputs}, a mask of each choice")
    if kind == "table":
        if action.data["type"] != "discrete":
            action.fail("type", action.data["type"], "discrete, for a table")
        fields.nothing_else()
        return copies * outputs
    hidden = _check_network(fields, box=not choices)
    fields.nothing_else()
    widths = [observation, *hidden, outputs * heads]
    return copies * sum(rows * columns for rows, columns in pairwise(widths))


def _check_network(fields: Fields, *, box: bool) -> list[int]:
    """What a network needs beside its action; the widths of its hidden layers."""
    hidden = fields.list("hidden", DEEPEST)
    for width in hidden:
        if type(width) is not int or not 1 <= width <= WIDEST_LAYER:
            fields.fail("hidden", width, f"whole numbers from 1 to {WIDEST_LAYER}")
    fields.one_of("activation", ACTIVATIONS)
    if box or fields.has("log_std"):
        fields.number("log_std")
    if box:
        fields.get("trained_std")
    fields.flag("trained_std")
    return hidden


def _check_action(action: Fields) -> tuple[int, bool]:
    """How many numbers a network gives for an action, at least, and whether it is a choice."""
    kind = action.one_of("type", ("box", "discrete", "multidiscrete"))
    if kind == "box":
        low, high = (action.list(name, MOST_CHOICES) for name in ("low", "high"))
        for name, bounds in (("low", low), ("high", high)):
            if not all(type(b) in (int, float) and _finite(b) for b in bounds):
                action.fail(name, bounds, "finite numbers")
        if not low or len(low) != len(high):
            action.fail("high", high, f"{len(low)} bounds, as many as in low, and at least one")
        if any(a > b for a, b in zip(low, high, strict=True)):
            action.fail("high", high, "bounds that are not below those of low")
        outputs = len(low)
    else:
        outputs = action.whole("n", 1, MOST_CHOICES)
        if kind == "multidiscrete":
            outputs *= action.whole("branches", 1, MOST_CHOICES)
    action.nothing_else()
    return outputs, kind != "box"
