"""Fixtures of the mapping tests: rows and fields of files that a test writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.sources.files import RowError
from streams.sources.reading import load_mapping, read_rows
from streams.sources.rows import Row
from tests.support.mapped_files import SIMPLE


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Any]:
    """Rows of a file with this content, by a mapping with this text."""

    def run(
        content: str | bytes, mapping: str = SIMPLE, name: str = "day.csv", **options: Any
    ) -> list[Row | RowError]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        (tmp_path / "m.yaml").write_text(mapping)
        return list(read_rows(path, load_mapping(str(tmp_path / "m.yaml")), **options))

    return run


@pytest.fixture
def field(read: Callable[..., Any]) -> Callable[..., Any]:
    """The values of one field, declared so, from rows of JSON objects; errors as their text."""

    def run(declaration: str, *rows: dict[str, Any], name: str = "duration_ms") -> list[Any]:
        mapping = (
            "format: jsonl\n"
            "time: {every: 1, kind: relative, unit: s, base: 2025-01-01T00:00:00Z, marks: end}\n"
            "fields:\n"
            f"  {name}: {declaration}\n"
        )
        for needed, constant in (("model", "m"), ("outcome", "success")):
            if needed != name:
                mapping += f"  {needed}: {{constant: {constant}}}\n"
        content = "".join(json.dumps(row) + "\n" for row in rows)
        return [
            row.problem
            if isinstance(row, RowError)
            else "; ".join(row.problems) or row.event.get(name)
            for row in read(content, mapping)
        ]

    return run
