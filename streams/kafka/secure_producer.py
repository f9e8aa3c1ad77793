"""Faust's producer with the login of the settings."""

from collections.abc import Mapping
from typing import Any, Protocol

from faust.transport.drivers.aiokafka import Producer

from streams.config.settings import Kafka
from streams.security.clients import client_kwargs


class HasKafka(Protocol):
    """The transport of a producer."""

    kafka: Kafka


class SecureProducer(Producer):
    """Faust's producer with our login: Faust would send a login without TLS files in plain text."""

    transport: HasKafka  # type: ignore[assignment]

    def _settings_auth(self) -> Mapping[str, Any]:
        return client_kwargs(self.transport.kafka)
