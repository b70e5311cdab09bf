"""The best linear reaction, against what the known answer gains in the same place."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_markets.envs.in_play import gains_in_place, reach
from rl_markets.envs.market import PolicyFunction
from rl_markets.envs.paths import Deviation
from rl_markets.envs.reactions import Reaction, best_reaction
from rl_markets.experiment import Experiment, load
from rl_markets.rllib.build import build_market
from tests.support.running import ROOT

WORLDS = 12
SEED = 3
PRODUCTIVITY = 4
"""Column of the observation."""


def economy() -> Experiment:
    """One household, whose answer is the planner's: with more, each gains by moving prices."""
    file = ROOT / "tune_configs" / "households-rbc.yaml"
    return load(file, ["market.parameters.households=1"])


def answer(experiment: Experiment) -> PolicyFunction:
    key = experiment.answer_key()
    assert key is not None
    policies = key.policies(build_market(experiment, "cpu", 1))
    assert policies is not None
    return policies["households"]


def fooled_by_shocks(policy: PolicyFunction) -> PolicyFunction:
    """The answer, but for working and consuming too much when productivity is high."""

    def act(seen: Tensor) -> Tensor:
        high = torch.tanh(8 * seen[..., PRODUCTIVITY : PRODUCTIVITY + 1])
        return (policy(seen) * (1 + 0.3 * high)).clamp(0.011, 0.98).to(seen.dtype)

    return act


def reaction(experiment: Experiment, policy: PolicyFunction) -> Reaction:
    market = build_market(experiment, "cpu", WORLDS)
    policies = {"households": policy}
    seen = reach(market, policies, SEED, 30)["households"].flatten(0, 1)
    parameters = experiment.market_parameters
    transparent = experiment.market_spec.build_transparent(parameters, worlds=WORLDS)
    transparent.reset(0)
    state = {n: v.to(transparent.state[n].dtype) for n, v in market.state.items()}
    leaving = torch.zeros(WORLDS, dtype=torch.int64)
    deviation = Deviation(
        transparent, policies, "households", leaving, experiment.gamma("households")
    )
    return best_reaction(deviation, state, seen, seed=SEED)


def gain(experiment: Experiment, policy: PolicyFunction, instead: PolicyFunction) -> float:
    """In % of consumption, on shocks that nobody saw before."""
    market = build_market(experiment, "cpu", WORLDS)
    leaving = torch.ones(WORLDS, 1, dtype=torch.bool)
    gamma = experiment.gamma("households")
    policies = {"households": policy}
    found = gains_in_place(
        market, policies, "households", instead, leaving, gamma, seed=SEED + 1, burn_in=30
    )
    return market.in_units(float(found.gain.mean()))[0]


def test_it_recovers_what_reacting_wrongly_to_shocks_costs() -> None:
    experiment = economy()
    right = answer(experiment)
    wrong = fooled_by_shocks(right)
    lost = gain(experiment, wrong, right)
    assert lost > 0.2
    recovered = gain(experiment, wrong, reaction(experiment, wrong).policy(wrong))
    assert 0.8 * lost < recovered < 1.05 * lost


def test_it_finds_nothing_where_there_is_nothing() -> None:
    experiment = economy()
    right = answer(experiment)
    assert gain(experiment, right, reaction(experiment, right).policy(right)) < 0.005
