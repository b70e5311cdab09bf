"""What every check of a market needs.

Markets to try, random actions, recorded episodes, and the shared random generators left as they
were.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.conformance.watchdog import Watchdog, limit_steps, time_limit
from rl_markets.envs import checks
from rl_markets.envs.checks import (
    check_groups,
    check_observations,
    check_step,
    choices,
    mask_width,
    refuse,
)
from rl_markets.envs.market import AgentGroup, Market, Step, TensorMarket
from rl_markets.envs.spec import MarketSpec

Builder = Callable[[int], Market]
"""Builds a market with so many worlds."""
Record = list[dict[str, bytes]]
"""An episode: for each step, what it showed -> its digest."""

WORLDS = 4
"""Of each examined market."""
BUILD_SECONDS = 60.0
"""What building may take."""
BUDGET_SECONDS = 0.2
"""What each recorded episode should take."""
GRACE_SECONDS = 1.0
"""As in `Watchdog`; shorter than there, since a person waits."""
CORNER_SHARE = 0.2
"""So many random actions lie at a bound of their space."""
OURS = (str(Path(checks.__file__)), str(Path(__file__).parent))
"""Files in which a traceback has not yet arrived at the market itself."""
LEAST_STEPS = 12
LONGEST_EPISODE = 1000
"""Bounds on the steps of a recorded episode."""


@dataclass
class Subject:
    """A market under examination.

    Attributes:
        build: builds it.
        seconds: what each of its calls may take.
        spec, parameters: what it was built from, where known.
        module: the module of its spec, where it must be light to import.
        pace: CPU and waiting seconds of a step, as measured.
        record: its episode of seed 0, once recorded.
        longest: steps of a recorded episode, at the most.
    """

    build: Builder
    seconds: float
    spec: MarketSpec | None = None
    parameters: Any = None
    module: str = ""
    pace: float = math.nan
    record: Record = field(default_factory=list)
    longest: int = LONGEST_EPISODE
    _markets: list[Market] = field(default_factory=list)

    @property
    def market(self) -> Market:
        """The market that checks share; each starts by resetting it."""
        return self._markets[0] if self._markets else self.fresh()

    def fresh(self, worlds: int = WORLDS) -> Market:
        """Another one, with episodes short enough to be seen whole."""
        with time_limit(BUILD_SECONDS, "building the market"):
            market = self.build(worlds)
        if not isinstance(market, Market):
            refuse(
                market,
                f"is a {type(market).__name__}, not a Market",
                "derive it from rl_markets.envs.market.Market",
            )
        check_groups(market)
        if market.worlds != worlds:
            refuse(
                market,
                f"has {market.worlds} worlds, expected {worlds}",
                "hand `worlds` on to super().__init__",
            )
        self._markets.append(market)
        self._shorten(market)
        return market

    def measure_pace(self) -> None:
        """Notes how long a step takes, so that all that follows keeps to its budget."""
        seconds = []
        with self.limit() as limit:
            before = time.perf_counter()
            for observations, step in play(self.market, LEAST_STEPS, limit):
                digests(observations, step)
                now = time.perf_counter()
                seconds.append(now - before)
                before = now
        # The first is the reset; the shortest, because others work on this machine, too.
        self.pace = min(seconds[1:])
        self._shorten(self.market)

    def _shorten(self, market: Market) -> None:
        """Lets episodes end within the steps that there is time for."""
        if isinstance(market, TensorMarket) and (market.episode_length or 0) + 4 > self.most_steps:
            market.truncate_after(self.most_steps // 2)

    @property
    def most_steps(self) -> int:
        """How many steps a recorded episode can have in its time; no bound before that is known."""
        if math.isnan(self.pace):
            return LONGEST_EPISODE * LONGEST_EPISODE
        affordable = int(BUDGET_SECONDS / max(self.pace, 1e-6))
        return max(LEAST_STEPS, min(self.longest, affordable))

    @property
    def steps(self) -> int:
        """How many steps the checks play, as far as there is time.

        A whole episode and a little of the next; two episodes where they are short.
        """
        length = self.market.episode_length or 100
        episodes = 1 if length > 100 else 2
        return min(episodes * length + 4, self.most_steps)

    def limit(self) -> Watchdog:
        """The watchdog of its steps."""
        return limit_steps(self.market, self.seconds, GRACE_SECONDS)

    def close(self) -> None:
        """Closes every market that was built."""
        for market in self._markets:
            market.close()


class Actions:
    """Random actions in a market's spaces; many of them at the bounds, and at first all of them.

    Args:
        market: whose spaces.
        seed: the same seed, the same actions.
        style: `mixed`, `inner` (far from the bounds), or all of them at the bound `low` or `high`.
    """

    def __init__(self, market: Market, seed: int, style: str = "mixed") -> None:
        self.market = market
        self.style = style
        self.step = -1
        self.generator = torch.Generator().manual_seed(7919 + seed)

    def __call__(self, seen: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Group -> actions of the next step, `[worlds, agents, ...]`.

        Of what a mask forbids, a market of ours is tried with all; where masks bind, the
        observations `seen` say what is left.
        """
        self.step += 1
        style = self.style
        if style == "mixed":
            style = {0: "low", 1: "high"}.get(self.step, "mixed")
        groups = self.market.groups.items()
        actions = {name: self._draw(group, style).to(self.market.device) for name, group in groups}
        if self.market.masks_bind and seen is not None:
            return {
                n: allowed(g, actions[n], seen[n]) if g.masked else actions[n] for n, g in groups
            }
        return actions

    def _draw(self, group: AgentGroup, style: str) -> Tensor:
        """Drawn on the CPU, so that all devices get the same actions."""
        space = group.action_space
        lead = (self.market.worlds, group.count)
        size = (*lead, *space.shape)
        if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
            last = choices(space) - 1
            # Drawn in every style, so that the actions after the bounds are the same in all.
            random_choices = torch.randint(last + 1, size, generator=self.generator)
            if style in ("low", "high"):
                return torch.full(size, 0 if style == "low" else last)
            return random_choices
        assert isinstance(space, gym.spaces.Box)  # by check_groups
        low, high = (torch.tensor(bound, dtype=torch.float32) for bound in (space.low, space.high))
        if style in ("low", "high"):
            return (low if style == "low" else high).expand(size).clone()
        share = torch.rand(size, generator=self.generator)
        if style == "inner":
            return low + (high - low) * (0.3 + 0.4 * share)
        corner = torch.rand(size, generator=self.generator) < CORNER_SHARE
        share = torch.where(corner, share.round(), share)
        return torch.minimum(low + (high - low) * share, high)  # rounding may lead beyond high


