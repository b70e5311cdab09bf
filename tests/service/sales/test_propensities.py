"""Propensities that cannot be those of the decisions beside them are refused by row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rl_markets.errors import ExperimentError
from rl_markets.sales.offline.estimators import Evaluation, Target
from rl_markets.sales.offline.log import read_decisions
from rl_markets.sales.offline.propensities import contradiction
from tests.service.sales.test_offline import rows_of
from tests.support.seasons import BROAD, logged, season_of, table_of
from tests.support.selling import write

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
CHOICES = 4
SEASONS = 400
PERIODS = 10


def decisions(
    logger: Callable[[int, int], Floats], seed: int = 0
) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Points, choices and true propensities of a logger: (period, stock) -> probabilities."""
    rng = np.random.default_rng(seed)
    points, choices, propensities = [], [], []
    for _ in range(SEASONS):
        stock = 20
        for period in range(PERIODS):
            p = logger(period, stock)
            choice = int(rng.choice(CHOICES, p=p))
            points.append(period * 100 + stock)
            choices.append(choice)
            propensities.append(p[choice])
            stock -= int(rng.integers(0, 2))
    _, point = np.unique(points, return_inverse=True)
    return point, np.array(choices), np.array(propensities)


def uniform(period: int, stock: int) -> Floats:
    return np.full(CHOICES, 1 / CHOICES)


def greedy(period: int, stock: int) -> Floats:
    """Nearly always the choice that period and stock say."""
    p = np.full(CHOICES, 0.05)
    p[(period + stock) % CHOICES] = 1 - 0.05 * (CHOICES - 1)
    return p


def determined(period: int, stock: int) -> Floats:
    return np.eye(CHOICES)[(period * stock) % CHOICES]


def partial(period: int, stock: int) -> Floats:
    """Two of the choices, which ones depends on the stock."""
    p = np.zeros(CHOICES)
    p[[stock % CHOICES, (stock + 1) % CHOICES]] = (0.9, 0.1)
    return p


LOGGERS = [uniform, greedy, determined, partial]


@pytest.mark.parametrize("logger", LOGGERS)
@pytest.mark.parametrize("seed", range(10))
def test_true_propensities_are_taken(logger: Callable[[int, int], Floats], seed: int) -> None:
    assert contradiction(*decisions(logger, seed)) is None
    point, choice, propensity = decisions(logger, seed)
    assert contradiction(point, choice, np.round(propensity, 3)) is None


def test_propensities_that_depend_on_what_the_log_does_not_show_are_taken() -> None:
    """As long as they can be true: a coin decides which of two loggers chooses."""
    rng = np.random.default_rng(0)
    point = np.repeat(np.arange(5), 400)
    coin = rng.integers(0, 2, len(point))
    p = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    choice = np.array([rng.choice(CHOICES, p=p[c]) for c in coin])
    assert contradiction(point, choice, p[coin, choice]) is None


FALSE: dict[str, Callable[[Floats, np.ndarray], Floats]] = {
    "always one": lambda p, c: np.ones_like(p),
    "a constant too large": lambda p, c: np.full_like(p, 0.6),
    "a constant too small": lambda p, c: np.full_like(p, 0.02),
    "twice the truth": lambda p, c: np.minimum(2 * p, 1.0),
    "half the truth": lambda p, c: p / 2,
    "of another choice": lambda p, c: np.where(c == 0, 0.05, np.where(c == 1, 0.6, p)),
    "next to nothing": lambda p, c: np.where(np.arange(len(p)) == 7, 1e-300, p),
    "all next to nothing": lambda p, c: np.full_like(p, 1e-300),
    "of not choosing": lambda p, c: np.clip(1 - p, 1e-9, 1),
}


@pytest.mark.parametrize("logger", [uniform, greedy])
@pytest.mark.parametrize("wrong", FALSE.values(), ids=FALSE.keys())
def test_false_propensities_are_refused(
    logger: Callable[[int, int], Floats], wrong: Callable[[Floats, np.ndarray], Floats]
) -> None:
    point, choice, propensity = decisions(logger)
    found = contradiction(point, choice, wrong(propensity, choice))
    assert found is not None
    assert found[0].any()


def test_a_file_is_refused_by_row(tmp_path: Path) -> None:
    season = season_of(15)
    rows = [row | {"propensity": 1} for row in rows_of(logged(season, 60, 0))]
    with pytest.raises(
        ExperimentError, match=r"line 2, column propensity: found 1.*sum to .*, and not to 1"
    ):
        read_decisions(write(tmp_path / "log.csv", rows), season)
    rows = rows_of(logged(season, 60, 0))
    rows[30]["propensity"] = 1e-300
    with pytest.raises(ExperimentError, match="line 32, column propensity"):
        read_decisions(write(tmp_path / "log.csv", rows), season)


@pytest.mark.parametrize("ratio", [1e-200, 1e200, 0.0, np.inf])
def test_the_guard_of_weights_fails_closed(ratio: float) -> None:
    """Weights that no number holds used to pass: NaN is not below the smallest."""
    season = season_of(15)
    log = logged(season, 60, 0)
    ratios = np.ones(log.action.shape)
    ratios[:, 3] = ratio
    target = Target(table_of(season, BROAD), ratios)
    found = Evaluation(log, season).weighted(target)
    effective = Evaluation.effective_seasons(target)
    assert effective >= 0
    assert all(np.isfinite(e.value) or e.refused for e in found.values())
    if ratio > 1:
        assert all(estimate.refused for estimate in found.values())
