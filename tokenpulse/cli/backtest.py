"""`tokenpulse backtest`: recorded events against policies."""

import json
from pathlib import Path

import click

from alerts.backtest.alertmanager import load
from alerts.backtest.recording import Recording, read_file, read_topic
from alerts.backtest.report import lines, report
from alerts.backtest.run import input_limits, minutes_until_s, run, thresholds
from alerts.backtest.stack import STEP_S
from alerts.rules.build import unread
from exporters.windows.plan import window_plan
from slo.policy.loading import load_policies
from streams.config.settings import load_settings
from streams.errors import RequestError
from streams.sources.reading import load_mapping
from tokenpulse.event_files import check_event_file
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.option_types import Instant


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE...]")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    default=("default",),
    show_default=True,
    help="A policy, by path or by name of a shipped one; may be given again.",
)
@click.option("--mapping", help="Mapping file, or the name of a shipped one; default: events.")
@click.option("--base", type=Instant(), help="Instant that relative times count from.")
@click.option("--from", "from_s", type=Instant(), help="Evaluate from here; default: all.")
@click.option(
    "--to",
    "to_s",
    type=Instant(),
    help="Evaluate up to here; default: the minute of the last event.",
)
@click.option(
    "--alertmanager",
    type=click.Path(path_type=Path),
    help="Alertmanager's configuration, for the messages; default: the shipped one.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON (docs/backtest.md).")
@click.pass_context
def backtest(
    ctx: click.Context,
    files: tuple[Path, ...],
    policies: tuple[str, ...],
    mapping: str | None,
    base: int | None,
    from_s: int | None,
    to_s: int | None,
    alertmanager: Path | None,
    as_json: bool,
) -> None:
    """Replay recorded events against policies.

    Shows which alerts would have fired, when, and for how long, and the messages that Alertmanager
    would have sent about them. Events come from files, as JSON
    lines or by a mapping; without a file from the configured Kafka topic. The command writes no
    data, and needs no server for files.
    """
    routes = load(alertmanager)
    settings = load_settings(ctx.obj) if files else load_client_settings(ctx.obj)
    in_force = load_policies(policies)
    if mapping is not None and not files:
        raise RequestError("--mapping: is for files; name one, or leave it out")
    # A rule may read a window that the exporter does not publish: it would never fire there.
    for line in unread(in_force, window_plan(settings)):
        click.echo(line, err=True)
    # Slices are whole, so the end is rounded up to the next one.
    end_s = None if to_s is None else -(-to_s // STEP_S) * STEP_S
    recording = Recording(
        settings,
        thresholds(in_force, settings.worker),
        end_s,
        minutes_until_s(in_force, from_s),
        input_limits(in_force, settings.worker),
    )
    columns = None if mapping is None else load_mapping(mapping)
    for file in files:
        if mapping is None:
            check_event_file(file)
        base_ms = None if base is None else base * 1_000
        read_file(recording, file, columns, base_ms, lambda line: click.echo(line, err=True))
    if not files:
        read_topic(recording, settings)
    result = report(run(in_force, settings, recording, from_s), routes)
    if as_json:
        click.echo(json.dumps(result, indent=1))
        return
    for line in lines(result):
        click.echo(line)
