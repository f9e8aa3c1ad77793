"""What is sent arrives, once, in order and unchanged."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import get_args

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from streams.config.settings import Kafka
from streams.errors import Unavailable
from streams.kafka.producer import CHUNK_RECORDS, Codec, EventProducer, partition_of, produce
from tests.support.servers import Broker


def events(count: int, keys: int = 97, value_bytes: int = 200) -> list[tuple[bytes, bytes]]:
    """`count` records over `keys` keys; a value begins with its number and goes on with noise."""
    dice = random.Random(count)
    return [
        (b"key-%d" % dice.randrange(keys), b"%d " % number + dice.randbytes(value_bytes))
        for number in range(count)
    ]


def by_key(records: list[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for key, value in records:
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("codec", get_args(Codec))
def test_every_record_arrives_exactly_once_in_the_order_of_its_key(
    broker: Broker, codec: Codec
) -> None:
    kafka = broker.new_kafka(partitions=3, max_message_bytes=65_536)
    sent = events(3 * CHUNK_RECORDS + 17)

    async def run() -> int:
        async with EventProducer(kafka, compression=codec) as producer:
            return await produce(sent, producer)

    assert asyncio.run(run()) == len(sent)
    log = broker.read(kafka.topic, len(sent))
    for number, records in log.items():
        expected = [(k, v) for k, v in sent if (murmur2(k) & 0x7FFFFFFF) % 3 == number]
        assert [(record.key, record.value) for record in records] == expected


def test_records_sent_one_by_one_and_many_at_once_keep_their_order(broker: Broker) -> None:
    kafka = broker.new_kafka(partitions=2)
    sent = events(500, keys=5)

    async def run() -> None:
        # A linger of nothing: batches leave at every turn of the loop, behind each other.
        async with EventProducer(kafka, linger_ms=0) as producer:
            for key, value in sent[:200]:
                await producer.send(key, value)
                await asyncio.sleep(0)
            await producer.send_many(sent[200:450])
            for key, value in sent[450:]:
                await producer.send(key, value)

    asyncio.run(run())
    log = broker.read(kafka.topic, len(sent))
    arrived = [(record.key, record.value) for records in log.values() for record in records]
    assert by_key(arrived) == by_key(sent)


def test_a_record_leaves_when_its_linger_is_over_without_a_flush(broker: Broker) -> None:
    kafka = broker.new_kafka()

    async def run() -> None:
        async with EventProducer(kafka, linger_ms=20) as producer:
            await producer.send(b"k", b"v")
            await asyncio.to_thread(broker.read, kafka.topic, 1)
            assert producer.sent == 1

    asyncio.run(run())


def test_the_timestamp_given_is_the_records_timestamp_in_milliseconds(broker: Broker) -> None:
    kafka = broker.new_kafka()

    async def run() -> None:
        async with EventProducer(kafka) as producer:
            await producer.send(b"a", b"1", timestamp_ms=1_700_000_000_123)
            await producer.send_many([(b"b", b"2"), (b"c", b"3")], timestamp_ms=5)

    asyncio.run(run())
    [records] = broker.read(kafka.topic, 3).values()
    assert [record.timestamp for record in records] == [1_700_000_000_123, 5, 5]


def test_no_batch_is_larger_than_the_brokers_limit(broker: Broker) -> None:
    kafka = broker.new_kafka(max_message_bytes=16_384)
    sent = events(400, value_bytes=1_000)

    async def run() -> int:
        async with EventProducer(kafka, compression="none") as producer:
            await producer.send_many(sent)
            await producer.flush()
            return producer.batches

    # 15 records of 1,000 bytes and their framing fit into 16,384 bytes.
    assert asyncio.run(run()) >= 400 / 15
    broker.read(kafka.topic, 400)


def test_a_sender_waits_while_too_much_is_unconfirmed(broker: Broker) -> None:
    kafka = broker.new_kafka(partitions=2)
    sent = events(4 * CHUNK_RECORDS, value_bytes=100)

    async def run() -> int:
        async with EventProducer(kafka, max_in_flight_bytes=50_000) as producer:
            most = 0
            for start in range(0, len(sent), 500):
                await producer.send_many(sent[start : start + 500])
                most = max(most, start + 500 - producer.sent)
            return most

    # 50,000 bytes are 500 records; a sender is one piece of 500 ahead of that at the most.
    assert asyncio.run(run()) <= 1_000
    broker.read(kafka.topic, len(sent))


def test_records_without_a_key_are_spread_over_all_partitions(broker: Broker) -> None:
    kafka = broker.new_kafka(partitions=4)

    async def run() -> None:
        async with EventProducer(kafka) as producer:
            await producer.send_many([(None, b"%d" % number) for number in range(40)])

    asyncio.run(run())
    assert [len(records) for records in broker.read(kafka.topic, 40).values()] == [10] * 4


def test_an_async_source_is_sent_too(broker: Broker) -> None:
    kafka = broker.new_kafka()

    async def source() -> AsyncIterator[tuple[bytes | None, bytes]]:
        for number in range(CHUNK_RECORDS + 1):
            yield b"k", b"%d" % number

    async def run() -> int:
        async with EventProducer(kafka) as producer:
            return await produce(source(), producer)

    assert asyncio.run(run()) == CHUNK_RECORDS + 1
    [records] = broker.read(kafka.topic, CHUNK_RECORDS + 1).values()
    assert [int(record.value) for record in records] == list(range(CHUNK_RECORDS + 1))


@given(st.lists(st.binary(max_size=50), max_size=40), st.integers(1, 64))
def test_a_key_goes_where_every_kafka_client_sends_it(keys: list[bytes], partitions: int) -> None:
    expected = [(murmur2(key) & 0x7FFFFFFF) % partitions for key in keys]
    assert partition_of(keys, partitions).tolist() == expected


def test_a_missing_topic_is_refused_and_not_created(broker: Broker) -> None:
    kafka = Kafka(bootstrap=broker.bootstrap, topic="nobody-made-this")

    async def run() -> None:
        async with EventProducer(kafka):
            pass

    for _ in range(2):  # the second time it would exist, had the first look created it
        with pytest.raises(Unavailable, match=r"^nobody-made-this: no such topic at .*create"):
            asyncio.run(run())


def test_a_broker_that_does_not_answer_is_one_line(unused_port: int) -> None:
    async def run() -> None:
        async with EventProducer(Kafka(bootstrap=f"127.0.0.1:{unused_port}")):
            pass

    with pytest.raises(Unavailable) as caught:
        asyncio.run(run())
    assert str(caught.value) == (
        f"no Kafka broker answers at 127.0.0.1:{unused_port}: start it, or set kafka.bootstrap"
    )
