"""RLlib's own runner, PPO and SAC, as its documentation has them.

They are on the hand-written economy, and have our networks.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.sac.sac_catalog import SACCatalog
from ray.rllib.algorithms.sac.torch.default_sac_torch_rl_module import DefaultSACTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ENCODER_OUT
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.registry import register_env
from torch import Tensor, nn

from benchmarks.speed import economy
from benchmarks.speed.by_hand import HandWrittenHouseholds
from rl_markets.quiet import quiet_logs


def ppo(envs: int, *, separate: bool = False) -> Any:
    """PPO with `envs` environments; with a module for each household, or one for all."""
    size = economy.SIZE
    config = _with_households(PPOConfig(), envs, separate)
    households = size.households
    rows = {"train_batch_size_per_learner": size.stock_steps, "minibatch_size": size.minibatch}
    if separate:  # minibatches count each module's own rows
        rows = {
            "train_batch_size_per_learner": size.separate_steps,
            "minibatch_size": size.minibatch // households,
        }
    config.training(**rows, num_epochs=size.epochs, lr=1e-3)
    config.rl_module(model_config={"fcnet_hiddens": list(size.hidden), "vf_share_layers": False})
    return config


def sac(envs: int) -> Any:
    """SAC with `envs` environments; as by default, a gradient step for each step of them all."""
    size = economy.SIZE
    config = _with_households(SACConfig(), envs, False)
    config.training(
        train_batch_size_per_learner=size.batch,
        num_steps_sampled_before_learning_starts=size.stock_replay_warm_up,
        replay_buffer_config={"type": "MultiAgentEpisodeReplayBuffer", "capacity": 100_000},
    )
    module = RLModuleSpec(
        module_class=DefaultSACTorchRLModule,
        catalog_class=OneNetworkCatalog,
        model_config={"fcnet_hiddens": list(size.hidden)},
    )
    config.rl_module(rl_module_spec=module)
    config.reporting(min_sample_timesteps_per_iteration=8 * envs)
    return config


def sac_update(algorithm: Any) -> int:
    """One update of RLlib's SAC as its training step has it: sample the replay, learn."""
    episodes = algorithm.local_replay_buffer.sample(
        num_items=algorithm.config.total_train_batch_size,
        n_step=1,
        batch_length_T=0,
        lookback=0,
        min_batch_length_T=0,
        gamma=algorithm.config.gamma,
        beta=None,
        sample_episodes=True,
    )
    algorithm.local_replay_buffer.get_metrics()
    timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: 10**6}
    algorithm.learner_group.update(episodes=episodes, timesteps=timesteps)
    return 1


def _with_households(config: Any, envs: int, separate: bool) -> Any:
    quiet_logs()
    parameters = economy.household_parameters(economy.experiment())
    register_env("rl-markets-bench", lambda _: HandWrittenHouseholds(parameters))
    config.environment("rl-markets-bench")
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=envs)
    if separate:
        agents = {f"households_{i}" for i in range(parameters.households)}
        config.multi_agent(policies=agents, policy_mapping_fn=_own)
    else:
        config.multi_agent(policies={"household"}, policy_mapping_fn=_shared)
    config.reporting(min_time_s_per_iteration=None)
    config.debugging(log_level="ERROR", seed=0)
    return config


def _own(agent: str, *_: Any, **__: Any) -> str:
    return agent


def _shared(*_: Any, **__: Any) -> str:
    return "household"


class OneNetworkCatalog(SACCatalog):  # type: ignore[misc]
    """Critics on (observation, action), as ours are.

    RLlib's default has a network for each, and a third behind them.
    """

    def build_qf_encoder(self, framework: str) -> nn.Module:
        """The hidden layers."""
        inputs = self.observation_space.shape[0] + self.action_space.shape[0]
        return _CriticEncoder(inputs, self._model_config_dict["fcnet_hiddens"])


class _CriticEncoder(nn.Module):
    def __init__(self, inputs: int, hidden: list[int]) -> None:
        super().__init__()
        widths = [inputs, *hidden]
        layers = [(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(widths)]
        self.net = nn.Sequential(*(module for layer in layers for module in layer))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """As RLlib's encoders are called."""
        obs_action = torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], -1)
        return {ENCODER_OUT: self.net(obs_action)}
