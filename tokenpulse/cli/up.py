"""`tokenpulse up`."""

import sys
from typing import Any

import click

from streams.config.settings import load_settings
from tokenpulse.local.up import run_up
from tokenpulse.option_types import PositiveNumber, TimeSpan


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port of the boards and metrics; default: 9464, or any free one.",
)
@click.option("--rate", type=PositiveNumber(), help="Simulated requests a second; default: 50.")
@click.option(
    "--history", type=TimeSpan(), help="Length of the simulated past, such as 6h; 0s for none."
)
@click.pass_context
def up(ctx: click.Context, port: int | None, rate: float | None, history: int | None) -> None:
    """Run the whole stack on this machine, with simulated traffic.

    That is a broker, Redis, a worker, an exporter and a simulator. Exit status 2 if the broker or
    Redis dies, or another part dies repeatedly.
    """
    given: dict[str, dict[str, Any]] = {
        "exporter": {"port": port},
        "local": {"events_per_s": rate, "history_s": history},
    }
    overrides = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in given.items()
    }
    sys.exit(run_up(load_settings(ctx.obj, overrides)))
