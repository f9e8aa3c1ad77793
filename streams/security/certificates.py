"""TLS contexts of clients and servers, with the setting's name in each error."""

import ssl
from pathlib import Path

from streams.errors import ConfigError


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
