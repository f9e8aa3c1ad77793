"""Reads the stored counts of one objective, and writes those that changed."""

from collections.abc import Sequence

from slo.engine.counting import RequestSelection
from slo.engine.minute_count_store import Checkpoints, MinuteCountStore
from slo.engine.minute_counts import MinuteCounts
from slo.engine.tracked import TrackedObjective, retention_days
from slo.policy.policy import ErrorBudgetObjective, Policy

# A worker restores damaged days within a minute. Without an archive nothing does: then the counts
# are stored again after this time.
RESTORED_WITHIN_S = 600


async def load_objective(
    store: MinuteCountStore,
    policy: Policy,
    objective: ErrorBudgetObjective,
    selection: RequestSelection,
    today: int,
    now_s: float,
) -> TrackedObjective:
    """Return an objective with its stored counts. `today`: a UTC day. Raises StoreError."""
    days = retention_days(objective)
    minute_counts = MinuteCounts(today + 2 - days, days)
    kept = TrackedObjective(policy, objective, selection, minute_counts)
    kept.head = await store.head(selection.id)
    kept.counted = dict(kept.head.reach)
    if await store.fill(selection.id, minute_counts):
        kept.damaged_until_s = now_s + RESTORED_WITHIN_S
    return kept


async def can_be_read_now(store: MinuteCountStore, objectives: Sequence[TrackedObjective]) -> bool:
    """Return whether all days can be read of an objective of which some were damaged."""
    for kept in objectives:
        if kept.damaged_until_s:
            again = MinuteCounts(kept.minute_counts.first_day, kept.minute_counts.days)
            if not await store.fill(kept.selection.id, again):
                return True
    return False


async def read_heads(store: MinuteCountStore, objectives: Sequence[TrackedObjective]) -> None:
    """Read which periods are closed, and which an operator reopened. Raises StoreError."""
    for kept in objectives:
        kept.head = await store.head(kept.selection.id)
        _drop_stored(kept)


async def store_objective(
    store: MinuteCountStore, kept: TrackedObjective, reach: Checkpoints
) -> None:
    """Write the counts and closed periods that changed; they include `reach`. Raises StoreError.

    The head must have been read just before.
    """
    for clock, tried in kept.tries:  # what another exporter has stored since
        if all(at <= kept.head.reach.get(one, (-1, -1)) for one, at in tried.items()):
            kept.minute_counts.dirty = {
                key: at for key, at in kept.minute_counts.dirty.items() if at > clock
            }
    kept.tries = [*kept.tries[-9:], (kept.minute_counts.clock, dict(reach))]
    dirty = dict(kept.minute_counts.dirty)
    kept.minute_counts.clock += 1
    closed_periods = {
        key: one for key, one in kept.fresh.items() if key not in kept.head.closed_periods
    }
    if not dirty and not closed_periods:
        return
    head = await store.write(kept.selection.id, reach, kept.packed(dirty), closed_periods)
    if head is not None:
        kept.head = head
        _drop_stored(kept)
        kept.minute_counts.dirty = {
            key: at for key, at in kept.minute_counts.dirty.items() if dirty.get(key) != at
        }


def _drop_stored(kept: TrackedObjective) -> None:
    """Leave the closed periods that are stored to the store, where an operator may reopen them."""
    kept.fresh = {
        key: one for key, one in kept.fresh.items() if key not in kept.head.closed_periods
    }
