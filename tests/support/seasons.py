"""Selling seasons whose values are known exactly, and logs of a policy that explores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rl_markets.envs.pricing import solution as known
from rl_markets.envs.pricing.answer.season import SeasonAnswer
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.sales.offline.log import Decisions

Array = NDArray[np.float64]
STOCK = 10
CHOICES = 9
INCUMBENT = 4
PRICES = known.gvr().prices
BROAD = np.full(CHOICES, 0.5 / CHOICES) + 0.5 * np.eye(CHOICES)[INCUMBENT]


def season_of(periods: int, stock: int = STOCK) -> known.Season:
    return known.Season(np.tile(6 * np.exp(-PRICES / 500), (periods, 1)), PRICES, stock=stock)


def table_of(season: known.Season, behaviour: Array) -> Array:
    return np.tile(behaviour, (*season.shape[:2], 1))


def logged(season: known.Season, seasons: int, seed: int, behaviour: Array = BROAD) -> Decisions:
    log = known.simulate(season, table_of(season, behaviour), seasons, np.random.default_rng(seed))
    stock = np.concatenate([log.stock, (log.stock[-1] - log.sales[-1])[None]])
    propensity = np.where(log.stock > 0, behaviour[log.action], 1.0)
    return Decisions(log.action, stock, log.sales, log.price * log.sales, propensity)


def answered(periods: int, stock: int = STOCK) -> SeasonAnswer:
    levels = [float(x) for x in PRICES / 1000]
    demand = {"family": "exponential", "size": [6.0], "slope": [0.002]}
    settings = {
        "periods": periods,
        "list_price": [1000],
        "demand": demand,
        "stock": {"units": [stock]},
        "levels": levels,
    }
    return SeasonAnswer(PricingParameters.model_validate(settings))
