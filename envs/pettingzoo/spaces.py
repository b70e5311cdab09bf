"""What a foreign agent may do and sees, in the shapes that markets have.

Actions are `Discrete`, `MultiDiscrete` with as many choices in every branch, or a flat Box; what
has another shape is flattened, and choices that a branch lacks are masked. Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rl_markets.envs.spaces import AgentSpaces, described

MASK = "action_mask"
"""PettingZoo's name of a mask: an entry of an agent's info, or of its observation."""


@dataclass(frozen=True)
class Kind:
    """One group: its agents in the environment's order, and what they share.

    Attributes:
        agents: their names.
        observation_space: the environment's own, without a mask.
        action_space: the environment's own.
        mask_in: where masks are told, `observation` or `info`; None where there are none.
    """

    agents: tuple[Any, ...]
    observation_space: Any
    action_space: Any
    mask_in: str | None = None

    @cached_property
    def branches(self) -> list[int] | None:
        """Choices of each branch of an action; None for a Box."""
        return branches(self.action_space)

    @cached_property
    def masked(self) -> bool:
        """Whether observations end with a mask."""
        own = self.branches
        return own is not None and (self.mask_in is not None or len(set(own)) > 1)

    @cached_property
    def width(self) -> int:
        """Entries of a flat observation, without a mask."""
        from gymnasium import spaces

        return int(spaces.flatdim(self.observation_space))

    @property
    def described(self) -> AgentSpaces:
        """What an agent observes and does in a market, masks included."""
        mask = max(self.branches) * len(self.branches) if self.branches and self.masked else 0
        return described(self.width + mask, self.market_space)

    @property
    def market_space(self) -> Any:
        """The space of an action in a market."""
        import numpy as np
        from gymnasium import spaces

        own = self.branches
        if own is None:
            low, high = (
                np.ravel(bound).astype(np.float32)
                for bound in (self.action_space.low, self.action_space.high)
            )
            return spaces.Box(low, high, dtype=np.float32)
        if isinstance(self.action_space, spaces.Discrete):
            return spaces.Discrete(own[0])
        return spaces.MultiDiscrete([max(own)] * len(own))

    def native(self, actions: Any) -> Any:
        """A market's actions `[worlds, agents, ...]` as the environment's, in its own type."""
        import numpy as np
        from gymnasium import spaces

        space = self.action_space
        own = actions.reshape(*actions.shape[:2], *space.shape).astype(space.dtype)
        if isinstance(space, spaces.Box):
            return own.clip(space.low, space.high)
        start = np.zeros_like(own[0, 0]) if isinstance(space, spaces.MultiBinary) else space.start
        return own + start

    def mask(self, told: Any) -> Any:
        """`[choices]` of an agent, 1 where a choice is allowed; `told` is None where all are.

        Raises:
            ValueError: what was told is no mask of its action space, or allows nothing.
        """
        import numpy as np

        own = self.branches or []
        width = max(own)
        if told is None:
            flat = np.ones(sum(own))
        else:
            parts = told if isinstance(told, tuple | list) else [told]
            flat = np.concatenate([np.ravel(np.asarray(part)) for part in parts])
        if flat.shape != (sum(own),) or not np.isin(flat, (0, 1)).all():
            raise ValueError(f"expected {sum(own)} entries of 0 or 1")
        mask = np.zeros((len(own), width), np.float32)
        start = 0
        for branch, choices in enumerate(own):
            mask[branch, :choices] = flat[start : start + choices]
            start += choices
        if not mask.any(1).all():
            raise ValueError("allows nothing; expected at least one choice")
        return mask.reshape(-1)


def branches(space: Any) -> list[int] | None:
    """Choices of each branch of an action space; None for a Box."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec.ravel()]
    if isinstance(space, spaces.MultiBinary):
        return [2] * math.prod(space.shape)
    return None


def without_mask(observation: Any, action: Any) -> tuple[Any, bool]:
    """An observation space less the mask of its agent's actions, and whether it has one."""
    from gymnasium import spaces

    has_one = isinstance(observation, spaces.Dict) and MASK in observation.spaces
    if not has_one or branches(action) is None:
        return observation, False
    rest = {name: part for name, part in observation.spaces.items() if name != MASK}
    return spaces.Dict(rest), True
