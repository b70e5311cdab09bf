"""Demand functions that are known, and logs of what they sell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rl_markets.sales.calibration.log import SalesLog
from rl_markets.sales.calibration.sales import read_sales
from tests.support.selling import Row, write


def exponential(price: Any) -> Any:
    return 60 * np.exp(-0.004 * price)


def isoelastic(price: Any) -> Any:
    return 12 * (price / 500) ** -1.8


def linear(price: Any) -> Any:
    return 40 - 0.05 * price + 0.01 * (price.sum() - price)


def logit(price: Any) -> Any:
    weight = np.exp((np.array([450.0, 550.0]) - price) / 80)
    return 100 * weight / (1 + weight.sum())


def log_of(rows: list[Row], folder: Path, **options: Any) -> SalesLog:
    return read_sales(write(folder / "sales.csv", rows), **options)
