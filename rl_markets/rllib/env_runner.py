"""The runner: steps a batch of worlds with one forward pass per policy and step."""

from __future__ import annotations

import time
from typing import Any

import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.framework import get_device
from ray.rllib.utils.metrics import (
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    WEIGHTS_SEQ_NO,
)
from torch import Tensor

from rl_markets.conformance.watchdog import limit_steps
from rl_markets.envs.checks import check_groups, check_observations, check_step
from rl_markets.envs.market import Dynamics, Market, State, Step
from rl_markets.errors import ActionError, MarketError
from rl_markets.policies.module import ACTIONS, MarketModule
from rl_markets.policies.rollout import Rollout, stacked
from rl_markets.policies.sampling import SAMPLING, SamplingConfig
from rl_markets.rllib.recorder import Recorded, Recorder, joined_groups

EPISODE_RETURN = "episode_return"
MARKET_SECONDS = "market_seconds"
SAMPLE_SECONDS = "sample_seconds"


class BatchedEnvRunner(EnvRunner, Checkpointable):  # type: ignore[misc]
    """Samples rollouts from one `Market`.

    `config.env_config` holds a `SamplingConfig`.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        # Worlds are the parallelism; oversubscribed cores are slower than one thread each.
        torch.set_num_threads(1)
        self._spaces = kwargs.get("spaces") or {}
        gpus = self.config.num_gpus_per_env_runner if self.worker_index else 0
        self._device = get_device(self.config, gpus)
        self.sampling: SamplingConfig = self.config.env_config[SAMPLING]
        self.env: Market | None = None
        self.module: Any = None
        self._weights_seq_no = 0
        self._observations: dict[str, Tensor] | None = None
        self.generator = torch.Generator(self._device)
        self.reseed(0)
        self.restarted = bool(self.worker_index) and _reconstructed()
        """Whether its process died, and it awaits the weights and shocks to go on with."""
        if self._samples():
            self.make_env()
        self.make_module()

    def _samples(self) -> bool:
        remote = bool(self.worker_index)
        return remote or self.config.num_env_runners == 0 or self.config.create_env_on_local_worker

    # -- construction ------------------------------------------------------------------------------

    def make_env(self) -> None:
        """Builds the market; the first sample resets it."""
        self.env = self.sampling.build(str(self._device), None)
        check_groups(self.env)
        self.fixed = self.sampling.fixed(self.env)
        self.joined = {
            name: joined_groups(self.env, groups) for name, groups in self.sampling.policies.items()
        }
        self._observations = None

    def reseed(self, salt: int) -> None:
        """Shocks and exploration of its own for a runner that starts; again, with another salt."""
        self._market_seed = (self._seed or 0) + 15_485_863 * salt % 2**31
        self.generator.manual_seed(104_729 + self._market_seed)

    def get_spaces(self) -> dict[str, Any]:
        """Policy -> (observation space, action space), as RLlib asks for them."""
        if self.env is None:
            return self._spaces  # type: ignore[no-any-return]
        # A policy's groups have the same spaces: those of the first one are its own.
        policies = self.sampling.policies.items()
        first = {name: self.env.groups[groups[0]] for name, groups in policies}
        observation = {name: group.observation_space for name, group in first.items()}
        action = {name: group.action_space for name, group in first.items()}
        return {
            INPUT_ENV_SPACES: (observation, action),
            INPUT_ENV_SINGLE_SPACES: (observation, action),
            **{name: (observation[name], action[name]) for name in first},
        }

    def make_module(self) -> None:
        """Builds the policies' acting parts."""
        spaces = self.get_spaces()
        spec = self.config.get_multi_rl_module_spec(spaces=spaces, inference_only=True)
        self.module = spec.build()
        self.module.foreach_module(lambda _, module: module.to(self._device))

    def assert_healthy(self) -> None:
        """RLlib's check that construction went through."""
        assert self.module is not None
        assert self.env is not None or not self._samples()

    def stop(self) -> None:
        """Closes the market."""
        if self.env is not None:
            self.env.close()

    def apply(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """RLlib's way of calling a runner actor; a failure travels with its traceback.

        RLlib's own ends the actor instead, and what the market said stays in the worker's log. Ray
        takes a KeyboardInterrupt for a call that somebody cancelled, which nobody does here.
        """
        try:
            return func(self, *args, **kwargs)
        except KeyboardInterrupt as error:
            raise MarketError("KeyboardInterrupt, raised in a runner's process") from error

    # -- sampling ----------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, *, explore: bool | None = None, **_: Any) -> list[Rollout]:
        """Steps all worlds through one fragment.

        Raises:
            MarketError: where the market breaks its contract, takes too long, or where an
                observation or a reward is not finite; says which group, world, agent and step.
        """
        started = time.perf_counter()
        assert self.env is not None
        if self._observations is None:
            self._start()
        steps = self.config.get_rollout_fragment_length(self.worker_index or 0)
        recorder = Recorder(self.env, steps, self._recorded())
        finished: list[Tensor] = []
        states: list[State] = []
        market_seconds = 0.0
        every = self.sampling.states_every
        exploring = self.config.explore if explore is None else explore
        with limit_steps(self.env, self.sampling.step_seconds) as limited:
            for t in range(steps):
                if every and t % every == 0 and isinstance(self.env, Dynamics):
                    states.append(self.env.state)
                actions = self._act(recorder, t, exploring)
                before = time.perf_counter()
                try:
                    step = limited(self.env.step, actions)
                except ActionError:
                    recorder.check_finite(t)  # who observes no number can do no action
                    raise
                market_seconds += time.perf_counter() - before
                check_step(self.env, step)
                recorder.outcome(t, step)
                finished += self._count_returns(step)
                self._observations = step.observations
        assert self._observations is not None
        recorder.observe(steps, self._observations)
        recorder.check_finite()
        rollout = Rollout(recorder.fragments(), self.env.worlds, states=stacked(states))
        self._log(rollout, finished, market_seconds, time.perf_counter() - started)
        return [rollout]

    def _start(self) -> None:
        """Fresh episodes in every world."""
        assert self.env is not None
        if self.sampling.states_every:
            self.env.align(self.sampling.states_every)
        with limit_steps(self.env, self.sampling.step_seconds) as limited:
            self._observations = limited(self.env.reset, self._market_seed)
        check_observations(self.env, self._observations)
        self._returns = {
            group: torch.zeros(self.env.worlds, agents.count, device=self._device)
            for group, agents in self.env.groups.items()
        }

    def _recorded(self) -> dict[str, Recorded]:
        given = self.sampling
        return {
            name: Recorded(groups, separate=name in given.separate, central=name in given.central)
            for name, groups in given.policies.items()
        }

    def _act(self, recorder: Recorder, t: int, explore: bool) -> dict[str, Tensor]:
        """One forward pass per policy, over all of its groups, worlds and agents."""
        assert self.env is not None
        assert self._observations is not None
        recorder.observe(t, self._observations)
        actions = {group: policy(self._observations[group]) for group, policy in self.fixed.items()}
        for name, joined in self.joined.items():
            module: MarketModule[Any] = self.module[name]
            observations = joined.join(self._observations)
            columns = self._columns(module, observations, explore)
            recorder.action(t, name, columns)
            actions |= joined.split(columns[ACTIONS])
        return actions

    def _columns(
        self, module: MarketModule[Any], observations: Tensor, explore: bool
    ) -> dict[str, Tensor]:
        """A policy's actions, and what its learner wants beside them."""
        if explore:
            return module.explore(observations, self.generator)
        return {ACTIONS: module.exploit(observations)}

    def _count_returns(self, step: Step) -> list[Tensor]:
        """Undiscounted returns `[ended, agents]` of episodes that ended in this step."""
        for group, reward in step.rewards.items():
            self._returns[group] += reward
        if step.ended is None:
            return []
        done = [total[step.ended.worlds].mean(-1) for total in self._returns.values()]
        for total in self._returns.values():
            total[step.ended.worlds] = 0.0
        return [torch.stack(done).mean(0)]

    def _log(
        self, rollout: Rollout, finished: list[Tensor], market_seconds: float, seconds: float
    ) -> None:
        """A dozen metrics a fragment; RLlib logs four per agent and step."""
        env_steps = rollout.env_steps()
        log = self.metrics.log_value
        log(NUM_ENV_STEPS_SAMPLED, env_steps, reduce="sum")
        log(NUM_ENV_STEPS_SAMPLED_LIFETIME, env_steps, reduce="lifetime_sum")
        for policy, fragment in rollout.fragments.items():
            agent_steps = fragment.steps * fragment.trajectories
            log((NUM_AGENT_STEPS_SAMPLED, policy), agent_steps, reduce="sum")
            log((NUM_AGENT_STEPS_SAMPLED_LIFETIME, policy), agent_steps, reduce="lifetime_sum")
        log(MARKET_SECONDS, market_seconds, reduce="sum")
        log(SAMPLE_SECONDS, seconds, reduce="sum")
        log(WEIGHTS_SEQ_NO, self._weights_seq_no, window=1)
        if finished:
            log(EPISODE_RETURN, float(torch.cat(finished).mean()), window=10)
        self.num_env_steps_sampled_lifetime += env_steps

    def get_metrics(self) -> Any:
        """RLlib's name for the metrics since the last call."""
        return self.metrics.reduce()

    # -- state -------------------------------------------------------------------------------------

    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Weights, and everything needed to go on with the same bytes.

        These are the market, the generator of exploration, and returns that are still running.
        """
        state: dict[str, Any] = {}
        state[NUM_ENV_STEPS_SAMPLED_LIFETIME] = self.num_env_steps_sampled_lifetime
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            inner = self._get_subcomponents(COMPONENT_RL_MODULE, components)
            outer = self._get_subcomponents(COMPONENT_RL_MODULE, not_components)
            state[COMPONENT_RL_MODULE] = self.module.get_state(
                components=inner, not_components=outer, **kwargs
            )
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        if components is None and self.env is not None and self._observations is not None:
            state["market"] = self.env.state_dict()
            state["generator"] = self.generator.get_state().cpu().numpy().copy()
            returns = self._returns.items()
            state["returns"] = {group: total.cpu().numpy().copy() for group, total in returns}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """The reverse of `get_state`; older weights than one's own are ignored.

        RLlib's own runners do the same: updates may arrive out of order.
        """
        if COMPONENT_RL_MODULE in state:
            number = state.get(WEIGHTS_SEQ_NO, 0)
            if number == 0 or self._weights_seq_no < number:
                weights = state[COMPONENT_RL_MODULE]
                sent = isinstance(weights, ray.ObjectRef)
                self.module.set_state(ray.get(weights) if sent else weights)
            self._weights_seq_no = number or self._weights_seq_no
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]
        if "market" in state and self.env is not None:
            self._observations = self.env.load_state_dict(state["market"])
            self.generator.set_state(torch.as_tensor(state["generator"].copy()))
            self._returns = {
                group: torch.as_tensor(total.copy(), device=self._device)
                for group, total in state["returns"].items()
            }

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[()], dict[str, Any]]:
        """How RLlib builds an equal runner."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The module saves itself."""
        return [(COMPONENT_RL_MODULE, self.module)]


def _reconstructed() -> bool:
    """Whether Ray started this actor's process anew after it died."""
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)
