"""What surrounds a market: its spec, its scripts, its global state, other processes, its speed.

A check returns its finding in words, raises `ContractError` (detail and fix) where something is
wrong, and `Informs` where it only tells.
"""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from rl_markets.conformance.probe import Actions, Subject, blame, difference, play, record
from rl_markets.envs.checks import check_global_state, choices, refuse
from rl_markets.envs.market import AgentGroup, Market, PolicyFunction, Step
from rl_markets.envs.spaces import AgentSpaces
from rl_markets.errors import Informs, MarketError

START_SECONDS = 60.0
"""What a worker's start and imports may take; a step has its own limit."""
HEAVY = ("torch", "ray", "gymnasium")
SPEED_WORLDS = 64
SPEED_AGENTS = 100_000
SPEED_SECONDS = 0.1


def spec_agrees(subject: Subject) -> str:
    """The spec says what the built market is, and its parameters refuse what they do not know."""
    spec = subject.spec
    market = subject.market
    if spec is None:
        raise Informs("no spec was given")
    model = spec.parameters
    if model.model_config.get("extra") != "forbid":
        refuse(
            market,
            f"{model.__name__} accepts unknown parameters, "
            "so that a misspelt one is silently left out",
            'give it model_config = ConfigDict(extra="forbid", frozen=True)',
        )
    counts = spec.groups(subject.parameters)
    built = {name: group.count for name, group in market.groups.items()}
    # As lists, since the order counts: groups are joined and split along the agents in it.
    if list(counts.items()) != list(built.items()):
        refuse(
            market,
            f"spec.groups gives {counts}, the market has {built}",
            "give both the same names, counts and order",
        )
    _spaces_agree(market, {} if spec.spaces is None else spec.spaces(subject.parameters))
    if spec.discount is not None:
        discount = getattr(subject.parameters, spec.discount, None)
        if not isinstance(discount, float | int) or not 0 <= discount <= 1:
            refuse(
                market,
                f"spec.discount = {spec.discount!r}, which is {discount!r} in the parameters",
                "name a parameter in [0, 1], or leave it out",
            )
    if sorted(spec.scripts) != sorted(market.scripts()):
        refuse(
            market,
            f"spec.scripts = {sorted(spec.scripts)}, "
            f"market.scripts() has {sorted(market.scripts())}",
            "list the same names in both",
        )
    groups = ", ".join(f"{count} x {name}" for name, count in counts.items())
    return f"{groups}, as built; unknown parameters are refused"


def _spaces_agree(market: Market, told: Mapping[str, AgentSpaces]) -> None:
    """What the spec tells of a group's spaces is what was built."""
    for name, spaces in told.items():
        built = market.groups[name].spaces if name in market.groups else None
        if spaces != built:
            refuse(
                market,
                f"spec.spaces gives {spaces} for group {name!r}, the market has {built}",
                "give both the same",
            )


def global_state(subject: Subject) -> str:
    """A central critic's global state keeps its shape, and is given where the spec says so."""
    market = subject.market
    spec = subject.spec
    widths: set[int] = set()
    with subject.limit() as limit:
        for _, step in play(market, subject.steps, limit):
            try:
                state = limit(market.global_state)
            except MarketError as error:
                return _without_global_state(subject, error)
            widths |= _widths(market, state, step)
    if len(widths) > 1:
        refuse(
            market,
            f"the global state has widths {sorted(widths)}",
            "give it one width, in every step and at ends",
        )
    if spec is not None and not spec.gives_global_state(subject.parameters):
        refuse(
            market,
            "gives a global state that its spec hides",
            "set global_state=True in the MarketSpec",
        )
    return f"[worlds, {widths.pop()}]"


def _without_global_state(subject: Subject, error: MarketError) -> str:
    """The finding where a market has no global state, which is right if its spec has none."""
    if subject.spec is None or not subject.spec.gives_global_state(subject.parameters):
        return "none"
    refuse(
        subject.market,
        f"spec.global_state = True, but global_state() raises {error}",
        "write observe_globally (or global_state), or leave it out of the spec",
    )


