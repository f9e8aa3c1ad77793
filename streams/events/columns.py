"""What a batch of one partition is decoded to: its events in columns, and what was refused.

Pure. Times are whole milliseconds since the Unix epoch (`_ms`), measured latencies whole
nanoseconds (`_ns`), tokens counts.
"""

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.events.fields import UNKNOWN


@dataclass(slots=True)
class Columns:
    """The n accepted events of a batch in log order, one array of length n each."""

    position: npt.NDArray[np.int64]  # index in the batch handed in
    request: npt.NDArray[np.uint64]  # shape (n, 2): 128-bit hash of `request_id`
    ended_at_ms: npt.NDArray[np.int64]
    watermark_ms: npt.NDArray[np.int64]  # of the partition before this record; -1: none yet
    outcome: npt.NDArray[np.int8]  # index into OUTCOMES
    probe: npt.NDArray[np.bool_]
    series_index: npt.NDArray[np.int32]  # index into `series`
    series: list[tuple[str, str, str, str]]  # distinct (model, region, channel, service_tier)
    customer_index: npt.NDArray[np.int32]  # index into `customers`
    customers: list[tuple[str, str]]  # distinct (customer_id, model)
    # Latencies; -1 where design says "not measured". Probes have none.
    ttft_ns: npt.NDArray[np.int64]  # streaming successes only
    tpot_ns: npt.NDArray[np.int64]  # where ttft_ns is known and output_tokens > 1
    duration_ns: npt.NDArray[np.int64]  # successes only
    # Tokens; 0 where absent. Probes have none.
    input_tokens: npt.NDArray[np.int64]
    cached_input_tokens: npt.NDArray[np.int64]
    cache_write_tokens: npt.NDArray[np.int64]
    output_tokens: npt.NDArray[np.int64]
    reasoning_tokens: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rejection:
    """One record that broke the contract."""

    position: int  # index in the batch handed in
    reason: str  # one of REASONS
    detail: str  # field and rule, for people; never what the payload says
    watermark_ms: int | None  # of the partition when the record was judged


@dataclass(slots=True)
class Decoded:
    """A batch, judged: each record is in `columns`, `rejections` or `duplicates_ms`, once."""

    columns: Columns
    rejections: list[Rejection]
    watermark_ms: int | None  # largest `ended_at` accepted so far, this batch included
    # The partition's watermark before each event that `deduplicate` took out of `columns`.
    duplicates_ms: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def interned(
    keys: list[tuple[Any, ...]], index: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], list[Any]]:
    """Distinct keys that `index` still points at, absent labels as UNKNOWN, and the index anew.

    In the order in which `index` names them: where a refused record was the first to have a key,
    its place must not depend on whether that record was in the same batch.
    """
    first_at = np.full(len(keys), len(index))
    first_at[index[::-1]] = np.arange(len(index))[::-1]  # of equal ones the last is kept
    order = np.argsort(first_at, kind="stable")[: np.count_nonzero(first_at < len(index))].tolist()
    in_order = order == list(range(len(keys)))
    if in_order and None not in chain.from_iterable(keys) and len(set(keys)) == len(keys):
        return index, keys
    distinct: dict[tuple[str, ...], int] = {}
    renumbered = np.zeros(len(keys), np.int32)
    for at in order:
        key = tuple(UNKNOWN if label is None else label for label in keys[at])
        renumbered[at] = distinct.setdefault(key, len(distinct))
    return renumbered[index], list(distinct)
