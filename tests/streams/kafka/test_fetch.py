"""Record batches as they come from a broker: whole, cut, damaged, packed too small to be true."""

import asyncio
import gzip
import struct
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cramjam
import pytest
from aiokafka import codec as codecs
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import encode_varint
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka import fetch as batches
from streams.kafka import transport
from streams.kafka.fetch import Batch, keep_bytes, take
from streams.kafka.record_batches import FetchedRecords
from streams.kafka.transport import BatchThread
from tests.support.record_batch_samples import (
    BOMBS,
    CODECS,
    HEADER_BYTES,
    LENGTH_AT,
    MB,
    TP,
    Partition,
    at,
    complaint,
    packed,
    read_within,
    sealed,
    taken,
)

TRANSACTIONAL, CONTROL = 0x10, 0x20
ABORT, COMMIT = struct.pack(">HH", 0, 0), struct.pack(">HH", 0, 1)

# --- building batches -----------------------------------------------------------------------------


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


# --- good batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_what_was_written_is_read_in_every_codec(codec: str) -> None:
    first, second = numbered(5, 700), numbered(705, 300)
    found = read(packed(5, first, codec) + packed(705, second, codec), position=5)
    assert records_of(found) == list(enumerate(first + second, 5))
    assert [time for batch in found for time in batch.timestamps_ms] == list(range(1_005, 2_005))
    assert found[-1].next_offset == 1_005
    assert [one.headers for one in found[0].records[:1]] == [[("h", b"x")]]


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        ("gzip", lambda raw: gzip.compress(raw[:70]) + gzip.compress(raw[70:])),
        ("snappy", lambda raw: bytes(cramjam.snappy.compress_raw(raw))),
        ("snappy", lambda raw: codecs.snappy_encode(raw, xerial_blocksize=64)),
        ("lz4", lambda raw: codecs.lz4_encode(raw[:70]) + codecs.lz4_encode(raw[70:])),
        ("zstd", lambda raw: codecs.zstd_encode(raw[:70]) + codecs.zstd_encode(raw[70:])),
        ("zstd", lambda raw: codecs.zstd_encode(raw)),
    ],
)
def test_each_framing_that_a_kafka_client_may_write_is_read(
    codec: str, body: Callable[[bytes], bytes]
) -> None:
    values = [b"same again " * 2_000, *numbered(1, 20)]  # shrinks more than is usual
    plain = packed(0, values)
    found = read(sealed(plain, body(plain[HEADER_BYTES:]), CODECS[codec]))
    assert records_of(found) == list(enumerate(values))


@pytest.mark.parametrize("codec", CODECS)
def test_one_record_as_large_as_the_limit_allows_passes(codec: str) -> None:
    value = b"\x00\xff" * (MB - 100)
    assert records_of(read_within(packed(0, [value], codec), 2 * MB)) == [(0, value)]
    why, skip_to = complaint(read_within(packed(0, [value], codec), MB))
    assert "worker.max_batch_mb" in why
    assert skip_to == 1


@pytest.mark.parametrize(("each", "refused"), [(499, False), (701, True)])
def test_a_flood_of_headers_is_refused_before_it_becomes_objects(each: int, refused: bool) -> None:
    builder = DefaultRecordBatchBuilder(2, CODECS["zstd"], False, -1, 0, 0, 1 << 30)
    for position in range(1_000):
        builder.append(position, 1, b"key", b"v" * 100, [("h", b"")] * each)
    found = read_within(bytes(builder.build()), 8 * MB)
    if refused:
        why, skip_to = complaint(found)
        assert "its records have more than 500,000 headers" in why
        assert skip_to == 1_000
    else:
        assert len(records_of(found)) == 1_000


def test_one_take_stops_after_enough_bytes_however_few_the_records() -> None:
    data = b"".join(packed(number, [bytes(MB)], "zstd") for number in range(10))
    found = read_within(data, 3 * MB)
    assert [len(batch.values) for batch in found] == [3, 3, 3, 1]
    assert records_of(found) == [(number, bytes(MB)) for number in range(10)]


def test_one_take_stops_after_enough_records_and_the_last_one_leaves_nothing() -> None:
    half = batches.ENOUGH_RECORDS // 2
    data = b"".join(packed(number * half, numbered(0, half)) for number in range(4))
    assert [len(batch.values) for batch in read(data)] == [2 * half, 2 * half]


def test_a_fetch_that_begins_inside_a_batch_leaves_out_what_lies_before() -> None:
    found = read(packed(0, numbered(0, 10), "lz4"), position=7)
    assert records_of(found) == list(enumerate(numbered(7, 3), 7))


