"""A stored state with its archive in memory, for tests of the archive protocol."""

import random
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Any

from streams.store.archive import (
    Archived,
    ArchivePlace,
    Ledger,
    Record,
    keep,
    restored,
    write,
)
from streams.store.contract import Lost
from tests.support.shelf import (
    NOON,
    Shelf,
    checkpoint,
    count,
    loaded,
    plain,
)

PLACE = ArchivePlace("group", "topic", 7)
AT_MS = 1_760_000_000_000


class Turn:
    """A point at which other things may happen."""

    def __await__(self) -> Generator[None]:
        yield


@dataclass
class World:
    """One partition: its shelf, all that was ever on it, and a compacted log as archive."""

    shelf: Any = field(default_factory=Shelf)
    owner: str = ""
    log: list[Record] = field(default_factory=list)
    history: list[tuple[int, dict[str, bytes]]] = field(default_factory=list)
    owners: int = 0
    sent: int = 0

    def claim(self) -> Ledger:
        """A new owner, who has looked through the archive."""
        self.owners += 1
        self.owner = f"owner {self.owners}"
        return Ledger(PLACE, self.owner, f"run{self.owners}", set(self.live()))

    def live(self) -> dict[bytes, bytes]:
        return folded(self.log)

    def read(self) -> Archived | None:
        return restored(PLACE, self.live())[0]

    def looker(self, owner: str) -> Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]:
        async def look(names: Sequence[str]) -> Mapping[str, bytes]:
            await Turn()
            if self.owner != owner:
                raise Lost("somebody else claimed it")
            there = {"offset": b"%d" % self.shelf.offset, **self.shelf.fields}
            return {name: there[name] for name in names if name in there}

        return look

    async def send(self, records: Sequence[Record]) -> None:
        for record in random.Random(len(self.log)).sample(records, len(records)):
            await Turn()
            self.log.append(record)
            self.sent += 1

    def writing(self, ledger: Ledger) -> Coroutine[Any, Any, int | None]:
        return write(ledger, self.looker(ledger.owner), self.send, AT_MS)

    def written(self, ledger: Ledger) -> int:
        """The records of a whole write."""
        before = self.sent
        assert finished(self.writing(ledger)) == self.shelf.offset
        return self.sent - before

    def checkpointed(self, log: list[Any], until: int) -> None:
        state = loaded(self.shelf)
        state.sequence = self.shelf.meta.sequence if self.shelf.fields else 0
        count(state, self.shelf, log, until)
        checkpoint(state, self.shelf)
        self.history.append((self.shelf.offset, dict(self.shelf.fields)))


def folded(log: Iterable[Record]) -> dict[bytes, bytes]:
    live: dict[bytes, bytes] = {}
    for key, value in log:
        keep(live, key, value)
    return live


def finished(work: Coroutine[Any, Any, int | None]) -> int | None:
    while True:
        try:
            work.send(None)
        except StopIteration as done:
            offset: int | None = done.value
            return offset


def state_of(world: World) -> tuple[int, dict[str, bytes]]:
    return world.shelf.offset, world.shelf.fields


def world_of(events: int, step_s: int = 1) -> tuple[World, list[Any]]:
    log = [plain(NOON + at * step_s, model=f"model-{at % 5}") for at in range(events)]
    world = World()
    world.checkpointed(log, events // 2)
    return world, log
