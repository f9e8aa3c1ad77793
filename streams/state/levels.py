"""How far each level of slices reaches, and which slices count an event.

Pure. A level reaches up to `merged_until_s`: before that time its slices hold all their events.
"""

from collections.abc import Iterable, Mapping, Sequence, Set

from streams.state.slices import LEVELS, SliceId


def reach_s(watermark_ms: int, lateness_s: int) -> list[int]:
    """Return by level the end of the last slice that ended `lateness_s` before the watermark."""
    until_s = watermark_ms // 1_000 - lateness_s
    # The finest level is merged from no other, so it has no reach.
    return [0, *(max(0, until_s // step_s * step_s) for step_s, _ in LEVELS[1:])]


def awaits_merging(slice_id: SliceId, merged_until_s: Sequence[int]) -> bool:
    """Return whether a slice is not yet part of a coarser one."""
    above = slice_id.level + 1
    return above < len(LEVELS) and slice_id.start_s >= merged_until_s[above]


def to_evict(
    sizes: Mapping[SliceId, int],
    unwritten: Set[SliceId],
    merged_until_s: Sequence[int],
    budget_bytes: int,
) -> list[SliceId]:
    """Return the slices to drop so that the rest fits into a budget; none that is `unwritten`.

    `sizes`: in bytes, the least recently used first. Slices that are part of a coarser one go
    first of all.
    """
    total, evicted = sum(sizes.values()), []
    for of in sorted(sizes, key=lambda slice_id: awaits_merging(slice_id, merged_until_s)):
        if total <= budget_bytes:
            break
        if of not in unwritten:
            evicted.append(of)
            total -= sizes[of]
    return evicted


def to_merge(
    slice_ids: Iterable[SliceId], level: int, before_s: Sequence[int], after_s: Sequence[int]
) -> list[SliceId]:
    """Return the slices that become part of `level` when the levels reach `after_s`, in order."""
    from_s, until_s = before_s[level], after_s[level]
    if from_s == until_s:
        return []
    # A set, as callers chain lists that share slices.
    return sorted(
        {of for of in slice_ids if of.level == level - 1 and from_s <= of.start_s < until_s}
    )


def coarser(slice_id: SliceId) -> SliceId:
    """Return the slice of the next level that contains a slice."""
    step_s = LEVELS[slice_id.level + 1].step_s
    return SliceId(slice_id.level + 1, slice_id.start_s // step_s * step_s)


def slices_of(start_s: int, merged_until_s: Sequence[int], watermark_s: int) -> list[SliceId]:
    """Return the slices that count an event of the 10 s slice at `start_s`.

    These are the slice itself, unless it has expired, and all coarser slices that reach it.
    """
    slice_ids = []
    for level, (step_s, keep_s) in enumerate(LEVELS):
        slice_id = SliceId(level, start_s // step_s * step_s)
        if level and start_s >= merged_until_s[level]:
            # Coarser levels reach less far, so none of them counts it either.
            break
        # An expired slice still counts until it is part of a coarser one.
        if awaits_merging(slice_id, merged_until_s) or slice_id.end_s > watermark_s - keep_s:
            slice_ids.append(slice_id)
    return slice_ids
