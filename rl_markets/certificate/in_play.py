"""The certificate's lines from play in the market itself.

What the known answer would gain in an agent's place, everybody else as they play: so much is lost
by what was learned. Agents and states are told apart, and the worst counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.answer_key import AnswerKey, Metric
from rl_markets.envs.in_play import MOST_AGENTS, Gains, gains_in_place, horizon, places, reach
from rl_markets.envs.market import Market, Policy, PolicyFunction
from rl_markets.envs.numerics.statistics import interval
from rl_markets.experiment import Experiment
from rl_markets.rllib.build import build_market

SEEDS = 6
"""Evaluation seeds of which play is examined, at the most."""
SURE = 1.3
"""What some agents or states lose counts less so many standard errors: surely lost."""
VISITED_WEIGHT = 0.05
"""The profile chooses the states for so long that its discount factor falls below this weight."""
LONGEST_BURN_IN = 200
TAIL = 0.1
"""States are told apart by each column of the observation: its lowest and its highest tenth."""
APART_ROWS = 200
"""Observations that every agent of a group is shown, to see who does not do as the others."""
APART_AFTER = 20
"""Half of them are taken so many steps after the market's own starts."""
FEW_VALUES = 8
"""Of a column with so few values, each."""
FEWEST = 5
"""Rows of which a mean is taken."""
STAKES_SHARE = 0.05
"""Limit of a market that states none: a share of what the answer earns above a policy that knows
nothing."""
VISITED = "states that the profile visits"
OWN_STARTS = "the market's own starts"


@dataclass(frozen=True)
class Worst:
    """Where a loss is largest.

    Attributes:
        loss: mean discounted reward lost there; of some agents or states, at least so much.
        by_seed: its means, seed by seed.
        who: in words.
    """

    loss: float
    by_seed: list[float]
    who: str


