"""REINFORCE (Williams 1992) as a learner: its networks and its loss."""

import torch
from torch import Tensor

from rl_markets.policies.gradient import GradientLearner, Part
from rl_markets.policies.module import ACTIONS, NetworkModule
from rl_markets.policies.rollout import OBSERVATIONS, REWARDS, Fragment

from .spec import ReinforceParameters


class ReinforceModule(NetworkModule[ReinforceParameters]):
    """The actor alone; `explore` says what the learner will need of each step."""

    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        raw = self.actor.head.sample(self.actor(observations), generator)
        return {ACTIONS: self.actor.head.to_action(raw), "raw": raw}


class ReinforceLearner(GradientLearner[ReinforceParameters]):
    """L = -E[(G - mean G) log pi(a|s)], G the discounted reward from here to the end of the
    rollout."""

    def parts(self, policy: str) -> dict[str, Part]:
        rate = self.parameters(policy).learning_rate
        return {"actor": Part(list(self.networks(policy).actor.parameters()), rate, 0.0)}

    def learn(self, fragments: dict[str, Fragment]) -> None:
        for policy, fragment in fragments.items():
            actor = self.networks(policy).actor
            columns = fragment.columns
            gains = self._gains(columns[REWARDS], self.parameters(policy).discount)
            batch = {"gain": fragment.rows(gains), "raw": fragment.rows(columns["raw"])}
            out = actor(fragment.rows(columns[OBSERVATIONS][:-1]))
            loss = -self.mean(batch["gain"] * actor.head.log_prob(out, batch["raw"]), batch)
            loss.backward()
            self.optimizer_step(policy, "actor")
            self.report(policy, {"policy_loss": loss.detach()})

    @staticmethod
    def _gains(rewards: Tensor, gamma: float) -> Tensor:
        """Discounted rewards to the end of the rollout `[T, trajectories]`, less their mean, in
        standard deviations."""
        gains = torch.empty_like(rewards)
        total = torch.zeros_like(rewards[0])
        for t in reversed(range(len(rewards))):
            total = rewards[t] + gamma * total
            gains[t] = total
        gains = gains - gains.mean(1, keepdim=True)
        return gains / gains.std()
