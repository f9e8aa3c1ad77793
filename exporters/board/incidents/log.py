"""The incidents of the last 24 hours: start, end, peak and the notification. Pure.

An incident is recognised by its key, or by a place that it shares with a record of its group. One
that returns within REOPEN_S is the same incident:

    seen       ####  ####         ##
    record     |-------->         |>       the pause in the first is short

Several exporters of one state write their records into one hash. Of two records with the same key
and a common time, the one with the earlier start stays.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import msgspec

from exporters.board.facts import (
    Incident,
    Notification,
    PastIncident,
    Severity,
    Where,
    names_by_dimension,
)
from streams.checksums import seal_json

KEEP_S = 86_400.0
REOPEN_S = 60.0
BRIEF_S = 5.0  # a shorter incident that notified no person leaves no record
_URGENT_FIRST: tuple[Severity, ...] = ("page", "ticket", "info")
RECORDS_MAX = 1_000  # the oldest that ended are dropped first
# Time of the last sight is written at this distance: it is the end if the exporter stops.
_WRITE_EVERY_S = 10.0
_READ_EVERY_S = 60.0  # the records of other exporters, if there is no change to write


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
    firing_since_s: float | None = None  # when its alert first fired; None if it never did
    # Since when its alert fires without a pause; None if it did not fire at the last sight.
    fires_from_s: float | None = None
    where: Where = ()  # all places that it was about
    group: str = ""
    # Key of the incident at the last sight; another one if that continued a record of its group.
    last_key: str = ""

    @property
    def field(self) -> str:
        """Return the field of the stored hash: unique, and the same for as long as it lasts."""
        return f"{int(self.start_s * 1_000)}|{self.key}"

    @property
    def id(self) -> str:
        """Return the name of the incident in the address of its page."""
        return blake2b(self.field.encode(), digest_size=6).hexdigest()

    def is_also(self, other: "IncidentRecord") -> bool:
        """Return whether another exporter saw the same incident: one key, and a common time."""
        return (
            self.key == other.key
            and self.start_s <= other.seen_s + REOPEN_S
            and other.start_s <= self.seen_s + REOPEN_S
        )

    def join(self, other: "IncidentRecord") -> "IncidentRecord":
        """Return this record with the sights of another one of the same incident."""
        worst = max(self, other, key=lambda record: record.badness or float("-inf"))
        shares = [share for share in (self.affected_ratio, other.affected_ratio) if share]
        firings_s = [at_s for at_s in (self.firing_since_s, other.firing_since_s) if at_s]
        return replace(
            self,
            words=worst.words,
            badness=worst.badness,
            peak=worst.peak,
            severity=min(self.severity, other.severity, key=_URGENT_FIRST.index),
            start_s=min(self.start_s, other.start_s),
            seen_s=max(self.seen_s, other.seen_s),
            affected_ratio=max(shares, default=None),
            firing_since_s=min(firings_s, default=None),
            where=_join_places(self.where, other.where),
        )

    @classmethod
    def decode(cls, stored: bytes) -> "IncidentRecord | None":
        """Return a record from its JSON; None if another version wrote it in another form."""
        try:
            return msgspec.json.decode(stored, type=cls)
        except msgspec.DecodeError:
            return None


class IncidentLog:
    """Follows the incidents of one exporter from refresh to refresh."""

    def __init__(self, stored: Iterable[IncidentRecord] = ()) -> None:
        """`stored`: records of before a restart; those that were open may continue."""
        self._records: dict[str, IncidentRecord] = {}
        self._changed: set[str] = set()
        self._written_s = self._read_s = 0.0
        for record in sorted(stored, key=lambda record: record.start_s):
            self._add_record(record)
        self._open = {record.key: record for record in self._records.values() if record.is_open}
        # Records that were open at the restart continue however long the exporter was away.
        self._resumed = set(self._open)
        # The rules forgot since when these alerts fire.
        self._firing_forgotten = {
            key for key, record in self._open.items() if record.fires_from_s is not None
        }

    def _add_record(self, record: IncidentRecord) -> None:
        """Add a record of before a restart; two exporters may have written one incident twice."""
        for field, earlier in self._records.items():
            if earlier.is_also(record):
                is_open = earlier.is_open or record.is_open
                self._records[field] = replace(earlier.join(record), is_open=is_open)
                self._changed |= {field, record.field}
                return
        self._records[record.field] = record

    def update(
        self, incidents: Sequence[Incident], now_s: float, is_blind: bool
    ) -> tuple[Incident, ...]:
        """Record the incidents of one refresh and return them with their starts and peaks.

        `is_blind`: the traffic is unknown, so no incident ends.
        """
        shown = []
        keyed = self._with_keys(incidents)
        for key, own_key, incident in keyed:
            record = replace(self._record(key, incident, now_s), last_key=own_key)
            self._put(record)
            shown.append(self._with_record(incident, record))
        seen = {key for key, _, _ in keyed}
        self._resumed &= seen
        if not is_blind:
            self._end_absent(seen, now_s)
        self._drop_old(now_s)
        return tuple(shown)

    def _with_keys(self, incidents: Iterable[Incident]) -> list[tuple[str, str, Incident]]:
        """Return the incidents with the keys of their records, and their own.

        One that has no record continues the open record that it continued before, or that of its
        group with which it shares a place.
        """
        keyed = list(_with_unique_keys(incidents))
        taken = {key for key, _ in keyed if key in self._open}
        resolved = []
        for own_key, incident in keyed:
            key = own_key
            if key not in self._open:
                free = [record for record in self._open.values() if record.key not in taken]
                same = [record for record in free if record.last_key == own_key]
                same += [record for record in free if _shares_place(record, incident)]
                key = same[0].key if same else own_key
            taken.add(key)
            resolved.append((key, own_key, incident))
        return resolved

    def past(self) -> tuple[PastIncident, ...]:
        """Return the incidents that ended, the newest first."""
        ended = [record for record in self._records.values() if not record.is_open]
        ended.sort(key=lambda record: (-record.seen_s, record.start_s, record.key))
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
                record.where,
                record.id,
            )
            for record in ended
        )

    # -- the store -------------------------------------------------------------------------------

    def is_due(self, now_s: float) -> bool:
        """Return whether to read the stored records, and then to write the changes."""
        after_s = _WRITE_EVERY_S if self._changed else _READ_EVERY_S
        return now_s - self._read_s >= after_s

    def agree(self, stored: Iterable[IncidentRecord], now_s: float) -> None:
        """Adopt the records of further exporters of the same state.

        Of two records of one incident the field with the earlier start stays. An incident that
        only another exporter saw is adopted when it has ended, or is no longer seen by it.
        """
        self._read_s = now_s
        for other in stored:
            if now_s - other.seen_s > KEEP_S:
                continue
            own = self._records.get(other.field) or next(
                (record for record in self._records.values() if record.is_also(other)), None
            )
            if own is not None:
                self._join(own, other)
            elif not other.is_open or now_s - other.seen_s > REOPEN_S:
                self._records[other.field] = replace(other, is_open=False)
                self._changed |= {other.field} if other.is_open else set()

    def _join(self, own: IncidentRecord, other: IncidentRecord) -> None:
        """Join an incident's record with that of another exporter."""
        joined = replace(own.join(other), is_open=own.is_open)
        del self._records[own.field]
        self._records[joined.field] = joined
        if self._open.get(own.key) is own:
            self._open[own.key] = joined
        if joined.field != other.field or own.field != joined.field:
            self._changed |= {own.field, other.field, joined.field}

    def changes(self, now_s: float) -> tuple[dict[str, bytes], list[str]]:
        """Return the fields to write, and those to delete; none between two times to write."""
        is_due = now_s - self._written_s >= _WRITE_EVERY_S
        if not self._changed or not is_due:
            return {}, []
        changed = {name: self._records.get(name) for name in sorted(self._changed)}
        written = {
            name: seal_json(name, msgspec.json.encode(record))
            for name, record in changed.items()
            if record is not None
        }
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
        fires_from_s = self._fires_from(last, incident.notification)
        firings_s = [at_s for at_s in (last.firing_since_s, fires_from_s) if at_s is not None]
        record = replace(
            last,
            seen_s=now_s,
            is_open=True,
            severity=min(last.severity, incident.severity, key=_URGENT_FIRST.index),
            alert=incident.alert,
            runbook=incident.runbook,
            firing_since_s=min(firings_s, default=None),
            fires_from_s=fires_from_s,
            where=_join_places(last.where, incident.where),
            group=incident.group,
        )
        extent = incident.extent
        if extent is None:
            return record
        shares = [share for share in (last.affected_ratio, extent.affected_ratio) if share]
        record = replace(record, affected_ratio=max(shares, default=None))
        if last.badness is not None and last.badness >= extent.badness:
            return record
        return replace(record, words=incident.words, badness=extent.badness, peak=extent.words)

    def _fires_from(self, last: IncidentRecord, notification: Notification) -> float | None:
        """Return since when the alert fires without a pause; None if it does not fire."""
        before_s, is_forgotten = last.fires_from_s, last.key in self._firing_forgotten
        if notification.state == "pending" and is_forgotten:
            return before_s
        self._firing_forgotten.discard(last.key)
        if notification.state != "firing" or notification.at_s is None:
            return None
        # An alert that began to fire after the last sight fires anew.
        if before_s is not None and (is_forgotten or notification.at_s <= last.seen_s):
            return min(before_s, notification.at_s)
        return notification.at_s

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
        ended = [record for record in self._records.values() if not record.is_open]
        old = [record for record in ended if now_s - record.seen_s > KEEP_S]
        excess = len(self._records) - len(old) - RECORDS_MAX
        if excess > 0:
            recent = [record for record in ended if now_s - record.seen_s <= KEEP_S]
            recent.sort(key=lambda record: record.seen_s)
            old += recent[:excess]
        for record in old:
            del self._records[record.field]
            self._changed.add(record.field)

    def _with_record(self, incident: Incident, record: IncidentRecord) -> Incident:
        """Return an incident with its start and peak, and the firing that the rules forgot."""
        notification = incident.notification
        if record.fires_from_s is not None:
            notification = Notification("firing", record.fires_from_s)
        return replace(
            incident,
            key=record.key,
            notification=notification,
            since_s=record.start_s,
            peak=record.peak,
            affected_ratio=record.affected_ratio,
            id=record.id,
        )


def _shares_place(record: IncidentRecord, incident: Incident) -> bool:
    """Return whether an incident is of a record's group, and has a place of it.

    One of them may be the narrower one: a model, and the same model in one region.
    """
    if not incident.group or record.group != incident.group:
        return False
    before, now = names_by_dimension(record.where), names_by_dimension(incident.where)
    if not before or not now:
        return before == now
    common = before.keys() & now.keys()
    return common in (before.keys(), now.keys()) and all(
        before[dimension] & now[dimension] for dimension in common
    )


def _join_places(before: Where, now: Where) -> Where:
    """Return the places of an incident and those to which it spread.

    Those of another kind replace them: a model and a region together are that model there.
    """
    if not before or not now or dict(before).keys() == dict(now).keys():
        return tuple(dict.fromkeys((*before, *now)))
    return now


def _with_unique_keys(incidents: Iterable[Incident]) -> Iterator[tuple[str, Incident]]:
    count: Counter[str] = Counter()
    for incident in incidents:
        key = incident.key or incident.alert or incident.words
        count[key] += 1
        yield (key if count[key] == 1 else f"{key}|{count[key]}"), incident
