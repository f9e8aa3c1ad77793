"""Offset admission: which batches may be counted, and when memory must be dropped.

Pure: no clock, no network. The pipeline asks here before it does anything to a partition's counts;
the simulation in tests/ drives the same code through a hundred thousand lives.

A batch is counted only if it is the next one of the log. Which batch that is, follows from two
numbers: the offset up to which the counts reach, and the epoch, which rises with every seek, so
that what was fetched before a seek is known for what it is:

    offsets   ...| read again, to know recent request ids |  counted from here on ...
             read_from        wanted ->           counts.next_offset
"""

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from streams.state.snapshot import LogFingerprint, Snapshot
from streams.store.contract import Answer, Claimed, Lost
from streams.store.heartbeat import HaltReason

# The log must begin after the wanted offset, or end before it, this often in a row to be believed.
CERTAIN = 3


class Counts(Protocol):
    """The part of a partition's state that custody depends on."""

    next_offset: int
    stored_offset: int
    witness: LogFingerprint | None

    def confirm(self, snapshot: Snapshot) -> None:
        """The store holds `snapshot` now."""
        ...


class Trouble(Protocol):
    """Why a record batch cannot be read."""

    @property
    def why(self) -> str:
        """One line for people."""
        ...


class Reading(Protocol):
    """Records as they were fetched together."""

    @property
    def generation(self) -> int:
        """Of the consumer group when they were fetched."""
        ...

    @property
    def epoch(self) -> int:
        """Seeks made in this partition before they were fetched."""
        ...

    @property
    def fetch_offset(self) -> int:
        """The log was read from here..."""
        ...

    @property
    def next_offset(self) -> int:
        """... to here, with nothing left out that should be counted."""
        ...

    @property
    def highwater(self) -> int:
        """Where the log ended."""
        ...

    @property
    def readable(self) -> int:
        """Where what may be read of it ended: before an open transaction."""
        ...

    @property
    def unreadable(self) -> Trouble | None:
        """Set where the log goes on with something that cannot be read."""
        ...

    def fingerprint(self, offset: int) -> LogFingerprint | None:
        """What the record at an offset looks like; None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Halt:
    """A partition goes no further until somebody has looked at it."""

    why: HaltReason
    at: int  # offset
    detail: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Not ours, or seen before: nothing to do."""


@dataclass(frozen=True, slots=True)
class Seek:
    """Not the next batch: read on at `to`."""

    to: int


@dataclass(frozen=True, slots=True)
class Count:
    """Records before `since` are only remembered, those from it on are counted."""

    since: int
    gone: int = 0  # records before the batch that Kafka no longer has


Admission = Drop | Seek | Count | Halt
C = TypeVar("C", bound=Counts)


@dataclass(slots=True)
class OffsetAdmission(Generic[C]):
    """A partition that was claimed, and the counts that go with it."""

    partition: int
    generation: int
    claim: Claimed
    counts: C
    read_from: int  # at or before counts.next_offset
    epoch: int = 0  # of the seek this custody made last
    highwater: int = 0
    readable: int = 0
    halted: Halt | None = None
    _doubts: int = 0
    _read_to: int = field(init=False)
    _unproven: LogFingerprint | None = field(init=False)

    def __post_init__(self) -> None:
        self._read_to, self._unproven = self.read_from, self.counts.witness

    def resume(self) -> None:
        """Somebody has looked at what halted it."""
        self.halted, self._doubts, self._unproven = None, 0, self.counts.witness

    def sought(self, epoch: int) -> None:
        """A seek was made for this custody, and every batch from now on says so."""
        self.epoch = epoch

    def admit(self, batch: Reading) -> Admission:
        """What to do with a batch. Of Count, the counts must have been moved past it, of Seek, the
        seek must have been made, before the next batch is shown."""
        if self.halted or batch.epoch < self.epoch:
            return Drop()
        self.highwater, self.readable = batch.highwater, batch.readable
        if batch.generation != self.generation:
            return Drop()
        expected, wanted = self.counts.next_offset, self.wanted
        if batch.epoch > self.epoch:  # somebody else moved the position meanwhile
            return Seek(wanted)
        if batch.highwater < expected:
            return self._doubt() or self._halt(
                HaltReason.LOG_TRUNCATED,
                f"the log ends at offset {batch.highwater}, before what was counted of it",
            )
        if batch.fetch_offset > wanted and (again := self._doubt()):
            return again
        if batch.unreadable is not None:
            if batch.fetch_offset < expected:  # it was only to be remembered
                self._read_to = expected
                return Seek(expected)
            return self._halt(HaltReason.UNREADABLE, batch.unreadable.why)
        if not self._proven(batch):
            return self._halt(
                HaltReason.LOG_RECREATED,
                f"the record at offset {self._unproven and self._unproven.offset} is not the one "
                "that was counted: this is another log of the same name",
            )
        if batch.next_offset <= batch.fetch_offset:
            return Drop()
        self._doubts, self._read_to = 0, max(self._read_to, batch.next_offset)
        return Count(self._first_to_count(batch), max(0, batch.fetch_offset - expected))

    @property
    def wanted(self) -> int:
        """The offset at which the next batch must begin."""
        return min(self._read_to, self.counts.next_offset)

    def _first_to_count(self, batch: Reading) -> int:
        return max(self.counts.next_offset, batch.fetch_offset)

    def _doubt(self) -> Seek | None:
        """Ask again before something final is concluded; None once it is certain."""
        self._doubts += 1
        return Seek(self.wanted) if self._doubts < CERTAIN else None

    def _halt(self, why: HaltReason, detail: str) -> Halt:
        return Halt(why, self.counts.next_offset, detail)

    def _proven(self, batch: Reading) -> bool:
        """Whether the log can be the one that was counted. What Kafka no longer has, proves
        nothing either way."""
        known = self._unproven
        if known is None or batch.next_offset <= known.offset:
            return True
        found = batch.fingerprint(known.offset) if batch.fetch_offset <= known.offset else None
        if found is not None and found != known:
            return False
        self._unproven = None
        return True

    def settle(self, snapshot: Snapshot, answer: Answer) -> None:
        """The store has answered to a checkpoint.

        Raises Lost where memory of the partition must be dropped and loaded again.
        """
        self.accept(answer)
        self.counts.confirm(snapshot)

    @staticmethod
    def accept(answer: Answer) -> None:
        """Raises Lost for an answer that says somebody else has written."""
        if answer in (Answer.FENCED, Answer.CONFLICT):
            raise Lost(f"checkpoint refused: {answer}")
