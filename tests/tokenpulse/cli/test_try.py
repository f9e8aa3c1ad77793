"""`tokenpulse try`: the first rows of a file, as they would be counted."""

import json
from pathlib import Path

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.command import assert_one_line, run

EVENT = {"request_id": "a", "ended_at": 1_795_168_802_000, "model": "m", "status_code": 200}
ENVOY = {
    "start_time": "2026-11-20T10:00:00Z",
    "response_code": 429,
    "duration": 2_000,
    "gen_ai.request.model": "gpt-4o",
}


def test_a_known_source_is_shown_with_the_command_that_replays_it(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    log.write_text(json.dumps(ENVOY) + "\n" + json.dumps(ENVOY) + "\n{broken\n")
    named, guessed = run("try", log, "--mapping", "envoy_ai_gateway"), run("try", log)
    assert guessed.exit_code == 1  # a third of its rows is broken
    assert named.exit_code == 0
    assert "2 events, 0 left out, 1 could not be mapped" in named.stdout
    assert "line 3: not JSON" in named.stdout
    assert "2026-11-20T10:00:02Z  gpt-4o  rate_limited  -     2 s" in named.stdout
    assert f"tokenpulse replay {log} --mapping envoy_ai_gateway\n" in named.stdout
    assert "sources: [{topic: TOPIC, format: envoy_ai_gateway}]" in named.stdout


def test_events_of_the_contract_need_no_mapping(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text(json.dumps(EVENT) + "\n")
    done = run("try", log)
    assert done.exit_code == 0
    assert "events of the contract" in done.stdout
    assert done.stdout.endswith(f"tokenpulse replay {log}\n")


def test_an_unknown_file_gets_a_draft_that_can_be_tried(tmp_path: Path) -> None:
    log, draft = tmp_path / "own.csv", tmp_path / "my.sql"
    log.write_text("time,model,latency_s\n2026-11-20T10:00:02Z,m,1.5\n")
    done = run("try", log)
    assert done.exit_code == 1
    draft.write_text(done.stdout)
    again = run("try", log, "--mapping", draft)
    assert again.exit_code == 0
    assert "1.5 s" in again.stdout


def test_a_draft_uses_the_time_to_the_first_token_and_names_what_it_assumes(
    tmp_path: Path,
) -> None:
    log, draft = tmp_path / "own.csv", tmp_path / "my.sql"
    head = "time,model,status,first_token_ms\n"
    log.write_text(head + "2026-11-29 09:00:00,m,200,120\n" * 3)
    done = run("try", log)
    assert "-- times without a zone are read as UTC; " in done.stdout
    assert "-- not used" not in done.stdout
    assert "3 events, 0 left out, 0 could not be mapped" in done.stderr
    draft.write_text(done.stdout)
    log.write_text(head + "2026-11-29 09:00:00,m,200,120\nyesterday,m,200,1\n2026-11-29,m,abc,1\n")
    again = run("try", log, "--mapping", draft)
    assert "2026-11-29T09:00:00Z  m      success  120 ms" in again.stdout
    assert "times    without a zone are read as UTC, as 2026-11-29 09:00:00" in again.stdout
    assert "line 3: ended_at: found 'yesterday'; write RFC 3339, or a number" in again.stdout
    assert "line 4: outcome: found 'abc'; write an HTTP status" in again.stdout
    # The fix of the comment.
    moved = done.stdout.replace("epoch_ms_of(r->>'time')", "epoch_ms_of(r->>'time' || '+01:00')")
    assert moved != done.stdout
    draft.write_text(moved)
    zoned = run("try", log, "--mapping", draft).stdout
    assert "2026-11-29T08:00:00Z  m" in zoned
    assert "without a zone" not in zoned


def test_a_begin_without_a_zone_is_said_to_be_utc_and_one_with_a_zone_is_not(
    tmp_path: Path,
) -> None:
    log, mapping = tmp_path / "own.jsonl", tmp_path / "my.sql"
    mapping.write_text(
        "SELECT line, epoch_ms_of(r->>'$.at.begin') + 1500.5 AS ended_at, 'm' AS model,\n"
        "  'success' AS outcome, 1500.5 AS duration_ms FROM records\n"
    )
    told = []
    for begin in ("2026-11-20T10:00:02.25", "2026-11-20T10:00:02.25Z"):
        log.write_text(json.dumps({"day": "2026-11-20 00:00", "at": {"begin": begin}}) + "\n")
        told.append(run("try", log, "--mapping", mapping).stdout)
    assert "read as UTC, as 2026-11-20T10:00:02.25\n" in told[0]
    assert "1 events" in told[1]
    assert "read as UTC" not in told[1]


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert_one_line(run("try", tmp_path / "none"), "No such file")


def test_traces_are_recognised_in_both_encodings(tmp_path: Path) -> None:
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
    span = {
        "traceId": "1" * 32,
        "spanId": "2" * 16,
        "name": "chat gpt-4o",
        "kind": 3,
        "startTimeUnixNano": "1795168800000000000",
        "endTimeUnixNano": "1795168802000000000",
        "attributes": [
            {"key": key, "value": {"stringValue": value}} for key, value in attributes.items()
        ],
    }
    scope = {"name": "opentelemetry.instrumentation.openai.v1"}
    body = {"resourceSpans": [{"scopeSpans": [{"scope": scope, "spans": [span]}]}]}
    traces = tmp_path / "traces"
    traces.write_text(json.dumps(body) + "\n")
    in_json = run("try", traces)
    message = json_format.ParseDict(body, ExportTraceServiceRequest())
    (sent,) = message.resource_spans[0].scope_spans[0].spans
    # In protobuf's JSON ids are base64, in that of OTLP hexadecimal.
    sent.trace_id, sent.span_id = bytes.fromhex("1" * 32), bytes.fromhex("2" * 16)
    traces.write_bytes(message.SerializeToString())
    in_proto = run("try", traces)
    for done, encoding in ((in_json, "otlp_json"), (in_proto, "otlp_proto")):
        assert done.exit_code == 0
        assert f"source   {encoding}: OpenTelemetry traces" in done.stdout
        assert "2026-11-20T10:00:02Z  gpt-4o" in done.stdout
        assert f"format: {encoding}}}]" in done.stdout
        assert "tokenpulse replay" not in done.stdout
        assert "file     POST it to /v1/traces of an intake" in done.stdout
    assert_one_line(run("replay", traces), f"{traces}: contains OpenTelemetry traces; send it to")


def test_a_mapping_that_fits_no_row_is_status_1(tmp_path: Path) -> None:
    log = tmp_path / "own.csv"
    log.write_text("a,b\n1,2\n")
    done = run("try", log, "--mapping", "envoy_ai_gateway")
    assert done.exit_code == 1
    assert "0 events" in done.stdout
