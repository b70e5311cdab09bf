"""TD3's losses (Fujimoto et al. 2018, arXiv 1802.09477, Algorithm 1), next to their formulas.

With one critic, no smoothing and no delay they are those of DDPG (Lillicrap et al. 2016, arXiv
1509.02971, Eqs. 4 to 6).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_markets.policies.gradient import Batch, Part, actor_and_critic
from rl_markets.policies.networks import follow
from rl_markets.policies.offpolicy import OffPolicyLearner, agents_in, differentiate
from rl_markets.policies.replay import NEXT_OBSERVATIONS
from rl_markets.policies.rollout import OBSERVATIONS
from rl_markets.policies.td3.parameters import TD3Parameters


class TD3Learner(OffPolicyLearner[TD3Parameters]):
    """Critics: E[(Q_i - y)^2] / 2, y = r + gamma min_i Q'_i(s', mu'(s') + clip(eps)); actor:
    E[-Q_1(s, mu(s))].

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
        following = batch[NEXT_OBSERVATIONS]
        raw = module.target_actor(module.own(following))
        if p.smoothing_std:
            noise = torch.randn(
                raw.shape, generator=self.generator, device=raw.device, dtype=raw.dtype
            )
            raw = raw + (p.smoothing_std * noise).clamp_(-p.smoothing_clip, p.smoothing_clip)
        return self.td_target(
            policy, module, batch, module.values(module.target, following, raw).amin(0)
        )

    def update_policy(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """A step of the critics; at every `policy_delay`-th also one of the actor, and then the
        targets follow."""
        module = self.networks(policy)
        p = self.parameters(policy)
        critic_loss, q = self.fit_critics(policy, module, batch)
        found: dict[str, Tensor] = {}
        if reporting:
            found = {
                "critic_loss": critic_loss / agents_in(batch),
                "value_mean": self.value_mean(module, batch, q),
            }
            with torch.no_grad():
                found["policy_loss"] = self._policy_loss(module, batch) / agents_in(batch)
            found["exploration_std"] = module.actor.head.log_std.exp().mean()
        if (self.gradient_step + 1) % p.policy_delay == 0:
            differentiate(self._policy_loss(module, batch), list(module.actor.parameters()))
            self.optimizer_step(policy, "actor")
            follow(
                list(module.target.parameters()), list(module.critic.parameters()), p.target_rate
            )
            follow(
                list(module.target_actor.parameters()),
                list(module.actor.parameters()),
                p.target_rate,
            )
        return found

    def _policy_loss(self, module: Any, batch: Batch) -> Tensor:
        observations = batch[OBSERVATIONS]
        q = module.values(module.critic, observations, module.actor(module.own(observations)))
        return -self.mean(q[0], batch)

    def after_updates(self, policy: str) -> None:
        """Sets the next rollout's exploration, and averages the actor."""
        self.networks(policy).explore_by(self.scheduled(policy, "exploration_std"))
        super().after_updates(policy)
