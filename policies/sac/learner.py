"""SAC's losses (Haarnoja et al. 2018, arXiv 1812.05905), next to their formulas.

They are the paper's Eqs. 5, 7 and 18.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rl_markets.policies.gradient import Part, actor_and_critic
from rl_markets.policies.networks import follow
from rl_markets.policies.offpolicy import OffPolicyLearner, agents_in, differentiate
from rl_markets.policies.replay import NEXT_OBSERVATIONS
from rl_markets.policies.rollout import OBSERVATIONS, Batch
from rl_markets.policies.sac.parameters import SACParameters


class SACLearner(OffPolicyLearner[SACParameters]):
    """Twin critics, an actor that is paid for entropy, and the temperature that prices it.

    Critics: E[(Q_i - y)^2] / 2, y = r + gamma (min_i Q'_i(s', a') + alpha H(s')).
    Actor: E[-alpha H - min_i Q_i].
    Temperature: E[log alpha (H - H_target)].

    H is the entropy of the Gaussian before it is squashed: with the entropy of tanh(raw) the
    temperature would pull every action towards the middle of its box. In normalised units the
    temperature counts standard deviations of Q.
    """

    def build(self) -> None:
        """Sets the temperature at the start."""
        super().build()
        for policy in self.replay:
            log_alpha = math.log(self.parameters(policy).initial_alpha)
            with torch.no_grad():
                self.networks(policy).log_alpha.fill_(log_alpha)

    def parts(self, policy: str) -> dict[str, Part]:
        """Actor and critics, and the temperature, whose step size falls in the same proportion."""
        p = self.parameters(policy)
        module = self.networks(policy)
        falls = p.final_learning_rate / p.learning_rate
        temperature = Part([module.log_alpha], p.alpha_learning_rate, p.alpha_learning_rate * falls)
        return actor_and_critic(module, p, p.critic_learning_rate) | {"alpha": temperature}

    @torch.no_grad()
    def targets(self, policy: str, module: Any, batch: Batch) -> Tensor:
        """(r + gamma (min_i Q'_i(s', a') + alpha H(s')) - shift) / scale."""
        head = module.actor.head
        next_observations = batch[NEXT_OBSERVATIONS]
        out = module.actor(module.own(next_observations))
        next_raw = head.sample(out, self.generator)
        q = module.values(module.target, next_observations, next_raw).amin(0)
        soft_value = q + module.log_alpha.exp() * head.entropy(out)
        return self.td_target(policy, module, batch, soft_value)

    def update_policy(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """A step of the critics, then of actor and temperature, then the targets follow."""
        module = self.networks(policy)
        rate = self.parameters(policy).target_rate
        critic_loss, q = self.fit_critics(policy, module, batch)
        policy_loss, entropy = self._actor_step(policy, module, batch)
        follow(list(module.target.parameters()), list(module.critic.parameters()), rate)

        if not reporting:
            return {}
        agents = agents_in(batch)
        with torch.no_grad():
            return {
                "critic_loss": critic_loss / agents,
                "policy_loss": policy_loss / agents,
                "entropy": self.mean(entropy, batch) / agents,
                "alpha": module.log_alpha.exp().mean(),
                "value_mean": self.value_mean(module, batch, q),
            }

    def _actor_step(self, policy: str, module: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """A step of actor and temperature; the actor's loss, and the entropy of each row."""
        observations = batch[OBSERVATIONS]
        head = module.actor.head
        log_alpha = module.log_alpha

        # policy loss, at actions drawn anew
        out = module.actor(module.own(observations))
        entropy = head.entropy(out)
        raw = head.sample(out, self.generator)
        q = module.values(module.critic, observations, raw).amin(0)
        policy_loss = -self.mean(log_alpha.detach().exp() * entropy + q, batch)

        # temperature loss; the target is for each action, and the head has a mean and a std of each
        actions = head.inputs // 2
        excess = entropy.detach() - self.scheduled(policy, "target_entropy") * actions
        loss = policy_loss + self.mean(log_alpha * excess, batch)

        differentiate(loss, [*module.actor.parameters(), log_alpha])
        self.optimizer_step(policy, "actor", "alpha")
        return policy_loss.detach(), entropy.detach()
