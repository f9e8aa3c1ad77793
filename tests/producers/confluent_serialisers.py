"""Write events to a topic with Confluent's own producer and serialisers.

confluent_serialisers.py BOOTSTRAP REGISTRY TOPIC ENCODING EVENTS [header]

EVENTS: a JSON array. `header`: the schema's GUID goes into a header, and the value is not framed.
"""

import json
import sys

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

TEXT = ("request_id", "model", "outcome")
NUMBERS = ("ended_at", "duration_ms", "ttft_ms", "input_tokens", "output_tokens")
PROTO_TYPES = {
    **dict.fromkeys(TEXT, FieldDescriptorProto.TYPE_STRING),
    **dict.fromkeys(NUMBERS, FieldDescriptorProto.TYPE_INT64),
    "stream": FieldDescriptorProto.TYPE_BOOL,
}


def avro_serializer(registry, conf):
    fields = [{"name": name, "type": "string"} for name in TEXT]
    fields += [{"name": name, "type": ["null", "long"], "default": None} for name in NUMBERS]
    fields += [{"name": "stream", "type": "boolean"}]
    schema = {"type": "record", "name": "Request", "fields": fields}
    return AvroSerializer(registry, json.dumps(schema), conf=conf), dict


def json_serializer(registry, conf):
    properties = {name: {"type": "string"} for name in TEXT}
    properties |= {name: {"type": "integer"} for name in NUMBERS}
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Request",
        "type": "object",
        "properties": properties | {"stream": {"type": "boolean"}},
    }
    return JSONSerializer(json.dumps(schema), registry, conf=conf), dict


def protobuf_serializer(registry, conf):
    """The message is the second of its file, and it imports a type of Google's."""
    file = FileDescriptorProto(name="request.proto", package="gateway", syntax="proto3")
    file.dependency.append(timestamp_pb2.DESCRIPTOR.name)
    file.message_type.add(name="Other")
    message = file.message_type.add(name="Request")
    for number, (name, kind) in enumerate(PROTO_TYPES.items(), start=1):
        field = message.field.add(name=name, number=number, type=kind, label=1)
        if name in NUMBERS:
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")
    sent = message.field.add(name="sent", number=20, type=11, label=1)
    sent.type_name = ".google.protobuf.Timestamp"
    Default().Add(file)
    kind = GetMessageClass(Default().FindMessageTypeByName("gateway.Request"))
    return ProtobufSerializer(kind, registry, conf=conf), lambda event: kind(**event)


SERIALISERS = {
    "confluent_avro": avro_serializer,
    "confluent_json": json_serializer,
    "confluent_protobuf": protobuf_serializer,
}


def main(bootstrap, url, topic, encoding, events, *options):
    conf = {"schema.id.serializer": header_schema_id_serializer} if "header" in options else {}
    serialise, build = SERIALISERS[encoding](SchemaRegistryClient({"url": url}), conf)
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "none"})
    for event in json.loads(events):
        context = SerializationContext(topic, MessageField.VALUE, headers=[])
        value = serialise(build(event), context)
        producer.produce(topic, value, headers=context.headers)
    assert producer.flush(30) == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
