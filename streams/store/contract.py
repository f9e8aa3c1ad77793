"""The contract of a checkpoint store, which every implementation keeps.

Pure. redis.py keeps the promises with Redis; the tests hold a store in memory to them as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol

from streams.clock import ClockReading
from streams.errors import Unavailable
from streams.memory import MemoryUse
from streams.state.snapshot import Snapshot, Stored


class StoreError(Unavailable):
    """The store did not answer or refused: one line with what to do."""


class CommandError(StoreError):
    """The heartbeat was written, but the operator command that came back cannot be read."""


class StoreUnfitError(StoreError):
    """The store answers, but may discard state by itself: no state may be written to it."""


class Lost(RuntimeError):
    """Another worker owns the partition, or its stored state is not the one this worker built on.

    The worker must drop its memory of the state, then claim and load it again.
    """


class Answer(StrEnum):
    """The answer of the store to a flush."""

    OK = "OK"
    ALREADY = "ALREADY"
    FENCED = "FENCED"
    CONFLICT = "CONFLICT"


@dataclass(slots=True)
class Claimed:
    """The state of one partition when it was claimed; ours until another worker claims it."""

    key: str
    owner: str  # the token under which we write
    stored: Stored
    # Hash of a customer's id by a later key -> token in the state; of the whole topic.
    tokens: Mapping[str, str] = field(default_factory=dict)


class CommandKind(StrEnum):
    """The operator commands to the worker of a partition."""

    RESUME = "resume"  # a halted partition where it stopped
    MOVE = "move"  # a halted partition to another offset
    REPAIR = "repair"  # check all fields, and restore those that are damaged
    SET_WATERMARK = "set-watermark"  # back to a time, of a partition that is counted or halted


@dataclass(frozen=True, slots=True)
class OperatorCommand:
    """A command to the worker of a partition."""

    VALID_S: ClassVar[int] = 600  # some commands must not be applied later

    id: str  # unique, so that a command is applied once
    kind: str  # of CommandKind
    to: int | None  # offset, time in ms, or 1 to accept a loss by a repair; None for "resume"
    reason: str
    by: str
    at_ms: int = 0  # by the clock of the operator's machine

    def __post_init__(self) -> None:
        """Raise ValueError for a command that must not be guessed."""
        needs_to = self.kind != CommandKind.RESUME
        if self.kind not in list(CommandKind) or needs_to != (self.to is not None):
            raise ValueError(
                f"kind {self.kind!r} to {self.to}; give resume, move and an offset, "
                "set-watermark and a time in ms, or repair and 0 or 1"
            )
        if self.to is not None and self.to < 0:
            raise ValueError(f"to: got {self.to}; give an offset or a time, 0 or more")

    def refuse_by_age(self, now_s: float) -> str | None:
        """Return why the command is not applied at `now_s`; None if it was enqueued recently."""
        if abs(now_s - self.at_ms / 1_000) <= self.VALID_S:
            return None
        return (
            f"its time differs from this worker's clock by more than {self.VALID_S} s; "
            "correct the operator's clock, or repeat the command if it is old"
        )


# Field -> value; the key type is that of the client's own signature.
HeartbeatFields = Mapping[str | bytes | bytearray | memoryview | int | float, str | int | float]


class Store(Protocol):
    """Where checkpoints are kept. All calls end within their deadline or raise StoreError."""

    async def claim(self, partition: int) -> Claimed:
        """Claim a partition and read its state, whose `damage` is the first fault found."""
        ...

    async def load(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        """Read slices. Raises Lost if another worker has claimed the partition.

        Raises DamagedError if one is missing, as the index names them all.
        """
        ...

    async def look(self, claim: Claimed, fields: Sequence[str]) -> dict[str, bytes]:
        """Read fields, all at the same moment; `offset` is one of them, in decimal.

        Fields that do not exist are left out. Raises Lost if another worker has claimed it.
        """
        ...

    async def flush(self, claim: Claimed, snapshot: Snapshot) -> Answer:
        """Write a checkpoint. After a StoreError it may be written or not."""
        ...

    async def replace(self, claim: Claimed, snapshot: Snapshot) -> Answer:
        """Write a whole state in place of the stored one, whatever that is; OK or FENCED.

        After a StoreError it may be written or not.
        """
        ...

    async def send_heartbeat(
        self, partition: int, values: HeartbeatFields
    ) -> OperatorCommand | None:
        """Write a heartbeat. Return the last command enqueued for the partition, if any.

        Raises CommandError if the heartbeat was written, but the command is damaged.
        """
        ...

    async def check(self) -> MemoryUse | None:
        """Return the memory of the store; None if it does not report it.

        Raises StoreUnfitError if the store may throw state away by itself.
        """
        ...

    async def read_clock(self) -> None:
        """Read the store's time, with which `clock` then compares that of this process."""
        ...

    def clock(self) -> ClockReading:
        """Return the clocks of this process and, as last read, of the store."""
        ...
