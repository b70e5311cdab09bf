"""TD3 and DDPG: losses, delays, targets and exploration against slow formulas."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_markets.experiment import parse
from rl_markets.policies.heads import NoisyTanh
from rl_markets.policies.offpolicy import RAW, REACH
from rl_markets.policies.replay import NEXT_OBSERVATIONS, NONTERMINAL
from rl_markets.policies.rollout import OBSERVATIONS, REWARDS
from tests.support.replaying import (
    Batch,
    Held,
    double,
    gradients,
    noise,
    replayed,
    set_apart,
    tiny_data,
)

pytestmark = pytest.mark.usefixtures("ray_once")

PLAIN = {"critics": 1, "policy_delay": 1, "smoothing_std": 0.0}
"""What makes TD3 DDPG."""


def _slow_target(
    learner: Any, batch: Batch, row: int, drawn: Tensor
) -> tuple[list[float], Tensor, float]:
    """Each target critic's value, the clipped noise, and r + gamma min Q, in discounted reward."""
    p = learner.parameters("household")
    module = learner.networks("household")
    next_obs = batch[NEXT_OBSERVATIONS][row].double()
    clip = p.smoothing_clip
    noise = [min(max(p.smoothing_std * float(x), -clip), clip) for x in drawn[row]]
    eps = torch.tensor(noise, dtype=torch.float64)
    raw = double(module.target_actor).net(next_obs[None])[0] + eps
    critic_input = torch.cat([next_obs, REACH * torch.tanh(raw / REACH)])
    q: list[float] = double(module.target)(critic_input[None])[:, 0].tolist()
    return q, eps, float(batch[REWARDS][row]) + 0.95 * float(batch[NONTERMINAL][row]) * min(q)


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_targets_are_the_slow_formula(held: Held, name: str) -> None:
    smoothing = {"smoothing_std": 0.4, "smoothing_clip": 0.3} if name == "td3" else {}
    learner = held.learner(tiny_data(name, **smoothing))
    batch = replayed(learner, held.fragment())
    module = learner.networks("household")
    set_apart(module, batch)
    drawn = noise(learner, batch, 1)
    y = learner.targets("household", module, batch) * module.critic.scale + module.critic.shift
    smaller = set()
    clipped = 0
    for row in range(16):
        q, eps, expected = _slow_target(learner, batch, row, drawn)
        assert float(y[row]) == pytest.approx(expected, rel=1e-4)
        smaller.add(q.index(min(q)))
        clipped += int((eps.abs() == 0.3).sum())
    expected = {0, 1} if name == "td3" else {0}
    assert smaller == expected, "each of the twins is the smaller one somewhere"
    assert 0 < clipped < 32 if name == "td3" else clipped == 0


