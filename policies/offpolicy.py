"""What learners that replay share: one `add` and K gradient steps in each iteration."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from typing import Any, TypeVar

import torch
from torch import Tensor

from rl_markets.policies.gradient import GradientLearner, mean_over_steps
from rl_markets.policies.module import ACTIONS, EMAModule
from rl_markets.policies.networks import Critic
from rl_markets.policies.replay import NONTERMINAL, Replay, nested, transitions
from rl_markets.policies.rollout import ACTIVE, OBSERVATIONS, REWARDS, Batch, Fragment
from rl_markets.policies.spec import ReplayParameters

R = TypeVar("R", bound=ReplayParameters)

RAW = "raw"
"""Column of the raw actions, before they are squashed."""
REACH = 3.0
"""Critics see raw actions within about +-3, where tanh has reached .995."""


class OffPolicyModule(EMAModule[R]):
    """Actor and its moving average (which is deployed), critics on (s, raw) and their slow targets.

    Several critics are one stack of networks: one batched product serves them all. With separate
    policies every agent has its own.
    """

    critic: Critic
    target: Critic

    def build_critics(self, count: int) -> None:
        """So many critics, and their targets."""
        self.critic = self.critic_on(len(self.actor.spec["action"]["low"]), ensemble=count)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)

    def values(self, critic: Critic, observations: Tensor, raw: Tensor) -> Tensor:
        """Normalised Q of each critic, `[critics, ...]`.

        The critics see raw and not squashed actions: what is logarithmic near a bound, such as
        utility, is about linear in them. They see them bounded, so that no policy runs away to
        where the critics extrapolate.
        """
        bounded = REACH * torch.tanh(raw / REACH)
        return critic.normalized(torch.cat([observations, bounded], -1))

    def get_non_inference_attributes(self) -> list[str]:
        """What runners drop."""
        return ["critic", "target"]

    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Samples the distribution; keeps the raw action."""
        raw = self.head.sample(self.actor(observations), generator)
        return {ACTIONS: self.head.to_action(raw), RAW: raw}


