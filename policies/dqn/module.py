"""DQN's networks: action values of every choice, their slow target, and what exploration needs."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor

from rl_markets.policies import exploration
from rl_markets.policies.actors import NetworkActor
from rl_markets.policies.dqn.parameters import DQNParameters
from rl_markets.policies.heads import FORBIDDEN, Ensemble
from rl_markets.policies.module import ACTIONS, EMAModule
from rl_markets.policies.networks import PopArt, rescale_last

CHOICES = "choices"
"""Column of the choices of every branch, `[..., branches]`."""

LEARNS = "learns"
"""Column that says which heads learn from a step, `[..., heads]` of 0 and 1.

Each head sees its own random half of the steps (Osband et al. 2016).
"""


class Scale(PopArt):
    """The common statistics of several networks of action values.

    Args:
        networks: all whose values stay what they were when the statistics move.
        copies: agents with networks of their own.
    """

    def __init__(self, networks: tuple[NetworkActor, ...], copies: int | None) -> None:
        super().__init__(copies)
        # in a tuple, which torch does not register: they are the module's, not this one's
        self._networks = networks

    def smallest(self, mean: Tensor) -> Tensor:
        """In proportion to the values: money has no unit of its own."""
        return 1e-6 * mean.abs() + 1e-30

    @torch.no_grad()
    def rescale(self, shift: Tensor, scale: Tensor) -> None:
        """The same action values by other statistics."""
        factor = self.scale / scale
        move = (self.shift - shift) / scale
        for network in self._networks:
            rescale_last(network.net, factor, move)
        self.adopt(shift, scale)


class DQNModule(EMAModule[DQNParameters]):
    """Networks whose output is (Q - shift) / scale of every choice of each branch.

    The greedy choice depends on neither shift nor scale.

    Attributes:
        actor: learned; `ema` is its moving average, which is deployed; `target` follows it slowly.
        critic: the statistics.
        td_error: running root mean square of the temporal-difference errors, normalised `[1]`.
        exploration_parameter: of the rule, such as eps `[1]`.
    """

    td_error: Tensor
    exploration_parameter: Tensor

    def setup(self) -> None:
        """Builds the networks from `model_config`."""
        super().setup()
        self.target = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic = Scale((self.actor, self.ema, self.target), self.actor.spec.get("copies"))
        self.register_buffer("td_error", torch.zeros(1))
        start = torch.tensor([self.hyperparameters.exploration])
        self.register_buffer("exploration_parameter", start)

    def actor_options(self) -> dict[str, Any]:
        """Opinions of every choice."""
        return super().actor_options() | {"heads": self.hyperparameters.heads}

    def values(self, actor: NetworkActor, observations: Tensor) -> Tensor:
        """Normalised action values `[heads, ..., branches, choices]`."""
        head = cast(Ensemble, actor.head)
        return head.by_head(actor(self.own(observations)))

    def get_non_inference_attributes(self) -> list[str]:
        """What runners drop."""
        return ["target"]

    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Choices by the rule, each branch on its own.

        And, where there are several heads, which of them learn from the step.
        """
        values = self.values(self.actor, observations)
        choices = exploration.draw(self.probabilities(values, generator), generator)
        columns = {ACTIONS: self.actor.head.to_action(choices), CHOICES: choices}
        if len(values) > 1:
            size = (*values.shape[1:-2], len(values))
            learns = torch.rand(size, generator=generator, device=values.device) < 0.5
            columns[LEARNS] = learns.to(values.dtype)
        return columns

    def probabilities(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """How often the rule makes each choice, `[..., branches, choices]`.

        Args:
            values: `[heads, ..., branches, choices]`.
            generator: draws heads, for the rule that follows one; without it their mean.
        """
        p = self.hyperparameters
        # the actor has put the mask into the values
        mask = values[0] > FORBIDDEN / 2 if self.actor.spec.get("masked") else None
        if p.rule == "bootstrapped":
            return exploration.bootstrapped(values, generator, mask=mask)
        values = values.mean(0)
        parameter = float(self.exploration_parameter)
        if p.rule == "eps-softmax":
            floor = p.noise_floor * self.td_error
            return exploration.eps_softmax(values, parameter, p.beta, floor, mask=mask)
        rule = exploration.RULES[p.rule.replace("-", "_")]
        return rule.function(values, parameter, mask=mask)
