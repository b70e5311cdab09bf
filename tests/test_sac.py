"""SAC: the replay, its losses against slow formulas, units, separate policies, and that it learns."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, tiny
from rich.console import Console
from torch import Tensor

from rl_markets.experiment import load, parse
from rl_markets.policies.heads import HALF_LOG_2PI, SquashedGaussian
from rl_markets.policies.networks import Actor
from rl_markets.policies.offpolicy import RAW, REACH
from rl_markets.policies.replay import GOES_ON, NEXT_OBSERVATIONS, Replay, transitions
from rl_markets.policies.rollout import ACTED, OBSERVATIONS, REWARDS, Cuts, Fragment
from rl_markets.policies.sac.module import SACModule
from rl_markets.rllib.build import algorithm_config
from rl_markets.runs import RunFolder, read_rows
from rl_markets.training import Trainer

pytestmark = pytest.mark.usefixtures("ray_once")

Batch = dict[str, Tensor]


# -- replay ----------------------------------------------------------------------------------------------------------


def _rows(first: int, count: int, agents: int | None = None) -> Batch:
    """Rows that tell their number in every column."""
    number = torch.arange(first, first + count, dtype=torch.float32)
    lead = number if agents is None else number[:, None].expand(-1, agents)
    return {
        REWARDS: lead.clone(),
        OBSERVATIONS: lead[..., None] + torch.tensor([0.25, 0.5, 0.75]),
        ACTED: lead % 2 == 0,
        "choice": lead.to(torch.int64),
    }


@pytest.mark.parametrize("agents", [None, 3])
def test_a_replay_keeps_the_last_rows_as_a_slow_ring_does(agents: int | None) -> None:
    replay, first = Replay(10, torch.device("cpu")), 0
    slow: list[int | None] = [None] * 10
    generator = torch.Generator().manual_seed(0)
    position = 0
    for count in (3, 4, 5, 1, 10, 7, 2):
        batch = _rows(first, count, agents)
        replay.add(batch)
        for row in range(first, first + count):
            slow[position] = row
            position = (position + 1) % 10
        first += count
        known = {row for row in slow if row is not None}
        assert replay.size == len(known)
        drawn = replay.sample(400, generator)
        assert {int(x) for x in drawn[REWARDS].flatten()} == known, "each kept row is drawn, no other"
        number = drawn[REWARDS]
        assert torch.equal(drawn[OBSERVATIONS], number[..., None] + torch.tensor([0.25, 0.5, 0.75]))
        assert torch.equal(drawn[ACTED], number % 2 == 0)
        assert torch.equal(drawn["choice"], number.to(torch.int64))
        stored = replay.store["torch.int64"][: replay.size, ..., 0].reshape(replay.size, -1)[:, 0]
        assert stored.tolist() == [row for row in slow if row is not None]


def test_more_rows_than_a_replay_holds_leave_the_last() -> None:
    replay = Replay(4, torch.device("cpu"))
    replay.add(_rows(0, 3))
    replay.add(_rows(3, 11))
    assert sorted(replay.sample(200, torch.Generator())[REWARDS].unique().tolist()) == [10, 11, 12, 13]


def test_a_saved_replay_goes_on_alike() -> None:
    first = Replay(10, torch.device("cpu"))
    first.add(_rows(0, 13, 2))
    second = Replay(10, torch.device("cpu"))
    second.load_state_dict(first.state_dict())
    for count in (0, 4, 9):
        if count:
            first.add(_rows(100, count, 2))
            second.add(_rows(100, count, 2))
        one, two = (r.sample(64, torch.Generator().manual_seed(count)) for r in (first, second))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) and one[name].dtype == two[name].dtype for name in one)


def _fragment(separate: int | None = None, acted: bool = False) -> Fragment:
    """Two worlds of two agents, three steps; world 1 is cut after step 1, once truncated and once terminated."""
    seen = torch.arange(4 * 4, dtype=torch.float32).reshape(4, 4, 1)
    columns = {OBSERVATIONS: seen, REWARDS: -seen[:-1, :, 0], RAW: 100 + seen[:-1]}
    if acted:
        columns[ACTED] = (torch.arange(12).reshape(3, 4) % 3) != 0
    cuts = Cuts(torch.tensor([1, 1]), torch.tensor([2, 3]), torch.tensor([False, True]), torch.tensor([[-7.0], [-8.0]]))
    return Fragment(columns, cuts, torch.tensor([0, 0, 1, 1]), separate)


def test_transitions_lead_to_the_true_successor() -> None:
    batch = transitions(_fragment(), (RAW,))
    for row in range(12):
        step, trajectory = divmod(row, 4)
        cut = {2: -7.0, 3: -8.0}.get(trajectory) if step == 1 else None
        assert batch[OBSERVATIONS][row] == row
        assert batch[REWARDS][row] == -row
        assert batch[RAW][row] == 100 + row
        assert batch[NEXT_OBSERVATIONS][row] == (row + 4 if cut is None else cut)
        assert batch[GOES_ON][row] == (0 if (step, trajectory) == (1, 3) else 1), "truncation goes on, the end does not"


def test_rows_in_which_nobody_acted_are_dropped_or_marked() -> None:
    assert transitions(_fragment(acted=True), (RAW,))[OBSERVATIONS].flatten().tolist() == [1, 2, 4, 5, 7, 8, 10, 11]
    kept = transitions(_fragment(2, acted=True), (RAW,))
    assert kept[OBSERVATIONS].shape == (6, 2, 1)
    assert kept[ACTED].flatten().tolist() == [row % 3 != 0 for row in range(12)]


# -- losses ----------------------------------------------------------------------------------------------------------


def _data(separate: bool = False, households: int = 3, **parameters: Any) -> dict[str, Any]:
    data = tiny(policies={"household": {"groups": ["households"], "hidden": [8], "separate": separate}})
    data["market"]["parameters"]["households"] = households
    data["algorithm"] = {"name": "sac", "parameters": {"updates": 5, "batch_size": 32, **parameters}}
    return data


class _Held:
    """Algorithms that stop in the end."""

    def __init__(self) -> None:
        self.algorithms: list[Any] = []

    def learner(self, data: dict[str, Any]) -> Any:
        algorithm = algorithm_config(parse(data, "test")).build_algo()
        self.algorithms.append(algorithm)
        return algorithm.learner_group._learner

    def fragment(self, number: int = 0) -> Fragment:
        """Experience of an algorithm's runner."""
        runner = self.algorithms[number].env_runner_group.local_env_runner
        found: Fragment = runner.sample()[0].fragments["household"]
        return found


