"""The RLlib algorithm of every learner: sample, update, send weights back. It survives the loss of
runners."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)

from rl_markets.errors import LearnersLostError, RunnersLostError
from rl_markets.rllib.temporary import new_folder

RESTART_SECONDS = 120.0
"""How long an iteration waits for runners that restart when none is left."""
DEATHS = 3
"""How often each runner may die in one iteration, on average."""


class MarketConfig(AlgorithmConfig):  # type: ignore[misc]
    """RLlib's configuration; learner and modules are always given."""

    def get_default_rl_module_spec(self) -> Any:
        """RLlib asks for one even where each policy has its own."""
        return RLModuleSpec()


class MarketAlgorithm(Algorithm):  # type: ignore[misc]
    """Trains any `RolloutLearner` on any market.

    A runner that dies costs the fragment that it was sampling: the others sample in its place, and
    it comes back when its process runs again. What a market or a learner raises is passed on.
    """

    runners_lost: int = 0
    """How often a runner's process died."""

    _storage: Any
    _logdir: str

    @classmethod
    def get_default_config(cls) -> MarketConfig:
        """A configuration that builds this class."""
        return MarketConfig(algo_class=cls)

    def setup(self, config: Any) -> None:
        """RLlib's construction."""
        self._awaited: set[int] = set()
        super().setup(config)

    def training_step(self) -> None:
        """One iteration: sample, update, send weights back."""
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            rollouts, metrics = self._sample()
            self.metrics.aggregate(metrics, key=ENV_RUNNER_RESULTS)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            self.metrics.aggregate(self._update(rollouts), key=LEARNER_RESULTS)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            # Of every learned policy, whether its learner reported anything or not.
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group,
                policies=set(self.config.policies),
                inference_only=True,
            )
        self._count_lost()

    def _update(self, rollouts: list[Any]) -> Any:
        """What the learners report of one update."""
        steps = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME))
        timesteps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: steps}
        try:
            return self.learner_group.update(episodes=rollouts, timesteps=timesteps)
        except Exception as error:
            if isinstance(error, RayActorError) or self._learner_died():
                raise LearnersLostError("a learner's process died") from error
            raise

    # -- runners that may die ----------------------------------------------------------------------

    def _sample(self) -> tuple[list[Any], list[Any]]:
        """Rollouts of exactly one iteration's steps, and the runners' metrics."""
        group = self.env_runner_group
        if group.num_remote_env_runners() == 0:
            return group.local_env_runner.sample(), [group.local_env_runner.get_metrics()]
        rollouts: list[Any] = []
        metrics: list[Any] = []
        steps = 0
        waiting_since = time.monotonic()
        lost = self.runners_lost
        # Runners that die bring nothing: the others are asked again until all steps are there.
        while (missing := self.config.total_train_batch_size - steps) > 0:
            each = self.config.num_envs_per_env_runner * self.config.get_rollout_fragment_length(1)
            healthy = group._worker_manager.healthy_actor_ids()[: -(-missing // each)]
            for fragment, metric in self._asked(healthy):
                rollouts += fragment
                metrics.append(metric)
                steps += sum(rollout.env_steps() for rollout in fragment)
            self._bear(self.runners_lost - lost)
            if not healthy and not self.restore_env_runners(group):
                if time.monotonic() - waiting_since > RESTART_SECONDS:
                    waited = f"{RESTART_SECONDS:.0f} s"
                    raise RunnersLostError(f"no runner is left, and none came back in {waited}")
                time.sleep(0.2)
        return rollouts, metrics

    def _asked(self, runners: list[int]) -> Iterator[tuple[list[Any], Any]]:
        """Rollouts and metrics of each of these runners that is still alive.

        Raises:
            Exception: what a market raised in a runner.
        """
        manager = self.env_runner_group._worker_manager
        for answer in manager.foreach_actor(_sample_once, remote_actor_ids=runners):
            result = answer.get()
            if result is None:  # it died between two samples, and Ray started it anew
                manager.set_actor_state(answer.actor_id, healthy=False)
                self._lose(answer.actor_id)
            elif answer.ok:
                yield result
            elif isinstance(result, RayActorError):
                self._lose(answer.actor_id)
            else:
                raise result

    def _lose(self, runner: int) -> None:
        self.runners_lost += 1
        self._awaited.add(runner)

    def _count_lost(self) -> None:
        """Counts the runners that RLlib found dead by itself, such as where it sent weights."""
        manager = self.env_runner_group._worker_manager
        for runner in set(manager.actor_ids()) - set(manager.healthy_actor_ids()) - self._awaited:
            self._lose(runner)

    def _bear(self, deaths: int) -> None:
        """Runners that die as often as they start are no accident: waiting for them has no end."""
        if deaths > DEATHS * self.env_runner_group.num_remote_env_runners():
            raise RunnersLostError(
                f"runners' processes died {deaths} times in one iteration: what the market does "
                "ends them, or memory does; training.runners = 0 steps it in this process"
            )

    def _learner_died(self) -> bool:
        """Whether a learner's process is gone.

        The others fail first, when their connection to it breaks.
        """
        if self.learner_group.is_local:
            return False
        try:
            learners = self.learner_group._worker_manager.actors().values()
            ray.get([learner.__ray_ready__.remote() for learner in learners], timeout=10)
        except (RayActorError, GetTimeoutError):
            return True
        return False

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Gives runners that came back the current weights.

        They also get shocks of their own: not those of their first start.
        """
        self._count_lost()
        restored: list[int] = env_runner_group.probe_unhealthy_env_runners()
        self._awaited -= set(restored)
        if not restored:
            return restored
        weights = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )[COMPONENT_LEARNER]
        sampled = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        revive = partial(_revive, weights, int(self.metrics.peek(sampled, default=0)))
        manager = env_runner_group._worker_manager
        for answer in manager.foreach_actor(revive, remote_actor_ids=restored):
            if not answer.ok and not isinstance(answer.get(), RayActorError):
                raise answer.get()
        return restored

    def _setup_logdir(self) -> None:
        """Outside Tune a temporary folder, in place of one under `~/ray_results`."""
        if self._storage:
            super()._setup_logdir()
        else:
            self._logdir = str(new_folder())

    def cleanup(self) -> None:
        """Stops RLlib's actors, then removes the temporary folder."""
        super().cleanup()
        if not self._storage:
            shutil.rmtree(self._logdir, ignore_errors=True)


def _sample_once(runner: Any) -> tuple[list[Any], Any] | None:
    """Nothing from a runner that started anew: it has its first weights and its first shocks."""
    return None if runner.restarted else (runner.sample(), runner.get_metrics())


def _revive(weights: dict[str, Any], salt: int, runner: Any) -> None:
    """Puts a runner that started anew where the others are."""
    runner.set_state(weights)
    runner.reseed(salt)
    runner.restarted = False
