"""`tokenpulse try` of samples as people have them: in other records, in parts, or foreign."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import assert_one_line, run
from tests.support.paths import GOLDEN

ENVOY = {
    "start_time": "2026-11-20T10:00:00Z",
    "response_code": 200,
    "duration": 2_000,
    "gen_ai.request.model": "gpt-4o",
}
LINE = json.dumps(ENVOY)
EVENT = {"request_id": "a", "ended_at": 1_795_168_802_000, "model": "m", "outcome": "success"}
TRACES = json.loads((GOLDEN / "otlp" / "openinference" / "otlp-0.json").read_text())
(GROUP,) = TRACES["resourceSpans"]
(SCOPE_SPANS,) = GROUP["scopeSpans"]
SPANS = SCOPE_SPANS["spans"]
VLLM = "(APIServer pid=7) INFO 11-20 10:00:02 [logger.py:49] "
ANSWER = f"{VLLM}Generated response c-1: output: '', output_token_ids: [], finish_reason: stop"
RECEIVED = f"{VLLM}Received request c-1: prompt: 'x', params: SamplingParams(n=1)"


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def extracted(output: str, directory: Path) -> Path:
    """Run the command that `try` printed; return the file that it wrote."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    (line,) = [line for line in output.splitlines() if line.startswith("records  ")]
    subprocess.run(line.removeprefix("records  "), shell=True, check=True, cwd=directory)
    return directory / line.rpartition(" > ")[2]


@pytest.mark.parametrize(
    ("rows", "source"),
    [
        ([{"log": f"{LINE}\n", "stream": "stdout", "time": "x"}] * 2, "envoy_ai_gateway"),
        ([{"topic": "t", "offset": n, "payload": LINE} for n in (1, 2)], "envoy_ai_gateway"),
        ([f"2026-11-20T10:00:00.1Z stdout F {LINE}"] * 2, "envoy_ai_gateway"),
        ([f"CreateTime:1795168800000\tnull\t{LINE}"] * 2, "envoy_ai_gateway"),
        ([{"logEvents": [{"id": "1", "message": LINE}] * 2}], "envoy_ai_gateway"),
        (
            [{"message": {"data": base64.b64encode(LINE.encode()).decode()}}] * 2,
            "envoy_ai_gateway",
        ),
        ([json.dumps([EVENT, EVENT], indent=1)], "events"),
        ([json.dumps(EVENT, indent=1), json.dumps(EVENT, indent=1)], "events"),
        (SPANS, "otlp_json"),
        ([json.dumps(SPANS, indent=1)], "otlp_json"),
        ([SCOPE_SPANS], "otlp_json"),
        ([GROUP], "otlp_json"),
        ([[GROUP]], "otlp_json"),
        ([{"batches": [GROUP]}], "otlp_json"),
        ([[TRACES, TRACES]], "otlp_json"),
        ([{"payload": json.dumps(TRACES)}], "otlp_json"),
    ],
)
def test_records_inside_of_others_are_found_and_the_printed_command_takes_them_out(
    rows: list[Any], source: str, tmp_path: Path
) -> None:
    sample = write(tmp_path / "sample", *rows)
    done = run("try", sample)
    assert done.exit_code == 0, done.output
    assert f"source   {source}: " in done.stdout
    taken_out = run("try", extracted(done.stdout, tmp_path))
    assert taken_out.exit_code == 0, taken_out.output
    assert f"source   {source}: " in taken_out.stdout
    assert "records  " not in taken_out.stdout

    def events(output: str) -> list[str]:
        # Without the line of the file, which the command may change.
        table = output.partition("line  ended at")[2].partition("\n\n")[0]
        return [line.partition("  ")[2] for line in table.splitlines()[1:]]

    assert events(done.stdout) == events(taken_out.stdout) != []


def test_several_requests_of_spans_over_several_lines_are_read(tmp_path: Path) -> None:
    text = json.dumps(TRACES, indent=2)
    done = run("try", write(tmp_path / "sample", text, text))
    assert done.exit_code == 0
    assert f"rows     {2 * len(SPANS)} events" in done.stdout


def test_spans_that_no_profile_takes_are_named(tmp_path: Path) -> None:
    part = {"scope": {"name": "my.library"}, "spans": [{**SPANS[0], "attributes": []}]}
    done = run("try", write(tmp_path / "sample", {"resourceSpans": [{"scopeSpans": [part]}]}))
    assert done.exit_code == 1
    assert "  1 left out: unknown_scope, my.library\n" in done.stdout


