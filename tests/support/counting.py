"""A worker's checkpoints reduced to what a child can recount: the fields follow from the offset.

`s:10:K` says how many offsets before it leave the rest K when divided by six; `s:60:B` how many lie
in the B-th ten, kept for the last three tens only. A checkpoint writes what changed and deletes
what expired, as a real one does, so that it fits no other offset than the one it builds on.
"""

from collections.abc import Mapping

import msgspec

from streams.state.slices import Aggregate, Thresholds
from streams.state.snapshot import Meta, Snapshot
from streams.store.contract import Answer, Claimed, Store
from streams.store.keys import Keys

GROUP, TOPIC, PARTITION = "g", "t", 3
KEY = Keys(GROUP, TOPIC).partition(PARTITION)
NOTHING = {
    "index": msgspec.msgpack.encode([{}, {}, {}, {}, {}]),
    "totals": Aggregate.empty().pack(),
    "meta": msgspec.msgpack.encode(
        Meta(
            *(1, 1, None, (0, 0, 0, 0, 0), {}, {}),
            series=0,
            customers=0,
            edges=Thresholds((), (), ()),
            written_at_ms=0,
        )
    ),
}


def counts(offset: int) -> dict[str, bytes]:
    """The slices of a state that includes the records before `offset`."""
    rests = {f"s:10:{rest}": (offset + 5 - rest) // 6 for rest in range(6)}
    newest = (offset - 1) // 10
    tens = {f"s:60:{ten}": min(10, offset - ten * 10) for ten in range(newest - 2, newest + 1)}
    told = {**rests, **{name: n for name, n in tens.items() if not name.startswith("s:60:-")}}
    return {name: b"%d" % number for name, number in told.items() if number > 0}


def snapshot(
    from_offset: int,
    to_offset: int,
    fields: Mapping[str, bytes] | None = None,
    deletes: tuple[str, ...] | None = None,
    sequence: int | None = None,
) -> Snapshot:
    """The checkpoint from one offset to the next: of the counts, unless `fields` are given."""
    before, after = counts(from_offset), counts(to_offset)
    if fields is None:
        fields = {name: value for name, value in after.items() if before.get(name) != value}
        deletes = tuple(name for name in before if name not in after)
    number = to_offset if sequence is None else sequence
    return Snapshot(number, from_offset, to_offset, {**NOTHING, **fields}, deletes or ())


def agreed_offset(content: Mapping[bytes, bytes]) -> int:
    """The stored offset of a hash, whose fields must be the recount up to there and no others."""
    offset = int(content.get(b"offset", 0))
    expected = {**NOTHING, **counts(offset)} if b"offset" in content else {}
    found = {name.decode(): value for name, value in content.items()}
    assert {name: found[name] for name in found.keys() - {"owner", "offset", "flush"}} == expected
    return offset


class Counting:
    """A worker that counts records and remembers how far it came; `history` are the offsets that
    the store has confirmed."""

    def __init__(self, store: Store) -> None:
        self.store, self.offset = store, 0
        self.history = [0]
        self.claim: Claimed

    async def begin(self) -> int:
        """Claim the partition and go on where its state ends; that offset."""
        self.claim = await self.store.claim(PARTITION)
        self.offset = self.claim.stored.offset
        if expected := counts(self.offset):
            assert await self.store.load(self.claim, list(expected)) == expected
        return self.offset

    async def count(self, records: int) -> Answer:
        """Count so many more and write the checkpoint."""
        answer = await self.store.flush(self.claim, snapshot(self.offset, self.offset + records))
        if answer in (Answer.OK, Answer.ALREADY):
            self.offset += records
            self.history.append(self.offset)
        return answer
