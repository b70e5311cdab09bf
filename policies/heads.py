"""Action heads: what turns a network's output into a distribution over actions.

A head works on *raw* actions, in which densities are simple, and maps them into the action space by
`to_action`. Heads of separate policies hold one set of parameters an agent, `[agents, ...]`, which
broadcasts over `[..., agents, ...]`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MARGIN = 1 / 98
"""Share of the box by which the sigmoid reaches beyond each bound; turns [.01, .99] into [0, 1]."""

QUADRATURE = 7
"""Nodes of the Gauss-Hermite quadrature of a mean action."""

LOG_STD_LOW = -6.0
LOG_STD_HIGH = 1.0
"""Bounds of the log standard deviation where the network gives it."""

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Head(nn.Module, ABC):
    """What turns a network's output `[..., inputs]` into actions."""

    inputs: int
    """Width of the network's output that the head needs."""

    @abstractmethod
    def to_action(self, raw: Tensor) -> Tensor:
        """Maps raw actions into the action space."""

    @abstractmethod
    def deterministic(self, out: Tensor) -> Tensor:
        """The deterministic policy's action, in the action space."""


class ActionHead(Head):
    """A distribution over actions, given a network's output `[..., inputs]`."""

    @abstractmethod
    def sample(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Draws raw actions `[..., action]`; continuous ones carry gradients (reparametrised)."""

    @abstractmethod
    def log_prob(self, out: Tensor, raw: Tensor) -> Tensor:
        """Log density (or log probability) of `raw`, `[...]`."""

    @abstractmethod
    def entropy(self, out: Tensor) -> Tensor:
        """Entropy of the raw action, `[...]`."""


class _Squashed(ActionHead):
    """Gaussian raw actions, squashed into the box `[low, high]`."""

    low: Tensor
    high: Tensor
    nodes: Tensor
    weights: Tensor

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32))
        nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE)
        self.register_buffer("nodes", torch.tensor(nodes, dtype=torch.float32), persistent=False)
        self.register_buffer(
            "weights", torch.tensor(weights / weights.sum(), dtype=torch.float32), persistent=False
        )

    @abstractmethod
    def moments(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the raw action, broadcastable to each other."""

    def sample(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """mean + std * eps."""
        mean, log_std = self.moments(out)
        noise = torch.randn(mean.shape, generator=generator, device=out.device, dtype=out.dtype)
        return torch.addcmul(mean, torch.exp(log_std), noise)

    def entropy(self, out: Tensor) -> Tensor:
        """Gaussian entropy."""
        mean, log_std = self.moments(out)
        return (log_std + HALF_LOG_2PI + 0.5).sum(-1).expand(mean.shape[:-1])

    def deterministic(self, out: Tensor) -> Tensor:
        """The mean action, by quadrature: on average it uses what exploration used."""
        raw, log_std = self.moments(out)
        std = torch.exp(log_std)
        mean = torch.zeros_like(raw)
        for node, weight in zip(self.nodes, self.weights, strict=True):
            mean = mean + weight * self.to_action(raw + node * std)
        return mean

    def _clamped(self, action: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(action, self.low), self.high)


class _OneStd(_Squashed):
    """One standard deviation for all states: a trained parameter, or set by `set_log_std`."""

    log_std: Tensor

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        *,
        log_std: float,
        trained_std: bool,
        copies: int | None = None,
    ) -> None:
        super().__init__(low, high)
        self.inputs = len(low)
        shape = (self.inputs,) if copies is None else (copies, self.inputs)
        start = torch.full(shape, float(log_std))
        if trained_std:
            self.log_std = nn.Parameter(start)
        else:
            self.register_buffer("log_std", start)

    def moments(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """The output is the mean."""
        return out, self.log_std

    @torch.no_grad()
    def set_log_std(self, log_std: float) -> None:
        """Sets the standard deviation of every dimension."""
        self.log_std.fill_(log_std)


class _Tanh(_Squashed):
    """Squashed by a tanh.

    `log_prob` is the density of tanh(raw) in [-1, 1]: a target entropy does not depend on the box.
    """

    def log_prob(self, out: Tensor, raw: Tensor) -> Tensor:
        """Log density of tanh(raw): Gaussian log density less log (1 - tanh^2)."""
        mean, log_std = self.moments(out)
        z = (raw - mean) * torch.exp(-log_std)
        # log (1 - tanh^2) as it stays finite where tanh rounds to 1
        squash = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))
        return -(0.5 * z.square() + log_std + HALF_LOG_2PI + squash).sum(-1)

    def to_action(self, raw: Tensor) -> Tensor:
        """Strictly inside the box, but for rounding."""
        half = 0.5 * (self.high - self.low)
        squashed = torch.addcmul(self.low + half, half, torch.tanh(raw))
        # where tanh is 1, rounding may lead out of the box
        return self._clamped(squashed)


