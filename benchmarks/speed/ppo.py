"""PPO: sampling alone, and with four epochs of learning, against RLlib's own."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.speed import economy, stock
from benchmarks.speed.economy import built, experiment, sampled, trained
from benchmarks.speed.rounds import OURS, STOCK, Say, compared, fastest, in_turns
from rl_markets.training.metrics import flatten

TRAINING_TARGET = 15.0


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """Rates of both sides, in turns."""
    size = economy.SIZE
    with built(experiment(), *(stock.ppo(envs) for envs in size.stock_envs)) as (ours, *stocks):
        candidates = dict(zip(size.stock_envs, stocks, strict=True))
        works = {n: partial(sampled, algorithm) for n, algorithm in candidates.items()}
        envs = fastest(works, seconds / 2)
        say(f"RLlib's own runner is fastest with {envs} environments")
        sides = {OURS: ours, STOCK: candidates[envs]}
        ours.train()  # theirs are warm from the choice between them
        works_of_sampling = {n: partial(sampled, algorithm) for n, algorithm in sides.items()}
        sampling = in_turns(works_of_sampling, seconds, size.rounds, say)
        works_of_training = {n: partial(trained, algorithm) for n, algorithm in sides.items()}
        training = in_turns(works_of_training, seconds, size.rounds, say)
        shares = _shares(ours)
    what = f"sampling and {size.epochs} epochs"
    rows = [
        compared("sampling", STOCK, sampling[OURS], sampling[STOCK], None),
        compared(what, STOCK, training[OURS], training[STOCK], TRAINING_TARGET),
    ]
    note = "our iteration: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return {"rows": rows, "notes": [note], "shares": shares, "stock_envs": envs}


def _shares(algorithm: Any) -> dict[str, float]:
    """Where one of our training iterations spends its time."""
    row = flatten(algorithm.train(), experiment(), seconds=0.0, distance=None)
    return {name: row[f"{name}_share"] for name in ("market", "policy", "learner", "framework")}
