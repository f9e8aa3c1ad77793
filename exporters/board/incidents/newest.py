"""The last seconds of a place that fails: how bad it is now, and whether it recovers.

Pure but for the places that recovered at the last refreshes. A minute shows the end of a fault too
late, so the last seconds are compared with it:

    minute     . . . x x x x x x x . .     7 of 12 fail
    newest                       x . .     1 of 3: too few to conclude from
    newest, later                . . .     0 of 3, where 7 of 12 would be 1.75
"""

from dataclasses import dataclass
from math import sqrt

from exporters.board.incidents.clusters import (
    SHARE_MIN_REQUESTS,
    FailureCluster,
    FailureCounts,
)

NEWEST_S = 20  # the slice of ten seconds that is filling, and the one before it
_DIFFERS = 0.1  # from the share of the minute, relative to it, to be worth its words
_RECOVERS_BELOW = 0.25  # share of the failures that the rate of the minute would give
_CHANCE_DEVIATIONS = 2.6  # of so few failures at an unchanged rate: about once in 200 refreshes
_STAYS_S = 10.0  # a place that recovered so shortly before needs no new evidence


@dataclass(frozen=True, slots=True)
class NewestFailures:
    """The failures of a cluster in the last seconds."""

    bad: int
    total: int
    share: float  # of `bad`
    age_s: float  # of the first request
    is_recovering: bool
    is_shown: bool  # the share says more than that of the minute


class Recovery:
    """Tells which clusters of failures recover."""

    def __init__(self) -> None:
        self._recovered_s: dict[tuple[str, str | None], float] = {}  # when each was last seen to

    def newest(
        self, cluster: FailureCluster, counts: FailureCounts, now_s: float, newest_s: float
    ) -> NewestFailures | None:
        """Return the last seconds of a cluster; None with too few requests, or of unknown kind.

        `counts`: of all requests since `newest_s`.
        """
        # Without the flag, the last seconds of streamed requests cannot be told from others.
        if cluster.stream is not None and not counts.is_stream_known:
            return None
        mask = counts.inside(cluster.where, cluster.stream)
        bad, total = int(counts.bad[mask].sum()), int(counts.total[mask].sum())
        if total < SHARE_MIN_REQUESTS:
            return None
        share, minute = bad / total, cluster.bad / cluster.total
        is_recovering = self._is_recovering(cluster, bad, total * minute, now_s)
        differs = abs(share - minute) >= _DIFFERS * minute
        return NewestFailures(bad, total, share, now_s - newest_s, is_recovering, differs)

    def _is_recovering(
        self, cluster: FailureCluster, bad: int, expected: float, now_s: float
    ) -> bool:
        """Return whether far fewer requests fail than `expected`, at the rate of the minute."""
        key = cluster.place, cluster.stream
        was_recovering = now_s - self._recovered_s.get(key, float("-inf")) <= _STAYS_S
        # The fewer failures the minute still has, the less they prove; so the last answer stays.
        is_sure = was_recovering or expected - bad > _CHANCE_DEVIATIONS * sqrt(expected)
        if bad > _RECOVERS_BELOW * expected or not is_sure:
            return False
        self._recovered_s[key] = now_s
        return True
