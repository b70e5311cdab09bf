"""Every learner that replays.

The replay, units of the reward, separate policies, rows in which nobody acted.
"""

from __future__ import annotations

import copy

import pytest
import torch

from rl_markets.policies.offpolicy import RAW
from rl_markets.policies.replay import NEXT_OBSERVATIONS, NONTERMINAL, Replay, transitions
from rl_markets.policies.rollout import ACTIVE, OBSERVATIONS, REWARDS, EpisodeEnds, Fragment
from tests.support.replaying import Batch, Held, gradients, replayed, tiny_data

pytestmark = pytest.mark.usefixtures("ray_once")

every_learner = pytest.mark.parametrize("name", ["sac", "td3", "ddpg"])


# -- replay ----------------------------------------------------------------------------------------


def _rows(first: int, count: int, agents: int | None = None) -> Batch:
    """Rows that tell their number in every column."""
    number = torch.arange(first, first + count, dtype=torch.float32)
    lead = number if agents is None else number[:, None].expand(-1, agents)
    return {
        REWARDS: lead.clone(),
        OBSERVATIONS: lead[..., None] + torch.tensor([0.25, 0.5, 0.75]),
        ACTIVE: lead % 2 == 0,
        "choice": lead.to(torch.int64),
    }


@pytest.mark.parametrize("agents", [None, 3])
def test_a_replay_keeps_the_last_rows_as_a_slow_ring_does(agents: int | None) -> None:
    replay = Replay(10, torch.device("cpu"))
    first = 0
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
        assert {int(x) for x in drawn[REWARDS].flatten()} == known, (
            "each kept row is drawn, no other"
        )
        number = drawn[REWARDS]
        assert torch.equal(drawn[OBSERVATIONS], number[..., None] + torch.tensor([0.25, 0.5, 0.75]))
        assert torch.equal(drawn[ACTIVE], number % 2 == 0)
        assert torch.equal(drawn["choice"], number.to(torch.int64))
        stored = replay.store["torch.int64"][: replay.size, ..., 0].reshape(replay.size, -1)[:, 0]
        assert stored.tolist() == [row for row in slow if row is not None]


def test_more_rows_than_a_replay_holds_leave_the_last() -> None:
    replay = Replay(4, torch.device("cpu"))
    replay.add(_rows(0, 3))
    replay.add(_rows(3, 11))
    rewards = replay.sample(200, torch.Generator())[REWARDS]
    assert sorted(rewards.unique().tolist()) == [10, 11, 12, 13]


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
        assert all(
            torch.equal(one[name], two[name]) and one[name].dtype == two[name].dtype for name in one
        )


def _fragment(separate: int | None = None, active: bool = False) -> Fragment:
    """Two worlds of two agents, three steps.

    World 1 is cut after step 1, once truncated and once terminated.
    """
    obs = torch.arange(4 * 4, dtype=torch.float32).reshape(4, 4, 1)
    columns = {OBSERVATIONS: obs, REWARDS: -obs[:-1, :, 0], RAW: 100 + obs[:-1]}
    if active:
        columns[ACTIVE] = (torch.arange(12).reshape(3, 4) % 3) != 0
    ends = EpisodeEnds(
        torch.tensor([1, 1]),
        torch.tensor([2, 3]),
        torch.tensor([False, True]),
        torch.tensor([[-7.0], [-8.0]]),
    )
    return Fragment(columns, ends, torch.tensor([0, 0, 1, 1]), separate)


def test_transitions_lead_to_the_true_successor() -> None:
    batch = transitions(_fragment(), (RAW,))
    for row in range(12):
        step, trajectory = divmod(row, 4)
        cut = {2: -7.0, 3: -8.0}.get(trajectory) if step == 1 else None
        assert batch[OBSERVATIONS][row] == row
        assert batch[REWARDS][row] == -row
        assert batch[RAW][row] == 100 + row
        assert batch[NEXT_OBSERVATIONS][row] == (row + 4 if cut is None else cut)
        assert batch[NONTERMINAL][row] == (0 if (step, trajectory) == (1, 3) else 1), (
            "truncation goes on, the end does not"
        )


def test_rows_in_which_nobody_acted_are_dropped_or_marked() -> None:
    obs = transitions(_fragment(active=True), (RAW,))[OBSERVATIONS]
    assert obs.flatten().tolist() == [1, 2, 4, 5, 7, 8, 10, 11]
    kept = transitions(_fragment(2, active=True), (RAW,))
    assert kept[OBSERVATIONS].shape == (6, 2, 1)
    assert kept[ACTIVE].flatten().tolist() == [row % 3 != 0 for row in range(12)]


# -- units and separate policies -------------------------------------------------------------------


