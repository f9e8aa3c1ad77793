"""What an event reads as, and what is refused."""

from typing import Any

import numpy as np
import pytest

from streams.events.decoder import ELIGIBLE, OUTCOMES, EventLimits, Rejection, decode, outcome_of
from tests.support.event_samples import (
    BARE,
    NOW,
    NUMBERS,
    RULES,
    accepted,
    judge,
    raw,
    rows,
    verdict,
    without,
)

# --- what an event reads as ----------------------------------------------------------------------


def test_an_event_reads_as_the_definitions_say() -> None:
    assert rows(judge([raw()])) == [
        {
            "position": 0,
            "ended_at_ms": NOW,
            "outcome": "success",
            "probe": False,
            "series": ("opus", "us-east-1", "direct", "standard", "standard", ""),
            "customer": ("customer-7", "opus"),
            "ttft_ns": 250_500_000,
            "duration_ns": 2_250_500_000,
            "tpot_ns": 20_000_000,  # 2,000 ms over 100 further tokens
            "input_tokens": 1_000,
            "cached_input_tokens": 400,
            "cache_write_tokens": 0,
            "output_tokens": 101,
            "reasoning_tokens": 60,
            "has_tokens": True,
            "has_cached": True,
            "estimated": False,
            "from_cache": False,
            "streamed": True,
            "stream": None,
            "final": True,
            "error_class": None,
            "ending": None,
            "tier_changed": False,
            "first_visible_ns": -1,
            "faults": [],
        }
    ]


def test_absent_and_null_labels_are_one_series_and_one_customer() -> None:
    bare = without("region", "channel", "service_tier", "customer_id")
    nulls: dict[str, Any] = dict.fromkeys(("region", "channel", "service_tier", "customer_id"))
    decoded = judge([raw(bare), raw(**nulls), raw(bare, region="unknown")])
    assert decoded.columns.series == [("opus", "unknown", "unknown", "unknown", "unknown", "")]
    assert decoded.columns.customers == [("unknown", "opus")]
    assert decoded.columns.series_index.tolist() == [0, 0, 0]


def test_a_series_is_listed_once_whatever_else_its_events_say() -> None:
    decoded = judge([raw(), raw(stream=False), raw(use_case="chat"), raw(customer_id="b")])
    assert decoded.columns.series == [("opus", "us-east-1", "direct", "standard", "standard", "")]
    assert decoded.columns.customers == [("customer-7", "opus"), ("b", "opus")]


def test_names_of_refused_events_do_not_enter_the_series() -> None:
    decoded = judge([raw(region="x"), raw(region="y", outcome=None), raw(region="z")])
    assert [region for _, region, *_ in decoded.columns.series] == ["x", "z"]
    assert [row["series"][1] for row in rows(decoded)] == ["x", "z"]


@pytest.mark.parametrize(
    ("changes", "ttft", "tpot", "duration"),
    [
        ({}, True, True, True),
        ({"stream": None}, True, True, True),
        ({"stream": True}, True, True, True),
        ({"stream": False}, False, False, True),
        ({"outcome": "stream_error"}, False, False, False),
        ({"ttft_ms": None}, False, False, True),
        ({"duration_ms": None, "stream": True}, True, False, False),
        ({"output_tokens": 1, "reasoning_tokens": 0}, True, False, True),
        ({"output_tokens": None, "reasoning_tokens": None}, True, False, True),
        ({"probe": True}, False, False, False),
    ],
)
def test_latencies_count_only_where_they_are_defined(
    changes: dict[str, Any], ttft: bool, tpot: bool, duration: bool
) -> None:
    row = accepted(raw(**changes))
    assert [row[name] >= 0 for name in ("ttft_ns", "tpot_ns", "duration_ns")] == [
        *(ttft, tpot, duration)
    ]


def test_latencies_are_rounded_to_the_nearest_nanosecond() -> None:
    row = accepted(
        raw(ttft_ms=0.0000016, duration_ms=0.0000094, output_tokens=5, reasoning_tokens=0)
    )
    assert (row["ttft_ns"], row["duration_ns"], row["tpot_ns"]) == (2, 9, 2)  # 7 ns over 4 is 1.75


