"""Drives the whole stack through random trouble, one seed a run, and holds it to its invariants.

trouble, with a look at I1 every half minute | quiet: I5, then all of I1, I2 and I8
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.chaos.actions import ACTIONS, LEAST_UP
from tests.chaos.checker import Checker, Watch, Wrong
from tests.chaos.fleet import Fleet, Is, Slot
from tests.chaos.load import SPEED, Load
from tests.chaos.truth import Truth
from tests.chaos.world import World, note
from tests.support.apache_kafka import ApacheKafka
from tests.support.redis_proxy import RedisProxy
from tests.support.redis_servers import RedisProcess
from tests.support.servers import wait_until
from tests.support.worker_process import State, dead_letters, origin, worker_settings

PARTITIONS, SLOTS, WORKERS = 4, 4, 2
RATE = 400  # events a second
CHECK_S = 30
QUIET_S = 60
LIVENESS_S = 60  # after the last fault is mended
AFTERWARDS_S = 8  # traffic goes on for so long after it
STORY = 60  # lines of it that a failure shows


@dataclass
class Summary:
    """What was done, and how it went."""

    seed: int
    actions: Counter[str] = field(default_factory=Counter)
    told: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        done = ", ".join(f"{name} x{count}" for name, count in sorted(self.actions.items()))
        told = ", ".join(f"{name} {value}" for name, value in self.told.items())
        return f"chaos seed {self.seed}: {told}\n  {self.actions.total()} actions: {done}"


def run(seed: int, minutes: float, directory: Path) -> Summary:
    """Trouble for so many minutes, the last of them quiet; raises what does not hold, with the
    seed, the end of the story and of the logs."""
    summary, story = Summary(seed), list[str]()
    with _quiet_clients(), ExitStack() as stack:
        world, client = _world(stack, seed, minutes, directory, story)
        try:
            _live(world, client, minutes * 60, summary)
        except BaseException as error:
            error.add_note(f"{summary}\nthe story ends:\n" + "\n".join(story[-STORY:]))
            for slot in world.fleet.slots:
                error.add_note(f"the log of worker {slot.number} ends:\n{slot.tail()}")
            raise
        finally:
            (directory / "story.txt").write_text("\n".join(story))
    return summary


@contextmanager
def _quiet_clients() -> Iterator[None]:
    """Thousands of lines that say that the broker is away, which we know."""
    logger = logging.getLogger("aiokafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _world(
    stack: ExitStack, seed: int, minutes: float, directory: Path, story: list[str]
) -> tuple[World, redis.Redis]:
    kafka = stack.enter_context(ApacheKafka(directory / "kafka"))
    server = stack.enter_context(
        RedisProcess("debian", directory / "redis", appendonly="yes", appendfsync="everysec")
    )
    client = stack.enter_context(server.client())
    settings = worker_settings(
        kafka.broker,
        server.url,
        PARTITIONS,
        kafka={"session_timeout_s": 6, "heartbeat_interval_s": 1, "metadata_max_age_s": 5},
        flush_interval_s=0.5,
        archive_interval_s=20,
    )
    slots = []
    for number in range(SLOTS):
        proxy = stack.enter_context(RedisProxy(server.port))
        slots.append(Slot(number, settings, proxy, directory))
        stack.callback(slots[-1].kill)
    begin_ms = (int(time.time()) - int(minutes * 60 + QUIET_S * 2) * SPEED) * 1_000
    load = stack.enter_context(Load(settings.kafka, seed, RATE, begin_ms))
    world: World
    watch = stack.enter_context(
        Watch(State(settings, client), client, lambda: range(world.partitions))
    )
    fleet = Fleet(slots, lambda what: note(story, what))
    world = World(
        random.Random(seed), settings, kafka, server, load, watch, fleet, story, PARTITIONS
    )
    return world, client


def _live(world: World, client: redis.Redis, for_s: float, summary: Summary) -> None:
    truth = Truth(world.settings.kafka, world.settings.worker)
    checker = Checker(State(world.settings, client), client, truth)
    for slot in world.fleet.slots[:WORKERS]:
        slot.start()
    began = time.monotonic()
    lag = _trouble(world, checker, began + max(for_s - QUIET_S, for_s / 2), summary)
    with _at_rest(world):
        checker.check(range(world.partitions))
        _complete(world, checker, truth, summary)
    summary.told |= {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "most lag": lag,
        "owners": world.watch.owners,
        "compared": checker.compared,
        "behind": checker.behind,
        "ended by themselves": dict(world.fleet.restarts),
        "hung when told to end": world.fleet.overdue,
    }


def _trouble(world: World, checker: Checker, until: float, summary: Summary) -> int:
    """The most records that waited at any time."""
    dice, lag, check_at = world.dice, 0, time.monotonic() + CHECK_S
    while time.monotonic() < until:
        wait_s = dice.choice((0.1, 0.5, 1, 3))
        next_at = time.monotonic() + wait_s
        while time.monotonic() < next_at:
            time.sleep(0.1)
            _tend(world)
            waiting = sum(world.load.ends.values()) - sum(world.watch.offsets.values())
            lag = max(lag, waiting)
        if check_at < time.monotonic() and world.up:
            checker.check(range(world.partitions))
            note(world.story, f"checked: {checker.compared} so far, {checker.behind} were behind")
            check_at = time.monotonic() + CHECK_S
        possible = [action for action in ACTIONS if action.possible(world)]
        if not possible:
            continue
        (action,) = dice.choices(possible, [action.weight for action in possible])
        at = len(world.story)
        note(world.story, action.name)
        told = action.do(world)
        world.story[at] += f": {told}" if told else ""
        summary.actions[action.name] += 1
    return lag


def _tend(world: World) -> None:
    world.mend()
    world.fleet.tend()
    if world.watch.wrong is not None:
        raise world.watch.wrong
    if world.load.failure is not None:
        raise world.load.failure
    alive = [slot for slot in world.fleet.slots if slot.state in (Is.UP, Is.FROZEN)]
    if world.up and len(alive) < LEAST_UP:
        slot = world.any(Is.OFF) if world.slots(Is.OFF) else None
        if slot is not None:
            note(world.story, f"worker {slot.number} is started, for there is none")
            slot.start()


@contextmanager
def _at_rest(world: World) -> Iterator[None]:
    """I5: soon after the last fault every partition is owned and no record waits. All workers end
    well afterwards."""
    world.mend(everything=True)
    note(world.story, "quiet")
    mended = time.monotonic()
    while time.monotonic() < mended + AFTERWARDS_S:
        time.sleep(0.1)
        _tend(world)
    ends = world.load.finish()
    state = world.watch.state

    def caught_up() -> bool:
        _tend(world)
        return state.has(ends)

    wait_until(caught_up, f"stored offsets reach {ends}", mended + LIVENESS_S - time.monotonic())
    yield
    wait_until(lambda: _none_left(world), "all workers end", LIVENESS_S)
    if world.fleet.wrong:
        raise Wrong("; ".join(world.fleet.wrong))


def _none_left(world: World) -> bool:
    world.fleet.tend()
    # Again and again, as a worker that had ended by itself may be started meanwhile.
    for slot in world.slots(Is.UP):
        slot.stop()
    return len(world.fleet.of(Is.OFF)) == len(world.fleet.slots)


def _complete(world: World, checker: Checker, truth: Truth, summary: Summary) -> None:
    """I2: everything produced is counted, refused or a duplicate; and I8: what was refused is among
    the dead letters."""
    load = world.load
    counted = Counter[str]()
    for partition in range(world.partitions):
        counted.update(checker.counted(partition))
    summary.told |= {"events": load.confirmed, **counted}
    produced = sum(load.ends.values())
    if not load.confirmed == load.sent.total() == produced:
        raise Wrong(f"{load.sent.total()} sent, {load.confirmed} confirmed, {produced} in the log")
    if (
        counted["lost"]
        or counted["requests"] + counted["refused"] + counted["duplicate"] != produced
    ):
        raise Wrong(f"{produced} were produced, {dict(counted)} counted")
    if counted["refused"] != load.sent["broken"]:
        raise Wrong(f"{load.sent['broken']} were broken, {counted['refused']} refused")
    refused = {
        (world.settings.kafka.topic, partition, offset)
        for partition in range(world.partitions)
        for offset in truth[partition].refused
    }
    letters = dead_letters(world.settings.kafka, len(refused))
    if {origin(one) for one in letters} != refused:
        raise Wrong("the dead letters are not the records that were refused")
    summary.told["dead letters"] = len(letters)
