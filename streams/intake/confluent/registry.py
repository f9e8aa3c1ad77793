"""Decoders of schemas, from a schema registry over HTTP or from files of the operator.

A decoder is made once for each schema and kept; if there are too many, the one that was used least
recently is made again when a record needs it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, encode_basic_auth

from streams.config.schema_registry import SchemaRegistry
from streams.config.yaml_file import read_text
from streams.errors import ConfigError, Unavailable, one_line
from streams.intake.confluent.avro import avro_decoder
from streams.intake.confluent.protobuf import (
    protobuf_decoder,
    protobuf_file_decoder,
    serialised_file,
)
from streams.intake.confluent.schemas import Decode, Schema, UnusableSchema
from streams.intake.confluent.wire_format import AVRO, JSON, PROTOBUF, SchemaName
from streams.security.certificates import trust

MOST_IMPORTS = 200
_ANSWER_BYTES = 8 * 1_048_576
_NO_ANSWER = "check schema_registry.url and that the registry runs"
_TYPES = {AVRO: "AVRO", PROTOBUF: "PROTOBUF"}
_ENCODINGS = {name: encoding for encoding, name in _TYPES.items()} | {"JSON": JSON}
_DECODERS = {AVRO: avro_decoder, PROTOBUF: protobuf_decoder}


class SchemaDecoders:
    """The decoders of all topics of one process."""

    def __init__(self, settings: SchemaRegistry) -> None:
        """Raises ConfigError if the password or the CA certificates cannot be read."""
        self._settings = settings
        self._files = {str(file.id): file.path for file in settings.files}
        self._decoders: OrderedDict[tuple[str, SchemaName], Decode] = OrderedDict()
        self._lock = asyncio.Lock()  # topics that need the same schema at once ask once
        password = settings.login_password()
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if password is not None:
            login = encode_basic_auth(settings.username or "", password)
            self._headers["Authorization"] = login
        self._tls = trust(settings.ssl_ca_file, "schema_registry.ssl_ca_file")

    async def decoder(self, name: SchemaName, encoding: str) -> Decode:
        """Return the decoder of a schema.

        Raises Unavailable, with the fix, if there is no usable schema of this name now.
        """
        key = encoding, name
        # Before the lock: records whose schema is known do not wait for the registry.
        if (known := self._known(key)) is not None:
            return known
        async with self._lock:
            if (known := self._known(key)) is not None:
                return known
            try:
                decode = await self._make(name, encoding)
            except UnusableSchema as error:
                raise Unavailable(f"{name}: {error}") from error
            self._decoders[key] = decode
            if len(self._decoders) > self._settings.max_schemas:
                self._decoders.popitem(last=False)
            return decode

    def _known(self, key: tuple[str, SchemaName]) -> Decode | None:
        if (known := self._decoders.get(key)) is not None:
            self._decoders.move_to_end(key)
        return known

    async def _make(self, name: SchemaName, encoding: str) -> Decode:
        make: Callable[[], Decode]
        path = self._files.get(name.value)
        if path is not None:
            make = partial(_from_file, path, encoding)
        elif self._settings.url is None:
            raise Unavailable(
                f"{name}: no file has it; name it in schema_registry.files, or set "
                "schema_registry.url"
            )
        else:
            schema = await self._fetch(name, encoding)
            make = partial(_DECODERS[encoding], schema)
        # A compiler may run for a second.
        return await asyncio.to_thread(make)

    async def _fetch(self, name: SchemaName, encoding: str) -> Schema:
        """Return a schema with its imports. Raises Unavailable."""
        limit_s = self._settings.timeout_s
        try:
            # One limit for the schema and its imports; aiohttp's would be for each request.
            async with (
                asyncio.timeout(limit_s),
                ClientSession(headers=self._headers, timeout=ClientTimeout()) as client,
            ):
                answer = await self._get(client, f"schemas/{name.kind}/{name.value}", encoding)
                kind = answer.get("schemaType", "AVRO")
                if kind != _TYPES[encoding]:
                    raise Unavailable(
                        f"{name}: the registry has it as {kind}; set encoding: "
                        f"{_ENCODINGS.get(kind, 'one of its serialiser')} for this topic"
                    )
                imports: dict[str, str] = {}
                await self._add_imports(client, answer, encoding, imports, set())
                return Schema(_text(answer), imports)
        except TimeoutError as error:
            raise Unavailable(
                f"{name}: {self._settings.url} did not give it within {limit_s:g} s; {_NO_ANSWER}"
            ) from error

    async def _add_imports(
        self,
        client: ClientSession,
        answer: dict[str, Any],
        encoding: str,
        imports: dict[str, str],
        seen: set[str],
    ) -> None:
        """Add the imports of a schema, each after its own imports."""
        for reference in answer.get("references") or []:
            try:
                name, version = str(reference["name"]), int(reference["version"])
                subject = quote(str(reference["subject"]), safe="")
            except (TypeError, KeyError, ValueError) as error:
                raise Unavailable("the schema registry gives a reference without a name") from error
            if name in seen:
                continue
            seen.add(name)
            if len(seen) > MOST_IMPORTS:
                raise Unavailable(f"a schema with more than {MOST_IMPORTS} references")
            path = f"subjects/{subject}/versions/{version}"
            part = await self._get(client, path, encoding)
            await self._add_imports(client, part, encoding, imports, seen)
            imports[name] = _text(part)

    async def _get(self, client: ClientSession, path: str, encoding: str) -> dict[str, Any]:
        """Return a schema as the registry has it. Raises Unavailable."""
        if encoding == PROTOBUF:
            # Apicurio answers with 500 or with another format than base64: take the text then.
            with suppress(Unavailable):
                answer = await self._ask(client, path, {"format": "serialized"})
                if serialised_file(path, _text(answer)) is not None:
                    return answer
        return await self._ask(client, path, {})

    async def _ask(
        self, client: ClientSession, path: str, options: dict[str, str]
    ) -> dict[str, Any]:
        """Return the answer to one request. Raises Unavailable."""
        assert self._settings.url is not None
        address = f"{self._settings.url.rstrip('/')}/{path}"
        try:
            async with client.get(address, params=options, ssl=self._tls) as response:
                status = response.status
                body = b""
                async for part in response.content.iter_chunked(65_536):
                    body += part
                    if len(body) > _ANSWER_BYTES:
                        raise Unavailable(f"{address}: more than {_ANSWER_BYTES:,} bytes")
        except (ClientError, OSError) as error:
            raise Unavailable(f"{address}: {one_line(error)}; {_NO_ANSWER}") from error
        if status == HTTPStatus.OK:
            try:
                return msgspec.json.decode(body, type=dict[str, Any])
            except msgspec.MsgspecError as error:
                raise Unavailable(f"{address}: the answer is none of a schema registry") from error
        raise Unavailable(f"{address}: answered {status}; {_fix(status)}")


def _fix(status: int) -> str:
    if status == HTTPStatus.NOT_FOUND:
        return "register this schema, or name its file in schema_registry.files"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "check schema_registry.username and its password"
    return "check the log of the registry"


def _text(answer: dict[str, Any]) -> str:
    text = answer.get("schema")
    if not isinstance(text, str):
        raise Unavailable("the schema registry gives an answer without a schema")
    return text


def _from_file(path: Path, encoding: str) -> Decode:
    """Return the decoder of a schema in a file. Raises UnusableSchema."""
    try:
        if encoding == PROTOBUF:
            return protobuf_file_decoder(path)
        return avro_decoder(Schema(read_text(path)))
    except (UnusableSchema, ConfigError) as error:
        raise UnusableSchema(f"{path}: {error}") from error
