"""Mappings in SQL: what they return, what is refused, and what a bad record costs."""

import re
import time
from typing import Any

import numpy as np
import pytest

from streams.sources import sql_engine
from streams.sources.sql_engine import MEMORY_LIMIT, SETTINGS, TIME_LIMIT_S, LockedDatabase
from streams.sources.sql_mapping import (
    MappedBatch,
    Record,
    Source,
    SqlMapping,
    SqlMappingError,
)

SELECT = """
SELECT line, r->>'id' AS request_id, epoch_ms_of(r->>'t') AS ended_at, r->>'m' AS model,
       'success' AS outcome{more}
FROM records
"""
VARIABLE = {"a": np.array([1])}
GOOD = b'{"id": "a", "t": 1795168801, "m": "x"}'


def mapped(sql: str, *values: bytes, **options: Any) -> MappedBatch:
    records = [Record(line, value) for line, value in enumerate(values, 1)]
    return SqlMapping(sql, "m.sql", **options).map(records, Source("day"))


def with_column(expression: str) -> str:
    return SELECT.format(more=f", {expression}")


def test_a_record_becomes_an_event_with_the_columns_that_are_not_null() -> None:
    batch = mapped(with_column("NULL AS region, (r->>'n')::BIGINT AS input_tokens"), GOOD)
    assert [(row.line, row.event) for row in batch.rows] == [
        (
            1,
            {
                "request_id": "a",
                "ended_at": 1795168801000,
                "model": "x",
                "outcome": "success",
            },
        )
    ]
    assert batch.rows[0].key == b"a"


def test_without_a_request_id_the_id_is_made_of_the_source_and_the_line() -> None:
    sql = "SELECT line, 1795168801000 AS ended_at, 'm' AS model, 200 AS status_code FROM records"
    assert [row.event["request_id"] for row in mapped(sql, b"{}", b"{}").rows] == ["day-1", "day-2"]


@pytest.mark.parametrize(
    ("text", "ended_at"),
    [
        ("1795168801000", 1795168801000),
        ("1795168801000.9", 1795168801000),
        ("1.795168801e12", 1795168801000),
    ],
)
def test_a_time_that_is_a_number_as_text_is_read_as_a_number(text: str, ended_at: int) -> None:
    sql = "SELECT line, r->>'t' AS ended_at, 'm' AS model, 200 AS status_code FROM records"
    (row,) = mapped(sql, b'{"t": "%s"}' % text.encode()).rows
    assert row.event["ended_at"] == ended_at


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("1795168801", "these look like seconds; select milliseconds"),
        ("20260131", "write YYYY-MM-DDTHH:MM:SS with a zone, or give text_time its pattern"),
        ("1_795_168_801_000", "write YYYY-MM-DDTHH:MM:SS with a zone, or give text_time"),
        ("2026-01-31T09:00:00", "has no zone; give text_time its zone"),
    ],
)
def test_a_text_that_is_no_time_is_reported_with_what_a_query_can_do(text: str, fix: str) -> None:
    sql = "SELECT line, r->>'t' AS ended_at, 'm' AS model, 200 AS status_code FROM records"
    [error] = mapped(sql, b'{"t": "%s"}' % text.encode()).failures
    assert error.problem.startswith(f"ended_at: found '{text}'; {fix}")


def test_key_timestamp_headers_base_source_and_first_are_columns_of_a_record() -> None:
    sql = """SELECT line, timestamp + base AS ended_at, source || key AS model,
        headers->>'team' AS customer_id, first->>'v' AS region, 'success' AS outcome FROM records"""
    record = Record(7, b"{}", "k", 1_795_168_801_000, {"team": "red"})
    (row,) = SqlMapping(sql, "m").map([record], Source("topic-3", 5, Record(1, '{"v": "eu"}'))).rows
    assert row.event == {
        "request_id": "topic-3-7",
        "ended_at": 1_795_168_801_005,
        "model": "topic-3k",
        "customer_id": "red",
        "region": "eu",
        "outcome": "success",
    }


