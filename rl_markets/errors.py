"""Errors."""

from __future__ import annotations


class ConvergenceError(RuntimeError):
    """An iterative solver stopped before reaching its tolerance."""


class ExperimentError(ValueError):
    """An experiment file cannot be run; the message is one line, whatever the file put into it."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


class FieldError(ValueError):
    """A rule is broken; the message starts with the path of the field to blame."""
