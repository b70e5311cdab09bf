"""Logged decisions of whole seasons, checked against the season that they are said to come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_markets.envs.pricing.solution import Season
from rl_markets.errors import ExperimentError
from rl_markets.sales.offline.propensities import contradiction
from rl_markets.sales.table import Rule, Table, bad, read_table
from rl_markets.sales.written import Written
from rl_markets.say import Say, to_nobody

Array = NDArray[np.float64]
Index = NDArray[np.int64]

COLUMNS = (
    Rule("season", "text"),
    Rule("period", "whole", least=0),
    Rule("stock", "whole", least=0),
    Rule("choice", "whole", least=0),
    Rule("price", least=0),
    Rule("sales", "whole", least=0),
    Rule("reward"),
    Rule("propensity", least=0, above=True, most=1, required=False),
)
TOLERANCE = 1e-4
"""Of prices and rewards, relative: logs are often in single precision."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """N seasons of T periods; a season that sold out early goes on without stock.

    Attributes:
        action: [T, N] index of the price.
        stock: [T+1, N] units at the start of each period, and at the end.
        sales: [T, N] units.
        reward: [T, N] money.
        propensity: [T, N] probability with which the action was chosen.
    """

    action: Index
    stock: Index
    sales: Index
    reward: Array
    propensity: Array

    @property
    def deciding(self) -> NDArray[np.bool_]:
        """[T, N] where there was something to sell, so that the choice mattered."""
        return np.asarray(self.stock[:-1] > 0)

    @property
    def seasons(self) -> int:
        """N."""
        return int(self.action.shape[1])

    def of(self, seasons: Index) -> Decisions:
        """The seasons of these indices, which may repeat."""
        return Decisions(
            self.action[:, seasons],
            self.stock[:, seasons],
            self.sales[:, seasons],
            self.reward[:, seasons],
            self.propensity[:, seasons],
        )


def read_decisions(
    path: Path,
    season: Season,
    named: Mapping[str, str] | None = None,
    written: Written | None = None,
    say: Say = to_nobody,
) -> Decisions:
    """A log of decisions, CSV or parquet; periods count from 0, choices from the lowest price.

    Args:
        path: the file.
        season: that the decisions were made in.
        named: how the file calls the columns.
        written: how a CSV file is written, as far as it is known.
        say: told in a line what was found out of that.

    Raises:
        ExperimentError: one line that names file, line and column; above all where there are no
            propensities.
    """
    table = read_table(path, COLUMNS, named, written, say)
    if "propensity" not in table.columns:
        raise ExperimentError(
            f"{path.name}: no column propensity, the probability with which each choice was made; "
            "without it nothing can be said of policies other than the one that made them: "
            "log it with every decision"
        )
    columns = {name: np.array(values) for name, values in table.columns.items()}
    if (missing := np.isnan(columns["propensity"])).any():
        where = table.where(int(missing.argmax()), (named or {}).get("propensity", "propensity"))
        raise bad(where, "", COLUMNS[-1].expected)
    checker = _Checker(table, columns, season, dict(named or {}))
    checker.rows()
    return checker.seasons()


@dataclass(frozen=True, eq=False)
class _Checker:
    """The rows in the order of season and period, each against the season and the row before."""

    table: Table
    columns: dict[str, NDArray[Any]]
    season: Season
    named: dict[str, str]

    def fail(
        self, wrong: NDArray[np.bool_], column: str, expected: str, rows: Index | None = None
    ) -> None:
        """Refuses the first of the wrong rows, if there is one.

        Args:
            wrong: whether each row is.
            column: in which.
            expected: instead; may name in braces what `_expected` holds.
            rows: the row of the file that each entry of `wrong` stands for, where they are in
                another order.
        """
        if not wrong.any():
            return
        wrong_rows = np.flatnonzero(wrong) if rows is None else np.sort(rows[wrong])
        row = int(wrong_rows[0])
        values = {name: value[row] for name, value in self._expected.items()}
        raise bad(
            self.table.where(row, self.named.get(column, column)),
            self.columns[column][row],
            expected.format(**values),
        )

    @property
    def _expected(self) -> dict[str, NDArray[Any]]:
        """What each row should hold, given its choice, stock and sales."""
        columns = self.columns
        season = self.season
        # Clipped, since `rows` reads this before it refuses choices out of range.
        choice = np.clip(columns["choice"], 0, len(season.prices) - 1)
        unsold = columns["stock"] - columns["sales"]
        margin = (1 - season.fee) * columns["price"] - season.cost
        money = margin * columns["sales"] - season.holding * unsold
        salvage = season.discount * season.salvage * unsold  # the season's comes a period later
        reward = money + np.where(columns["period"] == season.periods - 1, salvage, 0.0)
        return {"price": season.prices[choice], "reward": reward, "stock": columns["stock"]}

    def rows(self) -> None:
        """Whether each row is possible."""
        columns = self.columns
        expected = self._expected
        last_period = self.season.periods - 1
        last_choice = len(self.season.prices) - 1
        self.fail(
            columns["period"] > last_period, "period", f"a whole number from 0 to {last_period}"
        )
        self.fail(
            columns["choice"] > last_choice, "choice", f"a whole number from 0 to {last_choice}"
        )
        wrong = np.abs(columns["price"] - expected["price"]) > TOLERANCE * expected["price"]
        self.fail(wrong, "price", "{price:g}, the experiment's price of that choice")
        wrong = columns["sales"] > columns["stock"]
        self.fail(wrong, "sales", "at most the stock, {stock}")
        # Relative to the price, too: a reward can be the small difference of large amounts.
        scale = np.maximum(columns["price"], np.abs(expected["reward"]))
        wrong = np.abs(columns["reward"] - expected["reward"]) > TOLERANCE * scale
        self.fail(wrong, "reward", "{reward:g}, as the experiment's costs say")

    def seasons(self) -> Decisions:
        """Whether each season is whole; then all of them."""
        _, number = np.unique(self.columns["season"], return_inverse=True)
        number = number.reshape(-1)
        order = np.lexsort((self.columns["period"], number))  # by season, then by period
        rows = {name: values[order] for name, values in self.columns.items()}
        rows["number"] = number[order]
        period = rows["period"]
        stock = rows["stock"]

        first = np.append(True, np.diff(rows["number"]) != 0)
        expected_period = np.where(first, 0, np.append(-1, period[:-1]) + 1)
        wrong = period != expected_period
        self.fail(wrong, "period", "each period of a season once, from 0 on", order)

        wrong = first & (stock != self.season.stock)
        self.fail(wrong, "stock", f"{self.season.stock}, with which the experiment starts", order)
        unsold_before = np.append(0, (stock - rows["sales"])[:-1])
        wrong = ~first & (stock != unsold_before)
        self.fail(wrong, "stock", "what the period before left", order)

        last = np.append(first[1:], True)
        last_period = self.season.periods - 1
        wrong = last & (period != last_period) & (stock > rows["sales"])
        self.fail(
            wrong,
            "period",
            f"the season to go on to period {last_period} while there is stock",
            order,
        )
        self._propensities(rows, order)
        return self._decisions(rows)

    def _propensities(self, rows: dict[str, NDArray[Any]], order: Index) -> None:
        """Whether propensities are those of the decisions beside them."""
        deciding = np.flatnonzero(rows["stock"] > 0)
        pairs = np.stack([rows["period"], rows["stock"]])[:, deciding]
        point = np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1)
        found = contradiction(point, rows["choice"][deciding], rows["propensity"][deciding])
        if found is not None:
            wrong, expected = found
            self.fail(wrong, "propensity", expected, order[deciding])

    def _decisions(self, rows: dict[str, NDArray[Any]]) -> Decisions:
        """The rows as arrays of period and season; what a season that sold out lacks is 0."""
        shape = (self.season.periods, int(rows["number"].max()) + 1)
        index = (rows["period"], rows["number"])
        action = np.zeros(shape, dtype=np.int64)
        sales = np.zeros(shape, dtype=np.int64)
        reward = np.zeros(shape)
        propensity = np.ones(shape)
        action[index] = rows["choice"]
        sales[index] = rows["sales"]
        reward[index] = rows["reward"]
        propensity[index] = rows["propensity"]
        sold = np.concatenate([np.zeros((1, shape[1]), dtype=np.int64), np.cumsum(sales, axis=0)])
        return Decisions(action, self.season.stock - sold, sales, reward, propensity)
