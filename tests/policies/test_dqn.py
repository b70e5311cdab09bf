"""DQN: targets and losses by hand, statistics, masks, and a currency that is nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_markets.experiment import parse
from rl_markets.policies.dqn.module import CHOICES, LEARNS
from rl_markets.policies.heads import FORBIDDEN
from rl_markets.policies.module import ACTIONS
from rl_markets.policies.offpolicy import NONTERMINAL
from rl_markets.policies.replay import NEXT_OBSERVATIONS
from rl_markets.policies.rollout import OBSERVATIONS, REWARDS
from rl_markets.rllib.build import algorithm_config, one_world
from tests.support.pricing_markets import RICH, SEASON
from tests.support.replaying import Held

pytestmark = pytest.mark.usefixtures("ray_once")

Batch = dict[str, Tensor]
BRANCHED: dict[str, Any] = {
    "periods": 6,
    "products": 3,
    "list_price": [10.0],
    "cost": [4.0],
    "levels": [0.7, 0.85, 1.0, 1.2],
    "demand": {"family": "logit", "visitors": 8.0, "quality": [11.0, 10.0, 9.0], "mu": 2.0},
    "stock": {"units": [9]},
    "guard": {"change": 0.2},
}
"""Three products with a brake: a mask in three branches."""


def experiment_data(
    market: dict[str, Any], steps: int = 10_000, **algorithm: Any
) -> dict[str, Any]:
    """A market's sellers, all with one policy."""
    groups = list(market.get("sellers", {"seller": 1}))
    return {
        "name": "shop",
        "market": {"name": "pricing", "worlds": 64, "parameters": market},
        "policies": {"seller": {"groups": groups, "hidden": [32, 32], "activation": "relu"}},
        "algorithm": {
            "name": "dqn",
            "parameters": {"updates": 8, "batch_size": 64, "capacity": 20_000, **algorithm},
        },
        "training": {"agent_steps": steps, "rollout_length": 8},
        "certificate": {"deviation_agent_steps": 0},
    }


def sampled(
    held: Held, market: dict[str, Any], iterations: int = 3, **algorithm: Any
) -> tuple[Any, Any, Batch]:
    """A learner after a few iterations, its module, and a batch of its replay.

    Every third row is an episode's last.
    """
    learner = held.learner(experiment_data(market, **algorithm))
    for _ in range(iterations):
        held.algorithms[-1].train()
    batch: Batch = learner.replay["seller"].sample(32, torch.Generator().manual_seed(5))
    batch[NONTERMINAL] = (torch.arange(32) % 3 != 0).float()
    return learner, learner.networks("seller"), batch


# -- targets and statistics ------------------------------------------------------------------------


def by_hand(module: Any, batch: Batch, row: int, branches: int, choices: int) -> float:
    """r + gamma mean over branches of Q'(s', argmax Q(s', .)), in money.

    Over what the mask allows.
    """
    next_obs = batch[NEXT_OBSERVATIONS][row].double()
    networks = (copy.deepcopy(m).double().net for m in (module.actor, module.target))
    online, slow = (net(next_obs[None])[0].detach() for net in networks)
    masked = module.actor.spec.get("masked")
    total = 0.0
    for b in range(branches):
        cells = range(b * choices, (b + 1) * choices)
        allowed = [
            k for k in cells if not masked or next_obs[len(next_obs) - branches * choices + k] > 0.5
        ]
        best = max(allowed, key=lambda k: float(online[k]))
        total += float(module.critic.shift) + float(module.critic.scale) * float(slow[best])
    return float(batch[REWARDS][row]) + float(batch[NONTERMINAL][row]) * total / branches


@pytest.mark.parametrize(("market", "branches", "choices"), [(SEASON, 1, 5), (BRANCHED, 3, 4)])
def test_targets_are_a_hand_computation(
    held: Held, market: dict[str, Any], branches: int, choices: int
) -> None:
    learner, module, batch = sampled(held, market)
    with torch.no_grad():
        for weight in module.target.net.parameters():  # the argmax is the online network's
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    y = learner.targets("seller", module, batch) * module.critic.scale + module.critic.shift
    for row in range(32):
        assert float(y[0, row]) == pytest.approx(
            by_hand(module, batch, row, branches, choices), rel=1e-4, abs=1e-3
        )