def test_a_measured_zero_stays_zero() -> None:
    row = accepted(raw(stream=True, ttft_ms=0, duration_ms=-0.0))
    assert (row["ttft_ns"], row["tpot_ns"], row["duration_ns"]) == (0, -1, 0)


def test_a_probe_has_no_tokens_and_needs_none() -> None:
    row = accepted(raw(probe=True))
    assert row["probe"]
    assert all(row[name] == 0 for name in NUMBERS if name.endswith("tokens"))
    assert accepted(raw(without("input_tokens", "cached_input_tokens"), probe=True))["probe"]


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14t22:13:20z", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("2023-11-14T22:13:20-00:00", NOW),
        ("2023-11-14T22:13:20.0009999999999Z", NOW),  # rounded down, however many digits
        ("2023-11-14T22:13:20.12Z", NOW + 120),
        ("2023-11-14T22:12:60Z", NOW - 20_000),  # a leap second is the second after :59
        ("2015-01-01T00:00:00Z", 1_420_070_400_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_times_are_read_as_rfc_3339_writes_them(text: str, time_ms: int) -> None:
    stamp = [time_ms]
    assert accepted(raw(ended_at=text), timestamps_ms=stamp)["ended_at_ms"] == time_ms


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2023-11-14T22:13:20", "bad_type"),
        ("2023-11-14 22:13:20Z", "bad_type"),
        ("2023-11-14T22:13:20Z\n", "bad_type"),
        ("1700000000000", "bad_type"),
        ("", "bad_type"),
        ("2023-02-30T00:00:00Z", "out_of_range"),
        ("0000-01-01T00:00:00Z", "out_of_range"),
        ("0001-01-01T00:00:00+23:59", "out_of_range"),
        ("2014-12-31T23:59:59.999Z", "out_of_range"),
        ("2015-01-01T00:00:00+00:01", "out_of_range"),
        ("1970-01-01T00:00:00+00:01", "out_of_range"),
        ("9999-12-31T23:59:59.999-23:59", "out_of_range"),
        ("9999-12-31T23:59:60Z", "out_of_range"),
    ],
)
def test_what_is_no_time_is_refused(text: str, reason: str) -> None:
    assert verdict(raw(ended_at=text)) == reason


@pytest.mark.parametrize(
    ("status_code", "error", "outcome"),
    [
        (200, None, "success"),
        (204, "", "success"),
        (200, "connection reset", "stream_error"),
        (408, None, "timeout"),
        (504, "x", "timeout"),
        (429, None, "rate_limited"),
        (499, None, "cancelled"),
        (503, None, "overloaded"),
        (529, None, "overloaded"),
        (500, None, "server_error"),
        (599, None, "server_error"),
        (400, None, "client_error"),
        (498, None, "client_error"),
        (101, None, "success"),
        (0, None, "cancelled"),
        (199, None, None),
        (302, None, "client_error"),
        (600, None, None),
    ],
)
def test_an_absent_outcome_follows_from_the_status(
    status_code: int, error: str | None, outcome: str | None
) -> None:
    event = without("outcome") | {"status_code": status_code, "error": error}
    found = verdict(raw(event))
    assert outcome_of(status_code, error) == outcome
    assert (found if isinstance(found, str) else found["outcome"]) == (outcome or "out_of_range")


def test_an_explicit_outcome_wins_over_the_status() -> None:
    assert accepted(raw(outcome="timeout", status_code=200))["outcome"] == "timeout"
    assert accepted(raw(status_code=302))["outcome"] == "success"


def test_only_known_outcomes_are_eligible() -> None:
    assert set(OUTCOMES) > ELIGIBLE
    assert {"client_error", "rate_limited", "cancelled"} == set(OUTCOMES) - ELIGIBLE


# --- time ----------------------------------------------------------------------------------------


