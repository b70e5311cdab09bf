"""What agents observe and do, as numbers of numbers. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AgentSpaces:
    """What each agent of a group observes and does, as it is known before the market is built.

    Attributes:
        observation: how many numbers it observes, masks included.
        action: the kind of its action space: `box`, `discrete` or `multidiscrete`.
        numbers: how many numbers an action has.
        choices: what each of them is chosen from; 1 in a box.
    """

    observation: int
    action: Literal["box", "discrete", "multidiscrete"]
    numbers: int = 1
    choices: int = 1

    @property
    def outputs(self) -> int:
        """How many numbers a network gives for an action."""
        return self.numbers * self.choices
