"""What a group follows. Needs torch alone, so that an exported policy is light to load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

PolicyFunction = Callable[[Tensor], Tensor]
"""A deterministic policy: observations `[..., observation]` -> actions `[..., action]` in the
action space."""


@dataclass(frozen=True)
class Policy:
    """What a group follows: a deterministic policy, and the probabilities of all choices where it
    mixes them.

    Attributes:
        act: observations `[..., observation]` -> actions `[..., action]`, as a call of the policy
            itself gives them.
        mixed: observations -> probabilities `[..., choices]` (`[..., branches, choices]`), or None
            where it has none.
    """

    act: PolicyFunction
    mixed: Callable[[Tensor], Tensor | None] | None = None

    def __call__(self, observations: Tensor) -> Tensor:
        """The deterministic policy's actions."""
        return self.act(observations)

    def probabilities(self, observations: Tensor) -> Tensor | None:
        """With which probabilities it makes each choice, or None where it is deterministic or its
        actions continuous."""
        return None if self.mixed is None else self.mixed(observations)
