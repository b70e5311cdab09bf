"""What one of identical households could still gain against the frozen policy of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_markets.envs.answer_key import Metric
from rl_markets.envs.households import economics
from rl_markets.envs.households import solution as known
from rl_markets.envs.households.answer.identical_states import (
    HELD_OUT_CAPITAL,
    WELFARE_LIMIT,
    Array,
    IdenticalHouseholds,
)
from rl_markets.envs.households.market import Households
from rl_markets.envs.market import PolicyFunction
from rl_markets.envs.paths import PathDeviation
from rl_markets.errors import ConvergenceError

CROWD = 100
"""Households among whom one is a price taker."""
TRIED = 12
"""How many households are tried as deviators where they differ in what they learned."""


def best_response_gain(answer: IdenticalHouseholds, policy: PolicyFunction) -> Metric:
    """What one household could still gain, by solving its problem against the frozen others."""
    n = answer.parameters.households
    if n > 1 and answer.parameters.conduct == "price-taking":
        # At given prices the dynamic programme is too ill-conditioned to be trusted.
        return _path_gain(answer, policy, CROWD, f"one of {CROWD} who hardly moves prices")
    note = (
        "dynamic programme of one household, its effect on prices known to it, "
        "against the frozen others"
    )
    try:
        others = answer.household_policy(policy)
        response = known.best_response(answer.economy, others, n, price_taking=False)
    except ConvergenceError as error:
        if n == 1:
            return _exact_gain(float("nan"), f"{note}: {error}")
        # Frozen policies that are steep far from where anybody goes can keep it from settling.
        return _path_gain(answer, policy, n, f"one of {n} (the {note}, did not settle)")
    k = answer.rest.k * np.geomspace(*HELD_OUT_CAPITAL, 9)
    gain = float(np.mean(response.gain_percent(k, k, np.zeros_like(k))))
    precision = "; precise to about .005 %" if n > 1 else ""
    return _exact_gain(gain, f"{note}, mean over capital in [.5, 2] of the steady state{precision}")


def _exact_gain(gain: float, note: str) -> Metric:
    return Metric(
        "best_response_gain/exact",
        "best-response gain, exact",
        gain,
        "% of consumption",
        answer=0.0,
        limit=WELFARE_LIMIT,
        note=note,
    )


def _path_gain(answer: IdenticalHouseholds, policy: PolicyFunction, n: int, who: str) -> Metric:
    """What one could gain by its best path, without shocks.

    Where all do the same, the deviator is one of `n`, as `who` says; else it is each of the
    households, or some of them, in turn.
    """
    at_rest = np.full(1, answer.rest.k)
    shares = answer.households_policy(policy)(at_rest, at_rest, np.zeros(1))[0]
    alike = shares.shape[-1] == 1
    if alike:
        k = answer.rest.k * np.geomspace(*HELD_OUT_CAPITAL, 5)
        agents = np.zeros(len(k), np.int64)
        who = f"{who}; mean over capital in [.5, 2] of the steady state"
    else:
        n = answer.parameters.households
        agents = np.unique(np.linspace(0, n - 1, TRIED).astype(np.int64))
        k = np.full(len(agents), answer.rest.k)
        who = f"{who}; the largest of {len(agents)} at rest"
    gains = _path_gains(answer, policy, n, k, agents)
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
    answer: IdenticalHouseholds,
    policy: PolicyFunction,
    n: int,
    k: Array,
    agents: NDArray[np.int64],
) -> Array:
    """Gains `[worlds]` in % of consumption: in each world all start alike, and one deviates.

    All n households of a world start from its entry of `k` `[worlds]`; its deviator is its entry
    of `agents` `[worlds]`.
    """
    p = answer.parameters
    # Cooperative conduct lets all gradients pass: the deviator's own effect on prices counts.
    calm: dict[str, Any] = {
        "households": n,
        "groups": {},
        "conduct": "cooperative",
        "sigma": 0.0,
        "episode_length": 10**6,
        "capital_productivity": p.capital_productivity[:1],
        "labour_productivity": p.labour_productivity[:1],
    }
    market = Households(
        p.model_copy(update=calm), worlds=len(k), dtype=torch.float64, stagger=False
    )
    market.reset(0)
    state = {name: torch.zeros_like(value) for name, value in market.state.items()}
    labour = answer.exact(k, np.zeros_like(k))[1]
    for name, values in (("capital", k), ("labour", labour)):
        state[name] = torch.from_numpy(values)[:, None].expand(-1, n).clone()
    deviation = PathDeviation(
        market, {"households": policy}, "households", torch.from_numpy(agents), p.beta
    )
    gains = deviation.gains(state)
    return np.array([economics.consumption_equivalent(float(gain), p.beta) for gain in gains])