@pytest.fixture
def held() -> Iterator[_Held]:
    found = _Held()
    yield found
    for algorithm in found.algorithms:
        algorithm.stop()


def _batch(learner: Any, fragment: Fragment, rows: int = 16) -> Batch:
    """A batch out of a replay with that fragment; the values' statistics are set and some weights have moved."""
    learner._weights_seq_no = 1
    learner.learn({"household": fragment})
    batch: Batch = learner.replay["household"].sample(rows, torch.Generator().manual_seed(5))
    batch[GOES_ON] = (torch.arange(batch[GOES_ON].numel()).view_as(batch[GOES_ON]) % 3 != 0).float()
    return batch


def _moments(out: Tensor) -> tuple[Tensor, Tensor]:
    mean, free = out.chunk(2, -1)
    return mean, -2.5 + 3.5 * torch.tanh(free + 0.65)


def _entropy(log_std: Tensor) -> Tensor:
    return (log_std + HALF_LOG_2PI + 0.5).sum(-1)


def _double(module: Any) -> Any:
    return copy.deepcopy(module).double()


def test_targets_are_the_slow_formula(held: _Held) -> None:
    learner = held.learner(_data())
    batch = _batch(learner, held.fragment())
    module = learner.networks("household")
    state = learner.generator.get_state()
    y = learner.targets("household", module, batch) * module.critic.scale + module.critic.shift
    learner.generator.set_state(state)
    noise = torch.randn((16, 2), generator=learner.generator).double()
    actor, target = _double(module.actor), _double(module.target)
    for row in range(16):
        following = batch[NEXT_OBSERVATIONS][row].double()
        mean, log_std = _moments(actor(following[None])[0])
        raw = mean + torch.exp(log_std) * noise[row]
        seen = torch.cat([following, REACH * torch.tanh(raw / REACH)])
        q1, q2 = target(seen[None])[:, 0].tolist()
        alpha = math.exp(module.log_alpha.item()) * float(module.critic.scale)
        v = min(q1, q2) + alpha * _entropy(log_std).item()
        expected = float(batch[REWARDS][row]) + 0.95 * float(batch[GOES_ON][row]) * v
        assert float(y[row]) == pytest.approx(expected, rel=1e-4)