@dataclass(frozen=True, eq=False)
class Play:
    """Play of one group's agents in the market that an experiment is judged in.

    Attributes:
        experiment: as it is judged.
        key: the market's judge, which has the answer's policies.
        group: whose places are looked at.
        seeds: of starts and shocks.
    """

    experiment: Experiment
    key: AnswerKey
    group: str
    seeds: list[int]

    @cached_property
    def leaving(self) -> Tensor:
        """Who leaves the profile in which world."""
        return places(self.experiment.groups[self.group], self.experiment.agents)

    @cached_property
    def market(self) -> Market:
        """A world for each row of `leaving`."""
        return build_market(self.experiment, "cpu", len(self.leaving))

    @cached_property
    def answer(self) -> Mapping[str, PolicyFunction] | None:
        """The answer's policies, or None."""
        return self.key.policies(self.market)

    @property
    def gamma(self) -> float:
        """The agents' discount factor."""
        return self.experiment.gamma(self.group)

    def gains(
        self, policies: Mapping[str, PolicyFunction], steps: int, seeds: list[int], leaving: Tensor
    ) -> _Rows:
        """What the answer gains in place of those who leave, `steps` after a start."""
        assert self.answer is not None
        by_seed = [
            gains_in_place(
                self.market,
                policies,
                self.group,
                self.answer[self.group],
                leaving,
                self.gamma,
                seed=seed,
                burn_in=steps,
            )
            for seed in seeds
        ]
        return _Rows.of(by_seed, seeds)

    def worst(self, policies: Mapping[str, PolicyFunction]) -> Worst:
        """The largest loss: of everybody, of one agent, or where a column is low or high.

        Which agent and which states is looked for on some seeds and measured on the others, so that
        the largest of many means is not one by chance.
        """
        half = max(1, len(self.seeds) // 2)
        first = self.seeds[:half]
        fresh = self.seeds[half:] or self.seeds
        odd = odd_one(self.market, self.group, policies, self.seeds[0])
        found = []
        for starts, steps in kinds_of_start(self.gamma).items():
            rows = self.gains(policies, steps, self.seeds, self.leaving)
            select = rows.of_seeds(first)
            found.append(rows.mean(f"everybody, from {starts}"))
            where = max(select.by_level(), key=lambda rows: rows.loss, default=None)
            if where is not None:
                found += rows.of_seeds(fresh).named(where.who, starts)
            if odd is not None:
                # Who is odd is not seen by gains, so that no seed is spent on finding out.
                found.append(self._alone(policies, steps, self.seeds, odd, starts))
                suspect = select.worst_agent()
                if suspect != odd:
                    found.append(self._alone(policies, steps, fresh, suspect, starts))
        return max(found, key=lambda worst: worst.loss)

    def _alone(
        self,
        policies: Mapping[str, PolicyFunction],
        steps: int,
        seeds: list[int],
        agent: int,
        starts: str,
    ) -> Worst:
        """What one agent loses, looked at in every world."""
        alone = torch.zeros_like(self.leaving)
        alone[:, agent] = True
        return self.gains(policies, steps, seeds, alone).mean(f"agent {agent}, from {starts}")

    def limit(self, untrained: Mapping[str, PolicyFunction]) -> float:
        """Discounted reward that may be lost; see `AnswerKey.tolerance`."""
        given = self.key.tolerance(self.group)
        if given is not None:
            return given
        assert self.answer is not None
        # The answer's profile, and one agent in it that knows nothing.
        by_seed = [
            gains_in_place(
                self.market,
                self.answer,
                self.group,
                untrained[self.group],
                self.leaving,
                self.gamma,
                seed=seed,
            )
            for seed in self.seeds
        ]
        return STAKES_SHARE * abs(float(torch.cat([gains.gain for gains in by_seed]).mean()))


@torch.no_grad()
def odd_one(
    market: Market, group: str, policies: Mapping[str, PolicyFunction], seed: int
) -> int | None:
    """The agent that does least as the others of its group where they see the same.

    None where all do the same whoever they are: then one stands for all.

    Args:
        market: from whose own starts it is played.
        group: whose agents.
        policies: group -> the profile as it plays.
        seed: of starts and shocks.
    """
    agents = market.groups[group].count
    if agents == 1:
        return None
    seen = [reach(market, policies, seed, steps)[group].flatten(0, 1) for steps in (0, APART_AFTER)]
    rows = torch.cat(seen)
    shown = max(1, min(len(rows), APART_ROWS, MOST_AGENTS // agents))
    rows = rows[torch.linspace(0, len(rows) - 1, shown).long()]
    actions = policies[group](rows[:, None].expand(-1, agents, -1)).double()
    usual = actions.median(1, keepdim=True).values
    apart = (actions - usual).abs().reshape(shown, agents, -1).sum(-1).mean(0)
    if float(apart.max()) <= 1e-6 * (1 + float(usual.abs().max())):
        return None
    return int(apart.argmax())


def kinds_of_start(gamma: float) -> dict[str, int]:
    """In words -> steps of the profile until then, after which it has chosen where it is."""
    return {OWN_STARTS: 0, VISITED: min(LONGEST_BURN_IN, horizon(gamma, VISITED_WEIGHT))}


@dataclass(frozen=True, eq=False)
class _Rows:
    """What agents gained who left the profile.

    Attributes:
        gain: `[rows]`.
        seed: `[rows]`, of starts and shocks.
        agent: `[rows]`.
        seen: `[rows, observation]`, when they left.
    """

    gain: Tensor
    seed: Tensor
    agent: Tensor
    seen: Tensor

    @classmethod
    def of(cls, by_seed: list[Gains], seeds: list[int]) -> _Rows:
        """The rows of several seeds."""
        return cls(
            torch.cat([gains.gain for gains in by_seed]).cpu(),
            torch.cat([torch.full((len(g.gain),), s) for s, g in zip(seeds, by_seed, strict=True)]),
            torch.cat([gains.agent for gains in by_seed]).cpu(),
            torch.cat([gains.observations for gains in by_seed]).double().cpu(),
        )

    def of_seeds(self, seeds: list[int]) -> _Rows:
        """The rows of some seeds."""
        return self.where(torch.isin(self.seed, torch.tensor(seeds)))

    def where(self, rows: Tensor) -> _Rows:
        """Some of the rows."""
        return _Rows(self.gain[rows], self.seed[rows], self.agent[rows], self.seen[rows])

    def mean(self, who: str) -> Worst:
        """The mean over all rows."""
        by_seed = [float(self.gain[self.seed == seed].mean()) for seed in self.seed.unique()]
        return Worst(float(self.gain.mean()), by_seed, who)

    def at_least(self, who: str) -> Worst:
        """The mean, less `SURE` standard errors: what is lost for sure."""
        mean = self.mean(who)
        error = float(self.gain.std() / len(self.gain) ** 0.5) if len(self.gain) > 1 else 0.0
        return replace(mean, loss=mean.loss - SURE * error)

    def worst_agent(self) -> int:
        """The agent with the largest mean."""
        agents = self.agent.unique()
        return int(max(agents, key=lambda i: float(self.gain[self.agent == i].mean())))

    def by_level(self) -> list[Worst]:
        """Means where each column of the observation is low or high, or has one of few values."""
        return [
            own.mean(where)
            for where, rows in self._levels().items()
            if len((own := self.where(rows)).gain) >= FEWEST
        ]

    def named(self, where: str, starts: str) -> list[Worst]:
        """What is lost for sure at the states of such a name; nothing where there are too few."""
        rows = self._levels().get(where)
        if rows is None or int(rows.sum()) < FEWEST:
            return []
        return [self.where(rows).at_least(f"{where}, from {starts}")]

    def _levels(self) -> dict[str, Tensor]:
        """In words -> the rows where a column is low or high, or has each of few values."""
        levels: dict[str, Tensor] = {}
        for column, values in enumerate(self.seen.unbind(1)):
            name = f"where observation {column} is"
            distinct = values.unique()
            if len(distinct) == 1:
                continue
            if len(distinct) <= FEW_VALUES:
                levels |= {f"{name} {float(x):.3g}": values == x for x in distinct}
                continue
            low, high = (values.quantile(share) for share in (TAIL, 1 - TAIL))
            levels[f"{name} in its lowest tenth"] = values <= low
            levels[f"{name} in its highest tenth"] = values >= high
        return levels


def loss_in_play(
    experiment: Experiment,
    key: AnswerKey,
    group: str,
    policies: Mapping[str, Policy],
    untrained: Mapping[str, Policy],
    seeds: list[int],
) -> Metric | None:
    """The line of one group, or None where the answer cannot be played."""
    play = Play(experiment, key, group, seeds[:SEEDS])
    if play.answer is None:
        return None
    worst = play.worst(policies)
    control = replace(play, seeds=seeds[:1]).worst(untrained)
    market = play.market
    value, unit = market.in_units(worst.loss)
    low, high = _interval(worst.by_seed)
    looked = int(play.leaving.any(0).sum())
    everybody = experiment.groups[group]
    return Metric(
        name=f"loss_in_play/{group}",
        label=f"loss in play, {group}",
        value=value,
        unit=unit,
        low=market.in_units(low)[0],
        high=market.in_units(high)[0],
        answer=0.0,
        limit=market.in_units(play.limit(untrained))[0],
        controls={"untrained network": market.in_units(control.loss)[0]},
        note=f"what the answer gains in one's place, all others as they play, in the market "
        f"itself; {looked:,} of {everybody:,} agents, from its own starts and from states that "
        f"the profile visits: the worst agent, or where a column of the observation is low or high",
        who=worst.who,
    )


def _interval(by_seed: list[float]) -> tuple[float, float]:
    """The 95 % interval of the mean over seeds."""
    if len(by_seed) < 2:
        return by_seed[0], by_seed[0]
    return interval(np.array(by_seed))