class OffPolicyLearner(GradientLearner[R]):
    """Base of learners of actors and critics on replayed transitions.

    Subclasses write `parts`, `targets` and `update_policy`.

    Everything is in normalised units, (Q - shift) / scale, so that rewards of any size and offset
    are learned alike.
    """

    columns: tuple[str, ...] = (RAW,)
    """The policy's own columns that the learner replays."""

    gradient_step: int = 0
    """The number of the gradient step that is being taken, counted from the start of training."""

    def build(self) -> None:
        """An empty replay for each policy."""
        super().build()
        self.replay: dict[str, Replay] = {
            policy: Replay(p.capacity, self._device) for policy, p in self.learned.items()
        }

    def learn(self, fragments: dict[str, Fragment]) -> None:
        """Adds the fragments, then takes `updates` gradient steps of every policy.

        Reports the mean over the last quarter of the steps.
        """
        for policy, fragment in fragments.items():
            p = self.parameters(policy)
            replay = self.replay[policy]
            replay.add(transitions(fragment, self.columns))
            self.before_updates(policy, replay.sample(max(p.batch_size, 1024), self.generator))

            # each learner takes its share of the batch
            rows = max(1, p.batch_size // max(1, self.config.num_learners))
            reported = []
            for step in range(p.updates):
                self.gradient_step = (self._weights_seq_no - 1) * p.updates + step
                batch = replay.sample(rows, self.generator)
                reporting = step >= p.updates * 3 // 4
                metrics = self.update_policy(policy, batch, reporting=reporting)
                if metrics:
                    reported.append(metrics)
            self.report(policy, mean_over_steps(reported))
            self.after_updates(policy)

    @torch.no_grad()
    def before_updates(self, policy: str, batch: Batch) -> None:
        """Before an iteration's gradient steps: adapts the values' statistics to the targets.

        At first to those of rewards summed for ever.

        Args:
            policy: which.
            batch: a large one.
        """
        module = self.networks(policy)
        gamma = self.parameters(policy).discount
        critic = module.critic
        target = module.target
        if int(critic.updates) == 0:
            # the moments of sum_t gamma^t r_t with independent r_t
            mean, std = self._moments(batch[REWARDS], batch)
            critic.renormalize(mean / (1 - gamma), std / math.sqrt(1 - gamma**2))
            target.adopt(critic.shift, critic.scale)
        else:
            # targets are in the old units
            mean, std = self._moments(self.targets(policy, module, batch), batch)
            critic.renormalize(critic.shift + critic.scale * mean, critic.scale * std, decay=0.95)
            target.rescale(critic.shift, critic.scale)

    def _moments(self, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each agent's over the rows in which it acted."""
        if ACTIVE not in batch:
            return self.moments(x)
        active = batch[ACTIVE]
        count = self.total(active.sum(0).to(x.dtype)).clamp_min(1)
        mean = self.total((x * active).sum(0)) / count
        variance = self.total(((x - mean) * active).square().sum(0)) / count
        return mean, variance.sqrt()

    @abstractmethod
    def targets(self, policy: str, module: Any, batch: Batch) -> Tensor:
        """What the critics should say of the batch's actions, normalised, without gradient.

        `td_target` of some value of the next state.
        """

    def td_target(self, policy: str, module: Any, batch: Batch, next_values: Tensor) -> Tensor:
        """(r + gamma V(s') - shift) / scale of normalised values V(s').

        Critics and slow targets have the same statistics.
        """
        critic = module.critic
        discount = self.parameters(policy).discount * batch[NONTERMINAL]
        centred = (batch[REWARDS] - critic.shift * (1 - discount)) / critic.scale
        y: Tensor = centred + discount * next_values
        return y

    def fit_critics(self, policy: str, module: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """A step of every critic along E[(Q_i - y)^2] / 2.

        Returns:
            The loss, summed over critics, and the normalised values `[critics, ...]` before it.
        """
        y = self.targets(policy, module, batch)
        q = module.values(module.critic, batch[OBSERVATIONS], batch[RAW])
        loss = 0.5 * self.mean((q - y).square().sum(0), batch)
        loss.backward()
        self.optimizer_step(policy, "critic")
        return loss.detach(), q.detach()

    @abstractmethod
    def update_policy(self, policy: str, batch: Batch, *, reporting: bool) -> dict[str, Tensor]:
        """One gradient step; its metrics, if they are reported."""

    def value_mean(self, module: Any, batch: Batch, q: Tensor) -> Tensor:
        """The mean action value, in discounted reward, of `[critics, ...]` normalised ones."""
        values = (module.critic.shift + module.critic.scale * q).mean(0)
        return self.mean(values, batch) / agents_in(batch)

    def after_updates(self, policy: str) -> None:
        """After the gradient steps of an iteration: moves the actor's average."""
        self.update_ema(policy, self.parameters(policy).averaging)

    def private_state(self) -> dict[str, Tensor]:
        """The replay's contents too, where the experiment wants them kept."""
        state = super().private_state()
        for policy, replay in self.replay.items():
            if self.parameters(policy).store_replay:
                contents = replay.state_dict()
                state |= {f"replay.{policy}.{name}": value for name, value in contents.items()}
        return state

    def load_private_state(self, saved: dict[str, Tensor]) -> None:
        """The reverse of `private_state`."""
        super().load_private_state(saved)
        for policy, replay in self.replay.items():
            if contents := nested(f"replay.{policy}", saved):
                replay.load_state_dict(contents)


def agents_in(batch: Batch) -> int:
    """How many policies side by side learn from a batch."""
    return 1 if batch[REWARDS].dim() == 1 else batch[REWARDS].shape[1]


def differentiate(loss: Tensor, weights: list[Tensor]) -> None:
    """Puts the gradients on these weights.

    Others that the loss goes through, such as a critic's, get none.
    """
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = gradient
