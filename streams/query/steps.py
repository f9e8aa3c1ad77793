"""The steps of a report: only at some starts and lengths do they consist of whole slices. Pure."""

from streams.state.slices import LEVELS
from streams.state.windows import kept_step_s

DAY_S = 86_400


def step_starts(from_s: int, to_s: int, step_s: int) -> range:
    """Return the starts of the steps from before `from_s` to after `to_s`.

    They are multiples of the step: only there are slices exact.
    """
    return range(from_s // step_s * step_s, -(-to_s // step_s) * step_s, step_s)


def exact_step_s(step_s: int, from_s: int, watermark_s: int) -> int:
    """Return the shortest step from `step_s` on that divides a day and has exact slices."""
    # Steps start at midnight UTC, so their length must divide a day.
    while DAY_S % step_s:
        step_s += LEVELS[0].step_s
    # Old slices are merged into longer ones. Their length must divide the step of the answer, and
    # a longer step starts earlier, where the slices may be longer still.
    while step_s % (kept_s := kept_step_s(from_s // step_s * step_s, watermark_s)):
        step_s = kept_s * -(-step_s // kept_s)
        while DAY_S % step_s:
            step_s += kept_s
    return step_s
