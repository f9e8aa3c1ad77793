"""`tokenpulse replay`: a file of recorded requests through the whole pipeline."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from streams.config.settings import load_settings
from streams.sources.mapping import load_mapping
from tokenpulse.cli.common import Instant
from tokenpulse.cli.report import parse_question, print_measures, question_options
from tokenpulse.local.replay import Replay, run_replay


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--mapping", required=True, help="Mapping file, or the name of a shipped one.")
@click.option("--as-recorded", is_flag=True, help="Keep the file's times; default: end now.")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Times real time.")
@click.option("--base", type=Instant(), help="Instant that relative times count from.")
@click.option("--bootstrap", help="Use this Kafka and running workers, not an embedded stack.")
@click.option("--redis-url", help="The Redis of those workers.", envvar="TOKENPULSE_REDIS__URL")
@click.option("--report-json", type=click.Path(path_type=Path), help="Write the report here.")
@question_options
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    file: Path,
    mapping: str,
    as_recorded: bool,
    speed: float | None,
    base: int | None,
    bootstrap: str | None,
    redis_url: str | None,
    report_json: Path | None,
    **options: Any,
) -> None:
    """Send recorded requests through the whole pipeline.

    The command ends when all are counted. Exit status 0: every row was counted or reported.
    1: some were neither. 2: it could not run.
    """
    overrides: dict[str, Any] = {}
    if bootstrap:
        overrides["kafka"] = {"bootstrap": bootstrap}
    if redis_url:
        overrides["redis"] = {"url": redis_url}
    settings = load_settings(ctx.obj, overrides)
    task = Replay(
        file,
        load_mapping(mapping),
        as_recorded,
        speed,
        None if base is None else base * 1_000,
        parse_question(**options),
    )
    external = "bootstrap" in settings.kafka.model_fields_set
    outcome = run_replay(settings, task, external, lambda line: click.echo(line, err=True))
    report = outcome.report
    if report_json is not None:
        report_json.write_text(json.dumps(report, indent=1) + "\n")
    rejected = {} if report is None else report["total"]["refused"]
    reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
    click.echo(
        f"{outcome.rows} rows: {outcome.counted} counted, {outcome.refused} refused"
        + (f" ({reasons})" if outcome.refused else "")
        + f", {outcome.unmapped} could not be mapped"
    )
    if report is not None:
        print_measures(report)
    if not outcome.complete:
        click.echo("tokenpulse: some rows were neither counted nor reported", err=True)
        sys.exit(1)
