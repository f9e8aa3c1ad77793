"""`tokenpulse produce` and `tokenpulse simulate`: send events to Kafka."""

import asyncio
from pathlib import Path

import click

from streams.config.settings import load_settings
from streams.errors import ConfigError
from streams.simulator import runner
from streams.simulator.generator import NOTHING_PLANNED
from streams.simulator.timeline import load_timeline
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.option_types import PositiveNumber, TimeSpan


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="-")
@click.pass_context
def produce(ctx: click.Context, file: Path) -> None:
    """Send events from a file to Kafka unchanged.

    The file contains events (docs/events.md), one JSON object per line. `-` is standard input.
    """
    try:
        with runner.open_events(file) as source:
            sent = asyncio.run(runner.produce(load_client_settings(ctx.obj), source))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; check the path") from error
    click.echo(f"{sent} events sent")


@click.command()
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**63),
    default=1,
    show_default=True,
    help="Same seed, same traffic.",
)
@click.option("--scenarios", help="Timeline file, or the name of a shipped one.")
@click.option("--for", "for_s", type=TimeSpan(), help="Stop after this long; default: never.")
@click.option("--rate", type=PositiveNumber(), help="Mean events a second.")
@click.option("--ending-now", is_flag=True, help="Send the last --for of the past at full speed.")
@click.option(
    "--past",
    "past_s",
    type=TimeSpan(),
    default="0s",
    help="First send this much of the past at full speed, except what this --seed already sent.",
)
@click.pass_context
def simulate(
    ctx: click.Context,
    seed: int,
    scenarios: str | None,
    for_s: int | None,
    rate: float | None,
    ending_now: bool,
    past_s: int,
) -> None:
    """Send simulated traffic, with faults on request.

    `tokenpulse scenario` adds faults while this runs.
    """
    if ending_now and (for_s is None or past_s):
        raise click.UsageError("--ending-now needs --for, and takes no --past")
    settings = load_settings(ctx.obj, {"local": {"events_per_s": rate}} if rate else None)
    timeline = load_timeline(scenarios) if scenarios else NOTHING_PLANNED
    if ending_now and for_s is not None:
        sending = runner.simulate_past(settings, seed, timeline, for_s)
    else:
        sending = runner.simulate(settings, seed, timeline, for_s, past_s)
    click.echo(f"{asyncio.run(sending)} records sent")
