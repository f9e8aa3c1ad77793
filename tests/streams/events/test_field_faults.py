"""What a wrong field of a record costs, and under which names requests are counted."""

from dataclasses import replace
from typing import Any

import pytest

from streams.events.faults import FAULTS, fault_bit
from streams.events.fields import FIELDS
from tests.support.event_samples import (
    BARE,
    EVENT,
    NUMBERS,
    RULES,
    accepted,
    judge,
    raw,
    rows,
    without,
)

# A record whose outcome depends on its status and its error, ready for one more field.
ANSWERED = raw(outcome=None, status_code=200)[:-1] + b","
# JSON that is valid, or nearly, and that no field of the contract takes.
STRANGE = (
    *(b"1e999", b"-1e999", b"[1e999]", b'{"a":{"b":1e999}}', b"9" * 4_400, b"-" + b"9" * 4_400),
    *(b'{"a":' + b"9" * 4_400 + b"}", b"1.5e-999", b"[" * 200 + b"]" * 200, b'"\\ud800"', b"[{}]"),
    *(b"NaN", b"01", b"tru", b'"a', b'"\\u0000"', b"{}", b"[]", b'""', b"false", b"-0.0"),
)
NO_INPUT = {"input_tokens": 0, "has_tokens": False, "has_cached": False}
NO_CACHED = {"cached_input_tokens": 0, "has_cached": False}
NO_DURATION = {"duration_ns": -1, "tpot_ns": -1, "ttft_ns": 250_500_000}
OVERLOADED, BROKEN = {"outcome": "overloaded"}, {"outcome": "stream_error"}
TIER_0 = ("opus", "us-east-1", "direct", "standard", "0", "")
INPUT_RANGE = "input_tokens", "out_of_range", {"input_tokens": 0}
WRITE = "cache_write_tokens", "inconsistent"


@pytest.mark.parametrize("name", [field.name for field in FIELDS])
def test_no_value_of_a_field_stops_the_log(name: str) -> None:
    good = raw(request_id="good")
    for strange in STRANGE:
        value = ANSWERED + b'"' + name.encode() + b'":' + strange + b"}"
        decoded = judge([value, good], rules=replace(RULES, max_event_bytes=10_000))
        assert len(rows(decoded)) + len(decoded.rejections) == 2, strange