def _gradients(learner: Any, batch: Batch) -> tuple[dict[str, list[Tensor]], Tensor]:
    """What `improve` descends along, though nothing moves, and the noise of the actor's action."""
    found: dict[str, list[Tensor]] = {}

    def keep(policy: str, *names: str) -> None:
        for name in names:
            weights, _, _ = learner.parts(policy)[name]
            found[name] = [w.grad.clone() for w in weights]
            for weight in weights:
                weight.grad = None

    descend, learner.descend = learner.descend, keep
    state, target = learner.generator.get_state(), learner.networks("household").target
    before = copy.deepcopy(target.state_dict())
    learner.improve("household", batch, reporting=False)
    learner.generator.set_state(state)
    target.load_state_dict(before)
    shape = (*batch[REWARDS].shape, 2)
    torch.randn(shape, generator=learner.generator)
    noise = torch.randn(shape, generator=learner.generator)
    learner.descend = descend
    return found, noise


def test_gradients_are_those_of_the_losses_through_everything(held: _Held) -> None:
    """In double precision, with nothing detached but what the formulas hold fixed."""
    learner = held.learner(_data())
    batch = _batch(learner, held.fragment())
    module, state = learner.networks("household"), learner.generator.get_state()
    y = learner.targets("household", module, batch).double()
    learner.generator.set_state(state)
    found, noise = _gradients(learner, batch)
    exact, rows = _double(module), {name: column.double() for name, column in batch.items()}

    def q(raw: Tensor) -> Tensor:
        both: Tensor = exact.critic.normalized(torch.cat([rows[OBSERVATIONS], REACH * torch.tanh(raw / REACH)], -1))
        return both

    critic_loss = sum(0.5 * (q_i - y).square().mean() for q_i in q(rows[RAW]))
    expected = torch.autograd.grad(critic_loss, list(exact.critic.parameters()))
    for gradient, slow in zip(found["critic"], expected, strict=True):
        torch.testing.assert_close(gradient.double(), slow, rtol=1e-3, atol=1e-6)
    mean, log_std = _moments(exact.actor(rows[OBSERVATIONS]))
    entropy, alpha = _entropy(log_std), exact.log_alpha.exp().detach()
    loss = (-alpha * entropy - torch.minimum(*q(mean + torch.exp(log_std) * noise.double()))).mean()
    for gradient, slow in zip(found["actor"], torch.autograd.grad(loss, list(exact.actor.parameters())), strict=True):
        torch.testing.assert_close(gradient.double(), slow, rtol=1e-3, atol=1e-6)
    excess = entropy.mean().item() - 2 * learner.parameters("household")["target_entropy"]
    assert float(found["alpha"][0]) == pytest.approx(excess, rel=1e-4)


@pytest.mark.parametrize(("target", "direction"), [(2.0, 1), (-4.0, -1)])
def test_the_temperature_moves_the_entropy_towards_its_target(held: _Held, target: float, direction: int) -> None:
    learner = held.learner(_data(target_entropy=target))
    batch = _batch(learner, held.fragment())
    before = float(learner.networks("household").log_alpha)
    learner.improve("household", batch, reporting=False)
    assert direction * (float(learner.networks("household").log_alpha) - before) > 0


def test_the_target_entropy_goes_from_start_to_end(held: _Held) -> None:
    learner = held.learner(_data(target_entropy=-1.0, final_target_entropy=-3.0))
    for learner.progress, expected in ((0.0, -1.0), (0.5, -2.0), (1.0, -3.0)):
        assert learner.scheduled("household", "target_entropy") == expected