def _widths(market: Market, state: Tensor, step: Step | None) -> set[int]:
    """The widths of a global state and of that at the ends of a step, both checked."""
    check_global_state(market, state, market.worlds)
    widths = {int(state.shape[1])}
    if step is not None and step.ended is not None:
        final = step.ended.global_state
        if final is None:
            refuse(
                market,
                "ended.global_state is None",
                "give the true final global state, [ended, width]",
            )
        widths.add(int(final.shape[1]))
    if not bool(torch.isfinite(state).all()):
        refuse(
            market,
            "the global state is not finite",
            "look for log(0) and division by 0 in it",
        )
    return widths


def scripts(subject: Subject) -> str:
    """Every script gives legal actions to at least one group."""
    market = subject.market
    if not market.scripts():
        return "none"
    with subject.limit() as limit:
        *_, (observations, _) = play(market, 3, limit)
    for name, policy in market.scripts().items():
        problems = [
            _illegal(market, group, policy, observations[group_name])
            for group_name, group in market.groups.items()
        ]
        # A script may be for one group alone, and fail with the others' observations.
        if all(problems):
            refuse(
                market,
                f"script {name!r}: {problems[0]}",
                "give actions [..., action] in the space of the group it is for",
            )
    return ", ".join(market.scripts())


def _illegal(
    market: Market, group: AgentGroup, policy: PolicyFunction, observations: Tensor
) -> str:
    """What is wrong with a script's actions for a group; empty where nothing is."""
    try:
        actions = policy(observations)
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    space = group.action_space
    lead = (market.worlds, group.count)
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        n = choices(space)
        lead = (*lead, *space.shape)
        if actions.shape != lead or actions.dtype != torch.int64:
            return f"found {actions.dtype} {list(actions.shape)}, expected int64 {list(lead)}"
        inside = (actions >= 0) & (actions < n)
        return "" if bool(inside.all()) else f"found actions outside 0..{n - 1}"
    assert isinstance(space, gym.spaces.Box)  # by check_groups
    low, high = (torch.as_tensor(bound, device=actions.device) for bound in (space.low, space.high))
    if actions.shape != (*lead, *low.shape):
        return f"found shape {list(actions.shape)}, expected {[*lead, *low.shape]}"
    inside = (actions >= low - 1e-6) & (actions <= high + 1e-6)  # NaN is not inside either
    return "" if bool(inside.all()) else f"found actions outside [{low.tolist()}, {high.tolist()}]"


# -- other processes -------------------------------------------------------------------------------


class Worker:
    """A spawned process that builds and steps the market as a runner on its own would, meanwhile.

    Args:
        subject: the market under examination.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.unpicklable = ""
        self.process: Any = None
        try:
            pickled = pickle.dumps(subject.build)
        except Exception as error:
            self.unpicklable = f"{type(error).__name__}: {error}"
            return
        context = multiprocessing.get_context("spawn")  # inherits nothing, as Ray's actors
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, pickled, subject.seconds, torch.get_num_threads())
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the worker does

    def go(self) -> None:
        """Says how much to do, once that is known."""
        if self.process is not None and self.process.is_alive():
            self.pipe.send((self.subject.pace, self.subject.steps))

    def check(self, subject: Subject) -> str:
        """It builds, steps and gives the same bytes as here."""
        if self.process is None:
            refuse(
                subject.market,
                f"its builder cannot be sent to a worker: {self.unpicklable}",
                "build it by a function of a module, or functools.partial of one; "
                "no lambda, no open file or lock",
            )
        if self._receive(START_SECONDS)[0] != "started":
            self._refuse(f"its worker process did not start within {START_SECONDS:g} s")
        kind, *result = self._receive(START_SECONDS)
        if kind != "done":
            self._refuse(*(result or [f"no answer within {START_SECONDS:g} s"]))
        if not subject.record:  # the check of determinism failed
            return "runs in a spawned process"
        if what := difference(subject.record, result[0]):
            refuse(
                subject.market,
                f"the same seed gives something else in another process: {what}",
                "no hash() of text, no order of a set, no process id or clock in what it computes",
            )
        return "the same bytes in a spawned process"

    def _refuse(self, what: str) -> None:
        refuse(
            self.subject.market,
            f"breaks in a worker process only: {what}",
            "let it depend on its parameters alone; "
            "set up nothing by import, environment or parent process",
        )

    def _receive(self, seconds: float) -> Any:
        """The worker's next message, (kind, result); `silent` where none comes in time."""
        try:
            return self.pipe.recv() if self.pipe.poll(seconds) else ("silent",)
        except EOFError:
            self.process.join(5)  # the pipe closes a little before the exit code is there
            exit_code = self.process.exitcode
            return (
                "failed",
                f"it ended with exit code {exit_code} (is the script's main guarded?)",
            )

    def stop(self) -> None:
        """Ends the process, if it still runs."""
        if self.process is not None:
            self.process.terminate()
            self.process.join(5)


