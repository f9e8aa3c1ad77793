"""The state of one partition: the slices of an event, the changes to write and to delete.

Pure: no clock, no store. The worker decodes records, fetches the slices that `missing` names, and
writes the snapshot.

Every event is counted in the 10 s slice it belongs to. When the watermark has passed the end of a
minute by `lateness_s`, its six slices are added up into the minute's; minutes into ten minutes,
those into hours, those into days. `merged_until_s[k]` says how far level k reaches:

    level 2 (10 min)  |--------------------------|
    level 1 (1 min)   |-----------------------------------------|
    level 0 (10 s)         (kept)  |------------------------------------|  watermark
                                 merged_until_s[2]         merged_until_s[1]

so that a slice of level k holds exactly the events of its stretch of time, for all slices before
merged_until_s[k]. An event that comes later than that is added to every level that already reaches
it, as long as the level still keeps the slice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import numpy as np

from streams.events.decoder import Decoded
from streams.events.watermark import Watermark
from streams.state.aggregation import place_rejections, record, record_totals
from streams.state.gaps import add_incomplete, close_gap, drop_expired, open_gap
from streams.state.levels import coarser, reach_s, slices_of, to_evict, to_merge
from streams.state.registry import Registry
from streams.state.set_back import (
    Rearrangement,
    SetBack,
    find_furthest_ms,
    incomplete_stretches,
    rearrange,
    refuse_set_back,
)
from streams.state.slices import (
    HORIZON_S,
    LEVELS,
    Aggregate,
    SliceId,
    Thresholds,
    rejection_counts,
    restart_histograms,
)
from streams.state.snapshot import (
    SCHEMA,
    Gap,
    Lineage,
    LogFingerprint,
    Meta,
    Snapshot,
    Stored,
    decode_index,
    decode_meta,
    decode_slice,
    decode_totals,
    encode_index,
    encode_names,
    encode_slice,
    slice_field,
)

_COMPACT_PARTS = 12


class PartitionState:
    """Counts of one partition's log up to `next_offset`."""

    def __init__(
        self,
        stored: Stored,
        registry: Registry,
        thresholds: Thresholds,
        edges: Thresholds,
        lateness_s: int,
    ) -> None:
        """`registry` must hold the names that `stored` counts with."""
        self.registry = registry
        self.stored_offset = self.next_offset = stored.offset
        self._thresholds, self._edges, self._lateness_s = thresholds, edges, lateness_s
        self._slices: dict[SliceId, list[Aggregate]] = {}  # least recently used first
        self._dirty: set[SliceId] = set()
        self._deletes: set[SliceId] = set()
        self._sent: tuple[set[SliceId], set[SliceId]] | None = None  # both, not confirmed yet
        self.index: dict[SliceId, int] = {}
        self.watermark = Watermark()
        self._merged_until_s = [0] * len(LEVELS)
        self._unplaced: dict[str, int] = {}
        self._totals = [Aggregate.empty()]
        self.sequence = 0
        self.begun_at: int | None = None  # None until something is counted
        self.lost_records = self.rebuilt = 0
        self.gaps: list[Gap] = []
        self.witness: LogFingerprint | None = None
        self.recent: Mapping[int, int] = {}  # kept for deduplication
        self.archived_at_ms = 0
        self.last_set_back: SetBack | None = None
        self._changed = False
        self._names_stored = self._names_sent = (0, 0)
        self._lineage = Lineage(stored.generation)
        if "meta" in stored.fields:
            self._restore(stored.fields)

    def _restore(self, fields: Mapping[str, bytes]) -> None:
        meta = decode_meta(fields["meta"])
        self.index, self.watermark = decode_index(fields["index"]), meta.watermark()
        self._merged_until_s, self._unplaced = list(meta.merged_until_s), dict(meta.unplaced)
        self.registry.restore(meta.overflowed, meta.reserved_since_ms, self.watermark.time_ms)
        self.sequence, self.archived_at_ms = meta.sequence, meta.archived_at_ms
        self.begun_at, self.rebuilt = meta.begun_at, meta.rebuilt
        self.lost_records, self.gaps = meta.lost_records, list(meta.gaps)
        self.witness, self.recent = meta.witness, meta.recent
        self.last_set_back = meta.set_back
        self._names_stored = self._names_sent = (meta.series, meta.customers)
        self._lineage.follow(meta, fields)
        # A latency that the program before did not export has no past to lose.
        edges = [before or now for before, now in zip(meta.edges, self._edges, strict=True)]
        totals = decode_totals(fields["totals"])
        self._totals = [totals if edges == list(self._edges) else restart_histograms(totals)]

    @property
    def unflushed(self) -> int:
        """Records counted here that are not in the store yet."""
        return max(0, self.next_offset - self.stored_offset)

    @property
    def changed(self) -> bool:
        """Return whether there are changes to write."""
        return self._changed or self._sent is not None or self.next_offset != self.stored_offset

    def missing(self, decoded: Decoded) -> list[SliceId]:
        """Slices that `apply` will need and that are only in the store."""
        wanted: set[SliceId] = set()
        refused_ms = [it.watermark_ms for it in decoded.rejections if it.watermark_ms is not None]
        times_ms = np.concatenate(
            (decoded.columns.ended_at_ms, np.array(refused_ms, np.int64), decoded.duplicates_ms)
        )
        starts = np.unique(times_ms // 10_000) * 10
        watermark_s = (decoded.watermark.settled_ms or 0) // 1_000
        merged = self._advance_reach(decoded.watermark.settled_ms)
        for start_s in starts.tolist():
            wanted.update(slices_of(start_s, self._merged_until_s, watermark_s))
        for level in range(1, len(LEVELS)):
            wanted.update(to_merge(self.index, level, self._merged_until_s, merged))
        return [of for of in wanted if of in self.index and of not in self._slices]

    def provide(self, slices: Mapping[SliceId, bytes]) -> None:
        """Hand over slices that `missing` asked for. Raises DamagedError."""
        self._slices.update({of: [decode_slice(of, data)] for of, data in slices.items()})

    def apply(
        self, decoded: Decoded, next_offset: int, witness: LogFingerprint | None = None
    ) -> None:
        """Count a decoded batch that ends before `next_offset`; `witness`: its last record.

        Either the whole batch is counted or, on any exception, none of it: new values are put
        together aside and swapped in at the end.
        """
        if absent := self.missing(decoded):
            raise RuntimeError(f"{slice_field(min(absent))} is stored but was not provided")
        columns, watermark_ms = decoded.columns, decoded.watermark.settled_ms
        series = self.registry.series_numbers(
            columns.series,
            np.bincount(columns.series_index, minlength=len(columns.series)).tolist(),
        )[columns.series_index]
        customer = self.registry.customer_numbers(
            columns.customers,
            np.bincount(columns.customer_index, minlength=len(columns.customers)).tolist(),
        )[columns.customer_index]
        added, unplaced = place_rejections(decoded, self._unplaced)
        counted = record(columns, series, customer, self._thresholds)
        added += counted
        staged: dict[SliceId, list[Aggregate]] = {}

        def add(of: SliceId, aggregates: Iterable[Aggregate]) -> None:
            if of not in staged:
                staged[of] = list(self._slices.get(of, ()))
            staged[of].extend(aggregates)

        for start_s, aggregate in added:
            for of in slices_of(start_s, self._merged_until_s, (watermark_ms or 0) // 1_000):
                add(of, (aggregate,))
        merged = self._advance_reach(watermark_ms)
        for level in range(1, len(LEVELS)):
            # With the slices that the level below has just got.
            stored = chain(self._slices, staged)
            for of in to_merge(stored, level, self._merged_until_s, merged):
                add(coarser(of), staged.get(of) or self._slices[of])
        totals = record_totals(
            columns, series, self._edges, [aggregate for _, aggregate in counted]
        )
        refused = rejection_counts(
            Counter(rejection.reason for rejection in decoded.rejections),
            len(decoded.duplicates_ms),
        )

        # From here on nothing can fail.
        for of, aggregates in staged.items():
            self._slices.pop(of, None)  # moves it to the recently used end
            self._slices[of] = aggregates
        self._dirty.update(staged)
        self.gaps = close_gap(self.gaps, columns.ended_at_ms, columns.arrived_ms)
        moved = (watermark_ms or 0) // 10_000 != (self.watermark.settled_ms or 0) // 10_000
        self.watermark, self._merged_until_s = decoded.watermark, merged
        self._unplaced = unplaced
        self._totals += [totals, refused]
        if len(self._totals) > _COMPACT_PARTS:
            self._totals = [Aggregate.merged(self._totals)]
        for of in staged:
            if len(self._slices[of]) > _COMPACT_PARTS:
                self._slices[of] = [Aggregate.merged(self._slices[of])]
        if moved:
            self._expire()
        if self.begun_at is None:
            self.begun_at = self.next_offset
        self.witness = witness or self.witness
        self.next_offset = next_offset

    def begin_at(self, offset: int) -> None:
        """Start counting at `offset`, the beginning of the log; no record before it is missing."""
        self.begun_at = self.next_offset = offset

    def lose(self, next_offset: int) -> None:
        """Resume at `next_offset`: the records before it are gone, or an operator skips them."""
        self.miss(next_offset - self.next_offset)
        self.next_offset = next_offset

    def begin_again(self, offset: int) -> None:
        """Resume at `offset` of a recreated log.

        The number of records missed in the old log is unknown.
        """
        self.miss(0)
        self.next_offset, self.witness, self.recent = offset, None, {}
        if self.last_set_back is not None:  # its offset is of the old log
            self.last_set_back = self.last_set_back._replace(offset=0, shift_ms=0)
        self._changed = True

    def miss(self, records: int, since_ms: int | None = None) -> None:
        """Note that records are gone that came after `since_ms`, by default the watermark."""
        self.lost_records += records
        from_ms = self.watermark.settled_ms if since_ms is None else since_ms
        self.gaps = open_gap(self.gaps, from_ms or 0, records)

    def missing_to_set_back(self, to_ms: int) -> list[SliceId]:
        """Return the slices that `set_back` will need and that are only in the store."""
        origins = set(self._rearrange(to_ms).origin.values())
        return [slice_id for slice_id in origins if slice_id not in self._slices]

    def set_back(self, command: str, to_ms: int, now_ms: int, shift_ms: int) -> None:
        """Set the watermark back to `to_ms`, as an operator commands once its clocks are right.

        All counts stay, at their own times; `rearrange` describes what becomes of their slices.
        `command`: its id, given at `now_ms`. `shift_ms`: as in `SetBack`. Raises ValueError if
        `refuse_set_back` gives a reason.
        """
        from_ms = self.watermark.settled_ms
        if (reason := refuse_set_back(from_ms, to_ms)) is not None or from_ms is None:
            raise ValueError(reason)
        changes = self._rearrange(to_ms)
        contents = {place: self._slices[source] for place, source in changes.origin.items()}
        for slice_id in changes.removed:
            self._delete(slice_id)
        self._slices.update(contents)
        self._dirty.update(contents)
        self.gaps = add_incomplete(
            self.gaps,
            incomplete_stretches(*(from_ms // 1_000, to_ms // 1_000, now_ms // 1_000), contents),
            to_ms,
            is_open=(from_ms - to_ms) // 1_000 > LEVELS[0].keep_s,
        )
        self._merged_until_s = self._reach_at(to_ms)
        since_ms = min(self.watermark.since_ms or to_ms, to_ms)
        self.watermark = Watermark.at(to_ms)._replace(since_ms=since_ms)
        furthest_ms = find_furthest_ms(from_ms, self.last_set_back)
        self.last_set_back = SetBack(
            command, from_ms, to_ms, self.next_offset, shift_ms, self.sequence + 1, furthest_ms
        )
        self._changed = True

    def _rearrange(self, to_ms: int) -> Rearrangement:
        watermark_s = (self.watermark.settled_ms or 0) // 1_000
        return rearrange({*self._slices, *self.index}, self._reach_at(to_ms), watermark_s)

    def mark_rebuilt(self, times: int) -> None:
        """Note that the state before this one was lost, for the `times`-th time."""
        self.rebuilt = times
        self._changed = True

    def mark_archived(self, at_ms: int) -> None:
        """Note when the state was written to the archive."""
        self.archived_at_ms = at_ms
        self._changed = True

    def snapshot(self, written_at_ms: int) -> Snapshot:
        """Return the changes to write so that the store equals this state.

        Changes of earlier snapshots that were not confirmed are included again.
        """
        self.sequence += 1
        if self._sent is not None:
            self._dirty |= self._sent[0] & self._slices.keys()
            self._deletes |= self._sent[1]
        fields: dict[str, bytes] = {}
        for of in sorted(self._dirty):
            self._slices[of] = [Aggregate.merged(self._slices[of])]
            fields[slice_field(of)] = encode_slice(of, self._slices[of][0])
            self.index[of] = self.sequence
        deletes = list(map(slice_field, sorted(self._deletes)))
        self._sent, self._dirty, self._deletes = (self._dirty, self._deletes), set(), set()
        fields["index"] = encode_index(self.index)
        self._totals = [Aggregate.merged(self._totals)]
        fields["totals"] = self._totals[0].pack()
        names = self.registry.series, self.registry.customers
        fields |= encode_names("series", names[0], self._names_stored[0])
        fields |= encode_names("cubes", names[1], self._names_stored[1])
        self._names_sent = len(names[0]), len(names[1])
        fields["meta"] = self._lineage.seal(
            fields,
            Meta(
                schema=SCHEMA,
                sequence=self.sequence,
                watermark_ms=self.watermark.time_ms,
                merged_until_s=tuple(self._merged_until_s),
                unplaced=self._unplaced,
                overflowed=dict(sorted(self.registry.overflowed.items())),
                reserved_since_ms=self.registry.reserved_since_ms,
                series=len(names[0]),
                customers=len(names[1]),
                edges=self._edges,
                written_at_ms=written_at_ms,
                since_ms=self.watermark.since_ms,
                lost_records=self.lost_records,
                gaps=tuple(self.gaps),
                rebuilt=self.rebuilt,
                begun_at=self.begun_at or 0,
                witness=self.witness,
                recent=dict(self.recent),
                archived_at_ms=self.archived_at_ms,
                newest_ms=self.watermark.newest_ms,
                unconfirmed=self.watermark.unconfirmed,
                offset=self.next_offset,
                anchor_ms=self.watermark.anchor_ms,
                set_back=self.last_set_back,
            ),
        )
        self._changed = False
        offsets, tokens = (self.stored_offset, self.next_offset), self.registry.tokens.unstored
        return Snapshot(self.sequence, *offsets, fields, deletes, dict(tokens))

    def confirm(self, snapshot: Snapshot) -> None:
        """The store holds `snapshot`, the last one taken, now."""
        self.stored_offset, self._names_stored = snapshot.to_offset, self._names_sent
        self.registry.tokens.confirm(snapshot.tokens)
        self._sent = None

    def repair(self, restored: Mapping[SliceId, bytes], lost: Sequence[SliceId] = ()) -> None:
        """Write slices again, and all remaining fields; give up `lost`, whose time gets a gap."""
        self.provide(restored)
        self._dirty.update(restored)
        for slice_id in lost:
            self._delete(slice_id)
        stretches = [(slice_id.start_s, slice_id.end_s) for slice_id in lost]
        self.gaps = add_incomplete(self.gaps, stretches, 0, is_open=False)
        self._names_stored, self._changed = (0, 0), True

    def evict(self, budget_bytes: int) -> None:
        """Drop slices that the store holds until the rest fits into the budget."""
        sizes = {of: sum(t.size_bytes for t in parts) for of, parts in self._slices.items()}
        unwritten = self._dirty | (self._sent[0] if self._sent is not None else set())
        for of in to_evict(sizes, unwritten, self._merged_until_s, budget_bytes):
            del self._slices[of]

    def _advance_reach(self, watermark_ms: int | None) -> list[int]:
        """Return how far each level reaches at this watermark; never less than before."""
        if watermark_ms is None:
            return self._merged_until_s
        return [*map(max, self._merged_until_s, reach_s(watermark_ms, self._lateness_s))]

    def _reach_at(self, watermark_ms: int) -> list[int]:
        """Return how far each level reaches after the watermark was set back to this time."""
        return [*map(min, self._merged_until_s, reach_s(watermark_ms, self._lateness_s))]

    def _expire(self) -> None:
        # In the steps in which this is called, so that cuts of the log into batches change nothing.
        watermark_s = (self.watermark.settled_ms or 0) // 10_000 * 10
        self.gaps = drop_expired(self.gaps, (watermark_s - HORIZON_S) * 1_000)
        for of in [*self._slices, *self.index]:
            if of.end_s <= watermark_s - LEVELS[of.level].keep_s:
                self._delete(of)

    def _delete(self, slice_id: SliceId) -> None:
        self._slices.pop(slice_id, None)
        self._dirty.discard(slice_id)
        if self.index.pop(slice_id, None) is not None:
            self._deletes.add(slice_id)
