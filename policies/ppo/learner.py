"""PPO's loss (Schulman et al. 2017), next to its formula."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from rl_markets.policies.learner import Batch, RolloutLearner
from rl_markets.policies.networks import LogitNormal
from rl_markets.policies.ppo.module import LOG_PROB, RAW
from rl_markets.policies.rollout import (
    ACTED,
    OBSERVATIONS,
    REWARDS,
    Fragment,
    generalized_advantages,
    others_mean,
    successor_values,
)

ADVANTAGES, VALUE_TARGETS = "advantages", "value_targets"


class PPOLearner(RolloutLearner):
    """L = E[-min(rho A, clip(rho, 1-eps, 1+eps) A)] + E[(V - V_target)^2] / 2 - c_H E[H],  rho = pi / pi_old."""

    def parts(self, module: Any) -> dict[str, tuple[torch.nn.Module, float, float]]:
        """Actor and critic; both step sizes fall in the same proportion."""
        p = self.parameters
        falls = p["final_learning_rate"] / p["learning_rate"]
        critic = p["critic_learning_rate"]
        return {
            "actor": (module.actor, p["learning_rate"], p["final_learning_rate"]),
            "critic": (module.critic, critic, critic * falls),
        }

    def learn(self, fragments: dict[str, Fragment]) -> None:
        """`epochs` passes over the rollout, in `minibatches` equal slices."""
        p = self.parameters
        batches = {policy: self._prepare(policy, fragment) for policy, fragment in fragments.items()}
        self._figures: dict[str, list[dict[str, Tensor]]] = defaultdict(list)
        for epoch in range(1, p["epochs"] + 1):
            self._reporting = epoch == p["epochs"]  # figures are of the last epoch
            for minibatch in self.slices(batches, p["minibatches"]):
                self.descend(minibatch)
        for policy, found in self._figures.items():
            self.report(policy, {name: torch.stack([f[name] for f in found]).mean() for name in found[0]})
            module = self.module[policy].unwrapped()
            self._schedule_exploration(module.actor.head)
            early = self._weights_seq_no / (self._weights_seq_no + 9)  # a short memory while everything still moves
            module.average(min(p["averaging"], early))

    @torch.no_grad()
    def _prepare(self, policy: str, fragment: Fragment) -> Batch:
        """Advantages and value targets of a fragment, flattened to rows."""
        p, module, columns = self.parameters, self.module[policy].unwrapped(), fragment.columns
        values = module.critic(columns[OBSERVATIONS])
        successor, goes_on = successor_values(values, fragment.cuts, module.critic(fragment.cuts.observations))
        advantages = generalized_advantages(columns[REWARDS], values, successor, goes_on, p["gamma"], p["gae_lambda"])
        targets = advantages + values[:-1]
        if p["common_baseline"]:
            advantages = advantages - others_mean(advantages, fragment.world)
        mean, std = self._moments(advantages)
        module.critic.renormalize(*self._moments(targets))
        self.report(policy, {"value_explained": 1 - (advantages - mean).var() / targets.var().clamp_min(1e-12)})
        batch = {
            OBSERVATIONS: columns[OBSERVATIONS][:-1],
            RAW: columns[RAW],
            LOG_PROB: columns[LOG_PROB],
            ADVANTAGES: (advantages - mean) / std.clamp_min(1e-8),
            VALUE_TARGETS: (targets - module.critic.shift) / module.critic.scale,
        }
        rows = {name: column.flatten(0, 1) for name, column in batch.items()}
        if ACTED in columns:
            acted = columns[ACTED].flatten()
            rows = {name: column[acted] for name, column in rows.items()}
        return rows

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: Batch, fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """The loss of one policy on one minibatch."""
        p, head = self.parameters, self.module[module_id].unwrapped().actor.head
        log_ratio = head.log_prob(fwd_out["out"], batch[RAW]) - batch[LOG_PROB]
        ratio = torch.exp(log_ratio)
        clipped = ratio.clamp(1 - p["clip"], 1 + p["clip"])
        policy_loss = -torch.min(ratio * batch[ADVANTAGES], clipped * batch[ADVANTAGES]).mean()
        value_loss = 0.5 * (fwd_out["normalized_values"] - batch[VALUE_TARGETS]).square().mean()
        entropy = head.entropy(fwd_out["out"]).mean()
        loss: Tensor = policy_loss + value_loss - p["entropy_weight"] * entropy
        if self._reporting:
            with torch.no_grad():
                found = {
                    "policy_loss": policy_loss.detach(),
                    "value_loss": value_loss.detach(),
                    "entropy": entropy.detach(),
                    "kl": (ratio - 1 - log_ratio).mean(),  # Schulman's low-variance estimate of KL(old || new)
                    "clipped": (ratio != clipped).float().mean(),
                }
                self._figures[module_id].append(found)
        return loss

    def _schedule_exploration(self, head: Any) -> None:
        """The next rollout's standard deviation, where the experiment fixes it."""
        p = self.parameters
        if p["final_log_std"] is not None and isinstance(head, LogitNormal):
            head.set_log_std(p["log_std"] + (p["final_log_std"] - p["log_std"]) * self.progress)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over all learners' rows."""
        count = self._sum(torch.tensor(float(x.numel()), device=x.device))
        mean = self._sum(x.sum()) / count
        return mean, (self._sum((x - mean).square().sum()) / count).sqrt()

    def _sum(self, x: Tensor) -> Tensor:
        if self.config.num_learners > 1:
            torch.distributed.all_reduce(x)
        return x
