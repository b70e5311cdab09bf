"""The benchmark's pieces at a tiny size: they run, and measure what they say. No timing is asserted."""

from __future__ import annotations

import pytest
import torch

from rl_markets import bench
from rl_markets.bench import market_alone
from rl_markets.bench.raw_sac import RawSAC
from rl_markets.bench.rounds import compared
from rl_markets.experiment_errors import ExperimentError


def test_the_market_alone_is_measured() -> None:
    lines: list[str] = []
    found = market_alone.measure(0.02, lines.append)
    assert [row["ours"] > 0 for row in found["rows"]] == [True, True]
    assert lines


def test_ratios_are_of_figures_measured_in_the_same_round() -> None:
    row = compared("x", "theirs", [10.0, 30.0, 20.0], [5.0, 10.0, 10.0], 2.0)
    assert (row["ratio"], row["lowest"], row["highest"]) == (2.0, 2.0, 3.0)


def test_plain_torchs_sac_is_a_learner() -> None:
    """The lower bound must do the whole of the work: all its weights move."""
    raw = RawSAC((8, 8), 32)
    before = [
        w.detach().clone() for w in (*raw.actor.parameters(), *raw.critics.parameters(), *raw.slow, raw.log_alpha)
    ]
    for _ in range(3):
        raw.step()
    after = [*raw.actor.parameters(), *raw.critics.parameters(), *raw.slow, raw.log_alpha]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_an_unknown_measurement_is_refused_before_anything_runs() -> None:
    with pytest.raises(ExperimentError, match=r"--only nothing: expected one of start_up, market_alone, ppo"):
        bench.run(1.0, None, ["nothing"])
