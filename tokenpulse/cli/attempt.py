"""`tokenpulse try`: what a file contains, and how it would be counted."""

import shlex
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import click

from exporters.formatting import latency
from streams.intake.otlp.decode import FORMATS
from streams.sources.events import EVENTS
from streams.sources.guess import (
    ROWS,
    Guess,
    contract_events,
    guesses,
    read_sample,
    read_with,
)
from streams.sources.reading import load_mapping
from streams.sources.rows import Row
from streams.sources.sql_mapping import SqlMapping
from streams.sources.starter import starter
from tokenpulse import span_sample
from tokenpulse.report_tables import table
from tokenpulse.unread_sample import check_bytes, inner_guesses, unread

_SHOWN = 10  # events, and failures
_MODEL_MAX = 40  # characters; the last part of a path is the name
_COLUMNS = ("input_tokens", "cached_input_tokens", "output_tokens")


@click.command("try")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--mapping", help="Try this mapping, and not all shipped ones.")
def try_(file: Path, mapping: str | None) -> None:
    """Show which mapping reads a file, and ten events as they would be counted.

    The first 200 rows are read, and sent nowhere. For a topic, save some of its records to a file,
    one a line; OTLP traces are recognised too. If no mapping fits, it says why, or prints one to
    begin with. Exit status 1: none fits.
    """
    guess, others = _best(file, mapping)
    if guess is None:
        records, problem = unread(file)
        if problem is not None:
            click.echo(f"tokenpulse: {file}: {problem}", err=True)
            sys.exit(1)
        click.echo(f"{file}: no shipped mapping fits. A mapping to begin with:\n", err=True)
        draft = starter(records)
        click.echo(draft, nl=False)
        rows = read_with(SqlMapping(draft, "draft"), [*records], file)
        click.echo(f"\n{_counts(rows)}", err=True)
        click.echo("Save it as my.sql and try it with --mapping my.sql", err=True)
        sys.exit(1)
    for line in _lines(file, guess, others):
        click.echo(line)
    # A named mapping may read the file and find no event.
    if not guess.rows:
        sys.exit(1)


def _best(file: Path, name: str | None) -> tuple[Guess | None, list[str]]:
    """Return the best guess and the names of other mappings that fit. Raises UnreadableFile."""
    if name is not None:
        return read_sample(file, load_mapping(name)), []
    check_bytes(file)
    # Files that need no mapping are recognised first.
    if known := contract_events(file) or span_sample.read(file):
        return known, []
    fitting = guesses(file) or inner_guesses(file)
    return (fitting[0] if fitting else None), [guess.name for guess in fitting[1:]]


def _lines(file: Path, guess: Guess, others: list[str]) -> Iterator[str]:
    yield f"source   {guess.name}: {guess.about}" + (
        f"; also {', '.join(others)}" if others else ""
    )
    yield _counts(guess)
    yield from (f"  {reason}" for reason in guess.reasons[:_SHOWN])
    for failure in guess.failures[:_SHOWN]:
        yield f"  line {failure.line}: {failure.problem}"
    for row in islice((row for row in guess.rows if row.problems), _SHOWN):
        yield from (f"  line {row.line}: {problem}" for problem in row.problems)
    if guess.rows:
        absent, partly = guess.unknown()
        yield f"unknown  {', '.join(absent) or 'no field'}"
        if partly:
            shares = ", ".join(f"{field} ({share:.0%})" for field, share in partly.items())
            yield f"partly   {shares} of the events"
        if guess.local_time is not None:
            yield f"times    without a zone are read as UTC, as {guess.local_time}"
        for verdict, count in guess.verdicts().most_common():
            yield f"worker   {verdict} ({count} events)"
        yield ""
        yield from table([_HEAD, *map(_cells, guess.rows[:_SHOWN])])
    yield ""
    yield from _uses(file, guess)


def _counts(guess: Guess) -> str:
    return (
        f"rows     {len(guess.rows)} events, {guess.skipped} left out, "
        f"{len(guess.failures)} could not be mapped (of the first {ROWS})"
    )


def _uses(file: Path, guess: Guess) -> Iterator[str]:
    """Yield how to count the file, and how a topic of such records."""
    records = shlex.quote(str(file))
    if guess.extraction:
        extraction = guess.extraction.replace("{file}", records)
        records = shlex.quote(f"{file.name}.jsonl")
        yield f"records  {extraction} > {records}"
    # Spans come from Kafka or over HTTP only.
    if guess.name not in FORMATS:
        option = "" if guess.name == EVENTS else f" --mapping {guess.name}"
        yield f"replay   tokenpulse replay {records}{option}"
    else:
        yield 'file     POST it to /v1/traces of an intake (docs/otlp.md, "A file of traces")'
    # A topic of events needs no intake.
    if guess.name != EVENTS:
        source = f"{{topic: TOPIC, format: {guess.name}}}"
        need = ", once its records are those alone" if guess.extraction else ""
        yield f"topic    intake: {{sources: [{source}]}} (docs/intake.md){need}"


_HEAD = ("line", "ended at", "model", "outcome", "ttft", "duration", "input", "cached", "output")


def _cells(row: Row) -> tuple[str, ...]:
    event = row.event
    at = datetime.fromtimestamp(row.ended_at_ms / 1_000, UTC)
    times = (event.get(name) for name in ("ttft_ms", "duration_ms"))
    return (
        str(row.line),
        f"{at:%Y-%m-%dT%H:%M:%S}Z",
        # The end of a path tells more than its begin.
        str(event.get("model", "unknown"))[-_MODEL_MAX:],
        str(event.get("outcome", event.get("status_code", ""))),
        *("-" if ms is None else latency(ms / 1_000) for ms in times),
        *(str(event.get(name, "-")) for name in _COLUMNS),
    )
