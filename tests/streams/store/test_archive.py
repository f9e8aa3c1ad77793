"""The archive protocol, on a topic in memory: any crash leaves a whole state behind."""

import random
from collections import Counter
from collections.abc import (
    Coroutine,
    Sequence,
)
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.checksums import DamagedError
from streams.state.registry import CHUNK
from streams.state.snapshot import slice_field
from streams.store.archive import (
    HEAD,
    PART_BYTES,
    SCHEMA,
    ArchivePlace,
    Copy,
    Ledger,
    Record,
    keep,
    markers,
    restored,
)
from streams.store.contract import Lost
from tests.support.archive_world import AT_MS, PLACE, World, finished, folded, state_of, world_of
from tests.support.shelf import (
    LOGS,
)


def stepped(work: Coroutine[Any, Any, int | None], turns: int) -> bool:
    """Let it do so many things; True when it has come to its end."""
    try:
        for _ in range(turns):
            work.send(None)
    except (StopIteration, Lost):
        return True
    return False


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
            offset, fields = backups[-number]
            world.shelf.offset, world.shelf.fields = offset, dict(fields)
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
    with pytest.raises(DamagedError, match=r"s:.*: is missing"):
        finished(world.writing(world.claim()))
    assert world.read() == there


def test_a_slice_with_a_wrong_bit_is_not_archived() -> None:
    world, _ = world_of(60)
    world.written(world.claim())
    there = world.read()
    name = slice_field(min(world.shelf.index))
    data = world.shelf.fields[name]
    world.shelf.fields[name] = data[:9] + bytes([data[9] ^ 1]) + data[10:]
    with pytest.raises(DamagedError, match=f"{name}: its checksum is wrong"):
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
        ArchivePlace("group|topic|7", "t", 1),  # a group may be called anything
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
