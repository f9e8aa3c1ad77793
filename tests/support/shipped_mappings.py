"""Apply the shipped mappings to payloads of producers, and to cases worked out by hand."""

import functools
import json
from typing import Any

import pytest

from streams.sources.reading import load_mapping, read_rows
from streams.sources.rows import Row
from streams.sources.sql_mapping import MappedBatch, Record, Source, SqlMapping
from tests.support.paths import ROOT
from tests.support.traces import TRACES

NATIVE = TRACES / "native"
CASES = ROOT.parent / "shared" / "cases"
needs_payloads = pytest.mark.skipif(not NATIVE.is_dir(), reason=f"needs payloads: {NATIVE}")
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"needs cases: {CASES}")

END_MS = 1_795_168_802_000  # 2026-11-20T10:00:02Z


@functools.cache
def mapping_of(name: str) -> SqlMapping:
    return load_mapping(name)


def mapped(name: str, *payloads: Any) -> MappedBatch:
    mapping = mapping_of(name)
    assert isinstance(mapping, SqlMapping)
    records = [Record(line, json.dumps(payload)) for line, payload in enumerate(payloads, 1)]
    return mapping.map(records, Source("log"))


def event(name: str, payload: Any) -> dict[str, Any]:
    batch = mapped(name, payload)
    assert batch.failures == []
    (row,) = batch.rows
    assert row.problems == ()
    return row.event


def native(folder: str, file: str) -> Any:
    return json.loads((NATIVE / folder / file).read_text())


def case(pattern: str, file: str, name: str) -> list[dict[str, Any]]:
    rows = list(read_rows(next(CASES.glob(pattern)) / file, load_mapping(name)))
    events = [row.event for row in rows if isinstance(row, Row)]
    assert len(events) == len(rows)
    return events
