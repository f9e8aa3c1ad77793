"""Whether a worker works: what its own signs of life say. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from streams.store.heartbeat import Heartbeat

# A checkpoint is due every second; so long without one, while records wait, is a stall.
STALLED_S = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one partition is: its worker's last sign of life, and the last checkpoint."""

    sign: Heartbeat
    offset: int | None  # of the first record not counted; None: nothing is counted yet
    written_at_s: float | None  # when the last checkpoint was written


def ill(found: Sequence[Progress], host: str, now_s: float, stale_after_s: float) -> str | None:
    """What is wrong with the worker on `host`, in one line; None if it works.

    A worker that has no partition is well as long as others serve them all. A halted partition is
    no reason to restart its worker: it would halt again.
    """
    if not found:
        return "no worker has claimed a partition yet"
    own = [one for one in found if one.sign.text("worker").rpartition(":")[0] == host]
    for one in own or found:
        age_s = one.sign.age_s(now_s)
        if age_s is None or age_s > stale_after_s:
            said = "none" if age_s is None else f"{age_s:.0f} s ago"
            return f"partition {one.sign.partition}: last sign of life: {said}"
    for one in own:
        if not one.sign.text("halted") and (stalled_s := _stalled_s(one, now_s)) is not None:
            return (
                f"partition {one.sign.partition}: records wait, and nothing was written for "
                f"{stalled_s:.0f} s"
            )
    return None


def _stalled_s(one: Progress, now_s: float) -> float | None:
    readable = one.sign.number("readable") or 0
    if one.offset is None or one.written_at_s is None or readable <= one.offset:
        return None
    age_s = now_s - one.written_at_s
    return age_s if age_s > STALLED_S else None
