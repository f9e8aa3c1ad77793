"""`tokenpulse exporter`. A module of its own, so that an exporter loads no code of the worker."""

import sys

import click

from exporters.server.http import run_exporter
from streams.config.settings import load_settings


@click.command()
@click.pass_context
def exporter(ctx: click.Context) -> None:
    """Serve the state as Prometheus metrics and boards."""
    sys.exit(run_exporter(load_settings(ctx.obj)))
