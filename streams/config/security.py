"""The arguments for logins and TLS that all Kafka and Redis clients receive.

TLS always checks the certificate and the host name; no setting switches that off. servers.py
rejects settings that contradict each other.
"""

import ssl
from pathlib import Path
from typing import Any

from streams.config.settings import Kafka, Redis
from streams.errors import ConfigError


def client_kwargs(kafka: Kafka) -> dict[str, Any]:
    """Return arguments for an aiokafka client. Raises ConfigError if a file cannot be used."""
    kwargs: dict[str, Any] = {"security_protocol": kafka.security_protocol}
    if kafka.security_protocol.endswith("SSL"):
        kwargs["ssl_context"] = _context(kafka, "kafka")
    if kafka.security_protocol.startswith("SASL_"):
        kwargs |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.username,
            "sasl_plain_password": kafka.login_password(),
        }
    return kwargs


def redis_kwargs(redis: Redis) -> dict[str, Any]:
    """Return arguments for a Redis client. Raises ConfigError if a file cannot be used."""
    # Without CLIENT SETINFO the user needs one permission less, and a connection one round trip.
    kwargs: dict[str, Any] = {"driver_info": None}
    if redis.username is not None:
        kwargs["username"] = redis.username
    if (password := redis.login_password()) is not None:
        kwargs["password"] = password
    if redis.url.startswith("rediss://"):
        _context(redis, "redis")  # redis-py would report a wrong file only when it connects
        kwargs |= {"ssl_check_hostname": True, "ssl_min_version": ssl.TLSVersion.TLSv1_2}
        for argument, file in (
            ("ssl_ca_certs", redis.ssl_ca_file),
            ("ssl_certfile", redis.ssl_cert_file),
            ("ssl_keyfile", redis.ssl_key_file),
        ):
            if file is not None:
                kwargs[argument] = str(file)
    return kwargs


def _context(section: Kafka | Redis, name: str) -> ssl.SSLContext:
    context = trust(section.ssl_ca_file, f"{name}.ssl_ca_file")
    if section.ssl_cert_file is not None and section.ssl_key_file is not None:
        load_certificate(
            context, section.ssl_cert_file, section.ssl_key_file, f"{name}.ssl_cert_file"
        )
    return context


def trust(authorities: Path | None, setting: str) -> ssl.SSLContext:
    """Return a context that trusts these CAs, or those of the system. Raises ConfigError."""
    if authorities is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load_authorities(context, authorities, setting)
    return context


def load_authorities(context: ssl.SSLContext, authorities: Path, setting: str) -> None:
    """Make `context` trust these CAs. Raises ConfigError if the file cannot be used."""
    try:
        context.load_verify_locations(authorities)
    except OSError as error:
        raise ConfigError(_unusable(str(authorities), setting, error)) from error


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path, setting: str) -> None:
    """Make `context` present this certificate. Raises ConfigError if it cannot be used."""
    try:
        # An empty password: without one, OpenSSL would ask for a passphrase on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise ConfigError(_unusable(f"{certificate} with {key}", setting, error)) from error


def _unusable(found: str, setting: str, error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return f"{setting}: cannot use {found}: {reason}; give a readable file in PEM form"
