"""What an experiment would run, in a dozen lines."""

from __future__ import annotations

from rl_markets.experiment.experiment import Experiment
from rl_markets.experiment.rules import agents_are_told
from rl_markets.experiment.sections import PolicySection, TrainingSection
from rl_markets.progress import short


def explain(experiment: Experiment, *, built: bool = False) -> str:
    """Market, policies, sizes, where it runs and what it ends with.

    `built` says whether code that the file names has run to tell the agents.
    """
    training = experiment.training
    known = agents_are_told(experiment) or built
    groups = "agents that only the environment tells,"
    if known:
        groups = ", ".join(f"{count} x {name}" for name, count in experiment.groups.items())
    policies = "; ".join(
        f"{name} <- {', '.join(section.groups)} ({_kind(section)})"
        for name, section in experiment.policies.items()
    )
    # Each discount factor once, in the order of the policies.
    gammas = dict.fromkeys(f"{experiment.parameters(p).gamma:g}" for p in experiment.learned)
    deviation_steps = experiment.certificate.deviation_agent_steps
    deviator = f", a deviator trained for {short(deviation_steps)} steps" if deviation_steps else ""
    lines = [
        f"{experiment.name}: ok",
        f"  market       {experiment.market_spec.name}: "
        f"{groups} in each of {experiment.market.worlds} worlds",
        f"  policies     {policies}",
        f"  algorithm    {experiment.algorithm.name}, discount {' and '.join(gammas)}",
        f"  training     {_length(experiment, known)}",
        f"  where        {_processes(training)}",
        f"  checkpoints  every {training.checkpoint_every} iterations, "
        f"the last {training.keep_checkpoints} kept",
        f"  certificate  {experiment.certificate.seeds} seeds{deviator}",
        f"  seed         {experiment.seed}",
    ]
    code = [f"  code         {path} ({field})" for field, path in experiment.code.items()]
    if code and not built:
        code.append("               found, not run: train runs it; check --build builds the market")
    return "\n".join([*lines, *code])


def _length(experiment: Experiment, known: bool) -> str:
    """How long training is."""
    if not known:
        return f"at least {short(experiment.training.agent_steps)} agent steps"
    steps = experiment.agent_steps_per_iteration
    total = short(experiment.iterations * steps)
    return f"{experiment.iterations} iterations of {short(steps)} agent steps = {total}"


def _processes(training: TrainingSection) -> str:
    """Which processes sample, and which learn."""
    sampling = "sampling in the main process"
    if training.runners:
        sampling = f"{training.runners} runner actors"
    learning = "learning in the main process"
    if training.learners:
        learning = f"{training.learners} learner actors"
    return f"{sampling}, {learning}"


def _kind(section: PolicySection) -> str:
    """What a policy is, in a few words."""
    if section.scripted is not None:
        return f"scripted: {section.scripted}"
    if section.frozen is not None:
        return f"frozen: {section.frozen}"
    kind = f"{' x '.join(map(str, section.hidden))} {section.activation}"
    if section.separate:
        kind += ", one for each agent"
    if section.central_critic:
        kind += ", central critic"
    return kind
