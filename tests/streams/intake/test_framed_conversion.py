"""Records of Confluent's serialisers count like those without a frame."""

import asyncio
import json
from pathlib import Path

import pytest

from streams.config.intake import Intake, IntakeSource
from streams.config.schema_registry import SchemaRegistry
from streams.errors import ConfigError, Unavailable
from streams.intake.conversion import Converted, Converter, EventConverter, PartPlace
from streams.intake.framed_conversion import FramedConverter
from streams.intake.source_topics import source_converters
from streams.sources.sql_mapping import Record
from tests.support.event_samples import EVENT
from tests.support.paths import GOLDEN

NO_SCHEMAS = SchemaRegistry()
FRAME = b"\0\0\0\0\7"


def converter(
    registry: SchemaRegistry, file_format: str, encoding: str = "confluent_json"
) -> Converter:
    source = {"topic": "t", "format": file_format, "encoding": encoding}
    return source_converters(Intake(sources=(IntakeSource(**source),)), registry)["t"]


def convert(converter: Converter, *values: bytes) -> Converted:
    records = [Record(100 + at, value) for at, value in enumerate(values)]
    return asyncio.run(converter.convert(records, "t-0"))


def event(number: int) -> bytes:
    return json.dumps({**EVENT, "request_id": f"r-{number}"}).encode()


def test_a_malformed_record_costs_itself_and_no_place_of_another() -> None:
    values = [b"not framed", FRAME + event(1), b"\0", FRAME + event(3)]
    converted = convert(converter(NO_SCHEMAS, "events"), *values)
    assert converted.events == [event(1), event(3)]
    assert converted.places == [PartPlace(1), PartPlace(3)]
    assert [(part.place.record, part.reason) for part in converted.rejected] == [
        (0, "malformed"),
        (2, "malformed"),
    ]
    assert all(part.value is None for part in converted.rejected)


def test_what_a_mapping_rejects_keeps_its_place(tmp_path: Path) -> None:
    mapping = tmp_path / "gateway.sql"
    mapping.write_text(
        "SELECT line, r->>'at' AS ended_at, r->>'m' AS model, 'success' AS outcome FROM records"
    )
    good = b'{"at": "2026-11-29T12:00:00Z", "m": "opus"}'
    values = [b"", FRAME + b'{"m": "no time"}', FRAME + good]
    converted = convert(converter(NO_SCHEMAS, str(mapping)), *values)
    assert converted.places == [PartPlace(2)]
    assert [part.place.record for part in converted.rejected] == [0, 1]
    # The id is made of topic, partition and offset, as without a frame.
    [made] = converted.events
    plain = converter(NO_SCHEMAS, str(mapping), "plain")
    [same] = asyncio.run(plain.convert([Record(102, good)], "t-0")).events
    assert made == same


def test_spans_in_a_frame_are_those_without_one() -> None:
    payload = next(iter(sorted((GOLDEN / "otlp").rglob("*.pb")))).read_bytes()
    framed = convert(
        converter(NO_SCHEMAS, "otlp_proto", "confluent_protobuf"), FRAME + b"\0" + payload
    )
    plain = convert(converter(NO_SCHEMAS, "otlp_proto", "plain"), payload)
    assert framed.events == plain.events
    assert framed.events


def test_a_schema_that_is_not_there_stops_the_batch(tmp_path: Path) -> None:
    file = tmp_path / "request.avsc"
    file.write_text('{"type": "record", "name": "R", "fields": []}')
    registry = SchemaRegistry(files=[{"id": 7, "path": file}])
    avro = converter(registry, "events", "confluent_avro")
    assert convert(avro, FRAME).events == [b"{}"]
    with pytest.raises(Unavailable, match="schema id 8"):
        convert(avro, FRAME, b"\0\0\0\0\x08")


def test_settings_that_can_never_read_a_record_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"topic t is confluent_avro.*schema_registry\.url"):
        converter(NO_SCHEMAS, "litellm", "confluent_avro")
    with pytest.raises(ValueError, match="confluent_avro does not hold otlp_proto"):
        IntakeSource(topic="t", format="otlp_proto", encoding="confluent_avro")


def test_topics_without_a_frame_have_no_step_more() -> None:
    assert isinstance(converter(NO_SCHEMAS, "events", "plain"), EventConverter)
    assert isinstance(converter(NO_SCHEMAS, "events"), FramedConverter)
