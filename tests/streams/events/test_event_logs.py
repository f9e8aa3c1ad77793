"""Whole logs, in any batches and of any bytes, against a plain-Python reading of the contract."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.events.columns import Decoded
from streams.events.decoder import OUTCOMES, REASONS, EventLimits
from streams.events.fields import ENDINGS, ERROR_CLASSES, FIELDS
from tests.support.contract import read_record
from tests.support.event_samples import EVENT, NOW, RULES, judge, raw, rows
from tests.support.traces import TRACES, needs_traces, reference

# --- any log -------------------------------------------------------------------------------------

LABELS = st.sampled_from(
    ["a", "b", "c", "unknown", None, "", "d e\u00e9", "__other__", "x" * 120, 7, 1.50]
)
LATENCIES = (
    st.none() | st.floats(-2, 5_000) | st.integers(0, 5_000) | st.sampled_from([-1, 86_400_001])
)
COUNTS = (
    st.none() | st.integers(-2, 9) | st.integers(0, 10**12) | st.sampled_from([3.0, 2**70, 10**15])
)
# What gateways write for a field that they do not have, or have in another type.
WRONG = st.sampled_from([True, False, "", "1", "None", -1, 1.5, [], ["x"], {}, {"a": 1}])
GOOD_EVENTS = st.fixed_dictionaries(
    {
        "request_id": st.text("é0", min_size=1, max_size=3),
        "ended_at": st.integers(NOW - 100_000, NOW + 400_000)
        | st.sampled_from(["2023-11-14T22:13:20.5Z", "2023-11-14T22:13:50+00:00"]),
    },
    optional={
        "model": st.sampled_from("mn") | LABELS,
        "outcome": st.none() | st.sampled_from([*OUTCOMES, "fine"]),
        "status_code": st.none() | st.sampled_from([200, 302, 404, 429, 503, 0, 101, 700, "503"]),
        "error": st.sampled_from([None, "", "reset", {}, {"code": 1}]),
        "use_case": LABELS,
        "served_from": st.sampled_from([None, "model", "response_cache"]),
        "estimated_tokens": st.none() | st.booleans(),
        "total_tokens": COUNTS,
        "region": LABELS,
        "channel": LABELS,
        "service_tier": LABELS,
        "requested_service_tier": LABELS,
        "customer_id": LABELS,
        "stream": st.none() | st.booleans(),
        "probe": st.none() | st.booleans(),
        "ttft_ms": LATENCIES,
        "duration_ms": LATENCIES,
        "input_tokens": COUNTS,
        "cached_input_tokens": COUNTS,
        "cache_write_tokens": COUNTS,
        "output_tokens": COUNTS,
        "reasoning_tokens": COUNTS,
        "trace_id": st.sampled_from(["t", "x" * 129]),
        "attempt_of": st.sampled_from(["r", "", 7, None, 1.5]),
        "final": st.none() | st.booleans(),
        "first_visible_token_ms": LATENCIES,
        "error_class": st.none() | st.sampled_from([*ERROR_CLASSES, "odd"]),
        "ending": st.none() | st.sampled_from([*ENDINGS, "stop"]),
    },
)
NAMES = [field.name for field in FIELDS]
FLAWED = st.builds(
    lambda event, changes: event | changes,
    GOOD_EVENTS,
    st.dictionaries(st.sampled_from(NAMES), WRONG | st.none(), max_size=3),
)
EVENTS = (GOOD_EVENTS | FLAWED).map(lambda event: json.dumps(event, ensure_ascii=False).encode())
PLAIN = st.builds(
    lambda ended_at, region: raw(ended_at=ended_at, region=region),
    st.integers(NOW - 100_000, NOW + 400_000),
    st.sampled_from("abc"),
)
ODD = st.sampled_from(
    [None, b"", b"{", b"[]", b"\xff", b"{}", raw(model="\n"), raw(ended_at=True), raw(ttft_ms=-1)]
)
LOGS = st.lists(
    st.tuples(PLAIN | EVENTS | ODD, st.sampled_from([NOW, NOW + 9, NOW - 200_000, -1])), max_size=30
)


def recount(
    log: list[tuple[bytes | None, int]], rules: EventLimits
) -> tuple[list[dict[str, Any]], list[tuple[int, str, int | None]], int | None]:
    """The contract read record by record with the standard library: rows, rejections, watermark."""
    accepted, refused, watermark = [], [], None
    for position, (value, stamp) in enumerate(log):
        found = read_record(value, rules.max_event_bytes)
        if isinstance(found, dict):
            time = found["ended_at_ms"]
            if stamp < 0:
                found = "no_timestamp"
            elif time > stamp + rules.future_tolerance_ms:
                found = "from_the_future"
            elif watermark is not None and time < watermark - rules.horizon_ms:
                found = "too_late"
        if isinstance(found, dict):
            accepted.append({"position": position} | found)
            watermark = max(watermark or 0, found["ended_at_ms"])
        else:
            refused.append((position, found, watermark))
    return accepted, refused, watermark


def refused(decoded: Decoded, shift: int = 0) -> list[tuple[int, str, int | None]]:
    return [(one.position + shift, one.reason, one.watermark_ms) for one in decoded.rejections]


@given(LOGS)
def test_a_batch_reads_as_a_recount_record_by_record(log: list[tuple[bytes | None, int]]) -> None:
    decoded = judge([value for value, _ in log], [stamp for _, stamp in log])
    assert (rows(decoded), refused(decoded), decoded.watermark_ms) == recount(log, RULES)


@given(LOGS, st.lists(st.integers(0, 30), max_size=4))
def test_where_a_log_is_cut_into_batches_changes_nothing(
    log: list[tuple[bytes | None, int]], cuts: list[int]
) -> None:
    values, stamps = [value for value, _ in log], [stamp for _, stamp in log]
    whole = judge(values, stamps)
    accepted, rejections, watermark = [], [], None
    edges = sorted({0, *(min(cut, len(log)) for cut in cuts), len(log)})
    for start, end in zip(edges, [*edges[1:], len(log)], strict=True):
        part = judge(values[start:end], stamps[start:end], watermark)
        accepted += [row | {"position": row["position"] + start} for row in rows(part)]
        rejections += [
            (one.position + start, one.reason, one.detail, one.watermark_ms)
            for one in part.rejections
        ]
        watermark = part.watermark_ms
    assert accepted == rows(whole)
    assert rejections == [
        (o.position, o.reason, o.detail, o.watermark_ms) for o in whole.rejections
    ]
    assert watermark == whole.watermark_ms


def test_a_batch_longer_than_the_decoder_works_on_at_a_time_reads_the_same() -> None:
    pattern = [
        raw(region="a"),
        None,
        raw(region="b", ended_at="2023-11-14T22:13:20.5Z"),
        b"{",
        b"{}",
    ]
    log = [(value, NOW) for value in (pattern * 300)[:1_499]]
    decoded = judge([value for value, _ in log], [stamp for _, stamp in log])
    assert (rows(decoded), refused(decoded), decoded.watermark_ms) == recount(log, RULES)


# --- hostile bytes -------------------------------------------------------------------------------


@st.composite
def mutated(draw: Callable[..., Any]) -> bytes:
    """A good event with some of its bytes cut out, doubled, overwritten or moved."""
    value = bytearray(draw(EVENTS | PLAIN))
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(value))), draw(st.integers(0, 8))
        piece = draw(
            st.binary(max_size=4)
            | st.sampled_from([b'"', b"{", b"[" * 600, b"\\ud800", b"1e999", b"NaN", b"\x00", b"-"])
            | st.just(bytes(value[at : at + 20]))
        )
        value[at : at + size] = piece
    return bytes(value)


@given(st.lists(st.binary(max_size=80) | st.none() | mutated() | PLAIN, max_size=12))
def test_any_bytes_are_accepted_or_refused_exactly_once_and_harm_no_neighbour(
    values: list[bytes | None],
) -> None:
    decoded = judge(values)
    positions = decoded.columns.position.tolist() + [one.position for one in decoded.rejections]
    assert Counter(positions) == Counter(range(len(values)))
    assert {one.reason for one in decoded.rejections} <= set(REASONS)
    no_watermark = EventLimits(RULES.max_event_bytes, RULES.future_tolerance_ms, horizon_ms=2**60)
    together = rows(judge(values, rules=no_watermark))
    alone = [row for value in values for row in rows(judge([value], rules=no_watermark))]
    assert [row | {"position": 0} for row in together] == alone


# --- recorded traffic ----------------------------------------------------------------------------


@needs_traces
def test_recorded_requests_keep_their_token_sums() -> None:
    answers = reference("azure_llm_2023")
    with (TRACES / "azure_llm_2023" / answers["file"]).open(newline="") as trace:
        values = [
            raw(
                EVENT | {"cached_input_tokens": None, "reasoning_tokens": None},
                ended_at=line["TIMESTAMP"].replace(" ", "T") + "Z",
                input_tokens=int(line["ContextTokens"]),
                output_tokens=int(line["GeneratedTokens"]),
            )
            for line in csv.DictReader(trace)
        ]
    decoded = judge(values, [NOW + 200_000_000] * len(values), rules=EventLimits(1_000, 0, 0))
    assert not decoded.rejections
    assert len(decoded.columns.position) == answers["rows"]
    columns = decoded.columns
    assert columns.input_tokens.sum() == answers["total_input_tokens"]
    assert columns.output_tokens.sum() == answers["total_output_tokens"]
    windows = Counter((columns.ended_at_ms // 300_000 * 300).tolist())
    expected = answers["requests_per_5min_window_utc_epoch_start"]
    assert windows == {int(start_s): count for start_s, count in expected.items()}