def _work(pipe: Any, pickled: bytes, seconds: float, threads: int) -> None:
    """In the worker process: says `started`, is told (pace, steps), answers `done` or `failed`."""
    try:
        pipe.send(("started",))
        pipe.send(_recorded(pickled, seconds, threads, *pipe.recv()))
    except (EOFError, BrokenPipeError):
        return  # who asked is gone


def _recorded(
    pickled: bytes, seconds: float, threads: int, pace: float, steps: int
) -> tuple[str, Any]:
    """(`done`, the episode's record) or (`failed`, why)."""
    try:
        torch.set_num_threads(threads)  # as in the parent: sums depend on their number
        subject = Subject(pickle.loads(pickled), seconds, pace=pace)
        with torch.no_grad(), subject.limit() as limit:
            return "done", record(subject.market, steps, limit)
    except BaseException as error:
        return "failed", f"{type(error).__name__}: {error} ({blame(error)})"


class LightImport:
    """Another process that imports the spec's module and looks at what came along."""

    def __init__(self, module: str) -> None:
        self.process: Any = None
        if not module:
            return
        self.module = module
        code = (
            f"import sys, importlib; sys.path[:] = {sys.path!r}; "
            f"importlib.import_module({module!r}); "
            f"print([name for name in {HEAVY!r} if name in sys.modules])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def check(self, subject: Subject) -> str:
        """Importing the spec is light, so that `check` and `--help` are quick and need no GPU."""
        if self.process is None:
            raise Informs("only looked at for registered markets and packages")
        out, err = self.process.communicate(timeout=START_SECONDS)
        if self.process.returncode:
            last_line = (err.strip().splitlines() or [""])[-1]
            refuse(
                subject.market,
                f"importing {self.module} alone fails: {last_line}",
                "import what it needs in it",
            )
        if out.strip() != "[]":
            refuse(
                subject.market,
                f"importing {self.module} imports {out.strip()[1:-1]}",
                "keep SPEC and parameters in a module of their own; "
                "market='module:Class' is imported when built",
            )
        return f"{self.module} imports none of {', '.join(HEAVY)}"

    def stop(self) -> None:
        """Ends the process, if it still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def speed(subject: Subject) -> str:
    """Agent steps per CPU-second."""
    agents = sum(group.count for group in subject.market.groups.values())
    market = subject.fresh(max(1, min(SPEED_WORLDS, SPEED_AGENTS // agents)))
    with subject.limit() as limit:
        draw = Actions(market, 0, "inner")
        actions = draw(market.reset(0))  # drawn once, so that only the market is timed
        steps = 0
        before = time.process_time()
        while (used := time.process_time() - before) < SPEED_SECONDS and steps < 1000:
            step = limit(market.step, actions)
            if market.masks_bind:
                actions = draw(step.observations)
            steps += 1
    rate = steps * market.worlds * agents / max(used, 1e-9)
    raise Informs(f"{rate:.3g} agent steps per CPU-second, {market.worlds} worlds")
