"""What setting a watermark back changes in a partition's slices.

Pure. A watermark that stood too far ahead has expired fine slices, and merged others into coarser
levels. Under the lower watermark a level reaches less far, so its slices beyond that are taken
back. Each is deleted if the next finer level still holds all of its events, else it replaces the
finer slices there, at its own begin:

    before   level 1  |--a--|--b--|--c--|        level 0 keeps the slices of c only
    after    level 0  a.....b.....c1c2..         as the slices of a and b had expired

No event is counted twice, and none is lost. Where a slice was moved, events are known to the length
of that slice only.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from streams.state.slices import LEVELS, SliceId

Stretch = tuple[int, int]  # [from_s, to_s) of event time

# Stretches nearer to each other than this become one gap, as a partition keeps a few gaps only.
_JOIN_S = 3_600


class SetBack(NamedTuple):
    """A watermark that an operator has set back."""

    command: str  # id of the operator command
    from_ms: int  # the watermark before it
    to_ms: int
    offset: int  # of the first record after it
    shift_ms: int  # by which the arrivals of the records before are moved back
    checkpoint: int = 0  # number of the first one after it; 0 if it was not noted
    furthest_ms: int = 0  # where the watermark stood at most; slices before it may have expired


class Rearrangement(NamedTuple):
    """The changes of the stored slices."""

    origin: Mapping[SliceId, SliceId]  # new place -> the slice whose content is moved there
    removed: Collection[SliceId]


def find_furthest_ms(from_ms: int, before: SetBack | None) -> int:
    """Return where a watermark that is set back from `from_ms` stood at most."""
    if before is None:
        return from_ms
    # The state schema before 5 did not note it, only where the last one was set back from.
    return max(from_ms, before.furthest_ms, before.from_ms)


def refuse_set_back(watermark_ms: int | None, to_ms: int) -> str | None:
    """Return why a watermark cannot be set back to a time; None if it can.

    `watermark_ms`: None if it may still fall.
    """
    if watermark_ms is None:
        return "it has no watermark yet, or one that still follows its first events by itself"
    if to_ms >= watermark_ms:
        watermark = datetime.fromtimestamp(watermark_ms // 1_000, UTC)
        return f"its watermark, {watermark:%Y-%m-%dT%H:%M:%SZ}, is not after that time"
    return None


def rearrange(
    stored: Collection[SliceId], merged_until_s: Sequence[int], watermark_s: int
) -> Rearrangement:
    """Return the changes after which level k has no slice at or after `merged_until_s[k]`, k > 0.

    `watermark_s`: by which finer slices have expired.
    """
    origin = {slice_id: slice_id for slice_id in stored}
    for level in range(len(LEVELS) - 1, 0, -1):
        step_s, keep_s = LEVELS[level - 1]
        beyond = [
            slice_id
            for slice_id in origin
            if slice_id.level == level and slice_id.start_s >= merged_until_s[level]
        ]
        for slice_id in beyond:
            content = origin.pop(slice_id)
            first = SliceId(level - 1, slice_id.start_s)
            # Slices expire in order of time: if the first is kept, all finer ones are.
            if first.end_s > watermark_s - keep_s:
                continue
            for start_s in range(slice_id.start_s, slice_id.end_s, step_s):
                origin.pop(SliceId(level - 1, start_s), None)
            origin[first] = content
    return Rearrangement(
        {place: source for place, source in origin.items() if place != source},
        [slice_id for slice_id in stored if slice_id not in origin],
    )


def incomplete_stretches(
    from_s: int, to_s: int, now_s: int, moved: Collection[SliceId]
) -> list[Stretch]:
    """Return the stretches that are not known to the second that readers expect at `to_s`.

    These are the times up to `now_s`, the time of the command, whose slices had expired when the
    watermark was `from_s`, and those of `moved`, the coarser slices in the place of finer ones.
    """
    until_s = max(to_s, now_s)
    expired = ((to_s - keep_s, min(until_s, from_s - keep_s)) for _, keep_s in LEVELS)
    stretches = [stretch for stretch in expired if stretch[0] < stretch[1]]
    stretches += [(slice_id.start_s, slice_id.end_s) for slice_id in moved]
    joined: list[Stretch] = []
    for begin_s, end_s in sorted(stretches):
        if joined and begin_s <= joined[-1][1] + _JOIN_S:
            joined[-1] = joined[-1][0], max(joined[-1][1], end_s)
        else:
            joined.append((begin_s, end_s))
    return joined
