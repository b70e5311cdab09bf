"""What an experiment would run, in a dozen lines."""

from __future__ import annotations

from rl_markets.experiment.experiment import Experiment
from rl_markets.experiment.sections import PolicySection, TrainingSection
from rl_markets.progress import short


def explain(experiment: Experiment) -> str:
    """Market, policies, sizes, where it runs and what it ends with."""
    training = experiment.training
    groups = ", ".join(f"{count} x {name}" for name, count in experiment.groups.items())
    policies = "; ".join(
        f"{name} <- {', '.join(section.groups)} ({_kind(section)})"
        for name, section in experiment.policies.items()
    )
    # Each discount factor once, in the order of the policies.
    gammas = dict.fromkeys(f"{experiment.parameters(p).gamma:g}" for p in experiment.learned)
    steps = experiment.agent_steps_per_iteration
    deviation_steps = experiment.certificate.deviation_agent_steps
    deviator = f", a deviator trained for {short(deviation_steps)} steps" if deviation_steps else ""
    lines = [
        f"{experiment.name}: ok",
        f"  market       {experiment.market_spec.name}: "
        f"{groups} in each of {experiment.market.worlds} worlds",
        f"  policies     {policies}",
        f"  algorithm    {experiment.algorithm.name}, discount {' and '.join(gammas)}",
        f"  training     {experiment.iterations} iterations of {short(steps)} agent steps = "
        f"{short(experiment.iterations * steps)}",
        f"  where        {_processes(training)}",
        f"  checkpoints  every {training.checkpoint_every} iterations, "
        f"the last {training.keep_checkpoints} kept",
        f"  certificate  {experiment.certificate.seeds} seeds{deviator}",
        f"  seed         {experiment.seed}",
    ]
    return "\n".join(lines)


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
