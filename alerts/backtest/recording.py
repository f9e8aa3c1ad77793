"""Recorded events as the ten-second aggregates that the workers would have counted.

A shell: it reads files and a topic. Aggregates that do not fit into memory are in a temporary file
without a name. So files may be larger than memory and in any order: event time counts.
"""

import asyncio
import pickle
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from alerts.backtest.stack import KeyedRows, SliceRows, joined, rows_of
from streams.config.settings import Settings
from streams.events.columns import Rejection
from streams.events.decoder import decode
from streams.events.fields import MAX_TIME_MS
from streams.events.watermark import Watermark
from streams.kafka.record_batches import CREATE_TIME
from streams.kafka.topic_reader import TopicReader
from streams.sources.events import read_events
from streams.sources.files import RowError
from streams.sources.problems import RowProblems
from streams.sources.reading import read_rows
from streams.sources.rows import Row
from streams.sources.sql_mapping import SqlMapping
from streams.state.aggregation import record
from streams.state.histogram import BUCKET_BITS
from streams.state.limits import event_limits, name_limits
from streams.state.measures import counted_events
from streams.state.registry import Registry
from streams.state.slices import Aggregate, Thresholds
from streams.state.tables import Ints, Table
from streams.worker.deduplication import Deduplicator, deduplicate

SPILL_BYTES = 64 * 2**20  # aggregates beyond this go to the temporary file
MINUTE_MS = 60_000
_BLOCK_S = 3_600  # of event time; rows are stored by it
_BATCH = 4_096

Say = Callable[[str], None]


@dataclass(slots=True)
class _Log:
    """The state that decides about the next event of one log."""

    deduplicator: Deduplicator | None
    watermark: Watermark | None = None
    records: int = 0  # so far


