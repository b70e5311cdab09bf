"""PPO's loss (Schulman et al. 2017), next to its formula."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from rl_markets.policies.advantages import generalized_advantages, others_mean, successor_values
from rl_markets.policies.gradient import (
    GradientLearner,
    Part,
    actor_and_critic,
    mean_over_steps,
)
from rl_markets.policies.heads import LogitNormal
from rl_markets.policies.ppo.module import LOG_PROB, RAW
from rl_markets.policies.ppo.parameters import PPOParameters
from rl_markets.policies.rollout import OBSERVATIONS, REWARDS, Batch, Fragment

ADVANTAGES = "advantages"
SHORTEST = 1e-3
"""Values without an end in sight are centred as if they looked a thousand steps ahead."""
CLIPPED_BOUND = "clipped_bound"
VALUE_TARGETS = "value_targets"
"""Columns of what the gradient steps need beside what the runners recorded."""


class PPOLearner(GradientLearner[PPOParameters]):
    """L = E[-min(rho A, clip(rho, 1-eps, 1+eps) A)] + E[(V - V_target)^2] / 2 - c_H E[H].

    rho = pi / pi_old is the probability ratio, A the advantage, H the policy's entropy.
    """

    def parts(self, policy: str) -> dict[str, Part]:
        """Actor and critic."""
        p = self.parameters(policy)
        return actor_and_critic(self.networks(policy), p, p.critic_learning_rate)

    def learn(self, fragments: dict[str, Fragment]) -> None:
        """`epochs` passes over the rollout, in `minibatches` equal slices."""
        batches = {
            policy: self.before_updates(policy, fragment) for policy, fragment in fragments.items()
        }
        reported: dict[str, list[dict[str, Tensor]]] = defaultdict(list)
        for epoch in range(self.common.epochs):
            last = epoch == self.common.epochs - 1
            for minibatch in self.slices(batches, self.common.minibatches):
                for policy, batch in minibatch.items():
                    metrics = self.update_policy(policy, batch, reporting=last)
                    if metrics:
                        reported[policy].append(metrics)
        for policy, steps in reported.items():
            self.report(policy, mean_over_steps(steps))
            self.after_updates(policy)

    @torch.no_grad()
    def before_updates(self, policy: str, fragment: Fragment) -> Batch:
        """Advantages and value targets of a fragment, as rows."""
        p = self.parameters(policy)
        critic = self.networks(policy).critic
        columns = fragment.columns
        rows = fragment.rows

        values, final_values = fragment.values(critic)
        values, final_values = self.centred(policy, fragment, values, final_values)
        successor, not_done = successor_values(values, fragment.ends, final_values)
        advantages = generalized_advantages(
            columns[REWARDS], values, successor, not_done, p.discount, p.gae_lambda
        )
        targets = rows(advantages + values[:-1])

        # normalise the advantages, over all learners' rows
        if p.common_baseline:
            advantages = advantages - others_mean(advantages, fragment.world)
        advantages = rows(advantages)
        mean, std = self.moments(advantages)
        advantages = (advantages - mean) / std.clamp_min(1e-8)

        # the values' new statistics come before the targets in their units
        critic.renormalize(*self.moments(targets))
        unexplained = (targets - rows(values[:-1])).var(0)
        explained = 1 - unexplained / targets.var(0).clamp_min(1e-12)
        self.report(policy, {"value_explained": explained})

        # clip(rho, 1-eps, 1+eps) A where it is the smaller: (1+eps) A if A > 0, else (1-eps) A
        clipped_bound = advantages + p.clip * advantages.abs()
        batch = {
            OBSERVATIONS: rows(columns[OBSERVATIONS][:-1]),
            RAW: rows(columns[RAW]),
            LOG_PROB: rows(columns[LOG_PROB]),
            ADVANTAGES: advantages,
            CLIPPED_BOUND: clipped_bound,
            VALUE_TARGETS: (targets - critic.shift) / critic.scale,
        }
        return fragment.acting(batch)

    def centred(
        self, policy: str, fragment: Fragment, values: Tensor, final_values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Moves all values at once by what they miss in common, and returns them moved.

        Were every V too low by the same g, every temporal difference would be (1 - gamma) g on
        average, gamma g less where an episode terminates. Steps of the critic alone close such a
        gap at the pace of the traces, 1 - gamma lambda, and fit little else meanwhile (compare Naik
        et al. 2024, who centre rewards).
        """
        p = self.parameters(policy)
        if p.centring == 0:
            return values, final_values
        alive = torch.ones_like(values[1:])
        ends = fragment.ends
        alive[ends.step[ends.terminated], ends.trajectory[ends.terminated]] = 0.0
        successor, _ = successor_values(values, ends, final_values)
        difference = fragment.columns[REWARDS] + p.discount * successor - values[:-1]
        missed, _ = self.moments(fragment.rows(difference))
        weight, _ = self.moments(fragment.rows(1 - p.discount * alive))
        level = p.centring * missed / weight.clamp_min(SHORTEST)
        self.networks(policy).critic.shift.add_(level)
        if fragment.separate is not None:  # a level of each agent's own
            level = level.repeat(fragment.trajectories // fragment.separate)
            return values + level, final_values + level[ends.trajectory]
        return values + level, final_values + level

    def update_policy(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """One gradient step of actor and critic; its metrics, if they are reported."""
        p = self.parameters(policy)
        module = self.networks(policy)
        head = module.actor.head
        observations = batch[OBSERVATIONS]

        # policy loss
        out = module.actor(module.own(observations))
        log_ratio = head.log_prob(out, batch[RAW]) - batch[LOG_PROB]
        ratio = torch.exp(log_ratio)
        surrogate = torch.clamp_max(ratio * batch[ADVANTAGES], batch[CLIPPED_BOUND])
        policy_loss = -self.mean(surrogate, batch)

        # value loss
        error = module.critic.normalized(observations) - batch[VALUE_TARGETS]
        value_loss = 0.5 * self.mean(error.square(), batch)

        loss = policy_loss + value_loss
        if p.entropy_weight:
            loss = loss - p.entropy_weight * self.mean(head.entropy(out), batch)
        loss.backward()
        self.optimizer_step(policy, "actor", "critic")

        if not reporting:
            return {}
        with torch.no_grad():
            agents = 1 if log_ratio.dim() == 1 else log_ratio.shape[1]
            # Schulman's low-variance estimate of KL(old || new)
            kl = (ratio - 1 - log_ratio).mean()
            return {
                "policy_loss": policy_loss / agents,
                "value_loss": value_loss / agents,
                "entropy": self.mean(head.entropy(out), batch) / agents,
                "kl": kl,
                "clipped": ((ratio - 1).abs() > p.clip).float().mean(),
            }

    def after_updates(self, policy: str) -> None:
        """Sets the next rollout's standard deviation where the experiment fixes it.

        Then moves the actor's average.
        """
        p = self.parameters(policy)
        head = self.networks(policy).actor.head
        if p.final_log_std is not None and isinstance(head, LogitNormal):
            head.set_log_std(self.scheduled(policy, "log_std"))
        self.update_ema(policy, p.averaging)
