"""Why no shipped source reads a file, for `tokenpulse try`: forms that are near to one that does.

Pure. Each explanation is one line: the kind of the file, and the fix.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from streams.events.parser import UNREADABLE
from streams.sources.sql_mapping import Record

_Members = Mapping[str, Any]
_TEXT = 65_536  # bytes of the begin that are searched

_LARGEST_REQUEST = 2**24

_VLLM = (
    "vLLM's log as text, whose times have no year: let a log shipper send each line as JSON with "
    "its time (docs/sources/vllm_requests.md)"
)
_VLLM_UNFINISHED = (
    "vLLM's log without the ends of requests: start vLLM with --enable-log-outputs "
    "(docs/sources/vllm_requests.md)"
)
_VLLM_WITHOUT_TIME = (
    "vLLM's log without times: let the log shipper add `time` (docs/sources/vllm_requests.md)"
)
_SGLANG = (
    "SGLang's log as text: start SGLang with --log-requests-format json "
    "(docs/sources/sglang_requests.md)"
)
_FRAMED = (
    "begins as a record of Confluent's serialisers, with the id of a schema: name its topic in "
    "intake.sources with an `encoding` (docs/schema-registry.md)"
)
_PROTO_FILE = "the Collector's file exporter in protobuf: set its `format: json`"
_NO_RECORDS = "neither JSON, nor a table with a header line, nor Parquet"
_VLLM_LINE = re.compile(r"(Generated response|Received request) \S+|Request \S+ (aborted|failed)")
_VLLM_END = re.compile(r"Generated response \S+|Request \S+ (aborted|failed)")


def explain_bytes(head: bytes) -> str | None:
    """Return why a file that begins with these bytes is no text; None if it may be one."""
    if head[:1] != b"\0":
        return None
    # The length of a request comes before it, and its first field.
    is_length = head[4:5] == b"\x0a" and int.from_bytes(head[:4], "big") < _LARGEST_REQUEST
    return _PROTO_FILE if is_length else _FRAMED


def explain_text(head: bytes) -> str | None:
    """Return why a text that begins with these bytes is not read; None if it may be."""
    text = head[:_TEXT].decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or lines[0].lstrip().startswith(("{", "[{")):
        return None
    if _VLLM_LINE.search(text):
        return _VLLM
    if "GenerateReqInput(" in text:
        return _SGLANG
    return None


def explain_records(records: Sequence[bytes]) -> str | None:
    """Return why no mapping reads these JSON records; None if they have no known form."""
    for record in records:
        try:
            members = msgspec.json.decode(record)
        except UNREADABLE:
            continue
        # Of a list, as an API answers with one, its first element tells.
        if isinstance(members, list) and members:
            members = members[0]
        if not isinstance(members, dict):
            continue
        for has_form, explanation in _FORMS:
            if has_form(members):
                return explanation
    text = b"\n".join(records)[:_TEXT].decode(errors="replace")
    if _VLLM_LINE.search(text):
        return _VLLM_WITHOUT_TIME if _VLLM_END.search(text) else _VLLM_UNFINISHED
    return None


def explain_table(records: Sequence[Record]) -> str | None:
    """Return why a file without JSON is none of rows; None if its header is one of a table."""
    columns = list(msgspec.json.decode(records[0].content)) if records else []
    named = [name for name in columns if name.strip() and name.isprintable() and len(name) < 100]
    return None if len(named) > 1 and len(named) == len(columns) else _NO_RECORDS


def _has(*names: str) -> Callable[[_Members], bool]:
    return lambda members: all(name in members for name in names)


def _is_kong_part(members: _Members) -> bool:
    ai = members.get("ai", members)
    return (
        isinstance(ai, dict)
        and "started_at" not in members
        and any(name in ai for name in ("ai-proxy", "ai-proxy-advanced", "proxy"))
    )


def _is_jaeger(members: _Members) -> bool:
    data = members.get("data", [members])
    return isinstance(data, list) and any(
        isinstance(trace, dict) and "traceID" in trace for trace in data
    )


def _is_printed_span(members: _Members) -> bool:
    context = members.get("context", members)
    return isinstance(context, dict) and {"trace_id", "span_id"} <= context.keys()


def _is_langfuse_trace(members: _Members) -> bool:
    data = members.get("data", [members])
    first = data[0] if isinstance(data, list) and data else None
    return isinstance(first, dict) and {"observations", "timestamp"} <= first.keys()


# In this order.
_FORMS: tuple[tuple[Callable[[_Members], bool], str], ...] = (
    (_has("resourceLogs"), "OpenTelemetry logs; export traces, which have requests (docs/otlp.md)"),
    (
        _has("resourceMetrics"),
        "OpenTelemetry metrics, which have no single requests; export traces (docs/otlp.md)",
    ),
    (_is_printed_span, "spans as an SDK prints them; export them with OTLP (docs/otlp.md)"),
    (_is_jaeger, "traces as Jaeger gives them; export them with OTLP (docs/otlp.md)"),
    (
        _has("traceId", "id", "timestamp"),
        "spans as Zipkin has them; export them with OTLP (docs/otlp.md)",
    ),
    (
        _is_kong_part,
        "a part of Kong's log entry: time, status and id are beside `ai` (docs/sources/kong.md)",
    ),
    (
        _has("latencies", "started_at"),
        "Kong's log without `ai`: set logging.log_statistics of the AI proxy "
        "(docs/sources/kong.md)",
    ),
    (
        _has("route_id", "start_time", "upstream"),
        "APISIX entries without llm_summary: set logging.summaries of ai-proxy "
        "(docs/sources/apisix.md)",
    ),
    (
        _has("TimeGenerated", "OperationName"),
        "rows of Log Analytics; send the diagnostic log to Event Hubs or a storage account "
        "(docs/sources/azure_openai_diagnostics.md)",
    ),
    (
        _is_langfuse_trace,
        "traces of Langfuse; export its observations (docs/sources/langfuse.md)",
    ),
    (
        _has("specversion", "data"),
        "CloudEvents whose data is no finished request: it has neither duration nor tokens of one "
        "(docs/sources/cloudevents.md)",
    ),
    (
        lambda members: "usage" in members and not {"endTime", "end_time"} & members.keys(),
        "usage of a provider without the end, the duration and the outcome of a request; take the "
        "log of the gateway or client that sent it",
    ),
)
