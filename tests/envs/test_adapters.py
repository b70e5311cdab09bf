"""Our markets in other libraries: their own checks, our stricter ones, and their learners."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from pettingzoo import ParallelEnv
from pettingzoo.test import parallel_api_test, parallel_seed_test
from torch import Tensor

from rl_markets.envs.adapters import to_multi_agent_env, to_parallel_env, to_sb3, to_vector_env
from rl_markets.envs.deviation import DeviationMarket
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import AgentGroup, Market, State, TensorMarket, Transition
from rl_markets.errors import MarketError

LENGTH = 5


def economy(worlds: int = 1, households: int = 3, **options: Any) -> Households:
    """Episodes of five periods, cut by the clock; nobody leaves."""
    parameters = HouseholdsParameters(households=households, delta=1.0, episode_length=LENGTH)
    return Households(parameters, worlds=worlds, **{"stagger": False, **options})


class Bazaar(TensorMarket):
    """Two kinds of agents; buyer i leaves after i + 1 days of shopping, the last of them closes the
    bazaar."""

    def __init__(self, worlds: int = 1, buyers: int = 3, episode_length: int | None = None) -> None:
        super().__init__(worlds=worlds, episode_length=episode_length, stagger=False)
        seen = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.groups = {
            "buyers": AgentGroup(buyers, seen, gym.spaces.Discrete(3)),
            "sellers": AgentGroup(2, seen, gym.spaces.Box(0.5, 2.0, (1,), np.float32)),
        }

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        return {"day": torch.zeros(worlds, 1), "mood": torch.rand((worlds, 1), generator=generator)}

    def draw_noise(self, generator: torch.Generator) -> State:
        return {"mood": torch.rand((self.worlds, 1), generator=generator)}

    def observe(self, state: State) -> dict[str, Tensor]:
        row = torch.cat([state["day"], state["mood"]], -1)[:, None]
        return {
            name: row.expand(-1, group.count, -1) + torch.arange(group.count)[:, None]
            for name, group in self.groups.items()
        }

    def observe_globally(self, state: State) -> Tensor:
        return torch.cat([state["day"], state["mood"]], -1)

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        day = state["day"] + 1
        stay = torch.arange(self.groups["buyers"].count)
        here = state["day"] <= stay
        spent = torch.where(here, actions["buyers"] * state["mood"], 0.0)
        price = actions["sellers"].squeeze(-1)
        rewards = {"buyers": -spent, "sellers": price * spent.sum(-1, keepdim=True)}
        following = {"day": day, "mood": noise["mood"]}
        return Transition(
            following,
            rewards,
            (day > stay.max()).squeeze(-1),
            {"buyers": here},
            {"buyers": here & (day > stay)},
        )


MARKETS: dict[str, Callable[[], Market]] = {"households": economy, "bazaar": Bazaar}
every_market = pytest.mark.parametrize("build", MARKETS.values(), ids=MARKETS.keys())


# -- PettingZoo ------------------------------------------------------------------------------------


@every_market
def test_pettingzoos_own_checks(build: Callable[[], Market]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(to_parallel_env(build()), num_cycles=50)
        parallel_seed_test(lambda: to_parallel_env(build()), num_cycles=50)


def episode(env: Any, seed: int | None, actions: np.random.Generator) -> bytes:
    """Every byte of an episode: observations, rewards, flags, agents, to its very end."""
    heard: list[Any] = [env.reset(seed=seed)[0]]
    while env.agents:
        for agent in env.possible_agents:
            env.action_space(agent).seed(int(actions.integers(2**31)))
        heard += [
            list(env.agents),
            *env.step({agent: env.action_space(agent).sample() for agent in env.agents})[:4],
        ]
    return b"".join(
        np.asarray(value).tobytes() + str(agent).encode()
        for part in heard
        for agent, value in (part.items() if isinstance(part, dict) else enumerate(part))
    )


def episodes(env: Any, seed: int, count: int = 3) -> list[bytes]:
    """An episode from a seed, and those that follow it without one."""
    actions = np.random.default_rng(5)
    return [episode(env, seed if i == 0 else None, actions) for i in range(count)]


def check_deterministic(build: Callable[[], Any]) -> None:
    """Same seed, same bytes over whole episodes and across restarts, in one object and in two;
    others differ."""
    env = build()
    first = episodes(env, 7)
    assert episodes(env, 7) == first, "the same environment, seeded again"
    assert episodes(build(), 7) == first, "another environment with the same seed"
    assert episodes(build(), 8)[0] != first[0], "another seed"
    resets = [env.reset(seed=3)[0], *(env.reset()[0] for _ in range(3))]
    starts = {b"".join(np.asarray(seen).tobytes() for seen in reset.values()) for reset in resets}
    assert len(starts) == 4, "a reset without a seed starts an episode of its own"


@every_market
def test_whole_episodes_are_the_same_bytes(build: Callable[[], Market]) -> None:
    check_deterministic(lambda: to_parallel_env(build()))


class HalfSeeded(ParallelEnv):  # type: ignore[misc]
    """Heeds its seed for the start and the first step; from the second step on it draws from
    nowhere."""

    metadata = {"name": "half_seeded", "render_modes": []}  # noqa: RUF012
    possible_agents = ["only"]  # noqa: RUF012

    def __init__(self) -> None:
        self.agents: list[str] = []
        self._seen = gym.spaces.Box(0, 1, (1,), np.float32)
        self._does = gym.spaces.Discrete(2)
        self.random = np.random.default_rng(0)

    def observation_space(self, agent: str) -> Any:
        return self._seen

    def action_space(self, agent: str) -> Any:
        return self._does

    def _observe(self) -> dict[str, Any]:
        return {"only": self.random.random(1, dtype=np.float32)}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.random = self.random if seed is None else np.random.default_rng(seed)
        self.agents = ["only"]
        self.steps = 0
        return self._observe(), {"only": {}}

    def step(self, actions: Any) -> Any:
        self.steps += 1
        if self.steps >= 2:
            self.random = np.random.default_rng()
        over = self.steps == 4
        seen = self._observe()
        self.agents = [] if over else self.agents
        return seen, {"only": 0.0}, {"only": False}, {"only": over}, {"only": {}}


def test_pettingzoos_seed_test_looks_at_one_step_only_and_ours_does_not() -> None:
    """It asks `any(terminations)` of a dict, which is true of its names."""
    parallel_seed_test(HalfSeeded)
    with pytest.raises(AssertionError, match="seeded again"):
        check_deterministic(HalfSeeded)


def drawn(market: Market, generator: np.random.Generator) -> dict[str, Tensor]:
    """Actions of every agent, `[worlds, agents, ...]`."""
    found = {}
    for name, group in market.groups.items():
        shape = (market.worlds, group.count)
        space = group.action_space
        if isinstance(space, gym.spaces.Discrete):
            found[name] = torch.from_numpy(generator.integers(space.n, size=shape))
        else:
            found[name] = torch.from_numpy(
                generator.uniform(space.low, space.high, (*shape, *space.shape))
            ).float()
    return found


@every_market
def test_a_parallel_env_says_what_the_market_says(build: Callable[[], Market]) -> None:
    market = build()
    env = to_parallel_env(build())
    generator = np.random.default_rng(0)
    place = {
        f"{name}_{i}": (name, i)
        for name, group in market.groups.items()
        for i in range(group.count)
    }
    expected = market.reset(3)
    seen = env.reset(seed=3)[0]
    assert list(seen) == env.agents == env.possible_agents == list(place)
    while env.agents:
        live = list(env.agents)
        actions = drawn(market, generator)
        seen, paid, terminated, truncated, _ = env.step(
            {a: actions[place[a][0]][0, place[a][1]].numpy() for a in live}
        )
        step = market.step(actions)
        expected = step.observations if step.ended is None else step.ended.observations
        assert list(seen) == list(paid) == list(terminated) == list(truncated) == live
        for agent, (group, i) in place.items():
            if agent in live:
                assert seen[agent].tobytes() == expected[group][0, i].numpy().tobytes()
                assert seen[agent] in env.observation_space(agent)
                assert paid[agent] == float(step.rewards[group][0, i])
                ended = step.ended is not None
                assert terminated[agent] or truncated[agent] or agent in env.agents
                assert truncated[agent] == (ended and not bool(step.ended.terminated[0]))  # type: ignore[union-attr]
    assert step.ended is not None
    with pytest.raises(MarketError, match="the episode is over"):
        env.step({})


def test_agents_that_leave_are_gone_and_the_state_is_the_last_one() -> None:
    env = to_parallel_env(Bazaar())
    env.reset(seed=0)
    gone = []
    while env.agents:
        before = set(env.agents)
        seen = env.step({agent: env.action_space(agent).sample() for agent in env.agents})[0]
        gone.append(sorted(before - set(env.agents)))
        np.testing.assert_array_equal(env.state(), seen["sellers_0"])
    assert gone == [["buyers_0"], ["buyers_1"], ["buyers_2", "sellers_0", "sellers_1"]]
    env.reset()
    assert env.state()[0] == 0
    assert env.agents == env.possible_agents


def test_a_parallel_env_starts_at_clock_zero_and_is_one_world() -> None:
    env = to_parallel_env(
        DeviationMarket(
            economy(stagger=True), {"households": lambda x: x[..., :2] * 0 + 0.5}, "households"
        )
    )
    for _ in range(5):
        env.reset()
        for step in range(LENGTH):
            env.step({agent: env.action_space(agent).sample() for agent in env.agents})
            assert bool(env.agents) == (step < LENGTH - 1)
    with pytest.raises(ValueError, match="2 worlds: expected 1"):
        to_parallel_env(economy(worlds=2))
    env.reset()
    with pytest.raises(
        MarketError, match="no action for agent 'deviator_0': expected one for each of 1"
    ):
        env.step({})
    assert env.state().shape == (4,)


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
        seen, paid, terminated, truncated, infos = self.rows.step(action[None])
        last = infos["final_obs"][0] if "final_obs" in infos else seen[0]
        return last, float(paid[0]), bool(terminated[0]), bool(truncated[0]), {}


def test_gymnasiums_own_check() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like finite observation spaces
        check_env(Alone(), skip_render_check=True)


def test_a_vector_env_restarts_as_gymnasiums_own_does() -> None:
    ours = to_vector_env(economy(worlds=2, households=1))
    theirs = SyncVectorEnv([Alone, Alone], autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    assert (ours.num_envs, ours.observation_space, ours.action_space) == (
        2,
        theirs.observation_space,
        theirs.action_space,
    )
    found = []
    for env in (ours, theirs):
        env.reset(seed=1)
        env.action_space.seed(1)
        for _ in range(LENGTH):
            *arrays, infos = env.step(env.action_space.sample())
        found.append((arrays, infos))
    for mine, other in zip(*(arrays for arrays, _ in found), strict=True):
        assert (mine.shape, mine.dtype.kind) == (other.shape, other.dtype.kind)
    mine, other = (infos for _, infos in found)
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
        seen, paid, terminated, truncated, infos = env.step(
            actions["households"].flatten(0, 1).numpy()
        )
        step = market.step(actions)
        np.testing.assert_array_equal(seen, step.observations["households"].flatten(0, 1))
        np.testing.assert_array_equal(paid, step.rewards["households"].flatten())
        assert seen in env.observation_space
        assert not terminated.any()
        over = [] if step.ended is None else step.ended.worlds.tolist()
        assert truncated.reshape(3, 3).all(1).nonzero()[0].tolist() == over
        assert truncated.sum() == 3 * len(over)
        if step.ended is not None:
            ends += len(over)
            final = np.stack(infos["final_obs"][infos["_final_obs"]])
            np.testing.assert_array_equal(
                final, step.ended.observations["households"].flatten(0, 1)
            )
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
    scripted = {"sellers": lambda seen: torch.ones(*seen.shape[:-1], 1)}
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
        seen, _, done, infos = env.step(actions)
        step = market.step({"households": torch.from_numpy(actions).view(2, 3, 2)})
        assert done.tolist() == [t == LENGTH - 1] * 6
        assert [info["TimeLimit.truncated"] for info in infos] == done.tolist()
        assert all(
            ("terminal_observation" in info) == bool(end)
            for info, end in zip(infos, done, strict=True)
        )
    np.testing.assert_array_equal(seen, step.observations["households"].flatten(0, 1))
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
    options = (
        {"n_steps": 16, "batch_size": 64}
        if name == "PPO"
        else {"learning_starts": 48, "train_freq": 4}
    )
    model = getattr(library, name)("MlpPolicy", env, seed=1, device="cpu", **options)
    before = {n: value.clone() for n, value in model.policy.state_dict().items()}
    model.learn(600)
    assert any(not torch.equal(before[n], value) for n, value in model.policy.state_dict().items())
    assert all(torch.isfinite(value).all() for value in model.policy.state_dict().values())
    assert {round(info["l"]) for info in model.ep_info_buffer} == {LENGTH}


# -- RLlib -----------------------------------------------------------------------------------------


@every_market
def test_a_multi_agent_env_counts_everybody(ray_once: None, build: Callable[[], Market]) -> None:
    from ray.rllib.env.multi_agent_env import MultiAgentEnv

    env = to_multi_agent_env(build())
    twin = to_parallel_env(build())
    assert isinstance(env, MultiAgentEnv)
    assert env.get_observation_space(env.possible_agents[0]) == twin.observation_space(
        env.possible_agents[0]
    )
    for seed in (3, None):
        first = env.reset(seed=seed)[0]
        expected = twin.reset(seed=seed)[0]
        np.testing.assert_equal(first, expected)
        over = False
        while not over:
            actions = {agent: twin.action_space(agent).sample() for agent in twin.agents}
            found = env.step(actions)
            expected = twin.step(actions)
            over = any([found[2].pop("__all__"), found[3].pop("__all__")])
            np.testing.assert_equal(found, expected)
            assert over == (not twin.agents)
            assert env.agents == list(found[0]), "RLlib holds the one against the other"


@every_market
def test_rllibs_stock_runner_and_ppo_train(ray_once: None, build: Callable[[], Market]) -> None:
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    register_env("ours", lambda _: to_multi_agent_env(build()))
    groups = list(build().groups)
    config = (
        PPOConfig()
        .environment("ours")
        .env_runners(num_env_runners=0, rollout_fragment_length=30)
        .multi_agent(
            policies=set(groups), policy_mapping_fn=lambda agent, *_, **__: agent.rsplit("_", 1)[0]
        )
        .training(train_batch_size_per_learner=60, minibatch_size=30, num_epochs=1)
        .debugging(seed=0, log_level="ERROR")
    )
    algorithm = config.build_algo()
    try:
        for iteration in (1, 2):
            result = algorithm.train()
            assert result["num_env_steps_sampled_lifetime"] == 60 * iteration
        for group in groups:
            assert np.isfinite(result["learners"][group]["total_loss"])
    finally:
        algorithm.stop()


def test_importing_the_adapters_imports_no_ray() -> None:
    program = (
        "import sys\nfor banned in ('ray', 'stable_baselines3'):\n    sys.modules[banned] = None\n"
        "import rl_markets.envs.adapters as a\nprint(a.to_parallel_env.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "to_parallel_env", done.stderr
