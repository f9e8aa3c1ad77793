"""`tokenpulse daily`: the daily reliability board as a file, on the terminal, or delivered.

A shell: Redis in, text out. Registered in tokenpulse/cli/main.py.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streams.config.settings import Settings, load_settings
from streams.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from exporters.daily.day.facts import DailyFacts
    from exporters.daily.delivery.deliver import Outcome

FORMATS = ("html", "pdf", "csv", "json", "md")


@click.command()
@click.option(
    "--date",
    default="yesterday",
    show_default=True,
    help="A day of exporter.time_zone: YYYY-MM-DD, yesterday or today.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="Default: as --output ends, else md.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write here; default: print.")
@click.option("--send", is_flag=True, help="Deliver it to whom the settings say (docs/daily.md).")
@click.option("--again", is_flag=True, help="With --send: also to those who have got this day.")
@click.pass_context
def daily(
    ctx: click.Context, date: str, format_: str | None, output: Path | None, send: bool, again: bool
) -> None:  # fmt: skip
    """Show the daily reliability board, or deliver it by e-mail and to Slack.

    Exit status of --send: 0 if everybody has got this day, now or before; 1 if somebody could not
    be reached, and the next run tries them again.
    """
    from exporters.daily.cache import meant
    from exporters.daily.delivery.deliver import recipients

    if again and not send:
        raise click.UsageError("--again goes with --send")
    settings = load_settings(ctx.obj)
    chosen = format_ or _format_of(output)
    shows = output is None and (not send or format_ is not None)
    if chosen == "pdf" and shows and sys.stdout.isatty():
        raise click.UsageError("a PDF is not for the terminal; give --output FILE")
    if send:
        recipients(settings.daily)
    day = meant(date, settings.exporter.time_zone, time.time())
    facts, outcomes = asyncio.run(_work(settings, day, send, again))
    if output is not None:
        _write(output, _rendered(facts, chosen))
    elif shows:
        click.echo(_rendered(facts, chosen), nl=False)
    for outcome in outcomes:
        click.echo(f"{facts.date}: {outcome}", err=outcome.failed)
    if any(outcome.failed for outcome in outcomes):
        sys.exit(1)


async def _work(
    settings: Settings, date: str | None, send: bool, again: bool
) -> "tuple[DailyFacts, list[Outcome]]":
    from exporters.daily.build import DailyKeeper
    from exporters.daily.delivery.deliver import deliver
    from exporters.reference.customers import load_directory
    from slo.policy.loading import load_policies
    from streams.store.redis import connected

    policies = load_policies(settings.exporter.policies)
    customers = load_directory(settings)
    client = connected(settings.redis)
    try:
        facts = await DailyKeeper(settings, policies, client, customers).facts(time.time(), date)
        if facts is None:
            raise RequestError("nothing was counted yet: start a worker and send it events")
        return facts, await deliver(settings, client, facts, again) if send else []
    finally:
        await client.aclose()


def _rendered(facts: "DailyFacts", format_: str) -> bytes:
    from exporters.daily.render.data import csv_text
    from exporters.daily.render.html import html
    from exporters.daily.render.json_text import json_text
    from exporters.daily.render.markdown import markdown
    from exporters.daily.render.pdf import pdf

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
            return markdown(facts).encode()


def _format_of(output: Path | None) -> str:
    """The format that a file's name says."""
    ending = "" if output is None else output.suffix.removeprefix(".").lower()
    return ending if ending in FORMATS else "md"


def _write(output: Path, content: bytes) -> None:
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ConfigError(
            f"--output: cannot write {output}: {error.strerror}; give a path in a directory that "
            "is there"
        ) from error


commands: dict[str, click.Command] = {"daily": daily}
