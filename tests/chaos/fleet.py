"""Worker processes as an orchestrator runs them: told to end they get a grace period, and one that
ends by itself is started again."""

import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

from streams.config.settings import Settings
from streams.watchdog import EXIT_CODE
from tests.support.redis_proxy import RedisProxy
from tests.support.worker_process import WorkerProcess

GRACE_S = 45  # between SIGTERM and SIGKILL
YOUNG_S = 15  # by then it is up and handles signals
RESTART_S = 2
KILLED, NOT_YET_LISTENING = -signal.SIGKILL, -signal.SIGTERM
TAIL = 2_500


class Is(Enum):
    """What a slot's worker is doing, as far as we have to do with it."""

    OFF = auto()
    UP = auto()
    FROZEN = auto()
    ENDING = auto()


class Slot:
    """A place for one worker at a time, with its own way to Redis and its own log."""

    def __init__(self, number: int, settings: Settings, proxy: RedisProxy, directory: Path) -> None:
        self.number, self.proxy = number, proxy
        self.troubled = False  # its way to Redis
        self.state = Is.OFF
        self.since = time.monotonic()
        redis = settings.redis.model_copy(update={"url": proxy.url})
        self._settings = settings.model_copy(update={"redis": redis})
        self.log = directory / f"worker-{number}.log"
        self._worker: WorkerProcess | None = None
        self._log_begin = 0  # of its present worker's

    def start(self) -> None:
        """Start a worker here."""
        self._log_begin = self.log.stat().st_size if self.log.exists() else 0
        self._worker = WorkerProcess(self._settings, self.log)
        self._be(Is.UP)

    def kill(self) -> None:
        """SIGKILL."""
        if self._worker is not None:
            self._worker.kill()
        self._be(Is.OFF)

    def stop(self) -> None:
        """SIGTERM."""
        self._signal(signal.SIGTERM)
        self._be(Is.ENDING)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)
        self._be(Is.FROZEN)

    def thaw(self) -> None:
        """SIGCONT."""
        if self.state is Is.FROZEN:
            self._signal(signal.SIGCONT)
            self._be(Is.UP)

    def _signal(self, number: int) -> None:
        assert self._worker is not None
        self._worker.signal(number)

    def _be(self, state: Is) -> None:
        self.state, self.since = state, time.monotonic()

    @property
    def age_s(self) -> float:
        """How long it has been in its state."""
        return time.monotonic() - self.since

    def ended(self) -> int | None:
        """The status of a worker that has ended without our killing it; asked once."""
        if self.state is Is.OFF or self._worker is None or self._worker.running:
            return None
        status = self._worker.ended()
        self._be(Is.OFF)
        return status

    def could_not_start(self, status: int) -> bool:
        """Whether its worker had given up its start, as Kafka or Redis was away, and said so: in
        one line where it looks for them first, or by Faust a moment later."""
        told = self.log.read_bytes()[self._log_begin :]
        why = {1: b"Unable to bootstrap", 2: b"tokenpulse: no "}.get(status)
        return why is not None and why in told and b"[^Worker]: Ready" not in told

    def tail(self) -> str:
        """How its log ends."""
        return self.log.read_text(errors="replace")[-TAIL:] if self.log.exists() else ""

    def last_words(self) -> str:
        """Why the last of its workers ended, if it said."""
        told = re.findall(r"ending this worker: (.*)", self.tail())
        return str(told[-1]) if told else self.tail().rstrip().rsplit("\n", 1)[-1]


class Fleet:
    """All slots. `note`: tells the story; `restarts`: workers that ended by themselves, by status;
    `overdue`: those that hung when told to end; `wrong`: ends that should have been other ones."""

    def __init__(self, slots: list[Slot], note: Callable[[str], None]) -> None:
        self.slots, self._note = slots, note
        self.restarts: Counter[int] = Counter()
        self.overdue = 0
        self.wrong: list[str] = []
        self._restart_at: dict[int, float] = {}

    def of(self, state: Is) -> list[Slot]:
        """Those in a state."""
        return [slot for slot in self.slots if slot.state is state]

    def tend(self) -> None:
        """Notice who has ended; start again who should not have."""
        for slot in self.slots:
            was, age_s = slot.state, slot.age_s
            if (status := slot.ended()) is not None:
                self._ended(slot, was, status, age_s)
            elif was is Is.ENDING and age_s > GRACE_S:
                self._note(f"worker {slot.number} has not ended within {GRACE_S} s: killed")
                self.overdue += 1
                slot.kill()
        for slot in self.of(Is.OFF):
            if self._restart_at.get(slot.number, float("inf")) < time.monotonic():
                del self._restart_at[slot.number]
                self._note(f"worker {slot.number} is started again")
                slot.start()

    def _ended(self, slot: Slot, was: Is, status: int, age_s: float) -> None:
        if was is Is.ENDING:
            if status == EXIT_CODE:
                self._note(f"worker {slot.number} had to be ended by its watchdog")
                self.overdue += 1
            elif slot.could_not_start(status):
                self._note(f"worker {slot.number} had not started: {slot.last_words()}")
            elif status not in (0, NOT_YET_LISTENING):
                self.wrong.append(f"worker {slot.number} was told to end and ended with {status}")
                self._note(f"{self.wrong[-1]}: {slot.last_words()}")
            return
        self.restarts[status] += 1
        self._note(f"worker {slot.number} ended by itself with {status}: {slot.last_words()}")
        self._restart_at[slot.number] = time.monotonic() + RESTART_S
