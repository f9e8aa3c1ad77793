"""Guess which shipped mapping reads a file, and how the worker would count its first rows."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from streams.events.decoder import EventLimits, decode
from streams.events.faults import faults_of
from streams.events.fields import FIELDS
from streams.events.parser import given_json
from streams.sources.conversion import local_time_at
from streams.sources.declaration import SHIPPED
from streams.sources.events import EVENTS, EventLine, event_line, read_events
from streams.sources.files import RowError, UnreadableFile, decode_json, replace_half_pairs
from streams.sources.reading import first_usable, load_mapping, shipped_mappings, stem
from streams.sources.records import read_records
from streams.sources.rows import Row
from streams.sources.sql_mapping import FileOptions, Record, Source, SqlMapping

ROWS = 200  # of the file that are looked at
# A mapping of constants fits every file: events must also have a number that they measured.
MEASURES = {"input_tokens", "output_tokens", "duration_ms", "ttft_ms"}
# Logs without numbers: their mappings return a row only for text of a form of its own.
_UNMEASURED = {"vllm_requests"}
_RECORD = re.compile(rb"\s*\[?\s*[{\"]")  # an object or a list of them
_MOST_FAILURES = 0.1  # of the rows, for a mapping that fits
# Times are not judged: recorded requests are old.
_LIMITS = EventLimits(max_event_bytes=262_144, future_tolerance_ms=2**60, horizon_ms=2**60)


@dataclass(frozen=True, slots=True)
class Guess:
    """The first rows of a file, read in one way.

    `name`: as in `--mapping` and `intake.sources`. `skipped`: records without an event.
    `extraction`: the command that prints the records of the file, if other records hold them.
    `reasons`: why records are left out, one line each, if the source says so. `text_lines`: of the
    failures, lines that are not meant as records. `local_time`: a time without a zone that was
    read as UTC.
    """

    name: str
    about: str
    rows: list[Row]
    failures: list[RowError]
    skipped: int = 0
    extraction: str = ""
    reasons: tuple[str, ...] = ()
    text_lines: int = 0
    local_time: str | None = None

    @property
    def fits(self) -> bool:
        """True if nearly all records are events with a measured number, or of failed requests.

        Lines of text do not count against it: the log of a container has those of its start.
        """
        known = sum(map(_has_measures, self.rows))
        if self.name in _UNMEASURED:
            known = len(self.rows)
        failures = len(self.failures) - self.text_lines
        judged = len(self.rows) + failures
        return bool(self.rows) and failures <= _MOST_FAILURES * judged and known >= judged / 2

    @property
    def fields(self) -> Counter[str]:
        """Number of rows that have each field."""
        return Counter(name for row in self.rows for name in row.event)

    def unknown(self) -> tuple[list[str], dict[str, float]]:
        """Return the fields that no row has, and the share of rows that have each other one."""
        counts = self.fields
        names = [field.name for field in FIELDS if field.name not in _SELDOM]
        absent = [name for name in names if not counts[name]]
        partly = {name: counts[name] / len(self.rows) for name in names if counts[name]}
        return absent, {name: share for name, share in partly.items() if share < 1}

    def verdicts(self) -> Counter[str]:
        """Return how often the worker would reject an event or a field, by reason."""
        # Without a watermark and clock no event is too late or from the future.
        values = [row.encode() for row in self.rows]
        decoded = decode(values, np.zeros(len(values), np.int64), None, _LIMITS)
        counts = Counter(
            f"rejected: {rejection.reason}, {rejection.detail}" for rejection in decoded.rejections
        )
        for bits in decoded.columns.faults.tolist():
            counts.update(f"{field}: {reason}" for field, reason in faults_of(bits))
        return counts


# Fields that few sources have: their absence is no news.
_SELDOM = {
    *("error", "status_code", "use_case", "probe", "total_tokens", "estimated_tokens"),
    *("served_from", "requested_service_tier", "attempt_of", "final", "first_visible_token_ms"),
    *("error_class", "ending", "trace_id"),
}


def _has_measures(row: Row) -> bool:
    event = row.event
    # Mappings read a failure from the record, while a success may be their constant.
    has_failed = event.get("outcome", "success") != "success" and "model" in event
    return has_failed or bool(MEASURES & event.keys())


def guesses(path: Path, names: Iterable[str] | None = None) -> list[Guess]:
    """Return what fits the first rows of a file, the guess that knows most first.

    `names`: mappings to try; all shipped ones by default. Raises UnreadableFile.
    """
    fitting = []
    samples: dict[FileOptions, list[Record | RowError]] = {}
    for name in shipped_mappings() if names is None else names:
        mapping = _shipped(name)
        options = mapping.options
        # Most mappings leave the format open, so that one sample serves all of them.
        if options not in samples:
            samples[options] = _sample(path, options)
        guess = read_with(mapping, samples[options], path)
        if guess.fits:
            fitting.append(guess)
    return sorted(fitting, key=_knowledge, reverse=True)


def guesses_of(records: Sequence[Record], path: Path) -> list[Guess]:
    """Return the mappings that fit these records, from a file of that path, as `guesses` does."""
    tried = (read_with(_shipped(name), list(records), path) for name in shipped_mappings())
    return sorted((guess for guess in tried if guess.fits), key=_knowledge, reverse=True)


@cache
def _shipped(name: str) -> SqlMapping:
    # Loading all of them takes a second, and they are needed for each way to read a file.
    return load_mapping(name)


def read_with(mapping: SqlMapping, sample: list[Record | RowError], path: Path) -> Guess:
    """Return the rows of a sample with this mapping."""
    records = [record for record in sample if isinstance(record, Record)]
    errors = [record for record in sample if isinstance(record, RowError)]
    source = Source(stem(path), None, first_usable(mapping, records, stem(path)))
    batch = mapping.map(records, source)
    origin = Path(mapping.name)
    name = origin.stem if origin.parent == SHIPPED else mapping.name
    texts = {record.line for record in records if not _RECORD.match(record.content)}
    return Guess(
        name,
        mapping.about,
        batch.rows,
        [*batch.failures, *errors],
        batch.skipped,
        text_lines=sum(failure.line in texts for failure in batch.failures),
        local_time=_local_time(records, batch.rows),
    )


def _local_time(records: Iterable[Record], rows: Iterable[Row]) -> str | None:
    """Return the first time without a zone that became, as UTC, the end or the begin of a row."""
    contents = {record.line: record.content for record in records}
    for row in rows:
        instants_ms = [float(row.ended_at_ms)]
        duration_ms = row.event.get("duration_ms")
        if duration_ms is not None:
            instants_ms.append(row.ended_at_ms - float(duration_ms))
        # Lines of text, as of access logs, have times of their own forms.
        with suppress(ValueError, RecursionError):
            text = local_time_at(decode_json(contents[row.line]), instants_ms)
            if text is not None:
                return text
    return None


def read_sample(path: Path, mapping: SqlMapping) -> Guess:
    """Return the first rows of a file with this mapping. Raises UnreadableFile."""
    return read_with(mapping, list(islice(read_records(path, mapping.options), ROWS)), path)


def contract_events(path: Path) -> Guess | None:
    """Return the first lines of a file if they are events of the contract, else None."""
    try:
        return _contract_guess(islice(read_events(path), ROWS))
    except UnreadableFile:
        return None


def contract_records(records: Sequence[Record]) -> Guess | None:
    """Return records as events if they are events of the contract, else None."""
    return _contract_guess(event_line(record.line, record.content) for record in records)


def _contract_guess(lines: Iterable[EventLine | RowError]) -> Guess | None:
    rows: list[Row] = []
    failures: list[RowError] = []
    for line in lines:
        if isinstance(line, RowError):
            failures.append(line)
        elif line.ended_at_ms is None or given_json(line.value, "request_id") is None:
            failures.append(RowError(line.line, "no request_id or no ended_at"))
        else:
            rows.append(Row(line.line, _display(line.value), line.ended_at_ms))
    if len(rows) <= len(failures):
        return None
    return Guess(EVENTS, "events of the contract (docs/events.md)", rows, failures)


def _display(value: bytes) -> Any:
    """Return an event as it is shown; U+FFFD stands for what is no text."""
    return replace_half_pairs(decode_json(value.decode(errors="replace").encode()))


def _sample(path: Path, options: FileOptions) -> list[Record | RowError]:
    try:
        return list(islice(read_records(path, options), ROWS))
    except UnreadableFile:
        # The format that a mapping names may be another one than that of the file.
        if options == FileOptions():
            raise
        return []


def _knowledge(guess: Guess) -> tuple[float, float]:
    """Return how much the events of a guess have: the share of rows, then fields for each row."""
    judged = len(guess.rows) + len(guess.failures)
    return len(guess.rows) / judged, sum(guess.fields.values()) / len(guess.rows)
