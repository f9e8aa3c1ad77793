"""A few records in which a field was rejected, for `tokenpulse rejected`.

Pure. Only the place of a record is kept, as its values may be personal data: the record itself is
in Kafka. Once between two heartbeats the newest records of each fault are taken. They travel in the
heartbeat, as exemplars do; no state contains them. A worker that takes a partition over starts
without, and its first heartbeat replaces those of the previous owner.
"""

from collections import deque
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from streams.events.columns import Columns
from streams.events.faults import Fault, faults_in

KEPT_PER_FAULT = 5  # of a partition: about 50 bytes each in its heartbeat

_Count = Annotated[int, msgspec.Meta(ge=0)]


class FieldSample(NamedTuple):
    """A record of which one field was rejected, or marked."""

    field: str
    reason: str  # one of FIELD_REASONS
    offset: _Count
    timestamp_ms: int  # Kafka's


_SAMPLES = msgspec.json.Decoder(list[FieldSample])


class FieldSamples:
    """The samples of one partition."""

    def __init__(self) -> None:
        self._newest: dict[Fault, deque[FieldSample]] = {}
        self._taken = np.uint64(0)  # bits of the faults sampled since the last heartbeat
        self._sent: str | None = None  # with the last heartbeat; None before the first one

    def sample(
        self, offsets: Sequence[int], timestamps_ms: Sequence[int], columns: Columns
    ) -> None:
        """Take the newest records of a counted batch for each fault that is due.

        `offsets`, `timestamps_ms`: of the batch's records, rejected ones included.
        """
        # A producer that is always wrong must not cost more than one look per heartbeat.
        due = columns.faults & ~self._taken
        for (field, reason), mask in faults_in(due):
            newest = self._newest.setdefault((field, reason), deque(maxlen=KEPT_PER_FAULT))
            for position in columns.position[mask][-KEPT_PER_FAULT:].tolist():
                newest.append(
                    FieldSample(field, reason, offsets[position], timestamps_ms[position])
                )
        if due.any():
            self._taken |= np.bitwise_or.reduce(due)

    def unsent(self) -> str | None:
        """Return the text for the next heartbeat; None if the last one had the same."""
        samples = [sample for newest in self._newest.values() for sample in newest]
        text = msgspec.json.encode(samples).decode() if samples else ""
        return text if text != self._sent else None

    def mark_sent(self, text: str | None) -> None:
        """Note that a heartbeat with `text` was sent: each fault is due again."""
        self._sent, self._taken = text if text is not None else self._sent, np.uint64(0)


def parse_samples(text: str) -> list[FieldSample]:
    """Return the samples in a heartbeat; none if it is of another version."""
    try:
        return _SAMPLES.decode(text) if text else []
    except msgspec.DecodeError:
        return []
