"""Stops a partition when too many of its records would go to the dead-letter topic.

Pure. If a producer is broken, moving all of its traffic aside would hide it: the partition waits
instead, loses no record, and an operator decides. As in Sentry's Arroyo, a dead-letter policy has
two limits, a ratio and a run (https://getsentry.github.io/arroyo/).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class CircuitBreaker:
    """Checks the records of one partition in the order of the log."""

    def __init__(self, ratio: float, records: int, run: int) -> None:
        """Trip when more than `ratio` of the last `records` were rejected, or `run` in a row.

        A ratio of 1 and a run of 0 never trip.
        """
        self._ratio, self._records, self._run = ratio, records, run
        self._recent: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)  # rejected or not, by record
        self._accepts_present = False  # an operator accepts rejected records up to the log's end
        self._accepted_until = 0  # that end, set by the first batch after the command

    def accept_present(self) -> None:
        """Let the records pass up to the end of the log as the next batch shows it."""
        self._accepts_present = True

    def end_acceptance(self) -> None:
        """Check all records again: those that an operator accepted were of another log."""
        self._accepts_present, self._accepted_until = False, 0

    def check_log(
        self, next_offset: int, log_end: int, size: int, rejected: Sequence[int]
    ) -> str | None:
        """Check as `check`, unless an operator accepted the records.

        The batch begins at `next_offset` of a log that ends at `log_end`.
        """
        if self._accepts_present:
            # Records that are produced after the command are checked again.
            self._accepts_present, self._accepted_until = False, log_end
        if next_offset < self._accepted_until:
            self.reset()
            return None
        return self.check(size, rejected)

    def check(self, size: int, rejected: Sequence[int]) -> str | None:
        """Check a batch of `size` records, rejected at the positions `rejected`.

        Return why it trips, or None. A batch that trips is not remembered, so that it is checked
        anew when it is read again.
        """
        batch = np.zeros(size, np.bool_)
        batch[list(rejected)] = True
        recent = np.concatenate((self._recent, batch))
        if reason := self._reason(recent):
            return reason
        # Neither limit looks further back.
        self._recent = recent[-max(self._records, self._run) :]
        return None

    def reset(self) -> None:
        """Forget all records: an operator lets them pass, and later ones are checked anew."""
        self._recent = np.zeros(0, np.bool_)

    def _reason(self, recent: npt.NDArray[np.bool_]) -> str | None:
        if not recent.any():
            return None
        # sums[b] - sums[a] is the number of rejected records from a to b.
        sums = np.concatenate(([0], np.cumsum(recent)))
        if self._run and len(recent) >= self._run:
            longest = int((sums[self._run :] - sums[: -self._run]).max())
            if longest == self._run:
                return f"{self._run} records in a row were rejected"
        if len(recent) >= self._records:
            most = int((sums[self._records :] - sums[: -self._records]).max())
            if most > self._ratio * self._records:
                return f"{most} of {self._records} records were rejected"
        return None