def test_the_request_log_of_vllm_is_recognised_without_a_measured_number(tmp_path: Path) -> None:
    rows = [{"time": "2026-11-20T10:00:02Z", "log": line} for line in (RECEIVED, ANSWER)]
    done = run("try", write(tmp_path / "sample", *rows))
    assert done.exit_code == 0
    assert "source   vllm_requests: " in done.stdout
    assert "1 events, 1 left out" in done.stdout


def test_a_log_that_has_mostly_text_is_still_recognised(tmp_path: Path) -> None:
    text = ["[2026-11-20 10:00:00.000][1][info] starting"] * 30
    done = run("try", write(tmp_path / "sample", *text, ENVOY, ENVOY))
    assert done.exit_code == 0
    assert "source   envoy_ai_gateway: " in done.stdout
    assert "2 events, 0 left out, 30 could not be mapped" in done.stdout


def test_a_sample_of_failed_requests_alone_is_recognised(tmp_path: Path) -> None:
    failed = {
        "schemaType": "ModelInvocationLog",
        "timestamp": "2026-11-20T10:00:00Z",
        "requestId": "r",
        "modelId": "m",
        "errorCode": "ThrottlingException",
    }
    done = run("try", write(tmp_path / "sample", failed))
    assert done.exit_code == 0
    assert "source   bedrock_invocations: " in done.stdout


def test_batches_longer_than_the_searched_begin_of_a_file_are_lines(tmp_path: Path) -> None:
    entry = {"route_id": "1", "start_time": 1_795_168_800_000, "latency": 2_000}
    entry |= {"response": {"status": 200, "body": "x" * 70_000}, "llm_summary": {"model": "m"}}
    done = run("try", write(tmp_path / "sample", [entry], [entry, entry]))
    assert done.exit_code == 0, done.output
    assert "source   apisix: " in done.stdout
    assert "3 events" in done.stdout


KONG = {"request": {"id": "r"}, "latencies": {"request": 5}, "started_at": 1_795_168_800_000}


@pytest.mark.parametrize(
    ("rows", "explanation"),
    [
        ([RECEIVED, ANSWER], "vLLM's log as text"),
        ([{"message": ANSWER}], "vLLM's log without times"),
        ([{"time": "2026-11-20T10:00:02Z", "log": RECEIVED}], "--enable-log-outputs"),
        (["[2026-11-20 10:00:00] Finish: obj=GenerateReqInput(rid='a')"], "SGLang's log as text"),
        ([{"resourceLogs": [{}]}], "OpenTelemetry logs"),
        ([{"resourceMetrics": [{}]}], "OpenTelemetry metrics"),
        ([{"data": [{"traceID": "1", "spans": []}]}], "as Jaeger gives them"),
        ([[{"traceId": "1", "id": "2", "timestamp": 1}]], "as Zipkin has them"),
        (
            [json.dumps({"name": "chat", "context": {"trace_id": "1", "span_id": "2"}}, indent=4)],
            "as an SDK prints them",
        ),
        ([{"ai": {"proxy": {"usage": {"prompt_tokens": 7}}}}], "a part of Kong's log entry"),
        ([KONG], "set logging.log_statistics"),
        (
            [{"route_id": "1", "start_time": 1_795_168_800_000, "upstream": "u", "latency": 5}],
            "set logging.summaries",
        ),
        ([{"TimeGenerated": "x", "OperationName": "ChatCompletions_Create"}], "Log Analytics"),
        ([{"data": [{"id": "t", "timestamp": "x", "observations": ["o"]}]}], "its observations"),
        ([{"object": "chat.completion", "usage": {"prompt_tokens": 5}}], "usage of a provider"),
        (
            [{"specversion": "1.0", "id": "1", "source": "s", "time": "2026-11-20T10:00:00Z"}
             | {"data": {"model": "gpt-4", "tokens": 12, "type": "input"}}],
            "CloudEvents whose data is no finished request",
        ),
        (["# Notes", "some words"], "neither JSON, nor a table"),
    ],
)  # fmt: skip
def test_a_file_that_is_near_to_a_source_says_in_one_line_what_it_lacks(
    rows: list[Any], explanation: str, tmp_path: Path
) -> None:
    done = run("try", write(tmp_path / "sample", *rows))
    assert (done.exit_code, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert explanation in line


@pytest.mark.parametrize(
    ("content", "explanation"),
    [
        (b"\0\0\1\x11\x70\x02\x0aabc", "Confluent's serialisers"),
        (b"\0\0\0\x05\x0a\x03abc", "set its `format: json`"),
        (b"", "is empty"),
    ],
)
def test_bytes_of_known_forms_are_named(content: bytes, explanation: str, tmp_path: Path) -> None:
    sample = tmp_path / "sample"
    sample.write_bytes(content)
    assert_one_line(run("try", sample), explanation)
