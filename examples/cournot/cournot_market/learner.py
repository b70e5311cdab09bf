"""REINFORCE (Williams 1992) as a learner: its networks and its loss."""

import torch
from torch import Tensor

from rl_markets.policies.learner import RolloutLearner
from rl_markets.policies.module import ACTIONS, MarketModule
from rl_markets.policies.rollout import OBSERVATIONS, REWARDS, Fragment


class ReinforceModule(MarketModule):
    """The actor alone; `explore` says what the learner will need of each step."""

    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        raw = self.actor.head.sample(self.actor(observations), generator)
        return {ACTIONS: self.actor.head.to_action(raw), "raw": raw}


class ReinforceLearner(RolloutLearner):
    """L = -E[(G - mean G) log pi(a|s)], G the discounted reward from here to the end of the rollout."""

    def parts(self, policy: str) -> dict[str, tuple[list[Tensor], float, float]]:
        rate = self.parameters(policy)["learning_rate"]
        return {"actor": (list(self._module[policy].unwrapped().actor.parameters()), rate, 0.0)}

    def learn(self, fragments: dict[str, Fragment]) -> None:
        for policy, fragment in fragments.items():
            actor, columns = self.networks(policy).actor, fragment.columns
            gains, following = torch.empty_like(columns[REWARDS]), 0.0
            for t in reversed(range(fragment.steps)):
                following = columns[REWARDS][t] + self.parameters(policy)["gamma"] * following
                gains[t] = following
            gains = gains - gains.mean(1, keepdim=True)
            batch = {"gain": fragment.rows(gains / gains.std()), "raw": fragment.rows(columns["raw"])}
            out = actor(fragment.rows(columns[OBSERVATIONS][:-1]))
            loss = -self.mean(batch["gain"] * actor.head.log_prob(out, batch["raw"]), batch)
            loss.backward()
            self.descend(policy, "actor")
            self.report(policy, {"policy_loss": loss.detach()})
