"""Decoders come from a registry or from files, and each schema is asked for once."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.config.schema_registry import SchemaRegistry
from streams.errors import Unavailable
from streams.intake.confluent.registry import SchemaDecoders
from streams.intake.confluent.wire_format import AVRO, PROTOBUF, SchemaName
from tests.support.certificates import Authority
from tests.support.schema_registry import Registry, schema_registry

LONG = '"long"'
LOGIN = ("key", "a secret")


@pytest.fixture
def registry() -> Iterator[Registry]:
    with schema_registry() as running:
        yield running


def settings(registry: Registry, **others: Any) -> SchemaRegistry:
    return SchemaRegistry(url=registry.url, **others)


def ids(number: int) -> SchemaName:
    return SchemaName("ids", str(number))


def read(decoders: SchemaDecoders, name: SchemaName, payload: bytes, encoding: str = AVRO) -> Any:
    decode = asyncio.run(decoders.decoder(name, encoding))
    return json.loads(decode((0,), payload))


def test_a_schema_is_asked_for_once_until_too_many_others_were_used(registry: Registry) -> None:
    numbers = [registry.register(f"s{at}", schema) for at, schema in enumerate((LONG, '"int"'))]
    decoders = SchemaDecoders(settings(registry, max_schemas=1))
    for number in (numbers[0], numbers[0], numbers[1], numbers[0]):
        assert read(decoders, ids(number), b"\x0e") == 7
    assert registry.asked == [f"/schemas/ids/{numbers[at]}" for at in (0, 1, 0)]


def test_topics_that_need_a_schema_at_once_ask_once(registry: Registry) -> None:
    name = ids(registry.register("s", LONG))
    decoders = SchemaDecoders(settings(registry))

    async def ask() -> None:
        await asyncio.gather(*(decoders.decoder(name, AVRO) for _ in range(5)))

    asyncio.run(ask())
    assert len(registry.asked) == 1


def test_a_guid_and_references_are_followed(registry: Registry) -> None:
    inner = '{"type": "record", "name": "x.Inner", "fields": [{"name": "n", "type": "int"}]}'
    middle = '{"type": "record", "name": "x.Mid", "fields": [{"name": "in", "type": "x.Inner"}]}'
    outer = '{"type": "record", "name": "x.Out", "fields": [{"name": "mid", "type": "x.Mid"}]}'
    registry.register("inner/value", inner)
    registry.register(
        "mid", middle, references=[{"name": "x.Inner", "subject": "inner/value", "version": 1}]
    )
    registry.register("out", outer, references=[{"name": "x.Mid", "subject": "mid", "version": 1}])
    name = SchemaName("guids", registry.schemas[-1]["guid"])
    assert read(SchemaDecoders(settings(registry)), name, b"\x0e") == {"mid": {"in": {"n": 7}}}


@pytest.mark.parametrize("serialised", [None, "\n\x01R\x1a\x07u.proto", ""])
def test_a_registry_that_gives_texts_of_protobuf_is_understood(
    serialised: str | None, registry: Registry
) -> None:
    registry.serialises_as = serialised  # Apicurio's is not base64, or it fails
    text = 'syntax = "proto3"; import "u.proto"; message R { U usage = 1; }'
    registry.register("u", 'syntax = "proto3"; message U { int64 input = 1; }', "PROTOBUF")
    reference = {"name": "u.proto", "subject": "u", "version": 1}
    name = ids(registry.register("r", text, "PROTOBUF", [reference]))
    decoders = SchemaDecoders(settings(registry))
    assert read(decoders, name, b"\x0a\x02\x08\x07", PROTOBUF) == {"usage": {"input": 7}}


def test_files_are_used_before_and_without_a_registry(registry: Registry, tmp_path: Path) -> None:
    name = ids(registry.register("s", '"string"'))
    file = tmp_path / "long.avsc"
    file.write_text(LONG)
    files = [{"id": name.value, "path": file}]
    for section in (settings(registry, files=files), SchemaRegistry(files=files)):
        assert read(SchemaDecoders(section), name, b"\x0e") == 7
    assert registry.asked == []
    with pytest.raises(Unavailable, match=r"schema id 8: .* schema_registry\.files"):
        asyncio.run(SchemaDecoders(SchemaRegistry(files=files)).decoder(ids(8), AVRO))


def test_the_registry_gets_the_login(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{LOGIN[1]}\n")
    with schema_registry(LOGIN) as registry:
        name = ids(registry.register("s", LONG))
        login = {"username": LOGIN[0], "password_file": secret, "allow_login_without_tls": True}
        section = settings(registry, **login)
        assert read(SchemaDecoders(section), name, b"\x0e") == 7
        with pytest.raises(Unavailable, match=r"answered 401; check schema_registry\.username"):
            asyncio.run(SchemaDecoders(settings(registry)).decoder(name, AVRO))


@pytest.mark.stack
def test_only_a_registry_with_a_trusted_certificate_gets_the_login(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    login = {"username": LOGIN[0], "password": LOGIN[1]}
    with schema_registry(LOGIN, authority.issue("registry")) as registry:
        name = ids(registry.register("s", LONG))
        trusting = settings(registry, ssl_ca_file=authority.cert, **login)
        assert read(SchemaDecoders(trusting), name, b"\x0e") == 7
        with pytest.raises(Unavailable, match="certificate verify failed"):
            asyncio.run(SchemaDecoders(settings(registry, **login)).decoder(name, AVRO))
    assert len(registry.asked) == 1


def test_a_schema_that_is_not_there_yet_is_found_later(registry: Registry) -> None:
    decoders = SchemaDecoders(settings(registry))
    name = ids(70_000)
    with pytest.raises(Unavailable, match="answered 404; register this schema"):
        asyncio.run(decoders.decoder(name, AVRO))
    registry.register("s", LONG)
    registry.answers_503 = True
    with pytest.raises(Unavailable, match="answered 503; check the log of the registry"):
        asyncio.run(decoders.decoder(name, AVRO))
    registry.answers_503 = False
    assert read(decoders, name, b"\x0e") == 7


def test_a_registry_that_does_not_run_is_unavailable() -> None:
    with schema_registry() as registry:
        section = settings(registry, timeout_s=1)
    with pytest.raises(Unavailable, match=r"check schema_registry\.url"):
        asyncio.run(SchemaDecoders(section).decoder(ids(1), AVRO))


def test_the_time_limit_is_for_a_schema_with_all_its_references(registry: Registry) -> None:
    registry.register("part", LONG)
    references = [{"name": f"x.P{n}", "subject": "part", "version": 1} for n in range(3)]
    name = ids(registry.register("s", LONG, references=references))
    registry.answers_after_s = 0.4
    decoders = SchemaDecoders(settings(registry, timeout_s=1))
    with pytest.raises(Unavailable, match=r"within 1 s; check schema_registry\.url"):
        asyncio.run(decoders.decoder(name, AVRO))


@pytest.mark.parametrize(
    ("schema", "kind", "problem"),
    [
        ("message R {}", "PROTOBUF", "set encoding: confluent_protobuf"),
        ("{}", "JSON", "set encoding: confluent_json"),
        ('{"type": "recrod"}', "AVRO", "cannot be read as Avro"),
    ],
)
def test_a_schema_of_another_kind_is_named(
    registry: Registry, schema: str, kind: str, problem: str
) -> None:
    name = ids(registry.register("s", schema, kind))
    with pytest.raises(Unavailable, match=problem):
        asyncio.run(SchemaDecoders(settings(registry)).decoder(name, AVRO))


def test_references_in_a_circle_end(registry: Registry) -> None:
    circle = {"name": "x.R", "subject": "r", "version": 1}
    schema = '{"type": "record", "name": "x.R", "fields": [{"name": "n", "type": "int"}]}'
    name = ids(registry.register("r", schema, references=[circle]))
    assert read(SchemaDecoders(settings(registry)), name, b"\x0e") == {"n": 7}
    assert len(registry.asked) == 2
