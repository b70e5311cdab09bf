"""The sections of an experiment file: typed, bounded, strict.

The only place where a setting is defined: each field is typed, with its unit, bounds and a
sentence; that is the validator, what an error says is expected, and the reference in
`docs/experiments.md`. Nothing here imports torch or ray.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

PolicyName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=80)]
"""Names files, metrics and RLlib's modules, so that it holds no dots, commas or slashes."""


class Section(BaseModel):
    """Base of all sections.

    Unknown keys are errors, values are not converted, numbers are finite.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def __getstate__(self) -> dict[Any, Any]:
        """The fields alone, without what was worked out from them.

        Cached properties neither travel to other processes nor get into a changed copy, in which
        they would be wrong.
        """
        state = super().__getstate__()
        fields = type(self).model_fields
        values = {name: value for name, value in state["__dict__"].items() if name in fields}
        return {**state, "__dict__": values}

    def __copy__(self) -> Self:
        """A copy that works everything out anew; `model_copy` begins with it."""
        copied = super().__copy__()
        copied.__setstate__(copied.__getstate__())
        return copied


class MarketSection(Section):
    """Which market, and how many worlds of it."""

    name: str = Field(description="a market's name; `rl-markets markets` lists them")
    worlds: int = Field(
        64, ge=1, le=1_000_000, description="worlds stepped in parallel by each runner"
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="the market's own parameters; lists may come from files"
    )


class PolicySection(Section):
    """One policy: who follows it, and its networks."""

    groups: list[str] = Field(min_length=1, description="the agent groups that share this policy")
    hidden: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        [64, 64], max_length=8, description="widths of the hidden layers"
    )
    activation: Literal["tanh", "relu", "silu"] = Field(
        "tanh", description="activation of the hidden layers"
    )
    separate: bool = Field(
        False, description="a policy for each agent, as stacked weights; false shares one"
    )
    central_critic: bool = Field(
        False, description="critics see the market's global state, too; actors never do"
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="replaces some of algorithm.parameters for this policy"
    )
    scripted: str | None = Field(
        None,
        min_length=1,
        description="a rule of the market, or package.module:function, in place of learning",
    )
    frozen: str | None = Field(
        None,
        min_length=1,
        description="a run or an exported policy that acts for these groups, in place of learning",
    )

    @property
    def learns(self) -> bool:
        """Whether this policy is trained."""
        return self.scripted is None and self.frozen is None


class AlgorithmSection(Section):
    """Which learner, and its hyper-parameters."""

    name: str = Field(description="a learner's name; `rl-markets markets` lists them")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="the learner's own parameters"
    )


class TrainingSection(Section):
    """How long, where, and how often to look."""

    OPEN: ClassVar[tuple[str, ...]] = (
        "agent_steps",
        "runners",
        "learners",
        "gpus_per_learner",
        "step_seconds",
        "evaluate_every",
        "checkpoint_every",
        "keep_checkpoints",
    )
    """Fields that a run may change while it goes on: how long, where, how often to look."""

    agent_steps: int = Field(
        ge=1, le=10**13, description="length of training, summed over agents and worlds"
    )
    rollout_length: int = Field(
        32, ge=1, le=100_000, description="steps each world takes in each iteration"
    )
    runners: int = Field(
        0, ge=0, le=10_000, description="runner actors, a CPU each; 0: the driver samples"
    )
    learners: int = Field(0, ge=0, le=1_000, description="learner actors; 0: the driver learns")
    gpus_per_learner: float = Field(
        0, ge=0, le=1, description="GPUs of each learner; 0 learns on the CPU"
    )
    step_seconds: float = Field(
        5, gt=0, le=86_400, description="what a market's step may take; then the run fails"
    )
    evaluate_every: int = Field(
        10, ge=1, description="iterations between looks at the known answer"
    )
    checkpoint_every: int = Field(50, ge=1, description="iterations between checkpoints")
    keep_checkpoints: int = Field(
        3, ge=2, le=1000, description="checkpoints kept; one to fall back on"
    )


class CertificateSection(Section):
    """How thoroughly the trained policies are examined."""

    seeds: int = Field(10, ge=2, le=1000, description="evaluation seeds; intervals are over these")
    deviation_agent_steps: int | None = Field(
        None,
        ge=0,
        le=10**13,
        description="training of a deviating agent, in its own steps; 0 skips it; "
        "null trains one for 500,000 where nothing else tells what an agent could gain",
    )
