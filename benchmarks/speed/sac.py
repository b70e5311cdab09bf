"""SAC: gradient steps and agent steps, against RLlib's own and against plain torch."""

from __future__ import annotations

from functools import partial
from typing import Any

from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from benchmarks.speed import economy, stock
from benchmarks.speed.economy import built, experiment, trained, warm_up
from benchmarks.speed.raw_sac import RawSAC
from benchmarks.speed.rounds import OURS, STOCK, Say, Work, compared, fastest, in_turns

UPDATES_TARGET = 4.0
STEPS_TARGET = 30.0
TORCH = "plain torch"


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """Learning alone, replay included, of three sides in turns; then training of two."""
    size = economy.SIZE
    configs = [stock.sac(envs) for envs in size.stock_replay_envs]
    with built(experiment("sac"), *configs) as (ours, *stocks):
        candidates = dict(zip(size.stock_replay_envs, stocks, strict=True))
        for algorithm in (ours, *stocks):
            warm_up(algorithm)
        works = {n: partial(trained, algorithm) for n, algorithm in candidates.items()}
        envs = fastest(works, seconds / 2)
        say(f"RLlib's own SAC takes most agent steps with {envs} environments")
        theirs = candidates[envs]
        raw = RawSAC(size.hidden, size.batch)
        learning: dict[str, Work] = {
            OURS: _Learning(ours).update,
            STOCK: partial(stock.sac_update, theirs),
            TORCH: raw.step,
        }
        updates = in_turns(learning, seconds, size.rounds, say)
        training: dict[str, Work] = {OURS: partial(trained, ours), STOCK: partial(trained, theirs)}
        steps = in_turns(training, seconds, size.rounds, say)
        parameters = _parameters(ours, theirs, raw)
    rows = [
        compared("gradient steps", STOCK, updates[OURS], updates[STOCK], UPDATES_TARGET),
        compared("gradient steps", TORCH, updates[OURS], updates[TORCH], None),
        compared("agent steps of training", STOCK, steps[OURS], steps[STOCK], STEPS_TARGET),
    ]
    return {"rows": rows, **_facts(envs, parameters)}


def _facts(envs: int, parameters: dict[str, dict[str, int]]) -> dict[str, Any]:
    """What was alike and what was not."""
    size = economy.SIZE
    steps_per_update = {
        OURS: size.worlds * size.households * size.replay_steps / size.updates,
        STOCK: float(envs * size.households),
    }
    steps = ", ".join(f"{side} {n:.0f}" for side, n in steps_per_update.items())
    notes = [f"agent steps for each gradient step: {steps}"]
    for side, counts in parameters.items():
        notes.append(f"weights, {side}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    return {
        "notes": notes,
        "agent_steps_per_update": steps_per_update,
        "stock_envs": envs,
        "parameters": parameters,
    }


class _Learning:
    """Our learner on one rollout, added to the replay again and again."""

    def __init__(self, algorithm: Any) -> None:
        self.group = algorithm.learner_group
        self.rollouts = algorithm.env_runner_group.local_env_runner.sample()

    def update(self) -> int:
        """One iteration's learning; how many gradient steps that is."""
        self.group.update(episodes=self.rollouts, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0})
        return economy.SIZE.updates


def _parameters(ours: Any, theirs: Any, raw: RawSAC) -> dict[str, dict[str, int]]:
    """Weights of actor and both critics."""
    mine = ours.learner_group._learner.module["household"].unwrapped()
    other = theirs.learner_group._learner.module["household"].unwrapped()
    critics = (other.qf_encoder, other.qf, other.qf_twin_encoder, other.qf_twin)
    return {
        OURS: {"actor": _count(mine.actor), "critics": _count(mine.critic)},
        STOCK: {"actor": _count(other.pi_encoder, other.pi), "critics": _count(*critics)},
        TORCH: {"actor": _count(raw.actor), "critics": _count(raw.critics)},
    }


def _count(*modules: Any) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())
