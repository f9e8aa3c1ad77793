"""`tokenpulse rejected`: rejected records, why, and the fix."""

import asyncio
import json
from collections.abc import Iterator

import click

from streams.config.settings import load_settings
from streams.events.fields import REASONS
from streams.query.instants import rfc3339_ms
from streams.query.rejected import RejectedRecord, describe, excerpt, read_rejected


@click.command()
@click.option("--reason", type=click.Choice(REASONS), help="Only records with this reason.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Show this many records, the newest.",
)
@click.option("--show-values", is_flag=True, help="Show keys and values, not only type and size.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Text for people, or a JSON list.",
)
@click.pass_context
def rejected(
    ctx: click.Context, reason: str | None, last: int, show_values: bool, form: str
) -> None:
    """Show rejected records, why they were rejected, and the fix.

    Reads the dead-letter topic beside the workers. Values may be personal data, so they are shown
    only with --show-values.
    """
    records = asyncio.run(read_rejected(load_settings(ctx.obj).kafka, reason, last))
    if form == "json":
        click.echo(json.dumps([record.as_json(show_values) for record in records], indent=1))
        return
    for record in records:
        for line in _lines(record, show_values):
            click.echo(line)
    if not records:
        click.echo("no rejected records")


def _lines(record: RejectedRecord, show_values: bool) -> Iterator[str]:
    yield (
        f"{record.topic}, partition {record.partition}, offset {record.offset}, "
        f"{rfc3339_ms(record.timestamp_ms)}: {record.reason}"
    )
    yield f"  rule   {record.detail}"
    found = record.found()
    if show_values and record.key is not None:
        yield f"  key    {excerpt(record.key)}"
    yield f"  found  {excerpt(found) if show_values and found is not None else describe(found)}"
    yield f"  fix    {record.fix}"
