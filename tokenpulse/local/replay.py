"""`tokenpulse replay`: send a file of recorded requests through the pipeline, and report on it.

The file is read twice: first to count its rows and to find its last time, for the progress bar and
for shifting the times; then to send it.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from streams.config.settings import Settings
from streams.errors import RequestError, Unavailable
from streams.events.columns import Rejection
from streams.events.decoder import EventLimits, decode
from streams.kafka.producer import EventProducer
from streams.query.report import Question, make_report
from streams.sources.events import EventLine, read_events
from streams.sources.files import RowError
from streams.sources.guess import read_sample
from streams.sources.problems import RowProblems
from streams.sources.reading import read_rows
from streams.sources.rows import Row
from streams.sources.sql_mapping import SqlMapping
from streams.state.limits import event_limits
from streams.state.measures import counted_events
from streams.state.slices import duplicates_of, rejections_by_reason
from streams.store.keys import Keys
from streams.store.reader import StateReader
from streams.store.servers.client import connected
from tokenpulse.event_files import check_event_file
from tokenpulse.local.stack import LocalStack

POLL_S = 0.1
# The worker may wait for a stable group, or for Redis; a longer silence is a failure.
DRAIN_SILENCE_S = 120.0
CHUNK = 2_048
# A failed request is known by its id and its end, and each replay moves the ends differently.
MOVED = "note: the times of the file are moved to now; --as-recorded keeps them"
MOVED_AGAIN = (
    "note: the times of the file are moved to now, so failed requests that were replayed before "
    "count again; --as-recorded keeps the times"
)


@dataclass(frozen=True, slots=True)
class Replay:
    """A file to replay, and how.

    `mapping`: None for JSON lines that are events of the contract. `speed`: times real time; None
    for full speed. `as_recorded`: keep the times of the file instead of shifting them to end now.
    `base_ms`: instant that relative times count from. `onto_state`: whether running workers may
    have counted other records, which the report then includes.
    """

    path: Path
    mapping: SqlMapping | None = None
    as_recorded: bool = False
    speed: float | None = None
    base_ms: int | None = None
    onto_state: bool = False
    question: Question = field(default_factory=Question)

    def rows(
        self, count_skipped: Callable[[int], None] | None = None
    ) -> Iterator[Row | EventLine | RowError]:
        """Yield the rows of the file. Raises UnreadableFile.

        `count_skipped` gets the numbers of records that the mapping leaves out.
        """
        if self.mapping is None:
            return read_events(self.path)
        return read_rows(self.path, self.mapping, self.base_ms, count_skipped)


@dataclass(slots=True)
class Outcome:
    """The result for the rows of a file. `refused`: records the worker rejected, by reason.

    `left_out`: fields that could not be mapped, of rows that were sent without them. `skipped`:
    records that the mapping leaves out, as they are no requests; they are not among the rows.
    """

    rows: int = 0
    unmapped: int = 0
    left_out: int = 0
    skipped: int = 0
    sent: int = 0
    counted: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    report: dict[str, Any] | None = None

    def count_skipped(self, records: int) -> None:
        """Count records that the mapping leaves out."""
        self.skipped += records

    @property
    def complete(self) -> bool:
        """True if every row was either counted or reported.

        Events that producers send to the topic meanwhile are counted too.
        """
        mapped = self.rows - self.unmapped
        processed = self.counted + self.duplicates + self.refused.total()
        return self.sent == mapped and processed >= mapped

    @property
    def foreign(self) -> int:
        """Records of other producers that were counted during the replay, at least."""
        return max(0, self.counted + self.duplicates + self.refused.total() - self.sent)


@dataclass(frozen=True, slots=True)
class _Extent:
    """Number of rows, and the first and last end of a request."""

    rows: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class _Totals:
    """Records that the workers have counted, recognised as duplicates or rejected so far."""

    counted: int
    duplicates: int
    refused: Counter[str]

    @property
    def all(self) -> int:
        return self.counted + self.duplicates + self.refused.total()


def run_replay(
    settings: Settings, replay: Replay, external: bool, say: Callable[[str], None]
) -> Outcome:
    """Replay a file; with `external`, through servers and workers that run already.

    Raises Unavailable, ConfigError, or RequestError if the file needs a mapping.
    """
    if replay.mapping is None:
        # A wrong kind of file is named before a stack is started.
        check_event_file(replay.path)
    elif (local_time := read_sample(replay.path, replay.mapping).local_time) is not None:
        say(f"note: times without a zone are read as UTC, as {local_time}")
    extent = _measure(replay, time.time_ns() // 1_000_000)
    stack = (
        nullcontext(None)
        if external
        else LocalStack(settings, workers=settings.local.workers, exporter=False, simulate=False)
    )
    with stack as running:
        if running is not None:
            settings = running.settings
        return asyncio.run(_replay(settings, replay, extent, running, say))


def _measure(replay: Replay, now_ms: int) -> _Extent:
    rows = 0
    # Apart, as it is known only at the end whether the whole file lies in the future.
    past, future = _Span(), _Span()
    for row in replay.rows():
        rows += 1
        if not isinstance(row, RowError) and row.ended_at_ms is not None:
            (past if row.ended_at_ms <= now_ms else future).include(row.ended_at_ms)
    # One wrong time in the future would shift all rows years into the past.
    span = future if past.last_ms is None else past
    return _Extent(rows, span.first_ms or 0, span.last_ms or 0)


@dataclass(slots=True)
class _Span:
    first_ms: int | None = None
    last_ms: int | None = None

    def include(self, at_ms: int) -> None:
        """Extend the span to an instant."""
        self.first_ms = at_ms if self.first_ms is None else min(self.first_ms, at_ms)
        self.last_ms = at_ms if self.last_ms is None else max(self.last_ms, at_ms)


async def _replay(
    settings: Settings,
    replay: Replay,
    extent: _Extent,
    stack: LocalStack | None,
    say: Callable[[str], None],
) -> Outcome:
    outcome = Outcome()
    client = connected(settings.redis)
    group, topic = settings.kafka.group, settings.kafka.topic
    try:
        # The topic may contain earlier records: only the difference is of this file.
        before = await _read_totals(client, settings)
        if before.all and not replay.onto_state:
            raise RequestError(
                f"the workers of group {group!r} and topic {topic!r} have counted {before.all:,} "
                "other records, which the report would include; set kafka.group and kafka.topic of "
                "workers of their own, or accept it with --onto-state"
            )
        if not replay.as_recorded:
            say(MOVED_AGAIN if before.all else MOVED)
        async with EventProducer(settings.kafka) as producer:
            limits = event_limits(settings.worker)
            await _send(producer, replay, extent, outcome, limits, say)
            ends = dict(producer.end_offsets)
        await _drain(client, settings, ends, stack)
        after = await _read_totals(client, settings)
        outcome.counted = after.counted - before.counted
        outcome.duplicates = after.duplicates - before.duplicates
        outcome.refused = after.refused - before.refused
        # Without any event the store has no time, and a report of it would begin in 1970.
        if after.counted:
            outcome.report = await make_report(client, group, topic, replay.question)
        return outcome
    finally:
        await client.aclose()


async def _send(
    producer: EventProducer,
    replay: Replay,
    extent: _Extent,
    outcome: Outcome,
    limits: EventLimits,
    say: Callable[[str], None],
) -> None:
    began_ms = time.time_ns() // 1_000_000
    shift_ms = 0 if replay.as_recorded else _shift_ms(replay.speed, extent, began_ms)
    problems = RowProblems(replay.path, say)
    lines: list[int] = []
    chunk: list[tuple[bytes | None, bytes]] = []

    async def send_chunk() -> None:
        for rejection in _rejections([value for _, value in chunk], limits):
            bar.clear()
            problems.report_rejected(lines[rejection.position], rejection)
        await producer.send_many(chunk)
        outcome.sent += len(chunk)
        lines.clear()
        chunk.clear()

    with tqdm(
        total=extent.rows, unit=" rows", disable=not sys.stderr.isatty(), file=sys.stderr
    ) as bar:
        for row in replay.rows(outcome.count_skipped):
            outcome.rows += 1
            if isinstance(row, RowError):
                bar.clear()
                problems.report(row)
                continue
            if isinstance(row, Row) and row.problems:
                bar.clear()
                problems.report_fields(row)
            # An event without a usable time is due at once: the worker has to reject it.
            ended_at_ms = extent.first_ms if row.ended_at_ms is None else row.ended_at_ms
            due_s = _due_s(
                replay.speed, min(ended_at_ms, extent.last_ms) - extent.first_ms, began_ms
            )
            # Send what is due before waiting for a later row.
            if len(chunk) >= CHUNK or due_s > 0:
                await send_chunk()
                # The row at hand is not sent yet.
                bar.update(outcome.rows - 1 - bar.n)
                await asyncio.sleep(max(0.0, due_s))
            lines.append(row.line)
            chunk.append((row.key, row.encode(shift_ms)))
        await send_chunk()
        # Offsets of the last records are known once the broker has them.
        await producer.flush()
        bar.update(outcome.rows - bar.n)
    problems.summarise()
    outcome.unmapped, outcome.left_out = problems.unmapped, problems.left_out


def _rejections(values: Sequence[bytes], limits: EventLimits) -> Iterator[Rejection]:
    """Yield the rejections of events that the worker rejects now."""
    now_ms = np.full(len(values), time.time_ns() // 1_000_000)
    for rejection in decode(values, now_ms, None, limits).rejections:
        # This one depends on the events of the partition that came before.
        if rejection.reason != "too_late":
            yield rejection


def _shift_ms(speed: float | None, extent: _Extent, began_ms: int) -> int:
    """Return the shift of the recorded times, so that the file ends when its last row is sent.

    Slower than real time, the file starts now instead: else its rows would be in the future when
    they are sent.
    """
    span_ms = extent.last_ms - extent.first_ms
    if speed is None:
        return began_ms - extent.last_ms
    # At least real time: the last row is sent at the end of the shifted span.
    if speed >= 1:
        return began_ms + int(span_ms / speed) - extent.last_ms
    return began_ms - extent.first_ms


def _due_s(speed: float | None, since_first_ms: int, began_ms: int) -> float:
    """Return the seconds until a row is due."""
    if speed is None:
        return 0.0
    return (began_ms + since_first_ms / speed - time.time_ns() / 1e6) / 1_000


async def _read_totals(client: Any, settings: Settings) -> _Totals:
    """Return the totals of all partitions."""
    reader = StateReader(client, settings.kafka.group, settings.kafka.topic)
    counted = duplicates = 0
    refused: Counter[str] = Counter()
    for view in (await reader.snapshot()).views:
        counted += counted_events(view.totals)
        duplicates += duplicates_of(view.totals)
        refused.update(rejections_by_reason(view.totals))
    return _Totals(counted, duplicates, refused)


async def _drain(
    client: Any, settings: Settings, ends: dict[int, int], stack: LocalStack | None
) -> None:
    """Wait until the store includes every record sent."""
    missing, moved_at = None, time.monotonic()
    while True:
        offsets = [
            int(
                await client.hget(
                    Keys(settings.kafka.group, settings.kafka.topic).partition(partition), "offset"
                )
                or 0
            )
            for partition in ends
        ]
        left = sum(max(0, end - have) for end, have in zip(ends.values(), offsets, strict=True))
        if left == 0:
            return
        # Progress restarts the time limit.
        if left != missing:
            missing, moved_at = left, time.monotonic()
        # A worker that died would never move the offset.
        if stack is not None:
            stack.check()
        if time.monotonic() - moved_at > DRAIN_SILENCE_S:
            raise Unavailable(
                f"{left} records were not counted and no offset moved for {DRAIN_SILENCE_S:.0f} s: "
                "is a worker running for this group and topic?"
            )
        await asyncio.sleep(POLL_S)
