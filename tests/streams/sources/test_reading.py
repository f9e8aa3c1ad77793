"""Files of every format and compression, read with one mapping in SQL."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import zstandard

from streams.errors import ConfigError
from streams.sources import reading
from streams.sources.files import RowError, UnreadableFile
from streams.sources.reading import load_mapping, read_rows
from streams.sources.rows import Row

SQL = """
SELECT line, r->>'id' AS request_id, epoch_ms_of(r->>'at') AS ended_at, r->>'model' AS model,
       'success' AS outcome, r->>'tokens' AS input_tokens
FROM records
"""
ROWS = [
    {"id": f"r{number}", "at": "2026-11-20T10:00:00Z", "model": "m, n", "tokens": number}
    for number in range(5)
]
CSV = "id;at;model;tokens\n" + "".join(";".join(map(str, row.values())) + "\n" for row in ROWS)
CONTENTS = {
    "csv": CSV,
    "tsv": CSV.replace(";", "\t"),
    "jsonl": "".join(json.dumps(row) + "\n\n" for row in ROWS),
    "json": json.dumps(ROWS, indent=1),
}


def read(path: Path, content: bytes, sql: str = SQL) -> list[Row | RowError]:
    path.write_bytes(content)
    mapping = path.parent / "m.sql"
    mapping.write_text(sql)
    return list(read_rows(path, load_mapping(str(mapping))))


def ids(rows: list[Row | RowError]) -> list[tuple[str, int]]:
    assert [row for row in rows if isinstance(row, RowError)] == []
    return [
        (row.event["request_id"], row.event["input_tokens"]) for row in rows if isinstance(row, Row)
    ]


EXPECTED = [(row["id"], row["tokens"]) for row in ROWS]


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_a_format_is_recognised_from_the_content(
    tmp_path: Path, kind: str, compress: Callable[[bytes], bytes]
) -> None:
    assert ids(read(tmp_path / "misnamed.bin", compress(CONTENTS[kind].encode()))) == EXPECTED


def test_parquet_is_read_and_its_times_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "day.parquet"
    (tmp_path / "rows.json").write_text(CONTENTS["json"])
    duckdb.sql(
        f'COPY (SELECT * REPLACE ("at"::TIMESTAMPTZ AS "at")'
        f" FROM '{tmp_path}/rows.json')"
        f" TO '{path}' (FORMAT parquet)"
    )
    assert ids(read(path, path.read_bytes())) == EXPECTED
    assert [row.line for row in read(path, path.read_bytes())] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("cut", [1, 10, 200])
@pytest.mark.parametrize("frames", [1, 2])
def test_zstd_that_ends_too_early_is_an_unreadable_file(
    tmp_path: Path, cut: int, frames: int
) -> None:
    text = "".join(f'{{"id": "{number**7}"}}\n' for number in range(500))
    content = zstandard.compress(text.encode()) * frames
    with pytest.raises(UnreadableFile, match=r"too early|zstd"):
        read(tmp_path / "day.jsonl", content[:-cut])


def test_frames_of_zstd_in_a_row_are_one_file(tmp_path: Path) -> None:
    parts = [zstandard.compress(line.encode()) for line in CONTENTS["jsonl"].splitlines(True)]
    assert ids(read(tmp_path / "day.jsonl", b"".join(parts))) == EXPECTED


def test_damaged_parquet_is_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="give a readable, complete file"):
        read(tmp_path / "day.parquet", b"PAR1....")


def test_options_name_the_format_the_rows_and_the_columns(tmp_path: Path) -> None:
    document = json.dumps({"data": {"calls": {"k": ROWS[0]}}})
    sql = "-- format: json\n-- rows: data.calls\n" + SQL.replace("r->>'id'", "key")
    assert ids(read(tmp_path / "day.json", document.encode(), sql)) == [("k", 0)]
    headless = CSV.split("\n", 1)[1].replace(";", "|")
    sql = "-- delimiter: '|'\n-- columns: id, at, model, tokens\n" + SQL
    assert ids(read(tmp_path / "day.csv", headless.encode(), sql)) == EXPECTED


def test_rows_and_failures_come_in_the_order_of_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH_RECORDS", 2)
    lines = CONTENTS["jsonl"].split("\n\n")
    lines[1:1] = ["{broken"]
    lines[3:3] = ['{"id": "x"}']
    rows = read(tmp_path / "day.jsonl", "\n".join(lines).encode())
    assert [row.line for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row.line for row in rows if isinstance(row, RowError)] == [2, 4]


def test_the_first_record_and_the_base_are_the_same_for_all_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH_RECORDS", 2)
    path = tmp_path / "day.jsonl"
    path.write_text("".join(f'{{"clock": {5_000 + 10 * number}}}\n' for number in range(5)))
    mapping = tmp_path / "m.sql"
    mapping.write_text(
        "SELECT line, coalesce(base, epoch_ms(TIMESTAMP '2025-01-01')) + (r->>'clock')::BIGINT"
        " - (first->>'clock')::BIGINT AS ended_at, source AS model, 200 AS status_code FROM records"
    )
    rows = list(read_rows(path, load_mapping(str(mapping)), base_ms=1_795_168_801_000))
    times = [row.ended_at_ms for row in rows if isinstance(row, Row)]
    assert times == [1_795_168_801_000 + 10 * number for number in range(5)]
    assert {row.event["model"] for row in rows if isinstance(row, Row)} == {"day"}


def test_a_mapping_that_is_not_there_is_answered_with_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shipped mapping: .*azure_llm_2023"):
        load_mapping(str(tmp_path / "none.sql"))


def test_objects_over_several_lines_are_one_record_each(tmp_path: Path) -> None:
    content = "\n".join(json.dumps(row, indent=2) for row in ROWS) + "\n{broken"
    rows = read(tmp_path / "day.json", content.encode())
    assert ids(rows[:-1]) == EXPECTED
    assert [row.line for row in rows] == [1, 7, 13, 19, 25, 31]
    assert isinstance(rows[-1], RowError)


def test_two_parts_of_a_rotated_log_have_no_request_id_in_common(tmp_path: Path) -> None:
    mapping = tmp_path / "m.sql"
    mapping.write_text(
        "SELECT line, 1795168801000 AS ended_at, 'm' AS model, 200 AS status_code FROM records"
    )
    ids = []
    for name in ("access.log.1", "access.log.2.gz", "access.2026-11-29", "access.log", "access.gz"):
        file = tmp_path / name
        line = b'{"a": 1}\n'
        file.write_bytes(gzip.compress(line) if name.endswith(".gz") else line)
        rows = read_rows(file, load_mapping(str(mapping)))
        ids += [row.event["request_id"] for row in rows if isinstance(row, Row)]
    assert ids == [
        "access.log.1-1",
        "access.log.2-1",
        "access.2026-11-29-1",
        "access-1",
        "access-1",
    ]
