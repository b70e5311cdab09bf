"""What learners that replay share: one `add` and K gradient steps in each iteration."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from rl_markets.policies.learner import Batch, RolloutLearner
from rl_markets.policies.replay import Replay, nested, transitions
from rl_markets.policies.rollout import Fragment


class OffPolicyLearner(RolloutLearner):
    """Base of learners on replayed transitions. Subclasses write `parts`, `prepare` and `improve`."""

    columns: ClassVar[tuple[str, ...]]
    """The policy's own columns that the learner replays."""

    def build(self) -> None:
        """An empty replay for each policy."""
        super().build()
        self.replay: dict[str, Replay] = {
            p: Replay(self.parameters(p)["capacity"], self._device) for p in self.config.learner_config_dict["policies"]
        }

    def learn(self, fragments: dict[str, Fragment]) -> None:
        """Adds the fragments, then takes `updates` gradient steps of every policy; reports the mean of the last quarter."""
        for policy, fragment in fragments.items():
            p, replay = self.parameters(policy), self.replay[policy]
            replay.add(transitions(fragment, self.columns))
            self.prepare(policy, replay.sample(max(p["batch_size"], 1024), self.generator))
            rows = p["batch_size"] // max(1, self.config.num_learners)
            figures = []
            for step in range(p["updates"]):
                batch = replay.sample(max(1, rows), self.generator)
                found = self.improve(policy, batch, reporting=step >= p["updates"] * 3 // 4)
                if found:
                    figures.append(found)
            self.report(policy, {name: torch.stack([f[name] for f in figures]).mean(0) for name in figures[0]})
            self.finish(policy)

    @abstractmethod
    def prepare(self, policy: str, batch: Batch) -> None:
        """Before the gradient steps of an iteration, such as adapting normalisations to a large batch."""

    @abstractmethod
    def improve(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """One gradient step; its figures, if they are reported."""

    def finish(self, policy: str) -> None:
        """After the gradient steps of an iteration."""

    def private_state(self) -> dict[str, Tensor]:
        """The replay's contents too, where the experiment wants them kept."""
        state = super().private_state()
        for policy, replay in self.replay.items():
            if self.parameters(policy)["store_replay"]:
                state |= {f"replay.{policy}.{name}": value for name, value in replay.state_dict().items()}
        return state

    def load_private_state(self, saved: dict[str, Tensor]) -> None:
        """The reverse of `private_state`."""
        super().load_private_state(saved)
        for policy, replay in self.replay.items():
            if kept := nested(f"replay.{policy}", saved):
                replay.load_state_dict(kept)