class LogitNormal(_OneStd):
    """Gaussian raw actions, squashed by a sigmoid into a box a little too wide, and clamped to it.

    The margin lets the bounds themselves be played: a sigmoid only comes near its ends. `log_prob`
    is the density of the raw action: probability ratios are the same in both.

    The standard deviation does not depend on the state, as in most PPO implementations.
    """

    margin: Tensor

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        *,
        log_std: float,
        trained_std: bool,
        copies: int | None = None,
    ) -> None:
        super().__init__(low, high, log_std=log_std, trained_std=trained_std, copies=copies)
        self.register_buffer("margin", MARGIN * (self.high - self.low), persistent=False)

    def log_prob(self, out: Tensor, raw: Tensor) -> Tensor:
        """Gaussian log density, summed over the action's dimensions."""
        z = (raw - out) * torch.exp(-self.log_std)
        return -0.5 * z.square().sum(-1) - (self.log_std + HALF_LOG_2PI).sum(-1)

    def to_action(self, raw: Tensor) -> Tensor:
        """The squashed and clamped action."""
        low = self.low - self.margin
        width = self.high - self.low + 2 * self.margin
        squashed = torch.addcmul(low, width, torch.sigmoid(raw))
        return self._clamped(squashed)


class SquashedGaussian(_Tanh):
    """Gaussian raw actions, squashed by a tanh (Haarnoja et al. 2018).

    Mean and standard deviation depend on the state.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        super().__init__(low, high)
        self.inputs = 2 * len(low)

    def moments(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Mean, and log standard deviation within its bounds (0 in, about -0.6 out)."""
        mean, raw_log_std = out.chunk(2, -1)
        middle = (LOG_STD_HIGH + LOG_STD_LOW) / 2
        half = (LOG_STD_HIGH - LOG_STD_LOW) / 2
        return mean, middle + half * torch.tanh(raw_log_std + 0.65)


class NoisyTanh(_OneStd, _Tanh):
    """A deterministic policy, squashed by a tanh, explored by Gaussian noise on raw actions."""

    def deterministic(self, out: Tensor) -> Tensor:
        """The action without noise, at which the critics' values are largest.

        No average over the noise, as elsewhere.
        """
        return self.to_action(out)


