"""Clusters of failures: the places, and the kinds of requests, that explain them.

Pure. Each round names the worst cluster and leaves it out, so that the next one finds another. A
cluster is a place, streamed requests or all others, or one of these in a place.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from exporters.board.incidents.localisation import (
    STREAM,
    STREAM_NAMES,
    Localisation,
    SeriesGroups,
    Split,
)
from exporters.windows.incremental import Sums
from exporters.windows.measured import failures, outcome_counts, stream_failures
from slo.policy.conditions import BURN_MIN_FAILURES
from streams.state.tables import Ints

EVERYWHERE = "everywhere"
CLUSTERS_MAX = 3
SHARE_MIN_REQUESTS = 20  # for their share of failures to be shown
STREAMING_SHARE = 0.8  # of the failures that are broken streams, for streaming to be named
_CONCENTRATED = 0.9  # share of the failures in one place, for it to be their cause perhaps
_REQUESTS = slice(len(STREAM_NAMES))  # rows of FailureCounts without the probes


@dataclass(frozen=True, slots=True)
class FailureCluster:
    """Failures in one place, or in all places alike if `where` is None."""

    where: Localisation | None
    stream: str | None  # one of STREAM_NAMES; None: streamed requests and others alike
    bad: int
    total: int
    # Of all requests that are not in this cluster or an earlier one; without probes if `stream` is
    # given, as they are of neither kind.
    bad_elsewhere: int
    total_elsewhere: int

    @property
    def place(self) -> str:
        return EVERYWHERE if self.where is None else self.where.words

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of its places; none if it is everywhere."""
        return () if self.where is None else self.where.names


class FailureCounts:
    """Failures and requests by series, in rows: streamed requests, other requests, probes.

    If it is not known which failures were streamed, all are in the second row.
    """

    def __init__(self, sums: Sums, groups: SeriesGroups, series: int) -> None:
        """Count; `series`: the number of series."""
        self._groups = groups
        by_stream = stream_failures(sums, series)
        self.is_stream_known = by_stream is not None
        if by_stream is None:
            bad, total = failures(sums, series)
            nothing = np.zeros_like(bad)
            by_stream = (
                np.stack((nothing, bad, nothing)),
                np.stack((nothing, total, nothing)),
            )
        self.bad, self.total = by_stream
        self._broken_streams = outcome_counts(sums.counts.values).get("stream_error", 0)

    def inside(self, where: Localisation | None, stream: str | None) -> npt.NDArray[np.bool_]:
        """Return a mask of the rows and series of a cluster."""
        mask = np.ones(self.bad.shape, np.bool_)
        if where is not None:
            mask &= self._groups.inside(where)
        if stream is not None:
            mask &= (np.arange(len(mask)) == STREAM_NAMES.index(stream))[:, None]
        return mask

    def share(self, series: Ints) -> float:
        """Return the share of failures of some series (1 for each of them, else 0); 0 of few."""
        bad, total = int((self.bad * series).sum()), int((self.total * series).sum())
        return bad / total if total >= SHARE_MIN_REQUESTS else 0.0

    def clusters(self, allowed: float) -> Iterator[FailureCluster]:
        """Yield the worst cluster, then the worst of the remaining requests, while it is too bad.

        `allowed`: the share of failures that is acceptable.
        """
        bad, total = self.bad, self.total
        for at in range(CLUSTERS_MAX):
            if int(bad.sum()) < BURN_MIN_FAILURES:
                return
            where, stream = self._localise(f"failures {at}", bad, total, allowed)
            mask = self.inside(where, stream)
            bad_inside, total_inside = int(bad[mask].sum()), int(total[mask].sum())
            if bad_inside < BURN_MIN_FAILURES or bad_inside <= allowed * total_inside:
                return
            compared = slice(None) if stream is None else _REQUESTS
            bad_compared, total_compared = int(bad[compared].sum()), int(total[compared].sum())
            yield FailureCluster(
                where,
                stream,
                bad_inside,
                total_inside,
                bad_compared - bad_inside,
                total_compared - total_inside,
            )
            if where is None and stream is None:
                return
            # Counts of the named cluster become 0, so that the next round finds another.
            bad, total = bad * ~mask, total * ~mask

    def is_spread(self, cluster: FailureCluster) -> bool:
        """Return whether no smaller place has nearly all failures of a cluster."""
        mask = self.inside(cluster.where, cluster.stream)
        splits = self._groups.splits((self.bad * mask).sum(axis=0), (self.total * mask).sum(axis=0))
        return not any(
            np.any(
                (split.bad > _CONCENTRATED * cluster.bad)
                & (split.total <= _CONCENTRATED * cluster.total)
            )
            for split in splits.values()
        )

    def recount(self, cluster: FailureCluster) -> FailureCluster:
        """Return a cluster of other counts with the counts of these."""
        mask = self.inside(cluster.where, cluster.stream)
        bad, total = int(self.bad[mask].sum()), int(self.total[mask].sum())
        compared = slice(None) if cluster.stream is None else _REQUESTS
        return replace(
            cluster,
            bad=bad,
            total=total,
            bad_elsewhere=int(self.bad[compared].sum()) - bad,
            total_elsewhere=int(self.total[compared].sum()) - total,
        )

    def _localise(
        self, question: str, bad: Ints, total: Ints, allowed: float
    ) -> tuple[Localisation | None, str | None]:
        """Return the place and the kind of requests that explain the failures best."""
        # A model that streams most of its requests must not be blamed for what breaks streams,
        # so both kinds of explanation compete, and the second is sought inside the first.
        splits = self._groups.splits(bad.sum(axis=0), total.sum(axis=0))
        best = self._groups.localise(question, splits | self._by_stream(bad, total), allowed)
        stream_of_all = None
        if best is None and self._is_of_streams(bad):
            stream_of_all = STREAM_NAMES[0]
        elif best is not None and best.dimension == STREAM:
            stream_of_all = best.names[0]
        if stream_of_all is not None:
            row = STREAM_NAMES.index(stream_of_all)
            splits = self._groups.splits(bad[row], total[row])
            return self._groups.localise(f"{question} place", splits, allowed), stream_of_all
        if best is None:
            return None, None
        if self._is_of_streams(bad):
            return best, STREAM_NAMES[0]
        inside = self._groups.inside(best)
        stream = self._groups.localise(
            f"{question} stream", self._by_stream(bad[:, inside], total[:, inside]), allowed
        )
        return best, None if stream is None else stream.names[0]

    def _is_of_streams(self, bad: Ints) -> bool:
        """Return whether nearly all failures are broken streams, as only streamed requests have.

        So few of them may be no evidence yet that the rest of the requests is well.
        """
        failed = int(bad.sum())
        # Of the first round only: the outcomes of what is left then are not known.
        return (
            self.is_stream_known
            and failed == int(self.bad.sum())
            and self._broken_streams >= STREAMING_SHARE * failed
        )

    def _by_stream(self, bad: Ints, total: Ints) -> dict[str, Split]:
        if not self.is_stream_known:
            return {}
        split = Split(STREAM_NAMES, bad[_REQUESTS].sum(axis=1), total[_REQUESTS].sum(axis=1))
        return {STREAM: split}
