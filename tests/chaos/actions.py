"""What is done to the stack: each action with its weight and what must be so before it.

The numbers F1... are those of docs/reliability.md. Whatever an action breaks, it has mended later.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.fleet import Is, Slot
from tests.chaos.world import World
from tests.support.kafka_admin import add_partitions
from tests.support.redis_proxy import Fate, Rule

PARTITIONS_MORE = 2
LEAST_UP = 1
MEET_S = 3.0


@dataclass(frozen=True)
class Action:
    """One kind of trouble."""

    name: str
    weight: float
    possible: Callable[[World], bool]
    do: Callable[[World], str | None]  # what exactly was done, for the story


def _has(state: Is, at_least: int = 1, untroubled: bool = False) -> Callable[[World], bool]:
    return lambda world: len(world.slots(state, untroubled)) >= at_least


# -- workers ---------------------------------------------------------------------------------------


def _start(world: World) -> str:
    slot = world.any(Is.OFF)
    slot.start()
    return f"worker {slot.number}"


def _kill(world: World) -> str:
    slot = world.any(Is.UP)
    slot.kill()
    return f"worker {slot.number}"


def _stop(world: World) -> str:
    slot = world.any(Is.UP)
    slot.stop()
    return f"worker {slot.number}"


def _freeze(world: World, least_s: float, most_s: float) -> str:
    slot, for_s = world.any(Is.UP), world.dice.uniform(least_s, most_s)
    slot.freeze()
    world.later(for_s, f"worker {slot.number} thaws", slot.thaw)
    return f"worker {slot.number} for {for_s:.1f} s"


def _freeze_for_long(world: World) -> str:
    session_s = world.settings.kafka.session_timeout_s
    return _freeze(world, session_s * 1.2, session_s * 2)


def _come_and_go(world: World) -> str:
    slots = world.slots(Is.OFF)
    for at, slot in enumerate(slots):
        slot.start()
        world.later(5 + 2 * at, f"worker {slot.number} is told to end again", lambda s=slot: _go(s))  # type: ignore[misc]
    return "workers " + ", ".join(str(slot.number) for slot in slots)


def _go(slot: Slot) -> None:
    if slot.state is Is.UP:
        slot.stop()


# -- between workers and Redis ---------------------------------------------------------------------


def _rule(world: World, fate: Fate, least_s: float, most_s: float) -> str:
    slot = world.any(Is.UP, untroubled=True)
    name = world.dice.choices(("FLUSH", "CLAIM"), (4, 1))[0]
    for_s = world.dice.uniform(least_s, most_s)
    rule = slot.proxy.next(name, fate)
    world.later(for_s, f"worker {slot.number}: what was held passes", rule.release)
    return f"worker {slot.number}: {name} for {for_s:.1f} s"


def _hold_a_reply_and_kill(world: World) -> str:
    slot = world.any(Is.UP, untroubled=True)
    rule = slot.proxy.next("FLUSH", Fate.REPLY_HELD)
    met = _met(rule)
    slot.kill()
    rule.release()
    return f"worker {slot.number}" + ("" if met else ", which wrote nothing meanwhile")


def _met(rule: Rule) -> bool:
    deadline_s = time.monotonic() + MEET_S
    while not rule.replies and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return bool(rule.replies)


def _trouble(
    world: World, begin: Callable[[Slot], None], end: Callable[[Slot], None], most_s: float
) -> str:
    there = world.slots(Is.UP, untroubled=True)
    slots = there if world.dice.random() < 0.3 else [world.dice.choice(there)]
    for_s = world.dice.uniform(1, most_s)
    for slot in slots:
        slot.troubled = True
        begin(slot)
        world.later(for_s, f"worker {slot.number}: Redis as before", lambda s=slot: _over(s, end))  # type: ignore[misc]
    return f"workers {', '.join(str(one.number) for one in slots)} for {for_s:.1f} s"


def _over(slot: Slot, end: Callable[[Slot], None]) -> None:
    end(slot)
    slot.troubled = False


def _slow(world: World) -> str:
    def begin(slot: Slot) -> None:
        slot.proxy.delay_s = world.dice.choice((0.05, 0.2, 1.0))

    def end(slot: Slot) -> None:
        slot.proxy.delay_s = 0

    return _trouble(world, begin, end, 8)


def _hang(world: World) -> str:
    return _trouble(world, lambda slot: slot.proxy.hold(), lambda slot: slot.proxy.mend(), 8)


def _cut(world: World) -> str:
    return _trouble(world, lambda slot: slot.proxy.cut(), lambda slot: slot.proxy.mend(), 10)


# -- servers ---------------------------------------------------------------------------------------


def _kill_redis(world: World) -> str:
    world.watch.suspend()
    world.redis.kill()
    world.redis_up = False

    def restart() -> None:
        world.redis.start()
        world.redis_up = True
        world.watch.resume()

    for_s = world.dice.uniform(0.1, 5)
    world.later(for_s, "Redis is started again", restart)
    return f"for {for_s:.1f} s"


def _flush_all(world: World) -> str:
    world.watch.suspend()
    with world.redis.client() as client:
        client.flushall()
    world.watch.resume()
    return ""


def _flush_scripts(world: World) -> str:
    with world.redis.client() as client:
        client.script_flush()
    return ""


def _kill_broker(world: World) -> str:
    world.load.pause()
    world.kafka.kill()
    world.kafka_up = False

    def restart() -> None:
        world.kafka.start()
        world.kafka_up = True
        world.load.resume()

    for_s = world.dice.uniform(0.1, 4)
    world.later(for_s, "the broker is started again", restart)
    return f"for {for_s:.1f} s"


def _add_a_partition(world: World) -> str:
    world.partitions += 1
    add_partitions(world.settings.kafka, world.partitions)
    world.load.look_again()
    return f"now {world.partitions}"


# -- events ----------------------------------------------------------------------------------------


def _burst(kind: str, most: int) -> Callable[[World], str]:
    def do(world: World) -> str:
        count = world.dice.randrange(1, most)
        world.load.burst(kind, count)
        return f"{count} records"

    return do


ACTIONS = (
    Action("F1 kill a worker", 5, _has(Is.UP), _kill),
    Action("start a worker", 9, lambda world: world.up and _has(Is.OFF)(world), _start),
    Action("F47 tell a worker to end", 3, _has(Is.UP, LEAST_UP + 1), _stop),
    Action("F4 freeze a worker beyond its session", 3, _has(Is.UP), _freeze_for_long),
    Action(
        "F10 freeze a worker for a moment", 3, _has(Is.UP), lambda world: _freeze(world, 0.5, 3)
    ),
    Action("F7 workers come and go", 1, lambda w: w.up and _has(Is.OFF, 2)(w), _come_and_go),
    Action("F3 lose a reply", 4, _has(Is.UP, 1, True), lambda w: _rule(w, Fate.REPLY_LOST, 5, 6)),
    Action("F3 deliver twice", 3, _has(Is.UP, 1, True), lambda w: _rule(w, Fate.TWICE, 5, 6)),
    Action("F5 deliver late", 4, _has(Is.UP, 1, True), lambda w: _rule(w, Fate.HELD, 1, 12)),
    Action("F3 answer late", 3, _has(Is.UP, 1, True), lambda w: _rule(w, Fate.REPLY_HELD, 1, 12)),
    Action(
        "F2 hold a reply and kill",
        3,
        lambda w: w.up and _has(Is.UP, 1, True)(w),
        _hold_a_reply_and_kill,
    ),
    Action("F20 slow Redis", 2, _has(Is.UP, 1, True), _slow),
    Action("F20 hang Redis", 2, _has(Is.UP, 1, True), _hang),
    Action("F25 cut a worker from Redis", 2, _has(Is.UP, 1, True), _cut),
    Action("F12 kill Redis", 2, lambda world: world.redis_up, _kill_redis),
    Action("F13 FLUSHALL", 1, lambda world: world.redis_up, _flush_all),
    Action("F48 SCRIPT FLUSH", 2, lambda world: world.redis_up, _flush_scripts),
    Action("F22 kill the broker", 1.5, lambda world: world.kafka_up, _kill_broker),
    Action(
        "F29 add a partition",
        0.7,
        lambda w: w.kafka_up and w.partitions < w.settings.kafka.partitions + PARTITIONS_MORE,
        _add_a_partition,
    ),
    Action(
        "F30 a burst of duplicates", 2, lambda world: world.kafka_up, _burst("duplicate", 2_000)
    ),
    Action("F31 a burst of late events", 2, lambda world: world.kafka_up, _burst("late", 2_000)),
    # So few that no partition's breaker takes it for a broken producer.
    Action("F34 a burst of broken records", 2, lambda world: world.kafka_up, _burst("broken", 150)),
)
