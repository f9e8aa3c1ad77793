"""Which records the decoder rejects, for which reason, and what the detail shows."""

import re
from typing import Any

import pytest

from streams.events.decoder import EventLimits
from tests.support.event_samples import (
    NOW,
    accepted,
    judge,
    raw,
    verdict,
    without,
)

BARE = '{"request_id":"r","ended_at":1,"model":"m","outcome":"timeout"'


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
        (b"\xef\xbb\xbf{}", "not_json"),
        (BARE.encode("utf-16"), "not_json"),
        (BARE.encode() + b',"u":NaN}', "not_json"),
        (BARE.encode() + b',"ttft_ms":Infinity}', "not_json"),
        (BARE.encode() + b',"u":"\xff"}', "not_json"),  # also where nobody looks
        (BARE.encode() + b',"\xff":1}', "not_json"),
        (BARE.encode() + b',"error":"\xed\xa0\x80"}', "not_json"),
        (BARE.encode() + b',"error":"\\ud800"}', "not_json"),
        (BARE.encode() + b',"u":"\\udc00x"}', "not_json"),
        (BARE.encode() + b',"ttft_ms":1e999}', "out_of_range"),
        (BARE.encode() + b',"ttft_ms":' + b"9" * 400 + b"}", "out_of_range"),
        (BARE.encode() + b',"input_tokens":1e999}', "bad_type"),
        (BARE.encode() + b',"input_tokens":' + b"9" * 3000 + b"}", "out_of_range"),
        (BARE.encode() + b',"input_tokens":-9223372036854775809}', "out_of_range"),
        (raw(padding="x" * 4_000), "too_large"),
        (raw(request_id=None), "missing_field"),
        (raw(without("model")), "missing_field"),
        (raw(outcome=None), "missing_field"),
        (raw(input_tokens=None), "missing_field"),
        (raw(outcome=None, status_code=200, input_tokens=None), "missing_field"),
        (raw(request_id=1), "bad_type"),
        (raw(ended_at=True), "bad_type"),
        (raw(ended_at=NOW + 0.5), "bad_type"),
        (raw(input_tokens=True), "bad_type"),
        (raw(input_tokens=1.0), "bad_type"),
        (raw(input_tokens="1"), "bad_type"),
        (raw(ttft_ms=True), "bad_type"),
        (raw(ttft_ms="1"), "bad_type"),
        (raw(stream=1), "bad_type"),
        (raw(stream="true"), "bad_type"),
        (raw(model={"name": "opus"}), "bad_type"),
        (raw(region=["us"]), "bad_type"),
        (raw(request_id=""), "out_of_range"),
        (raw(request_id="é" * 129), "out_of_range"),
        (raw(trace_id="x" * 129), "out_of_range"),
        (raw(ended_at=-1), "out_of_range"),
        (raw(ended_at=253_402_300_800_000), "out_of_range"),
        (raw(ended_at=2**63), "out_of_range"),
        (raw(ended_at=10**30), "out_of_range"),
        (raw(outcome="fine"), "out_of_range"),
        (raw(ttft_ms=-0.001), "out_of_range"),
        (raw(duration_ms=86_400_000.1), "out_of_range"),
        (raw(input_tokens=-1), "out_of_range"),
        (raw(output_tokens=10**12 + 1), "out_of_range"),
        (raw(model=""), "bad_label"),
        (raw(model="m" * 97), "bad_label"),
        (raw(region="eu\n"), "bad_label"),
        (raw(channel='x"y'), "bad_label"),
        (raw(service_tier="é"), "bad_label"),
        (raw(customer_id="a,b"), "bad_label"),
        (raw(use_case="\x00"), "bad_label"),
        (raw(cached_input_tokens=1_001), "inconsistent"),
        (raw(reasoning_tokens=102), "inconsistent"),
        (raw(ttft_ms=3_000), "inconsistent"),
        (raw(outcome="timeout", input_tokens=None), "inconsistent"),
    ],
)
def test_a_broken_rule_has_a_reason(value: bytes | None, reason: str) -> None:
    assert verdict(value) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "é" * 128},
        {"trace_id": "x" * 128},
        {"model": "m" * 96},
        {"model": "Az09._:/@ -"},
        {"duration_ms": 86_400_000},
        {"input_tokens": 10**12, "output_tokens": 10**12},
        {"error": "grüße \ud83d\ude00"},
        {"unheard_of": {"deep": [1, 2.5e300, None]}},
    ],
)
def test_the_edge_of_a_range_belongs_to_it(changes: dict[str, Any]) -> None:
    assert isinstance(verdict(raw(**changes)), dict)


def test_of_a_key_given_twice_the_last_counts_also_where_the_first_is_wrong() -> None:
    for first in ('"region":"a"', '"region":true', '"region":1e999', '"region":null'):
        assert accepted(f'{BARE},{first},"region":"b"}}'.encode())["series"][1] == "b"
        assert verdict(f'{BARE},{first},"region":7}}'.encode()) == "bad_type"
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
        *({name: f"{secret}\n"} for name in ("model", "region", "customer_id", "use_case")),
        *({name: [secret]} for name in ("request_id", "customer_id", "ttft_ms", "stream")),
        {"outcome": secret},
        {"ended_at": secret},
        {"request_id": secret * 20},
        {"customer_id": secret * 20},
        {"input_tokens": 4711 * 10**12},
        {"ttft_ms": secret},
        {"status_code": 4711},
    )
    for changes in each_change:
        (rejection,) = judge([raw(**changes)]).rejections
        (name,) = changes
        assert rejection.detail.startswith(f"{name}: "), rejection
        assert not re.search("zebra|4711", rejection.detail.lower()), rejection
        assert len(rejection.detail) <= 160, rejection
