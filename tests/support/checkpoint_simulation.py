"""Lives of one partition, made up from a seed: workers, zombies, lost messages, a forgetful store.

No I/O and no clock. The decisions are the project's own: `OffsetAdmission` judges every batch
and every answer, `MemoryHash` claims and writes as claim.lua and flush.lua do (the contract suite
holds both to the same answers). What is made up here is everything that can go wrong around them:

    a rebalance moves the partition while its owner sleeps, and the sleeper wakes up later
    a checkpoint is delayed, repeated, lost, or its answer is; it may land after a newer one
    the store goes back to an older state of its own, or loses everything
    fetched batches lie around while the position is moved; Kafka forgets the log's beginning

After every step the stored counts must equal a recount of the log; at the end, when everything
works again, all of the log must be counted. `python -m tests.support.checkpoint_simulation SEED`
tells one life step by step.
"""

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from streams.state.snapshot import LogFingerprint, Snapshot, Stored
from streams.store.contract import Answer, Claimed, Lost
from streams.worker.admission import (
    Count,
    Drop,
    FetchedBatch,
    Halt,
    OffsetAdmission,
    Seek,
    UnreadableBatch,
)
from tests.support.checks import not_none
from tests.support.memory_store import GUARDS, MemoryHash

STEPS = 70
RECORDS = 400  # more than a life can count
SLICES = 6
QUIET_STEPS = 60
# Slices are come back to, so that a slice that was written is written again.
SLICE_OF = [offset // 7 % SLICES for offset in range(RECORDS)]
BEFORE = list(
    accumulate(
        SLICE_OF,
        lambda counts, at: tuple(n + (k == at) for k, n in enumerate(counts)),
        initial=(0,) * SLICES,
    )
)


class BrokenPromiseError(AssertionError):
    """An invariant does not hold."""


def recount(offset: int, lost: tuple[tuple[int, int], ...]) -> list[int]:
    """Records by slice before `offset`, without those that were lost."""
    counts = list(BEFORE[offset])
    for begin, end in lost:
        for k in range(SLICES):
            counts[k] -= BEFORE[end][k] - BEFORE[begin][k]
    return counts


class Counts:
    """A partition's counts, as small as can be; written like the real ones: only what changed."""

    def __init__(self, offset: int, fields: dict[Any, Any]) -> None:
        self.next_offset = self.stored_offset = offset
        self.by_slice = [fields.get(k, 0) for k in range(SLICES)]
        self.lost = fields.get("lost", ())
        self.sequence = fields.get("sequence", 0)
        self._dirty: set[int] = set()

    @property
    def witness(self) -> LogFingerprint | None:
        return LogFingerprint(self.next_offset - 1, 0, 0) if self.next_offset else None

    def count(self, since: int, until: int) -> None:
        for offset in range(since, until):
            self.by_slice[SLICE_OF[offset]] += 1
            self._dirty.add(SLICE_OF[offset])
        self.next_offset = until

    def lose(self, offset: int) -> None:
        self.lost = (*self.lost, (self.next_offset, offset))
        self.next_offset = offset

    def snapshot(self) -> Snapshot:
        self.sequence += 1
        # Plain numbers: nothing here packs or unpacks them.
        fields: dict[Any, Any] = {k: self.by_slice[k] for k in self._dirty}
        self._dirty = set()
        fields |= {"lost": self.lost, "sequence": self.sequence}
        return Snapshot(self.sequence, self.stored_offset, self.next_offset, fields, ())

    def confirm(self, snapshot: Snapshot) -> None:
        self.stored_offset = snapshot.to_offset


class Untrimmed(OffsetAdmission[Any]):
    """Counts a batch from its beginning, whatever was counted before."""

    __slots__ = ()

    def _first_to_count(self, batch: FetchedBatch) -> int:
        return batch.fetch_offset


@dataclass(slots=True)
class Fetched:
    """A batch without its records; they follow from the offsets."""

    generation: int
    epoch: int
    fetch_offset: int
    next_offset: int
    highwater: int
    readable: int
    unreadable: UnreadableBatch | None = None

    def fingerprint(self, offset: int) -> LogFingerprint | None:
        return LogFingerprint(offset, 0, 0)


@dataclass(slots=True)
class Worker:
    """A worker and its consumer."""

    name: int
    generation: int = -1  # of the last rebalance it heard of
    admission: OffsetAdmission[Any] | None = None
    claiming: bool = False  # the coordinator has confirmed it; the claim is on its way
    position: int = 0
    epoch: int = 0
    queue: list[Fetched] = field(default_factory=list)
    pending: Snapshot | None = None  # sent, and not answered yet


class Life:
    """One partition's life."""

    def __init__(self, seed: int, without: str = "") -> None:
        """`without`: one of GUARDS or "trim", a protection to take away."""
        self.random = random.Random(seed)
        self.store = MemoryHash(GUARDS - {without})
        self.admission_type = Untrimmed if without == "trim" else OffsetAdmission
        self.generation = 0
        self.workers = [Worker(name) for name in range(3)]
        self.owner = self.workers[0]
        self.begin, self.end = 0, 10  # what Kafka has of the log
        self.late: list[tuple[str, Snapshot]] = []
        self.backups: list[MemoryHash] = []
        self.checked: tuple[int | None, str | None] = (None, None)
        self.rebalance()

    # -- what the workers do ---------------------------------------------------------------------

    def rebalance(self) -> None:
        """The partition moves to some worker; the others hear of it later, or never."""
        self.generation += 1
        self.owner = self.random.choice(self.workers)
        self.assign(self.owner)

    def assign(self, worker: Worker) -> None:
        worker.generation, worker.admission, worker.pending = self.generation, None, None
        self.confirm(worker)

    def confirm(self, worker: Worker) -> None:
        """Ask the coordinator before claiming: it knows who has slept through a rebalance."""
        worker.admission, worker.pending = None, None
        worker.claiming = worker.generation == self.generation

    def claim(self, worker: Worker) -> None:
        """May come late: the coordinator was asked before."""
        worker.claiming = False
        owner, offset = self.store.claim(f"{self.random.getrandbits(32)}")
        fields = self.store.read(owner, list(self.store.fields))
        counts = Counts(offset or 0, fields)
        claimed = Claimed("", owner, Stored(offset or 0, fields))
        read_from = counts.witness.offset if counts.witness else 0
        worker.admission = self.admission_type(0, worker.generation, claimed, counts, read_from)
        self.seek(worker, read_from)

    def seek(self, worker: Worker, offset: int) -> None:
        """Moves the position; what was fetched before stays where it is."""
        worker.position, worker.epoch = offset, worker.epoch + 1
        not_none(worker.admission).note_seek(worker.epoch)

    def fetch(self, worker: Worker) -> None:
        if len(worker.queue) >= 3:
            return
        worker.position = max(worker.position, self.begin)  # out of range: reset to the earliest
        until = min(worker.position + self.random.randint(1, 6), self.end)
        if until > worker.position:
            worker.queue.append(
                Fetched(worker.generation, worker.epoch, worker.position, until, self.end, self.end)
            )
            worker.position = until

    def consume(self, worker: Worker) -> None:
        if not worker.queue:
            return
        batch, admission = worker.queue.pop(0), worker.admission
        if admission is None:
            return
        match admission.admit(batch):
            case Drop():
                pass
            case Seek(to):
                self.seek(worker, to)
            case Count(since, gone):
                if gone:
                    if batch.fetch_offset > self.begin:
                        raise BrokenPromiseError(f"gave up records before {batch.fetch_offset}")
                    admission.counts.lose(batch.fetch_offset)
                admission.counts.count(since, max(since, batch.next_offset))
            case Halt() as halt:
                raise BrokenPromiseError(f"halted without a reason: {halt}")

    def flush(self, worker: Worker, quiet: bool = False) -> None:
        """Send a checkpoint, or the one before once more if nobody answered."""
        admission = worker.admission
        if admission is None:
            return
        if worker.pending is None:
            if admission.counts.next_offset == admission.counts.stored_offset:
                return
            worker.pending = admission.counts.snapshot()
        sent, fate = (admission.claim.owner, worker.pending), self.random.random()
        if not quiet:
            if fate < 0.1:  # lost, or late
                self.late += [sent] * (fate < 0.07)
                return
            if fate < 0.2:  # the network repeats it, now or later
                self.late.append(sent)
        answer = self.write(*sent)
        if not quiet and fate > 0.9:
            return  # the answer is lost
        try:
            admission.confirm(worker.pending, answer)
            worker.pending = None
        except Lost:
            self.confirm(worker)

    def write(self, owner: str, snapshot: Snapshot) -> Answer:
        flush_id = f"{owner}:{snapshot.sequence}"
        was = self.store.flush_id
        answer = self.store.flush(
            owner, snapshot.from_offset, snapshot.to_offset, flush_id, (), snapshot.fields
        )
        if answer is Answer.OK and owner != self.store.owner:
            raise BrokenPromiseError("somebody who is not the owner has written")
        if answer is Answer.CONFLICT and was == flush_id:
            raise BrokenPromiseError("a checkpoint that was written is said to be in conflict")
        return answer

    # -- what happens to them --------------------------------------------------------------------

    def steps(self) -> Iterator[str]:
        """Live; what was done, step by step."""
        for _ in range(STEPS):
            yield self.step()
            self.check()
        self.late.clear()
        self.assign(self.owner)
        self.end += 1  # of an empty log nobody can tell what is missing
        for _ in range(QUIET_STEPS):
            self.work(self.owner, quiet=True)
            self.check()
        if self.store.offset != self.end:
            raise BrokenPromiseError(f"stuck at {self.store.offset} of {self.end}")
        yield "all counted"

    def step(self) -> str:
        chance, dice = self.random.random, self.random
        self.end = min(self.end + dice.randint(0, 3), RECORDS)
        what = chance()
        if what < 0.76:
            worker = self.owner if chance() < 0.75 else dice.choice(self.workers)
            return f"worker {worker.name} {self.work(worker)}"
        if what < 0.84 and self.late:
            self.write(*self.late.pop(dice.randrange(len(self.late))))
            return "a late checkpoint lands"
        if what < 0.90:
            self.rebalance()
            return f"the partition moves to worker {self.owner.name}"
        if what < 0.93:
            self.backups = [*self.backups[-2:], self.store.copy()]
            return "the store makes a backup"
        if what < 0.96 and self.backups:
            self.store.restore(dice.choice(self.backups))
            return f"the store goes back to {self.store.offset}"
        if what < 0.965:
            self.store.restore(MemoryHash(self.store.guards))
            return "the store loses everything"
        if what < 0.98:
            self.begin = dice.randint(self.begin, self.end)
            return f"Kafka forgets what was before {self.begin}"
        worker = dice.choice(self.workers)
        worker.admission, worker.pending, worker.queue = None, None, []
        if worker is self.owner:
            self.assign(worker)
        return f"worker {worker.name} is killed"

    def work(self, worker: Worker, quiet: bool = False) -> str:
        """One thing that a worker does by itself, in no particular order with what others do."""
        if worker.claiming:
            self.claim(worker)
            return f"claims at {self.store.offset}"
        done = []
        for act in (self.fetch, self.consume, self.consume):
            if quiet or self.random.random() < 0.7:
                act(worker)
                done.append(act.__name__)
        if quiet or self.random.random() < 0.5:
            self.flush(worker, quiet)
            done.append("flush")
        return ", ".join(done)

    def check(self) -> None:
        """What is stored is exactly what the log holds up to the stored offset."""
        store = self.store
        if self.checked == (store.offset, store.flush_id):
            return
        self.checked = (store.offset, store.flush_id)
        fields: dict[Any, Any] = store.fields
        stored = [fields.get(k, 0) for k in range(SLICES)]
        if stored != recount(store.offset or 0, fields.get("lost", ())):
            raise BrokenPromiseError(f"stored at {store.offset}: {stored}")


def broken(seed: int, without: str = "") -> str | None:
    """How a life breaks a promise; None if it keeps them all."""
    try:
        for _ in Life(seed, without).steps():
            pass
    except BrokenPromiseError as error:
        return f"seed {seed}: {error}"
    return None


def all_broken(seeds: range) -> list[str]:
    """The broken promises of some lives."""
    return [found for seed in seeds if (found := broken(seed))]


if __name__ == "__main__":
    for number, told in enumerate(Life(int(sys.argv[1]), *sys.argv[2:3]).steps()):
        print(number, told)
