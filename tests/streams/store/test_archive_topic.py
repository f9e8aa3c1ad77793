"""The archive on a broker: written, found again, and kept apart from other records."""

import asyncio
import random
from collections.abc import (
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.checksums import checksum, seal_array
from streams.config.settings import Kafka
from streams.state.snapshot import encode_meta
from streams.store.archive import (
    HEAD,
    LOOK_BYTES,
    PART_BYTES,
    Archived,
    ArchiveError,
    Record,
)
from streams.store.archive_topic import KafkaArchive
from tests.support.archive_world import (
    World,
    state_of,
    world_of,
)
from tests.support.servers import Broker
from tests.support.shelf import (
    HOUR_S,
    NOON,
    plain,
    shelf_after,
)


def archived(kafka: Kafka, partition: int = 7) -> Archived | None:
    async def read() -> Archived | None:
        return await KafkaArchive(kafka).read(partition)

    return asyncio.run(read())


def kafka_of(broker: Broker, partitions: int = 2) -> Kafka:
    """Settings whose archive topic is a fresh one."""
    topic = broker.new_topic(partitions)
    return Kafka(bootstrap=broker.bootstrap, archive_topic=topic, topic="events", group="group")


def holder(shelf: Any) -> Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]:
    world = World(shelf=shelf, owner="me")

    async def look(names: Sequence[str]) -> Mapping[str, bytes]:
        await asyncio.sleep(0)
        there = {"offset": b"%d" % world.shelf.offset, **world.shelf.fields}
        return {name: there[name] for name in names if name in there}

    return look


def shelf_of(events: int, step_s: int = 60) -> Any:
    return shelf_after([plain(NOON + at * step_s, model=f"m-{at % 9}") for at in range(events)])


def test_a_state_comes_back_bit_for_bit_from_the_newest_archive(broker: Broker) -> None:
    kafka = kafka_of(broker)
    world, log = world_of(400, step_s=HOUR_S)

    async def run() -> list[int | None]:
        archive = KafkaArchive(kafka)
        offsets = [await archive.write(7, "me", holder(world.shelf))]
        world.checkpointed(log, len(log))
        return [*offsets, await archive.write(7, "me", holder(world.shelf))]

    assert asyncio.run(run()) == [200, 400]
    found = archived(kafka)
    assert found is not None
    assert (found.offset, found.fields) == state_of(world)
    assert archived(kafka, partition=9) is None
    # It lies where its number modulo the partitions of the archive says.
    assert asyncio.run(all_records(kafka, 0)) == []
    assert asyncio.run(all_records(kafka, 1)) != []


def test_an_owner_never_names_the_copies_of_another(broker: Broker) -> None:
    kafka = kafka_of(broker, partitions=1)
    shelf = shelf_of(30)

    async def run() -> None:
        archive = KafkaArchive(kafka)
        for owner in ("1:a", "1:a", "2:b"):
            await archive.write(7, owner, holder(shelf))

    asyncio.run(run())
    values = [key for key, value in asyncio.run(all_records(kafka)) if value is not None]
    assert len(values) == 2 * (len(shelf.fields) + 1) + len(HEAD)
    assert len({key.split(b"|")[4].split(b"-")[1] for key in values}) == 2


def test_groups_and_partitions_in_one_topic_do_not_mix(broker: Broker) -> None:
    kafka = kafka_of(broker)
    other = kafka.model_copy(update={"group": "another"})
    shelves = {(kafka.group, 7): shelf_of(20), (kafka.group, 9): shelf_of(30)}
    shelves |= {(other.group, 7): shelf_of(40), (other.group, 9): shelf_of(50)}

    async def run() -> None:
        for settings_ in (kafka, other):
            archive = KafkaArchive(settings_)
            await asyncio.gather(
                *(
                    archive.write(number, "me", holder(shelves[settings_.group, number]))
                    for number in (7, 9)
                )
            )

    asyncio.run(run())
    for settings_ in (kafka, other):
        for number in (7, 9):
            shelf = shelves[settings_.group, number]
            found = archived(settings_, number)
            assert found is not None
            assert (found.offset, found.fields) == (shelf.offset, shelf.fields)


def test_records_of_others_in_the_topic_do_no_harm(broker: Broker) -> None:
    kafka = kafka_of(broker, partitions=1)
    shelf = shelf_of(30)
    strange: list[tuple[bytes | None, bytes | None]] = [
        (None, b"x"),
        (b"\xff", b"x"),
        (b"group|events|7|", b"x"),
        (b"group|events|7|manifest|9-zz|0", b"no manifest"),
        (b"group|events|7|manifest|9-zz|0|0", None),
        (b"group|events|70|manifest|9-zz|0", b"x"),
    ]

    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        await producer.start()
        try:
            for key, value in strange:
                await producer.send_and_wait(kafka.archive_topic, value, key, 0)
            await KafkaArchive(kafka).write(7, "me", holder(shelf))
            for key, value in strange:
                await producer.send_and_wait(kafka.archive_topic, value, key, 0)
        finally:
            await producer.stop()

    asyncio.run(run())
    found = archived(kafka)
    assert found is not None
    assert (found.offset, found.fields) == (shelf.offset, shelf.fields)


