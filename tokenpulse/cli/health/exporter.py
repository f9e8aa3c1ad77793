"""`tokenpulse health exporter`."""

import ssl
from pathlib import Path
from typing import Any

import click

from streams.config.settings import load_settings
from streams.config.yaml_file import parse_document, read_text
from streams.security.certificates import load_certificate
from tokenpulse.cli.health import exit_with
from tokenpulse.cli.health.readiness import readiness_problem


@click.command()
@click.pass_context
def exporter(ctx: click.Context) -> None:
    """Check that the exporter on this host is ready.

    It is ready if its numbers can be relied on (/readyz), which needs no login.
    """
    settings = load_settings(ctx.obj).exporter
    tls = _client_tls(settings.web_config_file)
    exit_with(readiness_problem("exporter", settings.host, settings.port, tls))


def _client_tls(file: Path | None) -> ssl.SSLContext | None:
    """Return how to connect to the exporter; None if its web configuration has no TLS.

    Raises ConfigError. The exporter checks the whole file; here it is only read, as a health check
    must be quick.
    """
    content: Any = None if file is None else parse_document(read_text(file), str(file))
    server = content.get("tls_server_config") if isinstance(content, dict) else None
    if file is None or not isinstance(server, dict):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The certificate is for the names of other machines, and no secret is sent or read.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if "client_ca_file" in server:
        # A server that asks for a certificate gets its own, if its authority issued both.
        cert, key = (file.parent / str(server.get(name)) for name in ("cert_file", "key_file"))
        load_certificate(context, cert, key, f"{file}: tls_server_config.cert_file")
    return context