@pytest.mark.parametrize(
    ("value", "field", "reason", "unknown"),
    [
        (BARE.encode() + b',"ttft_ms":1e999}', "ttft_ms", "out_of_range", {"ttft_ns": -1}),
        (BARE.encode() + b',"ttft_ms":' + b"9" * 400 + b"}", "ttft_ms", "out_of_range", {}),
        (BARE.encode() + b',"input_tokens":1e999}', "input_tokens", "bad_type", {}),
        (BARE.encode() + b',"input_tokens":' + b"9" * 3000 + b"}", *INPUT_RANGE),
        (BARE.encode() + b',"input_tokens":-9223372036854775809}', *INPUT_RANGE),
        (raw(cached_input_tokens=0, input_tokens=True), "input_tokens", "bad_type", NO_INPUT),
        (raw(cached_input_tokens=0, input_tokens=1.5), "input_tokens", "bad_type", NO_INPUT),
        (raw(cached_input_tokens=0, input_tokens="1"), "input_tokens", "bad_type", NO_INPUT),
        (raw(cached_input_tokens=0, input_tokens=-2), *INPUT_RANGE[:2], NO_INPUT),
        (raw(reasoning_tokens=0, output_tokens=10**12 + 1), "output_tokens", "out_of_range", {}),
        (raw(ttft_ms=True), "ttft_ms", "bad_type", {"ttft_ns": -1, "tpot_ns": -1}),
        (raw(ttft_ms="1"), "ttft_ms", "bad_type", {"ttft_ns": -1}),
        (raw(ttft_ms=-0.001), "ttft_ms", "out_of_range", {"ttft_ns": -1}),
        (raw(stream=True, duration_ms=604_800_000.1), "duration_ms", "out_of_range", NO_DURATION),
        (raw(stream=1), "stream", "bad_type", {}),
        (raw(stream="true"), "stream", "bad_type", {}),
        (raw(probe="yes"), "probe", "bad_type", {"probe": False}),
        (raw(outcome="fine", status_code=503), "outcome", "out_of_range", OVERLOADED),
        (raw(outcome=7, status_code=503), "outcome", "bad_type", OVERLOADED),
        (raw(status_code="later"), "status_code", "bad_type", {"outcome": "success"}),
        (raw(outcome=None, status_code="503"), "status_code", "bad_type", OVERLOADED),
        (raw(status_code=1000), "status_code", "out_of_range", {"outcome": "success"}),
        (raw(error={}, outcome=None, status_code=200), "error", "bad_type", {"outcome": "success"}),
        (raw(error={"a": 1}, outcome=None, status_code=200), "error", "bad_type", BROKEN),
        (ANSWERED + b'"error":1e999}', "error", "bad_type", BROKEN),
        (ANSWERED + b'"error":{"code":[1e999]}}', "error", "bad_type", BROKEN),
        (raw(trace_id="x" * 129), "trace_id", "out_of_range", {}),
        (raw(served_from="disk"), "served_from", "out_of_range", {"from_cache": False}),
        (raw(model={"name": "opus"}), "model", "bad_type", {}),
        (raw(requested_service_tier=0), "requested_service_tier", "renamed", {"series": TIER_0}),
        (raw(region=["us"]), "region", "bad_type", {}),
        (raw(customer_id=True), "customer_id", "bad_type", {"customer": ("unknown", "opus")}),
        (raw(customer_id="é" * 257), "customer_id", "out_of_range", {}),
        (raw(use_case="\x00"), "use_case", "renamed", {}),
        (raw(cached_input_tokens=1_001), "cached_input_tokens", "inconsistent", NO_CACHED),
        (raw(cache_write_tokens=1_001), *WRITE, {"cache_write_tokens": 0}),
        (raw(reasoning_tokens=102), "reasoning_tokens", "inconsistent", {"reasoning_tokens": 0}),
        (raw(total_tokens=1_501), "total_tokens", "inconsistent", {"input_tokens": 1_000}),
        (raw(ttft_ms=3_000), "ttft_ms", "inconsistent", {"ttft_ns": -1, "tpot_ns": -1}),
    ],
)
def test_a_wrong_field_costs_the_field_and_not_the_request(
    value: bytes, field: str, reason: str, unknown: dict[str, Any]
) -> None:
    row = accepted(value)
    assert row["faults"] == [(field, reason)]
    assert row | unknown == row


@pytest.mark.parametrize(
    ("given", "label"),
    [
        (None, "unknown"),
        ("", "unknown"),
        ("Az09._:/@ -", "Az09._:/@ -"),
        ("m" * 96, "m" * 96),
        ("command-r+", "command-r_"),
        ("eu\n", "eu_"),
        ('x"y', "x_y"),
        ("é,b", "__b"),
        (4, "4"),
        (4.50, "4.5"),
        ("m" * 97, "m" * 87 + "-964c534a"),
        ("__other__", "__other__-c9e63338"),
    ],
)
def test_a_name_that_is_no_label_is_counted_under_one_that_is(given: Any, label: str) -> None:
    for field, at in (("model", 0), ("region", 1), ("channel", 2), ("service_tier", 3)):
        row = accepted(raw(**{field: given}))
        assert row["series"][at] == label
        same = given in (None, "", label)
        assert row["faults"] == ([] if same else [(field, "renamed")])


