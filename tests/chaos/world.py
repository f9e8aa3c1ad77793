"""Everything that can break, in one place, and the story of what was done to it."""

import heapq
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from streams.config.settings import Settings
from tests.chaos.checker import Watch
from tests.chaos.fleet import Fleet, Is, Slot
from tests.chaos.load import Load
from tests.support.apache_kafka import ApacheKafka
from tests.support.redis_servers import RedisProcess


@dataclass
class World:
    """Servers, workers and traffic. `partitions` grows."""

    dice: random.Random
    settings: Settings
    kafka: ApacheKafka
    redis: RedisProcess
    load: Load
    watch: Watch
    fleet: Fleet
    story: list[str]
    partitions: int
    kafka_up: bool = True
    redis_up: bool = True
    _due: list[tuple[float, int, str, Callable[[], None]]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def later(self, seconds: float, what: str, do: Callable[[], None]) -> None:
        """Mend something after a while."""
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), what, do))

    def mend(self, everything: bool = False) -> None:
        """Do what is due, or all that is ever to be done."""
        while self._due and (everything or self._due[0][0] <= time.monotonic()):
            _, _, what, do = heapq.heappop(self._due)
            note(self.story, what)
            do()

    @property
    def up(self) -> bool:
        """Whether both servers are there, as a worker needs them to start."""
        return self.kafka_up and self.redis_up

    def any(self, state: Is, untroubled: bool = False) -> Slot:
        """A slot in a state."""
        return self.dice.choice(self.slots(state, untroubled))

    def slots(self, state: Is, untroubled: bool = False) -> list[Slot]:
        """All slots in a state, or those of them whose way to Redis is free."""
        return [one for one in self.fleet.of(state) if not (untroubled and one.troubled)]


def note(story: list[str], what: str) -> None:
    """Tell what was done, and when."""
    story.append(f"{time.strftime('%H:%M:%S')} {what}")
