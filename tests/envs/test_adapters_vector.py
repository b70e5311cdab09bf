"""Our markets as vector environments of Gymnasium and Stable-Baselines3."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

from rl_markets.envs.adapters import to_sb3, to_vector_env
from tests.support.bazaar import LENGTH, Bazaar, drawn, economy

# -- Gymnasium -------------------------------------------------------------------------------------


class Alone(gym.Env[Any, Any]):
    """One row of a vector environment as a plain environment, for Gymnasium's own checker."""

    def __init__(self) -> None:
        self.rows = to_vector_env(economy(households=1))
        self.observation_space = self.rows.single_observation_space
        self.action_space = self.rows.single_action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.rows.reset(seed=seed)[0][0], {}

    def step(self, action: Any) -> Any:
        obs, paid, terminated, truncated, infos = self.rows.step(action[None])
        last = infos["final_obs"][0] if "final_obs" in infos else obs[0]
        return last, float(paid[0]), bool(terminated[0]), bool(truncated[0]), {}


def test_gymnasiums_own_check() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like finite observation spaces
        check_env(Alone(), skip_render_check=True)


def test_a_vector_env_restarts_as_gymnasiums_own_does() -> None:
    ours = to_vector_env(economy(worlds=2, households=1))
    theirs = SyncVectorEnv([Alone, Alone], autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    assert ours.num_envs == 2
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    steps = []
    for env in (ours, theirs):
        env.reset(seed=1)
        env.action_space.seed(1)
        for _ in range(LENGTH):
            *arrays, infos = env.step(env.action_space.sample())
        steps.append((arrays, infos))
    for mine, other in zip(*(arrays for arrays, _ in steps), strict=True):
        assert (mine.shape, mine.dtype.kind) == (other.shape, other.dtype.kind)
    mine, other = (infos for _, infos in steps)
    assert mine.keys() == other.keys()
    for key in other:
        assert type(mine[key]) is type(other[key]), key
        if isinstance(other[key], np.ndarray):
            assert (mine[key].dtype, mine[key].shape) == (other[key].dtype, other[key].shape), key
    assert [row.shape for row in mine["final_obs"]] == [row.shape for row in other["final_obs"]]


def test_a_vector_env_says_what_the_market_says() -> None:
    """Rows are agents, world by world; staggered worlds end at different times."""
    market = economy(worlds=3, stagger=True)
    env = to_vector_env(economy(worlds=3, stagger=True))
    generator = np.random.default_rng(0)
    ends = 0
    np.testing.assert_array_equal(env.reset(seed=4)[0], market.reset(4)["households"].flatten(0, 1))
    for _ in range(3 * LENGTH):
        actions = drawn(market, generator)
        obs, paid, terminated, truncated, infos = env.step(
            actions["households"].flatten(0, 1).numpy()
        )
        step = market.step(actions)
        np.testing.assert_array_equal(obs, step.observations["households"].flatten(0, 1))
        np.testing.assert_array_equal(paid, step.rewards["households"].flatten())
        assert obs in env.observation_space
        assert not terminated.any()
        over = [] if step.ended is None else step.ended.worlds.tolist()
        assert truncated.reshape(3, 3).all(1).nonzero()[0].tolist() == over
        assert truncated.sum() == 3 * len(over)
        if step.ended is not None:
            ends += len(over)
            final = np.stack(infos["final_obs"][infos["_final_obs"]])
            expected = step.ended.observations["households"].flatten(0, 1)
            np.testing.assert_array_equal(final, expected)
            assert [row is None for row in infos["final_obs"]] == (~truncated).tolist()
    assert ends >= 8


def test_vector_wrappers_of_gymnasium_work_and_seeds_repeat() -> None:
    env = DictInfoToList(RecordEpisodeStatistics(to_vector_env(economy(worlds=2))))
    env.reset(seed=0)
    for _ in range(LENGTH):
        infos = env.step(env.action_space.sample())[-1]
    assert [info["episode"]["l"] for info in infos] == [LENGTH] * 6
    rows = to_vector_env(economy(worlds=2))
    first = [rows.reset(seed=5)[0], rows.reset()[0]]
    again = [rows.reset(seed=5)[0], rows.reset()[0]]
    assert [a.tobytes() for a in first] == [a.tobytes() for a in again]
    assert first[0].tobytes() != first[1].tobytes()


def test_rows_of_those_who_left_are_terminated_and_idle() -> None:
    scripted = {"sellers": lambda obs: torch.ones(*obs.shape[:-1], 1)}
    env = to_vector_env(Bazaar(worlds=2), "buyers", others=scripted)
    env.reset(seed=0)
    active = []
    over = []
    paid = []
    for _ in range(3):
        _, reward, terminated, truncated, infos = env.step(np.full(6, 2))
        active.append(infos["active"].tolist())
        over.append(terminated.tolist())
        paid.append((reward != 0).tolist())
        assert not truncated.any()
        assert infos["_final_obs"].tolist() == terminated.tolist()
    assert active == paid == [[True] * 6, [False, True, True] * 2, [False, False, True] * 2]
    assert over == [[True, False, False] * 2, [False, True, False] * 2, [True] * 6]
    np.testing.assert_array_equal([row[0] for row in infos["final_obs"]], [3, 4, 5] * 2)


def test_what_a_vector_env_cannot_do_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="group None: expected one of buyers, sellers"):
        to_vector_env(Bazaar())
    with pytest.raises(ValueError, match="group 'buyer': expected one of buyers, sellers"):
        to_vector_env(Bazaar(), "buyer")
    with pytest.raises(ValueError, match="nobody plays group 'sellers'"):
        to_vector_env(Bazaar(), "buyers")
    env = to_vector_env(economy())
    with pytest.raises(ValueError, match="seed is a list: expected one number"):
        env.reset(seed=[1, 2, 3])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"options\.reset_mask"):
        env.reset(options={"reset_mask": np.array([True, False, False])})


