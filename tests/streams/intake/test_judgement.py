"""What the worker accepts gets a key, whatever the form of its id and of its other fields."""

import pytest

from streams.events.decoder import EventLimits
from streams.intake.judgement import judge, without_horizon
from tests.support.event_samples import NOW

LIMITS = without_horizon(EventLimits(10_000, 300_000, 10**12))


@pytest.mark.parametrize(
    ("members", "key"),
    [
        (b'"request_id":"a"', b"a"),
        (b'"request_id":7', b"7"),
        (b'"request_id":"\xc3\xa4"', b"\xc3\xa4"),
        (b'"request_id":"a","ttft_ms":NaN', b"a"),
        (b'"request_id":"a","u":"\xff"', b"a"),
        (b'"request_id":"a","u":"\xff","ttft_ms":Infinity', b"a"),
        (b'"request_id":"a","error":"cut \\ud83d"', b"a"),
    ],
)
def test_every_accepted_record_has_its_id_as_key(members: bytes, key: bytes) -> None:
    record = b'{"ended_at":%d,"outcome":"timeout",' % NOW + members + b"}"
    judged = judge([record], NOW, LIMITS)
    assert judged.events == [(key, record)]
    assert not judged.rejected
