"""What acts: a network, or a table. Everything that an exported policy is made of.

Separate policies are *stacked*, `[agents, ...]`; observations are then `[..., agents,
observation]`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from rl_markets.envs.policy import Policy
from rl_markets.policies.heads import FORBIDDEN, Categorical, action_head
from rl_markets.policies.networks import mlp

NETWORK = "network"
TABLE = "table"


class Actor(nn.Module, ABC):
    """A deterministic or mixed policy, or one for each agent.

    It takes observations `[..., observation]` to actions.

    Args:
        spec: everything needed to build it again, as JSON: `kind` (left out for a network),
            `observation` (width), `action` (`describe_space`), optionally `copies` (agents with a
            policy of their own), and what the kind needs.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        self.spec = spec

    @property
    def policy(self) -> Policy:
        """What judges and markets see of it."""
        return Policy(self.act, self.probabilities)

    @abstractmethod
    def act(self, observations: Tensor) -> Tensor:
        """The deterministic policy's actions, in the action space."""

    @abstractmethod
    def probabilities(self, observations: Tensor) -> Tensor | None:
        """The probability of each choice, `[..., choices]`; None where there is no such thing."""

    @abstractmethod
    def of_agent(self, agent: int) -> Actor:
        """The policy of one agent: the agent's own where it is stacked, else a copy of this one."""


def build_actor(spec: dict[str, Any], generator: torch.Generator | None = None) -> Actor:
    """The actor that a spec describes.

    Raises:
        ValueError: for a kind that there is not.
    """
    kind = spec.get("kind", NETWORK)
    if kind == NETWORK:
        return NetworkActor(spec, generator)
    if kind == TABLE:
        return TableActor(spec)
    raise ValueError(f"actor kind {kind!r}: expected {NETWORK} or {TABLE}")


class NetworkActor(Actor):
    """A network and an action head, or one network for each agent.

    Args:
        spec: see `Actor`; beside it `hidden` (widths), `activation`, `log_std`, `trained_std`,
            optionally `distribution` (a name in `heads`), `masked` (observations end with the mask
            of allowed choices, see `AgentGroup`) and `heads` (`heads.Ensemble`). With `copies`,
            observations are `[..., copies, observation]`.
        generator: draws the initial weights.
    """

    def __init__(self, spec: dict[str, Any], generator: torch.Generator | None = None) -> None:
        super().__init__(spec)
        self.head = action_head(spec)
        self.net = mlp(
            [spec["observation"], *spec["hidden"], self.head.inputs],
            spec["activation"],
            generator=generator or torch.Generator(),
            last_gain=0.01,
            copies=spec.get("copies"),
        )

    def forward(self, observations: Tensor) -> Tensor:
        """The head's input; far below all others where a mask forbids the choice."""
        out: Tensor = self.net(observations)
        if not self.spec.get("masked"):
            return out
        # the mask, 0 or 1 of each choice, comes last; all heads share it
        heads = self.spec.get("heads") or 1
        forbidden = observations[..., -out.shape[-1] // heads :] < 0.5
        return out.masked_fill(torch.cat([forbidden] * heads, -1), FORBIDDEN)

    def act(self, observations: Tensor) -> Tensor:
        """The deterministic policy's actions, in the action space."""
        return self.head.deterministic(self(observations))

    def probabilities(self, observations: Tensor) -> Tensor | None:
        """The softmax over choices; None for heads that are not about choices.

        `[..., choices]`, or `[..., branches, choices]` where several choices are made.
        """
        if not isinstance(self.head, Categorical):
            return None
        return self.head.probabilities(self(observations))

    @torch.no_grad()
    def of_agent(self, agent: int) -> NetworkActor:
        """The policy of one agent: the agent's own where it is stacked, else a copy of this one."""
        single = NetworkActor({**self.spec, "copies": None})
        weights = self.state_dict()
        if self.spec.get("copies") is not None:
            weights = {
                _unstacked_name(name): _of_agent(value, name, agent)
                for name, value in weights.items()
            }
        single.load_state_dict(weights)
        return single


def _unstacked_name(name: str) -> str:
    return name.replace("net.layers.", "net.")


def _of_agent(value: Tensor, name: str, agent: int) -> Tensor:
    """An agent's own part of a stacked weight, as a single network has it."""
    # StackedLinear has weights `[copies, in, out]` and biases `[copies, 1, out]`
    if name.endswith(".weight") and value.dim() == 3:
        return value[agent].T
    if name.endswith(".bias") and value.dim() == 3:
        return value[agent, 0]
    return value[agent] if name.endswith("log_std") else value


class TableActor(Actor):
    """A mixed strategy over a few choices, whatever is observed.

    For learners with closed-form updates.

    Args:
        spec: see `Actor`; `action` is discrete.

    Raises:
        ValueError: for another action space.
    """

    weights: Tensor
    """`[agents, choices]`, probabilities up to a factor."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        if spec["action"]["type"] != "discrete":
            raise ValueError(f"action space {spec['action']}: a table needs Discrete")
        agents = spec.get("copies") or 1
        self.register_buffer("weights", torch.ones(agents, spec["action"]["n"]))

    def act(self, observations: Tensor) -> Tensor:
        """The most probable choice, the lowest of several, `[...]`."""
        return self.probabilities(observations).argmax(-1)

    def probabilities(self, observations: Tensor) -> Tensor:
        """The weights' shares, `[..., choices]`."""
        shares = self.weights / self.weights.sum(-1, keepdim=True)
        if self.spec.get("copies") is None:
            shares = shares[0]
        return shares.expand(*observations.shape[:-1], shares.shape[-1])

    @torch.no_grad()
    def of_agent(self, agent: int) -> TableActor:
        """One row of the table."""
        single = TableActor({**self.spec, "copies": None})
        row = agent if self.spec.get("copies") is not None else 0
        single.weights.copy_(self.weights[row : row + 1])
        return single
