"""`tokenpulse daily`: the daily reliability board as a file, on the terminal, or delivered."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import redis.asyncio as aioredis

from exporters.daily.build import DailyBoardBuilder
from exporters.daily.cache import date_of
from exporters.daily.day.calendar import read_date
from exporters.daily.day.facts import PERIODS, DailyFacts, PeriodKind
from exporters.daily.day.source import DaySource
from exporters.daily.delivery.deliver import DeliveryOutcome, deliver, recipients
from exporters.daily.render.data import csv_text, json_text
from exporters.daily.render.html import html
from exporters.daily.render.pdf import pdf
from exporters.daily.render.plain_text import plain_text
from exporters.daily.render.view import period_of
from exporters.reference.customers import load_directory
from slo.policy.loading import load_policies
from streams.clock import RedisClock
from streams.config.settings import Settings
from streams.errors import ConfigError, RequestError, Unavailable
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.option_types import AUTHOR, Words
from tokenpulse.output_files import check_output, write_output
from tokenpulse.redis_call import run_with_redis

FORMATS = ("text", "html", "pdf", "csv", "json")


@click.group(invoke_without_command=True)
@click.option(
    "--date",
    default="yesterday",
    show_default=True,
    help="A day of exporter.time_zone: YYYY-MM-DD, yesterday or today. With --period: a day of the "
    "week or month, 2026-W46 or 2026-11; yesterday is the last closed one, today the running one.",
)
@click.option(
    "--period",
    type=click.Choice(PERIODS),
    help="The weekly or monthly edition. Default: day; with --send, those of daily.periods.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="Default: the suffix of --output, else text.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write here; default: print.")
@click.option("--send", is_flag=True, help="Deliver it to the configured recipients.")
@click.option("--again", is_flag=True, help="With --send: also to recipients who have this day.")
@click.pass_context
def daily(
    ctx: click.Context,
    date: str,
    period: PeriodKind | None,
    format_: str | None,
    output: Path | None,
    send: bool,
    again: bool,
) -> None:
    """Show the daily reliability board, or deliver it.

    Delivery is by e-mail and to Slack (docs/daily.md). Exit status of --send: 0 if all recipients
    have this day, from this run or an earlier one; 1 if a delivery failed, which the next run
    repeats.
    """
    if ctx.invoked_subcommand is not None:
        return
    if again and not send:
        raise click.UsageError("--again goes with --send")
    settings = load_client_settings(ctx.obj)
    chosen = format_ or _format_of(output)
    prints = output is None and (not send or format_ is not None)
    if chosen == "pdf" and prints and sys.stdout.isatty():
        raise click.UsageError("a PDF is not for the terminal; give --output FILE")
    if output is not None:
        check_output("--output", output)
    if send:
        recipients(settings.daily)  # fails now if they are not configured
    day = date_of(date, settings.exporter.time_zone, time.time())
    # A date is of one board; the schedule sends the last closed day, week and month.
    scheduled = send and period is None and day is None
    kinds = settings.daily.periods if scheduled else (period or "day",)
    boards = run_with_redis(
        settings,
        lambda client: _build_and_deliver(client, settings, day, kinds, send, again, scheduled),
    )
    if not boards and (output is not None or prints):
        raise RequestError(f"no {' and no '.join(kinds)} is over yet")
    if output is not None:
        write_output("--output", output, _render(boards[0][0], chosen))
    elif prints:
        click.echo(_render(boards[0][0], chosen), nl=False)
    for board, outcomes in boards:
        for outcome in outcomes:
            click.echo(f"{period_of(board).label}: {outcome}", err=outcome.failed)
    if any(outcome.failed for _, outcomes in boards for outcome in outcomes):
        sys.exit(1)


@daily.command("reopen")
@click.argument("day")
@click.option("--reason", type=Words(), required=True, help="Reason; the board shows it.")
@AUTHOR
@click.pass_context
def daily_reopen(ctx: click.Context, day: str, reason: str, author: str) -> None:
    """Open a day again that was finalised wrongly.

    DAY is a date of exporter.time_zone, YYYY-MM-DD. The exporter counts the day from the state and
    finalises it again within a minute. Board, mail and PDF show author and reason for ever.
    """
    settings = load_client_settings(ctx.obj)
    if read_date(day) is None:
        raise ConfigError(f"DAY: got {day!r}; give a date as 2026-11-08")
    kafka, zone = settings.kafka, ZoneInfo(settings.exporter.time_zone)

    async def reopen(client: "aioredis.Redis") -> None:
        source = DaySource(client, kafka.group, kafka.topic, zone, settings.latency.apart_tiers)
        await source.reopen(await source.snapshot(), day, int(time.time()), author, reason)

    run_with_redis(settings, reopen)
    click.echo(
        f"{day} is open again, by {author}: {reason}\n"
        f"once it is final: tokenpulse daily --date {day} --send --again"
    )


async def _build_and_deliver(
    client: "aioredis.Redis",
    settings: Settings,
    date: str | None,
    kinds: Sequence[PeriodKind],
    send: bool,
    again: bool,
    scheduled: bool,
) -> list[tuple[DailyFacts, list[DeliveryOutcome]]]:
    policies = load_policies(settings.exporter.policies)
    customers = load_directory(settings)
    builder = DailyBoardBuilder(settings, policies, client, customers)
    clock = RedisClock(client, settings.redis.max_clock_offset_s)
    boards = []
    for kind in kinds:
        facts = await builder.facts(clock, date, kind)
        if facts is None:
            raise RequestError("no event was counted yet: start a worker and send it events")
        # In the first week or month none is closed yet, which is no failure of the schedule.
        if scheduled and kind != "day" and facts.day.state == "running":
            continue
        # As read for these facts. A clock that is ahead would send a day that is not over.
        if send and (problem := clock.reading().problem()):
            raise Unavailable(f"nothing is sent: {problem}; send again once the clocks agree")
        boards.append((facts, await deliver(settings, client, facts, again) if send else []))
    return boards


def _render(facts: DailyFacts, format_: str) -> bytes:
    match format_:
        case "pdf":
            return pdf(facts)
        case "html":
            return html(facts).encode()
        case "csv":
            return csv_text(facts).encode()
        case "json":
            return json_text(facts).encode()
        case _:
            return plain_text(facts).encode()


def _format_of(output: Path | None) -> str:
    """Return the format that belongs to the suffix of a file's name."""
    suffix = "" if output is None else output.suffix.removeprefix(".").lower()
    return suffix if suffix in FORMATS else "text"