def test_gradients_are_those_of_the_huber_loss(held: Held) -> None:
    """Of every branch's chosen value, in double precision; errors count linearly beyond 1."""
    learner, module, batch = sampled(held, BRANCHED, huber=1.0)
    gradients: list[Tensor] = []
    learner.optimizer_step = lambda *_: gradients.extend(
        w.grad.clone() for w in module.actor.parameters()
    )
    exact = copy.deepcopy(module.actor).double()
    y = learner.targets("seller", module, batch)[0].double()
    learner.update_policy("seller", batch, reporting=False)
    values = exact.net(batch[OBSERVATIONS].double()).view(32, 3, 4)
    error = values.gather(-1, batch[CHOICES].unsqueeze(-1)).squeeze(-1) - y[:, None]
    loss = torch.where(error.abs() < 1, 0.5 * error.square(), error.abs() - 0.5).mean()
    for gradient, slow in zip(
        gradients, torch.autograd.grad(loss, list(exact.net.parameters())), strict=True
    ):
        torch.testing.assert_close(gradient.double(), slow, rtol=1e-3, atol=1e-6)


def test_action_values_survive_new_statistics(held: Held) -> None:
    """Q in money is the same by other statistics, and so is the greedy choice.

    Of the actor, its average and the target.
    """
    _, module, batch = sampled(held, BRANCHED)
    obs = batch[OBSERVATIONS]
    networks = (module.actor, module.ema, module.target)

    def money() -> list[Tensor]:
        return [
            module.critic.shift + module.critic.scale * network.net(obs) for network in networks
        ]

    before = [q.detach() for q in money()]
    greedy = module.ema.act(obs)
    module.critic.rescale(module.critic.shift + 37.0, module.critic.scale * 5)
    for old, new in zip(before, money(), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-3)
    assert float((module.ema.act(obs) == greedy).float().mean()) > 0.98


def test_each_head_learns_from_its_own_steps_only(held: Held) -> None:
    """A head whose steps these are not gets no gradient; the others' targets are their own."""
    learner, module, batch = sampled(held, BRANCHED, rule="bootstrapped", heads=3)
    assert batch[LEARNS].shape == (32, 3)
    assert 0 < float(batch[LEARNS].mean()) < 1
    y = learner.targets("seller", module, batch)
    assert y.shape == (3, 32)
    assert float((y[0] - y[1]).abs().max()) > 0
    batch[LEARNS] = torch.tensor([1.0, 0.0, 1.0]).expand(32, 3)
    gradients: list[Tensor] = []
    learner.optimizer_step = lambda *_: gradients.extend(
        w.grad.clone() for w in module.actor.parameters()
    )
    learner.update_policy("seller", batch, reporting=False)
    last = gradients[-1].view(3, 12)
    assert float(last[1].abs().max()) == 0
    assert float(last[0].abs().max()) > 0 < float(last[2].abs().max())


def test_centring_takes_out_what_all_values_miss_in_common(held: Held) -> None:
    """The mean temporal-difference error vanishes at once, and no choice changes."""
    endless = SEASON | {"deadline": False, "gamma": 0.99, "stock": None, "exploring_starts": 0.0}
    learner, module, batch = sampled(held, endless, centring=1.0)
    batch[NONTERMINAL] = torch.ones(32)
    # As if all values were 50 too low.
    module.critic.adopt(module.critic.shift - 50.0, module.critic.scale)

    def missing() -> float:
        values = module.values(module.actor, batch[OBSERVATIONS])
        taken = learner._taken(values, batch[CHOICES]).mean(-1)
        return float((learner.targets("seller", module, batch) - taken.detach()).mean())

    before = missing()
    greedy = module.exploit(batch[OBSERVATIONS])
    with torch.no_grad():
        learner._centre("seller", module, batch)
    assert abs(before) > 0.01
    assert abs(missing()) < 1e-3 * abs(before)
    assert torch.equal(module.exploit(batch[OBSERVATIONS]), greedy)


# -- masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        "eps-softmax",
        "eps-greedy",
        "entropy-budget",
        "loss-budget",
        "rank",
        "boltzmann",
        "bootstrapped",
    ],
)
def test_what_is_forbidden_is_neither_explored_nor_chosen(held: Held, rule: str) -> None:
    heads = 3 if rule == "bootstrapped" else 1
    _, module, batch = sampled(
        held, BRANCHED, 1, rule=rule, exploration=0.9, final_exploration=0.5, heads=heads
    )
    obs = batch[OBSERVATIONS]
    generator = torch.Generator().manual_seed(0)
    mask = obs[:, -12:].view(32, 3, 4) > 0.5
    assert int((~mask).sum()) > 0
    p = module.probabilities(module.values(module.actor, obs), generator)
    assert bool((p[~mask] == 0).all())
    torch.testing.assert_close(p.sum(-1), torch.ones(32, 3, dtype=p.dtype))
    for _ in range(50):
        explored = module.explore(obs, generator)
        assert bool(mask.gather(-1, explored[CHOICES].unsqueeze(-1)).all())
        assert torch.equal(explored[ACTIONS], explored[CHOICES])
    assert bool(mask.gather(-1, module.exploit(obs).unsqueeze(-1)).all())
    assert bool((module.values(module.actor, obs)[:, ~mask] == FORBIDDEN).all())


