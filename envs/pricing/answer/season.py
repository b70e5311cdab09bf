"""The known answer of one product's season: the exact dynamic programme.

Beside it stand fixed prices, and demand fitted to a log and planned with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from rl_markets.envs.answer_key import (
    AnswerKey,
    Assessment,
    Line,
    Metric,
    Plot,
    loss_of_decisions,
)
from rl_markets.envs.market import Market, PolicyFunction
from rl_markets.envs.numerics.statistics import optimality_gap
from rl_markets.envs.pricing import features
from rl_markets.envs.pricing import solution as known
from rl_markets.envs.pricing.answer.kinds import FINE
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
    """The dynamic programme over periods and stock (Gallego and van Ryzin 1994).

    Its value and policy are exact. A policy is asked at every state that there is; what it is worth
    needs no simulation.
    """

    def __init__(self, parameters: PricingParameters) -> None:
        self.parameters = parameters
        self.name = "dynamic programme"
        self.complete = True
        (self.group,) = parameters.sellers

    # -- the season --------------------------------------------------------------------------------

    @cached_property
    def season(self) -> known.Season:
        """The instance, of the levels that guard-rails allow.

        Where prices may only fall, they stand in falling order. Demand is written independently of
        the market's.
        """
        p = self.parameters
        stock = p.stock
        assert stock is not None
        prices = p.list_price[0] * np.array(standing(p))
        prices = prices[::-1] if p.markdown_only else prices
        # The market pays salvage with the last period's reward, the season a period later.
        salvage = stock.salvage / p.gamma
        return known.Season(
            self.demand(prices),
            prices,
            stock=stock.units[0],
            cost=p.cost[0],
            salvage=salvage,
            holding=stock.holding * p.cost[0],
            fee=p.fee,
            discount=p.gamma,
        )

    def demand(self, prices: Array) -> Array:
        """Mean demand `[periods, prices]`."""
        p = self.parameters
        d = p.demand
        time = np.arange(p.periods)[:, None]
        factor = np.array(p.season.profile or [1.0] * p.periods)[:, None]
        aged = p.season.ageing * time
        if d.family == "linear":
            return factor * np.maximum(d.size[0] - d.slope[0] * prices, 0)
        if d.family == "exponential":
            return factor * d.size[0] * np.exp(-d.slope[0] * prices)
        if d.family == "isoelastic":
            return factor * d.size[0] * prices ** -d.slope[0]
        segments = [(s.weight, s.quality[0], s.mu) for s in d.segments]
        segments = segments or [(1.0, d.quality[0], d.mu)]
        bought = sum(w * expit((a - aged - prices - d.outside) / mu) for w, a, mu in segments)
        return np.asarray(factor * d.visitors * bought)

    @cached_property
    def optimum(self) -> known.Solution | known.MarkdownSolution:
        """The best policy."""
        return self._solve(self.season)

    def _solve(self, season: known.Season) -> known.Solution | known.MarkdownSolution:
        if self.parameters.markdown_only:
            return known.solve_markdown(season)
        return known.solve(season)

    # -- policies as tables ------------------------------------------------------------------------

    @cached_property
    def _states(self) -> Pricing:
        """The market in every state in which something is chosen."""
        return self.everywhere(self.season.periods)

    def everywhere(self, periods: int) -> Pricing:
        """A market that stands in every state at once, a world for each.

        Args:
            periods: how many, from the first on; crossed with all stocks, and with all last prices
                where they matter.
        """
        p = self.parameters
        season = self.season
        last = season.prices if p.markdown_only else season.prices[:1]
        stocks = np.arange(season.stock + 1.0)
        period, stock, price = np.meshgrid(np.arange(periods), stocks, last, indexing="ij")
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
        """What a policy posts, as indices of the season's prices.

        Returns:
            `[T, C+1]`, or `[T, C+1, A]` by last price where prices may only fall.

        Raises:
            ValueError: where guard-rails turn a level into a price between the levels.
        """
        market = self._states
        season = self.season
        observations = market.observe(market.state)[self.group]
        price, _ = market.post(market.state, {self.group: policy(observations)})
        posted = price[:, 0].double().numpy()
        index = np.abs(posted[:, None] - season.prices).argmin(1)
        if np.abs(posted - season.prices[index]).max() > 1e-4 * season.prices.max():
            raise ValueError(
                "a guard-rail posts prices between the levels; expected limits that fall on levels"
            )
        if self.parameters.markdown_only:
            return np.asarray(index.reshape(season.periods, season.stock + 1, -1))
        return np.asarray(index.reshape(season.periods, season.stock + 1))

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
        leftover = known.leftover_markdown if self.parameters.markdown_only else known.leftover
        return 100 * leftover(self.season, table) / self.season.stock

    def policies(self, market: Market) -> dict[str, PolicyFunction]:
        """The optimal level at the period, the stock and the last price that are observed."""
        p = self.parameters
        season = self.season
        columns = [*features.of_product(p), *features.of_season(p)]
        levels = p.list_price[0] * np.array(p.levels)
        level_of = np.abs(season.prices[:, None] - levels).argmin(1)

        def act(observations: Tensor) -> Tensor:
            seen = observations.double().cpu().numpy()
            left = seen[..., columns.index("time left")]
            share = seen[..., columns.index("stock / units")]
            period = np.rint((1 - left) * p.periods).astype(np.int64).clip(0, season.periods - 1)
            stock = np.rint(share * season.stock).astype(np.int64)
            choice = self._best[period, stock]
            if p.markdown_only:
                last = p.list_price[0] * seen[..., columns.index("last price / list price")]
                place = np.abs(season.prices - last[..., None]).argmin(-1)
                choice = np.take_along_axis(choice, place[..., None], -1)[..., 0]
            return torch.from_numpy(level_of[choice])[..., None]

        return {self.group: act}

    def tolerance(self, group: str) -> float:
        """The limit of what a season may lose, in money."""
        return LIMIT / 100 * abs(self.optimum.total)

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
        tables = {
            "best fixed price": self._fixed,
            "list price": self._at_list,
            "untrained network": self.table(untrained[self.group]),
        }
        worth = {name: self.worth(table) for name, table in tables.items()}
        worth |= self._fit_then_plan(seeds[0])
        spoilage = Metric(
            "waste",
            "units left at the deadline",
            self.spoilage(ours),
            "%",
            answer=self.spoilage(self._best),
            controls={name: self.spoilage(table) for name, table in tables.items()},
        )
        grid_loss = Metric(
            "grid_loss",
            "loss by the levels alone",
            self.grid_loss,
            "%",
            note="the optimum on these levels against that on 200 prices "
            "between the lowest and the highest",
        )
        metrics = [*self._profits(self.worth(ours), worth), spoilage, grid_loss]
        methods = tuple(name for name in worth if name not in tables)
        return Assessment(metrics, self._plots(ours, seeds[0]), methods)

    def _profits(self, value: float, controls: dict[str, float]) -> list[Metric]:
        """What a policy of this value loses, earns and could still gain."""
        best = self.optimum.total
        shortfall = Metric(
            "shortfall",
            "loss against the dynamic programme",
            self.optimality_gap(value),
            "%",
            answer=0.0,
            limit=LIMIT,
            controls={name: self.optimality_gap(worth) for name, worth in controls.items()},
            note="exact policy evaluation, no simulation",
        )
        profit = Metric(
            "profit",
            "profit of a season",
            value,
            "money",
            answer=best,
            controls=controls,
            note="exact",
        )
        gain = Metric(
            "best_response_gain/exact",
            "best-response gain of the seller, exact",
            best - value,
            "money",
            answer=0.0,
            note="alone in its market, its best response is the dynamic programme",
        )
        return [
            shortfall,
            *loss_of_decisions(
                value, best, self.worth(self._fixed), controls, of="pricing", above="price"
            ),
            profit,
            gain,
        ]

    @property
    def _best(self) -> Choices:
        return self.optimum.policy

    @cached_property
    def _fixed(self) -> Choices:
        """The best price that never changes."""
        return self._constant(int(known.fixed(self.season).argmax()))

    @property
    def _at_list(self) -> Choices:
        distance = np.abs(self.season.prices - self.parameters.list_price[0])
        return self._constant(int(distance.argmin()))

    def _constant(self, index: int) -> Choices:
        """One price at every state, or the last price where it is lower and may not rise."""
        shape = self._best.shape
        table = np.full(shape, index, dtype=np.int64)
        if self.parameters.markdown_only:
            table = np.maximum(table, np.arange(shape[-1]))
        return table

    def _fit_then_plan(self, seed: int) -> dict[str, float]:
        """Name -> value of planning with demand as fitted to logged seasons of random prices.

        Poisson regression, then the dynamic programme on what it says; medians over logs.
        """
        p = self.parameters
        if p.markdown_only or p.season.profile or p.season.ageing:
            return {}  # the regression knows one demand for all periods
        medians = {}
        for logged in LOGGED:
            values = []
            for number in range(FITS):
                fit = self._fit(logged, seed, number)
                if fit is not None:
                    values.append(self.worth(known.plan(fit, self.season).policy))
            # Left out where too few of the logs determine demand.
            if 2 * len(values) > FITS:
                medians[f"fit-then-plan, {logged} logged seasons"] = float(np.median(values))
        return medians

    def _fit(self, seasons: int, seed: int, number: int) -> known.DemandFit | None:
        """Demand fitted to logged seasons of prices drawn evenly; None where a log does not tell.

        Each `number` is a log of its own.
        """
        even = np.full(self.season.shape, 1 / self.season.shape[-1])
        rng = np.random.default_rng([seed, seasons, number])
        log = known.simulate(self.season, even, seasons, rng)
        try:
            return known.fit_log(log)
        except (ValueError, ConvergenceError):
            return None

    @cached_property
    def grid_loss(self) -> float:
        """What nine levels cost against 200, in %."""
        season = self.season
        # Falling, as prices under markdown only must stand.
        prices = np.linspace(season.prices.max(), season.prices.min(), FINE)
        fine = replace(season, demand=self.demand(prices), prices=prices)
        return optimality_gap(self.optimum.total, self._solve(fine).total)

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
            optimal = self._at(self._best, stock)
            learned = self._at(ours, stock)
            lines.append(Line(f"optimal, {stock} units", time, optimal, "answer"))
            lines.append(Line(f"learned, {stock} units", time, learned, "ours"))
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
            mean_stock = reached @ np.arange(season.stock + 1.0)
            stocks.append(Line(name, time, mean_stock.tolist(), style))
            selling = reached[:-1, 1:]
            paid = (selling * season.prices[table][:, 1:]).sum(1)
            mean_price = paid / np.maximum(selling.sum(1), 1e-12)
            prices.append(Line(name, time[:-1], mean_price.tolist(), style))
        return [
            Plot("Mean price of a season, while there is stock", "period", "price", prices),
            Plot("Mean stock of a season", "period", "units", stocks),
        ]

    def _demand(self, seed: int) -> Plot:
        """Mean demand in the first, the middle and the last period.

        Where it stays the same, also as fitted to a log.
        """
        prices = np.linspace(self.season.prices.min(), self.season.prices.max(), 60)
        demand = self.demand(prices)
        last = self.season.periods - 1
        x = prices.tolist()
        moves = np.ptp(demand, axis=0).max() > 0
        shown = sorted({0, last // 2, last}) if moves else [0]
        lines = [Line(f"mean demand, period {t}", x, demand[t].tolist(), "answer") for t in shown]
        if len(shown) == 1 and not self.parameters.markdown_only:
            lines += self._fitted_lines(prices, seed)
        when = "a period" if len(shown) == 1 else f"periods {', '.join(map(str, shown))}"
        return Plot(f"Demand of {when}", "price", "units", lines)

    def _fitted_lines(self, prices: Array, seed: int) -> list[Line]:
        """Demand as fitted to the first of the logs, and its interval; none where it does not tell.

        Args:
            prices: where to draw it.
            seed: of the logs.
        """
        fitted = self._fit(LOGGED[0], seed, 0)
        if fitted is None:
            return []
        x = prices.tolist()
        mean = fitted.mean(prices).tolist()
        low, high = self._band(fitted, prices)
        return [
            Line(f"fitted to {LOGGED[0]} logged seasons", x, mean, "control"),
            Line("95 % interval of the fit", x, low.tolist(), "control", high.tolist()),
        ]

    @staticmethod
    def _band(fitted: known.DemandFit, prices: Array) -> tuple[Array, Array]:
        """The fit's 95 % interval at prices."""
        design = np.stack([np.ones_like(prices), prices], -1)
        variance = np.einsum("pi,ij,pj->p", design, fitted.covariance, design)
        reach = 1.96 * np.sqrt(variance)  # of log demand
        mean = fitted.mean(prices)
        return mean * np.exp(-reach), mean * np.exp(reach)
