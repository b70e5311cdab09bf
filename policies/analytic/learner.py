"""Analytic policy gradients (SHAC, Xu et al. 2022, arXiv 2204.07137), next to their formulas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.market import Dynamics, Owned
from rl_markets.errors import LearnerError
from rl_markets.policies.analytic.parameters import AnalyticParameters
from rl_markets.policies.analytic.unroll import Unrolled, unroll
from rl_markets.policies.gradient import (
    GradientLearner,
    Part,
    actor_and_critic,
    mean_over_steps,
)
from rl_markets.policies.networks import follow
from rl_markets.policies.rollout import Fragment
from rl_markets.policies.sampling import SAMPLING, SamplingConfig

CO_STATE = "co-state"
"""The critic of derivatives, among the choices of `AnalyticParameters.critic`."""
NEAR = 0.01
"""An action is saturated within this share of its box from a bound."""


class AnalyticLearner(GradientLearner[AnalyticParameters]):
    """Actor: maximise J = sum_{t<H} gamma^t r_t + gamma^H V(s_H), through the market's dynamics.

    The runner's rollout gives the states to start from; the learner goes H periods on from each
    with shocks of its own.

    With a value critic, V is a network and J's gradient goes through it. With a *co-state* critic
    the network learns lambda = dV / d log k, k being what the agent owns (dual heuristic
    programming, Werbos 1992): its targets lambda_t = gamma^-t dJ / d log k_t come from the same
    backward pass, and J's last term is lambda_H log k_H to first order. That is what an Euler
    equation needs, and it does not drown in the level of V.
    """

    epsilon: ClassVar[float] = 1e-8
    """Gradients without noise become small, and still point the right way."""

    def build(self) -> None:
        """Markets are built when the first rollout says how many worlds there are."""
        super().build()
        self.market: Dynamics | None = None

    def parts(self, policy: str) -> dict[str, Part]:
        """Actor and critic."""
        p = self.parameters(policy)
        return actor_and_critic(self.networks(policy), p, p.critic_learning_rate)

    def learn(self, fragments: dict[str, Fragment]) -> None:
        """A step of every actor and critic from each of the rollout's states."""
        times, worlds = next(iter(self.states.values())).shape[:2]
        market = self._market_of(worlds)
        reported: dict[str, list[dict[str, Tensor]]] = defaultdict(list)
        for t in range(times):
            state = {name: states[t] for name, states in self.states.items()}
            unrolled = self._unroll(market, state)
            # all gradients before any step: the others' go through these weights, too, and torch
            # does not notice that a fused step has changed them
            last = len(fragments) - 1
            differentiated = {
                policy: self._differentiate(policy, unrolled, keep=i < last)
                for i, policy in enumerate(fragments)
            }
            for policy, (objective, gradients) in differentiated.items():
                metrics = self._improve(policy, unrolled, objective, gradients, renormalize=t == 0)
                reported[policy].append(metrics)
        for policy, steps in reported.items():
            self.report(policy, mean_over_steps(steps))
            self.update_ema(policy, self.parameters(policy).averaging)

    def _market_of(self, worlds: int) -> Dynamics:
        """The learner's own market; its dynamics are called, it is never stepped."""
        if self.market is None or self.market.worlds != worlds:
            sampling: SamplingConfig = self.config.env_config[SAMPLING]
            market = sampling.build(str(self._device), worlds)
            if not (isinstance(market, Dynamics) and market.differentiable):
                raise LearnerError(f"market {type(market).__name__} is not differentiable")
            self.market = market
            self.fixed = sampling.fixed(market)
            self.joined = {
                policy: JoinedGroups({group: market.groups[group].count for group in groups})
                for policy, groups in sampling.policies.items()
            }
        return self.market

    # -- the objective -----------------------------------------------------------------------------

    def _period(self, policy: str, by_group: Mapping[str, Sequence[Tensor]], t: int) -> Tensor:
        """Period t of what lies by group and period, of all of the policy's agents.

        `[worlds, agents, ...]`.
        """
        joined = self.joined[policy]
        return joined.join({group: by_group[group][t] for group in joined.counts})

    def _act(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        """What everybody does, one forward pass for each policy."""
        actions = {group: policy(observations[group]) for group, policy in self.fixed.items()}
        for policy in self.learned:
            joined = self.joined[policy]
            actions |= joined.split(self.networks(policy).actor.act(joined.join(observations)))
        return actions

    def _unroll(self, market: Dynamics, state: dict[str, Tensor]) -> Unrolled:
        """The horizon from a state, with nudges where a policy's critic wants co-states."""
        owned = {}
        for policy in self.learned:
            if self.parameters(policy).critic == CO_STATE:
                for group in self.joined[policy].counts:
                    owned[group] = self._owned(market, policy, group)
        return unroll(market, state, self.common.horizon, self._act, self.generator, owned)

    @staticmethod
    def _owned(market: Dynamics, policy: str, group: str) -> Owned:
        """What an agent of the group owns.

        Raises:
            LearnerError: where the market does not say so.
        """
        if group not in market.owned:
            raise LearnerError(
                f"policy {policy!r}: the market does not say what an agent of group {group!r} "
                "owns; set algorithm.parameters.critic: value"
            )
        own = market.owned[group]
        if not isinstance(own, Owned):
            raise LearnerError(f"market.owned[{group!r}] = {own!r}: expected an Owned(variable)")
        return own

    def _critic_inputs(self, policy: str, unrolled: Unrolled, t: int) -> Tensor:
        """What the policy's critic sees in period t, `[worlds, agents, width]`."""
        observations = self._period(policy, unrolled.observations, t)
        if not self.networks(policy).model_config["central"]:
            return observations
        agents = observations.shape[1]
        global_state = unrolled.global_states[t].unsqueeze(1).expand(-1, agents, -1)
        return torch.cat([observations, global_state], -1)

    def _objective(self, policy: str, unrolled: Unrolled) -> Tensor:
        """J of each agent, `[worlds, agents]`."""
        p = self.parameters(policy)
        gamma = p.discount
        horizon = p.horizon
        rewards = (gamma**t * self._period(policy, unrolled.rewards, t) for t in range(horizon))

        # bootstrap: V(s_H), or to first order lambda_H log k_H, whose slope in log k is lambda_H
        alive = self._period(policy, unrolled.alive, -1)
        end = self.networks(policy).target(self._critic_inputs(policy, unrolled, horizon))
        if p.critic == CO_STATE:
            owned = self.joined[policy].join(unrolled.owned)
            end = end.detach() * torch.log(owned)
        total: Tensor = sum(rewards, gamma**horizon * alive * end)
        return total

    # -- gradient steps ----------------------------------------------------------------------------

    def _differentiate(
        self, policy: str, unrolled: Unrolled, *, keep: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The objective, and the gradients of its sum over all agents.

        Returns:
            (1 - gamma) J, a reward a period, `[worlds, agents]`; its gradients in the actor's
            weights, then in the nudges, group by group and period by period.
        """
        objective = (1 - self.parameters(policy).discount) * self._objective(policy, unrolled)
        weights = list(self.networks(policy).actor.parameters())
        nudges = [
            nudge
            for group in self.joined[policy].counts
            for nudge in unrolled.nudges.get(group, [])
        ]
        gradients = torch.autograd.grad(objective.sum(), [*weights, *nudges], retain_graph=keep)
        return objective.detach(), gradients

    def _improve(
        self,
        policy: str,
        unrolled: Unrolled,
        objective: Tensor,
        gradients: tuple[Tensor, ...],
        *,
        renormalize: bool,
    ) -> dict[str, Tensor]:
        """A step of actor and critic along what `_differentiate` gave; its metrics."""
        module = self.networks(policy)
        weights = list(module.actor.parameters())
        norm = self._put_gradients(policy, objective, gradients[: len(weights)])
        inputs, targets = self._critic_data(policy, unrolled, gradients[len(weights) :])
        alive = self._alive(policy, unrolled)
        self.optimizer_step(policy, "actor")
        if renormalize:
            module.critic.renormalize(*self.moments(self._target_rows(policy, targets, alive)))
            module.target.rescale(module.critic.shift, module.critic.scale)
        loss, explained = self._critic_steps(policy, inputs, targets, alive)
        return {
            "objective": objective.mean(),
            "critic_loss": loss,
            "critic_explained": explained,
            "gradient_norm": norm,
            "saturated": self._saturated(policy, unrolled),
        }

    def _separate(self, policy: str) -> bool:
        """Whether each agent has a policy of its own."""
        return self.networks(policy).actor.spec.get("copies") is not None

    def _put_gradients(
        self, policy: str, objective: Tensor, gradients: tuple[Tensor, ...]
    ) -> Tensor:
        """Puts the actor's gradients on its weights; their norm before they are clipped.

        Downhill, and of the mean over rows: over worlds and agents, or of each agent's own worlds.
        """
        rows = objective.shape[0] if self._separate(policy) else objective.numel()
        weights = list(self.networks(policy).actor.parameters())
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = -gradient / rows
        norms = torch.stack([torch.linalg.vector_norm(weight.grad) for weight in weights])
        norm: Tensor = torch.linalg.vector_norm(norms)
        return norm

    def _target_rows(self, policy: str, targets: Tensor, alive: Tensor | None) -> Tensor:
        """The critic's targets as rows: `[rows, agents]` of separate policies, else `[rows]`."""
        if self._separate(policy):
            return targets.flatten(0, -2)
        if alive is None:
            return targets.flatten()
        return targets[alive > 0]

    @torch.no_grad()
    def _critic_data(
        self, policy: str, unrolled: Unrolled, slopes: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """What the critic saw, and what it should say of it.

        Args:
            policy: which.
            unrolled: the horizon.
            slopes: the objective's gradients in the nudges, `[groups * H]` of `[worlds, agents]`.

        Returns:
            inputs `[H, worlds, agents, width]`, and targets `[H, worlds, agents]`.
        """
        p = self.parameters(policy)
        gamma = p.discount
        horizon = p.horizon
        inputs = torch.stack([self._critic_inputs(policy, unrolled, t) for t in range(horizon)])

        if p.critic == CO_STATE:
            # lambda_t = gamma^-t dJ / d log k_t; what was differentiated is (1 - gamma) J
            groups = self.joined[policy].counts
            by_group = {
                group: slopes[i * horizon : (i + 1) * horizon] for i, group in enumerate(groups)
            }
            by_period = [self._period(policy, by_group, t) for t in range(horizon)]
            co_states = [slope / ((1 - gamma) * gamma**t) for t, slope in enumerate(by_period)]
            return inputs, torch.stack(co_states)

        # discounted rewards, backwards in time from the target critic's value of the end
        alive = self._period(policy, unrolled.alive, horizon)
        end = self.networks(policy).target(self._critic_inputs(policy, unrolled, horizon))
        value = alive * end
        values: list[Tensor] = []
        for t in reversed(range(horizon)):
            value = self._period(policy, unrolled.rewards, t) + gamma * value
            values.insert(0, value)
        return inputs, torch.stack(values)

    def _alive(self, policy: str, unrolled: Unrolled) -> Tensor | None:
        """The rows of which a critic learns, 1 or 0 `[H, worlds, agents]`.

        None for all of them: nobody's episode ended.
        """
        if unrolled.everybody:
            return None
        horizon = self.parameters(policy).horizon
        return torch.stack([self._period(policy, unrolled.alive, t) for t in range(horizon)])

    def _critic_steps(
        self, policy: str, inputs: Tensor, targets: Tensor, alive: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """`critic_steps` gradient steps of the critic, after which its slow target follows.

        Returns:
            Half the mean squared error, and the share of the targets' variance explained, both
            before the first step.
        """
        p = self.parameters(policy)
        module = self.networks(policy)
        critic = module.critic
        separate = self._separate(policy)
        normalized_targets = (targets - critic.shift) / critic.scale
        metrics: tuple[Tensor, Tensor] | None = None
        for _ in range(p.critic_steps):
            error = critic.normalized(inputs) - normalized_targets
            # the states after an agent's end are nobody's; the mean stays one over all rows
            if alive is not None:
                error = error * alive
            squares = error.square()
            mean_square = squares.flatten(0, -2).mean(0).sum() if separate else squares.mean()
            loss = 0.5 * mean_square
            loss.backward()
            self.optimizer_step(policy, "critic")
            if metrics is None:
                variance = normalized_targets.var().clamp_min(1e-6)
                metrics = (0.5 * squares.detach().mean(), 1 - error.detach().var() / variance)
        follow(list(module.target.parameters()), list(module.critic.parameters()), p.target_rate)
        assert metrics is not None  # critic_steps >= 1
        return metrics

    @torch.no_grad()
    def _saturated(self, policy: str, unrolled: Unrolled) -> Tensor:
        """Share of the first period's actions near a bound."""
        actor = self.networks(policy).actor
        head = actor.head
        actions = actor.act(self._period(policy, unrolled.observations, 0))
        place = (actions - head.low) / (head.high - head.low)
        near: Tensor = (place < NEAR) | (place > 1 - NEAR)
        return near.float().mean()
