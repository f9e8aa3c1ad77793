"""Whole lives of the real pipeline in a made-up world: two workers, a group, a log, a store.

The pipeline is the worker's own, with decoding, duplicates, slices and checkpoints; the store is
the one in memory, which may be slow, lose answers, go back to an older state or lose everything;
the group moves the partition whenever it likes, also behind a sleeping owner's back. Time is made
up, too, so that a life of minutes takes a fraction of a second. In the end the stored state must be
that of a worker to whom nothing ever happened, bit for bit. If an operator sets the watermark back,
that worker gets the command at the offset at which the stored state says that it was applied.
In some lives single bits of stored fields change, or fields vanish.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any

import msgspec
import pytest

from streams.state.set_back import SetBack
from streams.state.slices import PROBES_AT, Aggregate, duplicates_of, rejections_by_reason
from streams.state.snapshot import decode_meta
from streams.store.contract import Lost, OperatorCommand
from tests.support.memory_store import MemoryHash
from tests.support.pipeline_world import EVENTS, MadeUpTime, Member, World
from tests.support.shelf import Shelf

LIVES, QUICK_LIVES, DAMAGED_LIVES = 60, 8, 12
LIVES_WITH_A_COMMAND = (24, *range(7))
QUICK_LIVES_OF_A_KIND = 4
WILD_AT = 90  # number of a record with a wrong clock, in those lives


async def live(world: World, troubles: bool) -> None:
    members = [Member(world) for _ in range(2)]
    try:
        world.owner = members[0]
        await members[0].assigned(0)
        while world.end < EVENTS:
            world.end = min(EVENTS, world.end + world.dice.randint(0, 12))
            if world.set_back is not None:
                await repeat_command(world, world.set_back)
            await asyncio.sleep(1)
            give_command(world)
            if troubles:
                await trouble(world, members)
                damage(world)
            await restart(world, members)
        world.calm, world.away = True, False
        for member in members:
            member.asleep = False
        world.generation += 1
        await world.owner.assigned(world.generation)
        async with asyncio.timeout(600):
            while world.hash.offset != EVENTS:
                await asyncio.sleep(1)
                await restart(world, members)
            if world.damaged:
                await repair(world)
    finally:
        for member in members:
            await member.end()


def damage(world: World) -> None:
    """Change one bit of a stored field, or delete the field; seldom."""
    dice, stored = world.damage_dice, world.hash
    if dice is None or not stored.fields or dice.random() > 0.05:
        return
    world.damaged += 1
    name = dice.choice(["offset", *stored.fields])
    if name == "offset":
        stored.offset = (stored.offset or 0) ^ 1 << dice.randrange(9)
    elif dice.random() < 0.3:
        del stored.fields[name]
    else:
        wrong = bytearray(stored.fields[name])
        wrong[dice.randrange(len(wrong))] ^= 1 << dice.randrange(8)
        stored.fields[name] = bytes(wrong)


async def repair(world: World) -> None:
    """Let the owner check all fields, as it would in turn, and read what it has to read again."""
    now_ms = time.time_ns() // 1_000_000
    world.redis.orders[0] = OperatorCommand("2", "repair", 0, "", "", now_ms)
    while world.redis.pulses[0].get("order") != "2":  # noqa: ASYNC110 (time is made up)
        await asyncio.sleep(1)
    while world.hash.offset != EVENTS:  # noqa: ASYNC110
        await asyncio.sleep(1)
    await asyncio.sleep(5)  # a checkpoint of restored slices


def give_command(world: World) -> None:
    """Enqueue a command for a time up to half an hour before the stored watermark, if it is due."""
    if world.end < world.command_at or world.redis.orders or not world.hash.fields:
        return
    watermark_ms = decode_meta(world.hash.fields["meta"]).watermark_ms
    if watermark_ms is None:  # all records so far were rejected
        return
    to_ms = watermark_ms - world.dice.randint(1, 1_800_000)
    world.redis.orders[0] = OperatorCommand("1", "set-watermark", to_ms, "", "", world.commanded_ms)


async def repeat_command(world: World, set_back: SetBack) -> None:
    """Let the log end where the command is to be applied, until that is stored."""
    if world.end < set_back.offset or world.redis.orders:
        return
    world.end = set_back.offset
    while world.hash.offset != set_back.offset:  # noqa: ASYNC110 (time is made up)
        await asyncio.sleep(1)
    world.redis.orders[0] = OperatorCommand(
        set_back.command, "set-watermark", set_back.to_ms, "", "", world.commanded_ms
    )
    while decode_meta(world.hash.fields["meta"]).set_back is None:  # noqa: ASYNC110
        await asyncio.sleep(1)


async def restart(world: World, members: list[Member]) -> None:
    """A worker from whom the partition was claimed again and again ends, and is started again."""
    for place, member in enumerate(members):
        if member.lost_heart is None:
            continue
        assert isinstance(member.lost_heart, Lost), member.lost_heart
        await member.end()
        members[place] = Member(world)
        if world.owner is member:
            world.owner, world.generation = members[place], world.generation + 1
            await members[place].assigned(world.generation)


async def trouble(world: World, members: list[Member]) -> None:
    what = world.dice.random()
    world.away = world.dice.random() < 0.05
    if world.hash.offset and world.dice.random() < 0.5:
        world.committed = world.hash.offset
    if what < 0.08:
        world.owner.asleep = world.dice.random() < 0.5  # it does not hear of what follows
        world.generation += 1
        if not world.owner.asleep:
            await world.owner.worker.revoke()
        world.owner = world.dice.choice(members)
        world.owner.asleep = False
        await world.owner.assigned(world.generation)
    elif what < 0.16:
        world.backups = [*world.backups[-2:], world.hash.copy()]
    elif what < 0.20 and world.backups:
        world.hash.restore(world.dice.choice(world.backups))
    elif what < 0.21:
        world.hash.restore(MemoryHash())
    elif what < 0.3:
        world.dice.choice(members).asleep = False


@cache
def undisturbed(seed: int) -> dict[str, Any]:
    """What a worker without troubles stores of the log with this seed."""
    return stored_after(World(seed), troubles=False)


def stored_after(world: World, troubles: bool) -> dict[str, Any]:
    """What is stored in the end, but for how often the state was lost."""
    loop = MadeUpTime()
    world.calm = not troubles
    try:
        loop.run_until_complete(live(world, troubles))
    finally:
        loop.close()
    shelf = Shelf()
    shelf.fields, shelf.offset = world.hash.fields, world.hash.offset or 0
    stored = shelf.lasting()
    return stored | {"meta": msgspec.structs.replace(stored["meta"], rebuilt=0)}


def assert_undisturbed(seed: int) -> None:
    assert stored_after(World(seed), troubles=True) == undisturbed(seed)


@pytest.mark.parametrize("seed", range(QUICK_LIVES))
def test_whatever_happens_the_state_is_that_of_an_undisturbed_worker(seed: int) -> None:
    assert_undisturbed(seed)


def some_quick(seeds: Sequence[int]) -> list[Any]:
    """All seeds; only the first ones are lived in `make test`."""
    return [
        pytest.param(seed, marks=() if number < QUICK_LIVES_OF_A_KIND else pytest.mark.slow)
        for number, seed in enumerate(seeds)
    ]


@pytest.mark.parametrize("seed", some_quick(range(DAMAGED_LIVES)))
def test_damage_of_any_stored_field_changes_no_number(seed: int) -> None:
    world = World(seed)
    world.damage_dice = Random(seed)
    stored = stored_after(world, troubles=True)
    assert world.damaged
    assert stored == undisturbed(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK_LIVES, LIVES))
def test_the_state_of_further_lives_is_that_of_an_undisturbed_worker(seed: int) -> None:
    assert_undisturbed(seed)


def poisoned(seed: int) -> World:
    """A world in whose log one event lies half an hour ahead of the others."""
    world = World(seed)
    event = {"request_id": "wild", "ended_at": world.timestamps_ms[0], "model": "a"}
    world.values[WILD_AT] = json.dumps({**event, "outcome": "success"}).encode()
    return world


@pytest.mark.parametrize("seed", some_quick(LIVES_WITH_A_COMMAND))
def test_a_watermark_set_back_takes_effect_once_whatever_happens(seed: int) -> None:
    disturbed, calm = poisoned(seed), poisoned(seed)
    disturbed.command_at = WILD_AT + seed * 10
    stored = stored_after(disturbed, troubles=True)
    calm.set_back, calm.commanded_ms = stored["meta"].set_back, disturbed.commanded_ms
    assert stored == stored_after(calm, troubles=False)


def test_every_record_of_the_made_up_log_is_counted_refused_or_a_duplicate() -> None:
    world, shelf = World(3), Shelf()
    shelf.fields = undisturbed(3)
    meta: Any = shelf.fields["meta"]
    totals = Aggregate.unpack(shelf.fields["totals"])
    good = [value for value in world.values if value and not value.startswith(b"{{")]
    refused = sum(rejections_by_reason(totals).values())
    assert refused == EVENTS - len(good) > 20
    assert int(totals.series.values[:, :PROBES_AT].sum()) + duplicates_of(totals) == len(good)
    assert duplicates_of(totals) > 20
    assert meta.lost_records == 0
