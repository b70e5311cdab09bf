"""The judge of the Krusell-Smith economy: how far learned policies are from its equilibrium."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from rl_markets.envs.answer_key import AnswerKey, Assessment, Metric
from rl_markets.envs.krusell_smith import solution as known
from rl_markets.envs.krusell_smith.answer import panel
from rl_markets.envs.krusell_smith.answer.panel import Array, Panel, SharePolicy
from rl_markets.envs.krusell_smith.answer.plots import STATES, plots
from rl_markets.envs.krusell_smith.answer.states import GAIN_LIMIT, KrusellSmithEquilibrium
from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters
from rl_markets.envs.market import PolicyFunction
from rl_markets.envs.numerics.statistics import interval
from rl_markets.errors import ConvergenceError

MULTIPLES = (0.01, 1.0)
"""Capital at which propensities to consume are compared, in multiples of mean capital."""

# The certificate's limits.
POLICY_LIMIT = 3.0
"""In %."""
CAPITAL_LIMIT = 2.0
"""In %."""
LAW_LIMIT = 0.5
"""In % of variance unexplained."""
DEN_HAAN_LIMIT = 2.0
"""In %."""
GINI_LIMIT = 0.05
"""In points."""
ADJUSTMENT_LIMIT = 30.0
"""In % of the speed at which capital returns to its mean."""
PROPENSITY_LIMIT = 0.05
"""In points."""

KINDS_APART = 10
"""Types whose gains are told apart, at the most: each needs many deviators."""
PATHS = 4
"""Evaluation seeds that are simulated for long."""


class KrusellSmithAnswer(KrusellSmithEquilibrium):
    """The competitive equilibrium, its law of motion brought about by those who believe in it.

    By endogenous grid points and a simulated distribution.
    """

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """The mean relative error of the consumption share in the long run's states, in %."""
        return float(self.errors(self.share_policy(policies["households"])) @ self.held_out[1])

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Policy errors, the learned economy's law and inequality, propensities, best response."""
        learned = self.share_policy(policies["households"])
        controls = {
            "constant share": self._constant_share(),
            "untrained network": self.share_policy(untrained["households"]),
            "exact": self.exact,
        }
        start = self.solution.mean_effective_capital
        seeds = seeds[:PATHS]
        simulated = panel.simulate(self.parameters, learned, start, seeds)
        control_panels = {
            name: panel.simulate(self.parameters, policy, start, seeds[:1])
            for name, policy in controls.items()
        }
        metrics = [
            *self._policy_errors(learned, controls),
            *self._capital(simulated, control_panels),
            *self._law(simulated, control_panels),
            *self._inequality(simulated, control_panels),
            *self._propensities(learned, controls),
            *self._best_response(learned, simulated, controls, control_panels, seeds),
        ]
        pictures = plots(self, learned, simulated, self._sorted(simulated.types))
        return Assessment(metrics, pictures, methods=("exact",))

    def _constant_share(self) -> SharePolicy:
        """The best simple rule: everybody consumes the share that keeps the answer's capital."""
        K = self.solution.mean_effective_capital
        kept = (1 - self.economy.delta) * K
        wealth = np.mean([self.economy.output(K, z) + kept for z in range(2)])
        share = float(1 - K / wealth)
        return lambda k, K, z, e, kind: np.full(
            np.broadcast_shapes(*map(np.shape, (k, K, z, e, kind))), share
        )

    def _policy_errors(
        self, learned: SharePolicy, controls: Mapping[str, SharePolicy]
    ) -> list[Metric]:
        """Mean error, mean error of the unemployed, and the largest."""
        (_, _, _, e, _), weights = self.held_out
        jobless = weights * (e == known.UNEMPLOYED)
        learned_errors = self.errors(learned)
        control_errors = {name: self.errors(policy) for name, policy in controls.items()}
        rows = (
            ("", "mean", weights, POLICY_LIMIT),
            ("/unemployed", "mean, unemployed", jobless / jobless.sum(), None),
        )
        note = (
            "relative to the answer, at quantiles of its long-run distribution, "
            "K within 3 % of its mean"
        )
        metrics = [
            Metric(
                f"policy_error/consumption_share{key}",
                f"error of the consumption share, {label}",
                float(learned_errors @ w),
                "%",
                answer=0.0,
                limit=limit,
                note=note,
                controls={name: float(errors @ w) for name, errors in control_errors.items()},
            )
            for key, label, w, limit in rows
        ]
        largest = Metric(
            "policy_error/consumption_share/max",
            "error of the consumption share, largest",
            float(learned_errors.max()),
            "%",
            answer=0.0,
            controls={name: float(errors.max()) for name, errors in control_errors.items()},
            note=note,
        )
        return [*metrics, largest]

    def _capital(self, simulated: Panel, controls: Mapping[str, Panel]) -> list[Metric]:
        """Mean effective capital, and its error."""
        answer = self.solution.mean_effective_capital
        by_seed = simulated.K.mean(0)

        def error(p: Panel) -> float:
            return float(100 * abs(p.K.mean() / answer - 1))

        note = (
            f"{panel.HOUSEHOLDS:,} households, {panel.PERIODS:,} quarters after "
            f"{panel.BURN_IN:,}, from equal capital"
        )
        return [
            Metric(
                "capital_error",
                "error of mean capital",
                error(simulated),
                "%",
                answer=0.0,
                limit=CAPITAL_LIMIT,
                note=note,
                controls={name: error(control) for name, control in controls.items()},
            ),
            Metric(
                "capital",
                "mean effective capital",
                float(by_seed.mean()),
                "",
                *interval(by_seed),
                answer=answer,
                controls={name: float(control.K.mean()) for name, control in controls.items()},
                note=note,
            ),
        ]

    def _law(self, simulated: Panel, controls: Mapping[str, Panel]) -> list[Metric]:
        """The regression of log K' on log K, and how it forecasts when it is iterated alone."""
        law = known.law_of_motion(simulated.K, simulated.z)
        control_laws = {
            name: known.law_of_motion(control.K, control.z) for name, control in controls.items()
        }
        control_forecasts = {
            name: known.den_haan(control.K, control.z, control_laws[name])[0]
            for name, control in controls.items()
        }
        return [
            Metric(
                "law/unexplained",
                "law of motion, variance unexplained",
                _unexplained(law),
                "%",
                answer=_unexplained(self.solution.law),
                limit=LAW_LIMIT,
                controls={name: _unexplained(control) for name, control in control_laws.items()},
                note="1 - R2 of log K' on log K, the larger of both states; says little on its own",
            ),
            Metric(
                "law/den_haan",
                "law of motion, largest dynamic forecast error",
                known.den_haan(simulated.K, simulated.z, law)[0],
                "%",
                answer=self.solution.den_haan_max,
                limit=DEN_HAAN_LIMIT,
                controls=control_forecasts,
                note="Den Haan (2010): the law alone, iterated over all quarters, "
                "against the simulated path",
            ),
            self._adjustment(law, control_laws),
            *self._coefficients(law, control_laws),
        ]

    def _adjustment(
        self, law: known.LawOfMotion, controls: Mapping[str, known.LawOfMotion]
    ) -> Metric:
        """How fast capital returns to its mean: one less the slope of the law."""

        def error(found: known.LawOfMotion) -> float:
            speeds = 1 - np.asarray(found.slope)
            exact = 1 - np.asarray(self.solution.law.slope)
            return float(100 * np.abs(speeds / exact - 1).max())

        return Metric(
            "law/adjustment_error",
            "error of the speed at which capital adjusts",
            error(law),
            "%",
            answer=0.0,
            limit=ADJUSTMENT_LIMIT,
            controls={name: error(control) for name, control in controls.items()},
            note="1 - slope of log K' on log K, the larger error of both states",
        )

    def _coefficients(
        self, law: known.LawOfMotion, controls: Mapping[str, known.LawOfMotion]
    ) -> list[Metric]:
        """Slope and intercept of the law in each state."""
        metrics = []
        for i, state in enumerate(STATES):
            for key in ("slope", "intercept"):
                metrics.append(
                    Metric(
                        f"law/{key}/{state}",
                        f"law of motion, {key} in the {state} state",
                        getattr(law, key)[i],
                        answer=getattr(self.solution.law, key)[i],
                        controls={
                            name: getattr(control, key)[i] for name, control in controls.items()
                        },
                    )
                )
        return metrics

    def _inequality(self, simulated: Panel, controls: Mapping[str, Panel]) -> list[Metric]:
        """The Gini coefficient, its error, and each type's capital where there are several."""
        answer = self.solution.gini
        by_seed = simulated.gini
        control_ginis = {name: float(control.gini.mean()) for name, control in controls.items()}
        note = "accumulation is close to a unit root: a policy error of 1 % moves it by .02 to .03"
        metrics = [
            Metric(
                "gini_error",
                "error of the Gini coefficient",
                abs(float(by_seed.mean()) - answer),
                "",
                answer=0.0,
                limit=GINI_LIMIT,
                controls={name: abs(value - answer) for name, value in control_ginis.items()},
                note=note,
            ),
            Metric(
                "gini",
                "Gini coefficient of capital",
                float(by_seed.mean()),
                "",
                *interval(by_seed),
                answer=answer,
                controls=control_ginis,
                note=note,
            ),
        ]
        if len(self.kinds) > 1:
            metrics += self._capital_by_kind(simulated)
        return metrics

    def _capital_by_kind(self, simulated: Panel) -> list[Metric]:
        exact = self.solution.mean_capital_by_type
        kinds = self._sorted(simulated.types)
        return [
            Metric(
                f"capital/kappa={kappa:g}",
                f"mean capital where kappa = {kappa:g}",
                float(simulated.capital[..., kinds == kind].mean()),
                answer=float(exact[kind]),
            )
            for kind, kappa in enumerate(self.kinds)
        ]

    def _propensities(
        self, learned: SharePolicy, controls: Mapping[str, SharePolicy]
    ) -> list[Metric]:
        """Consumption out of a windfall, of the poorest and of those with mean capital."""
        k = self.solution.mean_capital * np.asarray(MULTIPLES)

        def both(policy: SharePolicy) -> Array:
            return np.stack([self.propensities(policy, k, e) for e in range(2)])

        found = both(learned)
        exact = both(self.exact)

        def error(propensities: Array) -> float:
            return float(np.abs(propensities - exact).max())

        note = "out of a windfall of 1 % of wealth, good state"
        metrics = [
            Metric(
                "mpc_error",
                "error of the propensity to consume, largest",
                error(found),
                "",
                answer=0.0,
                limit=PROPENSITY_LIMIT,
                controls={name: error(both(policy)) for name, policy in controls.items()},
                note=f"of the employed and of the unemployed, poorest or with mean capital; {note}",
            )
        ]
        for e, job in enumerate(("employed", "unemployed")):
            for i, multiple in enumerate(MULTIPLES):
                metrics.append(
                    Metric(
                        f"mpc/{job}/{multiple:g}",
                        f"propensity to consume, {job} with {multiple:g} K",
                        float(found[e, i]),
                        answer=float(exact[e, i]),
                        note=note,
                    )
                )
        return metrics

    def _best_response(
        self,
        learned: SharePolicy,
        simulated: Panel,
        controls: Mapping[str, SharePolicy],
        control_panels: Mapping[str, Panel],
        seeds: list[int],
    ) -> list[Metric]:
        """What one household could still gain, by kind.

        It plays its exact best response to the economy that the others make.
        """
        gains = self._gains(learned, simulated, seeds)
        control_gains = {
            name: self._gains(policy, control_panels[name], seeds[:1])[0]
            for name, policy in controls.items()
        }
        worst = int(np.argmax(gains.mean(0)))  # a NaN, which all are then, is the largest
        several = gains.shape[1] > 1
        metrics = [
            Metric(
                "best_response_gain/exact",
                f"best-response gain, exact{', largest of all types' if several else ''}",
                float(gains.mean(0)[worst]),
                "% of consumption",
                *interval(gains[:, worst]),
                answer=0.0,
                limit=GAIN_LIMIT,
                controls={name: float(by_kind.max()) for name, by_kind in control_gains.items()},
                note="endogenous grid points against the learned economy's own law of motion, "
                "on the same jobs and prices",
            )
        ]
        if several:
            metrics += self._gains_by_kind(gains, control_gains)
        return metrics

    def _gains_by_kind(self, gains: Array, control_gains: Mapping[str, Array]) -> list[Metric]:
        """Each kind's own gain: `gains` `[seeds, kinds]`, a control's `[kinds]`."""
        return [
            Metric(
                f"best_response_gain/exact/type={kind}",
                f"best-response gain, kappa = {kappa:g}",
                float(gains.mean(0)[kind]),
                "% of consumption",
                *interval(gains[:, kind]),
                answer=0.0,
                controls={name: float(by_kind[kind]) for name, by_kind in control_gains.items()},
            )
            for kind, kappa in enumerate(self.kinds)
        ]

    def _gains(self, policy: SharePolicy, simulated: Panel, seeds: list[int]) -> Array:
        """Gains from the best response to an economy, in % of consumption: `[seeds, kinds]`.

        `[seeds, 1]` where kinds are too many to be told apart by samples. NaN where the household's
        problem cannot be solved against the economy's law of motion.
        """
        apart = len(self.kinds) if len(self.kinds) <= KINDS_APART else 1
        best = self._response(simulated)
        if best is None:
            return np.full((len(seeds), apart), math.nan)
        order = self._sorted(np.arange(len(self.parameters.capital_productivity)))
        rows = []
        for seed in seeds:
            gains, kinds = panel.deviation_gain(self.economy, simulated, order, policy, best, seed)
            by_kind = [gains[kinds == kind] for kind in range(apart)] if apart > 1 else [gains]
            rows.append([self._observer.in_units(float(of_kind.mean()))[0] for of_kind in by_kind])
        return np.array(rows)

    def _response(self, simulated: Panel) -> SharePolicy | None:
        """What is best for one household in an economy, or None where there is no solution.

        By endogenous grid points, for the law of motion that the economy follows.
        """
        grids = self.solution.grids
        low = float(simulated.K.min())
        high = float(simulated.K.max())
        if low < grids.K[0] or high > grids.K[-1]:  # an economy far from the answer's
            grids = replace(grids, K=np.linspace(0.9 * low, 1.1 * high, len(grids.K)))
        try:
            law = known.law_of_motion(simulated.K, simulated.z)
            consumption = known.solve_household(self.economy, grids, law)
        except (ConvergenceError, ValueError):
            return None
        best = replace(self.solution, law=law, grids=grids, policy=consumption)
        return lambda k, K, z, e, kind: best.share(k, K, z, e, self._sorted(kind))


def _unexplained(law: known.LawOfMotion) -> float:
    """Variance that a law leaves unexplained in its worse state, in %."""
    return 100 * (1 - min(law.r2))


def answer_key(parameters: KrusellSmithParameters) -> AnswerKey:
    """The equilibrium by endogenous grid points and a simulated distribution."""
    return KrusellSmithAnswer(parameters)