def allowed(group: AgentGroup, actions: Tensor, seen: Tensor) -> Tensor:
    """Actions of a masked group; the first choice that is allowed in place of one that is not."""
    of_each = choices(group.action_space)
    mask = seen[..., -mask_width(group.action_space) :].unflatten(-1, (-1, of_each))
    chosen = actions.reshape(mask.shape[:-1])
    fine = mask.gather(-1, chosen[..., None]).squeeze(-1) > 0
    return torch.where(fine, chosen, mask.argmax(-1)).reshape(actions.shape)


def play(
    market: Market,
    steps: int,
    limit: Watchdog,
    *,
    seed: int | None = 0,
    draws: int = 0,
    style: str = "mixed",
    seen: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[dict[str, Tensor], Step | None]]:
    """Steps a market under random actions, checking its contract: yields (observations, step).

    The first item, with step None, shows what `reset(seed)` gives; where `seed` is None, the market
    goes on instead.

    Args:
        market: to be stepped.
        steps: how many.
        limit: of the market's calls.
        seed: of the reset.
        draws: the same number, the same actions.
        style: of the actions, as in `Actions`.
        seen: where the market goes on, what it showed last.

    Raises:
        ContractError: where a step breaks the contract.
        TimeLimitError: where the reset or a step takes too long.
    """
    if seed is not None:
        observations = limit(market.reset, seed)
        check_observations(market, observations)
        seen = observations
        yield observations, None
    next_actions = Actions(market, draws, style)
    for t in range(steps):
        try:
            step = limit(market.step, next_actions(seen))
        except Exception as error:
            error.add_note(f"in step {t} of random actions")
            raise
        check_step(market, step)
        seen = step.observations
        yield seen, step


