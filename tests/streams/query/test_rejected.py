"""What is shown of a value that a producer sent: its type and size, or an excerpt."""

import pytest

from streams.events.faults import FAULTS
from streams.kafka.dead_letters import RECORDS_PER_REQUEST
from streams.query.instants import rfc3339_ms
from streams.query.rejected import EXCERPT, RejectedRecord, describe, excerpt
from streams.query.rejected_help import INCONSISTENT, field_help, record_fix


@pytest.mark.parametrize(
    ("found", "description"),
    [
        (None, "no value"),
        (b"", "0 bytes that are not JSON in UTF-8"),
        (b'"\xc3\xa9t\xc3\xa9"', "a text of 3 characters"),
        (b"-1", "an integer of 2 characters"),
        (b"1.5e3", "a number of 5 characters"),
        (b"true", "a boolean"),
        (b"null", "null"),
        (b"[1, 2]", "a list of 6 bytes"),
        (b'{"a": 1}', "an object of 8 bytes"),
        (b"[" * 100_000, "100000 bytes that are not JSON in UTF-8"),
    ],
)
def test_a_description_has_type_and_size_and_no_content(
    found: bytes | None, description: str
) -> None:
    assert describe(found) == description


def test_an_excerpt_is_one_line_of_bounded_length() -> None:
    assert excerpt(b"a\n\xff b") == "a \\xff b"
    assert excerpt(b'\x1b[31m"\xe2\x80\xae\x07') == '\\x1b[31m"\\u202e\\x07'
    assert excerpt(b"x" * EXCERPT) == "x" * EXCERPT
    assert excerpt(b"x" * (EXCERPT + 1)) == "x" * (EXCERPT - 3) + "..."


def test_a_stamp_of_any_size_is_written() -> None:
    assert rfc3339_ms(2**63 - 1) == "9999-12-31T23:59:59.807Z"
    assert rfc3339_ms(253_402_300_799_999) == "9999-12-31T23:59:59.999Z"
    assert rfc3339_ms(-(2**62)).startswith("1970-01-01T00:00:00.")
    record = RejectedRecord(
        *("t", 0, 1, 2**62, 2**63 - 1), "empty", None, "no value", "send one", None, None, None
    )
    written = record.as_json(show_values=False)
    assert (written["timestamp"][:4], written["rejected_at"][:4]) == ("9999", "9999")


def test_each_field_has_the_meaning_and_the_fix_that_apply_to_it() -> None:
    assert {field for field, reason in FAULTS if reason == "inconsistent"} == set(INCONSISTENT)
    for field, reason in FAULTS:
        meaning, fix = field_help(field, reason)
        assert meaning, (field, reason)
        assert fix, (field, reason)
        if not field.endswith("_ms"):
            assert "millisecond" not in fix, (field, reason)
    assert "`input_tokens`" in field_help("cached_input_tokens", "inconsistent")[0]
    assert field_help("ttft_ms", "bad_type")[0] == "not a number, so it is unknown"
    assert field_help("stream", "bad_type")[0] == "not a boolean, so it is unknown"
    assert field_help("input_tokens", "bad_type")[0] == "not an integer, so it is unknown"
    assert field_help("status_code", "out_of_range")[0].endswith("; expected: 0 to 999")
    assert field_help("served_from", "out_of_range")[0].startswith("not one of ")
    assert "expected: 1 to 96 of letters" in field_help("region", "renamed")[0]
    assert "sum" not in field_help("error_class", "inconsistent")[0]
    assert field_help("outcome", "out_of_range")[1] == "send one of these words, in small letters"
    assert record_fix("outcome", "out_of_range") == "send one of these words, in small letters"
    assert "milliseconds" in record_fix("ended_at", "out_of_range")
    assert record_fix(None, "of a later version") == "see docs/events.md"


def test_a_record_that_came_over_http_has_a_place_in_its_request_and_no_offset() -> None:
    rest = (0, 0, "bad_type", None, "ended_at: wrong", "send a time", None, None, None)
    number = 1_795_168_802_123 * RECORDS_PER_REQUEST + 3
    assert RejectedRecord("/v1/events:gateway", 0, number, *rest).index == 3
    assert RejectedRecord("inference.requests", 0, number, *rest).index is None
