"""What learners are made of, each against a slow or independent twin."""

from __future__ import annotations

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.policies.actors import NetworkActor
from rl_markets.policies.advantages import generalized_advantages, others_mean, successor_values
from rl_markets.policies.heads import (
    LOGIT_NORMAL,
    NOISY_TANH,
    SQUASHED_GAUSSIAN,
    ActionHead,
    Categorical,
    LogitNormal,
    action_head,
    describe_space,
)
from rl_markets.policies.networks import Critic
from rl_markets.policies.rollout import EpisodeEnds, Fragment, Rollout, concatenate

BOX = {"type": "box", "low": [0.01, 0.01], "high": [0.99, 0.99]}
ACTOR = {
    "observation": 7,
    "action": BOX,
    "hidden": [16],
    "activation": "tanh",
    "log_std": -0.5,
    "trained_std": True,
}


def random_ends(steps: int, trajectories: int, rng: np.random.Generator) -> EpisodeEnds:
    where = np.argwhere(rng.random((steps, trajectories)) < 0.2)
    step = torch.from_numpy(where[:, 0].copy())
    trajectory = torch.from_numpy(where[:, 1].copy())
    return EpisodeEnds(
        step, trajectory, torch.from_numpy(rng.random(len(where)) < 0.5), torch.randn(len(where), 3)
    )


