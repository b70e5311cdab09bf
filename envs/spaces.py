"""What agents observe and do, as numbers of numbers. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal


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


def described(observation: int, space: Any) -> AgentSpaces:
    """Agents that observe so many numbers and act in `space`: a Discrete, MultiDiscrete or Box."""
    from gymnasium import spaces  # only here: specs are read without it

    if isinstance(space, spaces.Discrete):
        return AgentSpaces(observation, "discrete", choices=int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        numbers = int(space.nvec.size)
        return AgentSpaces(
            observation, "multidiscrete", numbers=numbers, choices=int(space.nvec.max())
        )
    return AgentSpaces(observation, "box", numbers=math.prod(space.shape))
