"""Offset admission: which batches may be counted, and when memory must be dropped.

Pure: no clock, no network. The worker asks here before it changes a partition's counts; the
simulation in tests/ drives the same code through a hundred thousand lives of a partition.

A batch is counted only if it is the next one of the log. Two numbers tell which batch that is: the
offset up to which the counts reach, and the epoch, which rises with every seek, so that a batch
fetched before a seek can be recognised:

    offsets   ...| read again, to learn recent request ids |  counted from here on ...
             read_from        expected_offset ->    counts.next_offset
"""

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from streams.state.snapshot import LogFingerprint, Snapshot
from streams.store.contract import Answer, Claimed, Lost
from streams.store.heartbeat import HaltReason

# The log must begin after the expected offset, or end before it, this often in a row until that
# is believed: one answer may come from a broker that lags behind.
CERTAIN = 3

FIXES = {
    HaltReason.DEAD_LETTERS: "fix their producer, then `tokenpulse partitions resume` "
    "sends those in the log to the dead-letter topic",
    HaltReason.UNREADABLE: "`tokenpulse partitions move` resumes after it",
    HaltReason.LOG_TRUNCATED: "`tokenpulse partitions move` to offset 0 counts the new log",
    HaltReason.LOG_RECREATED: "`tokenpulse partitions move` to offset 0 counts the new log",
    HaltReason.DAMAGED: "put a backup of Redis back, then `tokenpulse state repair`; or give up "
    "what is damaged with `tokenpulse state repair --accept-loss`",
}
OF_ANOTHER_LOG = (HaltReason.LOG_TRUNCATED, HaltReason.LOG_RECREATED)


class CountedOffsets(Protocol):
    """The part of a partition's state that admission depends on."""

    next_offset: int
    stored_offset: int
    witness: LogFingerprint | None

    def confirm(self, snapshot: Snapshot) -> None:
        """Note that the store holds `snapshot`."""
        ...


class UnreadableBatch(Protocol):
    """Why a record batch cannot be read."""

    @property
    def why(self) -> str:
        """Return one line for people."""
        ...


class FetchedBatch(Protocol):
    """Records that were fetched together."""

    @property
    def generation(self) -> int:
        """Return the generation of the consumer group when they were fetched."""
        ...

    @property
    def epoch(self) -> int:
        """Return the number of seeks made in this partition before they were fetched."""
        ...

    @property
    def fetch_offset(self) -> int:
        """Return the offset from which the log was read."""
        ...

    @property
    def next_offset(self) -> int:
        """Return the offset before which the log was read completely."""
        ...

    @property
    def highwater(self) -> int:
        """Return the end of the log."""
        ...

    @property
    def readable(self) -> int:
        """Return the end of its readable part, which is before an open transaction."""
        ...

    @property
    def unreadable(self) -> UnreadableBatch | None:
        """Return the fault if the log continues with a batch that cannot be read."""
        ...

    def fingerprint(self, offset: int) -> LogFingerprint | None:
        """Return the fingerprint of the record at an offset; None if there is no such record."""
        ...


@dataclass(frozen=True, slots=True)
class Halt:
    """Decision: read no further until an operator has looked at the partition."""

    reason: HaltReason
    offset: int
    detail: str

    @property
    def needs_repair(self) -> bool:
        """Return whether there is no state with which the partition could be resumed."""
        return self.reason is HaltReason.DAMAGED


@dataclass(frozen=True, slots=True)
class Drop:
    """Decision: ignore a batch of another owner or of an earlier seek."""


@dataclass(frozen=True, slots=True)
class Seek:
    """Decision: this is not the next batch, so fetch again at `offset`."""

    offset: int


@dataclass(frozen=True, slots=True)
class Count:
    """Decision: remember the ids of records before `since`, count those from it on."""

    since: int
    gone: int = 0  # records before the batch that Kafka no longer has


Decision = Drop | Seek | Count | Halt
C = TypeVar("C", bound=CountedOffsets)


