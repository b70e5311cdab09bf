"""Speed, side by side in one run: our runner and learner against RLlib's own, on the same 20-household economy.

Rates are agent steps per CPU second of this process, so that a busy machine does not change them much; both sides
take turns, and each ratio is of figures measured one after the other. Both sides have the same networks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.table import Table

from rl_markets.envs.market import Market
from rl_markets.experiment import Experiment, parse
from rl_markets.progress import console, short
from rl_markets.rllib.build import algorithm_config, build_market, ray_session
from rl_markets.store import write_text

HOUSEHOLDS, WORLDS, STEPS, EPOCHS, MINIBATCH = 20, 64, 50, 4, 2000
ROUNDS = 3
STOCK_ENVS = (16, 64)
"""RLlib's own runner is measured with as many environments as suit it best."""


def experiment() -> Experiment:
    """The economy that is measured: 20 households with partial depreciation, 64 worlds."""
    rows = WORLDS * STEPS * HOUSEHOLDS
    return parse(
        {
            "name": "bench",
            "market": {"name": "households", "worlds": WORLDS, "parameters": {"households": HOUSEHOLDS}},
            "policies": {"household": {"groups": ["households"]}},
            "algorithm": {"name": "ppo", "parameters": {"epochs": EPOCHS, "minibatches": rows // MINIBATCH}},
            "training": {"agent_steps": 1000 * rows, "rollout_length": STEPS},
        },
        "bench",
    )


def run(seconds: float, output: Path | None) -> None:
    """Measures, prints a table, and writes JSON if asked."""
    torch.set_num_threads(1)
    out, figures = console(), {}
    with ray_session(experiment()):
        out.print("building both sides", highlight=False)
        ours = algorithm_config(experiment()).build_algo()
        stocks = {envs: stock_config(experiment(), envs).build_algo() for envs in STOCK_ENVS}
        try:
            envs = fastest(stocks, seconds / 2)
            out.print(f"RLlib's own runner is fastest with {envs} environments", highlight=False)
            figures = measure(ours, stocks[envs], seconds, lambda line: out.print(line, highlight=False))
            figures["stock_envs"] = envs
        finally:
            for algorithm in (ours, *stocks.values()):
                algorithm.stop()
    figures["market_alone"] = market_rates(seconds / 4)
    _print(figures)
    if output is not None:
        write_text(output, json.dumps(figures, indent=1))


def stock_config(experiment: Experiment, envs: int) -> Any:
    """RLlib's own multi-agent runner and PPO, as RLlib's documentation has it, on the same economy and networks."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    from rl_markets.bench_baseline import HandWrittenHouseholds

    parameters = experiment.market_parameters
    register_env("rl-markets-bench", lambda _: HandWrittenHouseholds(parameters))  # type: ignore[arg-type]
    config = PPOConfig().environment("rl-markets-bench")
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=envs)
    config.multi_agent(policies={"household"}, policy_mapping_fn=lambda *_, **__: "household")
    config.training(train_batch_size_per_learner=MINIBATCH, minibatch_size=MINIBATCH, num_epochs=EPOCHS, lr=1e-3)
    config.rl_module(model_config={"fcnet_hiddens": [64, 64], "vf_share_layers": False})
    config.reporting(min_time_s_per_iteration=None)
    config.debugging(log_level="ERROR", seed=0)
    return config


def measure(ours: Any, stock: Any, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Sampling and training rates of both sides, in turns."""
    sides = {"ours": ours, "stock": stock}
    rates: dict[str, dict[str, list[float]]] = {"sampling": {}, "training": {}}
    ours.train()
    for turn in range(1, ROUNDS + 1):
        for name, algorithm in sides.items():
            runner = algorithm.env_runner_group.local_env_runner
            sampled = rate(partial(_sampled, runner), seconds)
            rates["sampling"].setdefault(name, []).append(sampled)
            runner.get_metrics()
        for name, algorithm in sides.items():
            rates["training"].setdefault(name, []).append(rate(partial(_trained, algorithm), seconds))
        say(f"round {turn}/{ROUNDS}: sampling {rates['sampling']['ours'][-1] / rates['sampling']['stock'][-1]:.0f}x, "
            f"training {rates['training']['ours'][-1] / rates['training']['stock'][-1]:.1f}x")  # fmt: skip
    result: dict[str, Any] = {"shares": _shares(ours)}
    for what, sides_rates in rates.items():
        ratios = [mine / theirs for mine, theirs in zip(sides_rates["ours"], sides_rates["stock"], strict=True)]
        result[what] = {
            "ours": median(sides_rates["ours"]), "stock": median(sides_rates["stock"]),
            "ratio": median(ratios), "lowest": min(ratios), "highest": max(ratios),
        }  # fmt: skip
    return result


def fastest(stocks: dict[int, Any], seconds: float) -> int:
    """The number of environments at which RLlib's own runner samples fastest."""
    rates = {}
    for envs, algorithm in stocks.items():
        algorithm.train()
        runner = algorithm.env_runner_group.local_env_runner
        rates[envs] = rate(partial(_sampled, runner), seconds)
        runner.get_metrics()
    return max(rates, key=rates.__getitem__)


def rate(work: Callable[[], int], seconds: float) -> float:
    """Agent steps per CPU second of `work`, which returns how many it did."""
    done, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        done += work()
    return done / (time.process_time() - started)


def _sampled(runner: Any) -> int:
    return sum(episode.agent_steps() for episode in runner.sample())


def _trained(algorithm: Any) -> int:
    return int(algorithm.train()["env_runners"]["num_env_steps_sampled"]) * HOUSEHOLDS


def _shares(algorithm: Any) -> dict[str, float]:
    """Where one of our training iterations spends its time."""
    from rl_markets.metrics import flatten

    result = algorithm.train()
    row = flatten(result, experiment(), seconds=0.0, distance=None)
    return {name: row[f"{name}_share"] for name in ("market", "policy", "learner", "framework")}


@torch.no_grad()
def market_rates(seconds: float) -> dict[str, float]:
    """The market alone: agent steps per CPU second at 64 x 20, and market steps at one world of 10,000."""

    def market(households: int, worlds: int) -> Market:
        content = experiment().model_dump(mode="json")
        content["market"]["parameters"]["households"] = households
        return build_market(content, "cpu", worlds)

    rates = {}
    for name, households, worlds in (("64 x 20, agent steps", 20, 64), ("1 x 10,000, agent steps", 10_000, 1)):
        built = market(households, worlds)
        built.reset(0)
        actions = {"households": torch.tensor([0.16, 0.13]).expand(worlds, households, 2)}

        def work(built: Market = built, actions: Any = actions, steps: int = households * worlds) -> int:
            built.step(actions)
            return steps

        rates[name] = rate(work, seconds)
    return rates


def _print(figures: dict[str, Any]) -> None:
    out = console()
    table = Table("agent steps per CPU second", "ours", "RLlib's own", "ratio", "over the rounds", title_justify="left")
    names = {"sampling": "sampling", "training": f"PPO, sampling and {EPOCHS} epochs"}
    for key, label in names.items():
        f = figures[key]
        table.add_row(
            label,
            short(f["ours"]),
            short(f["stock"]),
            f"{f['ratio']:.1f}x",
            f"{f['lowest']:.1f}x to {f['highest']:.1f}x",
        )
    out.print(table)
    out.print(
        "our iteration: " + ", ".join(f"{name} {share:.0%}" for name, share in figures["shares"].items()),
        highlight=False,
    )
    for name, value in figures["market_alone"].items():
        out.print(f"market alone, {name}: {short(value)} per CPU second", highlight=False)