class Recording:
    """Events, decoded and counted as a worker does, by ten seconds of their own time."""

    def __init__(
        self,
        settings: Settings,
        thresholds: Thresholds,
        to_s: int | None,
        minutes_until_s: int = 0,
        input_limits: tuple[int, ...] = (),
    ) -> None:
        """`to_s`: its end; later events are left out. Customers keep their ids.

        `minutes_until_s`: a whole minute. Earlier events are kept by the minute and without
        histograms, as no rolling window reads them. `input_limits`: input lengths to count, in
        tokens, rising.
        """
        worker = settings.worker
        self.registry = Registry(name_limits(worker), lambda customer_id: customer_id)
        self.counted = 0
        self.duplicates = 0
        self.refused: Counter[str] = Counter()  # by reason
        self.unmapped = 0
        self.begin_s: int | None = None  # of the first slice; None before the first event
        self._limits = replace(event_limits(worker), input_limits=input_limits)
        self._worker, self._thresholds, self._to_s = worker, thresholds, to_s
        self.minutes_until_s = minutes_until_s
        self._logs: dict[object, _Log] = {}
        self._last_s = 0  # start of the last slice
        self._blocks: set[int] = set()  # that have rows, by their number since 1970
        self._in_memory: dict[int, list[SliceRows]] = {}
        self._memory_bytes = 0
        self._unread: SliceRows = rows_of([(0, Aggregate.empty())])
        self._disk = sqlite3.connect("")  # private, and gone when closed
        self._disk.execute("CREATE TABLE parts (block INTEGER, rows BLOB)")
        self._disk.execute("CREATE INDEX by_block ON parts (block)")

    @property
    def end_s(self) -> int:
        """End of the recording: as given, or of the last event's minute, so that it is judged."""
        return (self._last_s // 60 + 1) * 60 if self._to_s is None else self._to_s

    def add(
        self,
        log: object,
        values: list[bytes | None],
        timestamps_ms: Ints | None,
        by_sender: npt.NDArray[np.bool_] | None = None,
    ) -> list[Rejection]:
        """Count the next records of a log; return why some of them are rejected.

        `timestamps_ms`: those of Kafka. Without them no event is from the future or too late: a
        file has no time of its own. `by_sender`: which of them the sender gave.
        """
        state, limits = self._log(log), self._limits
        # A file is read at any later time, so its rows are neither late nor early.
        if timestamps_ms is None:
            limits = replace(limits, horizon_ms=MAX_TIME_MS)
            timestamps_ms = np.full(len(values), MAX_TIME_MS, np.int64)
        decoded = decode(values, timestamps_ms, state.watermark, limits, by_sender)
        state.watermark = decoded.watermark
        if state.deduplicator is not None:
            offsets = state.records + decoded.columns.position
            duplicate = state.deduplicator.find_duplicates(offsets, decoded.columns)
            decoded = deduplicate(decoded, duplicate)
        state.records += len(values)
        self.refused.update(rejection.reason for rejection in decoded.rejections)
        self.duplicates += len(decoded.duplicates_ms)
        columns, names = decoded.columns, self.registry
        series = names.series_numbers(columns.series, _events(columns.series_index))
        customer = names.customer_numbers(columns.customers, _events(columns.customer_index))
        minutes_until_ms = self.minutes_until_s * 1_000
        ended_at_ms = columns.ended_at_ms
        is_early = ended_at_ms < minutes_until_ms
        # Moved to the start of its minute, an early event makes no slice of its own.
        by_minute = np.where(is_early, ended_at_ms // MINUTE_MS * MINUTE_MS, ended_at_ms)
        recorded = record(
            replace(columns, ended_at_ms=by_minute),
            series[columns.series_index],
            customer[columns.customer_index],
            self._thresholds,
        )
        if self._to_s is not None:
            recorded = [part for part in recorded if part[0] < self._to_s]
        if recorded:
            self._keep(rows_of(recorded))
        return decoded.rejections

    def read(self, until_s: int) -> SliceRows:
        """Return the rows of the slices that start before `until_s`, each row once."""
        parts = [self._unread]
        for block in sorted(block for block in self._blocks if block * _BLOCK_S < until_s):
            parts += self._load(block)
        rows = joined(parts)
        is_read = {name: of_table.starts_s < until_s for name, of_table in rows.items()}
        self._unread = {name: part.select(~is_read[name]) for name, part in rows.items()}
        return {name: part.select(is_read[name]) for name, part in rows.items()}

    def close(self) -> None:
        """Delete the temporary file."""
        self._disk.close()

    def _log(self, log: object) -> _Log:
        if log not in self._logs:
            window_ms, most = self._worker.dedup_window_s * 1_000, self._worker.dedup_max_ids
            self._logs[log] = _Log(Deduplicator(window_ms, most, {}, None) if window_ms else None)
        return self._logs[log]

    def _keep(self, rows: dict[str, KeyedRows]) -> None:
        counts = {name: Table(part.keys, part.values) for name, part in rows.items()}
        self.counted += counted_events(replace(Aggregate.empty(), **counts))
        starts_s = rows["series"].starts_s
        first_s, self._last_s = int(starts_s.min()), max(self._last_s, int(starts_s.max()))
        self.begin_s = first_s if self.begin_s is None else min(self.begin_s, first_s)
        cells = rows["cells"]
        # No percentile is read of early events, but shares of latencies need how many there are.
        is_early = cells.starts_s < self.minutes_until_s
        buckets = np.where(is_early, cells.keys >> BUCKET_BITS << BUCKET_BITS, cells.keys)
        rows = rows | {"cells": cells._replace(keys=buckets)}
        blocks = {name: part.starts_s // _BLOCK_S for name, part in rows.items()}
        for block in np.unique(blocks["series"]).tolist():
            part = {name: of_table.select(blocks[name] == block) for name, of_table in rows.items()}
            self._blocks.add(block)
            self._in_memory.setdefault(block, []).append(part)
            self._memory_bytes += sum(of_table.size_bytes for of_table in part.values())
        if self._memory_bytes > SPILL_BYTES:
            self._spill()

    def _spill(self) -> None:
        # Parts of one slice come from many batches. Added up, they are far smaller.
        self._disk.executemany(
            "INSERT INTO parts VALUES (?, ?)",
            (
                (block, pickle.dumps({name: of.summed() for name, of in joined(parts).items()}))
                for block, parts in self._in_memory.items()
            ),
        )
        self._in_memory, self._memory_bytes = {}, 0

    def _load(self, block: int) -> Iterator[SliceRows]:
        """Yield the rows of a block, which is then forgotten."""
        self._blocks.remove(block)
        stored = self._disk.execute("SELECT rows FROM parts WHERE block = ?", (block,))
        # Only this process can write to its private file.
        yield from (pickle.loads(data) for (data,) in stored)  # noqa: S301
        yield from self._in_memory.pop(block, ())


def _events(index: npt.NDArray[np.int32]) -> list[int]:
    """Count the events of each number from 0 on."""
    counts: list[int] = np.bincount(index).tolist()
    return counts


def read_file(
    recording: Recording, path: Path, mapping: SqlMapping | None, base_ms: int | None, say: Say
) -> None:
    """Record a file: rows as the mapping says, or without one events as JSON lines.

    Problems of rows that cannot be used are printed through `say`, and why events are rejected.
    Raises UnreadableFile.
    """
    problems = RowProblems(path, say)
    for lines, batch in _batches(_values(path, mapping, base_ms, problems)):
        for rejection in recording.add(path, batch, None):
            problems.report_rejected(lines[rejection.position], rejection)
    problems.summarise()
    recording.unmapped += problems.unmapped


def _values(
    path: Path, mapping: SqlMapping | None, base_ms: int | None, problems: RowProblems
) -> Iterator[tuple[int, bytes]]:
    """Yield the events of a file, each with its line."""
    rows = read_events(path) if mapping is None else read_rows(path, mapping, base_ms)
    for row in rows:
        if isinstance(row, RowError):
            problems.report(row)
            continue
        if isinstance(row, Row):
            problems.report_fields(row)
        yield row.line, row.encode()


def _batches(
    values: Iterable[tuple[int, bytes]],
) -> Iterator[tuple[list[int], list[bytes | None]]]:
    """Yield the lines and the values of a batch at a time."""
    rest = iter(values)
    while batch := list(islice(rest, _BATCH)):
        yield [line for line, _ in batch], [value for _, value in batch]


def read_topic(recording: Recording, settings: Settings) -> None:
    """Record all records of the configured topic, as far back as Kafka keeps them.

    Raises Unavailable.
    """
    asyncio.run(_read_topic(recording, settings))


async def _read_topic(recording: Recording, settings: Settings) -> None:
    async with TopicReader(settings.kafka, settings.kafka.topic) as reader:
        async for partition, records in reader.read():
            timestamps_ms = np.array([record.timestamp for record in records], np.int64)
            types = np.array([record.timestamp_type for record in records], np.int64)
            values = [record.value for record in records]
            recording.add(partition, values, timestamps_ms, types == CREATE_TIME)
