"""Random logs, and a worker without a network that counts them and keeps the result on a shelf."""

from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import strategies as st

from streams.events.columns import SeriesKey
from streams.state.edges import export_edges
from streams.state.partition import PartitionState
from streams.state.registry import NameLimits, Registry, customer_hasher
from streams.state.slices import LEVELS, Aggregate, SliceId, Thresholds
from streams.state.snapshot import (
    Meta,
    Snapshot,
    Stored,
    decode_index,
    decode_meta,
    decode_names,
    registry_fields,
    slice_field,
)
from streams.state.windows import kept_step_s
from tests.support.oracle import judge
from tests.support.oracle_counts import LIMITS, readable

HASHED = customer_hasher(b"a key of the tests, 24 b")
EDGES = export_edges(LIMITS)
ROOMY = NameLimits(200, 100, 50, 20, 2_000, 20_000)
TIGHT = NameLimits(2, 1, 1, 2, 3, 2)
DAY_S, HOUR_S = 86_400, 3_600
NOON = 1_700_049_600  # 2023-11-15 12:00:00 UTC

# --- logs ----------------------------------------------------------------------------------------

SUCCESS = {"outcome": "success", "input_tokens": 900, "cached_input_tokens": 400}
TIMED = SUCCESS | {"ttft_ms": 100.25, "duration_ms": 2_000, "output_tokens": 39}
KINDS_OF_SCHEMA_1 = (  # of the log in golden/state-schema-1.json
    TIMED,
    TIMED | {"region": "eu", "ttft_ms": 300, "service_tier": "priority"},
    TIMED | {"stream": False, "reasoning_tokens": 7, "cache_write_tokens": 3},
    SUCCESS | {"channel": "cloud"},
    {"outcome": "rate_limited", "input_tokens": 5},
    {"status_code": 503, "region": "eu"},
    {"status_code": 200, "error": "reset", "output_tokens": 12, "duration_ms": 9_000},
    TIMED | {"probe": True},
    {"outcome": "timeout", "probe": True, "region": "ap"},
)
KINDS = (
    *KINDS_OF_SCHEMA_1,
    {"outcome": "success", "duration_ms": 80},
    TIMED | {"stream": True, "cached_input_tokens": None},
    TIMED | {"served_from": "response_cache"},
    TIMED | {"estimated_tokens": True, "total_tokens": 1},
    TIMED | {"ttft_ms": 5_000, "region": "s\u00fcd", "cache_write_tokens": -7},
    TIMED | {"requested_service_tier": "priority"},
)
ODD = (b"", b"{", b'{"model": "m"}', b'{"ended_at": true, "request_id": "1", "model": "m"}')
STAMPS_MS = {"in time": 0, "from the future": -400_000, "no stamp": None}

STEPS_MS = st.one_of(
    st.integers(0, 30_000),
    st.integers(0, 120_000),
    st.integers(0, 4 * HOUR_S * 1_000),
    st.sampled_from([10_000, 60_000, HOUR_S * 1_000, DAY_S * 1_000]),
    st.integers(0, 40 * DAY_S * 1_000),
    st.integers(0, 500 * DAY_S * 1_000),
)
BACK_MS = st.one_of(
    st.just(0),
    st.just(0),
    st.integers(0, 90_000),
    st.integers(0, 4 * HOUR_S * 1_000),
    st.integers(0, 420 * DAY_S * 1_000),
)
EVENTS = st.tuples(
    st.one_of(st.just(0), st.just(1_000), STEPS_MS),
    BACK_MS,
    st.sampled_from(KINDS),
    st.sampled_from("ab"),
    st.sampled_from(["ann", "bob", "cyd", None]),
    st.sampled_from([*["in time"] * 8, "from the future", "no stamp", "odd"]),
)


def log_of(events: list[Any], begin_s: int) -> list[Any]:
    """The front moves by each event's step; the event itself lies so far behind the front."""
    log, front_ms = [], begin_s * 1_000
    for number, (step_ms, back_ms, kind, model, customer, fate) in enumerate(events):
        front_ms += step_ms
        if fate == "odd":
            log.append((ODD[number % len(ODD)], front_ms))
            continue
        ended_at_ms = max(0, front_ms - back_ms)
        event = {"request_id": str(number), "ended_at": ended_at_ms, "model": model} | kind
        if customer is not None:
            event["customer_id"] = customer
        shift = STAMPS_MS[fate]
        log.append((event, -1 if shift is None else max(-1, ended_at_ms + shift)))
    return log


def plain(at_s: int, **changes: Any) -> tuple[dict[str, Any], int]:
    """One success at a second."""
    event = {"request_id": "1", "ended_at": at_s * 1_000, "model": "a", "customer_id": "ann"}
    return event | TIMED | changes, at_s * 1_000


REFUSED = (b"{", 0)

