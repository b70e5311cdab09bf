"""What a command does from beginning to end: train, export, certify, report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import ray
from rich.console import Console
from rich.table import Table

from rl_markets import exported
from rl_markets.certificate import document, tables
from rl_markets.certificate.certify import certify, check_certificate
from rl_markets.certificate.document import Certificate
from rl_markets.conformance.child import in_copy
from rl_markets.conformance.examine import lawful, preflight
from rl_markets.errors import CorruptError, ExperimentError, RunFailedError, Stopped
from rl_markets.experiment import Experiment
from rl_markets.fixed_policies import frozen_actors
from rl_markets.lock import only_writer
from rl_markets.policies.actors import Actor
from rl_markets.progress import console
from rl_markets.rllib.build import build_market
from rl_markets.rllib.session import ray_session
from rl_markets.training.continued import changed
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from rl_markets.training.trainer import begun, explained


def train(experiment: Experiment, root: Path) -> RunFolder:
    """A new run under `root`, to its certificate and report.

    A market that breaks at once does so before there is a run, and before Ray starts.
    """
    with explained("the market is broken"):
        _examine(experiment)
    with ray_session(experiment):
        if experiment.training.runners:
            with explained("the market is broken in a worker process"):
                ray.get(ray.remote(max_retries=0)(_look).remote(experiment))
        run = RunFolder.create(experiment, root)
        with only_writer(run.path):
            out = console()
            out.print(f"{experiment.name}: {experiment.iterations} iterations into {run.path}")
            _finish(run, TrainingSession(run, out).train(), out)
    return run


def _look(experiment: Experiment) -> None:
    """Steps two worlds of an experiment's market a few times."""
    preflight(build_market(experiment, "cpu", 2), experiment.training.step_seconds)


def _examine(experiment: Experiment) -> None:
    """Holds an experiment's market to its contract; in a copy, since markets may crash or count."""

    def look() -> None:
        lawful(
            partial(build_market, experiment, "cpu"),
            spec=experiment.market_spec,
            parameters=experiment.market_parameters,
            seconds=experiment.training.step_seconds,
        )

    in_copy(look, f"market {experiment.market.name}")


def resume(path: Path, overrides: list[str] | None = None) -> RunFolder:
    """Goes on with a run from its newest good checkpoint, or from its start if there is none.

    Args:
        path: of the run.
        overrides: settings that change, `a.b=c`; see `training.continued`.
    """
    run = RunFolder.open(path, say=_say)
    with only_writer(run.path):
        return _resume(run, overrides or [])


def _resume(run: RunFolder, overrides: list[str]) -> RunFolder:
    """Goes on with a run that is ours to write."""
    out = console()
    checkpoint = run.checkpoints.newest(lambda line: out.print(line))
    if checkpoint is None:
        if run.checkpoints.iterations():
            raise RunFailedError(
                f"{run.path}: no checkpoint is whole; the files named above must be restored"
            )
        out.print("no checkpoint yet: starting over")
    if overrides:
        run = changed(run, overrides, 0 if checkpoint is None else int(checkpoint.name))
        out.print(f"{run.path}: goes on with {', '.join(overrides)}")
    if checkpoint is not None and _finished(run, checkpoint):
        out.print(
            f"{run.path}: finished already; `rl-markets evaluate` examines it again, "
            "`rl-markets resume -o training.agent_steps=...` trains it further"
        )
        return run
    if checkpoint is not None:
        out.print(f"resuming {run.path} after iteration {int(checkpoint.name)}")
    with ray_session(run.experiment):
        _finish(run, TrainingSession(run, out).train(checkpoint), out)
    return run


def _finished(run: RunFolder, checkpoint: Path) -> bool:
    """Whether training has come to its end, and to a report."""
    iteration, steps = begun(checkpoint, run.experiment)
    return run.experiment.iterations_after(iteration, steps) <= iteration and run.report.is_file()


def evaluate(path: Path) -> RunFolder:
    """Certificate and report of a trained run, made again."""
    run = RunFolder.open(path, say=_say)
    if not run.policy.is_dir():
        raise ExperimentError(
            f"{path}: holds no exported policy yet; `rl-markets resume` finishes its training"
        )
    with only_writer(run.path), ray_session(run.experiment):
        _certify(run, console())
    return run


def report_only(path: Path) -> RunFolder:
    """The report page of a certified run, made again; code that its experiment names never runs."""
    run = RunFolder.open(path, build=False)
    if not run.certificate.is_file():
        raise ExperimentError(f"{path}: holds no certificate yet; `rl-markets evaluate` makes one")
    with only_writer(run.path):
        certificate = document.read(run.certificate)
        check_certificate(run, certificate)
        _report(run, certificate)
    console().print(f"report: {run.report}")
    return run


def _say(line: str) -> None:
    console().print(line)


def _finish(run: RunFolder, actors: dict[str, Actor], out: Console) -> None:
    """Exports what was trained, unless an earlier attempt did, then certifies it."""
    if not run.policy.exists():
        export(run, actors)
    _certify(run, out)


def export(run: RunFolder, actors: dict[str, Actor]) -> None:
    """Writes what a run trained, and the frozen policies beside it, to its folder."""
    experiment = run.experiment
    policies = {
        name: {"groups": list(section.groups), "scripted": section.scripted}
        for name, section in experiment.policies.items()
    }
    spec = {
        "market": experiment.market.model_dump(mode="json"),
        "experiment": experiment.name,
        "digest": experiment.digest,
        "seed": experiment.seed,
        "policies": policies,
    }
    exported.export(run.policy, actors | frozen_actors(experiment), spec)


def _certify(run: RunFolder, out: Console) -> None:
    """Certificate and report; whatever breaks here, what was trained is safe, and that is said."""
    safe = f"the policy is safe in {run.policy}, `rl-markets evaluate {run.path}` examines it again"
    try:
        with explained(f"the certificate failed ({safe})", (ExperimentError, CorruptError)):
            certificate = certify(run, out)
            _report(run, certificate)
    except (KeyboardInterrupt, Stopped):
        out.print(safe)
        raise
    if certificate.judged:
        out.print(_judged(certificate))
    out.print(tables.verdict(certificate))
    out.print(f"run:    {run.path}\nreport: {run.report}")


def _judged(certificate: Certificate) -> Table:
    title = f"certificate against the {certificate.answer}"
    table = Table("figure", "learned", "limit", "met", title=title, title_justify="left")
    for row in tables.summary(certificate):
        table.add_row(*row)
    return table


def _report(run: RunFolder, certificate: Certificate) -> None:
    # Imported when it is needed: matplotlib takes half a second, which no start should wait for.
    from rl_markets.certificate import report

    report.write(run, certificate)
