"""A few recent requests with their trace ids, to be shown beside the histograms they are in.

Pure. Only a sample: one batch between two signs of life is looked at, of it the newest events, and
of each (model, region) the slowest by TTFT, the slowest by duration and the newest. The newest one
of each bucket is kept, a bounded number in all. Nothing that counts depends on them.

They travel in the worker's sign of life (`dump`, `read`): no state holds them, and whoever takes a
partition over begins without.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from streams.events.columns import Columns
from streams.events.fields import LABEL_PATTERN
from streams.state.slices import LATENCIES, Thresholds
from streams.state.tables import Ints

LOOKED_AT = 500  # events of a batch
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
    """Those of one partition."""

    def __init__(self, edges: Thresholds) -> None:
        """`edges`: of the exported histograms, in microseconds."""
        self._edges_ns = [np.array(one, np.int64) * 1_000 for one in edges]
        self._kept: dict[_Bucket, Exemplar] = {}  # the last one added stands last
        self.due = True  # whether to sample the next batch
        self._sent = self.dump()  # with the last heartbeat

    def sample(
        self,
        values: Sequence[bytes | None],
        columns: Columns,
        known: Callable[[tuple[str, str, str, str]], bool],
    ) -> None:
        """Take a few out of a counted batch. `values`: its records; `known`: whether a series is
        counted under its own name."""
        self.due = False
        first = max(0, len(columns.position) - LOOKED_AT)
        traces = [_trace_id(values[at] or b"") for at in columns.position[first:].tolist()]
        latencies = (columns.ttft_ns, columns.tpot_ns, columns.duration_ns)
        traced = np.array([one is not None for one in traces], np.bool_)
        measured = (columns.ttft_ns[first:] >= 0) | (columns.duration_ns[first:] >= 0)
        rows = np.flatnonzero(traced & measured) + first
        rows, groups = _grouped(columns, rows, known)
        picked = _picked(rows, groups, (rows, columns.duration_ns[rows], columns.ttft_ns[rows]))
        of = [columns.series[at] for at in columns.series_index[picked].tolist()]
        ended_at_ms = columns.ended_at_ms[picked].tolist()
        for latency, taken_ns, edges_ns in zip(LATENCIES, latencies, self._edges_ns, strict=True):
            values_ns = taken_ns[picked]
            buckets = np.searchsorted(edges_ns, values_ns).tolist()
            for at, value_ns in enumerate(values_ns.tolist()):
                if value_ns >= 0:
                    model, region, _, _ = of[at]
                    trace_id = traces[picked[at] - first] or ""
                    self._keep(
                        (model, region, latency, buckets[at]),
                        Exemplar(model, region, latency, value_ns, ended_at_ms[at], trace_id),
                    )

    def _keep(self, bucket: _Bucket, one: Exemplar) -> None:
        before = self._kept.get(bucket)
        if before is not None and before.ended_at_ms > one.ended_at_ms:
            return
        self._kept.pop(bucket, None)
        self._kept[bucket] = one
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]

    def unsent(self) -> str | None:
        """Return the text for the next heartbeat; None if the last one had the same."""
        text = self.dump()
        return text if text != self._sent else None

    def mark_sent(self, text: str | None) -> None:
        """Note that a heartbeat with `text` was sent: the next batch is to be sampled."""
        self._sent, self.due = text if text is not None else self._sent, True

    def dump(self) -> str:
        """Return the exemplars as text for the heartbeat."""
        newest_ms = max((one.ended_at_ms for one in self._kept.values()), default=0)
        recent = [one for one in self._kept.values() if one.ended_at_ms >= newest_ms - KEPT_MS]
        return msgspec.json.encode(recent).decode()


def read(text: str) -> list[Exemplar]:
    """What `dump` wrote; nothing where it is not understood: it may be of another version."""
    try:
        found = _EXEMPLARS.decode(text) if text else []
    except msgspec.DecodeError:
        return []
    return [
        one
        for one in found[:KEPT_MAX]
        if one.latency in LATENCIES and _TRACE_ID.fullmatch(one.trace_id)
    ]


def _trace_id(record: bytes) -> str | None:
    try:
        found = _TRACED.decode(record).trace_id
    except msgspec.DecodeError:  # valid where a later key of the same name is right
        return None
    return found if found and _TRACE_ID.fullmatch(found) else None


def _grouped(
    columns: Columns, rows: Ints, known: Callable[[tuple[str, str, str, str]], bool]
) -> tuple[Ints, Ints]:
    """Those of some rows whose series is known, and a number of (model, region) for each."""
    index = columns.series_index[rows]
    numbers: dict[tuple[str, str], int] = {}
    group_of = np.full(len(columns.series), -1, np.int64)
    for at in np.unique(index).tolist():
        if known(columns.series[at]):
            group_of[at] = numbers.setdefault(columns.series[at][:2], len(numbers))
    groups = group_of[index]
    return rows[groups >= 0], groups[groups >= 0]


def _picked(rows: Ints, groups: Ints, measures: Iterable[Ints]) -> list[int]:
    """The row with the largest of each measure in each group."""
    picked: list[int] = []
    if len(rows):
        for measure in measures:
            order = np.lexsort((measure, groups))
            last = np.append(np.diff(groups[order]) != 0, True)
            picked += rows[order[last]].tolist()
    return list(dict.fromkeys(picked))
