"""Networks in plain torch: what a policy is made of, trained or exported.

Separate policies are *stacked*: their weights are `[agents, in, out]`, one batched matrix product
serves all agents, and observations are `[..., agents, observation]`. A shared policy takes any
leading shape, that one included.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class InPlaceTanh(nn.Module):
    """tanh of a layer's output, written over it, as nobody else needs it.

    Half the memory of `nn.Tanh`, so that more stays in the cache.
    """

    def forward(self, x: Tensor) -> Tensor:
        """tanh(x), in the place of x."""
        return x.tanh_()


ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": InPlaceTanh, "relu": nn.ReLU, "silu": nn.SiLU}


class StackedLinear(nn.Module):
    """`copies` linear layers as one batched product: `[copies, rows, in]` to `[copies, rows, out]`.

    Args:
        copies: layers with weights of their own.
        fan_in, fan_out: widths of input and output.
        gain: scale of the orthogonal weights.
        generator: draws the weights.
        bias: whether a bias is added; it starts at zero.
    """

    def __init__(
        self,
        copies: int,
        fan_in: int,
        fan_out: int,
        *,
        gain: float,
        generator: torch.Generator,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(gain * _orthogonal(copies, fan_in, fan_out, generator))
        self.bias = nn.Parameter(torch.zeros(copies, 1, fan_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x W + b of each copy."""
        if self.bias is None:
            return torch.bmm(x, self.weight)
        return torch.baddbmm(self.bias, x, self.weight)


def _orthogonal(copies: int, rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """`[copies, rows, columns]` with orthonormal rows or columns, a draw for each copy.

    Uniform over such matrices (Saxe et al. 2014).
    """
    tall = torch.randn((copies, max(rows, columns), min(rows, columns)), generator=generator)
    q, r = torch.linalg.qr(tall)
    # QR leaves the columns' signs open: a positive diagonal of R makes the draw uniform
    weights: Tensor = q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)
    if rows < columns:
        weights = weights.transpose(-2, -1)
    return weights.contiguous()  # QR's own lies column by column


class Stack(nn.Module):
    """Layers of `StackedLinear`: `[..., copies, in]` to `[..., copies, out]`."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Every copy's own network on its own rows."""
        if x.dim() == 2:
            rows = x.unsqueeze(0)
        elif x.dim() == 3:
            rows = x
        else:
            rows = x.flatten(0, -3)
        # the batched product wants the copies in front, `[copies, rows, in]`
        out: Tensor = self.layers(rows.transpose(0, 1).contiguous()).transpose(0, 1)
        return out.reshape(*x.shape[:-1], out.shape[-1])


def mlp(
    sizes: Sequence[int],
    activation: str,
    *,
    generator: torch.Generator,
    last_gain: float,
    copies: int | None = None,
) -> nn.Sequential | Stack:
    """A multi-layer perceptron with orthogonal weights and zero biases.

    Args:
        sizes: widths from input to output.
        activation: a key of `ACTIVATIONS`.
        generator: draws the weights, so that the same seed gives the same network.
        last_gain: gain of the output layer; small for policies, so that they start near the middle
            of their range.
        copies: so many networks with weights of their own; None for one.
    """
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        gain = last_gain if last else math.sqrt(2)
        if copies is not None:
            layers.append(StackedLinear(copies, fan_in, fan_out, gain=gain, generator=generator))
        else:
            linear = nn.Linear(fan_in, fan_out)
            nn.init.orthogonal_(linear.weight, gain, generator=generator)
            nn.init.zeros_(linear.bias)
            layers.append(linear)
        if not last:
            layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers) if copies is None else Stack(layers)