@dataclass(slots=True)
class OffsetAdmission(Generic[C]):
    """A claim of one partition, with the counts that were loaded under it."""

    partition: int
    generation: int
    claim: Claimed
    counts: C
    read_from: int  # at or before counts.next_offset
    epoch: int = 0  # of the last seek made for this claim
    highwater: int = 0
    readable: int = 0
    halted: Halt | None = None
    _doubts: int = 0
    _read_to: int = field(init=False)
    # The last counted record, until the log has been compared with it.
    _unverified: LogFingerprint | None = field(init=False)

    def __post_init__(self) -> None:
        self._read_to, self._unverified = self.read_from, self.counts.witness

    def resume(self) -> None:
        """Admit batches again after an operator has looked at the halt."""
        self.halted, self._doubts, self._unverified = None, 0, self.counts.witness

    def note_seek(self, epoch: int) -> None:
        """Note that a seek was made for this claim: batches fetched from now on bear `epoch`."""
        self.epoch = epoch

    def admit(self, batch: FetchedBatch) -> Decision:
        """Decide about a batch.

        Before the next call the decision must have been carried out: after Count the counts end
        where the batch does, after Seek the seek is made.
        """
        # Before its end of the log is noted: a batch from before a seek may show an older one.
        if self.halted or batch.epoch < self.epoch:  # fetched before the last seek
            return Drop()
        self.highwater, self.readable = batch.highwater, batch.readable
        if batch.generation != self.generation:  # of another assignment
            return Drop()
        counted_to, expected = self.counts.next_offset, self.expected_offset
        if batch.epoch > self.epoch:  # a seek that was not made for this claim
            return Seek(expected)
        if batch.highwater < counted_to:
            return self._doubt() or self._halt(
                HaltReason.LOG_TRUNCATED,
                f"the log ends at offset {batch.highwater}, before the last counted record",
            )
        # Kafka may have deleted the records between, but one answer is no proof.
        if batch.fetch_offset > expected and (again := self._doubt()):
            return again
        if batch.unreadable is not None:
            if batch.fetch_offset < counted_to:  # its records are counted: only ids are missed
                self._read_to = counted_to
                return Seek(counted_to)
            return self._halt(HaltReason.UNREADABLE, batch.unreadable.why)
        if not self._is_same_log(batch):
            return self._halt(
                HaltReason.LOG_RECREATED,
                f"the record at offset {self._unverified and self._unverified.offset} is not the "
                "one that was counted: this is another log of the same name",
            )
        if batch.next_offset <= batch.fetch_offset:  # an answer without records
            return Drop()
        self._doubts, self._read_to = 0, max(self._read_to, batch.next_offset)
        return Count(self._first_to_count(batch), max(0, batch.fetch_offset - counted_to))

    @property
    def expected_offset(self) -> int:
        """Return the offset at which the next batch must begin."""
        return min(self._read_to, self.counts.next_offset)

    def _first_to_count(self, batch: FetchedBatch) -> int:
        return max(self.counts.next_offset, batch.fetch_offset)

    def _doubt(self) -> Seek | None:
        """Return a seek to ask Kafka again before a final conclusion; None once it is certain."""
        self._doubts += 1
        return Seek(self.expected_offset) if self._doubts < CERTAIN else None

    def _halt(self, reason: HaltReason, detail: str) -> Halt:
        return Halt(reason, self.counts.next_offset, detail)

    def _is_same_log(self, batch: FetchedBatch) -> bool:
        """Return False if the last counted record is another one in this log.

        If Kafka no longer has that record, there is no evidence, and the log is accepted.
        """
        known = self._unverified
        if known is None or batch.next_offset <= known.offset:
            return True
        # A batch that begins after the record cannot show whether it is the same.
        actual = batch.fingerprint(known.offset) if batch.fetch_offset <= known.offset else None
        if actual is not None and actual != known:
            return False
        self._unverified = None
        return True

    def confirm(self, snapshot: Snapshot, answer: Answer) -> None:
        """Take the store's answer to a checkpoint; raise Lost if it was rejected."""
        self.check_answer(answer)
        self.counts.confirm(snapshot)

    @staticmethod
    def check_answer(answer: Answer) -> None:
        """Raise Lost if the answer shows that another worker has written."""
        if answer in (Answer.FENCED, Answer.CONFLICT):
            raise Lost(f"checkpoint rejected: {answer}")
