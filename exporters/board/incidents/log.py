"""The incidents of the last 24 hours: start, end, peak and who was notified. Pure.

An incident is recognised by its key. One that returns within REOPEN_S is the same incident:

    seen       ####  ####         ##
    record     |-------->         |>       the pause in the first is short
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from exporters.board.facts import Incident, Notification, PastIncident, Severity

KEEP_S = 86_400.0
REOPEN_S = 60.0
BRIEF_S = 5.0  # a shorter incident that notified no person leaves no record
_URGENT_FIRST: tuple[Severity, ...] = ("page", "ticket", "info")
# Time of the last sight is written at this distance: it is the end if the exporter stops.
_WRITE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class IncidentRecord:
    """One incident from its start on; times in seconds since 1970."""

    key: str
    words: str  # at its worst
    severity: Severity  # the most urgent so far
    alert: str | None
    runbook: str | None
    start_s: float
    seen_s: float  # when it was last seen
    is_open: bool
    badness: float | None = None
    peak: str | None = None  # `41.2 % failed`
    affected_ratio: float | None = None  # the largest share of the fleet so far
    firing_since_s: float | None = None  # of its alert, if that fires or fired

    @property
    def field(self) -> str:
        """Return the field of the stored hash: unique, and the same for as long as it lasts."""
        return f"{int(self.start_s * 1_000)}|{self.key}"

    def encode(self) -> bytes:
        """Return the stored form."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, stored: bytes) -> "IncidentRecord | None":
        """Return a stored record; None if another version wrote it in another form."""
        try:
            return msgspec.json.decode(stored, type=cls)
        except msgspec.DecodeError:
            return None


class IncidentLog:
    """Follows the incidents of one exporter from refresh to refresh."""

    def __init__(self, stored: Iterable[IncidentRecord] = ()) -> None:
        """`stored`: records of before a restart; those that were open may continue."""
        self._records = {record.field: record for record in stored}
        self._open: dict[str, IncidentRecord] = {}
        for record in sorted(self._records.values(), key=lambda record: record.start_s):
            if record.is_open:
                self._open[record.key] = record
        # Records that were open at the restart continue however long the exporter was away.
        self._resumed = set(self._open)
        self._changed: set[str] = set()
        self._written_s = 0.0

    def update(
        self, incidents: Sequence[Incident], now_s: float, is_blind: bool
    ) -> tuple[Incident, ...]:
        """Record the incidents of one refresh and return them with their starts and peaks.

        `is_blind`: nothing can be concluded about the traffic, so no incident ends.
        """
        shown = []
        keyed = list(_with_unique_keys(incidents))
        for key, incident in keyed:
            record = self._record(key, incident, now_s)
            self._put(record)
            shown.append(_with_record(incident, record))
        seen = {key for key, _ in keyed}
        self._resumed &= seen
        if not is_blind:
            self._end_absent(seen, now_s)
        self._drop_old(now_s)
        return tuple(shown)

    def past(self) -> tuple[PastIncident, ...]:
        """Return the incidents that ended, the newest first."""
        ended = [record for record in self._records.values() if not record.is_open]
        ended.sort(key=lambda record: -record.seen_s)
        return tuple(
            PastIncident(
                record.severity,
                record.words,
                record.runbook,
                record.alert,
                record.start_s,
                record.seen_s,
                record.peak,
                record.affected_ratio,
                record.firing_since_s,
            )
            for record in ended
        )

    def changes(self, now_s: float) -> tuple[dict[str, bytes], list[str]]:
        """Return the fields to write, and those to delete; nothing between two times to write."""
        is_due = now_s - self._written_s >= _WRITE_EVERY_S
        if not self._changed or not is_due:
            return {}, []
        changed = {name: self._records.get(name) for name in sorted(self._changed)}
        written = {name: record.encode() for name, record in changed.items() if record is not None}
        return written, [name for name, record in changed.items() if record is None]

    def mark_written(self, now_s: float) -> None:
        """Note that the store took the last changes."""
        self._changed.clear()
        self._written_s = now_s

    def _record(self, key: str, incident: Incident, now_s: float) -> IncidentRecord:
        last = self._open.get(key)
        if last is not None and key not in self._resumed and now_s - last.seen_s > REOPEN_S:
            # No refresh saw its end; the next one belongs to another incident.
            self._put(replace(last, is_open=False))
            last = None
        fires_s = incident.notification.at_s if incident.notification.state == "firing" else None
        if last is None:
            last = IncidentRecord(
                key,
                incident.words,
                incident.severity,
                incident.alert,
                incident.runbook,
                now_s,
                now_s,
                True,
            )
        if fires_s is not None and last.firing_since_s is not None:
            fires_s = min(fires_s, last.firing_since_s)
        record = replace(
            last,
            seen_s=now_s,
            is_open=True,
            severity=min(last.severity, incident.severity, key=_URGENT_FIRST.index),
            alert=incident.alert,
            runbook=incident.runbook,
            firing_since_s=last.firing_since_s if fires_s is None else fires_s,
        )
        extent = incident.extent
        if extent is None:
            return record
        shares = [share for share in (last.affected_ratio, extent.affected_ratio) if share]
        record = replace(record, affected_ratio=max(shares, default=None))
        if last.badness is not None and last.badness >= extent.badness:
            return record
        return replace(record, words=incident.words, badness=extent.badness, peak=extent.words)

    def _put(self, record: IncidentRecord) -> None:
        self._open[record.key] = self._records[record.field] = record
        self._changed.add(record.field)

    def _end_absent(self, seen: set[str], now_s: float) -> None:
        for key, record in list(self._open.items()):
            if key in seen:
                continue
            if record.is_open:
                self._put(replace(record, is_open=False))
            # A moment at a start or a catch-up; a fault stays in the windows for longer.
            if record.firing_since_s is None and record.seen_s - record.start_s < BRIEF_S:
                self._records.pop(record.field, None)
            # A short pause ends no incident; its record stays ready to continue.
            if now_s - record.seen_s > REOPEN_S:
                del self._open[key]

    def _drop_old(self, now_s: float) -> None:
        old = [
            name
            for name, record in self._records.items()
            if not record.is_open and now_s - record.seen_s > KEEP_S
        ]
        for name in old:
            del self._records[name]
            self._changed.add(name)


def _with_unique_keys(incidents: Iterable[Incident]) -> Iterator[tuple[str, Incident]]:
    count: Counter[str] = Counter()
    for incident in incidents:
        key = incident.key or incident.alert or incident.words
        count[key] += 1
        yield (key if count[key] == 1 else f"{key}|{count[key]}"), incident


def _with_record(incident: Incident, record: IncidentRecord) -> Incident:
    """Return an incident with its start and peak, and with the firing that a restart forgot."""
    notification, since_s = incident.notification, record.firing_since_s
    if notification.state == "pending" and since_s is not None:
        notification = Notification("firing", since_s)
    elif notification.state == "firing" and since_s is not None:
        notification = Notification("firing", min(since_s, notification.at_s or since_s))
    return replace(
        incident,
        notification=notification,
        since_s=record.start_s,
        peak=record.peak,
        affected_ratio=record.affected_ratio,
    )
