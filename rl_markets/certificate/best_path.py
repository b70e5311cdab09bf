"""What one agent gains by better actions, from states that the market itself reaches.

For markets that gradients pass through (`MarketSpec.transparent`), where the answer itself cannot
be played.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import gymnasium as gym
import torch
from torch import Tensor

from rl_markets.certificate.in_play import kinds_of_start, odd_one
from rl_markets.envs.answer_key import Metric
from rl_markets.envs.in_play import gains_in_place, reach
from rl_markets.envs.market import Policy, State, TensorMarket
from rl_markets.envs.paths import Deviation, PathDeviation
from rl_markets.envs.reactions import best_reaction
from rl_markets.experiment import Experiment
from rl_markets.rllib.build import build_market

MOST_AGENTS = 16
"""Agents whose paths are looked for, evenly spread over a group."""
STATES = 32
"""Worlds of each kind of start, at the least."""


def best_path_gain(
    experiment: Experiment,
    group: str,
    policies: Mapping[str, Policy],
    limit: float,
    seeds: list[int],
) -> Metric | None:
    """The largest gain of an agent of `group`, and whose it is.

    The larger of what its best path without shocks gains, and what its best linear reaction gains
    with them. None where neither can be looked for: gradients do not pass through the market, or
    choices are discrete.

    Args:
        experiment: as it is judged.
        group: whose agents leave the profile, one in each world.
        policies: group -> the profile as it plays.
        limit: discounted reward that may be gained.
        seeds: of starts and shocks: the first for the search, the others to play what was found.
    """
    if experiment.market_spec.transparent is None:
        return None
    agents = experiment.groups[group]
    looked = torch.linspace(0, agents - 1, min(agents, MOST_AGENTS)).long()
    rounds = -(-STATES // len(looked))
    places = Places(looked, looked.repeat(rounds), kinds_of_start(experiment.gamma(group)))
    market = build_market(experiment, "cpu", len(places.deviators))
    assert isinstance(market, TensorMarket)
    if not isinstance(market.groups[group].action_space, gym.spaces.Box):
        return None
    search = Search(experiment, group, policies, places, market, seeds[0])
    alike = odd_one(market, group, policies, seeds[0]) is None
    path = places.worst(search.path_gains(), alike)
    reaction = places.worst(search.reaction_gains(seeds[1:3] or seeds), alike)
    worst = max(path, reaction, key=lambda found: found[0])
    value, unit = market.in_units(worst[0])
    return Metric(
        name=f"best_response_gain/in_play/{group}",
        label=f"best-response gain in play, {group}",
        value=value,
        unit=unit,
        answer=0.0,
        limit=market.in_units(limit)[0],
        note="the larger of the best path of actions, without further shocks, and the best linear "
        "change of how one reacts, with them; all others as they play; "
        f"{len(looked)} of {agents:,} agents, from {rounds} of the market's own starts and as many "
        "states that the profile visits each; the mean, of the worst agent where they differ",
        who=worst[1],
    )


@dataclass(frozen=True)
class Places:
    """Who leaves, and after how many steps.

    Attributes:
        looked: agents that are looked at.
        deviators: world -> its deviator, all of `looked` again and again.
        starts: kind of start in words -> steps of the profile until then.
    """

    looked: Tensor
    deviators: Tensor
    starts: Mapping[str, int]

    def worst(self, gains: Tensor, alike: bool) -> tuple[float, str]:
        """The largest mean gain, and whose it is in words; where all act alike, they are one.

        `gains` are `[kinds of start x worlds]`.
        """
        by_agent = gains.reshape(len(self.starts), -1, len(self.looked)).mean(1)
        if alike:
            by_agent = by_agent.mean(1, keepdim=True)
        worst = int(by_agent.nan_to_num(torch.inf).argmax())
        apart = by_agent.shape[1]
        who = "everybody" if alike else f"agent {int(self.looked[worst % apart])}"
        return float(by_agent.flatten()[worst]), f"{who}, from {list(self.starts)[worst // apart]}"


@dataclass(frozen=True)
class Search:
    """What deviators find.

    Attributes:
        experiment: as it is judged.
        group: whose agents deviate.
        policies: group -> the profile as it plays.
        places: who leaves, and when.
        market: as it is judged, a world for each deviator.
        seed: of the starts and shocks of the search.
    """

    experiment: Experiment
    group: str
    policies: Mapping[str, Policy]
    places: Places
    market: TensorMarket
    seed: int

    def path_gains(self) -> Tensor:
        """Discounted reward that a path of actions gains, `[kinds of start x worlds]`."""
        deviation = PathDeviation(*self._deviation(calm=True))
        return deviation.gains(self._start_in(deviation.market))

    def reaction_gains(self, fresh: list[int]) -> Tensor:
        """Discounted reward that a reaction gains in the market itself, the same shape.

        `fresh` are seeds of the starts and shocks on which it is played; the mean over them.
        """
        deviation = Deviation(*self._deviation(calm=False))
        start = self._start_in(deviation.market)
        found = best_reaction(deviation, start, self._starts[1], seed=self.seed)
        agents = torch.arange(self.experiment.groups[self.group])
        leaving = self.places.deviators[:, None] == agents
        instead = found.policy(self.policies[self.group])
        gamma = self.experiment.gamma(self.group)
        gains: list[Tensor] = [
            gains_in_place(
                self.market,
                self.policies,
                self.group,
                instead,
                leaving,
                gamma,
                seed=other,
                burn_in=steps,
            ).gain
            for steps in self.places.starts.values()
            for other in fresh
        ]
        kinds = len(self.places.starts)
        return torch.stack(gains).reshape(kinds, len(fresh), -1).mean(1).flatten()

    @cached_property
    def _starts(self) -> tuple[State, Tensor]:
        """States of each kind of start, joined, and what the group sees there, row by row."""
        states = []
        seen = []
        for steps in self.places.starts.values():
            with torch.no_grad():
                observations = reach(self.market, self.policies, self.seed, steps)
            states.append(self.market.state)
            seen.append(observations[self.group].flatten(0, 1))
        joined = {name: torch.cat([state[name] for state in states]) for name in states[0]}
        return joined, torch.cat(seen)

    def _deviation(
        self, *, calm: bool
    ) -> tuple[TensorMarket, Mapping[str, Policy], str, Tensor, float]:
        """The fields of a `Deviation` that gradients pass through."""
        deviators = self.places.deviators.repeat(len(self.places.starts))
        market = self.experiment.market_spec.build_transparent(
            self.experiment.market_parameters, worlds=len(deviators), calm=calm
        )
        market.reset(0)
        return market, self.policies, self.group, deviators, self.experiment.gamma(self.group)

    def _start_in(self, market: TensorMarket) -> State:
        """The starts in a market's precision."""
        start, _ = self._starts
        return {name: value.to(market.state[name].dtype) for name, value in start.items()}
