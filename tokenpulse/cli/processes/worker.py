"""`tokenpulse worker`. A module of its own, so that a worker loads no code of the exporter."""

import click

from streams.config.settings import load_settings
from streams.worker.app import run_worker


@click.command()
@click.pass_context
def worker(ctx: click.Context) -> None:
    """Consume events and keep the state in Redis."""
    run_worker(load_settings(ctx.obj))