class Categorical(ActionHead):
    """One of `n` actions, by the softmax of the network's output."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.inputs = n

    def sample(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """The Gumbel-max trick: one draw, any leading shape."""
        uniform = torch.rand(out.shape, generator=generator, device=out.device, dtype=out.dtype)
        # neither logarithm may see a 0
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return torch.argmax(out + gumbel, -1)

    def log_prob(self, out: Tensor, raw: Tensor) -> Tensor:
        """Log softmax at `raw`."""
        return torch.log_softmax(out, -1).gather(-1, raw.unsqueeze(-1)).squeeze(-1)

    def probabilities(self, out: Tensor) -> Tensor:
        """The softmax, `[..., n]`."""
        return torch.softmax(out, -1)

    def entropy(self, out: Tensor) -> Tensor:
        """-sum p log p."""
        log_p = torch.log_softmax(out, -1)
        return -(log_p.exp() * log_p).sum(-1)

    def to_action(self, raw: Tensor) -> Tensor:
        """The index itself."""
        return raw

    def deterministic(self, out: Tensor) -> Tensor:
        """The most probable action."""
        return torch.argmax(out, -1)


class Factored(Categorical):
    """One of `n` choices in each of several branches.

    The branches are independent of each other given the observation.

    Args:
        branches: how many choices are made at once.
        n: how many there are in each.
    """

    def __init__(self, branches: int, n: int) -> None:
        super().__init__(n)
        self.branches = branches
        self.n = n
        self.inputs = branches * n

    def by_branch(self, out: Tensor) -> Tensor:
        """The network's output `[..., inputs]` as `[..., branches, n]`."""
        branches: Tensor = out.unflatten(-1, (self.branches, self.n))
        return branches

    def sample(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """One choice of each branch, `[..., branches]`."""
        return super().sample(self.by_branch(out), generator)

    def log_prob(self, out: Tensor, raw: Tensor) -> Tensor:
        """The sum over branches."""
        return super().log_prob(self.by_branch(out), raw).sum(-1)

    def probabilities(self, out: Tensor) -> Tensor:
        """The softmax of each branch, `[..., branches, n]`."""
        return super().probabilities(self.by_branch(out))

    def entropy(self, out: Tensor) -> Tensor:
        """The sum over branches."""
        return super().entropy(self.by_branch(out)).sum(-1)

    def deterministic(self, out: Tensor) -> Tensor:
        """The most probable choice of each branch."""
        return super().deterministic(self.by_branch(out))


class Ensemble(Head):
    """Several opinions of what each choice is worth; the best of their mean is played.

    Not a distribution: learners of action values explore by rules of their own (`exploration`).

    Args:
        heads: how many opinions.
        choices: `Categorical` or `Factored`, the choices that each is about.
    """

    def __init__(self, heads: int, choices: Categorical) -> None:
        super().__init__()
        self.heads = heads
        self.choices = choices
        self.inputs = heads * choices.inputs

    def by_head(self, out: Tensor) -> Tensor:
        """The output `[..., inputs]` as `[heads, ..., branches, n]`; one choice is one branch."""
        branches = self.choices.branches if isinstance(self.choices, Factored) else 1
        shape = (self.heads, branches, self.choices.inputs // branches)
        heads: Tensor = out.unflatten(-1, shape).movedim(-3, 0)
        return heads

    def to_action(self, raw: Tensor) -> Tensor:
        """The indices `[..., branches]` as the market takes them: `[...]` for one choice."""
        return raw if isinstance(self.choices, Factored) else raw.squeeze(-1)

    def deterministic(self, out: Tensor) -> Tensor:
        """The best of the mean."""
        return self.to_action(self.by_head(out).mean(0).argmax(-1))


FORBIDDEN = -1e9
"""The network's output for what a mask forbids; finite, as 0 times it is in the entropy."""

LOGIT_NORMAL = "logit-normal"
SQUASHED_GAUSSIAN = "squashed-gaussian"
NOISY_TANH = "noisy-tanh"
"""Names of the distributions over boxes."""


def action_head(spec: dict[str, Any]) -> Head:
    """The head of an `Actor`'s spec.

    Raises:
        ValueError: for spaces other than `Discrete`, `MultiDiscrete` and a bounded one-dimensional
            `Box`.
    """
    space = spec["action"]
    if heads := spec.get("heads"):
        choices = action_head({**spec, "heads": None})
        # learners of action values take discrete spaces only
        assert isinstance(choices, Categorical)
        return Ensemble(heads, choices)
    if space["type"] == "discrete":
        return Categorical(space["n"])
    if space["type"] == "multidiscrete":
        return Factored(space["branches"], space["n"])
    if space["type"] != "box" or not all(math.isfinite(b) for b in (*space["low"], *space["high"])):
        raise ValueError(
            f"action space {space}: expected Discrete, or a one-dimensional Box with finite bounds"
        )
    distribution = spec.get("distribution", LOGIT_NORMAL)
    if distribution == SQUASHED_GAUSSIAN:
        return SquashedGaussian(space["low"], space["high"])
    head = NoisyTanh if distribution == NOISY_TANH else LogitNormal
    return head(
        space["low"],
        space["high"],
        log_std=spec["log_std"],
        trained_std=spec["trained_std"],
        copies=spec.get("copies"),
    )


def describe_space(space: Any) -> dict[str, Any]:
    """A space as JSON, what `action_head` takes as `action`.

    A `Box` is `{"type": "box", "low": [...], "high": [...]}`, `Discrete` is
    `{"type": "discrete", "n": 5}`, and `MultiDiscrete` with equal branches is
    `{"type": "multidiscrete", "branches": 3, "n": 5}`.

    Raises:
        ValueError: for any other space.
    """
    kind = type(space).__name__
    if kind == "Discrete":
        return {"type": "discrete", "n": int(space.n)}
    if kind == "MultiDiscrete" and space.nvec.ndim == 1 and len(set(space.nvec.tolist())) == 1:
        return {"type": "multidiscrete", "branches": len(space.nvec), "n": int(space.nvec[0])}
    if kind == "Box" and len(space.shape) == 1:
        return {"type": "box", "low": space.low.tolist(), "high": space.high.tolist()}
    raise ValueError(
        f"space {space}: expected Discrete, MultiDiscrete of equal branches, "
        "or a one-dimensional Box"
    )