@pytest.mark.parametrize(("factor", "offset"), [(1000.0, 0.0), (1.0, 1000.0), (0.01, 0.0)])
def test_units_of_the_reward_change_nothing(held: _Held, factor: float, offset: float) -> None:
    plain, changed = held.learner(_data()), held.learner(_data())
    for number in range(3):
        fragment = held.fragment()
        for learner, k, add in ((plain, 1.0, 0.0), (changed, factor, offset)):
            columns = {**fragment.columns, REWARDS: k * fragment.columns[REWARDS] + add}
            learner._weights_seq_no = number + 1
            learner.learn({"household": Fragment(columns, fragment.cuts, fragment.world)})
    one, two = plain.networks("household"), changed.networks("household")
    assert float(one.actor.net[0].weight.detach().std()) > 0
    for mine, theirs in zip(one.actor.parameters(), two.actor.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-2, atol=2e-4)
    torch.testing.assert_close(two.critic.scale / factor, one.critic.scale, rtol=1e-3, atol=0)
    torch.testing.assert_close(two.critic.shift, factor * one.critic.shift + offset / (1 - 0.95), rtol=1e-3, atol=0)


@pytest.mark.parametrize("separate", [False, True])
def test_new_statistics_leave_the_values_of_critics_and_targets(held: _Held, separate: bool) -> None:
    learner = held.learner(_data(separate=separate))
    batch = _batch(learner, held.fragment())
    module = learner.networks("household")
    seen = torch.cat([batch[OBSERVATIONS], batch[RAW]], -1)
    with torch.no_grad():
        before, shift = [network(seen) for network in (module.critic, module.target)], module.critic.shift.clone()
        learner.prepare("household", {**batch, REWARDS: 5 * batch[REWARDS]})
        after = [network(seen) for network in (module.critic, module.target)]
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
    assert float((module.critic.shift - shift).abs().min()) > 0.1
    for name in ("shift", "scale"):
        assert torch.equal(getattr(module.critic, name), getattr(module.target, name))


# -- separate policies -----------------------------------------------------------------------------------------------


def _alone(module: Any, stacked: Any, agent: int) -> None:
    """One agent's networks out of the stacks."""
    module.actor.load_state_dict(stacked.actor.of_agent(agent).state_dict())
    for network, stack in ((module.critic, stacked.critic), (module.target, stacked.target)):
        taken = {}
        for name, value in stack.state_dict().items():
            own = slice(2 * agent, 2 * agent + 2) if value.dim() == 3 else slice(agent, agent + 1)
            taken[name] = value if name == "updates" else value[own]
        network.load_state_dict(taken)
    with torch.no_grad():
        module.log_alpha.copy_(stacked.log_alpha[agent : agent + 1])


def _fixed_noise(monkeypatch: pytest.MonkeyPatch, noise: Tensor) -> None:
    def sample(self: SquashedGaussian, out: Tensor, generator: torch.Generator) -> Tensor:
        mean, log_std = self.moments(out)
        return mean + torch.exp(log_std) * noise

    monkeypatch.setattr(SquashedGaussian, "sample", sample)


