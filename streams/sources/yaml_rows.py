"""Convert the rows of a recorded file to events, with a mapping.

Reads no clock: relative times count from the mapping's base, or from a given one.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from streams.events.fields import MAX_TIME_MS
from streams.sources.compilation import FieldCompiler
from streams.sources.conversion import EPOCH, MICROSECOND, Unusable
from streams.sources.declaration import Mapping
from streams.sources.files import (
    CsvRows,
    RawRow,
    RowError,
    json_lines,
    json_rows,
    open_plain,
)
from streams.sources.rows import Row, find_problem

HALF_MICROSECOND_MS = 0.0005  # 1.001 s is 1000.9999... ms in binary, and must become 1001


def read_rows(path: Path, mapping: Mapping, base_ms: int | None = None) -> Iterator[Row | RowError]:
    """Yield every row of the file, in its order, as an event or as an error.

    A value that cannot be used costs its field, not the row, unless the row then has no id, no time
    or no outcome.

    `base_ms` replaces the mapping's base for relative times. Raises UnreadableFile, from the
    iterator, if the file cannot be read or lacks a mapped column.
    """
    with open_plain(path) as file:
        columns = None
        raw: Iterable[RawRow | RowError]
        if mapping.format == "csv":
            raw = table = CsvRows(path, file, mapping.csv.delimiter, mapping.csv.columns)
            columns = table.columns
        elif mapping.format == "jsonl":
            raw = json_lines(file)
        else:
            raw = json_rows(path, file, mapping.rows)
        yield from _events(raw, mapping, FieldCompiler(path, mapping, columns), base_ms)


def _events(
    raw_rows: Iterable[RawRow | RowError],
    mapping: Mapping,
    compiler: FieldCompiler,
    base_ms: int | None,
) -> Iterator[Row | RowError]:
    time = mapping.time
    fields = [(name, compiler.field(name, source)) for name, source in mapping.fields.items()]
    instant = compiler.time(time)
    # +1: from the arrival to the end; -1: back. A row without a duration is not moved.
    steps = (time.count_at == "end") - (time.marks == "end")
    start_ms = 0
    if time.base is not None:
        start_ms = (time.base - EPOCH) // MICROSECOND // 1_000 if base_ms is None else base_ms
    first_ms = None if time.origin == "first" else 0.0

    for index, raw in enumerate(raw_rows):
        # A row that cannot be read is reported, and the next one is tried.
        if isinstance(raw, RowError):
            yield raw
            continue
        try:
            at_ms = instant(index, raw)
        except Unusable as unusable:
            yield RowError(raw.line, f"time {compiler.origins['time']}: {unusable}")
            continue
        event: dict[str, Any] = {"request_id": f"{compiler.id_prefix}-{raw.line}", "ended_at": 0}
        left_out: dict[str, str] = {}
        for name, get in fields:
            try:
                value = get(raw)
            except Unusable as unusable:
                left_out[name] = f"{name} {compiler.origins[name]}: {unusable}"
                continue
            if value is not None:
                event[name] = value
        if problem := find_problem(event, left_out):
            yield RowError(raw.line, problem)
            continue
        # The file gives the arrival and the end counts, or the reverse.
        if steps:
            at_ms += steps * event.get("duration_ms", 0)
        # The first valid row is the origin of relative times.
        if first_ms is None:
            first_ms = at_ms
        ended_at_ms = start_ms + math.floor(at_ms - first_ms + HALF_MICROSECOND_MS)
        if not 0 <= ended_at_ms <= MAX_TIME_MS:
            problem_of_time = f"found {ended_at_ms} ms after 1970; correct its unit or base"
            yield RowError(raw.line, f"time: {problem_of_time}")
            continue
        event["ended_at"] = ended_at_ms
        yield Row(raw.line, event, ended_at_ms, tuple(left_out.values()))
