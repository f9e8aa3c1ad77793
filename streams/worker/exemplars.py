"""A few recent requests with their trace ids, to be shown beside the histograms they are in.

Pure. One batch between two heartbeats is sampled: of its newest events, and of each (model,
region), the slowest by TTFT, the slowest by duration and the newest. The newest exemplar of each
histogram bucket is kept, and a limited number in all. No count depends on them.

They travel in the worker's heartbeat (`dump`, `load_exemplars`) and are in no state: the next owner
of a partition begins without them, and its first heartbeat replaces those of the previous owner.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from streams.events.columns import Columns, SeriesKey
from streams.events.fields import LABEL_PATTERN
from streams.events.parser import UNREADABLE
from streams.state.slices import LATENCIES, Thresholds
from streams.state.tables import Ints

LOOKED_AT = 500  # newest events of a batch that are searched
KEPT_MAX = 200  # of a partition: about 20 kB
KEPT_MS = 3_600_000  # before the newest one kept

_TRACE_ID = re.compile(LABEL_PATTERN)
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Exemplar(NamedTuple):
    """One latency of one request that can be looked up by its trace id."""

    model: str
    region: str
    latency: str  # one of LATENCIES
    value_ns: _Count
    ended_at_ms: _Count
    trace_id: str


class _Traced(msgspec.Struct, gc=False):
    trace_id: str | None = None


_TRACED = msgspec.json.Decoder(_Traced)
_EXEMPLARS = msgspec.json.Decoder(list[Exemplar])
_Bucket = tuple[str, str, str, int]  # model, region, latency, index of the upper edge


class Exemplars:
    """The exemplars of one partition."""

    def __init__(self, edges: Thresholds) -> None:
        """Use the edges of the exported histograms, in microseconds."""
        self._edges_ns = [
            np.array(edges_us, np.int64) * 1_000 for edges_us in edges[: len(LATENCIES)]
        ]
        self._by_bucket: dict[_Bucket, Exemplar] = {}  # in the order of addition
        self.due = True  # whether to sample the next batch
        self._sent: str | None = None  # with the last heartbeat; None before the first one

    def sample(
        self,
        values: Sequence[bytes | None],
        columns: Columns,
        known: Callable[[SeriesKey], bool],
    ) -> None:
        """Take a few exemplars from a counted batch.

        `values` are its records; `known` returns whether a series is counted under its own name.
        """
        self.due = False
        # Trace ids are decoded a second time here, so only for a few records.
        first = max(0, len(columns.position) - LOOKED_AT)
        traces = [_trace_id(values[at] or b"") for at in columns.position[first:].tolist()]
        traced = np.array([trace_id is not None for trace_id in traces], np.bool_)
        measured = (columns.ttft_ns[first:] >= 0) | (columns.duration_ns[first:] >= 0)
        rows = np.flatnonzero(traced & measured) + first
        rows, groups = _group(columns, rows, known)
        # The row number as a measure picks the newest row.
        picked = _pick(rows, groups, (rows, columns.duration_ns[rows], columns.ttft_ns[rows]))
        series = [columns.series[at] for at in columns.series_index[picked].tolist()]
        ended_at_ms = columns.ended_at_ms[picked].tolist()
        for latency, all_ns, edges_ns in zip(
            LATENCIES, columns.latencies_ns, self._edges_ns, strict=True
        ):
            values_ns = all_ns[picked]
            buckets = np.searchsorted(edges_ns, values_ns).tolist()
            for at, value_ns in enumerate(values_ns.tolist()):
                if value_ns >= 0:
                    model, region = series[at][:2]
                    trace_id = traces[picked[at] - first] or ""
                    self._keep(
                        (model, region, latency, buckets[at]),
                        Exemplar(model, region, latency, value_ns, ended_at_ms[at], trace_id),
                    )

    def _keep(self, bucket: _Bucket, exemplar: Exemplar) -> None:
        before = self._by_bucket.get(bucket)
        if before is not None and before.ended_at_ms > exemplar.ended_at_ms:
            return
        self._by_bucket.pop(bucket, None)  # so that it moves to the end of the order
        self._by_bucket[bucket] = exemplar
        if len(self._by_bucket) > KEPT_MAX:
            del self._by_bucket[next(iter(self._by_bucket))]

    def unsent(self) -> str | None:
        """Return the text for the next heartbeat; None if the last one had the same."""
        text = self.dump()
        return text if text != self._sent else None

    def mark_sent(self, text: str | None) -> None:
        """Note that a heartbeat with `text` was sent: the next batch is to be sampled."""
        self._sent, self.due = text if text is not None else self._sent, True

    def dump(self) -> str:
        """Return the exemplars as text for the heartbeat."""
        exemplars = self._by_bucket.values()
        newest_ms = max((exemplar.ended_at_ms for exemplar in exemplars), default=0)
        recent = [one for one in exemplars if one.ended_at_ms >= newest_ms - KEPT_MS]
        return msgspec.json.encode(recent).decode()


def load_exemplars(text: str) -> list[Exemplar]:
    """Return the exemplars that `dump` wrote; none if another version wrote the text."""
    try:
        exemplars = _EXEMPLARS.decode(text) if text else []
    except msgspec.DecodeError:
        return []
    # Redis can be written by other clients, so the fields are checked before they are exported.
    return [
        exemplar
        for exemplar in exemplars[:KEPT_MAX]
        if exemplar.latency in LATENCIES and _TRACE_ID.fullmatch(exemplar.trace_id)
    ]


def _trace_id(record: bytes) -> str | None:
    try:
        trace_id = _TRACED.decode(record).trace_id
    except UNREADABLE:  # of a repeated key the event decoder takes the last value
        return None
    return trace_id if trace_id and _TRACE_ID.fullmatch(trace_id) else None


def _group(columns: Columns, rows: Ints, known: Callable[[SeriesKey], bool]) -> tuple[Ints, Ints]:
    """Return the rows whose series is known, with a number of (model, region) for each."""
    index = columns.series_index[rows]
    numbers: dict[tuple[str, str], int] = {}
    group_of = np.full(len(columns.series), -1, np.int64)
    for at in np.unique(index).tolist():
        if known(columns.series[at]):
            group_of[at] = numbers.setdefault(columns.series[at][:2], len(numbers))
    groups = group_of[index]
    return rows[groups >= 0], groups[groups >= 0]


def _pick(rows: Ints, groups: Ints, measures: Iterable[Ints]) -> list[int]:
    """Return the rows with the largest value of each measure in each group."""
    picked: list[int] = []
    if len(rows):
        for measure in measures:
            # Sorted by group, then by measure: the largest is the last row of its group.
            order = np.lexsort((measure, groups))
            last = np.append(np.diff(groups[order]) != 0, True)
            picked += rows[order[last]].tolist()
    return list(dict.fromkeys(picked))
