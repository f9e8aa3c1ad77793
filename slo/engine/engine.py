"""Keeps the per-minute counts of all objectives up to date with the state, and computes statuses.

A shell around the pure modules: state and counts are read here, the time comes as an argument.

A minute is counted from its one-minute slices of all partitions; before these are merged, from the
slices of ten seconds. Minutes that only coarser slices still contain (no exporter ran while they
were kept) go into the rest: sums stay exact, statuses unknown. The index of the state shows which
coarse slices changed since the counts were written.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import redis.asyncio as aioredis

from slo.engine.attainment import objective_status
from slo.engine.counting import RequestSelection
from slo.engine.daily import DayUptime, by_day
from slo.engine.maintenance import Maintenance
from slo.engine.minute_count_store import Checkpoints, DamagedWindowsError, MinuteCountStore
from slo.engine.minute_counts import DAY, Pair, sum_counts
from slo.engine.observed import alone_until_s, counted_until_s, first_known_minute, floors_s
from slo.engine.recount import Recount
from slo.engine.report import ObjectiveResult
from slo.engine.stored_objective import can_be_read_now, load_objective, read_heads, store_objective
from slo.engine.tracked import TrackedObjective
from slo.policy.indicators import LatencyRatio, RequestRatio
from slo.policy.policy import Policy
from streams.query.completeness import complete_until_s, final_until_s, waiting_partitions
from streams.query.folding import Folding
from streams.state.coverage import Coverage
from streams.state.slices import LEVELS, Aggregate, SliceId
from streams.store.contract import StoreError
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView, StateSnapshot, Version
from streams.store.slice_cache import unread

log = logging.getLogger(__name__)

STORE_EVERY_S = 60
# Of all partitions together; a first reading is spread over refreshes, so as not to delay the page.
SLICES_A_REFRESH = 600
_SLICES_A_PARTITION = 40  # at least
# After a longer pause the minute counts are read again: another exporter may have counted more.
_ONE_PAUSE_S = 3_600

SliceCounts = tuple[dict[str, Pair], ...]  # of one slice, one an objective


class Engine:
    """The objectives of some policies over the state of one consumer group and topic."""

    def __init__(
        self,
        policies: Sequence[Policy],
        client: "aioredis.Redis",
        group: str,
        topic: str,
        hash_of: Callable[[str], str],
        apart_tiers: Collection[str],
    ) -> None:
        """`hash_of`: customer id -> hash, for `token_of`. `apart_tiers`: of the settings."""
        self._hash_of, self._apart_tiers = hash_of, apart_tiers
        self._objectives = [
            (policy, objective)
            for policy in policies
            for objective in policy.error_budget_objectives()
        ]
        self._store = MinuteCountStore(client, group, topic)
        self._kept: list[TrackedObjective] = []
        self._counts: dict[tuple[int, SliceId], tuple[Version, SliceCounts]] = {}
        self._done: Checkpoints = {}
        self._taken = Counter[int]()  # by partition, slices in this refresh
        self._changed: set[int] = set()  # minutes to add up again
        self._recount = Recount()
        self._refreshed_s = self._stored_s = 0.0
        self.windows: list[Maintenance] = []
        self._damage: DamagedWindowsError | None = None  # no objective is judged meanwhile

    async def refresh(
        self, snapshot: StateSnapshot, now_s: float, keep: bool = True
    ) -> list[ObjectiveResult] | None:
        """Read the slices that changed, and compute statuses: `begin`, `load` and `finish` in one.

        All snapshots must come from the same reader. Raises StoreError, also if a maintenance
        window is damaged.
        """
        await self.begin(snapshot, now_s)
        await snapshot.load([self])
        results = await self.finish(snapshot, now_s, keep, may_close=keep)
        if self._damage is not None:
            raise self._damage
        return results

    async def begin(self, snapshot: StateSnapshot, now_s: float) -> None:
        """Prepare for a refresh at `now_s`, the wall clock. Raises StoreError."""
        self._taken.clear()
        if not self._objectives:
            return
        # The log decides which days are held: a clock that jumps months ahead drops no counts.
        today = counted_until_s(snapshot.views, snapshot.heartbeats, now_s) // 60 // DAY
        is_due = not self._kept or not 0 <= now_s - self._refreshed_s <= _ONE_PAUSE_S
        if not is_due and self._is_store_due(now_s):
            is_due = await can_be_read_now(self._store, self._kept)
        if is_due:
            await self._load(snapshot, today, now_s)
        self._refreshed_s = now_s
        for kept in self._kept:
            kept.minute_counts.move(today + 2 - kept.minute_counts.days)
            kept.minute_counts.running = int(now_s) // 60

    async def finish(
        self, snapshot: StateSnapshot, now_s: float, keep: bool = True, *, may_close: bool
    ) -> list[ObjectiveResult] | None:
        """Bring the minute counts up to date and judge.

        Return None while a first reading is under way, or a maintenance window is damaged. `keep`:
        whether to store the counts. `may_close`: False if the clock is not to be trusted, so that
        no period is closed. Raises StoreError.
        """
        if not self._objectives:
            return []
        views = snapshot.views
        floors, due = self._plan(views)
        self._count(views)
        if any(self._unread(snapshot, floors, due).values()):
            return None
        self._settle(views, floors, due)
        folding = Folding(snapshot)
        for kept in self._kept:
            kept.note_folding(folding)
        if not any(view.damage for view in views):  # marks stay, and damage is repaired
            self._see(views, snapshot.heartbeats, int(now_s))
        if self._is_store_due(now_s):
            self._stored_s = now_s
            over_s = final_until_s(views, snapshot.heartbeats) if may_close else 0
            await self._read_windows()
            if keep:  # before periods are closed, so that a reopened one is closed at once
                await read_heads(self._store, self._kept)
            if self._damage is None:
                for kept in self._kept:
                    kept.close_periods(self.windows, int(now_s), over_s)
                    kept.adjust(self.windows, int(now_s))
            if keep:
                await self._keep()
        if self._damage is not None:
            return None
        return [
            found
            for kept in self._kept
            for found in self._compute_status(
                kept, kept.minute_counts.names(kept.objective.scope.per), int(now_s)
            )
        ]

    def by_day(self, one: ObjectiveResult, days: int, now_s: int) -> tuple[DayUptime, ...]:
        """Return the uptime of an objective of the last `refresh` on each UTC day, oldest first.

        The current day is the last one; there are at most `days`, and as many as are counted.
        """
        kept = next(kept for kept in self._kept if kept.objective is one.objective)
        excluded = kept.excluded(self.windows)
        return by_day(
            kept.objective, kept.minute_counts, one.name, excluded, days, now_s, kept.days
        )

    def results_without_names(self, now_s: int) -> list[ObjectiveResult]:
        """Return the objectives per name for which the last `refresh` found no name.

        The name of such a result is empty, and it has the reason. It is in no metric.
        """
        return [
            result
            for kept in self._kept
            if not kept.minute_counts.names(kept.objective.scope.per)
            for result in self._compute_status(kept, [""], now_s)
        ]

    def counted_from(self, one: ObjectiveResult) -> int | None:
        """Return the first minute of the period with a counted request; None if there is none.

        `one`: a result of the last `refresh`.
        """
        kept = next(kept for kept in self._kept if kept.objective is one.objective)
        return kept.minute_counts.first_counted(one.name, *one.status.period)

    # -- reading -----------------------------------------------------------------------------------

    async def _load(self, snapshot: StateSnapshot, today: int, now_s: float) -> None:
        self._counts, self._done, self._kept, self._changed = {}, {}, [], set()
        self._recount = Recount()
        token_of = partial(snapshot.token_of, self._hash_of)
        for policy, objective in self._objectives:
            selection = RequestSelection(policy, objective, token_of, self._apart_tiers)
            kept = await load_objective(self._store, policy, objective, selection, today, now_s)
            self._kept.append(kept)
        # Slices that all objectives have counted are not read again.
        for partition in {one for kept in self._kept for one in kept.counted}:
            self._done[partition] = min(
                kept.counted.get(partition, (-1, -1)) for kept in self._kept
            )

    def missing(self, snapshot: StateSnapshot) -> Mapping[int, Sequence[SliceId]]:
        """Return the slices without counts, newest first, as far as one refresh may read them."""
        views = snapshot.views
        if not self._kept or not views:
            return {}
        floors, due = self._plan(views)
        share = max(SLICES_A_REFRESH // len(views), _SLICES_A_PARTITION)
        return {
            partition: slice_ids[: max(share - self._taken[partition], 0)]
            for partition, slice_ids in self._unread(snapshot, floors, due).items()
        }

    def take(
        self,
        snapshot: StateSnapshot,
        view: PartitionView,
        slice_id: SliceId,
        aggregate: Aggregate,
    ) -> None:
        """Count the requests of a slice for every objective."""
        counts = tuple(
            kept.selection.count(
                aggregate, snapshot.series, snapshot.customers, slice_id.start_s, slice_id.end_s
            )
            for kept in self._kept
        )
        self._counts[view.partition, slice_id] = (view.version(slice_id), counts)
        self._taken[view.partition] += 1
        for kept in self._kept:
            kept.note_gaps(snapshot.series, slice_id, aggregate)
        if slice_id.level <= 1:
            self._changed.add(slice_id.start_s // 60)

    def _plan(self, views: Sequence[PartitionView]) -> tuple[list[int], set[SliceId]]:
        """Return the floors of the levels, and the coarser slices to count."""
        self._drop_other_states(views)
        floors = floors_s(views)
        for view in views:
            counted = [(kept.minute_counts, kept.counted_until(view)) for kept in self._kept]
            if self._recount.start_if_set_back(view, floors[1], counted):
                self._counts.clear()
        return floors, self._coarse(views, floors)

    def _drop_other_states(self, views: Sequence[PartitionView]) -> None:
        """Forget counts of states that were lost or set back: others have their numbers now."""
        for view in views:
            rebuilt, sequence = self._done.get(view.partition, (-1, -1))
            if sequence >= 0 and (rebuilt != view.meta.rebuilt or sequence > view.meta.sequence):
                del self._done[view.partition]
                self._counts = {
                    key: held for key, held in self._counts.items() if key[0] != view.partition
                }

    def _unread(
        self, snapshot: StateSnapshot, floors: Sequence[int], due: set[SliceId]
    ) -> dict[int, list[SliceId]]:
        """Return, by partition, the slices without counts of their present version, newest first.

        `floors`: by level, from where on its slices are kept. `due`: coarser slices to count.
        """

        def select(view: PartitionView) -> list[SliceId]:
            merged_s = view.meta.merged_until_s[1]
            # A minute is read at one level only: 1 once it is merged, else 0.
            selected = [
                slice_id
                for slice_id in view.index
                if slice_id in due
                or (
                    slice_id.level <= 1
                    and slice_id.start_s >= floors[1]
                    and (slice_id.start_s >= merged_s) == (slice_id.level == 0)
                )
            ]
            return sorted(selected, key=lambda slice_id: -slice_id.start_s)

        return unread(snapshot, select, self._counts)

    def _coarse(self, views: Sequence[PartitionView], floors: Sequence[int]) -> set[SliceId]:
        """Return the coarser slices that changed since the last settling and are kept alone."""
        earliest_s = min(kept.minute_counts.begin for kept in self._kept) * 60
        until_s = alone_until_s(views, floors)
        due: set[SliceId] = set()
        for view in views:
            _, sequence = self._done.get(view.partition, (-1, -1))
            due.update(
                of
                for of, written in view.index.items()
                if of.level >= 2
                and (written > sequence or self._recount.includes(of))
                and max(floors[of.level], earliest_s) <= of.start_s < until_s[of.level]
            )
        return due

    def _count(self, views: Sequence[PartitionView]) -> None:
        """Add up the changed minutes over the partitions."""
        for minute in self._changed:
            parts: list[SliceCounts] = []
            for view in views:
                if minute * 60 < view.meta.merged_until_s[1]:
                    slices = [SliceId(1, minute * 60)]
                else:
                    slices = [SliceId(0, minute * 60 + ten) for ten in range(0, 60, 10)]
                known = [self._counts.get((view.partition, of)) for of in slices]
                parts += [one[1] for one in known if one is not None]
            for at, kept in enumerate(self._kept):
                kept.minute_counts.count(minute, sum_counts(part[at] for part in parts))
        self._changed.clear()

    def _settle(
        self, views: Sequence[PartitionView], floors: Sequence[int], due: set[SliceId]
    ) -> None:
        """Put the coarser slices into the rest, and drop expired minutes; all slices are read."""
        for of in sorted(due):  # finer ones first
            parts = [
                self._counts[view.partition, of][1]
                for view in views
                if (view.partition, of) in self._counts
            ]
            for at, kept in enumerate(self._kept):
                kept.minute_counts.reconcile(
                    of.start_s // 60,
                    LEVELS[of.level].step_s // 60,
                    sum_counts(part[at] for part in parts),
                )
        indexes = {view.partition: view.index for view in views}
        self._counts = {
            (partition, of): held
            for (partition, of), held in self._counts.items()
            if of.level <= 1 and of.start_s >= floors[1] and of in indexes.get(partition, ())
        }
        self._done = {view.partition: (view.meta.rebuilt, view.meta.sequence) for view in views}
        for kept in self._kept:
            kept.counted = dict(self._done)
        self._recount.end()

    def _see(self, views: Sequence[PartitionView], signs: Sequence[Heartbeat], now_s: int) -> None:
        """Mark the minutes that are known whole, and those with missing records."""
        coverage = Coverage.of(view.meta for view in views)
        floor_s, first = floors_s(views)[1], first_known_minute(views, coverage)
        # No record of a waiting partition is counted, so no minute is complete.
        is_known = views and not waiting_partitions(views, signs)
        until_s = min([now_s, *complete_until_s(views, signs)]) if is_known else 0
        for kept in self._kept:
            for gap in coverage.gaps:
                to_ms = gap.to_ms if gap.to_ms is not None else now_s * 1_000
                kept.minute_counts.lose(gap.from_ms // 60_000, -(-to_ms // 60_000))
            if first is not None:
                kept.minute_counts.see(max(-(-floor_s // 60), first), until_s // 60)

    # -- judging and storing -----------------------------------------------------------------------

    def _is_store_due(self, now_s: float) -> bool:
        # Also if the clock was set back since: windows are obeyed and counts are stored at once.
        return not 0 <= now_s - self._stored_s < STORE_EVERY_S

    def _compute_status(
        self, kept: TrackedObjective, names: Iterable[str], now_s: int
    ) -> Iterable[ObjectiveResult]:
        excluded = kept.excluded(self.windows)
        for name in names:
            # Requests are judged as they come; minutes and slices change once they are over.
            same: object = None
            if not isinstance(kept.objective.indicator, RequestRatio | LatencyRatio):
                until = kept.minute_counts.folded_until.get(name)
                same = (now_s // 60, kept.minute_counts.settled(name), until, *excluded)
            if same is None or kept.judged.get(name, (None,))[0] != same:
                stands = objective_status(
                    kept.objective, kept.minute_counts, name, excluded, now_s, kept.gaps
                )
                kept.judged[name] = (same, stands)
            yield ObjectiveResult(
                kept.policy,
                kept.objective,
                name,
                kept.selection.customer,
                kept.judged[name][1],
                tuple(kept.closed_periods(name)),
                kept.adjusted.get(name, ()),
                tuple(kept.reopenings(name)),
            )

    async def _read_windows(self) -> None:
        try:
            self.windows, self._damage = await self._store.windows(), None
        except DamagedWindowsError as error:
            log.error("%s; no objective is judged", error)
            self._damage = error

    async def _keep(self) -> None:
        try:
            for kept in self._kept:
                if self._refreshed_s >= kept.damaged_until_s:
                    await store_objective(self._store, kept, self._done)
        except StoreError as error:  # what is known stays known, and the next try writes it all
            log.warning("%s; minute counts are not stored", error)