# -- Stable-Baselines3 -----------------------------------------------------------------------------


def test_sb3_sees_ends_as_they_are() -> None:
    pytest.importorskip("stable_baselines3")
    market = economy(worlds=2)
    env = to_sb3(economy(worlds=2))
    env.seed(9)
    np.testing.assert_array_equal(env.reset(), market.reset(9)["households"].flatten(0, 1))
    for t in range(LENGTH):
        actions = np.full((6, 2), 0.3, np.float32)
        obs, _, done, infos = env.step(actions)
        step = market.step({"households": torch.from_numpy(actions).view(2, 3, 2)})
        assert done.tolist() == [t == LENGTH - 1] * 6
        assert [info["TimeLimit.truncated"] for info in infos] == done.tolist()
        assert [("terminal_observation" in info) for info in infos] == done.tolist()
    np.testing.assert_array_equal(obs, step.observations["households"].flatten(0, 1))
    assert step.ended is not None
    last = np.stack([info["terminal_observation"] for info in infos])
    np.testing.assert_array_equal(last, step.ended.observations["households"].flatten(0, 1))
    bazaar = to_sb3(Bazaar(buyers=1), "buyers", others={"sellers": lambda x: x[..., :1] * 0 + 1})
    bazaar.reset()
    _, _, done, infos = bazaar.step(np.array([1]))
    assert done.all()
    assert infos[0]["TimeLimit.truncated"] is False, (
        "the bazaar closed, nothing is to be bootstrapped"
    )


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_sb3_trains(name: str) -> None:
    library = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

    env = VecNormalize(VecMonitor(to_sb3(economy(worlds=4))))
    options = {
        "PPO": {"n_steps": 16, "batch_size": 64},
        "SAC": {"learning_starts": 48, "train_freq": 4},
    }
    model = getattr(library, name)("MlpPolicy", env, seed=1, device="cpu", **options[name])
    before = {n: value.clone() for n, value in model.policy.state_dict().items()}
    model.learn(600)
    assert any(not torch.equal(before[n], value) for n, value in model.policy.state_dict().items())
    assert all(torch.isfinite(value).all() for value in model.policy.state_dict().values())
    assert {round(info["l"]) for info in model.ep_info_buffer} == {LENGTH}