@pytest.mark.parametrize(
    ("given", "label"),
    [
        (
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x",
            "us.anthropic.claude-x",
        ),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-v1:0",
            "anthropic.claude-3-v1:0",
        ),
        ("arn:aws-cn:lambda:cn-north-1:1:function:chat:2", "chat:2"),
        ("arn:aws:s3:::bucket", "bucket"),
        ("arn:aws:bedrock", "arn:aws:bedrock"),
        ("projects/p/locations/l/publishers/google/models/gemini-2", "gemini-2"),
        ("https://x.openai.azure.com/openai/deployments/gpt-4o/", "gpt-4o"),
        ("p/" * 100 + "gemini+2", "gemini_2"),
        ("a/__other__", "__other__-c9e63338"),
        ("a/" + "m" * 97, "m" * 87 + "-964c534a"),
        ("//", "//"),
        ("anthropic.claude-3-v1:0", "anthropic.claude-3-v1:0"),
        (4, "4"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_path_counts_under_its_last_part_if_the_worker_is_set_so(given: Any, label: str) -> None:
    cut = replace(RULES, names_last_part=True)
    row = accepted(raw(model=given, region=given), rules=cut)
    assert (row["series"][:2], row["customer"][1]) == ((label, label), label)
    same = given in (None, "", label)
    assert row["faults"] == ([] if same else [("model", "renamed"), ("region", "renamed")])
    # Without the setting a path that is a label stays as it is.
    assert accepted(raw(model="a/b"))["series"][0] == "a/b"


@pytest.mark.parametrize(
    ("given", "customer"),
    [
        ("auth0|0123", "auth0|0123"),
        ("Müller GmbH & Co. KG", "Müller GmbH & Co. KG"),
        ("é" * 256, "é" * 256),
        (4711, "4711"),
        (1.50, "1.5"),
        (4711.0, "4711"),
        (-0.0, "0"),
        (2.0**53, str(2**53)),
        (2.0**54, "1.8014398509481984e+16"),
        (10**30, str(10**30)),
        ("", "unknown"),
    ],
)
def test_any_text_or_number_is_a_customer_id(given: Any, customer: str) -> None:
    row = accepted(raw(customer_id=given))
    assert (row["customer"][0], row["faults"]) == (customer, [])


def test_a_number_and_its_text_are_one_customer_and_one_request_id() -> None:
    decoded = judge(
        [
            raw(customer_id=7, request_id=7),
            raw(customer_id="7", request_id="7"),
            raw(customer_id=7.0),  # as Lua and JavaScript write the number 7
        ]
    )
    assert decoded.columns.customers == [("7", "opus")]
    first, second, _ = decoded.columns.request.tolist()
    assert first == second


def test_names_of_another_script_do_not_become_one() -> None:
    names = [
        "\u901a\u4e49\u5343\u95ee",
        "\u6587\u5fc3\u4e00\u8a00",
        "\u043c\u043e\u0434\u0435\u043b\u044c-1",
    ]
    found = [accepted(raw(model=name))["series"][0] for name in names]
    assert [name[:4] for name in found] == ["____"] * 3
    assert len(set(found)) == 3
    assert accepted(raw(model="Z\u00fcrich-1"))["series"][0] == "Z_rich-1"


def test_a_reserved_customer_id_is_renamed() -> None:
    row = accepted(raw(customer_id="__other__"))
    assert row["customer"][0] == "__other__-c9e63338"
    assert row["faults"] == [("customer_id", "renamed")]


@pytest.mark.parametrize("unknown", [-1, None, -1.0])
def test_minus_one_and_null_are_unknown_and_no_fault(unknown: float | None) -> None:
    names = [name for name in EVENT if name.endswith(("_tokens", "_ms"))]
    row = accepted(raw(**dict.fromkeys(names, unknown)))
    assert row["faults"] == []
    assert [row[name] for name in NUMBERS] == [-1, -1, -1, -1, 0, 0, 0, 0, 0]
    assert (row["has_tokens"], row["has_cached"]) == (False, False)


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"input_tokens": None}, []),
        ({"input_tokens": -1}, []),
        ({"input_tokens": "12"}, [("input_tokens", "bad_type")]),
        ({"input_tokens": 10**13}, [("input_tokens", "out_of_range")]),
    ],
)
def test_a_part_of_an_unknown_whole_is_unknown_and_no_fault(
    changes: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    row = accepted(raw(cache_write_tokens=7, **changes))
    assert row["faults"] == faults
    assert row | NO_INPUT | NO_CACHED | {"cache_write_tokens": 0} == row
    (value,) = changes.values()
    row = accepted(raw(output_tokens=value))
    assert row["faults"] == [("output_tokens", reason) for _, reason in faults]
    assert (row["output_tokens"], row["reasoning_tokens"]) == (0, 0)


@pytest.mark.parametrize("output_tokens", [2, 5, 500])
def test_a_ttft_that_is_the_duration_gives_no_tpot(output_tokens: int) -> None:
    row = accepted(
        raw(stream=True, ttft_ms=2_250.5, output_tokens=output_tokens, reasoning_tokens=0)
    )
    assert (row["ttft_ns"], row["duration_ns"], row["tpot_ns"]) == (2_250_500_000,) * 2 + (-1,)


def test_whole_numbers_may_be_written_as_floats() -> None:
    row = accepted(raw(input_tokens=1e3, output_tokens=101.0, outcome=None, status_code=200.0))
    assert (row["input_tokens"], row["output_tokens"], row["faults"]) == (1_000, 101, [])


@pytest.mark.parametrize(
    ("ttft_ms", "duration_ms", "taken_ms"),
    [
        (1_234.6, 1_234, 1_234),
        (812.004, 812.003, 812.003),
        (1_001, 1_000, 1_000),  # one millisecond
        (10_010, 10_000, 10_000),  # one in a thousand
        (1_002, 1_000, None),
        (10_011, 10_000, None),
    ],
)
def test_a_ttft_above_the_duration_by_rounding_is_the_duration(
    ttft_ms: float, duration_ms: float, taken_ms: float | None
) -> None:
    row = accepted(raw(stream=True, ttft_ms=ttft_ms, duration_ms=duration_ms, output_tokens=None))
    taken_ns = -1 if taken_ms is None else round(taken_ms * 1e6)
    assert (row["ttft_ns"], row["duration_ns"]) == (taken_ns, round(duration_ms * 1e6))
    assert (("ttft_ms", "inconsistent") in row["faults"]) == (taken_ms is None)


@pytest.mark.parametrize(
    ("changes", "counts", "suspicious"),
    [
        ({"stream": None, "ttft_ms": 2_250.5}, False, False),
        ({"stream": None, "duration_ms": None}, False, False),
        ({"stream": None, "duration_ms": -1}, False, False),
        ({"stream": True, "duration_ms": None}, True, False),
        ({"stream": None, "ttft_ms": 2_250.4}, True, False),
        ({"stream": True, "ttft_ms": 2_250.5}, True, True),
        ({"stream": True, "ttft_ms": 2_250.5, "output_tokens": 5}, True, False),
        ({"stream": True, "ttft_ms": 0}, True, True),
        ({"stream": True, "ttft_ms": 0.3}, True, True),  # seconds
        ({"stream": True, "ttft_ms": 2.2}, True, True),
        ({"stream": True, "ttft_ms": 2.3}, True, False),
        ({"stream": True, "ttft_ms": 10, "duration_ms": 20_000}, True, False),
        ({"stream": False, "ttft_ms": 2_250.5}, False, False),
    ],
)
def test_a_ttft_that_may_be_the_end_is_left_out_or_marked(
    changes: dict[str, Any], counts: bool, suspicious: bool
) -> None:
    row = accepted(raw(**({"reasoning_tokens": 0} | changes)))
    assert row["ttft_ns"] >= 0 if counts else row["ttft_ns"] == -1
    assert row["faults"] == ([("ttft_ms", "suspicious")] if suspicious else [])
    assert row["streamed"] == (counts or changes["stream"] is True)


def test_an_answer_from_a_response_cache_has_neither_tokens_nor_latencies() -> None:
    row = accepted(raw(served_from="response_cache"))
    assert (row["outcome"], row["from_cache"], row["streamed"]) == ("success", True, False)
    assert [row[name] for name in NUMBERS] == [-1, -1, -1, -1, 0, 0, 0, 0, 0]
    failed = accepted(raw(served_from="response_cache", outcome="timeout"))
    assert (failed["from_cache"], failed["input_tokens"]) == (False, 1_000)


def test_a_success_without_usage_counts_with_its_latencies() -> None:
    row = accepted(
        raw(without("input_tokens", "cached_input_tokens", "output_tokens"), stream=True)
    )
    assert row["outcome"] == "success"
    assert (row["ttft_ns"], row["duration_ns"], row["tpot_ns"]) == (250_500_000, 2_250_500_000, -1)
    assert not row["has_tokens"]


def test_faults_of_a_rejected_record_are_not_counted() -> None:
    decoded = judge([raw(ended_at=None, stream="true"), raw(stream="true")])
    assert [one.reason for one in decoded.rejections] == ["missing_field"]
    assert [row["faults"] for row in rows(decoded)] == [[("stream", "bad_type")]]


def test_each_fault_has_a_bit_of_its_own() -> None:
    assert len({int(fault_bit(*fault)) for fault in FAULTS}) == len(FAULTS) <= 64


@pytest.mark.parametrize(
    ("member", "faults", "counted"),
    [
        (b'"u":NaN', [], {}),
        (b"NaN:1", [], {}),
        (b"-Infinity:NaN", [], {}),
        (b'"u":{NaN:1}', [], {}),
        (b'"customer_id":{NaN:1}', [("customer_id", "bad_type")], {"customer": "unknown"}),
        (b'"u":[{"v":-Infinity}]', [], {}),
        (b'"duration_ms":NaN', [("duration_ms", "bad_type")], {"duration_ns": -1}),
        (b'"customer_id":NaN', [("customer_id", "bad_type")], {"customer": "unknown"}),
        (b'"customer_id":"\\u0000NaN"', [], {"customer": "\0NaN"}),
        (b'"u":"\xff"', [], {}),
        (b'"\xff":1', [], {}),
        (b'"\\ud800":1,"region":"eu"', [], {"region": "eu"}),
        (b'"region":"Z\xfcrich"', [("region", "renamed")], {"region": "Z_rich"}),
        (b'"region":"Z\\ud83drich"', [("region", "renamed")], {"region": "Z_rich"}),
        (b'"trace_id":"\xff"', [("trace_id", "bad_type")], {}),
        (b'"attempt_of":"Z\xfc"', [("attempt_of", "bad_type")], {}),
        (b'"ending":"\xff"', [("ending", "bad_type")], {"ending": None}),
        (b'"error":"\xed\xa0\x80"', [], {}),
        (b'"error":"cut \\ud83d"', [], {}),
        (b'"error":{"cut":"\xff"}', [("error", "bad_type")], {}),
        (b'"u":"\\udc00x NaN"', [], {}),
        (
            b'"u":"a pair \\ud83d\\ude00 and \\\\ud83d","probe":NaN',
            [("probe", "bad_type")],
            {"probe": False},
        ),
    ],
)
def test_what_json_does_not_allow_costs_its_field_only(
    member: bytes, faults: list[tuple[str, str]], counted: dict[str, object]
) -> None:
    """Python writes NaN, JavaScript cuts pairs of surrogates, and some servers send Latin-1."""
    decoded = judge([BARE.encode() + b"," + member + b"}"])
    [row] = rows(decoded)
    assert row["faults"] == faults
    assert row["outcome"] == "timeout"
    named = row | {"region": row["series"][1], "customer": row["customer"][0]}
    assert {name: named[name] for name in counted} == counted


@pytest.mark.parametrize("ids", [(b"Z\xfc", b"Z\xf6"), (b"Z\\ud800", b"Z\\udbff")])
def test_customers_whose_ids_are_no_text_do_not_become_one(ids: tuple[bytes, bytes]) -> None:
    """The id U+FFFD stands for itself, also beside what is no text."""
    one, other = (BARE.encode() + b',"customer_id":"' + of + b'"}' for of in ids)
    itself = BARE.encode() + ',"customer_id":"Z\ufffd"'.encode() + b',"error":"\xff"}'
    found = rows(judge([one, other, itself]))
    assert [row["customer"][0] for row in found] == ["unknown", "unknown", "Z\ufffd"]
    assert [row["faults"] for row in found] == [[("customer_id", "bad_type")]] * 2 + [[]]


def test_a_request_id_that_holds_the_replacement_character_is_one_of_text() -> None:
    value = BARE.replace('"r"', '"r\ufffd"').encode()
    assert len(rows(judge([value + b"}", value + b',"error":"\xff"}']))) == 2
