"""Record batches that are damaged, too large or no batches: refused, and never a made-up record."""

import asyncio
import gzip
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import codec as codecs
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import encode_varint
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka import transport
from streams.kafka.transport import BatchThread
from tests.support.record_batch_samples import (
    ABORT,
    BOMBS,
    CODECS,
    HEADER_BYTES,
    LENGTH_AT,
    MB,
    TP,
    Partition,
    at,
    complaint,
    marker,
    numbered,
    packed,
    read,
    read_within,
    records_of,
    sealed,
    taken,
)

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
        assert f"unknown compression codec {number}; the log continues at offset 1" in why
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
    [[batch]] = (await thread._next_batches(fetcher, {TP}, 0)).values()
    assert batch.unreadable is not None
    assert await thread._next_batches(fetcher, {TP}, 0) == {}
    assert fetcher._records == {TP: bad}  # so nothing is fetched in between
    await asyncio.wait_for(dropped.wait(), 30)
    assert not fetcher._records
    assert not thread._reported
