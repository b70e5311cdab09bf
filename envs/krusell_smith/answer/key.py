"""The known answer of the Krusell-Smith economy, and how far learned policies are from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_markets.envs.answer_key import AnswerKey, Assessment, Line, Metric, Plot
from rl_markets.envs.krusell_smith import solution as known
from rl_markets.envs.krusell_smith.answer import panel
from rl_markets.envs.krusell_smith.answer.panel import Array, Panel, SharePolicy
from rl_markets.envs.krusell_smith.market import KrusellSmith
from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters
from rl_markets.envs.market import PolicyFunction
from rl_markets.envs.numerics.statistics import interval
from rl_markets.errors import ConvergenceError

QUANTILES = np.linspace(0.02, 0.98, 25)
"""Held-out capital: quantiles of the answer's long-run distribution, type by type."""
AGGREGATE_REACH = (0.97, 1.0, 1.03)
"""Held-out K, in multiples of the answer's mean."""
MULTIPLES = (0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
"""Capital at which propensities to consume are compared, in multiples of mean capital."""
POLICY_LIMIT = 3.0
CAPITAL_LIMIT = 2.0
LAW_LIMIT = 0.5
DEN_HAAN_LIMIT = 2.0
GINI_LIMIT = 0.05
GAIN_LIMIT = 0.05
"""The certificate's limits: %, %, % unexplained, %, points, % of consumption."""
KINDS_APART = 10
"""Types whose gains are told apart, at the most: each needs many deviators."""
STATES = ("good", "bad")
PATHS = 4
"""Evaluation seeds that are simulated for long."""


class KrusellSmithAnswer(AnswerKey):
    """The competitive equilibrium: endogenous grid points, a simulated distribution, a law of
    motion that is brought about."""

    name = "Krusell-Smith equilibrium"

    def __init__(self, parameters: KrusellSmithParameters) -> None:
        p = self.parameters = parameters
        kinds, counts = np.unique(p.capital_productivity, return_counts=True)
        self.kinds: list[float] = kinds.tolist()
        self.economy = known.Economy(
            alpha=p.alpha,
            beta=p.beta,
            delta=p.delta,
            hours=p.hours,
            productivity=p.productivity,
            unemployment=p.unemployment,
            persistence=p.persistence,
            employment=p.employment,
            kappa=tuple(self.kinds),
            weights=tuple((counts / counts.sum()).tolist()),
        )
        self._observer = KrusellSmith(p, worlds=1)

    @cached_property
    def solution(self) -> known.Solution:
        """The equilibrium; a few seconds, once."""
        return known.solve(self.economy)

    # -- policies as functions of the state --------------------------------------------------------

    def exact(self, k: Array, K: Array, z: Array, e: Array, kind: NDArray[np.int64]) -> Array:
        """The answer's consumption share; `kind` counts the types in the order of the experiment's
        list."""
        return self.solution.share(
            k, K, np.asarray(z, np.int64), np.asarray(e, np.int64), self._sorted(kind)
        )

    def _sorted(self, kind: NDArray[np.int64]) -> NDArray[np.int64]:
        """The answer's number of a type, which counts different productivities in ascending
        order."""
        return np.searchsorted(
            self.kinds, np.asarray(self.parameters.capital_productivity)[np.asarray(kind)]
        )

    def share_policy(self, policy: PolicyFunction) -> SharePolicy:
        """A learned policy as (k, K, z, e, type) -> consumption share.

        Where households of a type learned different policies, each state is met by the next of them
        in turn.
        """
        households = self.parameters.households
        types = len(self.parameters.capital_productivity)
        separate = self.separate(policy)

        @torch.no_grad()
        def share(k: Array, K: Array, z: Array, e: Array, kind: NDArray[np.int64]) -> Array:
            columns = np.broadcast_arrays(k, K, z, e, kind)
            own, aggregate, state, job = (
                torch.tensor(np.ascontiguousarray(c).ravel()).float() for c in columns[:4]
            )
            seen = self._observer.features(
                own, aggregate, state, job, torch.tensor(columns[4].ravel())
            )
            if separate:
                place = (np.arange(len(seen)) // types * types % households) + columns[4].ravel()
                chosen = policy(seen[:, None].expand(-1, households, -1))[
                    torch.arange(len(seen)), torch.from_numpy(place)
                ]
            else:
                chosen = policy(seen)
            return chosen[:, 0].double().numpy().reshape(columns[0].shape)

        return share

    def separate(self, policy: PolicyFunction) -> bool:
        """Whether households of a type have policies of their own."""
        ten = torch.full((1, 1), 10.0)
        none = torch.zeros(1, 1)
        seen = self._observer.features(ten, ten, none, none, none.long())
        actions = policy(seen.expand(1, self.parameters.households, -1))
        return not bool(
            torch.allclose(actions, actions[:, :1], rtol=1e-5, atol=1e-6)
        )  # equal but for rounding

    @cached_property
    def held_out(self) -> tuple[tuple[Array, Array, Array, Array, NDArray[np.int64]], Array]:
        """States (k, K, z, e, type) and their weights in the long run, flat."""
        grid = self.solution.grids.histogram
        mass = self.solution.simulation.mean.sum(1)
        K = self.solution.mean_effective_capital * np.asarray(AGGREGATE_REACH)
        rows = []
        for kind in range(len(self.parameters.capital_productivity)):
            cumulated = np.cumsum(mass[self._sorted(np.asarray(kind))])
            k = np.interp(QUANTILES * cumulated[-1], cumulated, grid)
            rows += [
                (own, aggregate, z, e, kind, self.economy.head_count[z, e])
                for own in k
                for aggregate in K
                for z in range(2)
                for e in range(2)
            ]
        k, K, z, e, kinds, weights = (np.array(c) for c in zip(*rows, strict=True))
        return (k, K, z, e, kinds), weights / weights.sum()

    def errors(self, policy: SharePolicy) -> Array:
        """Relative errors of the consumption share at the held-out states, in %."""
        states, _ = self.held_out
        return 100 * np.abs(policy(*states) / self.exact(*states) - 1)

    # -- the contract ------------------------------------------------------------------------------

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """The mean relative error of the consumption share where households are in the long run, in
        %."""
        return float(self.errors(self.share_policy(policies["households"])) @ self.held_out[1])

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Policy errors, the law of motion that the learned economy follows, inequality,
        propensities, best response."""
        ours = self.share_policy(policies["households"])
        candidates = {
            "constant share": self._constant_share(),
            "untrained network": self.share_policy(untrained["households"]),
            "exact": self.exact,
        }
        start = self.solution.mean_effective_capital
        seeds = seeds[:PATHS]
        mine = panel.simulate(self.parameters, ours, start, seeds)
        theirs = {
            n: panel.simulate(self.parameters, p, start, seeds[:1]) for n, p in candidates.items()
        }
        metrics = [
            *self._policy_errors(ours, candidates),
            *self._capital(mine, theirs),
            *self._law(mine, theirs),
            *self._inequality(mine, theirs),
            *self._propensities(ours),
            *self._best_response(ours, mine, candidates, theirs, seeds),
        ]
        return Assessment(metrics, self._plots(ours, mine))

    def _constant_share(self) -> SharePolicy:
        """The best simple rule: everybody consumes the share that keeps the answer's capital."""
        K = self.solution.mean_effective_capital
        wealth = np.mean(
            [self.economy.output(K, z) + (1 - self.economy.delta) * K for z in range(2)]
        )
        share = float(1 - K / wealth)
        return lambda k, K, z, e, kind: np.full(
            np.broadcast_shapes(*map(np.shape, (k, K, z, e, kind))), share
        )

    def _policy_errors(self, ours: SharePolicy, candidates: dict[str, SharePolicy]) -> list[Metric]:
        (_, _, _, e, _), weights = self.held_out
        mine = self.errors(ours)
        theirs = {n: self.errors(p) for n, p in candidates.items()}
        jobless = weights * (e == known.UNEMPLOYED)
        rows = (
            ("", "mean", weights, POLICY_LIMIT),
            ("/unemployed", "mean, unemployed", jobless / jobless.sum(), None),
        )
        note = (
            "relative to the answer, at quantiles of its long-run distribution, K within 3 % "
            "of "
            "its mean"
        )
        found = [
            Metric(
                f"policy_error/consumption_share{key}",
                f"error of the consumption share, {label}",
                float(mine @ w),
                "%",
                answer=0.0,
                limit=limit,
                note=note,
                controls={n: float(x @ w) for n, x in theirs.items()},
            )
            for key, label, w, limit in rows
        ]
        largest = {n: float(x.max()) for n, x in theirs.items()}
        return [
            *found,
            Metric(
                "policy_error/consumption_share/max",
                "error of the consumption share, largest",
                float(mine.max()),
                "%",
                answer=0.0,
                controls=largest,
                note=note,
            ),
        ]

    def _capital(self, mine: Panel, theirs: dict[str, Panel]) -> list[Metric]:
        answer = self.solution.mean_effective_capital
        by_seed = mine.K.mean(0)

        def gap(p: Panel) -> float:
            return float(100 * abs(p.K.mean() / answer - 1))

        note = (
            f"{panel.HOUSEHOLDS:,} households, {panel.PERIODS:,} quarters after "
            f"{panel.BURN_IN:,}, from equal capital"
        )
        return [
            Metric(
                "capital_error",
                "error of mean capital",
                gap(mine),
                "%",
                answer=0.0,
                limit=CAPITAL_LIMIT,
                note=note,
                controls={n: gap(p) for n, p in theirs.items()},
            ),
            Metric(
                "capital",
                "mean effective capital",
                float(by_seed.mean()),
                "",
                *interval(by_seed),
                answer=answer,
                controls={n: float(p.K.mean()) for n, p in theirs.items()},
                note=note,
            ),
        ]

    def _law(self, mine: Panel, theirs: dict[str, Panel]) -> list[Metric]:
        """The regression of log K' on log K, and how it forecasts when it is iterated alone."""
        law = known.law_of_motion(mine.K, mine.z)
        answer = self.solution.law
        others = {n: known.law_of_motion(p.K, p.z) for n, p in theirs.items()}
        found = [
            Metric(
                "law/unexplained",
                "law of motion, variance unexplained",
                100 * (1 - min(law.r2)),
                "%",
                answer=100 * (1 - min(answer.r2)),
                limit=LAW_LIMIT,
                controls={n: 100 * (1 - min(x.r2)) for n, x in others.items()},
                note="1 - R2 of log K' on log K, the larger of both states; says little on its own",
            ),
            Metric(
                "law/den_haan",
                "law of motion, largest dynamic forecast error",
                known.den_haan(mine.K, mine.z, law)[0],
                "%",
                answer=self.solution.den_haan_max,
                limit=DEN_HAAN_LIMIT,
                controls={n: known.den_haan(p.K, p.z, others[n])[0] for n, p in theirs.items()},
                note="Den Haan (2010): the law alone, iterated over all quarters, against the "
                "simulated path",
            ),
        ]
        for i, state in enumerate(STATES):
            for key in ("slope", "intercept"):
                value = getattr(law, key)[i]
                exact = getattr(answer, key)[i]
                controls = {n: getattr(x, key)[i] for n, x in others.items()}
                found.append(
                    Metric(
                        f"law/{key}/{state}",
                        f"law of motion, {key} in the {state} state",
                        value,
                        answer=exact,
                        controls=controls,
                    )
                )
        return found

    def _inequality(self, mine: Panel, theirs: dict[str, Panel]) -> list[Metric]:
        answer = self.solution.gini
        by_seed = mine.gini
        note = "accumulation is close to a unit root: a policy error of 1 % moves it by .02 to .03"
        found = [
            Metric(
                "gini_error",
                "error of the Gini coefficient",
                abs(float(by_seed.mean()) - answer),
                "",
                answer=0.0,
                limit=GINI_LIMIT,
                controls={n: abs(float(p.gini.mean()) - answer) for n, p in theirs.items()},
                note=note,
            ),
            Metric(
                "gini",
                "Gini coefficient of capital",
                float(by_seed.mean()),
                "",
                *interval(by_seed),
                answer=answer,
                controls={n: float(p.gini.mean()) for n, p in theirs.items()},
                note=note,
            ),
        ]
        if len(self.kinds) > 1:
            exact = self.solution.mean_capital_by_type
            for kind, kappa in enumerate(self.kinds):
                of_kind = self._sorted(mine.types) == kind
                value = float(mine.capital[..., of_kind].mean())
                found.append(
                    Metric(
                        f"capital/kappa={kappa:g}",
                        f"mean capital where kappa = {kappa:g}",
                        value,
                        answer=float(exact[kind]),
                    )
                )
        return found

    @property
    def _first(self) -> int:
        """Where the experiment's list has the type that the answer counts first."""
        return int(np.argmin(self.parameters.capital_productivity))

    def propensities(self, policy: SharePolicy, k: Any, e: int) -> Array:
        """Consumption out of a windfall of 1 % of wealth, as a share of it, in the good state at
        mean K, of the first type."""
        K = self.solution.mean_effective_capital
        zeros = np.zeros(len(k), np.int64)
        wealth = self.economy.wealth(k, K, 0, e)
        slope = self.economy.wealth(1.0, K, 0, 1)
        richer = k + 0.01 * wealth / slope
        before, after = (
            policy(own, np.full(len(k), K), zeros, zeros + e, zeros + self._first)
            * self.economy.wealth(own, K, 0, e)
            for own in (k, richer)
        )
        return (after - before) / (0.01 * wealth)

    def _propensities(self, ours: SharePolicy) -> list[Metric]:
        k = self.solution.mean_capital * np.asarray(MULTIPLES)
        found = []
        for e, job in enumerate(("employed", "unemployed")):
            mine = self.propensities(ours, k, e)
            exact = self.propensities(self.exact, k, e)
            for i in (0, MULTIPLES.index(1.0)):
                found.append(
                    Metric(
                        f"mpc/{job}/{MULTIPLES[i]:g}",
                        f"propensity to consume, {job} with {MULTIPLES[i]:g} K",
                        float(mine[i]),
                        answer=float(exact[i]),
                        note="out of a windfall of 1 % of wealth, good state",
                    )
                )
        return found

    def _best_response(
        self,
        ours: SharePolicy,
        mine: Panel,
        candidates: dict[str, SharePolicy],
        theirs: dict[str, Panel],
        seeds: list[int],
    ) -> list[Metric]:
        """What one household could still gain by its exact best response to the economy that the
        others make, by type."""
        gains = self._gains(ours, mine, seeds)
        controls = {n: self._gains(p, theirs[n], seeds[:1])[0] for n, p in candidates.items()}
        worst = int(np.argmax(gains.mean(0)))  # a NaN, which all are then, is the largest
        several = gains.shape[1] > 1
        unit = "% of consumption"
        found = [
            Metric(
                "best_response_gain/exact",
                f"best-response gain, exact{', largest of all types' if several else ''}",
                float(gains.mean(0)[worst]),
                unit,
                *interval(gains[:, worst]),
                answer=0.0,
                limit=GAIN_LIMIT,
                controls={n: float(g.max()) for n, g in controls.items()},
                note="endogenous grid points against the learned economy's own law of motion, on "
                "the same jobs and prices",
            )
        ]
        for kind, kappa in enumerate(self.kinds if several else []):
            found.append(
                Metric(
                    f"best_response_gain/exact/type={kind}",
                    f"best-response gain, kappa = {kappa:g}",
                    float(gains.mean(0)[kind]),
                    unit,
                    *interval(gains[:, kind]),
                    answer=0.0,
                    controls={n: float(g[kind]) for n, g in controls.items()},
                )
            )
        return found

    def _gains(self, policy: SharePolicy, found: Panel, seeds: list[int]) -> Array:
        """In % of consumption `[seeds, kinds]`, `[seeds, 1]` where kinds are too many to be told
        apart by samples.

        NaN where the household's problem cannot be solved against the law found.
        """
        apart = len(self.kinds) if len(self.kinds) <= KINDS_APART else 1
        best = self._response(found)
        if best is None:
            return np.full((len(seeds), apart), math.nan)
        order = self._sorted(np.arange(len(self.parameters.capital_productivity)))
        rows = []
        for seed in seeds:
            gains, kinds = panel.deviation_gain(self.economy, found, order, policy, best, seed)
            of_kind = [gains[kinds == kind] for kind in range(apart)] if apart > 1 else [gains]
            rows.append([self._observer.in_units(float(g.mean()))[0] for g in of_kind])
        return np.array(rows)

    def _response(self, found: Panel) -> SharePolicy | None:
        """What is best for one household in an economy, by endogenous grid points; None where there
        is no solution."""
        grids = self.solution.grids
        low = float(found.K.min())
        high = float(found.K.max())
        if low < grids.K[0] or high > grids.K[-1]:  # an economy far from the answer's
            grids = replace(grids, K=np.linspace(0.9 * low, 1.1 * high, len(grids.K)))
        try:
            law = known.law_of_motion(found.K, found.z)
            consumption = known.solve_household(self.economy, grids, law)
        except (ConvergenceError, ValueError):
            return None
        best = replace(self.solution, law=law, grids=grids, policy=consumption)
        return lambda k, K, z, e, kind: best.share(k, K, z, e, self._sorted(kind))

    # -- pictures ----------------------------------------------------------------------------------

    def _plots(self, ours: SharePolicy, mine: Panel) -> list[Plot]:
        multiples = np.exp(np.linspace(np.log(0.01), np.log(4.0), 60))
        k = self.solution.mean_capital * multiples
        K = self.solution.mean_effective_capital
        zeros = np.zeros(len(k), np.int64)
        x = multiples.tolist()
        share = []
        spending = []
        for e, job in enumerate(("employed", "unemployed")):
            for policy, who, style in (
                (self.exact, self.name, "answer"),
                (ours, "learned", "ours"),
            ):
                chosen = policy(k, np.full(len(k), K), zeros, zeros + e, zeros + self._first)  # type: ignore[arg-type]
                share.append(Line(f"{who}, {job}", x, chosen.tolist(), style))
                spending.append(
                    Line(f"{who}, {job}", x, self.propensities(policy, k, e).tolist(), style)
                )
        axes = "capital / mean capital"
        return [
            Plot(
                "Consumption share of wealth",
                axes,
                "share, employed and unemployed",
                share,
                log_x=True,
            ),
            Plot(
                "Propensity to consume",
                axes,
                "of a windfall; upper: unemployed",
                spending,
                log_x=True,
            ),
            self._lorenz_figure(mine),
            self._law_figure(mine),
            *([self._wealth_figure(mine)] if len(self.kinds) > 1 else []),
        ]

    def _lorenz_figure(self, mine: Panel) -> Plot:
        people, held = known.lorenz(mine.capital[-1, 0])
        every = max(1, len(people) // 200)
        exact = self.solution.lorenz()
        shown = np.linspace(0, len(exact[0]) - 1, 200).astype(int)
        return Plot(
            "Lorenz curve of capital",
            "share of households",
            "share of capital",
            [
                Line("equality", [0.0, 1.0], [0.0, 1.0], "control"),
                Line(self.name, exact[0][shown].tolist(), exact[1][shown].tolist(), "answer"),
                Line("learned", people[::every].tolist(), held[::every].tolist(), "ours"),
            ],
        )

    def _law_figure(self, mine: Panel) -> Plot:
        K = mine.K[:-1, 0]
        following = mine.K[1:, 0]
        z = mine.z[:-1, 0]
        lines = []
        for i, state in enumerate(STATES):
            now = z == i
            ends = np.array([K[now].min(), K[now].max()])
            lines.append(
                Line(f"learned, {state}", K[now].tolist(), following[now].tolist(), "points")
            )
            lines.append(
                Line(
                    f"{self.name}, {state}",
                    ends.tolist(),
                    self.solution.law(ends, i).tolist(),
                    "answer",
                )
            )
        return Plot("Law of motion", "capital K", "K next quarter; upper: good state", lines)

    def _wealth_figure(self, mine: Panel) -> Plot:
        """Distribution of capital, type by type."""
        lines = []
        edges = np.linspace(0, np.quantile(mine.capital[-1], 0.99), 60)
        grid = self.solution.grids.histogram
        mass = self.solution.simulation.mean.sum(1)
        for kind, kappa in enumerate(self.kinds):
            own = mine.capital[..., self._sorted(mine.types) == kind].ravel()
            exact = np.interp(edges, grid, np.cumsum(mass[kind]) / mass[kind].sum())
            lines.append(Line(f"{self.name}, {kappa:g}", edges.tolist(), exact.tolist(), "answer"))
            below = np.searchsorted(np.sort(own), edges, side="right") / len(own)
            lines.append(Line(f"learned, {kappa:g}", edges.tolist(), below.tolist(), "ours"))
        return Plot(
            "Capital by type (right: higher kappa)", "capital", "share of the type below", lines
        )


def answer_key(parameters: KrusellSmithParameters) -> AnswerKey:
    """The equilibrium by endogenous grid points and a simulated distribution."""
    return KrusellSmithAnswer(parameters)
