"""A change of a good experiment file that must be refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

NAN = float("nan")
INF = float("inf")


class _Removed:
    def __repr__(self) -> str:
        return "REMOVED"


REMOVED = _Removed()
"""Says of a field that it is left out."""


@dataclass(frozen=True)
class Mutation:
    """A change that must be refused.

    Attributes:
        name: the test's id.
        changes: path -> new value, or a function of the file's content; `POLICY` is the first
            policy's name.
        expected: what the one line must contain; the values of `{}` come from the file's content.
    """

    name: str
    changes: dict[str, Any]
    expected: list[str] = field(default_factory=list)


def first_policy(data: dict[str, Any]) -> Any:
    return copy.deepcopy(next(iter(data["policies"].values())))


def renamed_policy(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda data: {name: first_policy(data)}


def all_scripted(rule: str) -> Callable[[dict[str, Any]], Any]:
    """A single policy of all groups, which follows a rule."""

    def policies(data: dict[str, Any]) -> Any:
        groups = [group for section in data["policies"].values() for group in section["groups"]]
        return {"everybody": {"groups": groups, "scripted": rule}}

    return policies


def mutated(data: dict[str, Any], mutation: Mutation) -> dict[str, Any]:
    """`data` with the mutation's changes, each a function of the original."""
    result = copy.deepcopy(data)
    policy = next(iter(data["policies"]))
    for path, value in mutation.changes.items():
        if path.startswith("policies."):
            path = path.replace("POLICY", policy)
        keys = path.split(".")
        section = result
        for key in keys[:-1]:
            section = section.setdefault(key, {})
        section[keys[-1]] = value(data) if callable(value) else value
        if value is REMOVED:
            del section[keys[-1]]
    return result
