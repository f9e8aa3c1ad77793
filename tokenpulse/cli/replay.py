"""`tokenpulse replay`: a file of recorded requests through the whole pipeline."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from streams.config.settings import load_settings
from streams.errors import RequestError
from streams.sources.reading import load_mapping
from tokenpulse.cli.report import (
    is_step_given,
    parse_question,
    print_measures,
    print_table,
    question_options,
    report_targets,
)
from tokenpulse.local.replay import Outcome, Replay, run_replay
from tokenpulse.option_types import Instant, PositiveNumber
from tokenpulse.output_files import check_output, write_output


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--mapping", help="Mapping file, or the name of a shipped one; default: events.")
@click.option("--as-recorded", is_flag=True, help="Keep the file's times; default: end now.")
@click.option("--speed", type=PositiveNumber(), help="Times real time.")
@click.option("--base", type=Instant(), help="Instant that relative times count from.")
@click.option("--bootstrap", help="Use this Kafka and running workers, not an embedded stack.")
@click.option("--redis-url", help="The Redis of those workers.", envvar="TOKENPULSE_REDIS__URL")
@click.option(
    "--onto-state",
    is_flag=True,
    help="Accept workers that counted other records; the report includes them.",
)
@click.option(
    "--max-unmapped",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Exit with status 3 if more rows than this cannot be mapped.",
)
@click.option("--report-json", type=click.Path(path_type=Path), help="Write the report here.")
@question_options
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    file: Path,
    mapping: str | None,
    as_recorded: bool,
    speed: float | None,
    base: int | None,
    bootstrap: str | None,
    redis_url: str | None,
    onto_state: bool,
    max_unmapped: int,
    report_json: Path | None,
    **options: Any,
) -> None:
    """Send recorded requests through the whole pipeline.

    Without a mapping the file contains events (docs/events.md), one JSON object a line, gzip or
    not. The command ends when all are counted. Exit status 0: every row was counted or reported. 1:
    no row was counted, or some were neither counted nor reported. 2: it could not run. 3: more rows
    than --max-unmapped could not be mapped.
    """
    overrides: dict[str, Any] = {}
    if bootstrap:
        overrides["kafka"] = {"bootstrap": bootstrap}
    if redis_url:
        overrides["redis"] = {"url": redis_url}
    settings = load_settings(ctx.obj, overrides)
    if report_json is not None:
        # Before the replay, which may take minutes.
        check_output("--report-json", report_json)
    if mapping is None and base is not None:
        raise RequestError("--base: is for relative times of a mapping; name one, or leave it out")
    task = Replay(
        file,
        None if mapping is None else load_mapping(mapping),
        as_recorded,
        speed,
        None if base is None else base * 1_000,
        onto_state,
        parse_question(settings, **options),
    )
    # Without an address a stack of its own is started, and ended with the replay.
    external = "bootstrap" in settings.kafka.model_fields_set
    outcome = run_replay(settings, task, external, lambda line: click.echo(line, err=True))
    report = outcome.report
    if report_json is not None:
        write_output("--report-json", report_json, json.dumps(report, indent=1) + "\n")
    click.echo(_summary(outcome))
    if report is not None:
        targets = report_targets(settings)
        print_measures(report, targets)
        print_table(report, targets, is_step_given(ctx))
    if outcome.foreign:
        click.echo(
            f"tokenpulse: {outcome.foreign} records of other producers were counted meanwhile; the "
            "numbers include them",
            err=True,
        )
    # From the most serious: rows that were lost, none counted, rows not mapped.
    if not outcome.complete:
        _fail(1, "some rows were neither counted nor reported")
    if not outcome.counted:
        _fail(1, "no row was counted")
    if outcome.unmapped > max_unmapped:
        _fail(
            3,
            f"{outcome.unmapped} rows could not be mapped; correct the mapping, or accept them "
            f"with --max-unmapped {outcome.unmapped}",
        )


def _summary(outcome: Outcome) -> str:
    rows = "1 row" if outcome.rows == 1 else f"{outcome.rows} rows"
    parts = [f"{rows}: {outcome.counted} counted"]
    if outcome.duplicates:
        parts.append(f"{outcome.duplicates} duplicates")
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(outcome.refused.items()))
    parts.append(f"{outcome.refused.total()} rejected" + (f" ({reasons})" if reasons else ""))
    parts.append(f"{outcome.unmapped} could not be mapped")
    if outcome.left_out:
        parts.append(f"{outcome.left_out} fields left out")
    if outcome.skipped:
        parts.append(f"{outcome.skipped} records left out (no requests)")
    return ", ".join(parts)


def _fail(status: int, problem: str) -> NoReturn:
    click.echo(f"tokenpulse: {problem}", err=True)
    sys.exit(status)
