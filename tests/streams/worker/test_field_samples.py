"""Which records with a wrong field a heartbeat names."""

from typing import Any

import msgspec
import numpy as np

from streams.events.columns import Columns
from streams.events.decoder import EventLimits, decode
from streams.worker.field_samples import (
    KEPT_PER_FAULT,
    FieldSample,
    FieldSamples,
    parse_samples,
)

LIMITS = EventLimits(10_000, 300_000, 10**12)
NOW_MS = 1_767_225_600_000
GOOD = {"ended_at": NOW_MS, "model": "m", "status_code": 200}
NO_TTFT: dict[str, Any] = {"ttft_ms": "none"}


def columns_of(*faults: dict[str, Any]) -> Columns:
    values = [
        msgspec.json.encode({**GOOD, "request_id": f"r{at}", **fault})
        for at, fault in enumerate(faults)
    ]
    return decode(values, np.full(len(values), NOW_MS), None, LIMITS).columns


def samples_after(samples: FieldSamples, first: int, *faults: dict[str, Any]) -> list[FieldSample]:
    """Sample a batch at these offsets; return the content of the next heartbeat."""
    offsets = range(first, first + len(faults))
    samples.sample(offsets, [NOW_MS + at for at in offsets], columns_of(*faults))
    return parse_samples(samples.unsent() or "")


def test_the_newest_records_of_each_fault_are_named_by_their_place() -> None:
    rejected = {"ended_at": "soon", "ttft_ms": "none"}  # as a whole, so it is no sample
    faults: list[dict[str, Any]] = [
        {},
        NO_TTFT,
        rejected,
        {"stream": 1},
        *[NO_TTFT] * KEPT_PER_FAULT,
    ]
    found = samples_after(FieldSamples(), 100, *faults)
    ttft = [sample for sample in found if sample.field == "ttft_ms"]
    assert [sample.offset for sample in ttft] == [*range(104, 104 + KEPT_PER_FAULT)]
    assert {sample.reason for sample in ttft} == {"bad_type"}
    assert ttft[0].timestamp_ms == NOW_MS + 104
    assert [sample.offset for sample in found if sample.field == "stream"] == [103]


def test_a_fault_is_sampled_once_between_two_heartbeats_and_a_new_one_at_once() -> None:
    samples = FieldSamples()
    assert [one.offset for one in samples_after(samples, 0, NO_TTFT)] == [0]
    found = samples_after(samples, 1, NO_TTFT, {"stream": 1})
    assert sorted(one.offset for one in found) == [0, 2]
    samples.mark_sent(samples.unsent())
    assert samples.unsent() is None
    found = samples_after(samples, 3, NO_TTFT)
    assert sorted(one.offset for one in found) == [0, 2, 3]


def test_a_text_of_another_version_is_no_sample() -> None:
    assert parse_samples("") == []
    assert parse_samples('[["ttft_ms"]]') == []
