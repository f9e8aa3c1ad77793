"""Which records the decoder rejects, for which reason, and what the detail shows."""

import re
from typing import Any

import pytest

from streams.events.decoder import EventLimits, Rejection
from streams.events.epoch import BEFORE_2015
from streams.events.fields import TIME
from tests.support.event_samples import (
    BARE,
    NOW,
    accepted,
    judge,
    raw,
    verdict,
)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b" ", "not_json"),
        (b"{", "not_json"),
        (b"{}{}", "not_json"),
        (b"[1,", "not_json"),
        (b"[]", "bad_type"),
        (b"null", "bad_type"),
        (b"1.5", "bad_type"),
        (b"{}", "missing_field"),
        (b"\xef\xbb\xbf{", "not_json"),
        (BARE.encode("utf-16"), "not_json"),
        (BARE.encode().replace(b'"r"', b'"\xff"') + b"}", "not_json"),
        (BARE.encode().replace(b'"r"', b'"\\ud800"') + b"}", "not_json"),
        (BARE.encode() + b',"u":NaN', "not_json"),
        (raw(padding="x" * 4_000), "too_large"),
        (raw(request_id=None), "missing_field"),
        (raw(ended_at=None), "missing_field"),
        (raw(outcome=None), "missing_field"),
        (raw(outcome="Success"), "out_of_range"),
        (raw(outcome="Success", status_code="later"), "out_of_range"),
        (raw(outcome=200), "bad_type"),
        (raw(outcome=None, status_code=1000), "out_of_range"),
        (raw(outcome=None, status_code="later"), "bad_type"),
        (raw(outcome=None, status_code=700), "out_of_range"),
        (raw(request_id=True), "bad_type"),
        (raw(request_id=1.5), "bad_type"),
        (raw(request_id=["r"]), "bad_type"),
        (raw(ended_at=True), "bad_type"),
        (raw(ended_at=NOW + 0.5), "bad_type"),
        (raw(request_id=""), "out_of_range"),
        (raw(ended_at=-1), "out_of_range"),
        (raw(ended_at=253_402_300_800_000), "out_of_range"),
        (raw(ended_at=2**63), "out_of_range"),
        (raw(ended_at=10**30), "out_of_range"),
        (raw(ended_at=int("9" * 3_000)), "out_of_range"),
        (raw(ended_at=1_420_070_399_999), "out_of_range"),
    ],
)
def test_a_record_that_cannot_be_identified_or_placed_is_rejected(
    value: bytes | None, reason: str
) -> None:
    assert verdict(value) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "é" * 500},
        {"trace_id": "x" * 128},
        {"model": "m" * 96},
        {"model": "Az09._:/@ -"},
        {"duration_ms": 604_800_000},
        {"ended_at": 1_420_070_400_000},
        {"input_tokens": 10**12, "output_tokens": 10**12},
        {"error": "grüße \ud83d\ude00"},
        {"unheard_of": {"deep": [1, 2.5e300, None]}},
    ],
)
def test_the_edge_of_a_range_belongs_to_it(changes: dict[str, Any]) -> None:
    assert accepted(raw(**changes))["faults"] == []


def test_of_a_key_given_twice_the_last_counts_also_where_the_first_is_wrong() -> None:
    for first in ('"region":"a"', '"region":true', '"region":1e999', '"region":null'):
        assert accepted(f'{BARE},{first},"region":"b"}}'.encode())["series"][1] == "b"
        wrong = accepted(f'{BARE},{first},"region":[7]}}'.encode())
        assert (wrong["series"][1], wrong["faults"]) == ("unknown", [("region", "bad_type")])
        assert accepted(f'{BARE},{first},"region":null}}'.encode())["series"][1] == "unknown"


@pytest.mark.parametrize("bracket", ["[]", "{}"])
def test_nesting_is_limited_and_brackets_in_text_are_no_nesting(bracket: str) -> None:
    def nested(levels: int) -> bytes:
        opening = bracket[0] if bracket == "[]" else '{"a":'
        return f'{BARE},"u":{opening * levels}1{bracket[1] * levels}}}'.encode()

    assert isinstance(verdict(nested(255)), dict)  # with the event itself: 256
    assert isinstance(verdict(nested(255)[:-1] + b',"v":[[],[]]}'), dict)  # wide is not deep
    assert verdict(nested(256)) == "too_deep"
    big = EventLimits(max_event_bytes=10**7, future_tolerance_ms=0, horizon_ms=0)
    assert verdict(nested(200_000), rules=big) == "too_deep"
    assert verdict(b"[" * 512, rules=big) == "not_json"  # too short to be well-formed and deep
    assert isinstance(verdict(f'{BARE},"u":"{"[" * 999}","v":"\\"{"{" * 999}"}}'.encode()), dict)


def test_size_is_judged_by_the_byte() -> None:
    value = raw(padding="x" * 600)
    fits = EventLimits(max_event_bytes=len(value), future_tolerance_ms=0, horizon_ms=0)
    assert isinstance(verdict(value, rules=fits), dict)
    assert verdict(value + b" ", rules=fits) == "too_large"


