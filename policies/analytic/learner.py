"""Analytic policy gradients (SHAC, Xu et al. 2022, arXiv 2204.07137), next to their formulas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.market import Dynamics, Owned
from rl_markets.errors import LearnerError
from rl_markets.policies.analytic.parameters import AnalyticParameters
from rl_markets.policies.analytic.unroll import Unrolled, unroll
from rl_markets.policies.gradient import GradientLearner, Part, actor_and_critic
from rl_markets.policies.networks import follow
from rl_markets.policies.rollout import Fragment
from rl_markets.policies.sampling import SAMPLING, SamplingConfig

CO_STATE = "co-state"
NEAR = 0.01
"""An action is saturated within this share of its box from a bound."""


class AnalyticLearner(GradientLearner[AnalyticParameters]):
    """Actor: maximise J = sum_{t<H} gamma^t r_t + gamma^H V(s_H), differentiated through the
    market's dynamics.

    The runner's rollout gives the states to start from; the learner goes H periods on from each
    with shocks of its own.

    With a value critic, V is a network and J's gradient goes through it. With a *co-state* critic
    the network learns lambda = dV / d log k, k being what the agent owns (dual heuristic
    programming, Werbos 1992): its targets lambda_t = gamma^-t dJ / d log k_t come from the same
    backward pass, and J's last term is lambda_H log k_H to first order. That is what an Euler
    equation needs, and it does not drown in the level of V.
    """

    epsilon: ClassVar[float] = (
        1e-8  # gradients without noise become small, and still point the right way
    )

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
        market = self._market_of(next(iter(self.states.values())).shape[1])
        metrics: dict[str, list[dict[str, Tensor]]] = defaultdict(list)
        for t in range(len(next(iter(self.states.values())))):
            state = {name: states[t] for name, states in self.states.items()}
            unrolled = self._unroll(market, state)
            # All gradients before any step: the others' go through these weights, too, and a fused
            # step is not noticed.
            last = len(fragments) - 1
            slopes = {
                p: self._differentiate(p, unrolled, keep=i < last) for i, p in enumerate(fragments)
            }
            for policy, found in slopes.items():
                metrics[policy].append(self._improve(policy, unrolled, *found, renormalize=t == 0))
        for policy, each in metrics.items():
            self.report(
                policy, {name: torch.stack([f[name] for f in each]).mean(0) for name in each[0]}
            )
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
        """Period t of what lies by group and period, `[worlds, agents, ...]` of all of the policy's
        agents."""
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
        owned = {}
        for policy in self.learned:
            if self.parameters(policy).critic == CO_STATE:
                for group in self.joined[policy].counts:
                    if group not in market.owned:
                        raise LearnerError(
                            f"policy {policy!r}: the market does not say what an agent of group "
                            f"{group!r} owns; "
                            "set algorithm.parameters.critic: value"
                        )
                    owned[group] = own = market.owned[group]
                    if not isinstance(own, Owned):
                        raise LearnerError(
                            f"market.owned[{group!r}] = {own!r}: expected an Owned(variable)"
                        )
        return unroll(market, state, self.common.horizon, self._act, self.generator, owned)

    def _seen(self, policy: str, unrolled: Unrolled, t: int) -> Tensor:
        """What the policy's critic sees in period t."""
        seen = self._period(policy, unrolled.observations, t)
        if not self.networks(policy).model_config["central"]:
            return seen
        everything = unrolled.global_states[t].unsqueeze(1).expand(-1, seen.shape[1], -1)
        return torch.cat([seen, everything], -1)

    def _objective(self, policy: str, unrolled: Unrolled) -> Tensor:
        """J of each agent, `[worlds, agents]`."""
        p = self.parameters(policy)
        module = self.networks(policy)
        gamma = p.discount
        horizon = p.horizon
        rewards = (gamma**t * self._period(policy, unrolled.rewards, t) for t in range(horizon))
        alive = self._period(policy, unrolled.alive, -1)
        end = module.target(self._seen(policy, unrolled, horizon))
        if p.critic == CO_STATE:
            owned = self.joined[policy].join(unrolled.owned)
            end = end.detach() * torch.log(owned)
        total: Tensor = sum(rewards, gamma**horizon * alive * end)
        return total

    # -- gradient steps ----------------------------------------------------------------------------

    def _differentiate(
        self, policy: str, unrolled: Unrolled, *, keep: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Discounted reward a period and agent; the gradients of their sum in the actor's weights,
        then in nudges."""
        objective = (1 - self.parameters(policy).discount) * self._objective(policy, unrolled)
        nudges = [n for g in self.joined[policy].counts for n in unrolled.nudges.get(g, [])]
        weights = list(self.networks(policy).actor.parameters())
        return objective.detach(), torch.autograd.grad(
            objective.sum(), [*weights, *nudges], retain_graph=keep
        )

    def _improve(
        self,
        policy: str,
        unrolled: Unrolled,
        objective: Tensor,
        gradients: tuple[Tensor, ...],
        *,
        renormalize: bool,
    ) -> dict[str, Tensor]:
        """A step of actor and critic along what `_differentiate` found; its metrics."""
        module = self.networks(policy)
        separate = module.actor.spec.get("copies") is not None
        rows = objective.shape[0] if separate else objective.numel()
        weights = list(module.actor.parameters())
        for weight, gradient in zip(weights, gradients, strict=False):
            weight.grad = -gradient / rows
        norm = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(w.grad) for w in weights])
        )
        seen, targets = self._critic_data(policy, unrolled, gradients[len(weights) :])
        alive = self._alive(policy, unrolled)
        self.optimizer_step(policy, "actor")
        if renormalize:
            flat = (
                targets.flatten(0, -2)
                if separate
                else targets.flatten()
                if alive is None
                else targets[alive > 0]
            )
            module.critic.renormalize(*self.moments(flat))
            module.target.rescale(module.critic.shift, module.critic.scale)
        loss, explained = self._critic_steps(policy, seen, targets, alive)
        return {
            "objective": objective.mean(),
            "critic_loss": loss,
            "critic_explained": explained,
            "gradient_norm": norm,
            "saturated": self._saturated(policy, unrolled),
        }

    @torch.no_grad()
    def _critic_data(
        self, policy: str, unrolled: Unrolled, slopes: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """What the critic saw `[H, worlds, agents, width]`, and its targets `[H, worlds,
        agents]`."""
        p = self.parameters(policy)
        gamma = p.discount
        horizon = p.horizon
        groups = self.joined[policy].counts
        seen = torch.stack([self._seen(policy, unrolled, t) for t in range(horizon)])
        if p.critic == CO_STATE:
            by_group = {g: slopes[i * horizon : (i + 1) * horizon] for i, g in enumerate(groups)}
            steps = [self._period(policy, by_group, t) for t in range(horizon)]
            return seen, torch.stack([s / ((1 - gamma) * gamma**t) for t, s in enumerate(steps)])
        alive = [self._period(policy, unrolled.alive, t) for t in range(horizon + 1)]
        following = alive[-1] * self.networks(policy).target(self._seen(policy, unrolled, horizon))
        values: list[Tensor] = []
        for t in reversed(range(horizon)):
            following = self._period(policy, unrolled.rewards, t) + gamma * following
            values.insert(0, following)
        return seen, torch.stack(values)

    def _alive(self, policy: str, unrolled: Unrolled) -> Tensor | None:
        """The rows of which a critic learns, 1 or 0 `[H, worlds, agents]`; None for all: nobody's
        episode ended."""
        if unrolled.everybody:
            return None
        horizon = self.parameters(policy).horizon
        return torch.stack([self._period(policy, unrolled.alive, t) for t in range(horizon)])

    def _critic_steps(
        self, policy: str, seen: Tensor, targets: Tensor, alive: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Half the mean squared error, and the share of the targets' variance explained, before the
        first step."""
        p = self.parameters(policy)
        module = self.networks(policy)
        critic = module.critic
        aims = (targets - critic.shift) / critic.scale
        metrics: tuple[Tensor, Tensor] | None = None
        for _ in range(p.critic_steps):
            error = critic.normalized(seen) - aims
            if (
                alive is not None
            ):  # the states after an agent's end are nobody's; the mean stays one over all rows
                error = error * alive
            squares = error.square()
            separate = module.actor.spec.get("copies") is not None
            loss = 0.5 * (squares.flatten(0, -2).mean(0).sum() if separate else squares.mean())
            loss.backward()
            self.optimizer_step(policy, "critic")
            explained = 1 - error.detach().var() / aims.var().clamp_min(1e-6)
            metrics = metrics or (0.5 * squares.detach().mean(), explained)
        follow(list(module.target.parameters()), list(module.critic.parameters()), p.target_rate)
        assert metrics is not None
        return metrics

    @torch.no_grad()
    def _saturated(self, policy: str, unrolled: Unrolled) -> Tensor:
        """Share of the first period's actions near a bound."""
        module: Any = self.networks(policy)
        head = module.actor.head
        actions = module.actor.act(self._period(policy, unrolled.observations, 0))
        place = (actions - head.low) / (head.high - head.low)
        near: Tensor = ((place < NEAR) | (place > 1 - NEAR)).float().mean()
        return near
