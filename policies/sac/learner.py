"""SAC's losses (Haarnoja et al. 2018, arXiv 1812.05905, Eqs. 5, 7 and 18), next to their formulas."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from rl_markets.policies.learner import Batch
from rl_markets.policies.offpolicy import OffPolicyLearner, follow
from rl_markets.policies.replay import GOES_ON, NEXT_OBSERVATIONS
from rl_markets.policies.rollout import OBSERVATIONS, REWARDS
from rl_markets.policies.sac.module import RAW


class SACLearner(OffPolicyLearner):
    """Critics: E[(Q_i - y)^2] / 2, y = r + gamma (min_i Q'_i(s', a') - alpha log pi(a'|s')); actor: E[alpha log pi - min_i Q_i].

    Everything is in normalised units, (Q - shift) / scale, so that rewards of any size and offset are learned alike:
    the temperature counts standard deviations of Q.
    """

    columns: ClassVar[tuple[str, ...]] = (RAW,)

    def build(self) -> None:
        """Sets the temperature at the start."""
        super().build()
        for policy in self.replay:
            with torch.no_grad():
                self.networks(policy).log_alpha.fill_(math.log(self.parameters(policy)["initial_alpha"]))

    def parts(self, policy: str) -> dict[str, tuple[list[Tensor], float, float]]:
        """Actor, critics and temperature; all step sizes fall in the same proportion."""
        p, module = self.parameters(policy), self._module[policy].unwrapped()
        falls = p["final_learning_rate"] / p["learning_rate"]
        rates = {"actor": p["learning_rate"], "critic": p["critic_learning_rate"], "alpha": p["alpha_learning_rate"]}
        weights = {
            "actor": list(module.actor.parameters()),
            "critic": list(module.critic.parameters()),
            "alpha": [module.log_alpha],
        }
        return {name: (weights[name], rate, rate * falls) for name, rate in rates.items()}

    @torch.no_grad()
    def prepare(self, policy: str, batch: Batch) -> None:
        """Adapts the critics' statistics to the targets; at first to those of rewards summed for ever."""
        module, gamma = self.networks(policy), self.parameters(policy)["gamma"]
        critic, target = module.critic, module.target
        if int(critic.updates) == 0:
            mean, std = self.moments(batch[REWARDS])
            shift, scale = mean / (1 - gamma), std / math.sqrt(1 - gamma**2)
        else:
            shift, scale = self.moments(self._targets(policy, batch))
        critic.renormalize(shift, scale, decay=0.95)
        target.rescale(critic.shift, critic.scale) if int(critic.updates) > 1 else target.adopt(critic.shift, critic.scale)

    @torch.no_grad()
    def _targets(self, policy: str, batch: Batch) -> Tensor:
        """y = r + gamma (min_i Q'_i(s', a') - alpha log pi(a'|s')), in discounted reward."""
        module, gamma = self.networks(policy), self.parameters(policy)["gamma"]
        head, following, target = module.actor.head, batch[NEXT_OBSERVATIONS], module.target
        out = module.actor(module.own(following))
        raw = head.sample(out, self.generator)
        q = target.normalized(torch.cat([following, torch.tanh(raw)], -1)).amin(0)
        v = q - module.log_alpha.exp() * head.log_prob(out, raw)
        return batch[REWARDS] + gamma * batch[GOES_ON] * (target.shift + target.scale * v)

    def improve(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """A step of the critics, then of actor and temperature, then the targets follow."""
        module, rate = self.networks(policy), self.parameters(policy)["target_rate"]
        critic_loss, q = self._critic_step(policy, module, batch)
        policy_loss, log_prob = self._actor_step(policy, module, batch)
        follow(list(module.target.parameters()), list(module.critic.parameters()), rate)
        if not reporting:
            return {}
        agents = 1 if log_prob.dim() == 1 else log_prob.shape[1]
        with torch.no_grad():
            return {
                "critic_loss": critic_loss / agents,
                "policy_loss": policy_loss / agents,
                "entropy": -log_prob.mean(),
                "alpha": module.log_alpha.exp().mean(),
                "value_mean": (module.critic.shift + module.critic.scale * q).mean(),
            }

    def _critic_step(self, policy: str, module: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        y = (self._targets(policy, batch) - module.critic.shift) / module.critic.scale
        q = module.critic.normalized(torch.cat([batch[OBSERVATIONS], torch.tanh(batch[RAW])], -1))
        loss = 0.5 * self.mean((q - y).square().sum(0), batch)
        loss.backward()
        self.descend(policy, "critic")
        return loss.detach(), q.detach()

    def _actor_step(self, policy: str, module: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        observations, head = batch[OBSERVATIONS], module.actor.head
        out = module.actor(module.own(observations))
        raw = head.sample(out, self.generator)
        log_prob = head.log_prob(out, raw)
        q = module.critic.normalized(torch.cat([observations, torch.tanh(raw)], -1)).amin(0)
        loss = self.mean(module.log_alpha.detach().exp() * log_prob - q, batch)
        weights = list(module.actor.parameters())
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient  # the critics' own gradients are not even computed
        # d/d log alpha of -log alpha (log pi + target entropy)
        surprise = log_prob.detach() + self._target_entropy(policy) * (head.inputs // 2)
        module.log_alpha.grad = -surprise.mean(0).expand_as(module.log_alpha).clone()
        self.descend(policy, "actor", "alpha")
        return loss.detach(), log_prob.detach()

    def _target_entropy(self, policy: str) -> float:
        """Nats for each action, now."""
        p = self.parameters(policy)
        start: float = p["target_entropy"]
        end: float = start if p["final_target_entropy"] is None else p["final_target_entropy"]
        return start + (end - start) * self.progress

    @torch.no_grad()
    def finish(self, policy: str) -> None:
        """Averages the actor."""
        module, seen = self.networks(policy), self._weights_seq_no
        early = seen / (seen + 9)  # a short memory while everything still moves
        decay = min(self.parameters(policy)["averaging"], early)
        follow(list(module.averaged.parameters()), list(module.actor.parameters()), 1 - decay)
