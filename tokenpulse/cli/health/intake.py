"""`tokenpulse health intake`."""

import click

from streams.config.settings import load_settings
from tokenpulse.cli.health import exit_with
from tokenpulse.cli.health.readiness import readiness_problem


@click.command()
@click.pass_context
def intake(ctx: click.Context) -> None:
    """Check that the intake on this host is ready.

    It is ready if Kafka confirmed the last events that it delivered (/readyz).
    """
    settings = load_settings(ctx.obj).intake
    exit_with(readiness_problem("intake", settings.host, settings.port))
