"""Double DQN's loss (van Hasselt et al. 2016, Eq. 4), next to its formula.

There is a branch for each choice (Tavakoli et al. 2018).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from rl_markets.policies.dqn.module import CHOICES, LEARNS
from rl_markets.policies.dqn.parameters import DQNParameters
from rl_markets.policies.gradient import Part
from rl_markets.policies.networks import follow
from rl_markets.policies.offpolicy import OffPolicyLearner, agents_in
from rl_markets.policies.replay import NEXT_OBSERVATIONS, NONTERMINAL
from rl_markets.policies.rollout import OBSERVATIONS, REWARDS, Batch

FORGETTING = 0.02
"""Weight of a batch in the running temporal-difference error."""


class DQNLearner(OffPolicyLearner[DQNParameters]):
    """E[huber(Q(s, a) - y)] of every branch, y = r + gamma Q'(s', argmax_a' Q(s', a')).

    Q' is the mean over branches. All branches share the target, so that each learns what its choice
    is worth to the whole agent.
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
        """Adapts the values' statistics to the targets.

        At first to those of rewards summed over the horizon.
        """
        module = self.networks(policy)
        p = self.parameters(policy)
        if not p.normalise:
            return
        statistics = module.critic
        gamma = p.discount
        if int(statistics.updates) == 0:
            mean, std = self._moments(batch[REWARDS], batch)
            # the moments of sum_t gamma^t r_t with independent r_t; without discount, of one reward
            if gamma < 1:
                mean = mean / (1 - gamma)
                std = std / math.sqrt(1 - gamma**2)
            statistics.renormalize(mean, std)
            return
        # targets are in the old units
        mean, std = self._moments(self.targets(policy, module, batch).mean(0), batch)
        mean = statistics.shift + statistics.scale * mean
        std = statistics.scale * std
        statistics.renormalize(mean, std, decay=p.renormalising)
        if p.centring:
            self._centre(policy, module, batch)

    def _centre(self, policy: str, module: Any, batch: Batch) -> None:
        """Moves all values by what they still miss in common.

        Bootstrapping would find it only in 1 / (1 - gamma) rounds. A constant on all of them
        changes no choice; while it creeps up, choices that are rarely tried lag behind.
        """
        p = self.parameters(policy)
        statistics = module.critic
        values = module.values(module.actor, batch[OBSERVATIONS])
        taken = self._taken(values, batch[CHOICES]).mean(-1)
        missing, _ = self._moments((self.targets(policy, module, batch) - taken).mean(0), batch)
        # where all values are c too low, their targets are too: only (1 - gamma) c of it shows
        leak = 1 - p.discount * batch[NONTERMINAL].mean()
        step = p.centring * statistics.scale * missing / leak.clamp_min(1e-4)
        statistics.adopt(statistics.shift + step, statistics.scale)

    @staticmethod
    def _taken(values: Tensor, choices: Tensor) -> Tensor:
        """Values `[heads, ..., branches]` of the choices `[..., branches]` that were made."""
        index = choices.unsqueeze(-1).expand(len(values), *choices.shape, 1)
        return values.gather(-1, index).squeeze(-1)

    @torch.no_grad()
    def targets(self, policy: str, module: Any, batch: Batch) -> Tensor:
        """(r + gamma Q'(s', argmax Q(s', .)) - shift) / scale of every head, `[heads, ...]`."""
        # double DQN: the online network chooses, the slow target says what the choice is worth
        next_observations = batch[NEXT_OBSERVATIONS]
        best = module.values(module.actor, next_observations).argmax(-1, keepdim=True)
        next_values = module.values(module.target, next_observations)
        q = next_values.gather(-1, best).squeeze(-1).mean(-1)
        return self.td_target(policy, module, batch, q)

    def update_policy(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """A step of the action values, then the target follows."""
        module = self.networks(policy)
        p = self.parameters(policy)
        choices = batch[CHOICES]

        y = self.targets(policy, module, batch).unsqueeze(-1)
        values = module.values(module.actor, batch[OBSERVATIONS])
        q = self._taken(values, choices)
        losses = huber_loss(q, y.expand_as(q), reduction="none", delta=p.huber).mean(-1)
        if LEARNS in batch:
            losses = losses * batch[LEARNS].movedim(-1, 0)
        loss = self.mean(losses.mean(0), batch)
        loss.backward()
        self.optimizer_step(policy, "actor")
        follow(list(module.target.parameters()), list(module.actor.parameters()), p.target_rate)

        # eps-softmax ranks no gaps below the noise of the values, which these errors tell
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
            "explored": (choices != values.detach().mean(0).argmax(-1)).float().mean(),
        }

    @staticmethod
    def _td_error(before: Tensor, error: Tensor) -> Tensor:
        """The running root mean square `[1]`, with another batch of errors; 0 is none yet."""
        mean_square = error.square().mean()
        kept = torch.where(before > 0, 1 - FORGETTING, 0.0)
        return (kept * before.square() + (1 - kept) * mean_square).sqrt()

    def after_updates(self, policy: str) -> None:
        """Sets the next rollout's exploration, and moves the network's average."""
        p = self.parameters(policy)
        start = p.exploration
        end = p.final_exploration
        if end is not None:
            share = min(1.0, self.progress / p.exploration_share)
            self.networks(policy).exploration_parameter.fill_(start + (end - start) * share)
        super().after_updates(policy)
