"""What one agent gains by its best path of actions, from states that the market itself reaches.

For markets that are differentiable and can be without chance (`MarketSpec.calm`), where the answer
itself cannot be played.
"""

from __future__ import annotations

from collections.abc import Mapping

import gymnasium as gym
import torch
from torch import Tensor

from rl_markets.certificate.in_play import kinds_of_start, odd_one
from rl_markets.envs.answer_key import Metric
from rl_markets.envs.in_play import reach
from rl_markets.envs.market import Policy, State, TensorMarket
from rl_markets.envs.paths import PathDeviation
from rl_markets.experiment import Experiment
from rl_markets.rllib.build import build_market

MOST_AGENTS = 16
"""Agents whose paths are looked for, evenly spread over a group."""
STATES = 16
"""Worlds of each kind of start, at the least."""


def best_path_gain(
    experiment: Experiment,
    group: str,
    policies: Mapping[str, Policy],
    limit: float,
    seed: int,
) -> Metric | None:
    """The largest gain of an agent of `group`, and whose it is.

    None where paths cannot be looked for: the market is never without chance, or choices are
    discrete.

    Args:
        experiment: as it is judged.
        group: whose agents leave the profile, one in each world.
        policies: group -> the profile as it plays.
        limit: discounted reward that may be gained.
        seed: of starts and shocks until somebody leaves.
    """
    if experiment.market_spec.calm is None:
        return None
    agents = experiment.groups[group]
    looked = torch.linspace(0, agents - 1, min(agents, MOST_AGENTS)).long()
    rounds = -(-STATES // len(looked))
    deviators = looked.repeat(rounds)
    starts = kinds_of_start(experiment.gamma(group))
    market = build_market(experiment, "cpu", len(deviators))
    assert isinstance(market, TensorMarket)
    if not isinstance(market.groups[group].action_space, gym.spaces.Box):
        return None
    states = []
    for steps in starts.values():
        with torch.no_grad():
            reach(market, policies, seed, steps)
        states.append(market.state)
    gains = _gains(experiment, group, policies, torch.cat([deviators, deviators]), states)
    # kinds of start x rounds x agents; where all act alike, they are one
    by_agent = gains.reshape(len(starts), rounds, len(looked)).mean(1)
    if odd_one(market, group, policies, seed) is None:
        by_agent = by_agent.mean(1, keepdim=True)
    worst = int(by_agent.nan_to_num(torch.inf).argmax())
    agents_apart = by_agent.shape[1]
    who = f"agent {int(looked[worst % agents_apart])}" if agents_apart > 1 else "everybody"
    kind = list(starts)[worst // agents_apart]
    value, unit = market.in_units(float(by_agent.flatten()[worst]))
    return Metric(
        name=f"best_response_gain/in_play/{group}",
        label=f"best-response gain in play, {group}",
        value=value,
        unit=unit,
        answer=0.0,
        limit=market.in_units(limit)[0],
        note="the best path of actions, without further shocks, against all others as they play; "
        f"{len(looked)} of {agents:,} agents, from {rounds} of the market's own starts and as many "
        "states that the profile visits each; the mean, of the worst agent where they differ",
        who=f"{who}, from {kind}",
    )


def _gains(
    experiment: Experiment,
    group: str,
    policies: Mapping[str, Policy],
    deviators: Tensor,
    states: list[State],
) -> Tensor:
    """Discounted reward gained in each world, `[worlds]`."""
    spec = experiment.market_spec
    calm = spec.build_calm(experiment.market_parameters, worlds=len(deviators))
    calm.reset(0)
    joined = {name: torch.cat([state[name] for state in states]) for name in states[0]}
    start = {name: value.to(calm.state[name].dtype) for name, value in joined.items()}
    gamma = experiment.gamma(group)
    return PathDeviation(calm, policies, group, deviators, gamma).gains(start)