class PopArt(nn.Module, ABC):
    """Statistics of values that a network predicts as (V - shift) / scale.

    Rewards of any size and offset are learned alike (Pop-Art, van Hasselt et al. 2016).

    Attributes:
        shift, scale: mean and standard deviation of the targets, `[1]`, or `[copies]`.
        updates: how often they were moved, `[1]`.

    Args:
        copies: agents with networks of their own; None for one network.
    """

    shift: Tensor
    scale: Tensor
    updates: Tensor

    def __init__(self, copies: int | None) -> None:
        super().__init__()
        # `[1]` where there is one: RLlib turns scalars of a state into Python numbers
        one = torch.ones(copies or 1)
        self.register_buffer("shift", torch.zeros_like(one))
        self.register_buffer("scale", one)
        self.register_buffer("updates", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def renormalize(self, mean: Tensor, std: Tensor, decay: float = 0.9) -> None:
        """Moves the statistics towards those of new targets.

        The first call adopts them and leaves the weights alone: nothing was learned by others.

        Args:
            mean, std: of the targets, `[]` or `[copies]`.
            decay: weight of the old statistics.
        """
        std = torch.maximum(std, self.smallest(mean))
        if int(self.updates) > 0:
            self.rescale(torch.lerp(mean, self.shift, decay), torch.lerp(std, self.scale, decay))
        else:
            self.adopt(mean, std)
        self.updates += 1

    def smallest(self, mean: Tensor) -> Tensor:
        """The smallest scale: what varies less counts as constant."""
        return torch.full_like(mean, 1e-4)

    @torch.no_grad()
    def adopt(self, shift: Tensor, scale: Tensor) -> None:
        """Sets the statistics and leaves the weights alone."""
        self.shift.copy_(shift)
        self.scale.copy_(scale)

    @abstractmethod
    def rescale(self, shift: Tensor, scale: Tensor) -> None:
        """The same V by other statistics: the last layers change, every value stays what it was."""


@torch.no_grad()
def rescale_last(net: nn.Sequential | Stack, factor: Tensor, offset: Tensor) -> None:
    """Changes the last layer so that it gives factor times its output, plus offset.

    Args:
        net: of `mlp`.
        factor, offset: `[1]`, or one for each copy of a stack.
    """
    last: Any
    if isinstance(net, Stack):
        last = net.layers[-1]
        factor = factor.view(-1, 1, 1)
        offset = offset.view(-1, 1, 1)
    else:
        last = net[-1]
    last.bias.mul_(factor).add_(offset)
    last.weight.mul_(factor)


class Critic(PopArt):
    """Networks with a normalised output (`PopArt`): V(s), or several Q(s, a) side by side.

    The network predicts (V - shift) / scale. When the statistics move, the last layer is rescaled
    so that every V stays what it was; rewards of any size and offset are learned alike. A linear
    path beside the hidden layers takes what is linear in the inputs (such as log wealth in log
    utility).

    Args:
        inputs: width of the input.
        hidden, activation: widths of the hidden layers, and a key of `ACTIVATIONS`.
        generator: draws the weights.
        copies: agents with critics of their own; inputs are then `[..., copies, inputs]`.
        ensemble: critics on the same input; the output gets a leading axis `[ensemble, ...]`, None
            for a single one.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        activation: str,
        generator: torch.Generator,
        *,
        copies: int | None = None,
        ensemble: int | None = None,
    ) -> None:
        super().__init__(copies)
        self.copies = copies
        self.ensemble = ensemble
        stacked = None
        if copies is not None or ensemble is not None:
            stacked = (copies or 1) * (ensemble or 1)
        self.net = mlp(
            [inputs, *hidden, 1], activation, generator=generator, last_gain=1.0, copies=stacked
        )
        # the linear path starts at zero
        self.linear: nn.Linear | Stack
        if stacked is None:
            self.linear = nn.Linear(inputs, 1, bias=False)
            nn.init.zeros_(self.linear.weight)
        else:
            layer = StackedLinear(stacked, inputs, 1, gain=0.0, generator=generator, bias=False)
            self.linear = Stack([layer])

    def normalized(self, inputs: Tensor) -> Tensor:
        """(V - shift) / scale, `[...]`, or `[ensemble, ...]`."""
        if self.ensemble is None:
            out: Tensor = self.net(inputs) + self.linear(inputs)
            return out.squeeze(-1)
        if self.copies is None:
            # all critics read the same rows: expanded, not copied
            rows = inputs.reshape(1, -1, inputs.shape[-1]).expand(self.ensemble, -1, -1)
            curved: Tensor = self.net.layers(rows)  # type: ignore[operator]
            straight: Tensor = self.linear.layers(rows)  # type: ignore[operator]
            values = curved + straight
            return values.view(self.ensemble, *inputs.shape[:-1])
        # the stack lies agent by agent, an agent's critics side by side
        x = inputs.repeat_interleave(self.ensemble, -2)
        stacked: Tensor = (self.net(x) + self.linear(x)).squeeze(-1)
        by_critic: Tensor = stacked.unflatten(-1, (-1, self.ensemble)).movedim(-1, 0)
        return by_critic.reshape(self.ensemble, *inputs.shape[:-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """V (or Q), `[...]`, or `[ensemble, ...]`."""
        return self.shift + self.scale * self.normalized(inputs)

    @torch.no_grad()
    def rescale(self, shift: Tensor, scale: Tensor) -> None:
        """The same V by other statistics.

        (V - shift') / scale' = factor (V - shift) / scale + offset.
        """
        critics = self.ensemble or 1
        factor = (self.scale / scale).repeat_interleave(critics)
        offset = ((self.shift - shift) / scale).repeat_interleave(critics)
        rescale_last(self.net, factor, offset)
        # the linear path has no bias: the network's takes the offset for both
        if isinstance(self.linear, Stack):
            layer: Any = self.linear.layers[0]
            layer.weight.mul_(factor.view(-1, 1, 1))
        else:
            self.linear.weight.mul_(factor)
        self.adopt(shift, scale)


@torch.no_grad()
def follow(targets: Sequence[Tensor], sources: Sequence[Tensor], rate: float) -> None:
    """Polyak averaging: each target moves by `rate` of its distance towards its source."""
    torch._foreach_lerp_(list(targets), list(sources), rate)