def record(
    market: Market,
    steps: int,
    limit: Watchdog,
    *,
    seed: int | None = 0,
    draws: int = 0,
    seen: Mapping[str, Tensor] | None = None,
) -> Record:
    """An episode's digests; the arguments are those of `play`."""
    episode = play(market, steps, limit, seed=seed, draws=draws, seen=seen)
    return [digests(observations, step) for observations, step in episode]


def digests(observations: Mapping[str, Tensor], step: Step | None = None) -> dict[str, bytes]:
    """What a step shows -> its digest."""
    shown: dict[str, Tensor | None] = {
        f"observations of group {g!r}": x for g, x in observations.items()
    }
    if step is not None:
        shown |= {f"rewards of group {g!r}": x for g, x in step.rewards.items()}
        for what, mask in (("active", step.active), ("agent_done", step.agent_done)):
            shown |= {f"{what} of group {g!r}": x for g, x in (mask or {}).items()}
    if step is not None and step.ended is not None:
        ended = step.ended
        shown |= {"ended.worlds": ended.worlds, "ended.terminated": ended.terminated}
        shown |= {"ended.global_state": ended.global_state}
        shown |= {f"final observations of group {g!r}": x for g, x in ended.observations.items()}
    return {name: digest(value) for name, value in shown.items() if value is not None}


def digest(value: Tensor) -> bytes:
    """Equal for equal bytes."""
    return hashlib.blake2b(value.detach().cpu().numpy().tobytes(), digest_size=8).digest()


def difference(one: Record, other: Record) -> str | None:
    """What differs first, and in which step; None where nothing does."""
    # A record may begin with what the reset shows, which has no rewards.
    reset = not any(name.startswith("rewards") for name in one[0])
    for t, (a, b) in enumerate(zip(one, other, strict=True)):
        for name in sorted(a.keys() | b.keys()):
            if a.get(name) != b.get(name):
                when = "after the reset" if reset and t == 0 else f"in step {t - reset}"
                return f"{name} {when}"
    return None


def first_bad(bad: Tensor) -> tuple[int, ...]:
    """Index of the first True."""
    return tuple(int(i) for i in bad.nonzero()[0])


def same(one: Tensor, other: Tensor) -> bool:
    """Equal values, where NaN equals NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    both_nan = (one != one) & (other != other)
    return bool(((one == other) | both_nan).all())


def blame(error: BaseException) -> str:
    """The innermost line of the market's own in a traceback: `file.py:12, c = log(k)`.

    Where none is the market's own, the innermost of all.
    """
    frames = traceback.extract_tb(error.__traceback__)
    frames_in_files = [frame for frame in frames if not frame.filename.startswith("<")]
    if not frames_in_files:
        return "no traceback"
    not_theirs = (*OURS, "site-packages", "/lib/python")
    theirs = [
        frame for frame in frames_in_files if not any(part in frame.filename for part in not_theirs)
    ]
    frame = (theirs or frames_in_files)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}, {frame.line}"


# -- global randomness -----------------------------------------------------------------------------


@contextmanager
def drawn_from() -> Iterator[list[str]]:
    """Names, afterwards, the shared generators that were drawn from."""
    drawn: list[str] = []
    before = _global_states()
    yield drawn
    drawn += [name for name, state in _global_states().items() if state != before[name]]


def _global_states() -> dict[str, bytes]:
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": pickle.dumps(np.random.get_state()),
        "random": pickle.dumps(random.getstate()),
    }


@contextmanager
def kept_global_states() -> Iterator[None]:
    """Leaves the shared generators as they were."""
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()
    python_state = random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def disturb() -> None:
    """Draws from every shared generator."""
    torch.rand(1)
    np.random.rand()
    random.random()
