"""Which foreign environment, and how its agents form groups.

Imports neither torch nor gymnasium until validated.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from rl_markets.envs.pettingzoo.layout import layout, tells_state
from rl_markets.envs.pettingzoo.spaces import Kind

GroupName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=80)]
Patterns = Annotated[list[str], Field(min_length=1)]


class ForeignParameters(BaseModel):
    """A PettingZoo ParallelEnv by its import path, its arguments, and the groups of its agents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: str = Field(
        max_length=300,
        description="`package.module:callable` that returns a ParallelEnv; "
        "runners on other machines import it, too",
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of the callable"
    )
    groups: Annotated[dict[GroupName, Patterns], Field(min_length=1)] | None = Field(
        None,
        description="group -> names of its agents, or patterns such as `archer_*`; "
        "null puts agents with the same spaces together: `agents`, `agents_2`, ...",
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="steps after which an episode is truncated; null leaves its end to the env",
    )
    discount: float = Field(
        0.99, ge=0, lt=1, description="discount factor; the learner discounts by the same"
    )

    def layout(self) -> dict[str, Kind]:
        """Group -> its agents and their spaces.

        Builds the environment once, and so runs its code.

        Raises:
            ValueError: one line that starts with the parameter to blame.
        """
        return layout(self.env, self.arguments, self.groups)

    def tells_state(self) -> bool:
        """Whether the environment has a `state()` of its own, which a central critic needs."""
        return tells_state(self.env, self.arguments, self.groups)