def test_a_record_that_fails_costs_itself_alone_and_is_reported_by_line() -> None:
    values = [GOOD] * 500
    values[100] = b'{"id": "b", "t": 1795168801, "m": "x", "n": "many"}'
    values[300] = b"{broken"
    values[301] = b"\xff\xfe"
    batch = mapped(with_column("(r->>'n')::BIGINT AS input_tokens"), *values)
    assert len(batch.rows) == 497
    assert [failure.line for failure in batch.failures] == [101, 301, 302]
    assert "'many'" in batch.failures[0].problem
    assert "not JSON" in batch.failures[1].problem
    assert "not UTF-8" in batch.failures[2].problem


def test_a_text_that_is_no_number_costs_its_field_only() -> None:
    (row,) = mapped(with_column("'many' AS input_tokens, '12' AS output_tokens"), GOOD).rows
    assert "input_tokens" not in row.event
    assert row.event["output_tokens"] == 12
    assert "input_tokens: found 'many'" in row.problems[0]


@pytest.mark.parametrize("value", ["-2", "1e30", "'nan'::DOUBLE", "'x'"])
def test_a_number_that_no_duration_can_be_costs_its_field_only(value: str) -> None:
    (row,) = mapped(with_column(f"{value} AS ttft_ms"), GOOD).rows
    assert "ttft_ms" not in row.event
    assert len(row.problems) == 1


def test_a_record_without_a_time_or_an_outcome_is_a_failure() -> None:
    sql = """SELECT line, (r->>'t')::BIGINT AS ended_at, 'm' AS model, r->>'o' AS outcome
        FROM records"""
    batch = mapped(sql, b'{"o": "success"}', b'{"t": 1795168801000}', b'{"t": 5, "o": "won"}')
    assert [failure.line for failure in batch.failures] == [1, 2, 3]
    assert batch.rows == []


def test_records_may_be_left_out_and_one_may_be_several_events() -> None:
    sql = """SELECT line, call->>'id' AS request_id, 1795168801000 AS ended_at, 'm' AS model,
        'success' AS outcome
        FROM (SELECT line, unnest((r->'calls')::JSON[]) AS call FROM records)"""
    batch = mapped(sql, b'{"calls": [{"id": "a"}, {"id": "b"}]}', b'{"calls": []}')
    assert [row.event["request_id"] for row in batch.rows] == ["a", "b"]
    assert batch.skipped == 1
    assert batch.failures == []


def test_nan_and_half_surrogate_pairs_are_read_as_data_frames_write_them() -> None:
    batch = mapped(
        with_column("(r->>'n')::BIGINT AS input_tokens"),
        b'{"id": "a", "t": 1795168801, "m": "x", "n": NaN}',
        b'{"id": "b", "t": 1795168801, "m": "\\ud83d"}',
    )
    assert [row.event["request_id"] for row in batch.rows] == ["a", "b"]


NAMES = "r->>'v' AS region, r->'v' AS channel, label(r->>'v') AS use_case"


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "1e999", "-1E+400", "9" * 4_400])
def test_a_number_that_is_not_finite_is_unknown_in_each_field_but_an_error(number: str) -> None:
    numbers = "(r->>'v')::DOUBLE AS ttft_ms, r->'v' AS duration_ms, r->>'v' AS input_tokens"
    sql = with_column(f"{NAMES}, {numbers}, r->>'v' AS error")
    batch = mapped(sql, GOOD[:-1] + f', "v": {number}}}'.encode())
    (row,) = batch.rows
    assert row.event.keys() == {"request_id", "ended_at", "model", "outcome", "error"}
    reported = [problem.partition(":")[0] for problem in row.problems]
    assert reported == ["region", "channel", "ttft_ms", "duration_ms", "input_tokens"]


def test_a_text_like_infinity_is_a_name() -> None:
    batch = mapped(with_column(NAMES), GOOD[:-1] + b', "v": "Infinity"}')
    (row,) = batch.rows
    assert {row.event[name] for name in ("region", "channel", "use_case")} == {"Infinity"}


