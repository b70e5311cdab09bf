"""An experiment as it is judged: its market without what it does for training, and its answer."""

from __future__ import annotations

from collections.abc import Mapping

from rl_markets.envs.answer_key import AnswerKey
from rl_markets.envs.market import Policy
from rl_markets.experiment import Experiment


def as_judged(experiment: Experiment) -> Experiment:
    """The experiment without what its market does for training alone."""
    parameters = experiment.market.parameters | dict(experiment.market_spec.training_only)
    market = experiment.market.model_copy(update={"parameters": parameters})
    return experiment.model_copy(update={"market": market})


def known_answer(experiment: Experiment, policies: Mapping[str, Policy]) -> AnswerKey | None:
    """The known answer where all groups learn, or the best response to those that do not.

    None where none is known.
    """
    answer = experiment.answer_key()
    learning = set(experiment.learning_groups)
    fixed = {group: policy for group, policy in policies.items() if group not in learning}
    if answer is None or not fixed:
        return answer
    return answer.against(fixed)