def test_a_detail_names_the_field_and_never_shows_what_was_in_it() -> None:
    secret = "Zebra-4711"
    each_change: tuple[dict[str, Any], ...] = (
        {"request_id": [secret]},
        {"ended_at": secret},
        {"ended_at": [secret]},
        {"ended_at": 4711 * 10**12},
        {"outcome": secret},
        {"outcome": [secret]},
        {"status_code": 4711, "outcome": None},
        {"status_code": secret, "outcome": None},
    )
    for changes in each_change:
        (rejection,) = judge([raw(**changes)]).rejections
        name = next(iter(changes))
        assert rejection.detail.startswith(f"{name}: "), rejection
        assert not re.search("zebra|4711", rejection.detail.lower()), rejection
        assert len(rejection.detail) <= 160, rejection


def test_an_outcome_that_cannot_be_used_is_named_with_what_it_needs() -> None:
    (rejection,) = judge([raw(outcome="Success")]).rejections
    assert rejection.detail == (
        "outcome: needs one of success, server_error, timeout, overloaded, stream_error, "
        "rate_limited, client_error, cancelled, found a text of 7 characters"
    )
    (rejection,) = judge([raw(outcome="Success", ended_at=-1)]).rejections
    assert rejection.detail.startswith("ended_at: ")
    (rejection,) = judge([raw(outcome=None, stream="yes")]).rejections
    assert rejection.detail == "outcome: give it, or status_code"


@pytest.mark.parametrize(
    ("ended_at", "fix"),
    [
        (NOW // 1_000, "looks like seconds; send milliseconds"),
        (NOW * 1_000, "looks like microseconds; send milliseconds"),
        (NOW * 1_000_000, "looks like nanoseconds; send milliseconds"),
        (0, BEFORE_2015),
        (-NOW, BEFORE_2015),
        (1_420_070_399_999, BEFORE_2015),
        ("1970-01-20T16:13:20Z", BEFORE_2015),
        (10**30, f"needs {TIME.range}, found integer"),
        ("2023-02-30T00:00:00Z", f"needs {TIME.range}"),
    ],
)
def test_a_time_of_another_unit_or_of_1970_is_rejected_with_the_fix(
    ended_at: int | str, fix: str
) -> None:
    good, wrong = raw(), raw(ended_at=ended_at)
    decoded = judge([good, wrong, good])
    assert decoded.columns.position.tolist() == [0, 2]
    assert decoded.rejections == [Rejection(1, "out_of_range", f"ended_at: {fix}", NOW)]


@pytest.mark.parametrize(
    ("ended_at", "detail"),
    [
        ("1700000000.25", "expected integer or string, found number: looks like seconds; "),
        ("1.7e9", "expected integer or string, found number: looks like seconds; "),
        ("1700000000000.5", "expected integer or string, found number: looks like milliseconds; "),
        ("1.7e15", "expected integer or string, found number: looks like microseconds; "),
        ("1.7e18", "expected integer or string, found number: looks like nanoseconds; "),
        ("12.5", "expected integer or string, found number"),
        ("1e999", "expected integer or string, found number"),
        ('"1700000000"', "a number in quotes: looks like seconds; "),
        ('"1700000000.25"', "a number in quotes: looks like seconds; "),
        ('"1700000000000"', "a number in quotes: looks like milliseconds; "),
        ('"1700000000000000"', "a number in quotes: looks like microseconds; "),
        ('"1700000000000000000"', "a number in quotes: looks like nanoseconds; "),
        ('"1700"', f"needs {TIME.range}"),
        ('"17000000000000000000000000"', f"needs {TIME.range}"),
        ('"1700000000\u0660"', f"needs {TIME.range}"),
    ],
)
def test_a_fraction_and_a_number_in_quotes_name_the_unit_they_are_in(
    ended_at: str, detail: str
) -> None:
    wrong = raw().replace(str(NOW).encode(), ended_at.encode())
    decoded = judge([raw(), wrong])
    send = "send an integer" if "milliseconds;" in detail else "send milliseconds"
    detail += send if detail.endswith("; ") else ""
    assert decoded.rejections == [Rejection(1, "bad_type", f"ended_at: {detail}", NOW)]


def test_a_number_too_long_for_an_integer_is_out_of_range() -> None:
    big = EventLimits(max_event_bytes=10**6, future_tolerance_ms=0, horizon_ms=0)
    long = raw().replace(str(NOW).encode(), b"9" * 10_000)
    assert verdict(long, rules=big) == "out_of_range"


def test_a_broker_without_a_clock_rejects_nothing_and_vouches_for_no_time() -> None:
    """Its timestamps say as little of the time of an event as those of a sender."""
    year_2100_ms = 4_102_444_800_000
    log = [raw(ended_at=NOW + at) for at in range(20)]
    log.insert(10, raw(ended_at=year_2100_ms))
    decoded = judge(log, timestamps_ms=[1_000] * len(log), watermark_ms=NOW)
    assert decoded.rejections == []
    assert decoded.watermark_ms is not None
    assert decoded.watermark_ms < year_2100_ms
