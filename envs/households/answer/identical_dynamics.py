"""How a learned economy of identical households moves: after an impulse, and after growth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rl_markets.envs.answer_key import Line, Metric, Plot
from rl_markets.envs.households import solution as known
from rl_markets.envs.households.answer.identical_states import (
    Array,
    IdenticalHouseholds,
    StatePolicy,
)

SHOCK = 0.01
"""The impulse to log productivity."""
RESPONSE = 40
"""For how many periods it is followed."""
RESPONSE_LIMIT = 10.0
"""By how much responses may be off, in % of the answer's peak."""
RESPONSES = (("y", "Output"), ("c", "Consumption"), ("i", "Investment"), ("l", "Labour"))
JUDGED = RESPONSES[:3]
BAND = (0.05, 0.95)
"""Quantiles between which most of the answer's responses are."""
GROWTH = 0.1
"""The permanent rise of log productivity."""
TRANSITION = 60
"""For how many periods the transition is followed."""


def impulse_responses(
    answer: IdenticalHouseholds,
    learned: StatePolicy,
    controls: Mapping[str, StatePolicy],
    seed: int,
) -> tuple[list[Metric], list[Plot]]:
    """Responses to +1 % productivity: at rest, and from the states that the answer visits."""

    def response(policy: StatePolicy) -> dict[str, Array]:
        return known.impulse_response(answer.economy, policy, SHOCK, RESPONSE)

    ours = response(learned)
    exact = response(answer.exact)
    spread = known.generalised_responses(
        answer.economy, answer.exact, np.random.default_rng(seed), shock=SHOCK, periods=RESPONSE
    )
    bands = {v: np.quantile(spread[v], BAND, axis=1) for v, _ in RESPONSES}
    error = Metric(
        "impulse_response_error",
        "impulse responses, largest error",
        _response_error(ours, exact),
        "% of the peak",
        answer=0.0,
        # Under full depreciation any constant actions respond as the answer does.
        limit=None if answer.economy.delta == 1 else RESPONSE_LIMIT,
        controls={
            name: _response_error(response(policy), exact) for name, policy in controls.items()
        },
        note="of output, consumption and investment after +1 % productivity, 40 periods, "
        "relative to the answer's peak",
    )
    plots = [
        _response_plot(label, answer.name, ours[v], exact[v], bands[v]) for v, label in RESPONSES
    ]
    return [error, _outside_metric(ours, exact, bands)], plots


def _response_error(response: dict[str, Array], exact: dict[str, Array]) -> float:
    """The largest of all judged variables, in % of the exact response's peak."""
    return 100 * max(
        float(np.abs(response[v] - exact[v]).max() / np.abs(exact[v]).max()) for v, _ in JUDGED
    )


def _outside_metric(
    response: dict[str, Array], exact: dict[str, Array], bands: dict[str, Array]
) -> Metric:
    """How far a response is outside its band `[2, periods]`, in % of the exact one's peak."""
    outside = [
        np.abs(response[v] - np.clip(response[v], *bands[v])) / np.abs(exact[v]).max()
        for v, _ in JUDGED
    ]
    return Metric(
        "impulse_response_outside",
        "impulse responses, farthest outside the answer's band",
        float(100 * np.max(outside)),
        "% of the peak",
        answer=0.0,
        note="the band holds 90 % of the answer's responses from the states that it visits",
    )


def _response_plot(label: str, name: str, ours: Array, exact: Array, band: Array) -> Plot:
    periods = [float(t) for t in range(RESPONSE)]
    low, high = band.tolist()
    return Plot(
        f"{label} after +1 % productivity",
        "period",
        "% deviation",
        [
            Line(f"{name} from its states", periods, low, "answer", high),
            Line(name, periods, exact.tolist(), "answer"),
            Line("learned", periods, ours.tolist(), "ours"),
        ],
    )


def transition(
    answer: IdenticalHouseholds, learned: StatePolicy, controls: Mapping[str, StatePolicy]
) -> tuple[Metric, Plot]:
    """From the old rest to the new one, after productivity has risen for good."""
    start = known.start_after_growth(answer.economy, GROWTH)
    exact = known.perfect_foresight(answer.economy, start).k[:TRANSITION] / answer.rest.k

    def error(path: Array) -> float:
        return float(100 * np.abs(path / exact - 1).max())

    ours = _capital_path(answer, learned, start)
    control_errors = {
        name: error(_capital_path(answer, policy, start)) for name, policy in controls.items()
    }
    title = f"Capital after +{100 * GROWTH:g} % productivity for good"
    metric = Metric(
        "transition_error",
        "transition after permanent growth, largest error",
        error(ours),
        "% of capital",
        answer=0.0,
        controls=control_errors,
        note=f"{title.lower()}, {TRANSITION} periods without shocks, "
        "against the perfect-foresight path",
    )
    periods = [float(t) for t in range(TRANSITION)]
    lines = [
        Line("perfect foresight", periods, exact.tolist(), "answer"),
        Line("learned", periods, ours.tolist(), "ours"),
    ]
    return metric, Plot(title, "period", "capital / new balanced level", lines)


def _capital_path(answer: IdenticalHouseholds, policy: StatePolicy, start: float) -> Array:
    """Capital `[TRANSITION]` under `policy` without shocks, relative to the new balanced level."""
    k = np.empty(TRANSITION + 1)
    k[0] = start
    for t in range(TRANSITION):
        k[t + 1] = known.enact(answer.economy, policy, k[t : t + 1], np.zeros(1)).k_next[0]
    return k[:-1] / answer.rest.k
