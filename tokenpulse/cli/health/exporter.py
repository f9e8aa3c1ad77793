"""`tokenpulse health exporter`."""

import click

from streams.config.settings import load_settings
from tokenpulse.cli.health import exit_with
from tokenpulse.cli.health.readiness import readiness_problem


@click.command()
@click.pass_context
def exporter(ctx: click.Context) -> None:
    """Check that the exporter on this host is ready.

    It is ready if its numbers can be relied on (/readyz).
    """
    port = load_settings(ctx.obj).exporter.port
    exit_with(readiness_problem("exporter", "127.0.0.1", port))
