"""Protobuf payloads become JSON, with descriptors made of the schema.

A registry gives a schema as the text of a .proto file or, if asked to and able to, as a serialised
descriptor. The text is compiled by protoc, in a process of its own.

Fields keep the names of the .proto file. A field without presence is written with its default, as
Protobuf cannot say that it was left out; one with presence (`optional`, messages) is absent then.
Whole numbers are JSON numbers, also those of 64 bits.
"""

import base64
import binascii
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from streams.intake.confluent.schemas import Decode, Schema, UnusableSchema, short
from streams.intake.confluent.wire_format import MalformedRecord

_ROOT = "schema_of_the_record.proto"
_WELL_KNOWN = "google/protobuf/"
_PROTOC_DEADLINE_S = 30


def protobuf_decoder(schema: Schema) -> Decode:
    """Return the decoder of a schema. Raises UnusableSchema. It may take a second."""
    texts = {**schema.imports, _ROOT: schema.text}
    files = [serialised_file(name, text) for name, text in texts.items()]
    known = [file for file in files if file is not None]
    return _decoder(_compile(texts) if len(known) < len(files) else _with_well_known(known))


def protobuf_file_decoder(path: Path) -> Decode:
    """Return the decoder of a .proto file, whose imports lie beside it. Raises UnusableSchema."""
    return _decoder(_run_protoc([path.parent], path.name))


def _decoder(files: list[FileDescriptorProto]) -> Decode:
    """Return the decoder of the messages of the last file; the others are what it imports."""
    pool = DescriptorPool()
    try:
        for file in files:
            pool.AddSerializedFile(file.SerializeToString())
    except TypeError as error:
        raise UnusableSchema(f"cannot be read as Protobuf: {short(error)}") from error
    names = _message_names(files[-1])
    readers: dict[str, Callable[[Message], dict[str, Any]]] = {}

    def decode(indexes: tuple[int, ...], payload: bytes) -> bytes:
        name = names.get(indexes)
        if name is None:
            raise MalformedRecord("names a message that its schema does not have")
        descriptor = pool.FindMessageTypeByName(name)
        try:
            message = GetMessageClass(descriptor).FromString(payload)
            return msgspec.json.encode(_reader(descriptor, readers)(message))
        except (DecodeError, json_format.Error, ValueError, TypeError) as error:
            raise MalformedRecord(f"does not fit its schema: {type(error).__name__}") from error

    return decode


def _message_names(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """Return the full name of each message by its path in the file."""
    names: dict[tuple[int, ...], str] = {}

    def add(messages: Iterable[DescriptorProto], path: tuple[int, ...], prefix: str) -> None:
        for index, message in enumerate(messages):
            names[*path, index] = prefix + message.name
            add(message.nested_type, (*path, index), f"{prefix}{message.name}.")

    add(file.message_type, (), f"{file.package}." if file.package else "")
    return names


def _reader(
    descriptor: Descriptor, readers: dict[str, Callable[[Message], dict[str, Any]]]
) -> Callable[[Message], dict[str, Any]]:
    """Return a function from a message to plain data; `readers`: those made already, by name."""
    if (known := readers.get(descriptor.full_name)) is not None:
        return known
    fields: list[tuple[str, bool, Callable[[Any], Any]]] = []

    def read(message: Message) -> dict[str, Any]:
        return {
            name: convert(getattr(message, name))
            for name, has_presence, convert in fields
            if not has_presence or message.HasField(name)
        }

    # Before its fields: a message may contain itself.
    readers[descriptor.full_name] = read
    for field in descriptor.fields:
        fields.append((field.name, field.has_presence, _conversion(field, readers)))
    return read


def _conversion(
    field: FieldDescriptor, readers: dict[str, Callable[[Message], dict[str, Any]]]
) -> Callable[[Any], Any]:
    """Return the conversion of a field's value, which may be a list or a map."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        one = _single(message.fields_by_name["value"], readers)
        return lambda entries: {_key(key): one(entries[key]) for key in entries}
    one = _single(field, readers)
    return (lambda values: [one(value) for value in values]) if field.is_repeated else one


def _single(
    field: FieldDescriptor, readers: dict[str, Callable[[Message], dict[str, Any]]]
) -> Callable[[Any], Any]:
    if field.message_type is not None:
        # Timestamps, durations and wrappers have a JSON form of their own.
        if field.message_type.full_name.startswith("google.protobuf."):
            return json_format.MessageToDict
        return _reader(field.message_type, readers)
    if field.enum_type is not None:
        names = {value.number: value.name for value in field.enum_type.values}
        return lambda number: names.get(number, number)
    return _same


def _same(value: Any) -> Any:
    return value


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def serialised_file(name: str, text: str) -> FileDescriptorProto | None:
    """Return the descriptor of this name if the text is a serialised one in base64, else None."""
    try:
        file = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        return None
    file.name = name
    return file


def _with_well_known(files: list[FileDescriptorProto]) -> list[FileDescriptorProto]:
    """Return the files behind those of Google's that they import, which no registry gives."""
    ordered: dict[str, FileDescriptorProto] = {}

    def add(name: str) -> None:
        if name not in ordered and name.startswith(_WELL_KNOWN):
            file = _well_known(name)
            for needed in file.dependency:
                add(needed)
            ordered[name] = file

    for file in files:
        for name in file.dependency:
            add(name)
        ordered[file.name] = file
    return list(ordered.values())


@lru_cache
def _well_known(name: str) -> FileDescriptorProto:
    module = f"{name.removesuffix('.proto').replace('/', '.')}_pb2"
    try:
        content: bytes = import_module(module).DESCRIPTOR.serialized_pb
    except ImportError as error:
        raise UnusableSchema(f"imports {name}, which protobuf does not have") from error
    return FileDescriptorProto.FromString(content)


def _compile(texts: Mapping[str, str]) -> list[FileDescriptorProto]:
    with TemporaryDirectory(prefix="tokenpulse-proto-") as directory:
        for name, text in texts.items():
            inside = PurePosixPath(name)
            if inside.is_absolute() or ".." in inside.parts or "\0" in name:
                raise UnusableSchema(f"imports {name!r}, which is no name of a .proto file")
            path = Path(directory, inside)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode())
            # An empty or long name, for example, or one that is also the folder of another.
            except OSError as error:
                raise UnusableSchema(
                    f"cannot write {name!r} for protoc: {error.strerror}"
                ) from error
        return _run_protoc([Path(directory)], _ROOT)


def _run_protoc(directories: list[Path], name: str) -> list[FileDescriptorProto]:
    """Return the descriptors of a file and of its imports, which come before it."""
    # Only installations with such a topic pay for the import.
    import grpc_tools

    well_known = Path(grpc_tools.__path__[0], "_proto")
    with TemporaryDirectory(prefix="tokenpulse-protoc-") as output:
        target = Path(output, "descriptors")
        command = [sys.executable, "-m", "grpc_tools.protoc"]
        command += [f"-I{directory}" for directory in [*directories, well_known]]
        command += ["--include_imports", f"--descriptor_set_out={target}", name]
        try:
            # A process of its own: a schema that breaks the compiler breaks nothing else.
            done = subprocess.run(command, capture_output=True, timeout=_PROTOC_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            raise UnusableSchema(f"protoc took more than {_PROTOC_DEADLINE_S} s") from error
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").splitlines()
            # The first error causes most of the others.
            first = next((line for line in lines if "warning" not in line), "no message")
            raise UnusableSchema(f"protoc: {short(first.replace(f'{directories[0]}/', ''))}")
        return list(FileDescriptorSet.FromString(target.read_bytes()).file)
