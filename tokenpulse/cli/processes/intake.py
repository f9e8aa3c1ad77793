"""`tokenpulse intake`."""

import click

from streams.config.settings import load_settings
from streams.intake.app import run_intake


@click.command()
@click.pass_context
def intake(ctx: click.Context) -> None:
    """Take events of producers over HTTP (docs/intake.md)."""
    run_intake(load_settings(ctx.obj))