def test_without_the_smaller_twin_the_clip_or_the_slow_actor_targets_are_others(held: Held) -> None:
    """The comparison above would see each of them missing."""
    learner = held.learner(tiny_data("td3", smoothing_std=0.4, smoothing_clip=0.3))
    batch = replayed(learner, held.fragment())
    module = learner.networks("household")
    set_apart(module, batch)
    state = learner.generator.get_state()
    clipped = learner.learned["household"]
    unclipped = clipped.model_copy(update={"smoothing_clip": 10.0})

    def targets() -> Tensor:
        learner.generator.set_state(state)
        y: Tensor = learner.targets("household", module, batch)
        return y

    right = targets()
    learner.learned["household"] = unclipped
    assert not torch.allclose(targets(), right, rtol=1e-3)
    learner.learned["household"] = clipped
    target_actor = module.target_actor
    module.target_actor = module.actor
    assert not torch.allclose(targets(), right, rtol=1e-3)
    module.target_actor = target_actor
    values = module.values
    module.values = lambda *arguments: values(*arguments)[:1]
    assert not torch.allclose(targets(), right, rtol=1e-3)
    module.values = values
    assert torch.equal(targets(), right)


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_gradients_are_those_of_the_losses_through_everything(held: Held, name: str) -> None:
    """In double precision.

    Both critics' squared errors, and the first critic's value of the actor's own action.
    """
    learner = held.learner(tiny_data(name, policy_delay=1))
    batch = replayed(learner, held.fragment())
    module = learner.networks("household")
    set_apart(module, batch)
    state = learner.generator.get_state()
    y = learner.targets("household", module, batch).double()
    learner.generator.set_state(state)
    actual = gradients(learner, batch)
    exact = double(module)
    rows = {column: value.double() for column, value in batch.items()}

    def q(raw: Tensor) -> Tensor:
        each: Tensor = exact.critic.normalized(
            torch.cat([rows[OBSERVATIONS], REACH * torch.tanh(raw / REACH)], -1)
        )
        return each

    critic_loss = sum(0.5 * (q_i - y).square().mean() for q_i in q(rows[RAW]))
    assert isinstance(critic_loss, Tensor)
    policy_loss = -q(exact.actor.net(rows[OBSERVATIONS]))[0].mean()
    for part, loss in (("critic", critic_loss), ("actor", policy_loss)):
        expected = torch.autograd.grad(loss, list(getattr(exact, part).parameters()))
        for gradient, slow in zip(actual[part], expected, strict=True):
            torch.testing.assert_close(gradient.double(), slow, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("delay", [1, 3])
def test_actor_and_targets_move_at_every_so_manyth_step_and_by_the_polyak_rate(
    held: Held, delay: int
) -> None:
    learner = held.learner(tiny_data("td3", policy_delay=delay, target_rate=0.2))
    batch = replayed(learner, held.fragment())
    module = learner.networks("household")
    set_apart(module, batch)
    parts = ("actor", "critic", "target", "target_actor")
    for step in range(7):
        before = copy.deepcopy({part: list(getattr(module, part).parameters()) for part in parts})
        learner.gradient_step = step
        learner.update_policy("household", batch, reporting=step == 4)
        moved = {}
        for part in parts:
            pairs = zip(before[part], getattr(module, part).parameters(), strict=True)
            moved[part] = any(not torch.equal(a, b) for a, b in pairs)
        late = step % delay == delay - 1
        assert moved == {"actor": late, "critic": True, "target": late, "target_actor": late}, step
        if late:
            for slow, source in (("target", "critic"), ("target_actor", "actor")):
                now = getattr(module, slow).parameters()
                followed = getattr(module, source).parameters()
                for old, weight, new in zip(before[slow], now, followed, strict=True):
                    torch.testing.assert_close(weight, 0.8 * old + 0.2 * new)


def test_the_delay_is_counted_over_iterations(held: Held) -> None:
    """Two steps an iteration and a delay of three.

    An iteration may well bring no step of the actor.
    """
    learner = held.learner(tiny_data("td3", updates=2, policy_delay=3))
    fragment = held.fragment()
    stepped = []
    optimizer_step = learner.optimizer_step
    learner.optimizer_step = lambda policy, *names: (
        stepped.extend(names),
        optimizer_step(policy, *names),
    )
    for number in (1, 2, 3):
        learner._weights_seq_no = number
        learner.learn({"household": fragment})
    assert stepped == [*["critic"] * 3, "actor"] * 2


# -- DDPG ------------------------------------------------------------------------------------------


def test_ddpg_is_td3_with_one_critic_and_neither_smoothing_nor_delay(held: Held) -> None:
    one = held.learner(tiny_data("ddpg"))
    two = held.learner(tiny_data("td3", **PLAIN))
    other = held.learner(tiny_data("td3", **{**PLAIN, "critics": 2}))
    fragment = held.fragment()
    state = one.generator.get_state()
    for learner in (one, two, other):
        learner._weights_seq_no = 1
        learner.learn({"household": fragment})
    weights = one.networks("household").state_dict()
    same = two.networks("household").state_dict()
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
    assert one.networks("household").critic.ensemble == 1
    assert weights.keys() == other.networks("household").state_dict().keys()
    of_twins = other.networks("household").actor.net[0].weight
    assert not torch.equal(weights["actor.net.0.weight"], of_twins)
    drawn = torch.Generator()
    drawn.set_state(state)
    size = one.replay["household"].size
    for rows in (1024, *[32] * 5):
        torch.randint(size, (rows,), generator=drawn)
    state = one.generator.get_state()
    assert torch.equal(state, drawn.get_state()), "nothing is drawn but rows of the replay"


# -- exploration -----------------------------------------------------------------------------------


def test_exploration_is_noise_on_raw_actions_and_what_is_deployed_has_none(held: Held) -> None:
    learner = held.learner(tiny_data("td3", exploration_std=0.4, final_exploration_std=0.1))
    module = held.algorithms[0].env_runner_group.local_env_runner.module["household"]
    obs = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    many = obs.expand(20_000, 5, 7)
    with torch.no_grad():
        mean = module.actor.net(obs)
        columns = module.explore(many, torch.Generator().manual_seed(1))
        torch.testing.assert_close(columns[RAW].std(0), torch.full((5, 2), 0.4), rtol=0.03, atol=0)
        torch.testing.assert_close(columns[RAW].mean(0), mean, rtol=0, atol=0.02)
        head = module.actor.head
        assert isinstance(head, NoisyTanh)
        slow = head.low + (head.high - head.low) * (1 + torch.tanh(mean)) / 2
        torch.testing.assert_close(module.actor.act(obs), slow)
        actions = head.to_action(columns[RAW][:, 0])
        torch.testing.assert_close(columns["actions"][:, 0], actions)
        moved = mean + 1.0  # where tanh bends, the mean of noisy actions is another
        of_noisy = super(NoisyTanh, head).deterministic(moved)
        assert float((of_noisy - head.deterministic(moved)).abs().max()) > 0.01
    for learner.progress, expected in ((0.0, 0.4), (0.5, 0.25), (1.0, 0.1)):
        learner.after_updates("household")
        for actor in (learner.networks("household").actor, learner.networks("household").ema):
            torch.testing.assert_close(actor.head.log_std.exp(), torch.full((2,), expected))
        algorithm = held.algorithms[0]
        algorithm.env_runner_group.sync_weights(
            from_worker_or_learner_group=algorithm.learner_group
        )
    torch.testing.assert_close(module.actor.head.log_std.exp(), torch.full((2,), 0.1))


def test_a_policy_that_goes_on_explores_as_it_is_told_from_the_start(
    tmp_path: Path, held: Held
) -> None:
    from safetensors.torch import save_file

    from rl_markets.rllib.build import algorithm_config

    learner = held.learner(tiny_data("td3", exploration_std=0.4))
    saved = tmp_path / "policy.safetensors"
    save_file(learner.networks("household").ema.state_dict(), saved)
    going_on = algorithm_config(
        parse(tiny_data("td3", exploration_std=0.2), "test"), weights=saved
    ).build_algo()
    held.algorithms.append(going_on)
    module = going_on.learner_group._learner.networks("household")
    torch.testing.assert_close(module.actor.head.log_std.exp(), torch.full((2,), 0.2))
    for network in (module.actor, module.ema, module.target_actor):
        assert torch.equal(network.net[0].weight, learner.networks("household").actor.net[0].weight)
