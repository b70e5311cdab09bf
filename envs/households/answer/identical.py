"""The known answer of identical households: the planner's solution, and how far learned policies
are from it.

Identical households that start alike solve the planner's problem whatever their number: at
symmetric states a household's own effect on prices cancels (Euler's theorem). Held-out states are
therefore symmetric, k_i = K.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from rl_markets.envs.answer_key import AnswerKey, Assessment, Line, Metric, Plot
from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.households import economics
from rl_markets.envs.households import solution as known
from rl_markets.envs.households.market import ACTION_HIGH, ACTION_LOW, Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import PolicyFunction
from rl_markets.envs.numerics.statistics import interval
from rl_markets.envs.paths import PathDeviation
from rl_markets.errors import ConvergenceError

Array = NDArray[np.float64]
StatePolicy = Callable[[Array, Array], tuple[Array, Array]]
"""(k, log A) -> (consumption share, labour), at symmetric states."""

ACTIONS = ("consumption share", "labour")
HELD_OUT_CAPITAL = (0.5, 2.0)
"""Held-out capital, in multiples of the steady state."""
HELD_OUT_SD = 2.0
"""Held-out productivity, in standard deviations either way."""
ACCURACY_LIMIT = 1.0
WELFARE_LIMIT = 0.05
"""The certificate's limits: policy error in %, losses in % of consumption."""
CROWD = 100
TRIED = 12
"""Households among whom one is a price taker; how many of different ones are tried as deviators."""
SATURATED = 0.01
"""Within this share of its box from a bound, an action is saturated."""
PERIODS = 500
PATHS_PER_SEED = 20
SHOCK = 0.01
RESPONSE = 40
RESPONSE_LIMIT = 10.0
"""The impulse to log productivity, for how many periods it is followed, and by how much of the peak
responses may be off."""
RESPONSES = (("y", "Output"), ("c", "Consumption"), ("i", "Investment"), ("l", "Labour"))
JUDGED = RESPONSES[:3]
BAND = (0.05, 0.95)
GROWTH = 0.1
TRANSITION = 60
"""The permanent rise of log productivity, and for how many periods the transition is followed."""


@dataclass(frozen=True)
class _Candidate:
    name: str
    policy: StatePolicy


