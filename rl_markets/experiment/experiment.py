"""One experiment: its sections, what their names stand for, and the sizes that follow."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from rl_markets.envs.spec import AgentSpaces, MarketSpec
from rl_markets.experiment.resolved import Resolved, resolve
from rl_markets.experiment.sections import (
    AlgorithmSection,
    CertificateSection,
    MarketSection,
    PolicyName,
    PolicySection,
    Section,
    TrainingSection,
)
from rl_markets.policies.spec import LearnerParameters, LearnerSpec

if TYPE_CHECKING:
    from rl_markets.envs.answer_key import AnswerKey


class Experiment(Section):
    """One experiment: a market, policies, a learner, and how long."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80, description="the folder under runs/"
    )
    summary: str = Field("", max_length=300, description="one sentence for the report")
    seed: int = Field(
        0, ge=0, lt=2**31, description="source of all randomness; same seed, same bytes"
    )
    market: MarketSection
    policies: dict[PolicyName, PolicySection] = Field(
        min_length=1, description="policy name -> its section"
    )
    algorithm: AlgorithmSection
    training: TrainingSection
    certificate: CertificateSection = CertificateSection.model_validate({})

    # -- what the names stand for ------------------------------------------------------------------

    @cached_property
    def resolved(self) -> Resolved:
        """What the names of market and learner stand for, found and validated once."""
        return resolve(self.market, self.policies, self.algorithm)

    @property
    def market_spec(self) -> MarketSpec:
        """The market's spec."""
        return self.resolved.market

    @property
    def learner_spec(self) -> LearnerSpec:
        """The learner's spec."""
        return self.resolved.learner

    @property
    def market_parameters(self) -> BaseModel:
        """The market's parameters, validated by its own model."""
        return self.resolved.market_parameters

    @property
    def code(self) -> dict[str, str]:
        """Field -> the import path that it holds: code that runs where the experiment does."""
        market = self.market_spec.code(self.market_parameters)
        paths = {f"market.parameters.{name}": path for name, path in market.items()}
        for name, section in self.policies.items():
            rule = section.scripted
            if rule is not None and ":" in rule and rule not in self.market_spec.scripts:
                paths[f"policies.{name}.scripted"] = rule
        return paths

    def answer_key(self) -> AnswerKey | None:
        """The known answer of the market, or None where none is known.

        The first call imports the market's judge, and torch with it.
        """
        return self.market_spec.answer_key(self.market_parameters)

    @property
    def learned(self) -> dict[str, PolicySection]:
        """The policies that are trained."""
        return {name: section for name, section in self.policies.items() if section.learns}

    @property
    def learning_groups(self) -> list[str]:
        """The groups whose policies are trained, policy by policy."""
        return [group for section in self.learned.values() for group in section.groups]

    def parameters(self, policy: str) -> LearnerParameters:
        """The learner's parameters for a policy, complete.

        gamma is the market's own unless the file gives one.
        """
        return self.resolved.parameters[policy]

    def gamma(self, group: str) -> float:
        """The discount factor of a learning group."""
        policy = next(name for name, section in self.learned.items() if group in section.groups)
        gamma = self.parameters(policy).gamma
        assert gamma is not None  # rules.check_discount
        return gamma

    @property
    def discount(self) -> float | None:
        """The discount factor of the market's agents, where it has one."""
        return self.resolved.discount

    # -- sizes -------------------------------------------------------------------------------------

    @property
    def groups(self) -> dict[str, int]:
        """Group -> agents in each world."""
        return self.resolved.groups

    @property
    def spaces(self) -> dict[str, AgentSpaces]:
        """Group -> what its agents observe and do; empty where only the built market tells."""
        return self.resolved.spaces

    @property
    def agents(self) -> int:
        """Agents in each world, over all groups."""
        return sum(self.groups.values())

    @property
    def env_steps_per_iteration(self) -> int:
        """World steps in each iteration, over all runners."""
        return self.market.worlds * self.training.rollout_length * max(1, self.training.runners)

    @property
    def agent_steps_per_iteration(self) -> int:
        """Steps in each iteration, summed over agents, worlds and runners."""
        return self.env_steps_per_iteration * self.agents

    @property
    def smallest_batch(self) -> int:
        """Rows in each iteration of the policy that gets the fewest."""
        fewest = min(self.trajectories(policy) for policy in self.learned)
        return self.env_steps_per_iteration * fewest

    def trajectories(self, policy: str) -> int:
        """How many trajectories a policy samples side by side in each world.

        One for each agent; where each agent has a policy of its own, one of all together.
        """
        section = self.policies[policy]
        return 1 if section.separate else sum(self.groups[g] for g in section.groups)

    @property
    def iterations(self) -> int:
        """Iterations until `training.agent_steps` are reached."""
        return -(-self.training.agent_steps // self.agent_steps_per_iteration)  # rounded up

    def iterations_after(self, iteration: int, env_steps: int) -> int:
        """The last iteration of a run that has got so far, perhaps with other runners."""
        left = self.training.agent_steps - env_steps * self.agents
        return iteration + max(0, -(-left // self.agent_steps_per_iteration))

    @property
    def digest(self) -> str:
        """sha256 of the experiment's content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def problem(self) -> str:
        """sha256 of what is learned: of the content but for how long, where, and what is looked at.

        A checkpoint of the same problem goes on, whatever else has changed.
        """
        left_out: Any = {
            "training": set(TrainingSection.OPEN),
            "certificate": True,
            "summary": True,
        }
        return hashlib.sha256(self.model_dump_json(exclude=left_out).encode()).hexdigest()
