"""Which stretches of event time are counted whole, and where records are known to be missing.

Pure. A record is missing if it was gone from Kafka before it was counted, or if an operator skipped
it. Records that still wait in Kafka are not missing: they are the lag.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from streams.state.snapshot import Gap, Meta


@dataclass(frozen=True, slots=True)
class Coverage:
    """The stretches that are missing in the states of all partitions of a topic."""

    since_ms: int | None  # earlier times are not whole; None: no time is
    gaps: tuple[Gap, ...]  # of all partitions, by time; none overlaps another
    lost_records: int  # all that were ever missed, also those whose gap is too old to be kept

    @classmethod
    def of(cls, metas: Iterable[Meta]) -> Self:
        """Combine the gaps of all partitions' states."""
        metas = list(metas)
        # If counting began in the middle of a log, the time before the first event is unknown, and
        # without an event all time is.
        begun_ms = [0, *(meta.since_ms for meta in metas if meta.begun_at)]
        known_ms = [at_ms for at_ms in begun_ms if at_ms is not None]
        return cls(
            since_ms=max(known_ms) if len(known_ms) == len(begun_ms) else None,
            gaps=_join(gap for meta in metas for gap in meta.gaps),
            lost_records=sum(meta.lost_records for meta in metas),
        )

    def complete(self, from_s: int, to_s: int) -> bool:
        """Return whether no record of [from_s, to_s) is known to be missing, in any partition."""
        if self.since_ms is None or max(from_s, 0) * 1_000 < self.since_ms:
            return False
        return not any(
            gap.from_ms < to_s * 1_000 and (gap.to_ms is None or from_s * 1_000 < gap.to_ms)
            for gap in self.gaps
        )


def _join(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    found: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: gap.from_ms):
        last = found[-1] if found else None
        if last is None or (last.to_ms is not None and last.to_ms <= gap.from_ms):
            found.append(gap)
            continue
        # A gap without an end leaves the joined one open too.
        ends_ms = [end_ms for end_ms in (last.to_ms, gap.to_ms) if end_ms is not None]
        to_ms = max(ends_ms) if len(ends_ms) == 2 else None
        found[-1] = Gap(last.from_ms, to_ms, last.records + gap.records)
    return tuple(found)
