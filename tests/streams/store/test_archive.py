"""The archive gives back a state that was, to the last bit, or says that it has none."""

import asyncio
import random
from collections import Counter
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.config.settings import Kafka
from streams.state.registry import CHUNK
from streams.state.snapshot import slice_field
from streams.store.archive import (
    HEAD,
    LOOK_BYTES,
    PART_BYTES,
    SCHEMA,
    Archived,
    ArchiveError,
    Copy,
    Ledger,
    Place,
    Record,
    keep,
    markers,
    restored,
    write,
)
from streams.store.archive_topic import KafkaArchive
from streams.store.contract import Lost
from tests.support.servers import Broker
from tests.support.shelf import (
    HOUR_S,
    LOGS,
    NOON,
    Shelf,
    checkpoint,
    count,
    loaded,
    plain,
    shelf_after,
)

PLACE = Place("group", "topic", 7)
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


def stepped(work: Coroutine[Any, Any, int | None], turns: int) -> bool:
    """Let it do so many things; True when it has come to its end."""
    try:
        for _ in range(turns):
            work.send(None)
    except (StopIteration, Lost):
        return True
    return False


def state_of(world: World) -> tuple[int, dict[str, bytes]]:
    return world.shelf.offset, world.shelf.fields


def compacted(log: Sequence[Record], dice: random.Random) -> list[Record]:
    """What compaction may leave: of the records that a later one of their key supersedes any may be
    gone, and of the deletions those with nothing before them."""
    last = {key: at for at, (key, _) in enumerate(log)}
    left = [one for at, one in enumerate(log) if last[one[0]] == at or dice.random() < 0.5]
    first = {key: at for at, (key, _) in reversed(list(enumerate(left)))}
    return [
        (key, value)
        for at, (key, value) in enumerate(left)
        if value is not None or first[key] != at or dice.random() < 0.5
    ]


