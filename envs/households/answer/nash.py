"""The known answer of different households who know that they move prices: the open-loop Nash rest
point."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.answer_key import AnswerKey, Assessment, Line, Metric, Plot
from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.households import economics
from rl_markets.envs.households import solution as known
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.households.solution.nash_shares import NashEquilibrium, nash_equilibrium
from rl_markets.envs.market import PolicyFunction, State
from rl_markets.envs.numerics.statistics import interval
from rl_markets.envs.paths import PathDeviation

Array = NDArray[np.float64]

PERIODS = 3000
WORLDS = 8
"""Of the simulation to rest; shares move slowly, by the difference of returns."""
TYPES_TRIED = 16
"""Types whose best paths are looked for, at the most: each is a world of all households,
differentiated."""
START_SD = 0.2
"""Standard deviation of log capital around the answer when the simulation starts."""
SHARE_LIMITS = {"capital": 1.0, "labour": 0.3}
ACTION_LIMIT = 2.0
CAPITAL_LIMIT = 2.0
GAIN_LIMIT = 0.05
"""The certificate's limits: percentage points of all capital or labour (equal shares must miss
both), % of the answer,
% of consumption."""


class NashAnswer(AnswerKey):
    """Shares of capital and labour at rest, s_i = m_i + (1 - c / kappa_i) / (1 - alpha); see
    `answers.nash_shares`.

    Raises:
        ValueError: where the formula does not hold, because a household would be at a corner.
    """

    name = "Nash rest point"

    def __init__(self, parameters: HouseholdsParameters) -> None:
        p = self.parameters = parameters
        self.joined = JoinedGroups(p.group_sizes)
        economy = known.Economy(
            alpha=p.alpha, beta=p.beta, delta=p.delta, b=p.b, rho=p.rho, sigma=p.sigma
        )
        self.kappa, self.lambda_ = (
            np.asarray(types * (p.households // len(types)))
            for types in (p.capital_productivity, p.labour_productivity)
        )
        self.rest: NashEquilibrium = nash_equilibrium(economy, self.kappa, self.lambda_)
        self._calm = p.model_copy(
            update={"sigma": 0.0, "episode_length": 10**6, "initial_dispersion": 0.0}
        )

    def _market(self, worlds: int) -> Households:
        """Worlds without shocks, at the rest point."""
        market = Households(self._calm, worlds=worlds, stagger=False)
        market.reset(0)
        for name, values in (("capital", self.rest.k), ("labour", self.rest.l)):
            market.state[name] = torch.tensor(values, dtype=torch.float32).repeat(worlds, 1)
        return market

    def action_errors(self, policy: PolicyFunction) -> tuple[Array, Array]:
        """Relative errors of share and labour at the rest point, in %, household by household."""
        market = self._market(1)
        actions = (
            _acted(policy, market.joined.join(market.observe(market.state)))[0].double().numpy()
        )
        exact = (self.rest.chat, self.rest.l)
        share, labour = (100 * np.abs(actions[:, i] / true - 1) for i, true in enumerate(exact))
        return share, labour

    def settle(self, policy: PolicyFunction, seed: int) -> State:
        """Where worlds that start around the answer come to rest."""
        market = self._market(WORLDS)
        spread = torch.randn(
            market.state["capital"].shape, generator=torch.Generator().manual_seed(seed)
        )
        market.state["capital"] = market.state["capital"] * torch.exp(START_SD * spread)
        seen = market.joined.join(market.observe(market.state))
        for _ in range(PERIODS):
            actions = market.joined.split(_acted(policy, seen))
            seen = market.joined.join(market.step(actions).observations)
        return market.state

    def shares(self, state: State) -> tuple[Array, Array, Array]:
        """Shares of capital and labour `[households]` and mean capital `[]`, means over worlds."""
        k, labour = (state[name].double().numpy() for name in ("capital", "labour"))
        effective = self.kappa * k
        hours = self.lambda_ * labour
        shares = [x / x.sum(-1, keepdims=True) for x in (effective, hours)]
        return shares[0].mean(0), shares[1].mean(0), k.mean()

    @cached_property
    def types(self) -> dict[tuple[str, float, float], int]:
        """(group, kappa, lambda) -> the first household of this type; some of them where they are
        many."""
        groups = [group for group, count in self.joined.counts.items() for _ in range(count)]
        found: dict[tuple[str, float, float], int] = {}
        for i, kind in enumerate(
            zip(groups, self.kappa.tolist(), self.lambda_.tolist(), strict=True)
        ):
            found.setdefault(kind, i)
        kept = np.unique(np.linspace(0, len(found) - 1, TYPES_TRIED).astype(int))
        return dict(list(found.items())[i] for i in kept)

    def gains(self, policy: PolicyFunction, state: State) -> Array:
        """What a household of each type gains by its best path from the first world of `state`, in
        % of consumption."""
        alone = {
            "groups": {},
            "conduct": "cooperative",
        }  # one group, and a gradient that leaves nothing out
        market = Households(
            self._calm.model_copy(update=alone), worlds=len(self.types), dtype=torch.float64
        )
        start = {
            name: value[:1].double().expand(market.worlds, *value.shape[1:])
            for name, value in state.items()
        }
        places = torch.tensor(list(self.types.values()))
        found = PathDeviation(
            market, {"households": policy}, "households", places, self.parameters.beta
        )
        return np.array(
            [
                economics.consumption_equivalent(float(g), self.parameters.beta)
                for g in found.gains(start)
            ]
        )

    # -- the contract ------------------------------------------------------------------------------

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """The larger of both actions' mean errors at the rest point, in %."""
        return float(
            max(error.mean() for error in self.action_errors(self.joined.policy(policies)))
        )

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Shares at rest beside the formula's, and the actions there."""
        ours = self.joined.policy(policies)
        control = self.joined.policy(untrained)
        rests = [self.settle(ours, seed) for seed in seeds[:3]]
        shares, work, k = (
            np.stack(column) for column in zip(*map(self.shares, rests), strict=True)
        )
        theirs = self.settle(control, seeds[0])
        other = self.shares(theirs)
        metrics = [
            self._share_metric("capital", shares, other[0], self.rest.capital_shares),
            self._share_metric("labour", work, other[1], self.rest.labour_shares),
            Metric(
                "capital_error",
                "error of mean capital",
                float(100 * abs(k.mean() / self.rest.k.mean() - 1)),
                "%",
                answer=0.0,
                limit=CAPITAL_LIMIT,
                controls={"untrained network": float(100 * abs(other[2] / self.rest.k.mean() - 1))},
            ),
            *self._action_metrics(ours, control),
            *self._gain_metrics(self.gains(ours, rests[0]), self.gains(control, theirs)),
        ]
        return Assessment(
            metrics,
            [
                self._figure("capital", shares.mean(0), self.rest.capital_shares),
                self._figure("labour", work.mean(0), self.rest.labour_shares),
            ],
        )

    def _share_metric(self, what: str, shares: Array, other: Array, exact: Array) -> Metric:
        gaps = 100 * np.abs(shares - exact).max(-1)
        equal = np.full_like(exact, 1 / len(exact))
        controls = {
            "equal shares": float(100 * np.abs(equal - exact).max()),
            "untrained network": float(100 * np.abs(other - exact).max()),
        }
        return Metric(
            f"{what}_shares",
            f"shares of {what}, largest error",
            float(gaps.mean()),
            "percentage points",
            *interval(gaps),
            answer=0.0,
            controls=controls,
            limit=SHARE_LIMITS[what],
            note=f"after {PERIODS:,} periods without shocks, from around the answer",
        )

    def _action_metrics(self, ours: PolicyFunction, control: PolicyFunction) -> list[Metric]:
        mine = self.action_errors(ours)
        theirs = self.action_errors(control)
        return [
            Metric(
                f"policy_error/{key}",
                f"error of the {key.replace('_', ' ')}, mean",
                float(mine[i].mean()),
                "%",
                answer=0.0,
                limit=ACTION_LIMIT,
                controls={"untrained network": float(theirs[i].mean())},
                note="relative to the answer at its rest point, mean over households",
            )
            for i, key in enumerate(("consumption_share", "labour"))
        ]

    def _gain_metrics(self, mine: Array, theirs: Array) -> list[Metric]:
        """The largest gain, which is judged, and each type's own."""
        name = "best_response_gain/path"
        unit = "% of consumption"
        note = (
            "the best path of actions without shocks, from where the learned economy rests, "
            "against the frozen others"
        )
        found = [
            Metric(
                name,
                "best-response gain, largest of all types",
                float(mine.max()),
                unit,
                answer=0.0,
                limit=GAIN_LIMIT,
                controls={"untrained network": float(theirs.max())},
                note=note,
            )
        ]
        for (group, kappa, lambda_), gain, other in zip(self.types, mine, theirs, strict=True):
            who = f"{group}," if len(self.joined.counts) > 1 else ""
            found.append(
                Metric(
                    f"{name}/{who}kappa={kappa:.12g},lambda={lambda_:.12g}",
                    f"best-response gain, kappa = {kappa:g}, lambda = {lambda_:g}",
                    float(gain),
                    unit,
                    answer=0.0,
                    controls={"untrained network": float(other)},
                )
            )
        return found

    def _figure(self, what: str, shares: Array, exact: Array) -> Plot:
        order = [float(i + 1) for i in range(len(exact))]
        return Plot(
            f"Shares of {what} at rest",
            "household",
            f"share of all {what}",
            [
                Line(self.name, order, exact.tolist(), "answer"),
                Line("learned", order, shares.tolist(), "ours"),
            ],
        )


@torch.no_grad()
def _acted(policy: PolicyFunction, seen: Tensor) -> Tensor:
    return policy(seen)
