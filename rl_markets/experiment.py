"""The experiment file: typed, bounded, strict. The only place where a setting is defined.

Each field is one typed line with its unit, bounds and a sentence; that line is the validator, what an error
says is expected, and the reference in `docs/experiments.md`. Nothing here imports torch or ray.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rl_markets import experiment_rules
from rl_markets.envs.registry import LEARNERS, MARKETS, MarketSpec, find
from rl_markets.experiment_columns import with_columns
from rl_markets.experiment_errors import ExperimentError, FieldError, first_line, plain, validate
from rl_markets.experiment_file import parse_override, read_yaml, set_path
from rl_markets.policies.registry import LearnerParameters, LearnerSpec

PolicyName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=80)]
"""Names files, metrics and RLlib's modules, so that it holds no dots, commas or slashes."""


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are not converted, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class MarketSection(Section):
    """Which market, and how many worlds of it."""

    name: str = Field(description="a market's name; `rl-markets markets` lists them")
    worlds: int = Field(64, ge=1, le=1_000_000, description="worlds stepped in parallel by each runner")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="the market's own parameters; lists may come from files"
    )


class PolicySection(Section):
    """One policy: who follows it, and its networks."""

    groups: list[str] = Field(min_length=1, description="the agent groups that share this policy")
    hidden: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        [64, 64], max_length=8, description="widths of the hidden layers"
    )
    activation: Literal["tanh", "relu", "silu"] = Field("tanh", description="activation of the hidden layers")
    separate: bool = Field(False, description="a policy for each agent, as stacked weights; false shares one")
    central_critic: bool = Field(False, description="critics see the market's global state, too; actors never do")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="replaces some of algorithm.parameters for this policy"
    )
    scripted: str | None = Field(
        None, min_length=1, description="a rule of the market, or package.module:function, in place of learning"
    )
    frozen: str | None = Field(
        None, min_length=1, description="a run or an exported policy that acts for these groups, in place of learning"
    )

    @property
    def learns(self) -> bool:
        """Whether this policy is trained."""
        return self.scripted is None and self.frozen is None


class AlgorithmSection(Section):
    """Which learner, and its hyper-parameters."""

    name: str = Field(description="a learner's name; `rl-markets markets` lists them")
    parameters: dict[str, Any] = Field(default_factory=dict, description="the learner's own parameters")


class TrainingSection(Section):
    """How long, where, and how often to look."""

    agent_steps: int = Field(ge=1, le=10**13, description="length of training, summed over agents and worlds")
    rollout_length: int = Field(32, ge=1, le=100_000, description="steps each world takes in each iteration")
    runners: int = Field(0, ge=0, le=10_000, description="runner actors, a CPU each; 0: the driver samples")
    learners: int = Field(0, ge=0, le=1_000, description="learner actors; 0: the driver learns")
    gpus_per_learner: float = Field(0, ge=0, le=1, description="GPUs of each learner; 0 learns on the CPU")
    step_seconds: float = Field(5, gt=0, le=86_400, description="what a market's step may take; then the run fails")
    evaluate_every: int = Field(10, ge=1, description="iterations between looks at the known answer")
    checkpoint_every: int = Field(50, ge=1, description="iterations between checkpoints")
    keep_checkpoints: int = Field(3, ge=2, le=1000, description="checkpoints kept; one to fall back on")


class CertificateSection(Section):
    """How thoroughly the trained policies are examined."""

    seeds: int = Field(10, ge=2, le=1000, description="evaluation seeds; intervals are over these")
    deviation_agent_steps: int = Field(
        500_000, ge=0, le=10**13, description="training of the deviating agent, in its own steps; 0 skips it"
    )


