"""Maximum likelihood of a family of demand.

Standard errors allow for what a period's rows have in common.
"""

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
    """A family's estimated parameters.

    Attributes:
        family: whose they are.
        theta, covariance: [K], [K, K].
        freedom: degrees of freedom of their t.
        clustered: whether the covariance is clustered by period.
        log_likelihood: at theta, of all counts.
        dispersion: Pearson's; 1 for Poisson sales, larger where sales vary more.
    """

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
        """Own elasticities and the ends of their 95 % intervals, by the delta method.

        Args:
            price: [P] at which they hold.
            weight: [P] of a mean over products; left out, each product has its own.

        Returns:
            [P] each, or [1] with weights.
        """
        mix = np.eye(len(price)) if weight is None else weight[None] / weight.sum()
        value = mix @ self.family.elasticities(self.theta, price)
        # Forward differences in theta; a parameter of 0 moves in units of its standard error.
        step = 1e-6 * np.maximum(np.abs(self.theta), 1e-3 * self.standard_errors + 1e-300)
        shifted = [
            mix @ self.family.elasticities(self.theta + step[k] * unit, price)
            for k, unit in enumerate(np.eye(len(step)))
        ]
        gradient = (np.stack(shifted, 1) - value[:, None]) / step
        variance = np.einsum("pk,kl,pl->p", gradient, self.covariance, gradient)
        half = self.quantile * np.sqrt(np.maximum(variance, 0.0))
        return value, value - half, value + half


def fit(family: Family, rows: Rows) -> Fit:
    """The family's parameters by damped scoring.

    Args:
        family: of demand.
        rows: of the log.

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
        step = _scoring_step(information, gradient)
        if float(gradient @ step) < 1e-11 * (1.0 + abs(total)):
            scores = slopes * score[:, None]
            dispersion = _dispersion(eta, q, n, theta)
            return _fit(family, theta, information, scores, period, total, dispersion)
        # Halve the step until the likelihood no longer falls.
        size = 1.0
        new_total = -np.inf
        while not new_total >= total and size > 1e-10:  # NaN is no improvement either
            trial = theta + size * step
            eta, slopes = family.terms(trial, rows)
            value, score, curvature = censored_poisson(eta, q, n)
            new_total = float(value.sum())
            size = 0.5 * size
        if not new_total >= total:
            raise UnidentifiedError("the likelihood has no maximum that can be found")
        theta = trial
        total = new_total
    raise UnidentifiedError("the likelihood's maximum may lie at infinity")


def held_out(fitted: Fit, rows: Rows) -> float:
    """Mean log likelihood of the log's rows."""
    eta, _ = fitted.family.terms(fitted.theta, rows)
    eta = eta[: rows.log.rows]  # without the visitors who bought nothing: only the logit has them
    value, _, _ = censored_poisson(eta, rows.log.sales, rows.limit)
    return float(value.mean())


def _scoring_step(information: Array, gradient: Array) -> Array:
    """Information^-1 gradient.

    By eigenvalues, in units of each parameter, so that what is not determined is noticed.
    """
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
    """The fit at the optimum `theta`, with its covariance; `scores` is [M, K]."""
    scale = np.sqrt(np.diag(information))
    inverse = np.linalg.inv(information / scale[:, None] / scale) / scale[:, None] / scale
    _, cluster = np.unique(period, return_inverse=True)
    clusters = int(cluster.max()) + 1
    if clusters < CLUSTERS:
        freedom = max(1.0, len(period) - len(theta))
        covariance = inverse * max(1.0, dispersion)
        return Fit(family, theta, covariance, freedom, False, total, dispersion)
    # The sandwich: scores are summed by period, whose rows may be correlated.
    summed = np.zeros((clusters, len(theta)))
    np.add.at(summed, cluster.reshape(-1), scores)
    covariance = inverse @ (summed.T @ summed) @ inverse * clusters / (clusters - 1)
    return Fit(family, theta, covariance, clusters - 1.0, True, total, dispersion)


def _dispersion(eta: Array, q: Array, n: Array, theta: Array) -> float:
    """Pearson's statistic over the rows not sold out, by degrees of freedom; 1 for Poisson."""
    mean = np.exp(eta)
    not_sold_out = n == 0
    squares = (q - mean)[not_sold_out] ** 2 / np.maximum(mean[not_sold_out], 1e-12)
    return float(squares.sum() / max(1, not_sold_out.sum() - len(theta)))
