"""What an experiment would run, in a dozen lines."""

from __future__ import annotations

from rl_markets.experiment.experiment import Experiment
from rl_markets.experiment.sections import PolicySection
from rl_markets.progress import short


def explain(experiment: Experiment) -> str:
    """Market, policies, sizes, where it runs and what it ends with."""
    training = experiment.training
    spec = experiment.market_spec
    groups = ", ".join(f"{count} x {name}" for name, count in experiment.groups.items())
    policies = "; ".join(
        f"{p} <- {', '.join(s.groups)} ({_kind(s)})" for p, s in experiment.policies.items()
    )
    rows = experiment.agent_steps_per_iteration
    where = (
        f"{training.runners} runner actors" if training.runners else "sampling in the main process"
    )
    where += (
        f", {training.learners} learner actors"
        if training.learners
        else ", learning in the main process"
    )
    gain = experiment.certificate.deviation_agent_steps
    gammas = dict.fromkeys(f"{experiment.parameters(p).gamma:g}" for p in experiment.learned)
    discount = f", discount {' and '.join(gammas)}"
    deviator = f", a deviator trained for {short(gain)} steps" if gain else ""
    return "\n".join(
        [
            f"{experiment.name}: ok",
            f"  market       {spec.name}: {groups} in each of {experiment.market.worlds} worlds",
            f"  policies     {policies}",
            f"  algorithm    {experiment.algorithm.name}{discount}",
            f"  training     {experiment.iterations} iterations of {short(rows)} agent steps = "
            f"{short(experiment.iterations * rows)}",
            f"  where        {where}",
            f"  checkpoints  every {training.checkpoint_every} iterations, the last "
            f"{training.keep_checkpoints} kept",
            f"  certificate  {experiment.certificate.seeds} seeds{deviator}",
            f"  seed         {experiment.seed}",
        ]
    )


def _kind(section: PolicySection) -> str:
    """What a policy is, in a few words."""
    if section.scripted is not None:
        return f"scripted: {section.scripted}"
    if section.frozen is not None:
        return f"frozen: {section.frozen}"
    kind = f"{' x '.join(map(str, section.hidden))} {section.activation}"
    kind += ", one for each agent" if section.separate else ""
    return kind + (", central critic" if section.central_critic else "")
