"""Maximum likelihood of a family of demand, with standard errors that allow what a period's rows
have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from rl_markets.envs.pricing.solution.fit_then_plan import censored_poisson
from rl_markets.errors import UnidentifiedError
from rl_markets.sales.calibration.families import Array, Family, Index, Rows

CLUSTERS = 20
"""Periods from which on standard errors are clustered by period (Cameron and Miller 2015)."""
ITERATIONS = 200


@dataclass(frozen=True, eq=False)
class Fit:
    """Parameters [K], their covariance [K, K], degrees of freedom of their t, and how much sales
    vary beyond Poisson."""

    family: Family
    theta: Array
    covariance: Array
    freedom: float
    clustered: bool
    log_likelihood: float
    dispersion: float

    @property
    def standard_errors(self) -> Array:
        """[K]."""
        return np.asarray(np.sqrt(np.maximum(np.diag(self.covariance), 0.0)))

    @property
    def quantile(self) -> float:
        """What a 95 % interval takes standard errors times."""
        return float(student.ppf(0.975, self.freedom))

    def slopes(self) -> tuple[Array, Array, Array]:
        """Own slopes and the ends of their 95 % intervals."""
        own = self.theta[self.family.own]
        half = self.quantile * self.standard_errors[self.family.own]
        return own, own - half, own + half

    def elasticities(self, price: Array, weight: Array | None = None) -> tuple[Array, Array, Array]:
        """Own elasticities [P] at prices [P] and their 95 % intervals, by the delta method;
        `weight` [P]: of their mean."""
        mix = np.eye(len(price)) if weight is None else weight[None] / weight.sum()
        value = mix @ self.family.elasticities(self.theta, price)
        step = 1e-6 * np.maximum(np.abs(self.theta), 1e-3 * self.standard_errors + 1e-300)
        moved = [
            mix @ self.family.elasticities(self.theta + step[k] * e, price)
            for k, e in enumerate(np.eye(len(step)))
        ]
        gradient = (np.stack(moved, 1) - value[:, None]) / step
        half = self.quantile * np.sqrt(
            np.maximum(np.einsum("pk,kl,pl->p", gradient, self.covariance, gradient), 0.0)
        )
        return value, value - half, value + half


def fit(family: Family, rows: Rows) -> Fit:
    """The family's parameters by damped scoring.

    Raises:
        UnidentifiedError: where the log does not determine them, or the optimum lies at infinity.
    """
    q, n, period = family.observed(rows)
    theta = family.start(rows)
    eta, slopes = family.terms(theta, rows)
    value, score, curvature = censored_poisson(eta, q, n)
    total = float(value.sum())
    for _ in range(ITERATIONS):
        gradient = slopes.T @ score
        information = (slopes * -curvature[:, None]).T @ slopes
        step = _solved(information, gradient)
        if float(gradient @ step) < 1e-11 * (1.0 + abs(total)):
            return _fit(
                family,
                theta,
                information,
                slopes * score[:, None],
                period,
                total,
                _dispersion(eta, q, n, theta),
            )
        size = 1.0
        new = -np.inf
        while not new >= total and size > 1e-10:
            trial = theta + size * step
            eta, slopes = family.terms(trial, rows)
            value, score, curvature = censored_poisson(eta, q, n)
            new = float(value.sum())
            size = 0.5 * size
        if not new >= total:
            raise UnidentifiedError("the likelihood has no maximum that can be found")
        theta = trial
        total = new
    raise UnidentifiedError("the likelihood's maximum may lie at infinity")


def held_out(found: Fit, rows: Rows) -> float:
    """Mean log likelihood of the log's rows."""
    eta, _ = found.family.terms(found.theta, rows)
    eta = eta[: rows.log.rows]
    value, _, _ = censored_poisson(eta, rows.log.sales, rows.limit)
    return float(value.mean())


def _solved(information: Array, gradient: Array) -> Array:
    """The scoring step, by eigenvalues in units of each parameter, so that what is not determined
    is noticed."""
    scale = np.sqrt(np.diag(information))
    if not (np.isfinite(information).all() and np.isfinite(gradient).all() and (scale > 0).all()):
        raise UnidentifiedError("the log does not determine all parameters")
    values, vectors = np.linalg.eigh(information / scale[:, None] / scale)
    if values[0] < 1e-11 * values[-1]:
        raise UnidentifiedError("the log does not determine all parameters")
    return np.asarray(vectors @ ((vectors.T @ (gradient / scale)) / values) / scale)


def _fit(
    family: Family,
    theta: Array,
    information: Array,
    scores: Array,
    period: Index,
    total: float,
    dispersion: float,
) -> Fit:
    scale = np.sqrt(np.diag(information))
    inverse = np.linalg.inv(information / scale[:, None] / scale) / scale[:, None] / scale
    _, cluster = np.unique(period, return_inverse=True)
    number = int(cluster.max()) + 1
    if number < CLUSTERS:
        freedom = max(1.0, len(period) - len(theta))
        return Fit(family, theta, inverse * max(1.0, dispersion), freedom, False, total, dispersion)
    summed = np.zeros((number, len(theta)))
    np.add.at(summed, cluster.reshape(-1), scores)
    covariance = inverse @ (summed.T @ summed) @ inverse * number / (number - 1)
    return Fit(family, theta, covariance, number - 1.0, True, total, dispersion)


def _dispersion(eta: Array, q: Array, n: Array, theta: Array) -> float:
    """Pearson's statistic over the rows not sold out, by degrees of freedom; 1 for Poisson."""
    mean = np.exp(eta)
    there = n == 0
    each = (q - mean)[there] ** 2 / np.maximum(mean[there], 1e-12)
    return float(each.sum() / max(1, there.sum() - len(theta)))
