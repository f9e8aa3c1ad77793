"""Record batches made by hand, sound and broken."""

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import cramjam
from aiokafka import codec as codecs
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from streams.kafka.fetch import Batch, take
from streams.kafka.record_batches import FetchedRecords

MB = 1_000_000


TP = TopicPartition("requests", 3)


HEADER_BYTES, LENGTH_AT, CRC_AT, ATTRIBUTES_AT, COUNT_AT = 61, 8, 17, 21, 57


CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def packed(
    base: int,
    values: list[bytes],
    codec: str = "none",
    producer: int = -1,
    transactional: bool = False,
    key: bytes | None = None,
) -> bytes:
    """A record batch as a producer makes it."""
    builder = DefaultRecordBatchBuilder(2, CODECS[codec], transactional, producer, 0, 0, 1 << 30)
    for position, value in enumerate(values):
        builder.append(position, 1_000 + base + position, key, value, [("h", b"x")])
    return at(base, bytes(builder.build()))


def at(base: int, batch: bytes) -> bytes:
    return base.to_bytes(8, "big") + batch[8:]


def sealed(batch: bytes, body: bytes, attributes: int = 0, count: int | None = None) -> bytes:
    """The batch with other bytes for records, and length and checksum that fit."""
    made = bytearray(batch[:HEADER_BYTES] + body)
    struct.pack_into(">i", made, LENGTH_AT, len(made) - 12)
    [before] = struct.unpack_from(">h", made, ATTRIBUTES_AT)
    struct.pack_into(">h", made, ATTRIBUTES_AT, before | attributes)
    if count is not None:
        struct.pack_into(">i", made, COUNT_AT, count)
    struct.pack_into(">I", made, CRC_AT, calc_crc32c(bytes(made[ATTRIBUTES_AT:])))
    return bytes(made)


class Partition:
    """What aiokafka's objects know of a partition; the position moves as its own does."""

    def __init__(self, position: int = 0, highwater: int | None = None) -> None:
        self.position, self.highwater, self.paused = position, highwater, False
        self.lso, self.timestamp, self.has_valid_position = None, 0, True
        self.active = True

    def state_value(self, _: TopicPartition) -> "Partition":
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position

    def fetched(
        self, data: bytes, aborted: tuple[tuple[int, int], ...] = (), committed: bool = True
    ) -> FetchResult:
        """A response for the present position; `aborted`: (producer, first offset)."""
        found = PartitionRecords(
            TP, FetchedRecords(data), aborted, self.position, None, None, True, int(committed)
        )
        return FetchResult(TP, assignment=self, partition_records=found, backoff=0)


def taken(result: FetchResult, max_bytes: int = 4 * MB) -> Iterator[Batch]:
    """All that `take` gives of a response, up to what cannot be read."""
    while result.has_more():
        batch = take(result, 1, max_bytes)
        assert batch is not None
        yield batch
        if batch.unreadable is not None:
            assert result.has_more()  # the caller decides when to let it go
            return


def complaint(found: list[Batch]) -> tuple[str, int | None]:
    """Of the last batch, which must be one that says it cannot be read, and nothing else."""
    last = found[-1]
    assert last.unreadable is not None
    assert last.next_offset == last.fetch_offset
    assert not last.values
    assert not last.offsets
    assert "\n" not in last.unreadable.why
    return last.unreadable.why, last.unreadable.skip_to


def read_within(data: bytes, max_bytes: int) -> list[Batch]:
    return list(taken(Partition().fetched(data), max_bytes))


def zeros_gzip() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(bytes(MB)) for _ in range(400)] + [packer.flush()])


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": zeros_gzip,
    "gzip, many streams": lambda: gzip.compress(bytes(16 * MB)) * 15,
    "gzip, endlessly many streams": lambda: gzip.compress(b"") * 20_000,
    "snappy": lambda: bytes(cramjam.snappy.compress_raw(bytes(20 * MB))),
    "snappy, says 4 GB": lambda: b"\xff\xff\xff\xff\x0f" + bytes(100),
    "snappy, blocks": lambda: codecs.snappy_encode(bytes(MB)) + _block(bytes(MB)) * 20,
    "lz4": lambda: codecs.lz4_encode(bytes(16 * MB)) * 15,
    "zstd": lambda: codecs.zstd_encode(bytes(16 * MB)) * 64,
    "zstd, one frame": lambda: codecs.zstd_encode(bytes(200 * MB)),
}


def _block(raw: bytes) -> bytes:
    block = bytes(cramjam.snappy.compress_raw(raw))
    return len(block).to_bytes(4, "big") + block


def explode(name: str) -> None:
    """In a process of its own: read a bomb while hardly any memory is to be had."""
    import resource  # not on every system

    body = BOMBS[name]()
    assert len(body) < MB + MB // 8
    batch = sealed(packed(0, [b"a"]), body, CODECS[name.partition(",")[0]])
    with open("/proc/self/statm") as found:
        used = int(found.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 64 * MB, used + 64 * MB))
    why, skip_to = complaint(read_within(batch, 4 * MB))
    assert skip_to == 1
    print(why)


TRANSACTIONAL, CONTROL = 0x10, 0x20
ABORT, COMMIT = struct.pack(">HH", 0, 0), struct.pack(">HH", 0, 1)


def marker(base: int, producer: int, key: bytes) -> bytes:
    """The control batch that ends a transaction."""
    batch = packed(base, [b""], producer=producer, transactional=True, key=key)
    return sealed(batch, batch[HEADER_BYTES:], CONTROL)


def records_of(found: list[Batch]) -> list[tuple[int, bytes | None]]:
    return [one for batch in found for one in zip(batch.offsets, batch.values, strict=True)]


def numbered(base: int, count: int) -> list[bytes]:
    return [b"value %d " % number * 5 for number in range(base, base + count)]


def read(data: bytes, position: int = 0, **response: Any) -> list[Batch]:
    return list(taken(Partition(position).fetched(data, **response)))
