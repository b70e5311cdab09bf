"""What the service must know of a learner before it is built. Imports neither torch nor ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rl_markets.envs.registry import import_object


class LearnerParameters(BaseModel):
    """What every learner's parameters have; a learner's own model adds to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    undiscounted: ClassVar[bool] = False
    """Whether it learns with a discount factor of 1, in episodes that end."""

    common: ClassVar[tuple[str, ...]] = ()
    """Parameters that all policies of an experiment share; others may be set for each policy."""

    gamma: float | None = Field(
        None, ge=0, le=1, description="discount factor; null takes the market's own"
    )

    @property
    def discount(self) -> float:
        """The discount factor; experiments fill it in where it is left to the market.

        Raises:
            ValueError: where no experiment did.
        """
        if self.gamma is None:
            raise ValueError("gamma: missing; an experiment takes it from its market")
        return self.gamma

    def fine_tuning(self) -> dict[str, Any]:
        """What changes where training goes on from a trained policy, as a deviator's does."""
        return {}

    def smoke(self, rows: int) -> dict[str, Any]:
        """What changes where an iteration brings only `rows` agent steps, as in `--smoke`."""
        return {}


class GradientParameters(LearnerParameters):
    """What every learner that follows gradients has."""

    learning_rate: float = Field(
        1e-3, gt=0, le=1, description="the actor's step size (Adam) at the start"
    )
    final_learning_rate: float = Field(
        0.0, ge=0, le=1, description="step size at the end; linear in between"
    )
    gradient_clip: float = Field(
        0.5, gt=0, description="largest norm of each network's gradient, each agent's own"
    )

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate: expected at most learning_rate = {self.learning_rate:g}, "
                f"found {self.final_learning_rate:g}"
            )
        return self

    def fine_tuning(self) -> dict[str, Any]:
        """Smaller steps."""
        rates = ("learning_rate", "final_learning_rate")
        return {name: 0.3 * getattr(self, name) for name in rates}


class ReplayParameters(GradientParameters):
    """What every learner that replays has."""

    updates: int = Field(16, ge=1, le=1_000_000, description="gradient steps in each iteration")
    batch_size: int = Field(
        256, ge=1, le=10**7, description="rows of each gradient step, over all learners"
    )
    capacity: int = Field(
        1_000_000,
        ge=1,
        le=10**9,
        description="rows that each learner's replay keeps; separate policies' count worlds",
    )
    store_replay: bool = Field(
        True, description="checkpoints hold the replay, so that a resumed run goes on alike"
    )
    target_rate: float = Field(
        0.03, gt=0, le=1, description="Polyak rate of the targets, each time that they follow"
    )
    averaging: float = Field(
        0.95, ge=0, lt=1, description="decay, per iteration, of the averaged actor that is deployed"
    )

    def smoke(self, rows: int) -> dict[str, Any]:
        """Few and small gradient steps."""
        return {"updates": min(self.updates, 8), "batch_size": min(self.batch_size, 64)}


class ActorCriticReplayParameters(ReplayParameters):
    """What learners of actors and critics that replay have."""

    critic_learning_rate: float = Field(
        3e-3, gt=0, le=1, description="the critics' step size at the start; falls alike"
    )


@dataclass(frozen=True)
class LearnerSpec:
    """A learning algorithm.

    Attributes:
        name: the name in experiment files.
        summary: one sentence for `rl-markets markets`.
        parameters: the pydantic model of `algorithm.parameters` in the experiment file.
        learner: import path `module:Class` of the `RolloutLearner`.
        module: import path of the `MarketModule` that acts and is trained.
        metrics: name -> meaning of what the learner reports of each policy in each update.
        actions: the kinds of action spaces that it can learn, as in `heads.describe_space`.
        actor: what acts, a network or a table; see `actors.build_actor`.
        differentiates: whether it takes gradients through the market, every `horizon` steps of a
            rollout from the state that the runner was in.
    """

    name: str
    summary: str
    parameters: type[LearnerParameters]
    learner: str
    module: str
    metrics: dict[str, str]
    actions: tuple[str, ...] = ("box", "discrete", "multidiscrete")
    actor: Literal["network", "table"] = "network"
    differentiates: bool = False

    def cannot(self, group: str, action: str) -> str | None:
        """Why it cannot learn what a group does, in words; None where it can."""
        if action in self.actions:
            return None
        return (
            f"algorithm.name = {self.name!r}: learns {' and '.join(self.actions)} actions, "
            f"those of group {group!r} are {action}"
        )

    def load(self) -> tuple[type[Any], type[Any]]:
        """Imports the learner and module classes (and with them ray)."""
        return import_object(self.learner), import_object(self.module)