@every_learner
@pytest.mark.parametrize(("factor", "offset"), [(1000.0, 0.0), (1.0, 1000.0), (0.01, 0.0)])
def test_units_of_the_reward_change_nothing(
    held: Held, name: str, factor: float, offset: float
) -> None:
    plain = held.learner(tiny_data(name))
    changed = held.learner(tiny_data(name))
    for number in range(3):
        fragment = held.fragment()
        for learner, k, add in ((plain, 1.0, 0.0), (changed, factor, offset)):
            columns = {**fragment.columns, REWARDS: k * fragment.columns[REWARDS] + add}
            learner._weights_seq_no = number + 1
            learner.learn({"household": Fragment(columns, fragment.ends, fragment.world)})
    one = plain.networks("household")
    two = changed.networks("household")
    assert float(one.actor.net[0].weight.detach().std()) > 0
    for mine, theirs in zip(one.actor.parameters(), two.actor.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-2, atol=2e-4)
    torch.testing.assert_close(two.critic.scale / factor, one.critic.scale, rtol=1e-3, atol=0)
    torch.testing.assert_close(
        two.critic.shift, factor * one.critic.shift + offset / (1 - 0.95), rtol=1e-3, atol=0
    )


@every_learner
@pytest.mark.parametrize("separate", [False, True])
def test_new_statistics_leave_the_values_of_critics_and_targets(
    held: Held, name: str, separate: bool
) -> None:
    learner = held.learner(tiny_data(name, separate=separate))
    batch = replayed(learner, held.fragment())
    module = learner.networks("household")
    critic_input = torch.cat([batch[OBSERVATIONS], batch[RAW]], -1)
    with torch.no_grad():
        before = [network(critic_input) for network in (module.critic, module.target)]
        shift = module.critic.shift.clone()
        learner.before_updates("household", {**batch, REWARDS: 5 * batch[REWARDS]})
        after = [network(critic_input) for network in (module.critic, module.target)]
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)
    assert float((module.critic.shift - shift).abs().min()) > 0.1
    for name in ("shift", "scale"):
        assert torch.equal(getattr(module.critic, name), getattr(module.target, name))


@every_learner
def test_nobody_elses_rows_move_a_separate_policy(held: Held, name: str) -> None:
    """Two learners differ in what agent 1 met, in which rows it acted too.

    Agents 0 and 2 learn the same.
    """
    first, second = (held.learner(tiny_data(name, separate=True)) for _ in range(2))
    fragment = held.fragment()
    active = torch.ones_like(fragment.columns[REWARDS], dtype=torch.bool)
    other = {**fragment.columns, REWARDS: fragment.columns[REWARDS].clone(), ACTIVE: active.clone()}
    other[REWARDS][:, 1::3] += torch.randn(
        other[REWARDS][:, 1::3].shape, generator=torch.Generator().manual_seed(1)
    )
    other[ACTIVE][::2, 1::3] = False
    for learner, columns in ((first, {**fragment.columns, ACTIVE: active}), (second, other)):
        for number in (1, 2):
            learner._weights_seq_no = number
            learner.learn({"household": Fragment(columns, fragment.ends, fragment.world, 3)})
    one = first.networks("household")
    two = second.networks("household")
    for weight, value in one.state_dict().items():
        if value.dim() != 3 and not weight.endswith(("shift", "scale", "log_alpha")):
            continue
        mine, theirs = (x.reshape(3, -1) for x in (value, two.state_dict()[weight]))
        torch.testing.assert_close(mine[[0, 2]], theirs[[0, 2]], rtol=1e-5, atol=1e-7, msg=weight)
        if weight.endswith("weight"):
            assert not torch.allclose(mine[1], theirs[1], rtol=1e-4), weight


@every_learner
def test_rows_in_which_an_agent_did_not_act_do_not_count(held: Held, name: str) -> None:
    learner = held.learner(tiny_data(name, separate=True))
    batch = replayed(learner, held.fragment())
    batch[ACTIVE] = torch.arange(48).reshape(16, 3) % 4 != 0
    spoiled = {name: column.clone() for name, column in batch.items()}
    spoiled[REWARDS][~batch[ACTIVE]] = 1e4
    spoiled[RAW][~batch[ACTIVE]] = -2.0
    state = learner.generator.get_state()
    weights = []
    for rows in (batch, spoiled):
        learner.generator.set_state(state)
        weights.append(gradients(learner, rows))
    for part in weights[0]:
        for clean, other in zip(weights[0][part], weights[1][part], strict=True):
            torch.testing.assert_close(clean, other, rtol=1e-5, atol=1e-7, msg=part)
    module = learner.networks("household")
    before = copy.deepcopy(module.state_dict())
    statistics = []
    for rows in (batch, spoiled):
        learner.generator.set_state(state)
        module.load_state_dict(before)
        learner.before_updates("household", rows)
        statistics.append(torch.cat([module.critic.shift, module.critic.scale]))
    torch.testing.assert_close(statistics[0], statistics[1], rtol=1e-5, atol=0)
