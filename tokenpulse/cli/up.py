"""`tokenpulse up`."""

import sys

import click

from streams.config.settings import load_settings
from tokenpulse.local.up import run_up


@click.command()
@click.pass_context
def up(ctx: click.Context) -> None:
    """Run the whole stack on this machine, with simulated traffic.

    That is a broker, Redis, a worker, an exporter and a simulator. Exit status 2 if the broker or
    Redis dies, or another part dies repeatedly.
    """
    sys.exit(run_up(load_settings(ctx.obj)))