class HouseholdsAnswer(AnswerKey):
    """Closed form at full depreciation (delta = 1), Chebyshev collocation otherwise."""

    def __init__(self, parameters: HouseholdsParameters) -> None:
        p = self.parameters = parameters
        self.economy = known.Economy(
            alpha=p.alpha, beta=p.beta, delta=p.delta, b=p.b, rho=p.rho, sigma=p.sigma
        )
        self.rest = known.steady_state(self.economy)
        self.name = "closed form" if p.delta == 1 else "RBC solution"  # type: ignore[misc]
        self.joined = JoinedGroups(p.group_sizes)
        one = {"households": 1, "groups": {}, "capital_productivity": p.capital_productivity[:1]}
        one |= {"labour_productivity": p.labour_productivity[:1]}
        self._observer = Households(p.model_copy(update=one), worlds=1)

    # -- policies as functions of the state --------------------------------------------------------

    @cached_property
    def exact(self) -> StatePolicy:
        """The known answer."""
        if self.economy.delta == 1:
            return _constant(*known.closed_form(self.economy))
        return known.solve_collocation(self.economy).actions

    def households_policy(self, policy: PolicyFunction) -> known.HouseholdPolicy:
        """A learned policy as (own k, K, log A) -> (consumption shares, labours) `[...,
        households]`.

        Where every household does the same, one stands for all: `[..., 1]`. Last period's labour,
            which they also
        observe but which moves nothing, is what the known answer works.
        """

        @torch.no_grad()
        def act(k: Array, K: Array, z: Array, households: int) -> tuple[Array, Array]:
            labour = self.exact(K, z)[1]
            columns = [
                torch.tensor(x, dtype=torch.float32).reshape(-1, 1)
                for x in (k, K, labour, labour, np.exp(z))
            ]
            actions = (
                policy(self._observer.features(*columns).expand(-1, households, -1))
                .double()
                .numpy()
            )
            return tuple(actions[..., i].reshape(*np.shape(k), households) for i in range(2))  # type: ignore[return-value]

        households = 1 if self._shared(act) else self.parameters.households
        return lambda k, K, z: act(k, K, z, households)

    def _shared(self, act: Callable[[Array, Array, Array, int], tuple[Array, Array]]) -> bool:
        """Whether every household does the same, but for rounding, so that one stands for all."""
        k, z = self.held_out
        everybody = act(k, k, z, self.parameters.households)
        alike = all(np.allclose(x, x[..., :1], rtol=1e-5, atol=1e-6) for x in everybody)
        return alike and len(self.joined.counts) == 1

    def household_policy(self, policy: PolicyFunction) -> known.HouseholdPolicy:
        """The same, as the mean over households."""
        act = self.households_policy(policy)

        def mean(k: Array, K: Array, z: Array) -> tuple[Array, Array]:
            share, labour = act(k, K, z)
            return share.mean(-1), labour.mean(-1)

        return mean

    def state_policy(self, policy: PolicyFunction) -> StatePolicy:
        """A learned policy at symmetric states; the mean where households differ in what they
        learned."""
        act = self.household_policy(policy)
        return lambda k, z: act(k, k, z)

    def each_policy(self, policy: PolicyFunction) -> StatePolicy:
        """A learned policy at symmetric states, household by household `[..., households]`."""
        act = self.households_policy(policy)
        return lambda k, z: act(k, k, z)

    @cached_property
    def held_out(self) -> tuple[Array, Array]:
        """States that no policy was trained on in particular: a grid over capital and
        productivity."""
        low, high = (np.log(multiple * self.rest.k) for multiple in HELD_OUT_CAPITAL)
        reach = HELD_OUT_SD * self.economy.tfp_sd
        k, z = np.meshgrid(
            np.exp(np.linspace(low, high, 41)), np.linspace(-reach, reach, 9), indexing="ij"
        )
        return k.ravel(), z.ravel()

    def errors(self, policy: StatePolicy) -> tuple[Array, Array]:
        """Relative errors of both actions at the held-out states, in %; of each household where
        `policy` tells them apart."""
        ours = policy(*self.held_out)
        exact = self.exact(*self.held_out)
        share, labour = (
            100 * np.abs(mine.reshape(len(true), -1) / true[:, None] - 1)
            for mine, true in zip(ours, exact, strict=True)
        )
        return share, labour

    # -- the contract ------------------------------------------------------------------------------

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """The larger of both actions' mean relative errors at the held-out states, in %."""
        return float(
            max(
                error.mean()
                for error in self.errors(self.each_policy(self.joined.policy(policies)))
            )
        )

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Policy and Euler errors, welfare loss, best response, moments and impulse responses."""
        learned = self.joined.policy(policies)
        other = self.joined.policy(untrained)
        ours = self.state_policy(learned)
        controls = [*self._controls(), _Candidate("untrained network", self.state_policy(other))]
        moments = self._moments(ours, seeds)
        responses = self._responses(ours, controls, seeds[0])
        transition = self._transition(ours, controls)
        metrics = [
            *self._policy_errors(self.each_policy(learned), controls),
            *self._first_order_conditions(ours, controls),
            *self._diagnostics(ours, controls, seeds[0]),
            self._welfare_loss(ours, controls, seeds),
            self._best_response(learned),
            *moments,
            *responses[0],
            transition[0],
        ]
        return Assessment(metrics, [*self._policy_figures(ours), *responses[1], transition[1]])

    def _controls(self) -> list[_Candidate]:
        """From knowing nothing, through the best simple method, to the exact optimum."""
        linear = known.solve_loglinear(self.economy)
        return [
            _Candidate("half of everything", _constant(0.5, 0.5)),
            _Candidate("constant actions", _constant(self.rest.chat, self.rest.l)),
            _Candidate("log-linear", linear.actions),
            _Candidate("exact", self.exact),
        ]

    def _policy_errors(self, ours: StatePolicy, controls: list[_Candidate]) -> list[Metric]:
        mine = self.errors(ours)
        theirs = [(c.name, self.errors(c.policy)) for c in controls]
        note = (
            "relative to the answer, mean over capital in [.5, 2] of the steady state and "
            "productivity within 2 sd"
        )
        metrics = []
        for i, action in enumerate(ACTIONS):
            key = f"policy_error/{action.replace(' ', '_')}"
            controls_mean = {name: float(e[i].mean()) for name, e in theirs}
            metrics.append(
                Metric(
                    key,
                    f"error of the {action}, mean",
                    float(mine[i].mean()),
                    "%",
                    controls=controls_mean,
                    answer=0.0,
                    limit=ACCURACY_LIMIT,
                    note=note,
                )
            )
            controls_max = {name: float(e[i].max()) for name, e in theirs}
            metrics.append(
                Metric(
                    f"{key}/max",
                    f"error of the {action}, largest",
                    float(mine[i].max()),
                    "%",
                    controls=controls_max,
                    answer=0.0,
                    note="the same, largest over those states",
                )
            )
        return metrics

    def _first_order_conditions(
        self, ours: StatePolicy, controls: list[_Candidate]
    ) -> list[Metric]:
        def errors(diagnose: Callable[..., Array], policy: StatePolicy) -> Array:
            return 100 * diagnose(self.economy, policy, *self.held_out)

        consumption = "of consumption against what tomorrow justifies, unit-free"
        rows: tuple[tuple[str, str, Callable[..., Array], Callable[[Array], Array], str], ...] = (
            ("euler_error", "Euler error, mean", known.euler_errors, np.abs, consumption),
            (
                "euler_error/signed",
                "Euler error, signed mean",
                known.euler_errors,
                np.array,
                f"{consumption}; positive consumes too much everywhere",
            ),
            (
                "labour_error",
                "labour condition error, mean",
                known.labour_errors,
                np.abs,
                "of leisure's value against the wage, unit-free",
            ),
        )
        return [
            Metric(
                key,
                label,
                float(size(errors(diagnose, ours)).mean()),
                "%",
                answer=0.0,
                note=f"{what}, at the held-out states",
                controls={c.name: float(size(errors(diagnose, c.policy)).mean()) for c in controls},
            )
            for key, label, diagnose, size, what in rows
        ]

    def _diagnostics(
        self, ours: StatePolicy, controls: list[_Candidate], seed: int
    ) -> list[Metric]:
        """Whether actions stick to their bounds, and whether the learned economy stays where it was
        trained."""

        def saturated(policy: StatePolicy) -> float:
            actions = np.stack(policy(*self.held_out))
            reach = SATURATED * (ACTION_HIGH - ACTION_LOW)
            return float(
                100
                * ((actions < ACTION_LOW + reach) | (actions > ACTION_HIGH - reach)).any(0).mean()
            )

        low, high = self.parameters.initial_capital
        k = known.simulate(self.economy, ours, 1000, PATHS_PER_SEED, np.random.default_rng(seed)).k
        return [
            Metric(
                "saturated",
                "held-out states with an action at a bound",
                saturated(ours),
                "%",
                answer=0.0,
                controls={c.name: saturated(c.policy) for c in controls},
                note="within 1 % of the bound of its box",
            ),
            Metric(
                "off_support",
                "states outside those where training started",
                float(100 * ((k < low) | (k > high)).mean()),
                "%",
                answer=0.0,
                note="of capital in simulations of the learned economy, against initial_capital",
            ),
        ]

    def returns(self, policy: StatePolicy, seeds: list[int]) -> Array:
        """Discounted utility from capital in [.5, 2] of the steady state, a mean for each seed
        `[seeds]`.

        Starts and shocks are the same for every policy.
        """
        draws = [np.random.default_rng(seed) for seed in seeds]
        shocks = np.concatenate(
            [rng.standard_normal((PERIODS, PATHS_PER_SEED)) for rng in draws], 1
        )
        low, high = np.log(HELD_OUT_CAPITAL)
        starts = np.concatenate(
            [self.rest.k * np.exp(rng.uniform(low, high, PATHS_PER_SEED)) for rng in draws]
        )
        found = known.welfare(self.economy, policy, starts, shocks).reshape(
            len(seeds), PATHS_PER_SEED
        )
        return np.asarray(found.mean(1))

    def _welfare_loss(
        self, ours: StatePolicy, controls: list[_Candidate], seeds: list[int]
    ) -> Metric:
        """In consumption equivalents, paired with the exact policy on the same shocks and
        starts."""
        best = self.returns(self.exact, seeds)

        def losses(policy: StatePolicy) -> Array:
            gaps = best - self.returns(policy, seeds)
            return np.array(
                [-100 * known.consumption_equivalent(self.economy, -float(g)) for g in gaps]
            )

        mine = losses(ours)
        return Metric(
            "welfare_loss",
            "welfare loss",
            float(mine.mean()),
            "% of consumption",
            *interval(mine),
            answer=0.0,
            controls={c.name: float(losses(c.policy).mean()) for c in controls},
            limit=WELFARE_LIMIT,
            note=f"consumption equivalent, {PERIODS} periods from capital in [.5, 2] of the steady "
            "state, same shocks",
        )

    def _best_response(self, policy: PolicyFunction) -> Metric:
        """What one household could still gain, by solving its problem against the frozen others."""
        n = self.parameters.households
        unit = "% of consumption"
        key = "best_response_gain/exact"
        label = "best-response gain, exact"
        if n > 1 and self.parameters.conduct == "price-taking":
            return self._path_gain(policy)
        note = (
            "dynamic programme of one household, its effect on prices known to it, against the "
            "frozen others"
        )
        try:
            found = known.best_response(
                self.economy, self.household_policy(policy), n, price_taking=False
            )
        except ConvergenceError as error:
            return Metric(
                key,
                label,
                float("nan"),
                unit,
                answer=0.0,
                limit=WELFARE_LIMIT,
                note=f"{note}: {error}",
            )
        k = self.rest.k * np.geomspace(*HELD_OUT_CAPITAL, 9)
        gain = float(np.mean(found.gain_percent(k, k, np.zeros_like(k))))
        precision = "; precise to about .005 %" if n > 1 else ""
        return Metric(
            key,
            label,
            gain,
            unit,
            answer=0.0,
            limit=WELFARE_LIMIT,
            note=f"{note}, mean over capital in [.5, 2] of the steady state{precision}",
        )

    def _path_gain(self, policy: PolicyFunction) -> Metric:
        """What a price taker could gain by its best path, without shocks.

        At given prices the dynamic programme is too ill-conditioned to be trusted. Where all do the
        same, the deviator is one of so many that it hardly moves prices; else it is each of the
        households, or some of them, in turn.
        """
        at_rest = np.full(1, self.rest.k)
        alike = self.households_policy(policy)(at_rest, at_rest, np.zeros(1))[0].shape[-1] == 1
        if alike:
            n = CROWD
            k = self.rest.k * np.geomspace(*HELD_OUT_CAPITAL, 5)
            agents = np.zeros(len(k), np.int64)
            who = (
                f"one of {n} households, who hardly moves prices; mean over capital in [.5, 2] "
                "of the steady state"
            )
        else:
            n = self.parameters.households
            agents = np.unique(np.linspace(0, n - 1, TRIED).astype(np.int64))
            k = np.full(len(agents), self.rest.k)
            who = f"one of {n} households at rest; the largest of {len(agents)}"
        gains = self._path_gains(policy, n, k, agents)
        return Metric(
            "best_response_gain/path",
            "best-response gain, without shocks",
            float(gains.mean() if alike else gains.max()),
            "% of consumption",
            answer=0.0,
            limit=WELFARE_LIMIT,
            note=f"the best path of actions of {who}; against the frozen others",
        )

    def _path_gains(
        self, policy: PolicyFunction, n: int, k: Array, agents: NDArray[np.int64]
    ) -> Array:
        """In % of consumption: in each world all n households start from capital `k`, and one of
        `agents` deviates."""
        p = self.parameters
        calm = {
            "households": n,
            "groups": {},
            "conduct": "cooperative",
            "sigma": 0.0,
            "episode_length": 10**6,
        }
        calm |= {
            name: getattr(p, name)[:1] for name in ("capital_productivity", "labour_productivity")
        }
        market = Households(
            p.model_copy(update=calm), worlds=len(k), dtype=torch.float64, stagger=False
        )
        market.reset(0)
        state = {name: torch.zeros_like(value) for name, value in market.state.items()}
        state["capital"], state["labour"] = (
            torch.from_numpy(x)[:, None].expand(-1, n).clone()
            for x in (k, self.exact(k, np.zeros_like(k))[1])
        )
        path = PathDeviation(
            market, {"households": policy}, "households", torch.from_numpy(agents), p.beta
        )
        return np.array(
            [economics.consumption_equivalent(float(g), p.beta) for g in path.gains(state)]
        )

    def _moments(self, ours: StatePolicy, seeds: list[int]) -> list[Metric]:
        """Standard deviations of logs, ours and the answer's on the same shocks."""

        def table(policy: StatePolicy) -> dict[str, Array]:
            rows = []
            for seed in seeds:
                found = known.moments(
                    known.simulate(
                        self.economy, policy, 1000, PATHS_PER_SEED, np.random.default_rng(seed)
                    )
                )
                rows.append({name: found[name].sd for name in ("y", "c", "l", "i", "k")})
            return {name: np.array([row[name] for row in rows]) for name in rows[0]}

        mine = table(ours)
        exact = table(self.exact)
        labels = {
            "y": "output",
            "c": "consumption",
            "l": "labour",
            "i": "investment",
            "k": "capital",
        }
        return [
            Metric(
                f"moments/sd_{name}",
                f"volatility of {label}",
                float(mine[name].mean()),
                "%",
                *interval(mine[name]),
                answer=float(exact[name].mean()),
                note="standard deviation of the log in simulations of 1000 periods",
            )
            for name, label in labels.items()
        ]

    def _responses(
        self, ours: StatePolicy, controls: list[_Candidate], seed: int
    ) -> tuple[list[Metric], list[Plot]]:
        """Impulse responses to +1 % productivity: at rest, and from the states that the answer
        visits."""
        mine, exact = (
            known.impulse_response(self.economy, p, SHOCK, RESPONSE) for p in (ours, self.exact)
        )

        def error(response: dict[str, Array]) -> float:
            return 100 * max(
                float(np.abs(response[v] - exact[v]).max() / np.abs(exact[v]).max())
                for v, _ in JUDGED
            )

        others = {
            c.name: error(known.impulse_response(self.economy, c.policy, SHOCK, RESPONSE))
            for c in controls
        }
        spread = known.generalised_responses(
            self.economy, self.exact, np.random.default_rng(seed), shock=SHOCK, periods=RESPONSE
        )
        bands = {v: np.quantile(spread[v], BAND, axis=1) for v, _ in RESPONSES}
        outside = [
            np.abs(mine[v] - np.clip(mine[v], *bands[v])) / np.abs(exact[v]).max()
            for v, _ in JUDGED
        ]
        metrics = [
            Metric(
                "impulse_response_error",
                "impulse responses, largest error",
                error(mine),
                "% of the peak",
                answer=0.0,
                limit=None if self.economy.delta == 1 else RESPONSE_LIMIT,
                controls=others,  # any constants do there
                note="of output, consumption and investment after +1 % productivity, 40 periods, "
                "relative to the answer's peak",
            ),
            Metric(
                "impulse_response_outside",
                "impulse responses, farthest outside the answer's band",
                float(100 * np.max(outside)),
                "% of the peak",
                answer=0.0,
                note="the band holds 90 % of the answer's responses from the states that it visits",
            ),
        ]
        periods = [float(t) for t in range(RESPONSE)]
        plots = [
            Plot(
                f"{label} after +1 % productivity",
                "period",
                "% deviation",
                [
                    Line(
                        f"{self.name} from its states",
                        periods,
                        bands[v][0].tolist(),
                        "answer",
                        bands[v][1].tolist(),
                    ),
                    Line(self.name, periods, exact[v].tolist(), "answer"),
                    Line("learned", periods, mine[v].tolist(), "ours"),
                ],
            )
            for v, label in RESPONSES
        ]
        return metrics, plots

    def _transition(self, ours: StatePolicy, controls: list[_Candidate]) -> tuple[Metric, Plot]:
        """From the old rest to the new one, after productivity has risen for good."""
        start = known.start_after_growth(self.economy, GROWTH)
        answer = known.perfect_foresight(self.economy, start).k[:TRANSITION] / self.rest.k

        def path(policy: StatePolicy) -> Array:
            k = np.empty(TRANSITION + 1)
            k[0] = start
            for t in range(TRANSITION):
                k[t + 1] = known.enact(self.economy, policy, k[t : t + 1], np.zeros(1)).k_next[0]
            return k[:-1] / self.rest.k

        def error(found: Array) -> float:
            return float(100 * np.abs(found / answer - 1).max())

        mine = path(ours)
        title = f"Capital after +{100 * GROWTH:g} % productivity for good"
        metric = Metric(
            "transition_error",
            "transition after permanent growth, largest error",
            error(mine),
            "% of capital",
            answer=0.0,
            controls={c.name: error(path(c.policy)) for c in controls},
            note=f"{title.lower()}, {TRANSITION} periods without shocks, against the "
            "perfect-foresight path",
        )
        periods = [float(t) for t in range(TRANSITION)]
        lines = [
            Line("perfect foresight", periods, answer.tolist(), "answer"),
            Line("learned", periods, mine.tolist(), "ours"),
        ]
        return metric, Plot(title, "period", "capital / new balanced level", lines)

    def _policy_figures(self, ours: StatePolicy) -> list[Plot]:
        """Both actions over capital, at low, mean and high productivity."""
        multiples = np.exp(np.linspace(np.log(0.3), np.log(3.0), 80))
        reach = HELD_OUT_SD * self.economy.tfp_sd
        x = multiples.tolist()
        plots = []
        for i, action in enumerate(ACTIONS):
            lines = []
            for z, label in ((-reach, "low A"), (0.0, "mean A"), (reach, "high A")):
                k = multiples * self.rest.k
                zs = np.full_like(multiples, z)
                lines.append(
                    Line(f"{self.name}, {label}", x, self.exact(k, zs)[i].tolist(), "answer")
                )
                lines.append(Line(f"learned, {label}", x, ours(k, zs)[i].tolist(), "ours"))
            plots.append(
                Plot(action.capitalize(), "capital / steady state", action, lines, log_x=True)
            )
        return plots


def _constant(share: float, labour: float) -> StatePolicy:
    return lambda k, z: (np.full_like(k, share), np.full_like(k, labour))
