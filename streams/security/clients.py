"""The arguments for logins and TLS that all Kafka and Redis clients receive.

TLS always checks the certificate and the host name; no setting switches that off. servers.py
rejects settings that contradict each other.
"""

import ssl
from typing import Any

from streams.config.settings import Kafka, Redis
from streams.security.certificates import load_certificate, trust
from streams.security.tokens import EndpointTokens, MskTokens, TokenProvider


def client_kwargs(kafka: Kafka) -> dict[str, Any]:
    """Return arguments for an aiokafka client. Raises ConfigError if a file cannot be used."""
    kwargs: dict[str, Any] = {"security_protocol": kafka.security_protocol}
    if kafka.security_protocol.endswith("SSL"):
        kwargs["ssl_context"] = _context(kafka, "kafka")
    if kafka.security_protocol.startswith("SASL_"):
        kwargs |= _login(kafka)
    return kwargs


def _login(kafka: Kafka) -> dict[str, Any]:
    match kafka.sasl_mechanism:
        case "OAUTHBEARER":
            tokens: TokenProvider = EndpointTokens(kafka)
        case "AWS_MSK_IAM":
            tokens = MskTokens(kafka)
        case mechanism:
            return {
                "sasl_mechanism": mechanism,
                "sasl_plain_username": kafka.username,
                "sasl_plain_password": kafka.login_password(),
            }
    # The name by which brokers offer both: MSK takes its signed token as a bearer token.
    return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": tokens}


def redis_kwargs(redis: Redis) -> dict[str, Any]:
    """Return arguments for a Redis client. Raises ConfigError if a file cannot be used."""
    # Without CLIENT SETINFO the user needs one permission less, and a connection one round trip.
    kwargs: dict[str, Any] = {"driver_info": None}
    if redis.username is not None:
        kwargs["username"] = redis.username
    if (password := redis.login_password()) is not None:
        kwargs["password"] = password
    if redis.address.encrypted:
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


def sentinel_login(redis: Redis) -> dict[str, str]:
    """Return the login at the sentinels. Raises ConfigError if a file cannot be read."""
    login = {"username": redis.sentinel_username, "password": redis.login_sentinel_password()}
    return {name: value for name, value in login.items() if value is not None}


def _context(section: Kafka | Redis, name: str) -> ssl.SSLContext:
    context = trust(section.ssl_ca_file, f"{name}.ssl_ca_file")
    if section.ssl_cert_file is not None and section.ssl_key_file is not None:
        load_certificate(
            context, section.ssl_cert_file, section.ssl_key_file, f"{name}.ssl_cert_file"
        )
    return context
