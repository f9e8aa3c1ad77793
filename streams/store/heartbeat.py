"""The heartbeat of a worker, kept beside the state of each partition."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# A broker answers fetches and group heartbeats every few seconds.
BROKER_SILENT_AFTER_S = 20


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last heartbeat of a worker for one partition; a field that it did not send is absent.

    `fields` are those that `Store.send_heartbeat` was given.
    """

    partition: int
    fields: Mapping[str, str]

    def text(self, name: str) -> str:
        """Return one field; an empty text if it is absent."""
        return self.fields.get(name, "")

    def number(self, name: str) -> float | None:
        """Return one field as a number; None if it is absent or no number."""
        try:
            return float(self.fields[name])
        except (KeyError, ValueError):
            return None

    def age_s(self, now_s: float) -> float | None:
        """Return the age of the heartbeat in seconds; None if there never was one."""
        at_ms = self.number("at_ms")
        return None if at_ms is None else now_s - at_ms / 1_000

    def broker_silence_s(self) -> float | None:
        """Return for how many seconds no broker had answered the worker at this heartbeat.

        At the heartbeat, as the silence of a worker that died or froze is its own. None if no
        broker ever answered, or if the worker is of a version that does not report it.
        """
        at_ms, answered_ms = self.number("at_ms"), self.number("broker_at_ms")
        return (at_ms - answered_ms) / 1_000 if at_ms and answered_ms else None

    def lag(self, offset: int, now_s: float, stale_after_s: float) -> int | None:
        """Return the records in Kafka that a state up to `offset` does not include.

        None if no live worker reported where the log ends, or if its broker does not answer.
        """
        age_s, end = self.age_s(now_s), self.number("highwater")
        # An end below the offset is that of another log: it gives no lag.
        if age_s is None or age_s > stale_after_s or end is None or end < offset:
            return None
        # An end that is as old as the broker's last answer hides the records that came since.
        if (self.broker_silence_s() or 0.0) > BROKER_SILENT_AFTER_S:
            return None
        return int(end) - offset


class HaltReason(StrEnum):
    """Why a partition is halted; people and alerts read these."""

    DEAD_LETTERS = "dead_letters"
    UNREADABLE = "unreadable"
    LOG_TRUNCATED = "log_truncated"
    LOG_RECREATED = "log_recreated"
    STORE_POLICY = "store_policy"
    DAMAGED = "damaged"