class Experiment(Section):
    """One experiment: a market, policies, a learner, and how long."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80, description="the folder under runs/")
    summary: str = Field("", max_length=300, description="one sentence for the report")
    seed: int = Field(0, ge=0, lt=2**31, description="source of all randomness; same seed, same bytes")
    market: MarketSection
    policies: dict[PolicyName, PolicySection] = Field(min_length=1, description="policy name -> its section")
    algorithm: AlgorithmSection
    training: TrainingSection
    certificate: CertificateSection = CertificateSection.model_validate({})

    # -- what the names stand for ----------------------------------------------------------------------------

    @property
    def market_spec(self) -> MarketSpec:
        """The market's spec."""
        spec: MarketSpec = find(MARKETS, self.market.name)
        return spec

    @property
    def learner_spec(self) -> LearnerSpec:
        """The learner's spec."""
        spec: LearnerSpec = find(LEARNERS, self.algorithm.name)
        return spec

    @property
    def market_parameters(self) -> BaseModel:
        """The market's parameters, validated by its own model."""
        return validate(self.market_spec.parameters, self.market.parameters)

    @property
    def learned(self) -> dict[str, PolicySection]:
        """The policies that are trained."""
        return {name: section for name, section in self.policies.items() if section.learns}

    def parameters(self, policy: str) -> LearnerParameters:
        """The learner's parameters for a policy, complete; gamma is the market's own unless given."""
        given = {**self.algorithm.parameters, **self.policies[policy].parameters}
        found = validate(self.learner_spec.parameters, given)
        return found.model_copy(update={"gamma": self.discount}) if found.gamma is None else found

    def gamma(self, group: str) -> float:
        """The discount factor of a learning group."""
        policy = next(name for name, section in self.learned.items() if group in section.groups)
        gamma = self.parameters(policy).gamma
        assert gamma is not None  # experiment_rules.check_discount
        return gamma

    @property
    def discount(self) -> float | None:
        """The discount factor of the market's agents, where it has one."""
        name = self.market_spec.discount
        return None if name is None else float(getattr(self.market_parameters, name))

    # -- sizes -----------------------------------------------------------------------------------------------

    @property
    def groups(self) -> dict[str, int]:
        """Group -> agents in each world."""
        return self.market_spec.groups(self.market_parameters)

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
        return self.env_steps_per_iteration * min(self.trajectories(policy) for policy in self.learned)

    def trajectories(self, policy: str) -> int:
        """What a policy samples side by side in each world: its agents, or one row of all where each has its own."""
        section = self.policies[policy]
        return 1 if section.separate else sum(self.groups[g] for g in section.groups)

    @property
    def iterations(self) -> int:
        """Iterations until `training.agent_steps` are reached."""
        return -(-self.training.agent_steps // self.agent_steps_per_iteration)

    @property
    def digest(self) -> str:
        """sha256 of the experiment's content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    # -- rules across fields ---------------------------------------------------------------------------------

    @model_validator(mode="after")
    def _rules(self) -> Experiment:
        experiment_rules.check_names(self)
        experiment_rules.check_groups(self)
        experiment_rules.check_policies(self)
        experiment_rules.check_discount(self)
        experiment_rules.check_sizes(self)
        return self


def load(
    path: str | Path, overrides: list[str] | None = None, *, smoke: bool = False, machine: bool = True
) -> Experiment:
    """Reads an experiment file, and the columns of CSV files that it names.

    Args:
        path: the YAML file.
        overrides: `a.b=c`, applied in order.
        smoke: shrink it to seconds.
        machine: refuse what this machine is too small for, unless `RAY_ADDRESS` names a cluster.

    Raises:
        ExperimentError: one line: file, field, what was found, what is expected.
    """
    data = read_yaml(Path(path))
    for override in overrides or []:
        keys, value = parse_override(override)
        data = set_path(data, keys, value, override)
    experiment = parse(with_columns(data, path), str(path))
    if smoke:
        experiment = parse(shrunk(experiment), str(path))
    if machine and not os.environ.get("RAY_ADDRESS"):
        try:
            experiment_rules.check_machine(experiment)
        except FieldError as error:
            raise ExperimentError(f"{path}: {error}") from None
    return experiment


def parse(data: dict[str, Any], source: str) -> Experiment:
    """An experiment from plain data; `source` names it in errors.

    Raises:
        ExperimentError: one line: source, field, what was found, what is expected.
    """
    try:
        return validate(Experiment, plain(data))
    except FieldError as error:
        raise ExperimentError(f"{source}: {error}") from None
    except ValidationError as error:
        raise ExperimentError(f"{source}: {first_line(Experiment, error)}") from None


def shrunk(experiment: Experiment) -> dict[str, Any]:
    """An experiment cut down to seconds: few worlds, three iterations, a short examination."""
    data = experiment.model_dump(mode="json")
    _cap(data["market"], worlds=8)
    _cap(data["training"], rollout_length=8, runners=0, learners=0, gpus_per_learner=0)
    _cap(data["training"], evaluate_every=1, checkpoint_every=2)
    _cap(data["certificate"], seeds=2, deviation_agent_steps=512)
    env_steps = data["market"]["worlds"] * data["training"]["rollout_length"]
    _cap(data["training"], agent_steps=3 * env_steps * experiment.agents)
    rows = env_steps * experiment.smallest_batch // experiment.env_steps_per_iteration
    given = validate(experiment.learner_spec.parameters, experiment.algorithm.parameters)
    data["algorithm"]["parameters"] |= given.small(rows)
    return data


def _cap(section: dict[str, Any], **most: int) -> None:
    section.update({key: min(section[key], limit) for key, limit in most.items()})
