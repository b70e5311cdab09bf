"""Double DQN's loss (van Hasselt et al. 2016, Eq. 4), next to its formula; a branch for each choice
(Tavakoli et al. 2018)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from rl_markets.policies.dqn.module import CHOICES, LEARNS
from rl_markets.policies.dqn.parameters import DQNParameters
from rl_markets.policies.gradient import Batch, Part
from rl_markets.policies.networks import follow
from rl_markets.policies.offpolicy import OffPolicyLearner, agents_in
from rl_markets.policies.replay import NEXT_OBSERVATIONS, NONTERMINAL
from rl_markets.policies.rollout import OBSERVATIONS, REWARDS

FORGETTING = 0.02
"""Weight of a batch in the running temporal-difference error."""


class DQNLearner(OffPolicyLearner[DQNParameters]):
    """E[huber(Q(s, a) - y)], y = r + gamma Q'(s', argmax_a' Q(s', a')), of every branch, with the
    mean of Q' over branches.

    All branches share the target, so that each learns what its choice is worth to the whole agent.
    """

    def build(self) -> None:
        """Replays also which heads learn from a step, where there are several."""
        super().build()
        self.columns = (CHOICES, LEARNS) if self.common.heads > 1 else (CHOICES,)

    def parts(self, policy: str) -> dict[str, Part]:
        """One network."""
        p = self.parameters(policy)
        weights = list(self.networks(policy).actor.parameters())
        return {"actor": Part(weights, p.learning_rate, p.final_learning_rate)}

    @torch.no_grad()
    def before_updates(self, policy: str, batch: Batch) -> None:
        """Adapts the values' statistics to the targets; at first to those of rewards summed over
        the horizon."""
        module = self.networks(policy)
        p = self.parameters(policy)
        if not p.normalise:
            return
        scale = module.critic
        gamma = p.discount
        if int(scale.updates) == 0:
            mean, std = self._moments(batch[REWARDS], batch)
            if gamma < 1:
                mean = mean / (1 - gamma)
                std = std / math.sqrt(1 - gamma**2)
            scale.renormalize(mean, std)
        else:
            mean, std = self._moments(self.targets(policy, module, batch).mean(0), batch)
            scale.renormalize(
                scale.shift + scale.scale * mean, scale.scale * std, decay=p.renormalising
            )
            if p.centring:
                self._centre(policy, module, batch)

    def _centre(self, policy: str, module: Any, batch: Batch) -> None:
        """Moves all values by what they still miss in common, which bootstrapping would find only
        in 1 / (1 - gamma) rounds.

        A constant on all of them changes no choice; while it creeps up, choices that are rarely
        tried lag behind.
        """
        p = self.parameters(policy)
        scale = module.critic
        taken = self._taken(module.values(module.actor, batch[OBSERVATIONS]), batch[CHOICES]).mean(
            -1
        )
        missing, _ = self._moments((self.targets(policy, module, batch) - taken).mean(0), batch)
        leak = 1 - p.discount * batch[NONTERMINAL].mean()
        scale.adopt(
            scale.shift + p.centring * scale.scale * missing / leak.clamp_min(1e-4), scale.scale
        )

    @staticmethod
    def _taken(values: Tensor, chosen: Tensor) -> Tensor:
        """Values `[heads, ..., branches]` of the choices `[..., branches]` that were made."""
        taken: Tensor = values.gather(
            -1, chosen.unsqueeze(-1).expand(len(values), *chosen.shape, 1)
        ).squeeze(-1)
        return taken

    @torch.no_grad()
    def targets(self, policy: str, module: Any, batch: Batch) -> Tensor:
        """(r + gamma Q'(s', argmax Q(s', .)) - shift) / scale of every head, `[heads, ...]`."""
        following = batch[NEXT_OBSERVATIONS]
        best = module.values(module.actor, following).argmax(-1, keepdim=True)
        q = module.values(module.target, following).gather(-1, best).squeeze(-1).mean(-1)
        return self.td_target(policy, module, batch, q)

    def update_policy(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """A step of the action values, then the target follows."""
        module = self.networks(policy)
        p = self.parameters(policy)
        y = self.targets(policy, module, batch).unsqueeze(-1)
        values = module.values(module.actor, batch[OBSERVATIONS])
        chosen = batch[CHOICES]
        q = self._taken(values, chosen)
        losses = huber_loss(q, y.expand_as(q), reduction="none", delta=p.huber).mean(-1)
        if LEARNS in batch:
            losses = losses * batch[LEARNS].movedim(-1, 0)
        loss = self.mean(losses.mean(0), batch)
        loss.backward()
        self.optimizer_step(policy, "actor")
        follow(list(module.target.parameters()), list(module.actor.parameters()), p.target_rate)
        with torch.no_grad():
            module.td_error.copy_(self._td_error(module.td_error, q.detach() - y))
        if not reporting:
            return {}
        agents = agents_in(batch)
        return {
            "loss": loss.detach() / agents,
            "td_error": module.td_error.clone(),
            "value_mean": self.value_mean(module, batch, q.detach().mean(-1)),
            "exploration": module.exploration_parameter.clone(),
            "explored": (chosen != values.detach().mean(0).argmax(-1)).float().mean(),
        }

    @staticmethod
    def _td_error(before: Tensor, error: Tensor) -> Tensor:
        mean_square = error.square().mean()
        kept = torch.where(before > 0, 1 - FORGETTING, 0.0)
        return (kept * before.square() + (1 - kept) * mean_square).sqrt()

    def after_updates(self, policy: str) -> None:
        """Sets the next rollout's exploration, and averages the network."""
        p = self.parameters(policy)
        start = p.exploration
        end = p.final_exploration
        if end is not None:
            moved = min(1.0, self.progress / p.exploration_share)
            self.networks(policy).exploration_parameter.fill_(start + (end - start) * moved)
        super().after_updates(policy)