def test_a_number_beyond_any_float_costs_its_field_and_not_the_batch() -> None:
    large = GOOD[:-1] + b', "n": ' + b"9" * 400 + b"}"
    batch = mapped(with_column("r->'n' AS duration_ms, r->'n' AS input_tokens"), GOOD, large)
    assert [len(row.problems) for row in batch.rows] == [0, 2]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1; SELECT 2", "exactly one SELECT"),
        ("COPY (SELECT 1) TO '/tmp/x'", "exactly one SELECT"),
        ("SET threads=4", "exactly one SELECT"),
        ("SELEKT 1", "syntax error"),
        ("SELECT line, 1 AS ended_at, 'm' AS model FROM records", "neither outcome"),
        ("SELECT 1 AS line, 'm' AS model, 'success' AS outcome FROM records", "no column ended_at"),
        (with_column("1 AS cost"), "cost: no such field"),
        (with_column("[1] AS input_tokens"), "cast it to a number"),
        (with_column("r->>'a' || missing AS region"), "missing"),
        ("-- format: xml\n" + SELECT.format(more=""), "format: found 'xml'"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused_when_it_is_loaded(sql: str, message: str) -> None:
    with pytest.raises(SqlMappingError, match=r"m\.sql: ") as refusal:
        SqlMapping(sql, "m.sql")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "source",
    [
        "read_text('/etc/passwd')",
        "read_csv('/etc/passwd')",
        "read_blob(['/etc/passwd'])",
        "'/etc/passwd.csv'",
        "glob('/etc/*')",
        "read_json('http://127.0.0.1:9/x')",
        "read_parquet('s3://bucket/x')",
        "sniff_csv('/etc/passwd')",
        "duckdb_secrets()",
        "sqlite_scan('/tmp/a', 'b')",
        "read_duckdb('/tmp/a.db')",
        "parquet_metadata('/etc/passwd')",
        "query_table('/etc/passwd.csv')",
        "VARIABLE",  # of the Python program around it
    ],
)
def test_files_networks_and_extensions_are_out_of_reach(source: str) -> None:
    sql = (
        "SELECT line, 1795168801000 AS ended_at, 'm' AS model, 'success' AS outcome,"
        f" (SELECT count(*) FROM {source}) AS input_tokens FROM records"
    )
    with pytest.raises(SqlMappingError, match=r"Permission|Catalog|Binder|syntax"):
        mapped(sql, GOOD)


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("repeat", "length(repeat('a', 4000000000) || (r->>'m'))"),
        ("lpad", "length(lpad('a', 2000000000, 'b'))"),
        ("rpad", "length(rpad('a', 2000000000, 'b'))"),
        ("range", "list_aggregate(range(2000000000), 'sum')"),
        ("range", "len(system.main.range(2000000000))"),
        ("generate_series", "len(generate_series(1, 2000000000))"),
        ("list_resize", "len(list_resize([1], 2000000000))"),
        ("printf", "length(printf('%2000000000d', 1))"),
        ("format", "length(format('{:>2000000000}', 1))"),
        ("bar", "length(bar(1, 0, 1, 2000000000))"),
        ("bitstring", "bit_count(bitstring('1', 2000000000))"),
        ("repeat", "(WITH a AS (SELECT 'a'.repeat(2000000000) AS u) SELECT length(u) FROM a)"),
    ],
)
def test_a_value_beyond_all_memory_is_not_made(name: str, expression: str) -> None:
    with pytest.raises(SqlMappingError, match=f": {name} is not available in mappings"):
        mapped(with_column(f"{expression} AS input_tokens"), GOOD)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("random()", "random: a record must give the same event"),
        ("epoch_ms(NOW())", "now: a record must give the same event"),
        ("epoch_ms(CURRENT_TIMESTAMP)", "current_timestamp: a record must give the same event"),
        ("(WITH a AS (SELECT uuid() AS u) SELECT length(u::VARCHAR) FROM a)", "uuid: a record"),
    ],
)
def test_no_call_gives_a_record_another_event(expression: str, problem: str) -> None:
    with pytest.raises(SqlMappingError, match=re.escape(problem)):
        mapped(with_column(f"{expression} AS input_tokens"), GOOD)