def slow_advantages(
    rewards: Tensor,
    values: Tensor,
    ends: EpisodeEnds,
    final_values: Tensor,
    gamma: float,
    lambda_: float,
) -> NDArray[np.float64]:
    """The definition, one trajectory and step at a time.

    A_t = sum_l (gamma lambda)^l delta_{t+l} to the episode's end.
    """
    steps, trajectories = rewards.shape
    columns = (ends.step, ends.trajectory, ends.terminated, final_values)
    ended = {
        (int(t), int(n)): (bool(terminated), float(value))
        for t, n, terminated, value in zip(*columns, strict=True)
    }
    out = np.zeros((steps, trajectories))
    for n in range(trajectories):
        for t in range(steps):
            weight = 1.0
            for s in range(t, steps):
                terminated, final = ended.get((s, n), (False, None))
                # Bootstrap from the episode's own final observation where it was cut.
                successor = float(values[s + 1, n]) if final is None else final
                if terminated:
                    successor = 0.0
                delta = float(rewards[s, n]) + gamma * successor - float(values[s, n])
                out[t, n] += weight * delta
                weight *= gamma * lambda_
                if (s, n) in ended:
                    break
    return out


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 5), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31)
)
def test_advantages_equal_their_definition(
    steps: int, trajectories: int, gamma: float, lambda_: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ends = random_ends(steps, trajectories, rng)
    rewards = torch.from_numpy(rng.normal(size=(steps, trajectories)))
    values = torch.from_numpy(rng.normal(size=(steps + 1, trajectories)))
    final_values = torch.from_numpy(rng.normal(size=len(ends.step)))
    successor, nonterminal = successor_values(values, ends, final_values)
    ours = generalized_advantages(rewards, values, successor, nonterminal, gamma, lambda_)
    np.testing.assert_allclose(
        ours.numpy(),
        slow_advantages(rewards, values, ends, final_values, gamma, lambda_),
        atol=1e-9,
    )


def rllib_episode(
    values: np.ndarray, rewards: np.ndarray, last_value: float, terminated: bool
) -> tuple[np.ndarray, ...]:
    """Values, rewards and both kinds of ends of one episode and its artificial step."""
    steps = len(rewards)
    ended = np.zeros(steps + 1, bool)
    cut = np.zeros(steps + 1, bool)
    (ended if terminated else cut)[steps - 1] = True
    return np.r_[values, last_value], np.r_[rewards, 0.0], ended, cut


def test_advantages_equal_rllibs_own() -> None:
    """RLlib lays episodes end to end, each with one artificial step.

    Ours bootstraps from the true final observation.
    """
    from ray.rllib.utils.postprocessing.value_predictions import compute_value_targets

    rng = np.random.default_rng(0)
    gamma = 0.97
    lambda_ = 0.9
    rewards = rng.normal(size=12)
    values = rng.normal(size=13)
    final = 0.7
    ends = EpisodeEnds(
        torch.tensor([4, 8]), torch.tensor([0, 0]), torch.tensor([False, True]), torch.zeros(2, 1)
    )
    column = torch.from_numpy(values)[:, None]
    final_values = torch.tensor([final, 9.9], dtype=torch.float64)
    successor, nonterminal = successor_values(column, ends, final_values)
    ours = generalized_advantages(
        torch.from_numpy(rewards)[:, None], column, successor, nonterminal, gamma, lambda_
    )
    ours = ours + column[:-1]

    parts = [
        rllib_episode(values[0:5], rewards[0:5], final, False),
        rllib_episode(values[5:9], rewards[5:9], 0.3, True),
        rllib_episode(values[9:12], rewards[9:12], values[12], False),
    ]
    v, r, ended, cut = (np.concatenate(part) for part in zip(*parts, strict=True))
    theirs = compute_value_targets(
        values=v, rewards=r, terminateds=ended, truncateds=cut, gamma=gamma, lambda_=lambda_
    )
    np.testing.assert_allclose(ours[:, 0].numpy(), theirs[np.r_[0:5, 6:10, 11:14]], atol=1e-5)


# -- rollouts --------------------------------------------------------------------------------------


def a_rollout(seed: int = 0) -> Rollout:
    rng = np.random.default_rng(seed)

    def fragment(trajectories: int) -> Fragment:
        columns = {
            "observations": torch.randn(6, trajectories, 3),
            "rewards": torch.randn(5, trajectories),
        }
        return Fragment(
            columns,
            random_ends(5, trajectories, rng),
            torch.arange(trajectories) // (trajectories // 4),
        )

    return Rollout({"many": fragment(20), "few": fragment(4)}, worlds=4)


@pytest.mark.parametrize("learners", [2, 3, 7])
def test_shards_cover_every_policy_once(learners: int) -> None:
    whole = a_rollout()
    size = Rollout.SHARES
    shards = [whole[size * i // learners : size * (i + 1) // learners] for i in range(learners)]
    for policy, fragment in whole.fragments.items():
        parts = concatenate([s.fragments[policy] for s in shards])
        assert torch.equal(parts.columns["observations"], fragment.columns["observations"])
        parted, ends = (
            sorted(zip(x.ends.step.tolist(), x.ends.trajectory.tolist(), strict=True))
            for x in (parts, fragment)
        )
        assert parted == ends
    assert sum(s.agent_steps() for s in shards) == whole.agent_steps()
    assert whole.env_steps() == 5 * 4


def test_a_rollout_survives_pickling() -> None:
    whole = a_rollout()[100:3000]
    copy = pickle.loads(pickle.dumps(whole))
    assert copy.span == whole.span
    assert copy.worlds == whole.worlds
    for policy, fragment in whole.fragments.items():
        for name, column in fragment.columns.items():
            assert torch.equal(copy.fragments[policy].columns[name], column)
        assert torch.equal(copy.fragments[policy].ends.observations, fragment.ends.observations)


def test_the_others_mean_leaves_oneself_out() -> None:
    x = torch.randn(3, 6)
    world = torch.tensor([0, 0, 0, 1, 2, 2])
    mean = others_mean(x, world)
    torch.testing.assert_close(mean[:, 0], x[:, 1:3].mean(1))
    torch.testing.assert_close(mean[:, 4], x[:, 5])
    assert not mean[:, 3].any(), "alone in its world"


# -- networks --------------------------------------------------------------------------------------


def test_logit_normal_is_torchs_normal_before_the_squash() -> None:
    head = LogitNormal([0.0, -1.0], [1.0, 3.0], log_std=-0.3, trained_std=True)
    out = torch.randn(50, 2)
    raw = head.sample(out, torch.Generator().manual_seed(0))
    twin = torch.distributions.Normal(out, head.log_std.exp())
    torch.testing.assert_close(head.log_prob(out, raw), twin.log_prob(raw).sum(-1))
    torch.testing.assert_close(head.entropy(out), twin.entropy().sum(-1))
    actions = head.to_action(raw)
    assert bool(((actions >= head.low) & (actions <= head.high)).all())
    extreme = head.to_action(torch.tensor([[-20.0, 20.0]]))
    assert torch.equal(extreme[0], torch.stack([head.low[0], head.high[1]])), (
        "the bounds can be played"
    )


def test_logit_normal_samples_its_distribution() -> None:
    head = LogitNormal([0.0], [1.0], log_std=-0.7, trained_std=False)
    raw = head.sample(torch.full((200_000, 1), 0.4), torch.Generator().manual_seed(1))
    assert raw.mean().item() == pytest.approx(0.4, abs=0.005)
    assert raw.std().item() == pytest.approx(np.exp(-0.7), rel=0.01)
    mean_action = head.to_action(raw).mean().item()
    assert head.deterministic(torch.tensor([0.4])).item() == pytest.approx(mean_action, abs=1e-3)
    assert head.deterministic(torch.tensor([0.4])).item() != pytest.approx(
        1 / (1 + np.exp(-0.4)), abs=1e-3
    )


def test_categorical_is_torchs_categorical() -> None:
    head = Categorical(4)
    out = torch.randn(200_000, 4)[:1].expand(200_000, 4)
    raw = head.sample(out, torch.Generator().manual_seed(0))
    twin = torch.distributions.Categorical(logits=out)
    torch.testing.assert_close(head.log_prob(out, raw), twin.log_prob(raw))
    torch.testing.assert_close(head.entropy(out), twin.entropy())
    shares = torch.bincount(raw, minlength=4) / len(raw)
    torch.testing.assert_close(shares, twin.probs[0], atol=0.005, rtol=0)
    assert torch.equal(head.deterministic(out), out.argmax(-1))


def test_the_same_seed_builds_the_same_actor() -> None:
    one, two, other = (NetworkActor(ACTOR, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.net[0].weight, other.net[0].weight)


def test_renormalising_a_critic_keeps_its_values() -> None:
    critic = Critic(3, [8], "tanh", torch.Generator().manual_seed(0))
    obs = torch.randn(64, 3)
    critic.renormalize(torch.tensor(-40.0), torch.tensor(3.0))
    before = critic(obs)
    for mean, std in ((-60.0, 10.0), (5.0, 0.1), (1e3, 50.0)):
        critic.renormalize(torch.tensor(mean), torch.tensor(std))
        torch.testing.assert_close(critic(obs), before, rtol=1e-4, atol=1e-2)
    assert critic.scale.item() > 3


def test_spaces_that_no_head_covers_are_refused() -> None:
    import gymnasium as gym

    with pytest.raises(ValueError, match="expected Discrete"):
        describe_space(gym.spaces.MultiBinary(3))
    unbounded = describe_space(gym.spaces.Box(-np.inf, np.inf, (2,), np.float32))
    with pytest.raises(ValueError, match="finite bounds"):
        NetworkActor(ACTOR | {"action": unbounded})


@pytest.mark.parametrize("distribution", [LOGIT_NORMAL, SQUASHED_GAUSSIAN, NOISY_TANH])
@given(st.floats(-1e4, 1e4, width=32), st.floats(2**-10, 1e4, width=32))
def test_actions_stay_inside_their_box(distribution: str, low: float, width: float) -> None:
    """However far the raw action is: rounding once led a hundred-millionth outside."""
    high = np.nextafter(np.float32(low + width), np.float32(np.inf))
    box = gym.spaces.Box(np.float32(low), high, (1,))
    head = action_head(ACTOR | {"action": describe_space(box), "distribution": distribution})
    assert isinstance(head, ActionHead)
    raw = torch.tensor([-1e6, -100.0, -20.0, -9.0, -8.0, 0.0, 8.0, 9.0, 20.0, 100.0, 1e6])
    for action in head.to_action(raw[:, None]).numpy():
        assert box.contains(action)
