"""Counts log messages that repeat, and sums them up once a minute.

With Kafka and Redis away, a worker and its libraries say the same few things many times a second.
The first ALLOWED lines of a message in a minute are written, the rest are counted:

    trying again, trying again, ... 10 times
    ... 60 s later: trying again (repeated 713 times in the last 60 s)

While a message goes on, only its sums are written. Messages are the same if level, logger,
partition and text before the values are put in are the same.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

INTERVAL_S = 60.0
ALLOWED = 10  # lines of one message in an interval
# Texts that are put together before they reach the log may differ without end.
MOST_KEYS = 2_000
_NUMBERS = re.compile(r"\d+")

Key = tuple[int, str, object, str]


@dataclass(slots=True)
class _Interval:
    """The lines of one message in the present interval."""

    began_s: float
    allowed: int  # 0 if the interval before had too many
    seen: int = 0
    last: logging.LogRecord | None = None  # of those that were not written

    @property
    def withheld(self) -> int:
        return max(0, self.seen - self.allowed)


class RepetitionHandler(logging.Handler):
    """Passes records on to another handler, without repetitions.

    `flush` writes the sums counted so far, so that no line is missing when the process
    ends. A critical record is always written.
    """

    def __init__(
        self,
        target: logging.Handler,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._target, self._interval_s, self._clock = target, interval_s, clock
        self._repeated: dict[Key, _Interval] = {}
        self._ending = threading.Event()

    def start(self) -> None:
        """Write sums also if no further record arrives."""
        threading.Thread(target=self._sum_up_for_ever, name="log sums", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it. Called with the lock of the handler."""
        if record.levelno >= logging.CRITICAL:
            self._target.handle(record)
            return
        key, now_s = self._key(record), self._clock()
        repeated = self._repeated.get(key)
        if repeated is not None and now_s - repeated.began_s >= self._interval_s:
            repeated = self._close(key, repeated, now_s)
        if repeated is None:
            repeated = self._repeated[key] = _Interval(now_s, ALLOWED)
        repeated.seen += 1
        if repeated.withheld:
            repeated.last = record
        else:
            self._target.handle(record)

    def sum_up(self) -> None:
        """Write the sums of the intervals that are over."""
        with self._own_lock():
            now_s = self._clock()
            for key, repeated in list(self._repeated.items()):
                if now_s - repeated.began_s >= self._interval_s:
                    self._close(key, repeated, now_s)

    def flush(self) -> None:
        """Write the sums of all lines counted so far."""
        with self._own_lock():
            now_s = self._clock()
            for key, repeated in list(self._repeated.items()):
                self._close(key, repeated, now_s)
            self._target.flush()

    def close(self) -> None:
        """End the thread that writes the sums."""
        self._ending.set()
        super().close()

    def _own_lock(self) -> threading.RLock:
        assert self.lock is not None
        return self.lock

    def _key(self, record: logging.LogRecord) -> Key:
        text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        # Libraries put numbers into their texts before they log them.
        text = text if record.args else _NUMBERS.sub("#", text)
        key = (record.levelno, record.name, vars(record).get("partition"), text)
        if key not in self._repeated and len(self._repeated) >= MOST_KEYS:
            return (record.levelno, record.name, None, "")
        return key

    def _close(self, key: Key, repeated: _Interval, now_s: float) -> _Interval | None:
        """End an interval; return the next one, None if the message need not be remembered."""
        del self._repeated[key]
        last = repeated.last
        if last is None:
            return None
        took_s = now_s - repeated.began_s
        noun = "time" if repeated.withheld == 1 else "times"
        self._target.handle(
            logging.makeLogRecord(
                {
                    **vars(last),
                    "created": time.time(),
                    "msg": f"{last.getMessage()} (repeated {repeated.withheld} {noun} in the last "
                    f"{took_s:.0f} s)",
                    "args": None,
                    "repeated": repeated.withheld,
                }
            )
        )
        # One that has many lines gets only sums until an interval passes without a line.
        following = self._repeated[key] = _Interval(now_s, allowed=0)
        return following

    def _sum_up_for_ever(self) -> None:
        while not self._ending.wait(self._interval_s / 12):
            self.sum_up()
