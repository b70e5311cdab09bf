"""What the spec of an actor may hold, typed and bounded: it may come from a stranger.

Imports no torch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Width = Annotated[int, Field(ge=1, le=10_000_000)]
Choices = Annotated[int, Field(ge=1, le=1_000_000)]
Bounds = Annotated[list[float], Field(min_length=1, max_length=1_000_000)]


class _Strict(BaseModel):
    """Unknown keys are errors, values are not converted, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Discrete(_Strict):
    """One choice of n."""

    type: Literal["discrete"]
    n: Choices

    @property
    def outputs(self) -> int:
        """How many numbers a network gives for it, at least."""
        return self.n


class MultiDiscrete(_Strict):
    """One choice of n in each branch."""

    type: Literal["multidiscrete"]
    branches: Choices
    n: Choices

    @property
    def outputs(self) -> int:
        """How many numbers a network gives for it, at least."""
        return self.branches * self.n


class Box(_Strict):
    """Numbers between bounds."""

    type: Literal["box"]
    low: Bounds
    high: Bounds

    @model_validator(mode="after")
    def _consistent(self) -> Box:
        if len(self.low) != len(self.high):
            raise ValueError(f"high: {len(self.high)} bounds, expected {len(self.low)}, as in low")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError("high: expected bounds that are not below those of low")
        return self

    @property
    def outputs(self) -> int:
        """How many numbers a network gives for it, at least."""
        return len(self.low)


class ActorSchema(_Strict):
    """Everything needed to build an actor again; see `actors.Actor` and `actors.NetworkActor`."""

    kind: Literal["network", "table"] = "network"
    observation: Width
    action: Annotated[Discrete | MultiDiscrete | Box, Field(discriminator="type")]
    copies: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    masked: bool = False
    heads: Annotated[int, Field(ge=1, le=1_000)] | None = None
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], Field(max_length=64)] = []
    activation: Literal["tanh", "relu", "silu"] = "tanh"
    log_std: float = 0.0
    trained_std: bool = False
    distribution: Literal["logit-normal", "squashed-gaussian", "noisy-tanh"] = "logit-normal"

    @model_validator(mode="after")
    def _consistent(self) -> ActorSchema:
        if self.kind == "table" and not isinstance(self.action, Discrete):
            raise ValueError(f"action.type = {self.action.type!r}: expected discrete, for a table")
        if self.kind == "network":
            for name in ("hidden", "activation"):
                if name not in self.model_fields_set:
                    raise ValueError(f"{name}: missing; a network needs it")
        if isinstance(self.action, Box):
            if self.heads is not None or self.masked:
                raise ValueError("action.type = 'box': expected choices, with heads or masked")
            for name in ("log_std", "trained_std"):
                if self.kind == "network" and name not in self.model_fields_set:
                    raise ValueError(f"{name}: missing; a box needs it")
        elif self.masked and self.observation < self.action.outputs:
            raise ValueError(
                f"observation = {self.observation}: expected at least {self.action.outputs}, "
                "a mask of each choice"
            )
        return self

    @property
    def numbers(self) -> int:
        """How many numbers its weights are, at least."""
        outputs = self.action.outputs * (self.heads or 1)
        copies = self.copies or 1
        if self.kind == "table":
            return copies * outputs
        widths = [self.observation, *self.hidden, outputs]
        return copies * sum(rows * columns for rows, columns in pairwise(widths))
