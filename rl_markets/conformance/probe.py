"""What every check of a market needs: markets to try, random actions, recorded episodes, quiet
global generators."""

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
from rl_markets.envs.checks import check_groups, check_observations, check_step, choices, refuse
from rl_markets.envs.market import AgentGroup, Market, Step, TensorMarket
from rl_markets.envs.spec import MarketSpec

Builder = Callable[[int], Market]
"""Builds a market with so many worlds."""
Record = list[dict[str, bytes]]
"""An episode: for each step, what it showed -> its digest."""

WORLDS = 4
BUILD_SECONDS = 60.0
BUDGET_SECONDS = 0.2
"""Worlds of each examined market; what building may take; what each recorded episode should
take."""
GRACE_SECONDS = 1.0
"""As in `Watchdog`: a person waits."""
CORNER_SHARE = 0.2
"""So many random actions lie at a bound of their space."""
OURS = ("rl_markets/watchdog.py", "rl_markets/envs/contract.py", "rl_markets/conformance")
"""Files in which a traceback has not yet arrived at the market itself."""
LEAST_STEPS = 12
LONGEST_EPISODE = 1000


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
    """

    build: Builder
    seconds: float
    spec: MarketSpec | None = None
    parameters: Any = None
    module: str = ""
    pace: float = math.nan
    record: Record = field(default_factory=list)
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
        """Notes how long a step takes, so that all that follows takes its time."""
        times = []
        with self.limit() as limit:
            before = time.perf_counter()
            for seen, step in play(self.market, LEAST_STEPS, limit):
                digests(seen, step)
                now = time.perf_counter()
                times.append(now - before)
                before = now
        self.pace = min(times[1:])  # others work on this machine, too
        self._shorten(self.market)

    def _shorten(self, market: Market) -> None:
        if isinstance(market, TensorMarket) and (market.episode_length or 0) + 4 > self.most_steps:
            market.episode_length = self.most_steps // 2

    @property
    def most_steps(self) -> int:
        """How many steps a recorded episode can have in its time."""
        if math.isnan(self.pace):
            return LONGEST_EPISODE * LONGEST_EPISODE
        return max(LEAST_STEPS, min(LONGEST_EPISODE, int(BUDGET_SECONDS / max(self.pace, 1e-6))))

    @property
    def steps(self) -> int:
        """A whole episode and a little of the next, two where they are short, as far as there is
        time."""
        length = self.market.episode_length or 100
        return min((1 if length > 100 else 2) * length + 4, self.most_steps)

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

    def __call__(self) -> dict[str, Tensor]:
        """Group -> actions of the next step, `[worlds, agents, ...]`."""
        self.step += 1
        style = (
            {0: "low", 1: "high"}.get(self.step, "mixed") if self.style == "mixed" else self.style
        )
        return {
            n: self._draw(g, style).to(self.market.device) for n, g in self.market.groups.items()
        }

    def _draw(self, group: AgentGroup, style: str) -> Tensor:
        space = group.action_space
        lead = (self.market.worlds, group.count)
        size = (*lead, *space.shape)  # type: ignore[misc] # every space that a contract allows has a shape
        if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
            last = choices(space) - 1
            drawn = torch.randint(last + 1, size, generator=self.generator)
            return (
                torch.full(size, {"low": 0, "high": last}[style])
                if style in ("low", "high")
                else drawn
            )
        assert isinstance(space, gym.spaces.Box)  # by check_groups
        low, high = (torch.tensor(bound, dtype=torch.float32) for bound in (space.low, space.high))
        if style in ("low", "high"):
            return (low if style == "low" else high).expand(size).clone()
        share = torch.rand(size, generator=self.generator)
        if style == "inner":
            return low + (high - low) * (0.3 + 0.4 * share)
        corner = torch.rand(size, generator=self.generator) < CORNER_SHARE
        return torch.minimum(low + (high - low) * torch.where(corner, share.round(), share), high)


def play(
    market: Market,
    steps: int,
    limit: Watchdog,
    *,
    seed: int | None = 0,
    draws: int = 0,
    style: str = "mixed",
) -> Iterator[tuple[dict[str, Tensor], Step | None]]:
    """Steps a market under random actions, checking its contract: yields (observations, step).

    The first item, with step None, shows what `reset(seed)` gives; where `seed` is None, the market
    goes on instead. The same `draws`, the same actions.
    """
    if seed is not None:
        seen = limit(market.reset, seed)
        check_observations(market, seen)
        yield seen, None
    draw = Actions(market, draws, style)
    for t in range(steps):
        try:
            step = limit(market.step, draw())
        except Exception as error:
            error.add_note(f"in step {t} of random actions")
            raise
        check_step(market, step)
        yield step.observations, step


def record(
    market: Market, steps: int, limit: Watchdog, *, seed: int | None = 0, draws: int = 0
) -> Record:
    """An episode's digests."""
    return [
        digests(seen, step) for seen, step in play(market, steps, limit, seed=seed, draws=draws)
    ]


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
    reset = not any(
        name.startswith("rewards") for name in one[0]
    )  # a record may begin with what reset shows
    for t, (a, b) in enumerate(zip(one, other, strict=True)):
        for name in sorted(a.keys() | b.keys()):
            if a.get(name) != b.get(name):
                return f"{name} {'after the reset' if reset and t == 0 else f'in step {t - reset}'}"
    return None


def first_bad(bad: Tensor) -> tuple[int, ...]:
    """Index of the first True."""
    return tuple(int(i) for i in bad.nonzero()[0])


def same(one: Tensor, other: Tensor) -> bool:
    """Equal values, where NaN equals NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())


def blame(error: BaseException) -> str:
    """The innermost line of the market's own in a traceback, or the innermost of all: `file.py:12,
    c = log(k)`."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")
    ]
    theirs = [
        f
        for f in frames
        if not any(part in f.filename for part in (*OURS, "site-packages", "/lib/python"))
    ]
    if not frames:
        return "no traceback"
    frame = (theirs or frames)[-1]
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
    torchs = torch.get_rng_state().numpy().tobytes()
    numpys = np.random.get_state()
    pythons = random.getstate()
    return {"torch": torchs, "numpy": pickle.dumps(numpys), "random": pickle.dumps(pythons)}


@contextmanager
def kept_global_states() -> Iterator[None]:
    """Leaves the shared generators as they were."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])


def disturb() -> None:
    """Draws from every shared generator."""
    torch.rand(1)
    np.random.rand()
    random.random()