# --- the protocol --------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("checkpoint"), st.integers(1, 9)),
        st.tuples(st.just("checkpoint"), st.integers(1, 9)),
        st.tuples(st.just("archive"), st.just(0)),
        st.tuples(st.just("begin"), st.integers(0, 60)),
        st.tuples(st.just("go on"), st.integers(1, 60)),
        st.tuples(st.just("claim"), st.just(0)),
        st.tuples(st.just("roll back"), st.integers(1, 3)),
        st.tuples(st.just("compact"), st.integers(0, 99)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(LOGS, ACTIONS)
def test_whatever_happens_the_archive_is_a_state_that_was(
    log: list[Any], actions: list[tuple[str, int]]
) -> None:
    world = World()
    ledger: Ledger | None = world.claim()
    writers: list[Coroutine[Any, Any, int | None]] = []
    backups: list[Any] = []
    complete = False
    for what, number in actions:
        if what == "checkpoint":
            backups.append((world.shelf.offset, dict(world.shelf.fields)))
            world.checkpointed(log, min(len(log), world.shelf.offset + number))
        if what == "roll back" and len(backups) >= number:
            # The numbers of checkpoints are given out again, to the next owner.
            world.shelf.offset, world.shelf.fields = backups[-number]
            ledger = world.claim()
        if what == "claim":
            ledger = world.claim()
        if what == "begin":
            # An owner has one writer; begun on a ledger, it uses it up.
            writer = world.writing(ledger or world.claim())
            ledger = None
            if not stepped(writer, number):
                writers.append(writer)
        if what == "go on" and writers and stepped(writers[number % len(writers)], number):
            del writers[number % len(writers)]
        if what == "archive" and world.shelf.fields:
            ledger = ledger or world.claim()
            world.written(ledger)
            complete = True
            assert (found := world.read()) is not None
            assert (found.offset, found.fields) == state_of(world)
        if what == "compact":
            world.log = compacted(world.log, random.Random(number))
        found = world.read()
        assert found is not None or not complete
        assert found is None or (found.offset, found.fields) in world.history
    for writer in writers:
        writer.close()


@settings(max_examples=60, deadline=None)
@given(LOGS, st.lists(st.integers(1, 20), min_size=1, max_size=5), st.randoms())
def test_every_first_part_of_the_log_and_all_that_compaction_may_leave_of_it_reads_the_same(
    log: list[Any], sizes: list[int], dice: random.Random
) -> None:
    world = World()
    ledger = world.claim()
    for size in sizes:
        world.checkpointed(log, min(len(log), world.shelf.offset + size))
        world.written(ledger)
    for end in range(len(world.log) + 1):
        part = world.log[:end]
        found = restored(PLACE, folded(part))[0]
        assert restored(PLACE, folded(compacted(part, dice)))[0] == found
        assert found is None or (found.offset, found.fields) in world.history


def world_of(events: int, step_s: int = 1) -> tuple[World, list[Any]]:
    log = [plain(NOON + at * step_s, model=f"model-{at % 5}") for at in range(events)]
    world = World()
    world.checkpointed(log, events // 2)
    return world, log


def test_a_second_archive_of_the_same_state_is_the_head_and_a_manifest() -> None:
    world, _ = world_of(200, step_s=60)
    ledger = world.claim()
    assert world.written(ledger) == len(world.shelf.fields) + 1
    head_and_manifest = len(HEAD[1:]) + 1
    for _ in range(3):
        assert world.written(ledger) == 2 * head_and_manifest  # new ones, and the old deleted
    assert len(world.live()) == len(world.shelf.fields) + 1


def test_an_archive_is_written_only_where_the_state_changed() -> None:
    world, log = world_of(200, step_s=60)
    ledger = world.claim()
    world.written(ledger)
    before = dict(world.shelf.fields)
    world.checkpointed(log, len(log))
    changed = {name for name, data in world.shelf.fields.items() if before.get(name) != data}
    assert 3 < len(changed) < len(world.shelf.fields)
    at = len(world.log)
    world.written(ledger)
    written = Counter(
        key.split(b"|")[3].decode() for key, value in world.log[at:] if value is not None
    )
    assert written == Counter([*changed, "manifest"])
    assert len(world.live()) == len(world.shelf.fields) + 1  # nothing is left behind


def test_a_new_owner_writes_all_and_leaves_nothing_of_those_before_it() -> None:
    world, log = world_of(60)
    torn = world.writing(world.claim())
    assert not stepped(torn, 9)
    torn.close()
    assert world.read() is None
    world.checkpointed(log, len(log))
    world.written(world.claim())
    assert {key.split(b"|")[4].split(b"-")[1] for key in world.live()} == {b"run2"}


def test_checkpoints_go_on_while_the_archive_is_written() -> None:
    world, log = world_of(120, step_s=10)
    work = world.writing(world.claim())
    turns = 0
    while not stepped(work, 1):
        turns += 1
        if world.shelf.offset < len(log):  # a checkpoint at every turn
            world.checkpointed(log, world.shelf.offset + 1)
    assert turns > len(log) // 2
    assert (found := world.read()) is not None
    assert (found.offset, found.fields) == state_of(world)
    assert found.offset == len(log)


def test_a_checkpoint_at_any_moment_of_the_writing_leaves_it_whole() -> None:
    moment, ended = 0, False
    while not ended:
        world, log = world_of(40, step_s=10)
        work = world.writing(world.claim())
        ended = stepped(work, moment)
        world.checkpointed(log, len(log))
        assert ended or stepped(work, 1_000)
        assert (found := world.read()) is not None
        assert (found.offset, found.fields) in world.history
        moment += 1


def test_a_writer_whose_partition_was_taken_does_not_shadow_the_new_owner() -> None:
    world, log = world_of(80)
    zombie = world.claim()
    world.written(zombie)
    world.checkpointed(log, 60)
    work = world.writing(zombie)
    assert not stepped(work, 8)  # it has looked, and not yet written all that it saw
    owner = world.claim()
    world.checkpointed(log, 80)
    world.written(owner)
    there = world.read()
    while not stepped(work, 1):
        assert world.read() == there  # neither its manifest nor its deletions change that
    assert world.read() == there
    assert any(key not in owner.keys for key in world.live()), "the zombie wrote nothing"
    world.written(world.claim())
    assert len(world.live()) == len(world.shelf.fields) + 1


def test_a_damaged_state_is_not_archived() -> None:
    world, _ = world_of(60)
    world.written(world.claim())
    there = world.read()
    del world.shelf.fields[slice_field(min(world.shelf.index))]
    with pytest.raises(ArchiveError, match=r"group\|topic\|7\|s:.*gone from the store.*damaged"):
        finished(world.writing(world.claim()))
    assert world.read() == there


def test_a_claimed_partition_without_a_state_has_no_archive() -> None:
    world = World()
    assert finished(world.writing(world.claim())) is None
    assert world.log == []
    assert world.read() is None


def test_markers_name_every_field_of_a_state() -> None:
    world, _ = world_of(60)
    assert {*markers(world.shelf.fields), *HEAD[1:]} == set(world.shelf.fields)


def test_a_chunk_of_names_is_marked_by_how_many_it_has() -> None:
    world, _ = world_of(60)
    meta = msgspec.structs.replace(world.shelf.meta, series=2 * CHUNK, customers=CHUNK + 1)
    found = markers({"meta": msgspec.msgpack.encode(meta), "index": world.shelf.fields["index"]})
    names = {name: marker for name, marker in found.items() if not name.startswith("s:")}
    assert names == {"series:0": CHUNK, "series:1": CHUNK, "cubes:0": CHUNK, "cubes:1": 1}


@given(st.integers(0, 3), st.integers(-1, 1), st.randoms())
def test_a_large_value_is_split_and_a_missing_or_changed_part_is_noticed(
    parts: int, more: int, dice: random.Random
) -> None:
    data = bytes(max(0, parts * PART_BYTES + more))
    ledger = World().claim()
    copy, records = ledger.draft("totals", data)
    assert copy.parts == len(records) == max(1, -(-len(data) // PART_BYTES))
    assert all(len(value) <= PART_BYTES for _, value in records if value is not None)
    ledger.hold("totals", 1, copy)
    manifest, _ = ledger.manifest(5, AT_MS, ["totals"], {})
    there = folded([*records, manifest])
    found, faults = restored(PLACE, there)
    assert found is not None
    assert (found.fields["totals"], faults) == (data, [])
    victim = dice.choice(records)[0]
    for damage in (None, there[victim] + b"x", there[victim][:-1] + b"\x01"):
        broken = dict(there)
        keep(broken, victim, damage)
        found, [fault] = restored(PLACE, broken)
        assert found is None
        assert f"the copy {copy.version} of totals is not whole" in fault


def test_only_whole_keys_of_the_same_group_topic_and_partition_are_ours() -> None:
    copy = Copy("1-run", 1, 0, 0)
    [ours] = PLACE.keys("meta", copy)
    assert PLACE.owns(ours)
    for other in (
        replace(PLACE, group="group2"),
        replace(PLACE, topic="topic2"),
        replace(PLACE, partition=77),
        Place("group|topic|7", "t", 1),  # a group may be called anything
    ):
        [key] = other.keys("meta", copy)
        assert not PLACE.owns(key)
        assert other.owns(key)
    for foreign in (None, b"", b"x", b"\xff|", ours + b"|0", PLACE.prefix.encode()):
        assert not PLACE.owns(foreign)


def test_what_is_no_manifest_under_a_manifests_name_is_passed_over() -> None:
    world, _ = world_of(60)
    world.written(world.claim())
    there = world.read()
    for number, garbage in enumerate((b"", b"\xc1", b"\x01", msgspec.msgpack.encode([SCHEMA, 1]))):
        world.log.append((f"{PLACE.prefix}manifest|{number}-x|0".encode(), garbage))
        found, faults = restored(PLACE, world.live())
        assert found == there
        assert len(faults) == number + 1


def test_an_archive_of_a_newer_program_is_not_read() -> None:
    world = World()
    newer = msgspec.msgpack.encode([SCHEMA + 1, {"what": "ever"}])
    world.log.append((f"{PLACE.prefix}manifest|1-x|0".encode(), newer))
    with pytest.raises(ValueError, match="archive has schema 2, this program knows 1: upgrade"):
        world.read()


# --- on a broker ---------------------------------------------------------------------------------


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
            shelf.fields[name] = dice.randbytes(300_000)
    shelf.fields["totals"] = dice.randbytes(2 * PART_BYTES + 1)
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
