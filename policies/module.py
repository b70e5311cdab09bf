"""The RLlib module that acts in markets: what a runner asks of any learner's networks."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from safetensors.torch import load_file
from torch import Tensor

from rl_markets.policies.actors import Actor, NetworkActor, build_actor
from rl_markets.policies.heads import LOGIT_NORMAL, ActionHead
from rl_markets.policies.networks import Critic, follow
from rl_markets.policies.spec import LearnerParameters

P = TypeVar("P", bound=LearnerParameters)

RENAMED = {"averaged": "ema", "knob": "exploration_parameter"}
"""Attributes of modules that checkpoints of version 0.1.0 hold under older names."""

ACTIONS = "actions"
"""Column of the actions given to the market, in its action space."""


class MarketModule(TorchRLModule, InferenceOnlyAPI, Generic[P]):  # type: ignore[misc]
    """Base of every learner's module.

    `model_config` holds `actor` (the spec of `actors.Actor`), `central` (width of the global state
    that critics see, 0 for none), `seed` (of the initial weights), `parameters` (the policy's, as
    in the experiment file), and optionally `weights`: a safetensors file with the actor to start
    from.
    """

    actor: Actor

    def setup(self) -> None:
        """Builds the actor; subclasses add their critics after it, from the same generator."""
        self.generator = torch.Generator().manual_seed(self.model_config["seed"])
        spec = {**self.model_config["actor"], **self.actor_options()}
        if weights := self.model_config.get("weights"):
            self.actor = build_actor(spec)
            self.actor.load_state_dict(load_file(weights))
        else:
            self.actor = build_actor(spec, self.generator)

    @property
    def hyperparameters(self) -> P:
        """The policy's parameters, as in the experiment file."""
        parameters: P = self.model_config["parameters"]
        return parameters

    def actor_options(self) -> dict[str, Any]:
        """What the learner adds to the actor's spec."""
        return {}

    @abstractmethod
    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Acts with exploration.

        Args:
            observations: `[..., observation]`, or `[..., agents, observation]` where policies are
                separate.
            generator: source of all randomness.

        Returns:
            Columns `[...]` for the learner; `actions` among them, in the action space.
        """

    @property
    def deployed(self) -> Actor:
        """The network that is evaluated and exported."""
        return self.actor

    def exploit(self, observations: Tensor) -> Tensor:
        """The deterministic policy's actions, `[..., action]`."""
        return self.deployed.act(observations)

    def own(self, observations: Tensor) -> Tensor:
        """What the actor sees of `observations`: all but the global state, which comes last."""
        if not self.model_config["central"]:
            return observations
        return observations[..., : self.actor.spec["observation"]]

    def get_non_inference_attributes(self) -> list[str]:
        """What runners drop."""
        return []

    def set_state(self, state: dict[str, Any]) -> None:
        """Loads weights; checkpoints that were written under older names are understood."""
        super().set_state({_current_name(name): value for name, value in state.items()})

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {ACTIONS: self.exploit(self.own(batch["obs"]))}


def _current_name(name: str) -> str:
    """What a weight is called today: `averaged.net.0.bias` is `ema.net.0.bias`."""
    first, dot, rest = name.partition(".")
    return f"{RENAMED.get(first, first)}{dot}{rest}"


class NetworkModule(MarketModule[P]):
    """Base of modules whose actor is a network."""

    distribution: ClassVar[str] = LOGIT_NORMAL
    """The distribution of continuous actions, a name in `heads`."""

    actor: NetworkActor

    def actor_options(self) -> dict[str, Any]:
        """The distribution of the actor's head."""
        return {"distribution": self.distribution}

    @property
    def head(self) -> ActionHead:
        """The actor's distribution over actions; learners of action values have none."""
        return cast(ActionHead, self.actor.head)

    def critic_on(self, inputs: int, ensemble: int | None = None) -> Critic:
        """A critic with the actor's layers and copies.

        Args:
            inputs: width of what it sees beside observations and global state.
            ensemble: critics on the same input, None for a single one.
        """
        spec = self.actor.spec
        width = spec["observation"] + self.model_config["central"] + inputs
        return Critic(
            width,
            spec["hidden"],
            spec["activation"],
            self.generator,
            copies=spec.get("copies"),
            ensemble=ensemble,
        )


class EMAModule(NetworkModule[P]):
    """An actor, and the exponential moving average (EMA) of its weights over iterations.

    The average filters the noise that the last updates left in the actor; it is what is deployed.
    """

    def setup(self) -> None:
        """Builds the actor and its average."""
        super().setup()
        self.ema = copy.deepcopy(self.actor).requires_grad_(False)

    @property
    def deployed(self) -> NetworkActor:
        """The actor's moving average."""
        return self.ema

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """Moves the average towards the actor; the head's own state is copied."""
        follow(list(self.ema.net.parameters()), list(self.actor.net.parameters()), 1 - decay)
        self.ema.head.load_state_dict(self.actor.head.state_dict())
