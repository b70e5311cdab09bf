"""The judge of different households who know that they move prices.

Their known answer is the rest point of the open-loop Nash equilibrium.
"""

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
"""Types whose best paths are looked for, at the most.

Each is a world of all households, differentiated.
"""
START_SD = 0.2
"""Standard deviation of log capital around the answer when the simulation starts."""

# The certificate's limits.
SHARE_LIMITS = {"capital": 1.0, "labour": 0.3}
"""In percentage points of all capital or labour; equal shares must miss both."""
ACTION_LIMIT = 2.0
CAPITAL_LIMIT = 2.0
"""In % of the answer."""
GAIN_LIMIT = 0.05
"""In % of consumption."""


class NashAnswer(AnswerKey):
    """Shares of capital and labour at rest, s_i = m_i + (1 - c / kappa_i) / (1 - alpha).

    See `solution.nash_shares`, which has the symbols.

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
        self.kappa = self._by_household(p.capital_productivity)
        self.lambda_ = self._by_household(p.labour_productivity)
        self.rest: NashEquilibrium = nash_equilibrium(economy, self.kappa, self.lambda_)
        self._calm = p.model_copy(
            update={"sigma": 0.0, "episode_length": 10**6, "initial_dispersion": 0.0}
        )

    def _by_household(self, types: list[float]) -> Array:
        """`[households]`, the types repeated in order as the market repeats them."""
        return np.asarray(types * (self.parameters.households // len(types)))

    def _market(self, worlds: int) -> Households:
        """Worlds without shocks, at the rest point."""
        market = Households(self._calm, worlds=worlds, stagger=False)
        market.reset(0)
        for name, values in (("capital", self.rest.k), ("labour", self.rest.l)):
            market.state[name] = torch.tensor(values, dtype=torch.float32).repeat(worlds, 1)
        return market

    def action_errors(self, policy: PolicyFunction) -> tuple[Array, Array]:
        """Relative errors of share and labour at the rest point, in %, each `[households]`."""
        market = self._market(1)
        observations = market.joined.join(market.observe(market.state))
        actions = _act(policy, observations)[0].double().numpy()
        share = 100 * np.abs(actions[:, 0] / self.rest.chat - 1)
        labour = 100 * np.abs(actions[:, 1] / self.rest.l - 1)
        return share, labour

    def settle(self, policy: PolicyFunction, seed: int) -> State:
        """Where worlds that start around the answer come to rest."""
        market = self._market(WORLDS)
        capital = market.state["capital"]
        spread = torch.randn(capital.shape, generator=torch.Generator().manual_seed(seed))
        market.state["capital"] = capital * torch.exp(START_SD * spread)
        observations = market.joined.join(market.observe(market.state))
        for _ in range(PERIODS):
            actions = market.joined.split(_act(policy, observations))
            observations = market.joined.join(market.step(actions).observations)
        return market.state

    def shares(self, state: State) -> tuple[Array, Array, Array]:
        """Shares of capital and labour `[households]` and mean capital `[]`, means over worlds."""
        k = state["capital"].double().numpy()
        effective_capital = self.kappa * k
        hours = self.lambda_ * state["labour"].double().numpy()
        capital_shares = effective_capital / effective_capital.sum(-1, keepdims=True)
        labour_shares = hours / hours.sum(-1, keepdims=True)
        return capital_shares.mean(0), labour_shares.mean(0), k.mean()

    @cached_property
    def types(self) -> dict[tuple[str, float, float], int]:
        """(group, kappa, lambda) -> the first household of this type; some types where many."""
        groups = [group for group, count in self.joined.counts.items() for _ in range(count)]
        kinds = zip(groups, self.kappa.tolist(), self.lambda_.tolist(), strict=True)
        first: dict[tuple[str, float, float], int] = {}
        for household, kind in enumerate(kinds):
            first.setdefault(kind, household)
        # Evenly spread over the types, where there are more than may be tried.
        tried = np.unique(np.linspace(0, len(first) - 1, TYPES_TRIED).astype(int))
        return dict(list(first.items())[i] for i in tried)

    def gains(self, policy: PolicyFunction, state: State) -> Array:
        """What a household of each type gains by its best path, in % of consumption: `[types]`.

        All start from the first world of `state`.
        """
        beta = self.parameters.beta
        # One group for the joined policy, and a gradient that leaves nothing out.
        one_group = self._calm.model_copy(update={"groups": {}, "conduct": "cooperative"})
        market = Households(one_group, worlds=len(self.types), dtype=torch.float64)
        start = {
            name: value[:1].double().expand(market.worlds, *value.shape[1:])
            for name, value in state.items()
        }
        deviators = torch.tensor(list(self.types.values()))
        deviation = PathDeviation(market, {"households": policy}, "households", deviators, beta)
        gains = deviation.gains(start)
        return np.array([economics.consumption_equivalent(float(gain), beta) for gain in gains])

    def tolerance(self, group: str) -> float:
        """What a permanent rise of consumption by the limit is worth, in utils."""
        return economics.utility_of(GAIN_LIMIT, self.parameters.beta)

    # -- the contract ------------------------------------------------------------------------------

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """The larger of both actions' mean errors at the rest point, in %."""
        errors = self.action_errors(self.joined.policy(policies))
        return float(max(error.mean() for error in errors))

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Shares at rest beside the formula's, and the actions there."""
        learned = self.joined.policy(policies)
        control = self.joined.policy(untrained)
        rests = [self.settle(learned, seed) for seed in seeds[:3]]
        by_seed = map(self.shares, rests)
        capital, labour, k = (np.stack(column) for column in zip(*by_seed, strict=True))
        control_rest = self.settle(control, seeds[0])
        control_capital, control_labour, control_k = self.shares(control_rest)
        exact_k = self.rest.k.mean()
        metrics = [
            self._share_metric("capital", capital, control_capital, self.rest.capital_shares),
            self._share_metric("labour", labour, control_labour, self.rest.labour_shares),
            Metric(
                "capital_error",
                "error of mean capital",
                float(100 * abs(k.mean() / exact_k - 1)),
                "%",
                answer=0.0,
                limit=CAPITAL_LIMIT,
                controls={"untrained network": float(100 * abs(control_k / exact_k - 1))},
            ),
            *self._action_metrics(learned, control),
            *self._gain_metrics(self.gains(learned, rests[0]), self.gains(control, control_rest)),
        ]
        plots = [
            self._share_plot("capital", capital.mean(0), self.rest.capital_shares),
            self._share_plot("labour", labour.mean(0), self.rest.labour_shares),
        ]
        return Assessment(metrics, plots)

    def _share_metric(self, what: str, shares: Array, control: Array, exact: Array) -> Metric:
        """`shares` are `[seeds, households]`, the control's and the exact ones `[households]`."""
        gaps = 100 * np.abs(shares - exact).max(-1)
        equal = np.full_like(exact, 1 / len(exact))
        controls = {
            "equal shares": float(100 * np.abs(equal - exact).max()),
            "untrained network": float(100 * np.abs(control - exact).max()),
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

    def _action_metrics(self, learned: PolicyFunction, control: PolicyFunction) -> list[Metric]:
        learned_errors = self.action_errors(learned)
        control_errors = self.action_errors(control)
        return [
            Metric(
                f"policy_error/{key}",
                f"error of the {key.replace('_', ' ')}, mean",
                float(learned_errors[i].mean()),
                "%",
                answer=0.0,
                limit=ACTION_LIMIT,
                controls={"untrained network": float(control_errors[i].mean())},
                note="relative to the answer at its rest point, mean over households",
            )
            for i, key in enumerate(("consumption_share", "labour"))
        ]

    def _gain_metrics(self, gains: Array, control_gains: Array) -> list[Metric]:
        """The largest gain, which is judged, and each type's own; both `[types]`."""
        name = "best_response_gain/path"
        unit = "% of consumption"
        note = (
            "the best path of actions without shocks, from where the learned economy rests, "
            "against the frozen others"
        )
        metrics = [
            Metric(
                name,
                "best-response gain, largest of all types",
                float(gains.max()),
                unit,
                answer=0.0,
                limit=GAIN_LIMIT,
                controls={"untrained network": float(control_gains.max())},
                note=note,
            )
        ]
        by_type = zip(self.types, gains, control_gains, strict=True)
        for (group, kappa, lambda_), gain, control_gain in by_type:
            who = f"{group}," if len(self.joined.counts) > 1 else ""
            metrics.append(
                Metric(
                    f"{name}/{who}kappa={kappa:.12g},lambda={lambda_:.12g}",
                    f"best-response gain, kappa = {kappa:g}, lambda = {lambda_:g}",
                    float(gain),
                    unit,
                    answer=0.0,
                    controls={"untrained network": float(control_gain)},
                )
            )
        return metrics

    def _share_plot(self, what: str, shares: Array, exact: Array) -> Plot:
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
def _act(policy: PolicyFunction, observations: Tensor) -> Tensor:
    return policy(observations)
