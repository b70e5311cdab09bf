"""TD3 and DDPG: losses, delays and targets against slow formulas, separate policies, resuming, and
that they learn."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from rl_markets.experiment import parse
from rl_markets.policies.heads import NoisyTanh
from rl_markets.policies.offpolicy import RAW, REACH
from rl_markets.policies.replay import NEXT_OBSERVATIONS, NONTERMINAL
from rl_markets.policies.rollout import OBSERVATIONS, REWARDS
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from rl_markets.training.trainer import each_learner
from tests.support.replaying import (
    Batch,
    Held,
    distances,
    double,
    gradients,
    noise,
    replayed,
    take_agent,
    tiny_data,
)

pytestmark = pytest.mark.usefixtures("ray_once")

PLAIN = {"critics": 1, "policy_delay": 1, "smoothing_std": 0.0}
"""What makes TD3 DDPG."""


# -- the losses ------------------------------------------------------------------------------------


def _apart(module: Any, batch: Batch) -> None:
    """Sets the slow targets apart from what they follow, and the twins so that each is the smaller
    one in places."""
    with torch.no_grad():
        for network, seed in ((module.target, 3), (module.target_actor, 4)):
            generator = torch.Generator().manual_seed(seed)
            for weight in network.parameters():
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
        if module.target.ensemble == 2:
            one, two = module.values(
                module.target, batch[NEXT_OBSERVATIONS], torch.zeros_like(batch[RAW])
            )
            module.target.net.layers[-1].bias[::2] += (two - one).median()


def _slow_target(
    learner: Any, batch: Batch, row: int, drawn: Tensor
) -> tuple[list[float], Tensor, float]:
    """Each target critic's value, the clipped noise, and r + gamma min Q, in discounted reward."""
    p = learner.parameters("household")
    module = learner.networks("household")
    following = batch[NEXT_OBSERVATIONS][row].double()
    clip = p["smoothing_clip"]
    eps = torch.tensor(
        [min(max(p["smoothing_std"] * float(x), -clip), clip) for x in drawn[row]],
        dtype=torch.float64,
    )
    raw = double(module.target_actor).net(following[None])[0] + eps
    seen = torch.cat([following, REACH * torch.tanh(raw / REACH)])
    q: list[float] = double(module.target)(seen[None])[:, 0].tolist()
    return q, eps, float(batch[REWARDS][row]) + 0.95 * float(batch[NONTERMINAL][row]) * min(q)


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_targets_are_the_slow_formula(held: Held, name: str) -> None:
    learner = held.learner(
        tiny_data(name, **({"smoothing_std": 0.4, "smoothing_clip": 0.3} if name == "td3" else {}))
    )
    batch = replayed(learner, held.fragment())
    module = learner.networks("household")
    _apart(module, batch)
    drawn = noise(learner, batch, 1)
    y = learner.targets("household", module, batch) * module.critic.scale + module.critic.shift
    smaller = set()
    clipped = 0
    for row in range(16):
        q, eps, expected = _slow_target(learner, batch, row, drawn)
        assert float(y[row]) == pytest.approx(expected, rel=1e-4)
        smaller.add(q.index(min(q)))
        clipped += int((eps.abs() == 0.3).sum())
    assert smaller == ({0, 1} if name == "td3" else {0}), (
        "each of the twins is the smaller one somewhere"
    )
    assert 0 < clipped < 32 if name == "td3" else clipped == 0