@pytest.mark.parametrize("committed", [True, False])
def test_markers_are_no_events_and_aborted_transactions_count_only_uncommitted(
    committed: bool,
) -> None:
    data = (
        packed(0, [b"a", b"b"], "zstd", 7, True)
        + packed(2, [b"c"])
        + marker(3, 7, ABORT)
        + packed(4, [b"d"], "gzip", 7, True)
        + marker(5, 7, COMMIT)
    )
    found = read(data, aborted=((7, 0),), committed=committed)
    aborted = [] if committed else [(0, b"a"), (1, b"b")]
    assert records_of(found) == [*aborted, (2, b"c"), (4, b"d")]
    assert found[-1].next_offset == 6


def test_a_marker_that_compaction_emptied_aborts_nothing() -> None:
    empty = sealed(marker(1, 7, ABORT), b"", count=0)
    data = packed(0, [b"a"], "none", 7, True) + empty + packed(2, [b"b"], "none", 7, True)
    assert records_of(read(data, aborted=((7, 0),))) == []
    assert records_of(read(data)) == [(0, b"a"), (2, b"b")]


def test_a_batch_that_compaction_emptied_still_moves_the_position() -> None:
    batch = packed(0, numbered(0, 5))
    [found] = read(sealed(batch, b"", count=0))
    assert (found.next_offset, found.values, found.unreadable) == (5, [], None)


def test_after_a_seek_the_response_is_worth_nothing() -> None:
    partition = Partition()
    result = partition.fetched(packed(0, numbered(0, 5)))
    partition.position = 3
    assert take(result, 1, MB) is None
    assert not result.has_more()


# --- cut responses --------------------------------------------------------------------------------


@given(codec=st.sampled_from(list(CODECS)), data=st.data())
def test_a_response_cut_anywhere_gives_its_whole_batches_and_says_if_there_is_none(
    codec: str, data: st.DataObject
) -> None:
    log = [packed(10 * number, numbered(10 * number, 10), codec) for number in range(3)]
    size = data.draw(st.integers(1, sum(map(len, log))))
    whole = sum(sum(map(len, log[: n + 1])) <= size for n in range(3))
    found = read(b"".join(log)[:size])
    assert records_of(found) == list(enumerate(numbered(0, 10 * whole)))
    if whole == 0:
        why, skip_to = complaint(found)
        assert f"only {size:,} bytes" in why
        assert skip_to is None
    else:
        assert found[-1].unreadable is None


class Network:
    """A client that has one answer."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def send(self, _node: int, _request: Any) -> Any:
        partition: tuple[Any, ...] = (TP.partition, 0, 100, 100, [], self.data)
        return SimpleNamespace(API_VERSION=4, topics=[(TP.topic, [partition])])


async def through_aiokafka(data: bytes, partition: Partition) -> Any:
    """What aiokafka's own fetcher makes of a response."""
    fetcher = SimpleNamespace(
        _client=Network(data),
        _records={},
        _errors=[],
        _client_rack=None,
        _rack_warning_logged=False,
        _key_deserializer=None,
        _value_deserializer=None,
        _check_crcs=True,
        _isolation_level=1,
        _prefetch_backoff=0,
        _max_partition_fetch_bytes=65_536,
    )
    fetcher._set_error = lambda tp, error: fetcher._records.update({tp: error})
    request = SimpleNamespace(topics=[(TP.topic, [(TP.partition, partition.position, 65_536)])])
    await Fetcher._proc_fetch_request(fetcher, partition, 1, request)
    return fetcher._records.get(TP)


def test_aiokafka_would_move_past_a_batch_cut_short_and_does_not_with_our_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut, partition = packed(0, numbered(0, 10))[:-1], Partition()
    monkeypatch.setattr(aiokafka_fetcher, "MemoryRecords", MemoryRecords)
    asyncio.run(through_aiokafka(cut, partition))
    assert partition.position == 1  # a record that nobody has read
    keep_bytes()
    partition = Partition()
    result = asyncio.run(through_aiokafka(cut, partition))
    assert partition.position == 0
    why, _ = complaint(list(taken(result)))
    assert "kafka.fetch_max_partition_bytes" in why


def test_other_consumers_of_the_process_read_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiokafka_fetcher, "MemoryRecords", FetchedRecords)
    data = packed(0, numbered(0, 10), "zstd") + packed(10, numbered(10, 10))[:-1]
    result = asyncio.run(through_aiokafka(data, Partition()))
    assert [record.value for record in result.getall()] == numbered(0, 10)
    assert asyncio.run(through_aiokafka(b"", Partition())) is None
    cut = asyncio.run(through_aiokafka(data[:50], Partition()))
    with pytest.raises(Exception, match="cut the record batch short"):
        cut.getall()


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_any_wrong_bit_in_a_header_is_noticed(codec: str) -> None:
    for which in range(3):
        # Nothing can tell a first batch whose base offset is too low from a fetch begun inside it.
        for where in range(0 if which else LENGTH_AT, HEADER_BYTES):
            for bit in range(8):
                a_wrong_bit_makes_no_record(codec, which, where, bit)


