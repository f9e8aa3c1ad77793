"""A decoded batch of one partition: its events in columns, and the rejected records.

Pure. Times are whole milliseconds since the Unix epoch (`_ms`), measured latencies whole
nanoseconds (`_ns`), tokens counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.events.watermark import Watermark

# model, region, channel, service_tier, requested_service_tier, class of input length
SeriesKey = tuple[str, str, str, str, str, str]


@dataclass(slots=True)
class Columns:
    """The n accepted events of a batch in log order, one array of length n each."""

    position: npt.NDArray[np.int64]  # index in the batch handed in
    request: npt.NDArray[np.uint64]  # shape (n, 2): 128-bit identity, see decoder.py
    ended_at_ms: npt.NDArray[np.int64]
    watermark_ms: npt.NDArray[np.int64]  # of the partition before this record; -1: none yet
    # Arrival in the log: the watermark after this record, -1 as long as it may fall. Never falls.
    arrived_ms: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.int8]  # index into OUTCOMES
    probe: npt.NDArray[np.bool_]
    series_index: npt.NDArray[np.int32]  # index into `series`
    series: list[SeriesKey]  # distinct
    customer_index: npt.NDArray[np.int32]  # index into `customers`
    customers: list[tuple[str, str]]  # distinct (customer_id, model)
    final: npt.NDArray[np.bool_]  # no other attempt at the same request followed
    error_class: npt.NDArray[np.int8]  # index into ERROR_CLASSES; -1: none, or not known
    ending: npt.NDArray[np.int8]  # index into ENDINGS; -1: not known
    stream: npt.NDArray[np.int8]  # as sent: 1 streamed, 0 not; -1: not known
    tier_changed: npt.NDArray[np.bool_]  # served in another tier than the requested one
    # Latencies; -1 if not measured. Probes and answers from a response cache have none.
    ttft_ns: npt.NDArray[np.int64]  # of streamed successes
    tpot_ns: npt.NDArray[np.int64]  # if ttft_ns and duration_ns are known and output_tokens > 1
    duration_ns: npt.NDArray[np.int64]  # of successes
    first_visible_ns: npt.NDArray[np.int64]  # of successes
    # Tokens; 0 if not known. Probes and answers from a response cache have none.
    input_tokens: npt.NDArray[np.int64]
    cached_input_tokens: npt.NDArray[np.int64]
    cache_write_tokens: npt.NDArray[np.int64]
    output_tokens: npt.NDArray[np.int64]
    reasoning_tokens: npt.NDArray[np.int64]
    # What is known of a request; all False for probes.
    has_tokens: npt.NDArray[np.bool_]  # input_tokens are known
    has_cached: npt.NDArray[np.bool_]  # cached_input_tokens are known, and so input_tokens
    estimated: npt.NDArray[np.bool_]  # the tokens are estimates
    from_cache: npt.NDArray[np.bool_]  # a success answered from the gateway's response cache
    streamed: npt.NDArray[np.bool_]  # a success that streamed, so that it has a TTFT to know
    faults: npt.NDArray[np.uint64]  # what was wrong with single fields, see faults.py

    @property
    def latencies_ns(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Return the latencies that have a histogram, in the order of slices.LATENCIES."""
        return self.ttft_ns, self.tpot_ns, self.duration_ns, self.first_visible_ns

    @property
    def tokens(self) -> tuple[npt.NDArray[np.int64], ...]:
        """Return the tokens in the order of slices.TOKENS."""
        return (
            self.input_tokens,
            self.cached_input_tokens,
            self.cache_write_tokens,
            self.output_tokens,
            self.reasoning_tokens,
        )

    @property
    def output_speed_ns(self) -> npt.NDArray[np.int64]:
        """Return the time per output token, the first one included; -1 if TPOT is not known."""
        span_ns = self.duration_ns - self.ttft_ns
        each_ns = np.rint(span_ns / np.maximum(self.output_tokens, 1))
        return np.where(self.tpot_ns >= 0, each_ns, -1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One record that cannot be counted."""

    position: int  # index in the batch handed in
    reason: str  # one of REASONS
    detail: str  # field and rule, for people; never a value of the payload
    watermark_ms: int | None  # of the partition when the record was judged


@dataclass(slots=True)
class Decoded:
    """A batch, judged: each record is in `columns`, `rejections` or `duplicates_ms`, once."""

    columns: Columns
    rejections: list[Rejection]
    watermark: Watermark  # after this batch
    # The partition's watermark before each event that `deduplicate` took out of `columns`.
    duplicates_ms: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def watermark_ms(self) -> int | None:
        return self.watermark.time_ms


def interned(
    keys: Sequence[tuple[str, ...]], index: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], list[Any]]:
    """Return the index into the distinct keys that `index` points at, and these keys.

    They are in the order in which `index` names them: if a rejected record was the first to have a
    key, its place must not depend on whether that record was in the same batch.
    """
    first_at = np.full(len(keys), len(index))
    first_at[index[::-1]] = np.arange(len(index))[::-1]  # of equal ones the last is kept
    order = np.argsort(first_at, kind="stable")[: np.count_nonzero(first_at < len(index))].tolist()
    if order == list(range(len(keys))) and len(set(keys)) == len(keys):
        return index, list(keys)
    distinct: dict[tuple[str, ...], int] = {}
    renumbered = np.zeros(len(keys), np.int32)
    for at in order:
        renumbered[at] = distinct.setdefault(keys[at], len(distinct))
    return renumbered[index], list(distinct)