def test_without_the_smaller_twin_the_clip_or_the_slow_actor_targets_are_others(held: Held) -> None:
    """The comparison above would see each of them missing."""
    learner = held.learner(tiny_data("td3", smoothing_std=0.4, smoothing_clip=0.3))
    batch = replayed(learner, held.fragment())
    module = learner.networks("household")
    _apart(module, batch)
    state = learner.generator.get_state()
    parameters = learner.parameters("household")

    def found() -> Tensor:
        learner.generator.set_state(state)
        y: Tensor = learner.targets("household", module, batch)
        return y

    right = found()
    target_actor = module.target_actor
    values = module.values
    try:
        parameters["smoothing_clip"] = 10.0
        assert not torch.allclose(found(), right, rtol=1e-3)
        parameters["smoothing_clip"] = 0.3
        module.target_actor = module.actor
        assert not torch.allclose(found(), right, rtol=1e-3)
        module.target_actor = target_actor
        module.values = lambda *given: values(*given)[:1]
        assert not torch.allclose(found(), right, rtol=1e-3)
        module.values = values
        assert torch.equal(found(), right)
    finally:
        parameters["smoothing_clip"] = 0.3


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_gradients_are_those_of_the_losses_through_everything(held: Held, name: str) -> None:
    """In double precision: both critics' squared errors, and the first critic's value of the
    actor's own action."""
    learner = held.learner(tiny_data(name, policy_delay=1))
    batch = replayed(learner, held.fragment())
    module = learner.networks("household")
    _apart(module, batch)
    state = learner.generator.get_state()
    y = learner.targets("household", module, batch).double()
    learner.generator.set_state(state)
    found = gradients(learner, batch)
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
        for gradient, slow in zip(found[part], expected, strict=True):
            torch.testing.assert_close(gradient.double(), slow, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("delay", [1, 3])
def test_actor_and_targets_move_at_every_so_manyth_step_and_by_the_polyak_rate(
    held: Held, delay: int
) -> None:
    learner = held.learner(tiny_data("td3", policy_delay=delay, target_rate=0.2))
    batch = replayed(learner, held.fragment())
    module = learner.networks("household")
    _apart(module, batch)
    parts = ("actor", "critic", "target", "target_actor")
    for step in range(7):
        before = copy.deepcopy({part: list(getattr(module, part).parameters()) for part in parts})
        learner.gradient_step = step
        learner.update_policy("household", batch, reporting=step == 4)
        moved = {
            p: any(
                not torch.equal(a, b)
                for a, b in zip(before[p], getattr(module, p).parameters(), strict=True)
            )
            for p in parts
        }
        late = step % delay == delay - 1
        assert moved == {"actor": late, "critic": True, "target": late, "target_actor": late}, step
        if late:
            for slow, source in (("target", "critic"), ("target_actor", "actor")):
                now = getattr(module, slow).parameters()
                followed = getattr(module, source).parameters()
                for old, weight, new in zip(before[slow], now, followed, strict=True):
                    torch.testing.assert_close(weight, 0.8 * old + 0.2 * new)


def test_the_delay_is_counted_over_iterations(held: Held) -> None:
    """Two steps an iteration and a delay of three: an iteration may well bring no step of the
    actor."""
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
    assert all(
        torch.equal(value, two.networks("household").state_dict()[name])
        for name, value in weights.items()
    )
    assert one.networks("household").critic.ensemble == 1
    assert weights.keys() == other.networks("household").state_dict().keys()
    assert not torch.equal(
        weights["actor.net.0.weight"], other.networks("household").actor.net[0].weight
    )
    drawn = torch.Generator()
    drawn.set_state(state)
    size = one.replay["household"].size
    for rows in (1024, *[32] * 5):
        torch.randint(size, (rows,), generator=drawn)
    assert torch.equal(one.generator.get_state(), drawn.get_state()), (
        "nothing is drawn but rows of the replay"
    )


# -- exploration -----------------------------------------------------------------------------------


def test_exploration_is_noise_on_raw_actions_and_what_is_deployed_has_none(held: Held) -> None:
    learner = held.learner(tiny_data("td3", exploration_std=0.4, final_exploration_std=0.1))
    module = held.algorithms[0].env_runner_group.local_env_runner.module["household"]
    seen = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    many = seen.expand(20_000, 5, 7)
    with torch.no_grad():
        mean = module.actor.net(seen)
        columns = module.explore(many, torch.Generator().manual_seed(1))
        torch.testing.assert_close(columns[RAW].std(0), torch.full((5, 2), 0.4), rtol=0.03, atol=0)
        torch.testing.assert_close(columns[RAW].mean(0), mean, rtol=0, atol=0.02)
        head = module.actor.head
        assert isinstance(head, NoisyTanh)
        slow = head.low + (head.high - head.low) * (1 + torch.tanh(mean)) / 2
        torch.testing.assert_close(module.actor.act(seen), slow)
        torch.testing.assert_close(
            columns["actions"][:, 0], module.actor.head.to_action(columns[RAW][:, 0])
        )
        moved = mean + 1.0  # where tanh bends, the mean of noisy actions is another
        assert (
            float(
                (super(NoisyTanh, head).deterministic(moved) - head.deterministic(moved))
                .abs()
                .max()
            )
            > 0.01
        )
    for learner.progress, expected in ((0.0, 0.4), (0.5, 0.25), (1.0, 0.1)):
        learner.after_updates("household")
        for actor in (learner.networks("household").actor, learner.networks("household").ema):
            torch.testing.assert_close(actor.head.log_std.exp(), torch.full((2,), expected))
        held.algorithms[0].env_runner_group.sync_weights(
            from_worker_or_learner_group=held.algorithms[0].learner_group
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
    given = {"weights": str(saved), "agent": 0, "copies": None}
    going_on = algorithm_config(
        parse(tiny_data("td3", exploration_std=0.2), "test"), weights=given
    ).build_algo()
    held.algorithms.append(going_on)
    module = going_on.learner_group._learner.networks("household")
    torch.testing.assert_close(module.actor.head.log_std.exp(), torch.full((2,), 0.2))
    for network in (module.actor, module.ema, module.target_actor):
        assert torch.equal(network.net[0].weight, learner.networks("household").actor.net[0].weight)


# -- separate policies -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_each_separate_policy_is_updated_as_if_it_were_alone(
    held: Held, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Four whole steps - critics, actor, clipping, Adam, targets - of the stack, and of each
    agent's own networks."""
    many = held.learner(tiny_data(name, separate=True))
    one = held.learner(tiny_data(name, households=1))
    batch = replayed(many, held.fragment())
    critics = many.networks("household").critic.ensemble
    stacked = many.networks("household")
    alone = one.networks("household")
    _apart(stacked, batch)
    start = copy.deepcopy(stacked)
    drawn = torch.randn((16, 3, 2), generator=torch.Generator().manual_seed(8))
    _four_steps(monkeypatch, many, batch, drawn)
    for agent in range(3):
        take_agent(alone, start, agent)
        _four_steps(
            monkeypatch, one, {n: column[:, agent] for n, column in batch.items()}, drawn[:, agent]
        )
        for part in ("actor", "target_actor"):
            expected = getattr(alone, part).state_dict()
            found = getattr(stacked, part).of_agent(agent).state_dict()
            for weight, value in expected.items():
                torch.testing.assert_close(
                    found[weight], value, rtol=2e-3, atol=2e-5, msg=f"{agent} {part} {weight}"
                )
        for part in ("critic", "target"):
            for mine, own in zip(
                getattr(stacked, part).parameters(), getattr(alone, part).parameters(), strict=True
            ):
                of_agent = mine[critics * agent : critics * (agent + 1)]
                torch.testing.assert_close(
                    of_agent, own, rtol=2e-3, atol=2e-5, msg=f"{agent} {part}"
                )
        assert not torch.equal(start.actor.of_agent(agent).net[0].weight, alone.actor.net[0].weight)
        other = stacked.actor.of_agent((agent + 1) % 3).net[0].weight
        assert not torch.allclose(other, alone.actor.net[0].weight, rtol=1e-2), (
            "another agent's are others"
        )


def _four_steps(monkeypatch: pytest.MonkeyPatch, learner: Any, batch: Batch, drawn: Tensor) -> None:
    """From fresh optimizers, with given noise."""
    for _, optimizer in learner.get_optimizers_for_module("household"):
        optimizer.state.clear()
    with monkeypatch.context() as patched:
        patched.setattr("rl_markets.policies.td3.learner.torch.randn", lambda *_, **__: drawn)
        for learner.gradient_step in range(4):
            learner.update_policy("household", batch, reporting=False)


# -- checkpoints -----------------------------------------------------------------------------------


def _trained(
    run: TrainingSession, checkpoint: Path | None = None, spoil: Any = None
) -> dict[str, Tensor]:
    """All of the learner's networks at the end of a run."""
    found: dict[str, Tensor] = {}
    write = run.trainer.save
    restore = run.trainer.restore

    def note(folder: Path) -> None:
        write(folder)
        state = run.trainer.algorithm.learner_group._learner.networks("household").state_dict()
        found.update({name: value.clone() for name, value in state.items()})

    def spoiled(path: Path, source: object) -> None:
        restore(path)
        if spoil is not None:
            spoil(run.trainer.algorithm.learner_group._learner)

    run.trainer.save = note  # type: ignore[method-assign]
    run.trainer.restore = spoiled
    run.train(checkpoint)
    return found


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_a_resumed_run_ends_in_the_same_bytes(tmp_path: Path, name: str) -> None:
    """Five steps an iteration and a delay of three: the count must go on where it was, as must the
    slow actor."""
    data = tiny_data(name, **({"policy_delay": 3} if name == "td3" else {}), batch_size=16)
    run = TrainingSession(RunFolder.create(parse(data, "test"), tmp_path), Console(quiet=True))
    whole = _trained(run)
    assert any(part.startswith("target_actor.") for part in whole)

    def again(spoil: Any = None) -> dict[str, Tensor]:
        return _trained(TrainingSession(run.run, Console(quiet=True)), run.store.path(4), spoil)

    assert _equal(again(), whole)

    def forget_the_slow_actor(learner: Any) -> None:
        module = learner.networks("household")
        module.target_actor.load_state_dict(module.actor.state_dict())

    assert not _equal(again(forget_the_slow_actor), whole)


def _equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(
        torch.equal(value, two[name]) for name, value in one.items()
    )


def test_two_learners_have_the_same_networks(tmp_path: Path) -> None:
    data = tiny_data("td3", separate=True, updates=3, batch_size=16)
    data["training"]["learners"] = 2
    run = TrainingSession(RunFolder.create(parse(data, "test"), tmp_path), Console(quiet=True))
    sums: list[list[list[float]]] = []
    write = run.trainer.save

    def note(folder: Path) -> None:
        write(folder)
        sums.append(
            each_learner(  # a lambda travels to the learners as it is
                run.trainer.algorithm,
                lambda x: [
                    float(v.double().sum()) for v in x.networks("household").state_dict().values()
                ],
            )
        )

    run.trainer.save = note  # type: ignore[method-assign]
    run.train()
    assert all(one == two for one, two in sums)
    assert sums[0] != sums[-1]


# -- learning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["td3", "ddpg"])
def test_the_closed_form_is_learned(tmp_path: Path, name: str) -> None:
    """A part of the shipped training brings the policy from almost 200 % to some per cent of the
    known answer."""
    before, after = distances(tmp_path, f"households-full-depreciation-{name}", agent_steps=81_920)
    assert before > 50
    assert after < 15
