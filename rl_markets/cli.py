"""The command line.

`--help` and `check` import neither torch nor ray, to be quick: whatever imports them is imported
inside the command that needs it.
"""

from __future__ import annotations

import io
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from rl_markets import __version__
from rl_markets.errors import RLMarketsError, Stopped, printable
from rl_markets.experiment import Experiment, load
from rl_markets.sales.calibration.command import calibrate
from rl_markets.sales.offline.command import offline

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2

app = typer.Typer(
    name="rl-markets",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train markets full of learning agents; every trained market ends with a certificate.",
)

FileArgument = Annotated[
    Path, typer.Argument(help="an experiment file, such as tune_configs/households-rbc.yaml")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "-o", "--override", metavar="SECTION.FIELD=VALUE", help="set a field; may be repeated"
    ),
]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke",
        envvar="RL_MARKETS_SMOKE",
        help="shrink the experiment to seconds, to see that it runs",
    ),
]
Root = Annotated[Path, typer.Option("--runs", help="folder that takes the runs")]
RunArgument = Annotated[Path, typer.Argument(help="a run's folder, such as runs/latest")]


@app.command(
    help="Say whether an experiment file is right and what it would run, "
    "whether its certificate can be fooled, or whether a market keeps its contract."
)
def check(
    file: Annotated[Path | None, typer.Argument(help="an experiment file")] = None,
    market: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_PATH",
            help="examine a market instead: a name, or path/to/file.py:SPEC; -o sets its "
            "parameters",
        ),
    ] = None,
    certificate: Annotated[
        bool,
        typer.Option(
            "--certificate",
            help="try bad policies on the experiment's certificate: mutants of the known answer",
        ),
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(help="with --certificate: mutate what this run learned instead"),
    ] = None,
    build: Annotated[
        bool,
        typer.Option(
            "--build",
            help="also build an environment that the file names, which runs its code",
        ),
    ] = False,
    override: Overrides = None,
    smoke: Smoke = False,
) -> None:
    """Check an experiment file, or its certificate, or examine a market."""
    if (file is None) == (market is None):
        _fail("check: expected an experiment file, or --market NAME_OR_PATH", EXIT_BAD_INPUT)
    if certificate and file is not None:
        _mutate(load(file, override, smoke=smoke, say=_say), run)
    elif file is not None:
        from rl_markets.experiment.explain import explain

        experiment = load(file, override, smoke=smoke, build=build, say=_say)
        typer.echo(explain(experiment, built=build))
    elif market is not None:
        _examine(market, override or [])


def _mutate(experiment: Experiment, run: Path | None) -> None:
    _quiet()
    # Only now: it imports torch and ray.
    from rl_markets.certificate.check import check_certificate
    from rl_markets.progress import console

    if not check_certificate(experiment, run, console()):
        raise typer.Exit(EXIT_FAILED)


def _examine(market: str, overrides: list[str]) -> None:
    from rl_markets.experiment.yaml_file import overridden

    parameters = overridden({}, overrides)
    _quiet()
    # Only now: it imports torch.
    from rl_markets.conformance.examine import run
    from rl_markets.progress import console

    try:
        passed = run(market, parameters, console())
    except LookupError as error:
        _fail(str(error), EXIT_BAD_INPUT)
    if not passed:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def train(
    file: FileArgument, override: Overrides = None, smoke: Smoke = False, runs: Root = Path("runs")
) -> None:
    """Train an experiment to its certificate and report."""
    experiment = load(file, override, smoke=smoke, say=_say)
    _quiet()
    from rl_markets import workflow  # here and below: it imports torch and ray

    workflow.train(experiment, runs)


@app.command()
def resume(run: RunArgument = Path("runs/latest"), override: Overrides = None) -> None:
    """Go on with a run from its newest good checkpoint; longer or elsewhere by -o."""
    _quiet()
    from rl_markets import workflow

    workflow.resume(run, override)


@app.command()
def evaluate(run: RunArgument = Path("runs/latest")) -> None:
    """Examine a run's exported policies again, and write its certificate and report."""
    _quiet()
    from rl_markets import workflow

    workflow.evaluate(run)


@app.command()
def report(run: RunArgument = Path("runs/latest")) -> None:
    """Write a run's report page again from its certificate and metrics."""
    _quiet()
    from rl_markets import workflow

    workflow.report_only(run)


@app.command()
def markets() -> None:
    """List the markets and learners that can be named in an experiment file."""
    from rl_markets.envs.registry import LEARNERS, MARKETS, find, names

    for title, group in (("markets", MARKETS), ("learners", LEARNERS)):
        typer.echo(f"{title}:")
        for name in names(group):
            typer.echo(f"  {name:14s} {find(group, name).summary}")


app.command()(calibrate)
app.command()(offline)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"rl-markets {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Train markets full of learning agents; every trained market ends with a certificate."""


def _quiet() -> None:
    """Sets Ray's environment, before anything imports ray."""
    from rl_markets.quiet import quiet_ray

    quiet_ray()


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _fail(message: str, code: int) -> NoReturn:
    print(f"rl-markets: {printable(message)}", file=sys.stderr)
    sys.exit(code)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """What was begun is closed, Ray with it. Training has a handler of its own."""
    raise Stopped(number)


def main() -> Any:
    """Runs the command line; every failure is one line on stderr and an exit code.

    0 done, 1 the run failed, 2 bad input, 128 + signal when a signal ended it (while it trains,
    after a checkpoint).
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # where it is ASCII, others' names need not be
            stream.reconfigure(errors="backslashreplace")
    try:
        return app(standalone_mode=True)
    except RLMarketsError as error:
        details = traceback.format_exc() if error.unexplained else error.details
        if details:
            print(details.rstrip(), file=sys.stderr)
        _fail(str(error), error.exit_code)
    except Stopped as stopped:
        _fail(str(stopped), stopped.exit_code)
    except (BrokenPipeError, KeyboardInterrupt):
        _fail("interrupted", 130)
    except (FileNotFoundError, PermissionError) as error:
        _fail(str(error), EXIT_FAILED)
    except OSError as error:
        _fail(f"the disk or the system refused: {error}", EXIT_FAILED)
