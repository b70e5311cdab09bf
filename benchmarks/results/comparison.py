"""One run of the comparison by number of households: trained, then compared with the known answer.

`python -m benchmarks.results.comparison OUT.json EXPERIMENT.yaml [SECTION.FIELD=VALUE ...]`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from rl_markets.envs.households.answer.identical import HouseholdsAnswer
from rl_markets.experiment import Experiment, load
from rl_markets.quiet import quiet_ray
from rl_markets.store import write_text

RETURN_SEEDS = 4


def compare(experiment: Experiment) -> dict[str, Any]:
    """Policy error in %, discounted return and the best one, seconds of training."""
    quiet_ray()  # before Ray is imported for the first time, which these imports do
    from rl_markets.certificate.certify import EVALUATION_SEED
    from rl_markets.rllib.session import ray_session
    from rl_markets.training.trainer import Trainer

    with ray_session(experiment), Trainer(experiment) as trainer:
        for _ in trainer.rows():
            pass
        policies = trainer.policies()
    answer = trainer.answer
    assert isinstance(answer, HouseholdsAnswer)
    learned = answer.state_policy(answer.joined.policy(policies))
    share_error, labour_error = (float(error.mean()) for error in answer.errors(learned))
    # the same shocks for both, so that the returns differ by the policies alone
    seeds = [EVALUATION_SEED + i for i in range(RETURN_SEEDS)]
    returns = answer.returns(learned, seeds)
    best_returns = answer.returns(answer.exact, seeds)
    return {
        "share_error": share_error,
        "labour_error": labour_error,
        "return": float(np.mean(returns)),
        "best_return": float(np.mean(best_returns)),
        "training_seconds": trainer.seconds,
        "agent_steps": experiment.iterations * experiment.agent_steps_per_iteration,
    }


def main(out: str, file: str, overrides: list[str]) -> None:
    """Writes the values of one run."""
    write_text(Path(out), json.dumps(compare(load(file, overrides)), indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
