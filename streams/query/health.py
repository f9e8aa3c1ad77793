"""Whether a worker makes progress, from its heartbeats and checkpoints. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from streams.store.heartbeat import Heartbeat

# A checkpoint is due every second. A minute without one, while records wait, is a stall.
STALLED_S = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The last heartbeat and the last checkpoint of one partition."""

    heartbeat: Heartbeat
    offset: int | None  # of the first record not counted; None: no record is counted yet
    written_at_s: float | None  # when the last checkpoint was written


def worker_problem(
    partitions: Sequence[Progress], host: str, now_s: float, stale_after_s: float
) -> str | None:
    """Return the problem of the worker on `host` in one line; None if it works.

    A worker without a partition works if the other workers serve all of them. A halted partition is
    no problem here: a restarted worker would halt again.
    """
    if not partitions:
        return "no worker has claimed a partition yet"
    own = [part for part in partitions if _host_of(part.heartbeat) == host]
    for part in own or partitions:
        age_s = part.heartbeat.age_s(now_s)
        if age_s is None or age_s > stale_after_s:
            age = "none" if age_s is None else f"{age_s:.0f} s ago"
            return f"partition {part.heartbeat.partition}: last heartbeat: {age}"
    for part in own:
        stalled_s = _stalled_s(part, now_s)
        if stalled_s is not None and not part.heartbeat.text("halted"):
            return (
                f"partition {part.heartbeat.partition}: records wait, and no checkpoint was "
                f"written for {stalled_s:.0f} s"
            )
    return None


def _host_of(heartbeat: Heartbeat) -> str:
    # A worker is named host:process.
    return heartbeat.text("worker").rpartition(":")[0]


def _stalled_s(part: Progress, now_s: float) -> float | None:
    """Return the seconds without a checkpoint while records wait; None if there is no stall."""
    readable = part.heartbeat.number("readable") or 0
    if part.offset is None or part.written_at_s is None or readable <= part.offset:
        return None
    age_s = now_s - part.written_at_s
    return age_s if age_s > STALLED_S else None
