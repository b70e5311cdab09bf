"""The judge of identical households: how far learned policies are from the planner's solution."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from rl_markets.envs.answer_key import Assessment, Metric, Plot
from rl_markets.envs.households import solution as known
from rl_markets.envs.households.answer.identical_dynamics import impulse_responses, transition
from rl_markets.envs.households.answer.identical_gains import best_response_gain
from rl_markets.envs.households.answer.identical_states import (
    HELD_OUT_CAPITAL,
    HELD_OUT_SD,
    WELFARE_LIMIT,
    Array,
    IdenticalHouseholds,
    StatePolicy,
    constant_policy,
)
from rl_markets.envs.households.answer.pictures import rules_over_capital
from rl_markets.envs.households.market import ACTION_HIGH, ACTION_LOW
from rl_markets.envs.market import PolicyFunction
from rl_markets.envs.numerics.statistics import interval

ACTIONS = ("consumption share", "labour")
ACCURACY_LIMIT = 1.0
"""The certificate's limit of policy errors, in %."""
SATURATED = 0.01
"""Within this share of its box from a bound, an action is saturated."""
PERIODS = 500
PATHS_PER_SEED = 20
MOMENTS = {"y": "output", "c": "consumption", "l": "labour", "i": "investment", "k": "capital"}

Controls = dict[str, StatePolicy]
"""Name -> a policy that a learned one is compared with."""


