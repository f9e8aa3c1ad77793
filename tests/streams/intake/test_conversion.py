"""Records of other formats become events, and no message repeats a value of the payload."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from streams.errors import ConfigError
from streams.intake.conversion import (
    LARGE_BYTES,
    EventConverter,
    MappingConverter,
    PartPlace,
    converter_of,
    off_loop,
    recognise,
)
from streams.sources.sql_mapping import Record

MAPPING = """
SELECT line, r->>'model' AS model, 'success' AS outcome,
       (r->>'tokens')::BIGINT AS input_tokens, (r->>'at')::BIGINT AS ended_at
FROM records WHERE r->>'kind' = 'call'
"""


@pytest.fixture
def mapping(tmp_path: Path) -> MappingConverter:
    file = tmp_path / "calls.sql"
    file.write_text(MAPPING)
    converter = converter_of(str(file))
    assert isinstance(converter, MappingConverter)
    return converter


def record(line: int = 0, **changes: object) -> Record:
    members = {"kind": "call", "model": "opus", "tokens": 7, "at": 1_700_000_000_000, **changes}
    return Record(line, json.dumps(members).encode())


def test_a_mapping_gives_events_and_the_places_of_what_it_cannot_map(
    mapping: MappingConverter,
) -> None:
    records = [
        record(70),
        record(71, kind="other"),
        record(72, tokens="my secret prompt"),
        record(80),
    ]
    converted = asyncio.run(mapping.convert(records, "a" * 24))
    assert converted.places == [PartPlace(0), PartPlace(3)]
    assert [json.loads(event)["input_tokens"] for event in converted.events] == [7, 7]
    assert list(converted.skipped.values()) == [1]
    [rejected] = converted.rejected
    assert (rejected.place, rejected.reason, rejected.value) == (PartPlace(2), "not_mapped", None)
    assert rejected.detail
    assert "secret" not in f"{converted}"


def test_a_record_that_comes_again_has_the_same_id(mapping: MappingConverter) -> None:
    ids = [
        json.loads(asyncio.run(mapping.convert([record()], origin)).events[0])["request_id"]
        for origin in ("a", "a", "b")
    ]
    assert ids[0] == ids[1] != ids[2]


def test_a_source_without_a_mapping_is_one_line() -> None:
    assert isinstance(converter_of("events"), EventConverter)
    with pytest.raises(ConfigError, match="shipped mapping"):
        converter_of("absent.sql")


def test_an_event_that_only_mentions_a_payload_stays_an_event() -> None:
    event = b'{"request_id": "r", "ended_at": 1, "error": "no \\"litellm_call_id\\""}'
    assert recognise(event) == "events"


def test_many_bytes_are_read_in_a_thread_so_that_the_loop_answers_meanwhile() -> None:
    here = threading.get_ident()
    assert asyncio.run(off_loop(LARGE_BYTES - 1, threading.get_ident)) == here
    assert asyncio.run(off_loop(LARGE_BYTES, threading.get_ident)) != here
