"""How code below the commands tells a person something: a line, to whoever listens."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]


def to_nobody(line: str) -> None:
    """Nobody listens."""
