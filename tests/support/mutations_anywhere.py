"""Changes that every experiment file must refuse, whatever its market and learner."""

from __future__ import annotations

import os
from typing import Any

from tests.support.mutation import (
    INF,
    NAN,
    REMOVED,
    Mutation,
    all_scripted,
    first_policy,
    renamed_policy,
)

ENOUGH = 10**13
"""Agent steps that are enough for one iteration of anything."""
DEEP: list[Any] = []
for _ in range(40):
    DEEP = [DEEP]

ANY_MARKET = [
    Mutation(
        "name-missing", {"name": REMOVED}, ["name: missing", "expected the folder under runs/"]
    ),
    Mutation("name-number", {"name": 3}, ["name = 3: expected text"]),
    Mutation("name-pattern", {"name": "../up"}, ["name = '../up': expected text that matches"]),
    Mutation("name-is-the-link", {"name": "latest"}, ["name = 'latest': expected another name"]),
    Mutation("name-long", {"name": "x" * 81}, ["name = 'xxx", "expected at most 80 characters"]),
    Mutation("name-two-lines", {"name": "a\nb"}, ["name = 'a\\nb': expected text that matches"]),
    Mutation("summary-list", {"summary": ["a"]}, ["summary = ['a']: expected text"]),
    Mutation("seed-negative", {"seed": -1}, ["seed = -1: expected >= 0"]),
    Mutation("seed-huge", {"seed": 2**31}, ["seed = 2147483648: expected < 2147483648"]),
    Mutation("seed-fraction", {"seed": 1.5}, ["seed = 1.5: expected a whole number"]),
    Mutation("seed-bool", {"seed": True}, ["seed = True: expected a whole number"]),
    Mutation("seed-bits", {"seed": 2**70}, ["seed = a whole number of 71 bits", "at most 64 bits"]),
    Mutation(
        "misspelt-section", {"trainig": {}}, ["trainig: unknown field (did you mean 'training'?)"]
    ),
    Mutation(
        "misspelt-nothing-near", {"qqq": 1}, ["qqq: unknown field (expected one of: algorithm, "]
    ),
    Mutation("key-two-lines", {"a\nb": 1}, ["a\\nb: unknown field"]),
    Mutation("market-missing", {"market": REMOVED}, ["market: missing"]),
    Mutation("market-list", {"market": [1]}, ["market = [1]: expected a section"]),
    Mutation(
        "market-text", {"market": "households"}, ["market = 'households': expected a section"]
    ),
    Mutation("market-null", {"market": None}, ["market = None: expected a section"]),
    Mutation(
        "market-unknown",
        {"market.name": lambda data: data["market"]["name"][:-1]},
        ["market.name = ", "unknown market", "did you mean '{market[name]}'?"],
    ),
    Mutation("market-nowhere", {"market.name": "qqq"}, ["unknown market 'qqq' (expected one of: "]),
    Mutation(
        "market-not-a-spec", {"market.name": "answers"}, ["market.name = 'answers': unknown market"]
    ),
    Mutation(
        "market-path", {"market.name": "os.path"}, ["market.name = 'os.path': unknown market"]
    ),
    Mutation(
        "worlds-misspelt",
        {"market.world": 3},
        ["market.world: unknown field (did you mean 'worlds'?)"],
    ),
    Mutation("worlds-zero", {"market.worlds": 0}, ["market.worlds = 0: expected >= 1"]),
    Mutation(
        "worlds-text", {"market.worlds": "64"}, ["market.worlds = '64': expected a whole number"]
    ),
    Mutation(
        "worlds-many", {"market.worlds": 10**7}, ["market.worlds = 10000000: expected <= 1000000"]
    ),
    Mutation(
        "worlds-fill-the-memory",
        {"market.worlds": 10**6, "training.rollout_length": 10**4, "training.agent_steps": ENOUGH},
        ["market.worlds: one rollout of ", " GiB; expected at most half of this machine's"],
    ),
    Mutation(
        "parameters-list",
        {"market.parameters": [1]},
        ["market.parameters = [1]: expected a mapping"],
    ),
    Mutation(
        "parameters-deep",
        {"market.parameters.x": DEEP},
        ["market.parameters.x.0.0.0", "nested deeper than 32 levels"],
    ),
    Mutation(
        "policies-missing",
        {"policies": REMOVED},
        ["policies: missing; expected policy name -> its"],
    ),
    Mutation("policies-empty", {"policies": {}}, ["policies = {{}}: expected at least 1 entries"]),
    Mutation("policies-list", {"policies": ["a"]}, ["policies = ['a']: expected a mapping"]),
    Mutation(
        "policy-null", {"policies.POLICY": None}, ["policies.POLICY = None: expected a section"]
    ),
    Mutation(
        "policy-slash",
        {"policies": renamed_policy("a/b")},
        ["policies.a/b = 'a/b': expected text that"],
    ),
    Mutation(
        "policy-comma",
        {"policies": renamed_policy("a,b")},
        ["policies.a,b = 'a,b': expected text that"],
    ),
    Mutation("policy-dots", {"policies": renamed_policy("..")}, ["expected text that matches"]),
    Mutation(
        "groups-missing",
        {"policies.POLICY.groups": REMOVED},
        ["policies.POLICY.groups: missing; expected"],
    ),
    Mutation(
        "groups-empty",
        {"policies.POLICY.groups": []},
        ["policies.POLICY.groups", "at least 1 entries"],
    ),
    Mutation(
        "groups-text",
        {"policies.POLICY.groups": "all"},
        ["policies.POLICY.groups = 'all': expected a list"],
    ),
    Mutation(
        "group-number",
        {"policies.POLICY.groups": [7]},
        ["policies.POLICY.groups.0 = 7: expected text"],
    ),
    Mutation(
        "group-unknown",
        {"policies.POLICY.groups": lambda data: [first_policy(data)["groups"][0] + "x"]},
        ["policies.POLICY.groups: market '{market[name]}' has no group", "(did you mean '"],
    ),
    Mutation(
        "group-in-two-policies",
        {"policies.other": first_policy},
        ["policies.other.groups: group '", "already belongs to policy 'POLICY'"],
    ),
    Mutation(
        "group-twice-in-a-policy",
        {"policies.POLICY.groups": lambda data: first_policy(data)["groups"] * 2},
        ["policies.POLICY.groups: group '", "already belongs to policy 'POLICY'"],
    ),
    Mutation(
        "hidden-misspelt",
        {"policies.POLICY.hiden": [8]},
        ["policies.POLICY.hiden: unknown field (did you mean 'hidden'?)"],
    ),
    Mutation(
        "hidden-zero",
        {"policies.POLICY.hidden": [64, 0]},
        ["policies.POLICY.hidden.1 = 0: expected >= 1"],
    ),
    Mutation(
        "hidden-deep",
        {"policies.POLICY.hidden": [8] * 9},
        ["policies.POLICY.hidden", "at most 8 entries"],
    ),
    Mutation(
        "hidden-mapping", {"policies.POLICY.hidden": {"a": 1}}, ["policies.POLICY.hidden", "a list"]
    ),
    Mutation(
        "activation-unknown",
        {"policies.POLICY.activation": "tan"},
        ["policies.POLICY.activation = 'tan': expected 'tanh', 'relu' or 'silu'"],
    ),
    Mutation("algorithm-missing", {"algorithm": REMOVED}, ["algorithm: missing"]),
    Mutation(
        "algorithm-misspelt",
        {"algorithm.parameter": {}},
        ["algorithm.parameter: unknown field (did you mean 'parameters'?)"],
    ),
    Mutation(
        "learner-unknown",
        {"algorithm.name": lambda data: data["algorithm"]["name"] + "o"},
        ["algorithm.name = ", "unknown learner", "did you mean '{algorithm[name]}'?"],
    ),
    Mutation(
        "learner-parameter-unknown",
        {"algorithm.parameters.qqq": 1},
        ["algorithm.parameters.qqq: unknown field (expected one of: "],
    ),
    Mutation(
        "market-parameter-unknown",
        {"market.parameters.qqq": 1},
        ["market.parameters.qqq: unknown field (expected one of: "],
    ),
    Mutation("training-missing", {"training": REMOVED}, ["training: missing"]),
    Mutation("training-number", {"training": 5}, ["training = 5: expected a section"]),
    Mutation(
        "agent-steps-missing",
        {"training.agent_steps": REMOVED},
        ["training.agent_steps: missing; expected length of training"],
    ),
    Mutation(
        "agent-steps-misspelt",
        {"training.agentsteps": 1},
        ["training.agentsteps: unknown field (did you mean 'agent_steps'?)"],
    ),
    Mutation(
        "agent-steps-float",
        {"training.agent_steps": 1e6},
        ["training.agent_steps = 1000000.0: expected a w"],
    ),
    Mutation(
        "agent-steps-text",
        {"training.agent_steps": "1e6"},
        ["training.agent_steps = '1e6': expected a whole"],
    ),
    Mutation(
        "agent-steps-infinite",
        {"training.agent_steps": INF},
        ["training.agent_steps = inf: expected a finite"],
    ),
    Mutation(
        "agent-steps-few",
        {"training.agent_steps": 1},
        ["training.agent_steps = 1: expected at least one iter"],
    ),
    Mutation(
        "rollout-zero",
        {"training.rollout_length": 0},
        ["training.rollout_length = 0: expected >= 1"],
    ),
    Mutation(
        "runners-negative", {"training.runners": -1}, ["training.runners = -1: expected >= 0"]
    ),
    Mutation(
        "runners-more-than-cpus",
        {"training.runners": 9999, "training.agent_steps": ENOUGH},
        [
            "training.runners: 9999 runners",
            f"expected at most the {len(os.sched_getaffinity(0))} of this machine",
        ],
    ),
    Mutation(
        "gpus",
        {"training.gpus_per_learner": 1.5},
        ["training.gpus_per_learner = 1.5: expected <= 1"],
    ),
    Mutation(
        "gpus-nan",
        {"training.gpus_per_learner": NAN},
        ["training.gpus_per_learner = nan: expected a finite"],
    ),
    Mutation(
        "checkpoints-one",
        {"training.keep_checkpoints": 1},
        ["training.keep_checkpoints = 1: expected >= 2"],
    ),
    Mutation("certificate-null", {"certificate": None}, ["certificate = None: expected a section"]),
    Mutation("seeds-one", {"certificate.seeds": 1}, ["certificate.seeds = 1: expected >= 2"]),
    Mutation(
        "seeds-misspelt",
        {"certificate.seed": 3},
        ["certificate.seed: unknown field (did you mean 'seeds'?)"],
    ),
    Mutation(
        "separate-text",
        {"policies.POLICY.separate": "yes"},
        ["policies.POLICY.separate = 'yes': expected true"],
    ),
    Mutation(
        "central-number",
        {"policies.POLICY.central_critic": 1},
        ["central_critic = 1: expected true or false"],
    ),
    Mutation("scripted-empty", {"policies.POLICY.scripted": ""}, ["policies.POLICY.scripted = ''"]),
    Mutation("scripted-unknown", {"policies": all_scripted("nobody")}, ["has no rule 'nobody'"]),
    Mutation(
        "scripted-alone", {"policies": all_scripted("torch:abs")}, ["policies: none of them learns"]
    ),
    Mutation(
        "scripted-and-frozen",
        {"policies.POLICY.scripted": "torch:abs", "policies.POLICY.frozen": "runs/latest"},
        ["policies.POLICY: scripted and frozen are both given"],
    ),
    Mutation(
        "own-parameter-misspelt",
        {"policies.POLICY.parameters": {"learning_rat": 1e-3}},
        ["policies.POLICY.parameters.learning_rat: unknown field (did you mean 'learning_rate'?)"],
    ),
    Mutation(
        "own-parameter-negative",
        {"policies.POLICY.parameters": {"learning_rate": -1.0}},
        ["policies.POLICY.parameters.learning_rate = -1.0: expected > 0"],
    ),
    Mutation(
        "step-seconds-zero",
        {"training.step_seconds": 0.0},
        ["training.step_seconds = 0.0: expected > 0"],
    ),
]
