"""The headers of a dead letter are read as they were written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events.fields import REASONS
from streams.kafka.dead_letters import DeadLetterHeaders


@given(
    st.builds(
        DeadLetterHeaders,
        topic=st.text(),
        partition=st.integers(0),
        offset=st.integers(0),
        timestamp_ms=st.integers(-1),
        reason=st.sampled_from(REASONS),
        detail=st.text(),
        has_value=st.booleans(),
    )
)
def test_headers_are_read_as_they_were_written(headers: DeadLetterHeaders) -> None:
    assert DeadLetterHeaders.parse([("trace", b"\xff"), *headers.encode()]) == headers


def test_a_record_of_another_program_has_no_such_headers() -> None:
    letter = DeadLetterHeaders("events", 3, 7, 1_700_000_000_000, "not_json", "malformed", True)
    for number, (name, _) in enumerate(letter.encode()):
        others = [header for at, header in enumerate(letter.encode()) if at != number]
        with pytest.raises(KeyError):
            DeadLetterHeaders.parse(others)
        if name.endswith(("partition", "offset", "timestamp_ms")):
            with pytest.raises(ValueError, match="invalid literal"):
                DeadLetterHeaders.parse([*others, (name, b"x")])
