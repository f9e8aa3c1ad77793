"""Real workers, Apache Kafka and Redis in random trouble: the state is exact all the way through.

CHAOS_MINUTES says for how long, CHAOS_SEED repeats the choices of a run.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config.settings import Worker
from streams.state.limits import event_limits
from tests.chaos.driver import run
from tests.chaos.truth import Partition
from tests.support.oracle import encoded, recount
from tests.support.shelf import LOGS

MINUTES = float(os.environ.get("CHAOS_MINUTES") or (5 if os.environ.get("CI") == "true" else 1))
ROOM_S = 600  # to start, to come to rest, to recount


@pytest.mark.stack
@pytest.mark.timeout(MINUTES * 60 + ROOM_S)
def test_whatever_breaks_no_event_is_lost_or_counted_twice(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"\nCHAOS_SEED={seed} CHAOS_MINUTES={MINUTES:g}", flush=True)
    record_property("told", str(run(seed, MINUTES, tmp_path)))


@given(LOGS, st.integers(1, 5), st.lists(st.integers(0, 60), max_size=4), st.sampled_from([0, 30]))
def test_the_truth_told_in_parts_is_that_of_the_whole_log(
    log: list[Any], names: int, cuts: list[int], lateness_s: int
) -> None:
    worker = Worker(lateness_s=lateness_s, dedup_window_s=60)
    log = [(few_names(value, names), stamp) for value, stamp in log]
    partition = Partition(worker)
    for cut in [*sorted(cuts), len(log)]:
        partition.read([(encoded(value), stamp) for value, stamp in log[partition.offset : cut]])
    whole = recount(log, event_limits(worker), window_ms=60_000)
    assert partition.watermark_ms == whole.watermark_ms
    assert partition.unplaced == whole.unplaced()
    told = whole.slices(lateness_s)
    assert plain(partition.slices()) == plain(told)
    assert plain({0: partition.everything()}) == plain({0: whole.everything()})


def few_names(value: Any, names: int) -> Any:
    """So that requests come again."""
    if not isinstance(value, dict):
        return value
    return value | {"request_id": str(int(value["request_id"]) % names)}


def plain(slices: Any) -> dict[Any, dict[str, Any]]:
    """Without customers, who have other names there, and thresholds, which are others."""
    return {of: {name: counts[name] for name in NAMED} for of, counts in slices.items()}


NAMED = ("series", "buckets", "refused")
