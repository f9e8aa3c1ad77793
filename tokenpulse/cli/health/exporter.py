"""`tokenpulse health exporter`. Imports little, as the container runs it every few seconds."""

import http
import http.client

import click

from streams.config.settings import load_settings
from tokenpulse.cli.health import exit_with

TIMEOUT_S = 5.0


@click.command()
@click.pass_context
def exporter(ctx: click.Context) -> None:
    """Check that the exporter on this host is ready.

    It is ready if its numbers can be relied on (/readyz).
    """
    exit_with(_readiness_problem(load_settings(ctx.obj).exporter.port))


def _readiness_problem(port: int) -> str | None:
    """Ask the exporter; None if it is ready."""
    # http.client uses no proxy of the environment, which urllib would.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"the exporter does not answer at port {port}: {error!r}"
    finally:
        connection.close()
    return None if answer.status == http.HTTPStatus.OK else text