def test_every_choice_replayed_was_allowed(held: Held) -> None:
    learner, *_ = sampled(held, RICH | {"sellers": {"big": 2}})
    rows = learner.replay["seller"].sample(2000, torch.Generator().manual_seed(0))
    mask = rows[OBSERVATIONS][:, -14:].view(-1, 2, 7) > 0.5
    assert bool(mask.gather(-1, rows[CHOICES].unsqueeze(-1)).all())


# -- training --------------------------------------------------------------------------------------


def in_units(factor: float, market: dict[str, Any] = SEASON) -> dict[str, Any]:
    """The season in another currency."""
    (price,) = market["list_price"]
    (slope,) = market["demand"]["slope"]
    return market | {
        "list_price": [price * factor],
        "demand": {**market["demand"], "slope": [slope / factor]},
    }


def trained(
    market: dict[str, Any],
    iterations: int,
    look: Callable[[Any], None] | None = None,
    **algorithm: Any,
) -> tuple[dict[str, Tensor], float]:
    """The actors' weights after training, and the loss against the dynamic programme in %."""
    experiment = parse(experiment_data(market, iterations * 512, **algorithm), "test")
    run = algorithm_config(experiment).build_algo()
    try:
        for _ in range(iterations):
            run.train()
            if look is not None:
                look(run)
        module = run.learner_group._learner.module["seller"].unwrapped()
        answer = experiment.answer_key()
        assert answer is not None
        loss = answer.distance({"seller": module.deployed.act})
        weights = {n: w.clone() for n, w in module.state_dict().items()}
        return weights, loss
    finally:
        run.stop()


def test_a_run_is_reproducible_and_its_currency_changes_no_bit() -> None:
    """The same weights in yen and in 1/1024 yen; only the statistics differ.

    Powers of two are exact in floating point.
    """
    (one, _), (again, _), (other, _) = (trained(in_units(f), 12) for f in (1.0, 1.0, 1024.0))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert float(one["critic.scale"]) * 1024 == float(other["critic.scale"])
    assert float(one["critic.shift"]) * 1024 == float(other["critic.shift"])
    networks = [name for name in one if not name.startswith("critic.")]
    assert all(torch.equal(one[name], other[name]) for name in networks)


@pytest.mark.slow
def test_a_season_is_learned_in_any_currency_but_not_without_normalisation() -> None:
    """Five units, five days: within 3 % of the dynamic programme in seconds.

    Unnormalised and in sen, it is not.
    """
    good = {
        "updates": 16,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "final_learning_rate": 2e-4,
        "final_exploration": 0.05,
    }
    market = SEASON | {"exploring_starts": 0.3}
    _, loss = trained(market, 120, **good)
    assert loss < 3.0
    _, larger = trained(in_units(100.0, market), 120, **good)
    assert larger < 3.0
    _, control = trained(in_units(100.0, market), 120, **good, normalise=False)
    assert control > 10.0


@pytest.mark.slow
def test_a_learned_price_recovers_when_a_rival_leaves() -> None:
    """A cheap seller leaves in period 8.

    The learned price is then within a notch of the monopoly's, below it before.
    """
    market = {
        "periods": 20,
        "deadline": False,
        "gamma": 0.9,
        "list_price": [2.0],
        "cost": [1.0],
        "demand": {"family": "logit", "visitors": 50.0, "quality": [2.0], "mu": 0.25},
        "rivals": [{"rule": "cost-plus", "markup": 0.1, "leaves": 8}],
        "levels": [0.55, 0.65, 0.75, 0.85, 0.95, 1.05],
    }
    experiment = parse(
        experiment_data(market, 100 * 512, updates=16, batch_size=128, learning_rate=2e-3), "test"
    )
    run = algorithm_config(experiment).build_algo()
    try:
        for _ in range(100):
            run.train()
        act = run.learner_group._learner.module["seller"].unwrapped().deployed.act
        world: Any = one_world(experiment)
        world.stagger = False
        obs = world.reset(1)
        posted = []
        for _ in range(16):
            actions = {"seller": act(obs["seller"])}
            posted.append(int(actions["seller"]))
            obs = world.step(actions).observations
    finally:
        run.stop()
    profit = [
        (2 * x - 1) / (1 + torch.exp(torch.tensor((2 * x - 2) / 0.25))) for x in market["levels"]
    ]
    best = int(torch.stack(profit).argmax())
    assert all(abs(k - best) <= 1 for k in posted[9:])
    assert max(posted[1:8]) < min(posted[9:])