@given(
    codec=st.sampled_from(list(CODECS)),
    which=st.integers(0, 2),
    byte=st.integers(0),
    bit=st.integers(0, 7),
)
def test_any_wrong_bit_in_the_records_is_noticed(
    codec: str, which: int, byte: int, bit: int
) -> None:
    size = len(packed(0, numbered(100 + 10 * which, 10), codec)) - HEADER_BYTES
    a_wrong_bit_makes_no_record(codec, which, HEADER_BYTES + byte % size, bit)


def a_wrong_bit_makes_no_record(codec: str, which: int, where: int, bit: int) -> None:
    """All before the damaged one of three batches is read, nothing after it, and it is named."""
    log = [packed(100 + 10 * n, numbered(100 + 10 * n, 10), codec) for n in range(3)]
    damaged = bytearray(log[which])
    damaged[where] ^= 1 << bit
    log[which] = bytes(damaged)
    partition = Partition(100, highwater=130)
    found = list(taken(partition.fetched(b"".join(log))))
    if 12 <= where < 16:  # the leader's epoch, which no checksum covers and nobody reads
        assert records_of(found) == list(enumerate(numbered(100, 30), 100))
        return
    good = 10 * which
    assert records_of(found) == list(enumerate(numbered(100, good), 100))
    assert partition.position == 100 + good
    if found[-1].unreadable is None:  # a length that passes the end looks like a cut response
        assert LENGTH_AT <= where < 12
        assert which > 0
        found = list(taken(partition.fetched(b"".join(log[which:]))))
        assert partition.position == 100 + good
    _, skip_to = complaint(found)
    assert skip_to in (None, 110 + good)
    if where >= HEADER_BYTES:
        assert skip_to == 110 + good


@given(
    codec=st.sampled_from(list(CODECS)),
    flips=st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=8),
    before_packing=st.booleans(),
)
def test_nonsense_under_a_right_checksum_is_refused_or_read_but_never_raises(
    codec: str, flips: list[tuple[int, int]], before_packing: bool
) -> None:
    pack = PACK[codec]
    plain = packed(0, numbered(0, 10))
    body = bytearray(plain[HEADER_BYTES:] if before_packing else pack(plain[HEADER_BYTES:]))
    for where, change in flips:
        body[where % len(body)] ^= change
    batch = sealed(plain, pack(bytes(body)) if before_packing else bytes(body), CODECS[codec])
    found = read(batch + packed(10, [b"next"]))
    if found[-1].unreadable is not None:
        assert complaint(found)[1] == 10
        assert records_of(found) == []
    else:
        assert records_of(found)[-1] == (10, b"next")


PACK: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": codecs.gzip_encode,
    "snappy": codecs.snappy_encode,
    "lz4": codecs.lz4_encode,
    "zstd": codecs.zstd_encode,
}


@given(st.binary(min_size=1, max_size=200))
def test_bytes_that_are_no_batch_at_all_are_refused_and_the_position_stays(data: bytes) -> None:
    partition = Partition(5)
    complaint(list(taken(partition.fetched(data))))
    assert partition.position == 5


def test_the_good_batches_before_the_bad_one_come_first() -> None:
    bad = sealed(packed(10, numbered(10, 10)), b"nonsense")
    partition = Partition()
    found = list(taken(partition.fetched(packed(0, numbered(0, 10)) + bad)))
    assert [len(batch.values) for batch in found] == [10, 0]
    assert [batch.unreadable is None for batch in found] == [True, False]
    assert found[1].fetch_offset == partition.position == 10
    why, skip_to = complaint(found)
    assert why.startswith("requests-3: record batch at offset 10: its records do not parse")
    assert skip_to == 20


def test_an_aborted_batch_need_not_be_readable() -> None:
    bomb = sealed(packed(0, [b"a"], "none", 7, True), b"nonsense", CODECS["zstd"])
    found = read(bomb + marker(1, 7, ABORT) + packed(2, [b"b"]), aborted=((7, 0),))
    assert records_of(found) == [(2, b"b")]


def varint(number: int) -> bytes:
    made = bytearray()
    encode_varint(number, made.append)
    return bytes(made)


