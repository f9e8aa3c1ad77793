"""`tokenpulse rejected`: rejected records and fields, why, and the fix."""

import json
from collections.abc import Iterator

import click

from streams.events.fields import FIELD_REASONS, REASONS
from streams.query.instants import rfc3339_ms
from streams.query.rejected import RejectedRecord, describe, excerpt, read_rejected
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.redis_call import run_with_redis


@click.command()
@click.option(
    "--reason",
    type=click.Choice(sorted({*REASONS, *FIELD_REASONS})),
    help="Only records with this reason.",
)
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
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
    """Show rejected records and fields, why they were rejected, and the fix.

    Whole records are in the dead-letter topic. Of records that were counted without a wrong field,
    a few are shown. Values may be personal data, so they are shown only with --show-values.
    """
    settings = load_client_settings(ctx.obj)
    records = run_with_redis(
        settings, lambda client: read_rejected(settings.kafka, client, reason, last)
    )
    if form == "json":
        click.echo(json.dumps([record.as_json(show_values) for record in records], indent=1))
        return
    for record in records:
        for line in _lines(record, show_values):
            click.echo(line)
    if not records:
        click.echo("no rejected records or fields")


def _lines(record: RejectedRecord, show_values: bool) -> Iterator[str]:
    place = f"partition {record.partition}, offset {record.offset}"
    if record.index is not None:
        place = f"record {record.index} of its request"
    yield f"{record.topic}, {place}, {rfc3339_ms(record.timestamp_ms)}: {record.reason}"
    yield f"  rule   {record.detail}"
    value = record.field_value()
    if show_values and record.key is not None:
        yield f"  key    {excerpt(record.key)}"
    yield f"  found  {excerpt(value) if show_values and value is not None else describe(value)}"
    if record.cost is not None:
        yield f"  cost   {record.cost}"
    yield f"  fix    {record.fix}"
