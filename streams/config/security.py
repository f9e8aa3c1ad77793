"""How clients prove who they are and whom they talk to: what they all get beside an address.

TLS always checks the certificate and the host's name; there is no setting to switch that off. The
refusals of settings that do not fit together are in sections.py.
"""

import ssl
from pathlib import Path
from typing import Any

from streams.config.settings import Kafka, Redis
from streams.errors import ConfigError


def client_kwargs(kafka: Kafka) -> dict[str, Any]:
    """Arguments for each aiokafka client. ConfigError, one line, where a file cannot be used."""
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
    """Arguments for each Redis client. ConfigError, one line, where a file cannot be used."""
    # The client does not introduce itself: one round trip less, one command less to allow.
    kwargs: dict[str, Any] = {"driver_info": None}
    if redis.username is not None:
        kwargs["username"] = redis.username
    if (password := redis.login_password()) is not None:
        kwargs["password"] = password
    if redis.url.startswith("rediss://"):
        _context(redis, "redis")  # redis-py would find a wrong file only when it connects
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
    if section.ssl_ca_file is None:
        context = ssl.create_default_context()
    else:  # these authorities and no others
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        load_authorities(context, section.ssl_ca_file, f"{name}.ssl_ca_file")
    if section.ssl_cert_file is not None and section.ssl_key_file is not None:
        load_certificate(
            context, section.ssl_cert_file, section.ssl_key_file, f"{name}.ssl_cert_file"
        )
    return context


def load_authorities(context: ssl.SSLContext, authorities: Path, setting: str) -> None:
    """Let `context` trust what these sign; ConfigError, one line, where they cannot be used."""
    try:
        context.load_verify_locations(authorities)
    except OSError as error:
        raise ConfigError(_unusable(str(authorities), setting, error)) from error


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path, setting: str) -> None:
    """Let `context` show this certificate; ConfigError, one line, where it cannot be used."""
    try:
        # A passphrase is answered with none: OpenSSL would ask for it on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise ConfigError(_unusable(f"{certificate} with {key}", setting, error)) from error


def _unusable(found: str, setting: str, error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return f"{setting}: cannot use {found}: {reason}; give a readable file in PEM form"
