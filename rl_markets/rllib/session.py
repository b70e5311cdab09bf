"""Ray for as long as a command needs it: this machine's own, or a cluster that is named."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
import torch

from rl_markets.errors import RunFailedError
from rl_markets.experiment import Experiment
from rl_markets.rllib.temporary import ray_folder

TOKEN = "RAY_AUTH_TOKEN"
REACH_SECONDS = 5.0
"""How long a named cluster has to answer."""


@contextmanager
def ray_session(experiment: Experiment) -> Iterator[None]:
    """Ray for the duration, unless it runs already; then it is left as it is.

    `RAY_ADDRESS` names a cluster; otherwise Ray starts on this machine, no larger than needed.
    """
    torch.set_num_threads(1)  # as in every runner: another number of threads rounds differently
    if ray.is_initialized():
        yield
        return
    with _place(experiment) as place:
        _start_ray(place)
        try:
            _ask_for_resources(experiment)
            yield
        finally:
            ray.shutdown()


@contextmanager
def _place(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Where Ray runs, as arguments of `ray.init`.

    The cluster that `RAY_ADDRESS` names. Otherwise this machine: reachable from nowhere else, with
    a token of its own, in a folder that goes with it.
    """
    address = os.environ.get("RAY_ADDRESS")
    if address:
        _refuse_unreachable(address)
        yield {"address": address}
        return
    training = experiment.training
    _own_token()
    with ray_folder() as folder:
        yield {
            "address": "local",
            "num_cpus": training.runners + training.learners + 1,
            "object_store_memory": 2**28,
            "_temp_dir": str(folder),
        }


def _own_token() -> None:
    """A token that nobody else knows, unless the user has set one: none is left in their home.

    It stays for as long as the process, since Ray reads it once.
    """
    if f"{TOKEN}_PATH" not in os.environ:
        os.environ.setdefault(TOKEN, secrets.token_hex(32))


def _start_ray(place: Mapping[str, Any]) -> None:
    """Joins a cluster, or starts Ray here.

    Raises:
        RunFailedError: it does not work, and what to do.
    """
    # Ray's own handlers would end the process without a word
    numbers = (signal.SIGINT, signal.SIGTERM)
    # None is a handler that Python does not know, as a host program may have set
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    try:
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            **place,
        )
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise RunFailedError(
            f"Ray did not start: {type(error).__name__}: {said}; see that memory and the disk of "
            "its temporary folder (RAY_TMPDIR) have room, and try again",
            traceback.format_exc(),
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _refuse_unreachable(address: str) -> None:
    """Asks whether anybody listens at `[ray://]host:port`: Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if not colon or not port.isdigit():
        return  # a word such as `auto`, which Ray looks up by itself
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise RunFailedError(
            f"RAY_ADDRESS = {address!r}: no cluster answers there within {REACH_SECONDS:g} s "
            f"({error}); start one (`ray start --head`), mend the address, or unset it"
        ) from error


def _ask_for_resources(experiment: Experiment) -> None:
    """What the run will ask Ray for is there: Ray itself would wait for it for ever.

    Raises:
        RunFailedError: this machine has less, and no cluster is named that may grow.
    """
    learners = max(1, experiment.training.learners)  # none means that the main process learns
    wanted = learners * experiment.training.gpus_per_learner
    there = ray.cluster_resources().get("GPU", 0)
    if wanted > there and not os.environ.get("RAY_ADDRESS"):
        raise RunFailedError(
            f"training.gpus_per_learner: {learners} learners want {wanted:g} "
            f"GPUs, this machine has {there:g}; expected 0, or RAY_ADDRESS of a cluster with GPUs"
        )
