"""Headers of a dead letter: the origin of a rejected record, and the rule that it broke.

Pure.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

# Of a dead letter that came over HTTP the offset is the number of its request times this, plus its
# place in the request. The largest limit of `intake.max_records`.
RECORDS_PER_REQUEST = 100_000
_PREFIX = "tokenpulse."
_NULL_VALUE = "null_value"  # present if the record had no value: a dead letter always has one


class DeadLetterHeaders(NamedTuple):
    """The headers that a worker adds to a rejected record. Topic to timestamp are the event's."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    reason: str  # one of events.fields.REASONS
    detail: str
    has_value: bool

    def encode(self) -> list[tuple[str, bytes]]:
        """Return the headers as Kafka takes them."""
        texts = {name: str(value) for name, value in self._asdict().items() if name != "has_value"}
        if not self.has_value:
            texts[_NULL_VALUE] = "true"
        return [(_PREFIX + name, text.encode()) for name, text in texts.items()]

    @classmethod
    def parse(cls, headers: Iterable[tuple[str, bytes]]) -> Self:
        """Read the headers of a record.

        Raises KeyError or ValueError if no worker wrote them, as other programs may write there.
        """
        texts = {
            name.removeprefix(_PREFIX): value.decode(errors="replace")
            for name, value in headers
            if name.startswith(_PREFIX)
        }
        return cls(
            topic=texts["topic"],
            partition=int(texts["partition"]),
            offset=int(texts["offset"]),
            timestamp_ms=int(texts["timestamp_ms"]),
            reason=texts["reason"],
            detail=texts["detail"],
            has_value=_NULL_VALUE not in texts,
        )