def test_each_separate_policy_has_the_gradients_of_an_independent_one(
    held: _Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, one = held.learner(_data(separate=True)), held.learner(_data(households=1))
    batch = _batch(many, held.fragment())
    noise = torch.randn((16, 3, 2), generator=torch.Generator().manual_seed(8))
    stacked, alone = many.networks("household"), one.networks("household")
    with torch.no_grad():
        stacked.log_alpha.copy_(torch.tensor([-1.0, -2.0, -3.0]))
    _fixed_noise(monkeypatch, noise)
    found, _ = _gradients(many, batch)
    for agent in range(3):
        _alone(alone, stacked, agent)
        _fixed_noise(monkeypatch, noise[:, agent])
        expected, _ = _gradients(one, {name: column[:, agent] for name, column in batch.items()})
        for name in ("critic", "alpha"):
            for stack, single in zip(found[name], expected[name], strict=True):
                own = stack[2 * agent : 2 * agent + 2] if name == "critic" else stack[agent : agent + 1]
                torch.testing.assert_close(own, single, rtol=1e-3, atol=1e-6)
        for stack, single in zip(found["actor"], expected["actor"], strict=True):
            own = stack[agent].T if single.dim() == 2 else stack[agent, 0]
            torch.testing.assert_close(own, single, rtol=1e-3, atol=1e-6)


def test_nobody_elses_rows_move_a_separate_policy(held: _Held) -> None:
    """Two learners that differ in what agent 1 met, in which rows it acted too: agents 0 and 2 learn the same."""
    first, second = (held.learner(_data(separate=True)) for _ in range(2))
    fragment = held.fragment()
    acted = torch.ones_like(fragment.columns[REWARDS], dtype=torch.bool)
    other = {**fragment.columns, REWARDS: fragment.columns[REWARDS].clone(), ACTED: acted.clone()}
    other[REWARDS][:, 1::3] += torch.randn(other[REWARDS][:, 1::3].shape, generator=torch.Generator().manual_seed(1))
    other[ACTED][::2, 1::3] = False
    for learner, columns in ((first, {**fragment.columns, ACTED: acted}), (second, other)):
        for number in (1, 2):
            learner._weights_seq_no = number
            learner.learn({"household": Fragment(columns, fragment.cuts, fragment.world, 3)})
    one, two = first.networks("household"), second.networks("household")
    for name, value in one.state_dict().items():
        if value.dim() != 3 and not name.endswith(("shift", "scale", "log_alpha")):
            continue
        mine, theirs = (x.reshape(3, -1) for x in (value, two.state_dict()[name]))
        torch.testing.assert_close(mine[[0, 2]], theirs[[0, 2]], rtol=1e-5, atol=1e-7, msg=name)
        if name.endswith("weight"):
            assert not torch.allclose(mine[1], theirs[1], rtol=1e-4), name


def test_rows_in_which_an_agent_did_not_act_do_not_count(held: _Held) -> None:
    learner = held.learner(_data(separate=True))
    batch = _batch(learner, held.fragment())
    batch[ACTED] = torch.arange(48).reshape(16, 3) % 4 != 0
    spoiled = {name: column.clone() for name, column in batch.items()}
    spoiled[REWARDS][~batch[ACTED]] = 1e4
    spoiled[RAW][~batch[ACTED]] = -2.0
    state = learner.generator.get_state()
    found = []
    for rows in (batch, spoiled):
        learner.generator.set_state(state)
        found.append(_gradients(learner, rows)[0])
    for name in ("actor", "critic", "alpha"):
        for clean, other in zip(found[0][name], found[1][name], strict=True):
            torch.testing.assert_close(clean, other, rtol=1e-5, atol=1e-7, msg=name)
    module = learner.networks("household")
    before, statistics = copy.deepcopy(module.state_dict()), []
    for rows in (batch, spoiled):
        learner.generator.set_state(state)
        module.load_state_dict(before)
        learner.prepare("household", rows)
        statistics.append(torch.cat([module.critic.shift, module.critic.scale]))
    torch.testing.assert_close(statistics[0], statistics[1], rtol=1e-5, atol=0)


# -- learning --------------------------------------------------------------------------------------------------------


def test_sac_learns_the_closed_form(tmp_path: Path) -> None:
    """A seventh of the shipped training brings the policy from almost 200 % to some per cent of the known answer."""
    experiment = load(
        ROOT / "tune_configs" / "households-full-depreciation-sac.yaml",
        ["training.agent_steps=81_920", "training.evaluate_every=5"],
    )
    run = Trainer(RunFolder.create(experiment, tmp_path), Console(quiet=True))
    run.train()
    distances = [r["distance"] for r in read_rows(run.run) if math.isfinite(r["distance"])]
    assert run.answer is not None
    assert run.answer.distance({"households": torch.no_grad()(_untrained(run).act)}) > 50
    assert distances[-1] < 10


def _untrained(run: Trainer) -> Actor:
    module = algorithm_config(run.experiment).rl_module_spec.rl_module_specs["household"]
    spec = {**module.model_config["actor"], "distribution": SACModule.distribution}
    return Actor(spec, torch.Generator().manual_seed(module.model_config["seed"]))
