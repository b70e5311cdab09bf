"""Odd values, and where to put them: shared by what attacks files."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

NUMBERS = (0, 1, -1, 2, 7, 10**3, 10**6, 10**9, 10**18, 2**63, 10**400)
REALS = (
    *(0.0, 1.0, -1.0, 0.5, 1e-300, 1e-12, 1e-9, 0.999999, 1e9, 1e12, 1e300),
    *(float("nan"), float("inf")),
)
TEXTS = ("", "x", "/etc/passwd", "../up", "[/b]", "a:b", "ü\u2028", "x" * 10_000)
LEARNERS = ("ppo", "sac", "td3", "ddpg", "dqn", "analytic")
OTHERS: tuple[Any, ...] = (None, True, [], {}, [[]], {"a": 1})

Place = tuple[Any, ...]
"""Keys and indices from the root to a value."""


def places(data: Any, path: Place = ()) -> Iterator[Place]:
    """Where there are values, mappings and lists among them."""
    if path:
        yield path
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        if key == "arguments":  # of foreign code, which may make of them what it likes
            continue
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def at(data: Any, place: Place) -> Any:
    """What is there, or None."""
    for key in place:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def put(data: Any, place: Place, value: Any) -> bool:
    """Puts a value there; whether there was a place for it."""
    for key in place[:-1]:
        if isinstance(data, dict):
            data = data.setdefault(key, {})
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            return False
    last = place[-1]
    if isinstance(data, list) and not (isinstance(last, int) and last < len(data)):
        return False
    if not isinstance(data, dict | list):
        return False
    data[last] = value
    return True


def take(data: Any, place: Place) -> None:
    """Takes away what is there."""
    holder = at(data, place[:-1]) if place[:-1] else data
    if isinstance(holder, dict):
        holder.pop(place[-1], None)
    elif isinstance(holder, list) and place[-1] < len(holder):
        del holder[place[-1]]


def odd(value: Any, generator: random.Random) -> Any:
    """Something else in the place of `value`, often of its own type."""
    if generator.random() < 0.15:
        return generator.choice(OTHERS + TEXTS + NUMBERS + REALS)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return generator.choice((*NUMBERS, 3 * value + 1, value // 2))
    if isinstance(value, float):
        return generator.choice((*REALS, *NUMBERS, 3 * value, value / 7))
    if isinstance(value, str):
        return generator.choice((*TEXTS, *LEARNERS, "pricing", "points", "table", "discrete"))
    if isinstance(value, list) and value:
        return generator.choice((value * 2, value[:-1], value[::-1], value * 1000))
    return generator.choice(OTHERS + NUMBERS + REALS)


def shown(place: Place, value: Any) -> str:
    """A change in words."""
    return f"{'.'.join(map(str, place))} = {str(value)[:40]}"
