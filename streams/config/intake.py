"""The settings of `tokenpulse intake`. Pure."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from streams.config.base import Section
from streams.config.connections import Connections

# As the Collector's kafkaexporter names them, and as the records of Confluent's serialisers are.
SpanFormat = Literal["otlp_proto", "otlp_json"]
Encoding = Literal["confluent_avro", "confluent_json", "confluent_protobuf"]


class IntakeSource(Section):
    """A topic whose records become events."""

    topic: str
    # `events`, `otlp_proto`, `otlp_json`, a shipped mapping or the path of one in SQL
    format: str
    profile: str = "auto"  # of spans
    # of the records: `confluent_...` ones name a schema (schema-registry.md)
    encoding: Literal["plain"] | Encoding = "plain"

    @model_validator(mode="after")
    def _check_encoding(self) -> Self:
        # Spans are read from the payload itself.
        wanted: dict[str, Encoding] = {
            "otlp_proto": "confluent_protobuf",
            "otlp_json": "confluent_json",
        }
        fitting = wanted.get(self.format)
        if fitting and self.encoding not in ("plain", fitting):
            raise ValueError(
                f"encoding {self.encoding} does not hold {self.format}; leave it out, or set "
                f"{fitting}"
            )
        return self


class Intake(Section):
    """The intake: its address, the tokens of the senders, and limits of size and time."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        4318, ge=0, le=65_535, description="Port to listen on; 0 chooses a free port."
    )
    connections: Connections = Connections()
    tokens_file: Path | None = Field(
        None,
        description="YAML file with the bearer tokens of the senders (intake.md). Without it every "
        "sender is accepted, and the intake listens on loopback addresses only.",
    )
    sources: tuple[IntakeSource, ...] = Field(
        (),
        description="Topics whose records become events, each with `topic`, `format` (`events`, "
        "`otlp_proto`, `otlp_json`, or a mapping), for spans `profile` (intake.md), and for "
        "records of Confluent's serialisers `encoding` (schema-registry.md).",
    )
    customer_attributes: tuple[str, ...] = Field(
        (),
        description="Attributes of OTLP spans that name the customer, such as `user.id`; the first "
        "one that a span has is used. Without any, spans have no customer: such names are personal "
        "data, and only you can decide that they may be stored.",
    )
    max_body_bytes: int = Field(
        20 * 1_048_576,
        ge=1_024,
        description="Largest body of a request as it was sent. A larger one is answered with 413.",
    )
    max_decoded_bytes: int = Field(
        64 * 1_048_576,
        ge=1_024,
        description="Largest body of a request after decompression. A larger one is answered with "
        "413.",
    )
    max_in_flight_bytes: int = Field(
        256 * 1_048_576,
        ge=1_024,
        description="Bytes of all requests that were received but not yet answered or confirmed "
        "by Kafka. At this limit, requests are answered with 503.",
    )
    max_records: int = Field(
        50_000,
        ge=1,
        le=100_000,
        description="Most records in one request. More are answered with 413.",
    )
    answer_timeout_s: float = Field(
        20,
        gt=0,
        le=300,
        description="Time for the body of a request, and again for Kafka's confirmation of its "
        "events. After it the request is answered with 503, and the sender sends it again.",
    )
    retry_after_s: int = Field(
        5, ge=1, le=3_600, description="`Retry-After` of the answer 503, in seconds."
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.max_decoded_bytes > self.max_in_flight_bytes:
            raise ValueError(
                "max_decoded_bytes is more than max_in_flight_bytes; the largest body must fit in"
            )
        topics = [source.topic for source in self.sources]
        if len(set(topics)) < len(topics):
            raise ValueError("sources has a topic twice; give each topic one format")
        return self