def test_late_and_future_are_judged_by_the_watermark_and_the_records_own_timestamp() -> None:
    #  horizon 60 s, tolerance 300 s, timestamps all NOW; times are seconds after it
    #  ended at    100 s   40 s   39.999 s   300 s   300.001 s   240 s   239 s
    #  watermark     -      100     100       100      300        300     300
    #  verdict      ok       ok     late       ok     future       ok     late
    times = [100_000, 40_000, 39_999, 300_000, 300_001, 240_000, 239_000]
    decoded = judge([raw(ended_at=NOW + time) for time in times])
    assert decoded.columns.position.tolist() == [0, 1, 3, 5]
    assert decoded.rejections == [
        Rejection(
            2,
            "too_late",
            "ended_at: 60001 ms behind the watermark; the limit is 60000",
            NOW + 100_000,
        ),
        Rejection(
            4,
            "from_the_future",
            "ended_at: 300001 ms after the record's timestamp; the limit is 300000",
            NOW + 300_000,
        ),
        Rejection(
            6,
            "too_late",
            "ended_at: 61000 ms behind the watermark; the limit is 60000",
            NOW + 300_000,
        ),
    ]
    assert decoded.watermark_ms == NOW + 300_000


def test_a_refused_event_never_moves_the_watermark() -> None:
    ahead = NOW + 300_001
    for value in (raw(ended_at=ahead), raw(ended_at=NOW + 1, outcome=None), b"", b"{"):
        assert judge([value]).watermark_ms is None
        assert judge([value], watermark_ms=5).watermark_ms == 5
        assert judge([value], watermark_ms=5).rejections[0].watermark_ms == 5


def test_a_record_without_a_timestamp_is_refused() -> None:
    assert verdict(raw(), timestamps_ms=[-1]) == "no_timestamp"
    assert accepted(raw(), timestamps_ms=[2**63 - 1])["ended_at_ms"] == NOW


def test_an_empty_batch_changes_nothing() -> None:
    decoded = judge([], watermark_ms=7)
    assert (rows(decoded), decoded.rejections, decoded.watermark_ms) == ([], [], 7)


def test_rules_and_timestamps_that_make_no_sense_are_named() -> None:
    with pytest.raises(ValueError, match="horizon_ms: got -1"):
        EventLimits(max_event_bytes=1, future_tolerance_ms=0, horizon_ms=-1)
    with pytest.raises(ValueError, match="timestamps_ms: got 0 for 1 records"):
        decode([b"{}"], np.zeros(0, np.int64), None, RULES)


# --- what tells a duplicate ----------------------------------------------------------------------


def test_equal_request_ids_have_equal_hashes_and_no_others() -> None:
    ids = ["a", "b", "é", "e\u0301", "a ", "A", "a" * 128]
    request = judge([raw(request_id=name, region=None) for name in ids + ids]).columns.request
    assert (request.dtype, request.shape) == (np.dtype(np.uint64), (14, 2))
    assert request[:7].tolist() == request[7:].tolist()
    assert len(np.unique(request, axis=0)) == 7
    assert len(np.unique(request[:7, 0])) == len(np.unique(request[:7, 1])) == 7
    escaped = judge(
        [BARE.replace('"r"', '"\\u00e9"').replace("timeout", "success").encode() + b"}"]
    )
    assert escaped.columns.request.tolist() == request[2:3].tolist()


def test_each_event_bears_the_watermark_that_it_found() -> None:
    times = [NOW, NOW - 7, NOW - 60_001, NOW + 300_001, NOW + 5, NOW]
    values = [b"{", *(raw(ended_at=time) for time in times)]
    columns = judge(values).columns
    assert columns.position.tolist() == [1, 2, 5, 6]
    assert columns.watermark_ms.tolist() == [-1, NOW, NOW, NOW + 5]
    assert judge(values[5:], watermark_ms=NOW).columns.watermark_ms.tolist() == [NOW, NOW + 5]
    assert judge([b"{"]).columns.watermark_ms.tolist() == []
    assert judge([b"{"]).columns.request.shape == (0, 2)
