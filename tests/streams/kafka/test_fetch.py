"""Record batches as they come from a broker: whole, or cut by the end of a response."""

import asyncio
import gzip
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cramjam
import pytest
from aiokafka import codec as codecs
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka import fetch as batches
from streams.kafka.fetch import keep_bytes, take
from streams.kafka.record_batches import FetchedRecords
from tests.support.record_batch_samples import (
    ABORT,
    CODECS,
    COMMIT,
    HEADER_BYTES,
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


@given(st.sets(st.integers(0, 59)), st.integers(0, 59), st.integers(0, 60))
def test_each_offset_that_compaction_removed_is_named_and_no_other(
    kept: set[int], position: int, since: int
) -> None:
    # Three batches of 20 offsets; one of which nothing is left is gone, and the others end with
    # their last record that is left.
    kept = kept | {59}
    data = b""
    for base in range(0, 60, 20):
        builder = DefaultRecordBatchBuilder(2, 0, False, -1, 0, 0, 1 << 30)
        for offset in sorted(kept & set(range(base, base + 20))):
            builder.append(offset - base, 1, b"key", b"%060d" % offset, [])
        if kept & set(range(base, base + 20)):
            data += at(base, bytes(builder.build()))
    found = read(data, position)
    gone = set(range(position, 60)) - kept
    named = [set(range(*stretch)) for batch in found for stretch in batch.removed]
    assert set().union(*named) == gone
    assert sum(batch.removed_records for batch in found) == len(gone)
    rest = sum(batch.since(since).removed_records for batch in found)
    assert rest == len({offset for offset in gone if offset >= since})


@pytest.mark.parametrize("committed", [True, False])
def test_aborted_transactions_and_markers_are_not_removed(committed: bool) -> None:
    data = packed(0, [b"a", b"b"], "zstd", 7, True) + marker(2, 7, ABORT) + packed(5, [b"c"])
    [found] = read(data, aborted=((7, 0),), committed=committed)
    assert found.removed == [(3, 5)]


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