LOGS = st.builds(
    log_of,
    st.lists(EVENTS, max_size=8) | st.lists(EVENTS, min_size=15, max_size=60),
    st.sampled_from([0, NOON, NOON - 1, NOON + 12 * HOUR_S - 35]),
)
# A worker's life: so many records, then what happens to it.
CUTS = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.sampled_from(["", "checkpoint", "slow checkpoint", "restart", "crash", "forget"]),
    ),
    max_size=14,
)
LATENESS_S = st.sampled_from([0, 30, 95, 600])

# --- a worker without a network ------------------------------------------------------------------


class Shelf:
    """What Redis holds of one partition."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.offset = 0

    def write(self, snapshot: Snapshot) -> None:
        assert snapshot.from_offset == self.offset
        for name in snapshot.deletes:
            self.fields.pop(name, None)  # it may have come and gone in a checkpoint that got lost
        self.fields.update(snapshot.fields)
        self.offset = snapshot.to_offset

    def stored(self) -> Stored:
        if not self.fields:
            return Stored(self.offset)
        names = ["meta", "index", "totals", *registry_fields(self.meta)]
        return Stored(self.offset, {name: self.fields[name] for name in names})

    @property
    def meta(self) -> Meta:
        return decode_meta(self.fields["meta"])

    @property
    def index(self) -> dict[SliceId, int]:
        return decode_index(self.fields["index"])

    def names(self) -> tuple[list[SeriesKey], list[tuple[str, str]]]:
        return decode_names(self.meta, self.fields)

    def aggregate(self, of: SliceId) -> Aggregate:
        return Aggregate.unpack(self.fields[slice_field(of)])

    def readable(self, slices: list[SliceId]) -> dict[str, Any]:
        """The sum of some slices."""
        return readable(Aggregate.merged([self.aggregate(of) for of in slices]), *self.names())

    def lasting(self) -> dict[str, Any]:
        """All bytes but those that say when they were written, and by which checkpoint."""
        left = {name: data for name, data in self.fields.items() if name not in ("meta", "index")}
        set_back = self.meta.set_back
        meta = msgspec.structs.replace(
            self.meta,
            sequence=0,
            written_at_ms=0,
            archived_at_ms=0,
            checksums={},  # one is of the index
            generations=(),
            set_back=set_back and set_back._replace(checkpoint=0),
        )
        return left | {"meta": meta, "index": set(self.index)}


def loaded(
    shelf: Shelf, caps: NameLimits = ROOMY, lateness_s: int = 30, edges: Thresholds = EDGES
) -> PartitionState:
    names = shelf.names() if shelf.fields else ((), ())
    return PartitionState(shelf.stored(), Registry(caps, HASHED, *names), LIMITS, edges, lateness_s)


def count(state: PartitionState, shelf: Shelf, log: list[Any], until: int) -> None:
    """One batch: the records from the state's offset to `until`."""
    decoded = judge(log[state.next_offset : until], state.watermark)
    missing = state.missing(decoded)
    assert len(missing) == len(set(missing))
    state.provide({of: shelf.fields[slice_field(of)] for of in missing})
    state.apply(decoded, until)


def checkpoint(state: PartitionState, shelf: Shelf) -> None:
    snapshot = state.snapshot(written_at_ms=len(shelf.fields))
    shelf.write(snapshot)
    state.confirm(snapshot)


def shelf_after(
    log: list[Any],
    cuts: list[tuple[int, str]] | tuple[Any, ...] = (),
    caps: NameLimits = ROOMY,
    lateness_s: int = 30,
) -> Shelf:
    """Live through `cuts`, read what is left of the log, write the last checkpoint."""
    shelf = Shelf()
    state = loaded(shelf, caps, lateness_s)
    for size, what in cuts:
        until = min(len(log), state.next_offset + size)
        unwritten = state.snapshot(7) if what == "slow checkpoint" else None
        count(state, shelf, log, until)
        if unwritten is not None:  # records were counted while it was on its way
            shelf.write(unwritten)
            state.confirm(unwritten)
        if what in ("checkpoint", "restart"):
            checkpoint(state, shelf)
        if what in ("restart", "crash"):
            state = loaded(shelf, caps, lateness_s)
        if what == "forget":
            state.evict(0)
    count(state, shelf, log, len(log))
    checkpoint(state, shelf)
    assert (shelf.offset, state.unflushed) == (len(log), 0)
    return shelf


def answerable(from_s: int, to_s: int, watermark_s: int) -> tuple[int, int]:
    """The largest range inside that what is kept can answer exactly."""
    step_s = kept_step_s(from_s, watermark_s)
    from_s = -(-from_s // step_s) * step_s
    to_s -= to_s % LEVELS[0].step_s
    for finer, coarser in reversed(list(pairwise(LEVELS))):
        # What lies beyond the last whole coarser slice is told by finer ones, if all are there.
        begin_s = to_s // coarser.step_s * coarser.step_s
        if begin_s + finer.step_s <= watermark_s - finer.keep_s:
            to_s = begin_s
    return from_s, max(from_s, to_s)
