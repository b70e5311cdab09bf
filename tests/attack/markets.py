"""Broken markets of all sizes: none comes to train, and right ones do."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

from rl_markets.conformance.examine import lawful
from rl_markets.envs.spec import MarketSpec
from rl_markets.errors import MarketError, RunFailedError
from tests.attack.judge import Case, SilentError
from tests.support import broken_markets

RIGHT = ("RIGHT", "FOREIGN_RIGHT")
ELSEWHERE = ("OTHER_PROCESS", "NO_WORKER", "HANG_IN_C")
"""What shows in another process only, or ends its own: tests of their own hold these."""
SPECS: dict[str, MarketSpec] = {
    name: value
    for name, value in vars(broken_markets).items()
    if isinstance(value, MarketSpec) and name not in ELSEWHERE
}


def cases(generator: random.Random, count: int) -> Iterator[Case]:
    """Every broken market in turn, with parameters of one's own."""
    for i in range(count):
        name = list(SPECS)[i % len(SPECS)]
        given = {
            "traders": generator.randint(2, 6),
            "episode_length": generator.choice((5, 20, 30)),
            "discount": generator.choice((0.5, 0.9, 0.99)),
        }
        said = ", ".join(f"{key} = {value}" for key, value in given.items())
        yield Case("markets", f"{name}: {said}", partial(_attempt, name, given), seconds=30)


def _attempt(name: str, given: dict[str, float]) -> str:
    spec = SPECS[name]
    parameters = spec.parameters(**given)
    try:
        lawful(
            lambda worlds: spec.build(parameters, worlds=worlds),
            spec=spec,
            parameters=parameters,
            seconds=1,
        )
    except MarketError as error:
        if name in RIGHT:
            raise AssertionError(f"a right market is refused: {error}") from error
        raise RunFailedError(str(error)) from error
    if name not in RIGHT:
        raise SilentError(f"{name} would train")
    return "would train"
