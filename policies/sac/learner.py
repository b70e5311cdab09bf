"""SAC's losses (Haarnoja et al. 2018, arXiv 1812.05905, Eqs. 5, 7 and 18), next to their formulas."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from rl_markets.policies.learner import Batch
from rl_markets.policies.networks import follow
from rl_markets.policies.offpolicy import OffPolicyLearner
from rl_markets.policies.replay import GOES_ON, NEXT_OBSERVATIONS
from rl_markets.policies.rollout import ACTED, OBSERVATIONS, REWARDS
from rl_markets.policies.sac.module import RAW


class SACLearner(OffPolicyLearner):
    """Critics: E[(Q_i - y)^2] / 2, y = r + gamma (min_i Q'_i(s', a') + alpha H(s')); actor: E[-alpha H - min_i Q_i].

    H is the entropy of the Gaussian before it is squashed: with the entropy of tanh(raw) the temperature would pull
    every action towards the middle of its box. Everything is in normalised units, (Q - shift) / scale, so that rewards
    of any size and offset are learned alike: the temperature counts standard deviations of Q.
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
        """Adapts the values' statistics to the targets; at first to those of rewards summed for ever."""
        module, gamma = self.networks(policy), self.parameters(policy)["gamma"]
        critic, target = module.critic, module.target
        if int(critic.updates) == 0:
            mean, std = self._moments(batch[REWARDS], batch)
            critic.renormalize(mean / (1 - gamma), std / math.sqrt(1 - gamma**2))
            target.adopt(critic.shift, critic.scale)
        else:
            mean, std = self._moments(self._targets(policy, module, batch), batch)
            critic.renormalize(critic.shift + critic.scale * mean, critic.scale * std, decay=0.95)
            target.rescale(critic.shift, critic.scale)

    def _moments(self, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each agent's over the rows in which it acted."""
        if ACTED not in batch:
            return self.moments(x)
        acted = batch[ACTED]
        count = self.total(acted.sum(0).to(x.dtype)).clamp_min(1)
        mean = self.total((x * acted).sum(0)) / count
        return mean, (self.total(((x - mean) * acted).square().sum(0)) / count).sqrt()

    @torch.no_grad()
    def _targets(self, policy: str, module: Any, batch: Batch) -> Tensor:
        """(r + gamma (min_i Q'_i(s', a') + alpha H(s')) - shift) / scale; Q and Q' have the same statistics."""
        head, following, critic = module.actor.head, batch[NEXT_OBSERVATIONS], module.critic
        out = module.actor(module.own(following))
        q = module.values(module.target, following, head.sample(out, self.generator)).amin(0)
        discount = self.parameters(policy)["gamma"] * batch[GOES_ON]
        centred = (batch[REWARDS] - critic.shift * (1 - discount)) / critic.scale
        y: Tensor = centred + discount * (q + module.log_alpha.exp() * head.entropy(out))
        return y

    def improve(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """A step of the critics, then of actor and temperature, then the targets follow."""
        module, rate = self.networks(policy), self.parameters(policy)["target_rate"]
        critic_loss, q = self._critic_step(policy, module, batch)
        policy_loss, entropy = self._actor_step(policy, module, batch)
        follow(list(module.target.parameters()), list(module.critic.parameters()), rate)
        if not reporting:
            return {}
        agents = 1 if entropy.dim() == 1 else entropy.shape[1]
        with torch.no_grad():
            return {
                "critic_loss": critic_loss / agents,
                "policy_loss": policy_loss / agents,
                "entropy": self.mean(entropy, batch) / agents,
                "alpha": module.log_alpha.exp().mean(),
                "value_mean": self.mean((module.critic.shift + module.critic.scale * q).mean(0), batch) / agents,
            }

    def _critic_step(self, policy: str, module: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        y = self._targets(policy, module, batch)
        q = module.values(module.critic, batch[OBSERVATIONS], batch[RAW])
        loss = 0.5 * self.mean((q - y).square().sum(0), batch)
        loss.backward()
        self.descend(policy, "critic")
        return loss.detach(), q.detach()

    def _actor_step(self, policy: str, module: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        observations, head, log_alpha = batch[OBSERVATIONS], module.actor.head, module.log_alpha
        out = module.actor(module.own(observations))
        entropy = head.entropy(out)
        q = module.values(module.critic, observations, head.sample(out, self.generator)).amin(0)
        loss = -self.mean(log_alpha.detach().exp() * entropy + q, batch)
        excess = entropy.detach() - self._target_entropy(policy) * (head.inputs // 2)
        both = loss + self.mean(log_alpha * excess, batch)
        weights = [*module.actor.parameters(), log_alpha]
        for weight, gradient in zip(weights, torch.autograd.grad(both, weights), strict=True):
            weight.grad = gradient  # the critics' own gradients are not even computed
        self.descend(policy, "actor", "alpha")
        return loss.detach(), entropy.detach()

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
