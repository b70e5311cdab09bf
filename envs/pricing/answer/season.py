"""The known answer of one product's season: the exact dynamic programme, beside fixed prices and
fit-then-plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from rl_markets.envs.answer_key import AnswerKey, Assessment, Line, Metric, Plot
from rl_markets.envs.market import PolicyFunction
from rl_markets.envs.numerics.statistics import optimality_gap
from rl_markets.envs.pricing import solution as known
from rl_markets.envs.pricing.levels import standing
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.errors import ConvergenceError

Array = NDArray[np.float64]
Choices = NDArray[np.int64]

LIMIT = 2.0
"""What the certificate lets a policy lose against the optimum, in %."""
LOGGED = (10, 30)
"""Seasons of random prices that fit-then-plan learns from."""
FITS = 15
"""Logs over which fit-then-plan's figure is the median."""


class SeasonAnswer(AnswerKey):
    """Value and policy of the dynamic programme over periods and stock (Gallego and van Ryzin
    1994); exact evaluation.

    A policy is asked at every state that there is; what it is worth needs no simulation.
    """

    def __init__(self, parameters: PricingParameters) -> None:
        self.parameters = parameters
        self.name = "dynamic programme"  # type: ignore[misc]
        (self.group,) = parameters.sellers

    # -- the season --------------------------------------------------------------------------------

    @cached_property
    def season(self) -> known.Season:
        """The instance, of the levels that guard-rails allow; where prices may only fall, they
        stand in falling order.

        Demand is written independently here.
        """
        p = self.parameters
        stock = self.parameters.stock
        assert stock is not None
        prices = p.list_price[0] * np.array(standing(p))
        prices = prices[::-1] if p.markdown_only else prices
        return known.Season(
            self.demand(prices),
            prices,
            stock=stock.units[0],
            cost=p.cost[0],
            salvage=stock.salvage
            # the market pays it with the last period's reward, the season a period later
            / p.gamma,
            holding=stock.holding * p.cost[0],
            fee=p.fee,
            discount=p.gamma,
        )

    def demand(self, prices: Array) -> Array:
        """Mean demand `[periods, prices]`."""
        p = self.parameters
        d = self.parameters.demand
        time = np.arange(self.parameters.periods)[:, None]
        factor = np.array(p.season.profile or [1.0] * p.periods)[:, None]
        aged = p.season.ageing * time
        if d.family == "linear":
            return factor * np.maximum(d.size[0] - d.slope[0] * prices, 0)
        if d.family == "exponential":
            return factor * d.size[0] * np.exp(-d.slope[0] * prices)
        if d.family == "isoelastic":
            return factor * d.size[0] * prices ** -d.slope[0]
        kinds = [(s.weight, s.quality[0], s.mu) for s in d.segments] or [(1.0, d.quality[0], d.mu)]
        bought = sum(w * expit((a - aged - prices - d.outside) / mu) for w, a, mu in kinds)
        return factor * d.visitors * bought  # type: ignore[no-any-return]

    @cached_property
    def optimum(self) -> known.Solution | known.MarkdownSolution:
        """The best policy."""
        return (known.solve_markdown if self.parameters.markdown_only else known.solve)(self.season)

    # -- policies as tables ------------------------------------------------------------------------

    @cached_property
    def _states(self) -> Pricing:
        """The market in every state in which something is chosen."""
        return self.everywhere(self.season.periods)

    def everywhere(self, periods: int) -> Pricing:
        """A market that stands in every state at once: so many periods, stocks, and last prices
        where they matter."""
        p = self.parameters
        season = self.season
        last = season.prices if p.markdown_only else season.prices[:1]
        period, stock, price = np.meshgrid(
            np.arange(periods), np.arange(season.stock + 1.0), last, indexing="ij"
        )
        market = Pricing(p, worlds=period.size)
        market.reset(0)
        market.state = market.state | {
            "period": torch.tensor(period.ravel()),
            "stock": torch.tensor(stock.reshape(-1, 1), dtype=torch.float32),
            "price": torch.tensor(price.reshape(-1, 1), dtype=torch.float32),
        }
        return market

    @torch.no_grad()
    def table(self, policy: PolicyFunction) -> Choices:
        """What a policy posts: indices of the season's prices `[T, C+1]`, or `[T, C+1, A]` by last
        price."""
        market = self._states
        season = self.season
        price, _ = market.post(
            market.state, {self.group: policy(market.observe(market.state)[self.group])}
        )
        posted = price[:, 0].double().numpy()
        index = np.abs(posted[:, None] - season.prices).argmin(1)
        if np.abs(posted - season.prices[index]).max() > 1e-4 * season.prices.max():
            raise ValueError(
                "a guard-rail posts prices between the levels; expected limits that fall on levels"
            )
        shape = (season.periods, season.stock + 1)
        return np.asarray(index.reshape((*shape, -1) if self.parameters.markdown_only else shape))

    def worth(self, table: Choices) -> float:
        """The value of a policy from the first period and the full stock, in money; exact."""
        if self.parameters.markdown_only:
            return float(known.evaluate_markdown(self.season, table)[0, -1, 0])
        return float(known.evaluate(self.season, table)[0, -1])

    def optimality_gap(self, value: float) -> float:
        """What is lost against the optimum, in %."""
        return optimality_gap(value, self.optimum.total)

    def spoilage(self, table: Choices) -> float:
        """Units left at the deadline, in % of the stock."""
        left = known.leftover_markdown if self.parameters.markdown_only else known.leftover
        return 100 * left(self.season, table) / self.season.stock

    # -- the contract ------------------------------------------------------------------------------

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """What the policy loses against the dynamic programme, in %."""
        return self.optimality_gap(self.worth(self.table(policies[self.group])))

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Exact value, waste, grid loss, and what the seller could still gain."""
        ours = self.table(policies[self.group])
        control = self.table(untrained[self.group])
        tables = {
            "best fixed price": self._fixed,
            "list price": self._at_list,
            "untrained network": control,
        }
        worth = {name: self.worth(table) for name, table in tables.items()} | self._fit_then_plan(
            seeds[0]
        )
        value = self.worth(ours)
        best = self.optimum.total
        metrics = [
            Metric(
                "shortfall",
                "loss against the dynamic programme",
                self.optimality_gap(value),
                "%",
                answer=0.0,
                limit=LIMIT,
                controls={n: self.optimality_gap(v) for n, v in worth.items()},
                note="exact policy evaluation, no simulation",
            ),
            Metric(
                "profit",
                "profit of a season",
                value,
                "money",
                answer=best,
                controls=worth,
                note="exact",
            ),
            Metric(
                "best_response_gain/exact",
                "best-response gain of the seller, exact",
                best - value,
                "money",
                answer=0.0,
                note="alone in its market, its best response is the dynamic programme",
            ),
            Metric(
                "waste",
                "units left at the deadline",
                self.spoilage(ours),
                "%",
                answer=self.spoilage(self._best),
                controls={n: self.spoilage(t) for n, t in tables.items()},
            ),
            Metric(
                "grid_loss",
                "loss by the levels alone",
                self.grid_loss,
                "%",
                note="the optimum on these levels against that on 200 prices between the lowest "
                "and the highest",
            ),
        ]
        return Assessment(metrics, self._plots(ours, seeds[0]))

    @property
    def _best(self) -> Choices:
        return self.optimum.policy

    @cached_property
    def _fixed(self) -> Choices:
        """The best price that never changes."""
        season = self.season
        values = known.fixed(season)
        return self._constant(int(values.argmax()))

    @property
    def _at_list(self) -> Choices:
        return self._constant(
            int(np.abs(self.season.prices - self.parameters.list_price[0]).argmin())
        )

    def _constant(self, index: int) -> Choices:
        shape = self._best.shape
        table = np.full(shape, index, dtype=np.int64)
        if self.parameters.markdown_only:  # a price once lower stays
            table = np.maximum(table, np.arange(shape[-1]))
        return table

    def _fit_then_plan(self, seed: int) -> dict[str, float]:
        """Poisson regression on logged seasons of random prices, then the dynamic programme on what
        was fitted; medians."""
        if (
            self.parameters.markdown_only
            or self.parameters.season.profile
            or self.parameters.season.ageing
        ):
            return {}  # the regression knows one demand for all periods
        season = self.season
        found = {}
        for logged in LOGGED:
            fits = [fit for i in range(FITS) if (fit := self._fit(logged, seed, i)) is not None]
            values = [self.worth(known.plan(fit, season).policy) for fit in fits]
            if 2 * len(values) > FITS:
                found[f"fit-then-plan, {logged} logged seasons"] = float(np.median(values))
        return found

    def _fit(self, seasons: int, seed: int, number: int) -> known.DemandFit | None:
        """Demand fitted to logged seasons of prices drawn evenly; None where such a log does not
        tell."""
        even = np.full(self.season.shape, 1 / self.season.shape[-1])
        log = known.simulate(
            self.season, even, seasons, np.random.default_rng([seed, seasons, number])
        )
        try:
            return known.fit_log(log)
        except (ValueError, ConvergenceError):
            return None

    @cached_property
    def grid_loss(self) -> float:
        """What nine levels cost against 200, in %."""
        season = self.season
        prices = np.linspace(season.prices.max(), season.prices.min(), 200)
        fine = replace(season, demand=self.demand(prices), prices=prices)
        solve = known.solve_markdown if self.parameters.markdown_only else known.solve
        return optimality_gap(self.optimum.total, solve(fine).total)

    # -- pictures ----------------------------------------------------------------------------------

    def _plots(self, ours: Choices, seed: int) -> list[Plot]:
        return [self._prices(ours), *self._paths(ours), self._demand(seed)]

    def _at(self, table: Choices, stock: int) -> list[float]:
        """Prices over time at one stock; where prices only fall, from the list price."""
        row = table[:, stock, 0] if self.parameters.markdown_only else table[:, stock]
        return [float(x) for x in self.season.prices[row]]

    def _prices(self, ours: Choices) -> Plot:
        """Prices over time, at three stocks."""
        full = self.season.stock
        time = list(map(float, range(self.season.periods)))
        lines = []
        stocks = [max(1, round(share * full)) for share in (0.25, 0.5, 1.0)]
        for stock in stocks:
            lines.append(
                Line(f"optimal, {stock} units", time, self._at(self._best, stock), "answer")
            )
            lines.append(Line(f"learned, {stock} units", time, self._at(ours, stock), "ours"))
        shown = ", ".join(map(str, stocks[:-1])) + f" and {stocks[-1]}"
        return Plot(f"Price with {shown} units, dearer with fewer", "period", "price", lines)

    def _paths(self, ours: Choices) -> list[Plot]:
        """Mean price and stock of a season as it goes."""
        if self.parameters.markdown_only:
            return []
        season = self.season
        time = list(map(float, range(self.season.periods + 1)))
        stocks = []
        prices = []
        shown = {
            "optimal": (self._best, "answer"),
            "learned": (ours, "ours"),
            "best fixed price": (self._fixed, "control"),
        }
        for name, (table, style) in shown.items():
            reached = known.stock_distribution(season, table)
            stocks.append(
                Line(name, time, (reached @ np.arange(season.stock + 1.0)).tolist(), style)
            )
            selling = reached[:-1, 1:]
            paid = (selling * season.prices[table][:, 1:]).sum(1) / np.maximum(
                selling.sum(1), 1e-12
            )
            prices.append(Line(name, time[:-1], paid.tolist(), style))
        return [
            Plot("Mean price of a season, while there is stock", "period", "price", prices),
            Plot("Mean stock of a season", "period", "units", stocks),
        ]

    def _demand(self, seed: int) -> Plot:
        """Mean demand in the first, the middle and the last period; where it stays the same, also
        as fitted to a log."""
        prices = np.linspace(self.season.prices.min(), self.season.prices.max(), 60)
        demand = self.demand(prices)
        last = self.season.periods - 1
        x = prices.tolist()
        shown = sorted({0, last // 2, last}) if np.ptp(demand, axis=0).max() > 0 else [0]
        lines = [Line(f"mean demand, period {t}", x, demand[t].tolist(), "answer") for t in shown]
        fitted = (
            self._fit(LOGGED[0], seed, 0)
            if len(shown) == 1 and not self.parameters.markdown_only
            else None
        )
        if fitted is not None:
            low, high = self._band(fitted, prices)
            lines.append(
                Line(
                    f"fitted to {LOGGED[0]} logged seasons",
                    x,
                    fitted.mean(prices).tolist(),
                    "control",
                )
            )
            lines.append(
                Line("95 % interval of the fit", x, low.tolist(), "control", high.tolist())
            )
        when = "a period" if len(shown) == 1 else f"periods {', '.join(map(str, shown))}"
        return Plot(f"Demand of {when}", "price", "units", lines)

    @staticmethod
    def _band(fitted: known.DemandFit, prices: Array) -> tuple[Array, Array]:
        """The fit's 95 % interval at prices."""
        x = np.stack([np.ones_like(prices), prices], -1)
        reach = 1.96 * np.sqrt(np.einsum("pi,ij,pj->p", x, fitted.covariance, x))
        mean = fitted.mean(prices)
        return mean * np.exp(-reach), mean * np.exp(reach)
