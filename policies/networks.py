"""Networks and action heads in plain torch: what a policy is made of, trained or exported.

An action head turns a network's output into a distribution. It works on *raw* actions, in which densities are simple,
and maps them into the action space by `to_action`; probability ratios are the same in both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}

MARGIN = 1 / 98
"""Share of the box by which the squash reaches beyond each bound; turns [.01, .99] into [0, 1]."""

QUADRATURE = 7
"""Nodes of the quadrature of a mean action."""


def mlp(sizes: Sequence[int], activation: str, *, generator: torch.Generator, last_gain: float) -> nn.Sequential:
    """A multi-layer perceptron with orthogonal weights and zero biases.

    Args:
        sizes: widths from input to output.
        activation: a key of `ACTIVATIONS`.
        generator: draws the weights, so that the same seed gives the same network.
        last_gain: gain of the output layer; small for policies, so that they start near the middle of their range.
    """
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        linear = nn.Linear(fan_in, fan_out)
        nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2), generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


class ActionHead(nn.Module, ABC):
    """A distribution over actions, given a network's output `[..., inputs]`."""

    inputs: int
    """Width of the network's output that the head needs."""

    @abstractmethod
    def sample(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Draws raw actions `[..., action]`."""

    @abstractmethod
    def log_prob(self, out: Tensor, raw: Tensor) -> Tensor:
        """Log density (or log probability) of `raw`, `[...]`."""

    @abstractmethod
    def entropy(self, out: Tensor) -> Tensor:
        """Entropy of the raw action, `[...]`."""

    @abstractmethod
    def to_action(self, raw: Tensor) -> Tensor:
        """Maps raw actions into the action space."""

    @abstractmethod
    def deterministic(self, out: Tensor) -> Tensor:
        """The deterministic policy's action, in the action space."""


class LogitNormal(ActionHead):
    """Gaussian raw actions, squashed by a sigmoid into a box a little wider than `[low, high]`, and clamped to it.

    The margin lets the bounds themselves be played: a sigmoid only comes near its ends.

    The standard deviation does not depend on the state (as in most PPO implementations); it is a trained parameter,
    or follows a schedule through `set_log_std`.
    """

    low: Tensor
    high: Tensor
    margin: Tensor
    nodes: Tensor
    weights: Tensor
    log_std: Tensor

    def __init__(self, low: Sequence[float], high: Sequence[float], *, log_std: float, trained_std: bool) -> None:
        super().__init__()
        self.inputs = len(low)
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32))
        self.register_buffer("margin", MARGIN * (self.high - self.low), persistent=False)
        nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE)
        self.register_buffer("nodes", torch.tensor(nodes, dtype=torch.float32), persistent=False)
        self.register_buffer("weights", torch.tensor(weights / weights.sum(), dtype=torch.float32), persistent=False)
        start = torch.full((self.inputs,), float(log_std))
        if trained_std:
            self.log_std = nn.Parameter(start)
        else:
            self.register_buffer("log_std", start)

    def sample(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """mean + std * eps."""
        noise = torch.randn(out.shape, generator=generator, device=out.device, dtype=out.dtype)
        return torch.addcmul(out, torch.exp(self.log_std), noise)

    def log_prob(self, out: Tensor, raw: Tensor) -> Tensor:
        """Gaussian log density, summed over the action's dimensions."""
        z = (raw - out) * torch.exp(-self.log_std)
        return -0.5 * z.square().sum(-1) - (self.log_std + 0.5 * math.log(2 * math.pi)).sum()

    def entropy(self, out: Tensor) -> Tensor:
        """Gaussian entropy; the same in every state."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum().expand(out.shape[:-1])

    def to_action(self, raw: Tensor) -> Tensor:
        """The squashed and clamped action."""
        wide = torch.addcmul(self.low - self.margin, self.high - self.low + 2 * self.margin, torch.sigmoid(raw))
        return torch.minimum(torch.maximum(wide, self.low), self.high)

    def deterministic(self, out: Tensor) -> Tensor:
        """The mean action, by Gauss-Hermite quadrature: on average it uses what exploration used."""
        std = torch.exp(self.log_std)
        mean = torch.zeros_like(out)
        for node, weight in zip(self.nodes, self.weights, strict=True):
            mean = mean + weight * self.to_action(out + node * std)
        return mean

    @torch.no_grad()
    def set_log_std(self, log_std: float) -> None:
        """Sets the standard deviation of every dimension."""
        self.log_std.fill_(log_std)


class Categorical(ActionHead):
    """One of `n` actions, by the softmax of the network's output."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.inputs = n

    def sample(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """The Gumbel-max trick: one draw, any leading shape."""
        uniform = torch.rand(out.shape, generator=generator, device=out.device, dtype=out.dtype)
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return torch.argmax(out + gumbel, -1)

    def log_prob(self, out: Tensor, raw: Tensor) -> Tensor:
        """Log softmax at `raw`."""
        return torch.log_softmax(out, -1).gather(-1, raw.unsqueeze(-1)).squeeze(-1)

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


def action_head(space: dict[str, Any], *, log_std: float, trained_std: bool) -> ActionHead:
    """The head of an action space.

    Args:
        space: `describe_space` of the action space.
        log_std: initial log standard deviation of continuous actions.
        trained_std: whether gradients move it.

    Raises:
        ValueError: for spaces other than `Discrete` and a bounded one-dimensional `Box`.
    """
    if space["type"] == "discrete":
        return Categorical(space["n"])
    if space["type"] == "box" and all(math.isfinite(b) for b in (*space["low"], *space["high"])):
        return LogitNormal(space["low"], space["high"], log_std=log_std, trained_std=trained_std)
    raise ValueError(f"action space {space}: expected Discrete, or a one-dimensional Box with finite bounds")


def describe_space(space: Any) -> dict[str, Any]:
    """A space as JSON: `{"type": "box", "low": [...], "high": [...]}` or `{"type": "discrete", "n": 5}`.

    Raises:
        ValueError: for any other space.
    """
    kind = type(space).__name__
    if kind == "Discrete":
        return {"type": "discrete", "n": int(space.n)}
    if kind == "Box" and len(space.shape) == 1:
        return {"type": "box", "low": space.low.tolist(), "high": space.high.tolist()}
    raise ValueError(f"space {space}: expected Discrete, or a one-dimensional Box")


class Actor(nn.Module):
    """A deterministic or stochastic policy: observations `[..., observation]` to actions.

    Args:
        spec: everything needed to build it again, as JSON: `observation` (width), `action` (`describe_space`),
            `hidden` (widths), `activation`, `log_std`, `trained_std`.
        generator: draws the initial weights.
    """

    def __init__(self, spec: dict[str, Any], generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.head = action_head(spec["action"], log_std=spec["log_std"], trained_std=spec["trained_std"])
        sizes = [spec["observation"], *spec["hidden"], self.head.inputs]
        self.net = mlp(sizes, spec["activation"], generator=generator or torch.Generator(), last_gain=0.01)

    def forward(self, observations: Tensor) -> Tensor:
        """The head's input."""
        out: Tensor = self.net(observations)
        return out

    def act(self, observations: Tensor) -> Tensor:
        """The deterministic policy's actions, in the action space."""
        return self.head.deterministic(self.net(observations))


class Critic(nn.Module):
    """A state-value network whose output is normalised (Pop-Art, van Hasselt et al. 2016).

    The network predicts (V - shift) / scale. When the statistics move, the last layer is rescaled so that every V
    stays what it was; rewards of any size and offset are learned alike. A linear path beside the hidden layers takes
    what is linear in the observations (such as log wealth in log utility).
    """

    shift: Tensor
    scale: Tensor
    updates: Tensor

    def __init__(self, observation: int, hidden: Sequence[int], activation: str, generator: torch.Generator) -> None:
        super().__init__()
        self.net = mlp([observation, *hidden, 1], activation, generator=generator, last_gain=1.0)
        self.linear = nn.Linear(observation, 1, bias=False)
        nn.init.zeros_(self.linear.weight)
        self.register_buffer("shift", torch.zeros(1))  # [1]: RLlib turns scalars of a state into Python numbers
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("updates", torch.zeros(1, dtype=torch.int64))

    def normalized(self, observations: Tensor) -> Tensor:
        """(V - shift) / scale, `[...]`."""
        out: Tensor = self.net(observations) + self.linear(observations)
        return out.squeeze(-1)

    def forward(self, observations: Tensor) -> Tensor:
        """V, `[...]`."""
        return self.shift + self.scale * self.normalized(observations)

    @torch.no_grad()
    def renormalize(self, mean: Tensor, std: Tensor, decay: float = 0.9) -> None:
        """Moves the statistics towards those of new targets; the first call adopts them and leaves the weights alone."""
        std = std.clamp_min(1e-4)
        if int(self.updates) > 0:
            shift, scale = torch.lerp(mean, self.shift, decay), torch.lerp(std, self.scale, decay)
            last = self.net[-1]
            assert isinstance(last, nn.Linear)
            last.bias.copy_((self.scale * last.bias + self.shift - shift) / scale)
            last.weight.mul_(self.scale / scale)
            self.linear.weight.mul_(self.scale / scale)
        else:
            shift, scale = mean, std
        self.shift.copy_(shift)
        self.scale.copy_(scale)
        self.updates += 1