class HouseholdsAnswer(IdenticalHouseholds):
    """Closed form at full depreciation (delta = 1), Chebyshev collocation otherwise."""

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """The larger of both actions' mean relative errors at the held-out states, in %."""
        policy = self.each_policy(self.joined.policy(policies))
        return float(max(error.mean() for error in self.errors(policy)))

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Policy and Euler errors, welfare loss, best response, moments and impulse responses."""
        policy = self.joined.policy(policies)
        learned = self.state_policy(policy)
        controls = self._controls()
        controls["untrained network"] = self.state_policy(self.joined.policy(untrained))
        response_metrics, response_plots = impulse_responses(self, learned, controls, seeds[0])
        transition_metric, transition_plot = transition(self, learned, controls)
        metrics = [
            *self._policy_errors(self.each_policy(policy), controls),
            *self._first_order_conditions(learned, controls),
            *self._diagnostics(learned, controls, seeds[0]),
            self._welfare_loss(learned, controls, seeds),
            best_response_gain(self, policy),
            *self._moments(learned, seeds),
            *response_metrics,
            transition_metric,
        ]
        plots = [*self._policy_plots(learned), *response_plots, transition_plot]
        return Assessment(metrics, plots, methods=("exact", "log-linear"))

    def _controls(self) -> Controls:
        """From knowing nothing, through the best simple method, to the exact optimum."""
        return {
            "half of everything": constant_policy(0.5, 0.5),
            "constant actions": constant_policy(self.rest.chat, self.rest.l),
            "log-linear": known.solve_loglinear(self.economy).actions,
            "exact": self.exact,
        }

    def _policy_errors(self, learned: StatePolicy, controls: Controls) -> list[Metric]:
        """Mean and largest error of both actions; `learned` may tell households apart."""
        learned_errors = self.errors(learned)
        control_errors = {name: self.errors(policy) for name, policy in controls.items()}
        metrics = []
        for i, action in enumerate(ACTIONS):
            key = f"policy_error/{action.replace(' ', '_')}"
            metrics.append(
                Metric(
                    key,
                    f"error of the {action}, mean",
                    float(learned_errors[i].mean()),
                    "%",
                    controls={name: float(e[i].mean()) for name, e in control_errors.items()},
                    answer=0.0,
                    limit=ACCURACY_LIMIT,
                    note="relative to the answer, mean over capital in [.5, 2] of the steady state "
                    "and productivity within 2 sd",
                )
            )
            metrics.append(
                Metric(
                    f"{key}/max",
                    f"error of the {action}, largest",
                    float(learned_errors[i].max()),
                    "%",
                    controls={name: float(e[i].max()) for name, e in control_errors.items()},
                    answer=0.0,
                    note="the same, largest over those states",
                )
            )
        return metrics

    def _first_order_conditions(self, learned: StatePolicy, controls: Controls) -> list[Metric]:
        """Errors of the two conditions of an optimum, which need no known answer."""

        def euler(policy: StatePolicy) -> Array:
            return 100 * known.euler_errors(self.economy, policy, *self.held_out)

        def labour(policy: StatePolicy) -> Array:
            return 100 * known.labour_errors(self.economy, policy, *self.held_out)

        def metric(key: str, label: str, errors: Callable[[StatePolicy], Array], of: str) -> Metric:
            return Metric(
                key,
                label,
                float(errors(learned).mean()),
                "%",
                answer=0.0,
                note=f"{of}, at the held-out states",
                controls={name: float(errors(policy).mean()) for name, policy in controls.items()},
            )

        consumption = "of consumption against what tomorrow justifies, unit-free"
        signed = f"{consumption}; positive consumes too much everywhere"
        leisure = "of leisure's value against the wage, unit-free"
        return [
            metric("euler_error", "Euler error, mean", lambda p: np.abs(euler(p)), consumption),
            metric("euler_error/signed", "Euler error, signed mean", euler, signed),
            metric(
                "labour_error", "labour condition error, mean", lambda p: np.abs(labour(p)), leisure
            ),
        ]

    def _diagnostics(self, learned: StatePolicy, controls: Controls, seed: int) -> list[Metric]:
        """Whether actions stick to bounds, and whether the economy stays where it was trained."""
        rng = np.random.default_rng(seed)
        k = known.simulate(self.economy, learned, 1000, PATHS_PER_SEED, rng).k
        low, high = self.parameters.starts
        return [
            Metric(
                "saturated",
                "held-out states with an action at a bound",
                self._saturated(learned),
                "%",
                answer=0.0,
                controls={name: self._saturated(policy) for name, policy in controls.items()},
                note="within 1 % of the bound of its box",
            ),
            Metric(
                "off_support",
                "states outside those where training started",
                float(100 * ((k < low) | (k > high)).mean()),
                "%",
                answer=0.0,
                note="of capital in simulations of the learned economy",
            ),
        ]

    def _saturated(self, policy: StatePolicy) -> float:
        """Held-out states with an action at a bound, in %."""
        actions = np.stack(policy(*self.held_out))
        reach = SATURATED * (ACTION_HIGH - ACTION_LOW)
        at_bound = (actions < ACTION_LOW + reach) | (actions > ACTION_HIGH - reach)
        return float(100 * at_bound.any(0).mean())

    def returns(self, policy: StatePolicy, seeds: list[int]) -> Array:
        """Discounted utility from capital in [.5, 2] of the steady state, means by seed `[seeds]`.

        Starts and shocks are the same for every policy.
        """
        rngs = [np.random.default_rng(seed) for seed in seeds]
        # Each generator draws its shocks first, then its starts.
        shocks = np.concatenate([rng.standard_normal((PERIODS, PATHS_PER_SEED)) for rng in rngs], 1)
        low, high = np.log(HELD_OUT_CAPITAL)
        starts = np.concatenate(
            [self.rest.k * np.exp(rng.uniform(low, high, PATHS_PER_SEED)) for rng in rngs]
        )
        welfare = known.welfare(self.economy, policy, starts, shocks)
        return np.asarray(welfare.reshape(len(seeds), PATHS_PER_SEED).mean(1))

    def _welfare_loss(self, learned: StatePolicy, controls: Controls, seeds: list[int]) -> Metric:
        """In consumption equivalents, against the exact policy on the same shocks and starts."""
        best = self.returns(self.exact, seeds)

        def losses(policy: StatePolicy) -> Array:
            gaps = best - self.returns(policy, seeds)
            return np.array(
                [-100 * known.consumption_equivalent(self.economy, -float(gap)) for gap in gaps]
            )

        by_seed = losses(learned)
        return Metric(
            "welfare_loss",
            "welfare loss",
            float(by_seed.mean()),
            "% of consumption",
            *interval(by_seed),
            answer=0.0,
            controls={name: float(losses(policy).mean()) for name, policy in controls.items()},
            limit=WELFARE_LIMIT,
            note=f"consumption equivalent, {PERIODS} periods from capital in [.5, 2] of the "
            "steady state, same shocks",
        )

    def _moments(self, learned: StatePolicy, seeds: list[int]) -> list[Metric]:
        """Standard deviations of logs, ours and the answer's on the same shocks."""
        ours = self._volatility(learned, seeds)
        exact = self._volatility(self.exact, seeds)
        return [
            Metric(
                f"moments/sd_{name}",
                f"volatility of {label}",
                float(ours[name].mean()),
                "%",
                *interval(ours[name]),
                answer=float(exact[name].mean()),
                note="standard deviation of the log in simulations of 1000 periods",
            )
            for name, label in MOMENTS.items()
        ]

    def _volatility(self, policy: StatePolicy, seeds: list[int]) -> dict[str, Array]:
        """Variable -> standard deviation of its log, in %, for each seed `[seeds]`."""
        rng = np.random.default_rng(seeds)
        paths = PATHS_PER_SEED * len(seeds)
        # All seeds' paths side by side: a policy is asked once a period.
        together = known.simulate(self.economy, policy, 1000, paths, rng)
        by_seed = [known.moments(part) for part in together.split(len(seeds))]
        return {name: np.array([of_seed[name].sd for of_seed in by_seed]) for name in MOMENTS}

    def _policy_plots(self, learned: StatePolicy) -> list[Plot]:
        """Both actions over capital, at low, mean and high productivity."""
        return rules_over_capital(
            ACTIONS,
            self.exact,
            learned,
            name=self.name,
            rest=self.rest.k,
            multiples=np.exp(np.linspace(np.log(0.3), np.log(3.0), 80)),
            reach=HELD_OUT_SD * self.economy.tfp_sd,
            x_label="capital / steady state",
        )