def test_values_larger_than_a_record_and_a_state_larger_than_a_look_come_back(
    broker: Broker,
) -> None:
    kafka = kafka_of(broker, partitions=1)
    shelf = shelf_of(30)
    dice = random.Random(1)  # noise, which compression does not make smaller
    for name in shelf.fields:
        if name.startswith("s:"):
            noise = msgspec.msgpack.encode([dice.randbytes(300_000)])
            shelf.fields[name] = seal_array(name, noise)
    totals = shelf.fields["totals"] = dice.randbytes(2 * PART_BYTES + 1)
    checksums = {**shelf.meta.checksums, "totals": checksum("totals", totals)}
    shelf.fields["meta"] = encode_meta(msgspec.structs.replace(shelf.meta, checksums=checksums))
    assert sum(map(len, shelf.fields.values())) > 2 * LOOK_BYTES
    asyncio.run(KafkaArchive(kafka).write(7, "me", holder(shelf)))
    found = archived(kafka)
    assert found is not None
    assert (found.offset, found.fields) == (shelf.offset, shelf.fields)


class Dying(AIOKafkaProducer):  # type: ignore[misc]  # the package has no types
    """A producer that takes so many records and then no more."""

    left = 0

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        if Dying.left == 0:
            raise ConnectionError("gone")
        Dying.left -= 1
        return await super().send(*args, **kwargs)


def test_an_archive_that_ends_half_way_leaves_the_one_before(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = kafka_of(broker, partitions=1)
    world, log = world_of(100, step_s=10)
    old = state_of(world)[0], dict(world.shelf.fields)

    async def run() -> None:
        archive = KafkaArchive(kafka)
        await archive.write(7, "me", holder(world.shelf))
        world.checkpointed(log, len(log))
        monkeypatch.setattr("streams.store.archive_topic.AIOKafkaProducer", Dying)
        for Dying.left in (0, 1, 5):
            with pytest.raises(
                ArchiveError, match="archive of partition 7 cannot be written: gone"
            ):
                await archive.write(7, "me", holder(world.shelf))
            found = await archive.read(7)
            assert found is not None
            assert (found.offset, found.fields) == old
        Dying.left = -1
        await archive.write(7, "me", holder(world.shelf))

    asyncio.run(run())
    found = archived(kafka)
    assert found is not None
    assert (found.offset, found.fields) == state_of(world)
    # The next that comes to its end deletes what the others left.
    live: set[bytes] = set()
    topic = asyncio.run(all_records(kafka))
    for key, value in topic:
        (live.discard if value is None else live.add)(key)
    assert len(live) == len(world.shelf.fields) + 1


async def all_records(kafka: Kafka, number: int = 0) -> list[Record]:
    """All that was ever written to a partition of the archive topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    tp = TopicPartition(kafka.archive_topic, number)
    consumer.assign([tp])
    found: list[Record] = []
    try:
        while (end := consumer.highwater(tp)) is None or await consumer.position(tp) < end:
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                found += [(record.key, record.value) for record in batch]
    finally:
        await consumer.stop()
    return found


def test_an_archive_topic_made_again_is_noticed_and_written_whole(broker: Broker) -> None:
    kafka = kafka_of(broker, partitions=1)
    shelf = shelf_of(30)

    async def made_again() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.delete_topics([kafka.archive_topic])
        await admin.create_topics([NewTopic(kafka.archive_topic, 1, 1)])
        await admin.close()

    async def run() -> Archived | None:
        archive = KafkaArchive(kafka)
        await archive.write(7, "me", holder(shelf))
        await made_again()
        with pytest.raises(ArchiveError, match="has lost records or was made again"):
            await archive.write(7, "me", holder(shelf))
        await archive.write(7, "me", holder(shelf))
        return await archive.read(7)

    found = asyncio.run(run())
    assert found is not None
    assert (found.offset, found.fields) == (shelf.offset, shelf.fields)


def test_a_missing_topic_is_named_and_not_made(broker: Broker) -> None:
    kafka = Kafka(bootstrap=broker.bootstrap, archive_topic="nobody-made-this")
    for _ in range(2):  # asking for it would have made it
        with pytest.raises(ArchiveError, match=r"nobody-made-this: no such topic at .*; run"):
            asyncio.run(KafkaArchive(kafka).write(0, "me", holder(shelf_of(3))))
        with pytest.raises(ArchiveError, match=r"nobody-made-this: no such topic at .*; run"):
            archived(kafka)


def test_no_broker_is_an_error_of_one_line(unused_port: int) -> None:
    kafka = Kafka(bootstrap=f"127.0.0.1:{unused_port}")
    for work in (
        lambda: KafkaArchive(kafka).write(0, "me", holder(shelf_of(3))),
        lambda: KafkaArchive(kafka).read(0),
    ):
        with pytest.raises(ArchiveError) as told:
            asyncio.run(work())
        assert "\n" not in str(told.value)
        assert f"127.0.0.1:{unused_port}" in str(told.value)