def test_mappings_of_one_database_do_not_see_the_records_of_each_other() -> None:
    sql = with_column("source AS channel")
    east, west = SqlMapping(sql, "m.sql"), SqlMapping(sql, "m.sql")
    for mapping, name in ((east, "east"), (west, "west"), (east, "east")):
        (row,) = mapping.map([Record(1, GOOD)], Source(name)).rows
        assert row.event["channel"] == name


def test_times_without_a_zone_are_utc_in_every_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    sql = SELECT.format(more="").replace("r->>'t'", "'2026-11-20 10:00:00'")
    (row,) = mapped(sql, GOOD, database=LockedDatabase()).rows
    assert row.ended_at_ms == 1_795_168_800_000


def test_a_column_may_have_the_name_of_such_a_function() -> None:
    sql = with_column("uuid AS request_id").replace(
        "FROM records", "FROM (SELECT *, 'a' AS uuid FROM records)"
    )
    assert not mapped(sql, GOOD).failures


def test_a_record_that_needs_too_much_memory_costs_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    less = [setting.replace(MEMORY_LIMIT, "64MB") for setting in SETTINGS]
    monkeypatch.setattr(sql_engine, "SETTINGS", less)
    more = "(SELECT length(list(range)::VARCHAR) FROM range((r->>'rows')::BIGINT)) AS input_tokens"
    heavy = b'{"id": "b", "t": 1795168801, "m": "x", "rows": 50000000}'
    small = GOOD.replace(b"}", b', "rows": 3}')
    batch = mapped(with_column(more), small, heavy, database=LockedDatabase())
    assert [row.event["input_tokens"] for row in batch.rows] == [len("[0, 1, 2]")]
    (failure,) = batch.failures
    assert failure.line == 2
    assert "Memory" in failure.problem


RUNAWAY = """(SELECT count(*) FROM range((r->>'rows')::BIGINT) a, range(100000) b
    WHERE (a.range * b.range) % 7 = 3) AS input_tokens"""


def test_a_runaway_query_is_stopped_and_only_its_record_fails() -> None:
    heavy = b'{"id": "b", "t": 1795168801, "m": "x", "rows": 1000000}'
    began = time.monotonic()
    batch = mapped(with_column(RUNAWAY), GOOD, heavy, GOOD, GOOD, time_limit_s=0.4)
    assert len(batch.rows) == 3
    assert [(failure.line, failure.problem) for failure in batch.failures] == [
        (2, "ran longer than 0.4 s")
    ]
    assert time.monotonic() - began < TIME_LIMIT_S


def test_a_query_that_runs_away_for_every_record_ends_after_a_few_limits() -> None:
    heavy = b'{"id": "b", "t": 1795168801, "m": "x", "rows": 1000000}'
    began = time.monotonic()
    batch = mapped(with_column(RUNAWAY), *[heavy] * 500, time_limit_s=0.05)
    assert len(batch.failures) == 500
    assert time.monotonic() - began < TIME_LIMIT_S


def test_options_are_comments_before_the_select() -> None:
    mapping = SqlMapping(
        "-- about: Our log\n-- format: csv\n-- delimiter: ';'\n-- columns: a, b\n"
        + SELECT.format(more=""),
        "m",
    )
    assert mapping.about == "Our log"
    assert mapping.options.format == "csv"
    assert mapping.options.delimiter == ";"
    assert mapping.options.columns == ("a", "b")


@pytest.mark.parametrize("text", ["[prompt], at", "[1, 2]", '["a"'])
def test_names_that_are_no_list_are_an_error_of_the_mapping(text: str) -> None:
    with pytest.raises(SqlMappingError, match="columns: no JSON text or list"):
        SqlMapping(f"-- format: csv\n-- columns: {text}\n" + SELECT.format(more=""), "m")


@pytest.mark.parametrize("name", ["first", "first_number", "FIRST_NUMBER"])
def test_a_query_that_uses_the_first_record_is_recognised(name: str) -> None:
    text = f"SELECT line, 1795168801000 + number - coalesce({name}::VARCHAR, '0')::DOUBLE::BIGINT"
    mapping = SqlMapping(
        f"{text} AS ended_at, 'm' AS model, 'success' AS outcome FROM records", "m"
    )
    assert mapping.uses_first
