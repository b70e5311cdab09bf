"""PPO's loss (Schulman et al. 2017), next to its formula."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from rl_markets.policies.advantages import generalized_advantages, others_mean, successor_values
from rl_markets.policies.gradient import Batch, GradientLearner, Part, actor_and_critic
from rl_markets.policies.heads import LogitNormal
from rl_markets.policies.ppo.module import LOG_PROB, RAW
from rl_markets.policies.ppo.parameters import PPOParameters
from rl_markets.policies.rollout import ACTIVE, OBSERVATIONS, REWARDS, Fragment

ADVANTAGES = "advantages"
CLIPPED_BOUND = "clipped_bound"
VALUE_TARGETS = "value_targets"


class PPOLearner(GradientLearner[PPOParameters]):
    """L = E[-min(rho A, clip(rho, 1-eps, 1+eps) A)] + E[(V - V_target)^2] / 2 - c_H E[H],  rho = pi
    / pi_old."""

    def parts(self, policy: str) -> dict[str, Part]:
        """Actor and critic."""
        p = self.parameters(policy)
        return actor_and_critic(self.networks(policy), p, p.critic_learning_rate)

    def learn(self, fragments: dict[str, Fragment]) -> None:
        """`epochs` passes over the rollout, in `minibatches` equal slices."""
        batches = {
            policy: self.before_updates(policy, fragment) for policy, fragment in fragments.items()
        }
        metrics: dict[str, list[dict[str, Tensor]]] = defaultdict(list)
        epochs = self.common.epochs
        for epoch in range(1, epochs + 1):
            for minibatch in self.slices(batches, self.common.minibatches):
                for policy, batch in minibatch.items():
                    found = self.update_policy(
                        policy, batch, reporting=epoch == epochs
                    )  # metrics are of the last epoch
                    metrics[policy].append(found)
        for policy, of_policy in metrics.items():
            last = [f for f in of_policy if f]
            self.report(
                policy, {name: torch.stack([f[name] for f in last]).mean() for name in last[0]}
            )
            self.after_updates(policy)

    @torch.no_grad()
    def before_updates(self, policy: str, fragment: Fragment) -> Batch:
        """Advantages and value targets of a fragment, as rows."""
        p = self.parameters(policy)
        critic = self.networks(policy).critic
        columns = fragment.columns
        rows = fragment.rows
        values, final_values = fragment.values(critic)
        successor, not_done = successor_values(values, fragment.ends, final_values)
        advantages = generalized_advantages(
            columns[REWARDS], values, successor, not_done, p.discount, p.gae_lambda
        )
        targets = rows(advantages + values[:-1])
        if p.common_baseline:
            advantages = advantages - others_mean(advantages, fragment.world)
        advantages = rows(advantages)
        mean, std = self.moments(advantages)
        advantages = (advantages - mean) / std.clamp_min(1e-8)
        critic.renormalize(*self.moments(targets))
        missed = (targets - rows(values[:-1])).var(0)
        self.report(policy, {"value_explained": 1 - missed / targets.var(0).clamp_min(1e-12)})
        batch = {
            OBSERVATIONS: rows(columns[OBSERVATIONS][:-1]),
            RAW: rows(columns[RAW]),
            LOG_PROB: rows(columns[LOG_PROB]),
            ADVANTAGES: advantages,
            CLIPPED_BOUND: advantages
            + p.clip * advantages.abs(),  # clip(rho, 1-eps, 1+eps) A where it is the smaller
            VALUE_TARGETS: (targets - critic.shift) / critic.scale,
        }
        return self._acting(batch, columns, fragment)

    def _acting(self, batch: Batch, columns: dict[str, Tensor], fragment: Fragment) -> Batch:
        """The rows in which the agent acted; separate policies keep all rows and weigh them."""
        if ACTIVE not in columns:
            return batch
        active = fragment.rows(columns[ACTIVE])
        if fragment.separate is not None:
            return {**batch, ACTIVE: active}
        return {name: column[active] for name, column in batch.items()}

    def update_policy(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """One gradient step of actor and critic; its metrics, if they are reported."""
        p = self.parameters(policy)
        module = self.networks(policy)
        head = module.actor.head
        observations = batch[OBSERVATIONS]
        out = module.actor(module.own(observations))
        log_ratio = head.log_prob(out, batch[RAW]) - batch[LOG_PROB]
        ratio = torch.exp(log_ratio)
        policy_loss = -self.mean(
            torch.clamp_max(ratio * batch[ADVANTAGES], batch[CLIPPED_BOUND]), batch
        )
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
            return {
                "policy_loss": policy_loss / agents,
                "value_loss": value_loss / agents,
                "entropy": self.mean(head.entropy(out), batch) / agents,
                "kl": (
                    ratio - 1 - log_ratio
                ).mean(),  # Schulman's low-variance estimate of KL(old || new)
                "clipped": ((ratio - 1).abs() > p.clip).float().mean(),
            }

    def after_updates(self, policy: str) -> None:
        """Averages the actor, and sets the next rollout's standard deviation where the experiment
        fixes it."""
        p = self.parameters(policy)
        head = self.networks(policy).actor.head
        if p.final_log_std is not None and isinstance(head, LogitNormal):
            head.set_log_std(self.scheduled(policy, "log_std"))
        self.update_ema(policy, p.averaging)
