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
from rl_markets.sales.table import Rule, Table, bad, read_table

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
    """N seasons of T periods, all arrays [T, N] but `stock` [T+1, N]; a season that sold out early
    goes on without stock.

    `action`: index of the price; `reward`: money; `propensity`: with which probability the action
        was chosen.
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


def read_decisions(path: Path, season: Season, named: Mapping[str, str] | None = None) -> Decisions:
    """A log of decisions, CSV or parquet; periods count from 0, choices from the lowest price.

    Args:
        path: the file.
        season: that the decisions were made in.
        named: how the file calls the columns.

    Raises:
        ExperimentError: one line that names file, line and column; above all where there are no
            propensities.
    """
    table = read_table(path, COLUMNS, named)
    if "propensity" not in table.columns:
        raise ExperimentError(
            f"{path.name}: no column propensity, the probability with which each choice was made; "
            "without it nothing can be "
            "said of policies other than the one that made them: log it with every decision"
        )
    columns = {k: np.array(v) for k, v in table.columns.items()}
    if (missing := np.isnan(columns["propensity"])).any():
        where = table.where(int(missing.argmax()), (named or {}).get("propensity", "propensity"))
        raise bad(where, "", COLUMNS[-1].expected)
    checked = _Checker(table, columns, season, dict(named or {}))
    checked.rows()
    return checked.seasons()


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
        """Names the first of the wrong rows; `expected` may use what stands in braces."""
        if not wrong.any():
            return
        places = np.flatnonzero(wrong) if rows is None else np.sort(rows[wrong])
        row = int(places[0])
        raise bad(
            self.table.where(row, self.named.get(column, column)),
            self.columns[column][row],
            expected.format(**{k: v[row] for k, v in self._expected.items()}),
        )

    @property
    def _expected(self) -> dict[str, NDArray[Any]]:
        c = self.columns
        s = self.season
        choice = np.clip(c["choice"], 0, len(s.prices) - 1)
        left = c["stock"] - c["sales"]
        money = ((1 - s.fee) * c["price"] - s.cost) * c["sales"] - s.holding * left
        salvage = s.discount * s.salvage * left  # the season's comes a period later
        reward = money + np.where(c["period"] == s.periods - 1, salvage, 0.0)
        return {"price": s.prices[choice], "reward": reward, "stock": c["stock"]}

    def rows(self) -> None:
        """Whether each row is possible."""
        c = self.columns
        s = self.season
        expected = self._expected
        self.fail(c["period"] >= s.periods, "period", f"a whole number from 0 to {s.periods - 1}")
        self.fail(
            c["choice"] >= len(s.prices), "choice", f"a whole number from 0 to {len(s.prices) - 1}"
        )
        off = np.abs(c["price"] - expected["price"]) > TOLERANCE * expected["price"]
        self.fail(off, "price", "{price:g}, the experiment's price of that choice")
        self.fail(c["sales"] > c["stock"], "sales", "at most the stock, {stock}")
        off = np.abs(c["reward"] - expected["reward"]) > TOLERANCE * np.maximum(
            c["price"], np.abs(expected["reward"])
        )
        self.fail(off, "reward", "{reward:g}, as the experiment's costs say")

    def seasons(self) -> Decisions:
        """Whether each season is whole; then all of them."""
        c = self.columns
        s = self.season
        _, number = np.unique(c["season"], return_inverse=True)
        number = number.reshape(-1)
        order = np.lexsort((c["period"], number))
        sorted_ = {k: v[order] for k, v in c.items()} | {"number": number[order]}
        first = np.append(True, np.diff(sorted_["number"]) != 0)
        before = np.append(-1, sorted_["period"][:-1])
        left = np.append(0, (sorted_["stock"] - sorted_["sales"])[:-1])
        due = np.where(first, 0, before + 1)
        self.fail(
            sorted_["period"] != due, "period", "each period of a season once, from 0 on", order
        )
        self.fail(
            first & (sorted_["stock"] != s.stock),
            "stock",
            f"{s.stock}, with which the experiment starts",
            order,
        )
        self.fail(
            ~first & (sorted_["stock"] != left), "stock", "what the period before left", order
        )
        last = np.append(first[1:], True)
        cut = last & (sorted_["period"] != s.periods - 1) & (sorted_["stock"] > sorted_["sales"])
        self.fail(
            cut,
            "period",
            f"the season to go on to period {s.periods - 1} while there is stock",
            order,
        )
        return self._filled(sorted_)

    def _filled(self, rows: dict[str, NDArray[Any]]) -> Decisions:
        shape = (self.season.periods, int(rows["number"].max()) + 1)
        at = (rows["period"], rows["number"])
        action = np.zeros(shape, dtype=np.int64)
        sales = np.zeros(shape, dtype=np.int64)
        reward = np.zeros(shape)
        propensity = np.ones(shape)
        action[at], sales[at], reward[at], propensity[at] = (
            rows[k] for k in ("choice", "sales", "reward", "propensity")
        )
        sold = np.concatenate([np.zeros((1, shape[1]), dtype=np.int64), np.cumsum(sales, axis=0)])
        return Decisions(action, self.season.stock - sold, sales, reward, propensity)