@pytest.mark.parametrize("length", [2**31, 2**62, 2**63 - 70, 2**63 - 1])
def test_a_value_longer_than_any_memory_is_refused(length: int) -> None:
    record = bytes((0, 0, 0)) + varint(-1) + varint(length)
    batch = sealed(packed(0, [b"a"]), varint(len(record)) + record)
    why, skip_to = complaint(read(batch))
    assert "do not parse" in why
    assert skip_to == 1


def test_offsets_outside_the_batch_or_out_of_order_are_refused() -> None:
    ten = packed(0, numbered(0, 10))
    one = packed(0, numbered(0, 1))
    outside = sealed(one, ten[HEADER_BYTES:], count=10)
    assert "offsets" in complaint(read(outside))[0]
    sizes = len(one) - HEADER_BYTES  # ten records of one size
    parts = [ten[HEADER_BYTES:][n * sizes : (n + 1) * sizes] for n in range(10)]
    assert b"".join(parts) == ten[HEADER_BYTES:]
    swapped = sealed(ten, parts[0] + parts[3] + parts[2] + parts[9], count=4)
    assert "offsets" in complaint(read(swapped))[0]


def test_a_codec_that_kafka_does_not_have_is_named() -> None:
    for number in (5, 6, 7):
        batch = packed(0, [b"a"])
        why, skip_to = complaint(read(sealed(batch, batch[HEADER_BYTES:], number)))
        assert f"unknown compression codec {number}; the log goes on at offset 1" in why
        assert skip_to == 1


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1])
def test_the_message_formats_before_kafka_0_11_are_named(magic: int, codec: int) -> None:
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    for offset in range(4):
        builder.append(offset, 1_000, None, b"old")
    data = bytes(builder.build())
    why, skip_to = complaint(read(at(3, data) if codec else data))
    assert f"message format v{magic}" in why
    assert skip_to == (4 if codec else 1)


def test_an_answer_with_older_batches_only_is_reported_instead_of_asked_for_again() -> None:
    why, skip_to = complaint(read(packed(0, numbered(0, 10)), position=10))
    assert "older ones only" in why
    assert skip_to is None


# --- bombs ----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of address space")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_the_memory_that_was_allowed(name: str) -> None:
    code = f"from tests.support.record_batch_samples import explode; explode({name!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "worker.max_batch_mb" in done.stdout


@pytest.mark.parametrize(
    ("codec", "body", "why"),
    [
        ("gzip", gzip.compress(bytes(99), mtime=0)[:-1], "it ends too early"),
        ("snappy", codecs.snappy_encode(b"") + b"\xff\xff\xff\xfc", "a block of -4 bytes"),
        ("snappy", codecs.snappy_encode(b"") + b"\0\0\0\x09x", "a block of 9 bytes"),
    ],
)
def test_packed_data_that_ends_early_or_goes_round_in_circles_is_refused(
    codec: str, body: bytes, why: str
) -> None:
    assert why in complaint(read(sealed(packed(0, [b"a"]), body, CODECS[codec])))[0]


def test_more_records_than_memory_was_allowed_for_are_refused_unread() -> None:
    plain = packed(0, [b""] * 1_000)
    flood = sealed(plain, codecs.zstd_encode(plain[HEADER_BYTES:]), CODECS["zstd"])
    why, skip_to = complaint(read_within(flood, 20_000))
    assert "1,000 records are too many" in why
    assert skip_to == 1_000


# --- the consumer's thread ------------------------------------------------------------------------


def test_what_cannot_be_read_is_reported_once_and_fetched_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "READ_AGAIN_S", 0.05)
    asyncio.run(report_once())


async def report_once() -> None:
    thread: Any = BatchThread.__new__(BatchThread)
    thread.epochs, thread._reported = {}, set()
    thread.app = SimpleNamespace(consumer_generation_id=1)
    thread.consumer = SimpleNamespace(transport=SimpleNamespace(max_batch_bytes=MB))
    dropped = asyncio.Event()
    bad = Partition().fetched(sealed(packed(0, [b"a"]), b"nonsense"))
    fetcher: Any = SimpleNamespace(
        _records={TP: bad},
        _closed=False,
        _wait_consume_future=None,
        _subscriptions=SimpleNamespace(reassignment_in_progress=False),
        _create_fetch_waiter=asyncio.get_running_loop().create_future,
        _notify=lambda _: dropped.set(),
    )
    [[batch]] = (await thread._fetched(fetcher, {TP}, 0)).values()
    assert batch.unreadable is not None
    assert await thread._fetched(fetcher, {TP}, 0) == {}
    assert fetcher._records == {TP: bad}  # so nothing is fetched in between
    await asyncio.wait_for(dropped.wait(), 30)
    assert not fetcher._records
    assert not thread._reported
