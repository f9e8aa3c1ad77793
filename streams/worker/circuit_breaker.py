"""Stops a partition when too much of it would go to the dead-letter topic.

Pure. A broken producer is not to be answered by moving its whole traffic aside: the partition
waits, loses nothing, and a person decides. After Sentry's Arroyo, whose dead-letter policies have
the same two limits, a ratio and a run (https://getsentry.github.io/arroyo/).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class Breaker:
    """Looks at one partition's records in the order of the log."""

    def __init__(self, ratio: float, records: int, run: int) -> None:
        """Trips when more than `ratio` of the last `records` were refused, or `run` in a row;
        a ratio of 1 and a run of 0 never do."""
        self._ratio, self._records, self._run = ratio, records, run
        self._recent: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)

    def look(self, size: int, refused: Sequence[int]) -> str | None:
        """Judge a batch of `size` records of which those at `refused` are; what is wrong, or None.

        A batch that trips it is forgotten again, so that it is judged anew when it is read again.
        """
        marks = np.zeros(size, np.bool_)
        marks[list(refused)] = True
        seen = np.concatenate((self._recent, marks))
        if found := self._wrong(seen):
            return found
        self._recent = seen[-max(self._records, self._run) :]
        return None

    def forget(self) -> None:
        """Somebody wants a batch to pass unjudged; what comes after it is judged anew."""
        self._recent = np.zeros(0, np.bool_)

    def _wrong(self, seen: npt.NDArray[np.bool_]) -> str | None:
        if not seen.any():
            return None
        sums = np.concatenate(([0], np.cumsum(seen)))
        if self._run and len(seen) >= self._run:
            longest = int((sums[self._run :] - sums[: -self._run]).max())
            if longest == self._run:
                return f"{self._run} records in a row were refused"
        if len(seen) >= self._records:
            most = int((sums[self._records :] - sums[: -self._records]).max())
            if most > self._ratio * self._records:
                return f"{most} of {self._records} records were refused"
        return None
