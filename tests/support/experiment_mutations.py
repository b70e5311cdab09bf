"""Changes of a good experiment file that must be refused, each with what the one line must say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.experiment_files import FILES, content
from tests.support.mutation import INF, NAN, Mutation
from tests.support.mutations_anywhere import ANY_MARKET

MARKET = {
    "households": [
        Mutation(
            "beta-text",
            {"market.parameters.beta": "0.95"},
            ["market.parameters.beta = '0.95': expected a number"],
        ),
        Mutation(
            "beta-one",
            {"market.parameters.beta": 1.0},
            ["market.parameters.beta = 1.0: expected < 1"],
        ),
        Mutation(
            "beta-nan",
            {"market.parameters.beta": NAN},
            ["market.parameters.beta = nan: expected a finite"],
        ),
        Mutation(
            "b-infinite",
            {"market.parameters.b": INF},
            ["market.parameters.b = inf: expected a finite number"],
        ),
        Mutation(
            "delta-zero",
            {"market.parameters.delta": 0},
            ["market.parameters.delta = 0: expected > 0"],
        ),
        Mutation(
            "households-negative",
            {"market.parameters.households": -2},
            ["parameters.households = -2: expected >="],
        ),
        Mutation(
            "alpha-misspelt",
            {"market.parameters.alhpa": 0.3},
            ["market.parameters.alhpa", "did you mean 'alpha'?"],
        ),
        Mutation(
            "conduct",
            {"market.parameters.conduct": "fair"},
            ["market.parameters.conduct = 'fair'", "'strategic'"],
        ),
        Mutation(
            "capital-low-above-high",
            {"market.parameters.initial_capital": [2.0, 1.0]},
            ["market.parameters.initial_capital: expected low <= high, found [2.0, 1.0]"],
        ),
        Mutation(
            "capital-three-bounds",
            {"market.parameters.initial_capital": [1.0, 2.0, 3.0]},
            ["market.parameters.initial_capital"],
        ),
        Mutation(
            "capital-negative",
            {"market.parameters.initial_capital": [-1.0, 2.0]},
            ["market.parameters.initial_capital.0 = -1.0: expected > 0"],
        ),
        Mutation(
            "capital-infinite",
            {"market.parameters.initial_capital": [1.0, INF]},
            ["market.parameters.initial_capital.1 = inf: expected a finite number"],
        ),
        Mutation(
            "productivities-do-not-divide",
            {"market.parameters.labour_productivity": [1.0] * 7},
            ["market.parameters.labour_productivity: 7 types do not divide"],
        ),
        Mutation(
            "productivities-all-zero",
            {"market.parameters.capital_productivity": [0.0]},
            ["market.parameters.capital_productivity: expected at least one positive value"],
        ),
    ],
}
REPLAYING = [
    Mutation(
        "rate-text",
        {"algorithm.parameters.learning_rate": "1e-4"},
        ["learning_rate = '1e-4': expected a number"],
    ),
    Mutation(
        "rate-rises",
        {
            "algorithm.parameters.learning_rate": 1e-4,
            "algorithm.parameters.final_learning_rate": 1e-2,
        },
        ["algorithm.parameters.final_learning_rate: expected at most learning_rate = 0.0001"],
    ),
    Mutation(
        "batch-none", {"algorithm.parameters.batch_size": 0}, ["batch_size = 0: expected >= 1"]
    ),
    Mutation(
        "capacity-float",
        {"algorithm.parameters.capacity": 1e6},
        ["capacity = 1000000.0: expected a"],
    ),
    Mutation(
        "updates-negative", {"algorithm.parameters.updates": -3}, ["updates = -3: expected >= 1"]
    ),
    Mutation(
        "ppos-field",
        {"algorithm.parameters.minibatches": 4},
        ["algorithm.parameters.minibatches: unknown field"],
    ),
]
DETERMINISTIC = [
    *REPLAYING,
    Mutation("critics-three", {"algorithm.parameters.critics": 3}, ["critics = 3: expected <= 2"]),
    Mutation(
        "critics-bool",
        {"algorithm.parameters.critics": True},
        ["critics = True: expected a whole number"],
    ),
    Mutation(
        "delay-zero", {"algorithm.parameters.policy_delay": 0}, ["policy_delay = 0: expected >= 1"]
    ),
    Mutation(
        "smoothing-negative",
        {"algorithm.parameters.smoothing_std": -0.1},
        ["smoothing_std = -0.1: expected >= 0"],
    ),
    Mutation(
        "clip-zero",
        {"algorithm.parameters.smoothing_clip": 0.0},
        ["smoothing_clip = 0.0: expected > 0"],
    ),
    Mutation(
        "exploration-zero",
        {"algorithm.parameters.exploration_std": 0.0},
        ["exploration_std = 0.0: expected > 0"],
    ),
    Mutation(
        "exploration-nan",
        {"algorithm.parameters.final_exploration_std": NAN},
        ["final_exploration_std = nan"],
    ),
    Mutation(
        "sacs-field",
        {"algorithm.parameters.initial_alpha": 0.1},
        ["parameters.initial_alpha: unknown field"],
    ),
]
LEARNER = {
    "ppo": [
        Mutation(
            "rate-text",
            {"algorithm.parameters.learning_rate": "1e-4"},
            ["learning_rate = '1e-4': expected a number"],
        ),
        Mutation(
            "rate-negative",
            {"algorithm.parameters.learning_rate": -1e-3},
            ["learning_rate = -0.001: expected > 0"],
        ),
        Mutation(
            "rate-nan",
            {"algorithm.parameters.learning_rate": NAN},
            ["learning_rate = nan: expected a finite"],
        ),
        Mutation(
            "rate-rises",
            {
                "algorithm.parameters.learning_rate": 1e-3,
                "algorithm.parameters.final_learning_rate": 1e-2,
            },
            ["algorithm.parameters.final_learning_rate: expected at most learning_rate = 0.001"],
        ),
        Mutation(
            "clip-infinite",
            {"algorithm.parameters.gradient_clip": INF},
            ["gradient_clip = inf: expected a finite"],
        ),
        Mutation(
            "rate-misspelt",
            {"algorithm.parameters.learning_rat": 1e-3},
            ["algorithm.parameters.learning_rat: unknown field (did you mean 'learning_rate'?)"],
        ),
        Mutation(
            "epochs-fraction",
            {"algorithm.parameters.epochs": 2.5},
            ["algorithm.parameters.epochs = 2.5: expected a"],
        ),
        Mutation(
            "gamma-contradicts-the-market",
            {"algorithm.parameters.gamma": 0.5},
            [
                "algorithm.parameters.gamma = 0.5: expected 0.",
                "as market.parameters.",
                "leave it out",
            ],
        ),
        Mutation(
            "minibatches-more-than-rows",
            {
                "market.worlds": 1,
                "training.rollout_length": 2,
                "algorithm.parameters.minibatches": 10_000,
            },
            ["algorithm.parameters.minibatches: 10000 slices of ", "expected at most "],
        ),
    ],
    "sac": [
        *REPLAYING,
        Mutation(
            "alpha-zero",
            {"algorithm.parameters.initial_alpha": 0.0},
            ["initial_alpha = 0.0: expected > 0"],
        ),
        Mutation(
            "entropy-too-large",
            {"algorithm.parameters.target_entropy": 3.0},
            ["target_entropy = 3.0: expected <= 2.4"],
        ),
    ],
    "analytic": [
        Mutation(
            "horizon-zero", {"algorithm.parameters.horizon": 0}, ["horizon = 0: expected >= 1"]
        ),
        Mutation(
            "horizon-divides-nothing",
            {"algorithm.parameters.horizon": 7},
            ["algorithm.parameters.horizon = 7: expected a divisor of training.rollout_length"],
        ),
        Mutation(
            "critic-misspelt",
            {"algorithm.parameters.critic": "costate"},
            ["critic = 'costate': expected"],
        ),
        Mutation(
            "noise-negative",
            {"algorithm.parameters.exploration_std": -0.1},
            ["exploration_std = -0.1: expected >= 0"],
        ),
        Mutation(
            "market-without-gradients",
            {
                "market.name": "pettingzoo",
                "market.parameters": {
                    "env": "rl_markets.envs.pettingzoo.example:Cournot",
                    "discount": 0.8,
                },
                "policies": {"p": {"groups": ["agents"]}},
            },
            ["is not differentiable"],
        ),
    ],
    "td3": DETERMINISTIC,
    "ddpg": DETERMINISTIC,
}


def mutations_of(path: Path) -> list[Mutation]:
    data = content(path)
    return [
        *ANY_MARKET,
        *MARKET.get(data["market"]["name"], []),
        *LEARNER.get(data["algorithm"]["name"], []),
    ]


CASES = [
    pytest.param(path, mutation, id=f"{path.stem}-{mutation.name}")
    for path in FILES
    for mutation in mutations_of(path)
]
