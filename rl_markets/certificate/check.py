"""`rl-markets check --certificate`: whether an experiment's certificate can be fooled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from rl_markets.certificate import tables
from rl_markets.certificate.certify import EVALUATION_SEED
from rl_markets.certificate.mutants import Mutant, Mutations
from rl_markets.certificate.tables import shown
from rl_markets.envs.answer_key import AnswerKey
from rl_markets.envs.market import PolicyFunction
from rl_markets.errors import ExperimentError
from rl_markets.experiment import Experiment
from rl_markets.exported import load
from rl_markets.fixed_policies import fixed_policies, profile
from rl_markets.judged import as_judged, known_answer
from rl_markets.rllib.build import one_world

BLIND = ("BLIND SPOT", "bold red")


def check_certificate(experiment: Experiment, run: Path | None, out: Console) -> bool:
    """Tries mutants of the answer, or of what a run learned, on an experiment's certificate.

    Args:
        experiment: whose certificate.
        run: of which the learned policies are mutated; None takes the answer's own.
        out: takes a line for each mutant as it is tried.

    Returns:
        Whether no mutant that loses more than the limit is certified.

    Raises:
        ExperimentError: where no answer is known, or it has no policies to mutate.
    """
    torch.set_num_threads(1)
    judged = as_judged(experiment)
    key, base = _base(judged, run)
    mutations = Mutations(judged, key, base)
    certificate = mutations.certificate(base, EVALUATION_SEED)
    if not certificate.passed:  # then nothing can be said of faulty ones
        verdict = tables.verdict(certificate)
        out.print(f"{experiment.name}: already without a fault: {verdict}")
        return False
    tried = []
    for mutant in mutations.tried():
        tried.append(mutant)
        out.print(_line(mutant))
    harmful = [mutant for mutant in tried if mutant.verdict]
    blind = [mutant for mutant in tried if mutant.blind]
    out.print(
        f"{experiment.name}: {len(tried)} mutants, {len(harmful)} of them lose more than the "
        f"limit; blind spots: {len(blind)}",
        highlight=False,
    )
    return not blind


def _base(
    experiment: Experiment, run: Path | None
) -> tuple[AnswerKey, Mapping[str, PolicyFunction]]:
    """The judge, and the policies without fault."""
    market = one_world(experiment)
    fixed = fixed_policies(experiment, market)
    key = known_answer(experiment, fixed)
    if key is None:
        raise ExperimentError(
            f"{experiment.name}: no answer is known for these parameters, so that its certificate "
            "never says certified; there is nothing to check"
        )
    if run is not None:
        return key, profile(experiment, load(run), market)
    answer = key.policies(market)
    if answer is None:
        raise ExperimentError(
            f"{experiment.name}: the {key.name} has no policies that could be mutated; "
            "name a run of it whose learned ones are: --run runs/latest"
        )
    return key, {**fixed, **answer}


def _line(mutant: Mutant) -> Text:
    """A mutant in a line: what it is, what it loses, and what the certificate says of it."""
    loss = f"loses {shown(mutant.loss)} of {shown(mutant.limit)} {mutant.unit}"
    said = (mutant.verdict, "") if mutant.verdict else ("within the limit", "dim")
    return Text.assemble(f"{mutant.name}: {loss}: ", BLIND if mutant.blind else said)
