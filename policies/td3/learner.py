"""TD3's losses (Fujimoto et al. 2018, arXiv 1802.09477, Algorithm 1), next to their formulas.

With one critic, no smoothing and no delay they are those of DDPG (Lillicrap et al. 2016, arXiv
1509.02971, Eqs. 4 to 6).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_markets.policies.gradient import Part, actor_and_critic
from rl_markets.policies.networks import follow
from rl_markets.policies.offpolicy import OffPolicyLearner, agents_in, differentiate
from rl_markets.policies.replay import NEXT_OBSERVATIONS
from rl_markets.policies.rollout import OBSERVATIONS, Batch
from rl_markets.policies.td3.parameters import TD3Parameters


class TD3Learner(OffPolicyLearner[TD3Parameters]):
    """Twin critics with smoothed targets, and a deterministic actor that follows the first.

    Critics: E[(Q_i - y)^2] / 2, y = r + gamma min_i Q'_i(s', mu'(s') + clip(eps)).
    Actor: E[-Q_1(s, mu(s))].

    mu and eps are raw: noise is added before actions are squashed, so that it never leaves the box.
    """

    def parts(self, policy: str) -> dict[str, Part]:
        """Actor and critics."""
        p = self.parameters(policy)
        return actor_and_critic(self.networks(policy), p, p.critic_learning_rate)

    @torch.no_grad()
    def targets(self, policy: str, module: Any, batch: Batch) -> Tensor:
        """(r + gamma min_i Q'_i(s', mu'(s') + clip(eps)) - shift) / scale."""
        p = self.parameters(policy)
        next_observations = batch[NEXT_OBSERVATIONS]
        next_raw = module.target_actor(module.own(next_observations))
        if p.smoothing_std:
            # target policy smoothing
            noise = torch.randn(
                next_raw.shape,
                generator=self.generator,
                device=next_raw.device,
                dtype=next_raw.dtype,
            )
            clipped = (p.smoothing_std * noise).clamp_(-p.smoothing_clip, p.smoothing_clip)
            next_raw = next_raw + clipped
        q = module.values(module.target, next_observations, next_raw).amin(0)
        return self.td_target(policy, module, batch, q)

    def update_policy(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """A step of the critics; at every `policy_delay`-th also one of the actor.

        The targets follow after the actor's step.
        """
        module = self.networks(policy)
        p = self.parameters(policy)
        critic_loss, q = self.fit_critics(policy, module, batch)

        # before the actor's step, whether this step has one or not
        metrics: dict[str, Tensor] = {}
        if reporting:
            agents = agents_in(batch)
            with torch.no_grad():
                policy_loss = self._policy_loss(module, batch)
            metrics = {
                "critic_loss": critic_loss / agents,
                "value_mean": self.value_mean(module, batch, q),
                "policy_loss": policy_loss / agents,
                "exploration_std": module.actor.head.log_std.exp().mean(),
            }

        if (self.gradient_step + 1) % p.policy_delay == 0:
            actor = list(module.actor.parameters())
            differentiate(self._policy_loss(module, batch), actor)
            self.optimizer_step(policy, "actor")
            critics = list(module.critic.parameters())
            follow(list(module.target.parameters()), critics, p.target_rate)
            follow(list(module.target_actor.parameters()), actor, p.target_rate)
        return metrics

    def _policy_loss(self, module: Any, batch: Batch) -> Tensor:
        """E[-Q_1(s, mu(s))]."""
        observations = batch[OBSERVATIONS]
        raw = module.actor(module.own(observations))
        q = module.values(module.critic, observations, raw)
        return -self.mean(q[0], batch)

    def after_updates(self, policy: str) -> None:
        """Sets the next rollout's exploration, and moves the actor's average."""
        self.networks(policy).explore_by(self.scheduled(policy, "exploration_std"))
        super().after_updates(policy)
