"""`tokenpulse report`: query the state."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from streams.config.settings import load_settings
from streams.errors import ConfigError
from streams.query.hdr_log import write_hdr_log
from streams.query.report import Question, build, query
from tokenpulse.option_types import Instant, Span
from tokenpulse.redis_call import run_with_redis

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--from", "from_s", type=Instant(), help="Start; default: oldest data."),
    click.option("--to", "to_s", type=Instant(), help="End; default: newest data."),
    click.option(
        *("--step", "step_s"),
        type=Span(),
        default="5m",
        show_default=True,
        help="Length of a step, 10s to 1d.",
    ),
    click.option(
        "--by",
        default="",
        help="Groups: model, region, channel, service_tier; or customer[,model].",
    ),
    click.option(
        *("--as-of", "as_of_s"),
        type=Instant(),
        help="Answer as at this instant; default: the newest event.",
    ),
)


def question_options(command: Command) -> Command:
    """Add the options of a question to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def parse_question(
    from_s: int | None, to_s: int | None, step_s: int, by: str, as_of_s: int | None
) -> Question:
    """Build the question from its options. Raises RequestError."""
    dimensions = tuple(part.strip() for part in by.split(",") if part.strip())
    return Question(from_s, to_s, step_s, dimensions, as_of_s)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON (docs/report.schema.json).")
@click.option(
    "--hdr",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the latencies as an HdrHistogram interval log (docs/report.md).",
)
@question_options
@click.pass_context
def report(ctx: click.Context, /, as_json: bool, hdr: Path | None, **options: Any) -> None:
    """Query the state: requests, tokens, latencies, availability."""
    settings = load_settings(ctx.obj)
    question = parse_question(**options)
    kafka = settings.kafka
    answer = run_with_redis(
        settings, lambda client: query(client, kafka.group, kafka.topic, question)
    )
    if hdr is not None:
        try:
            with hdr.open("w", encoding="ascii") as file:
                write_hdr_log(answer, file)
        except OSError as error:
            raise ConfigError(f"--hdr: cannot write {hdr}: {error.strerror}") from error
    measures = build(answer)
    if as_json:
        click.echo(json.dumps(measures, indent=1))
    else:
        print_measures(measures)


def print_measures(report: dict[str, Any]) -> None:
    """Print the total of a report as a short table."""
    total = report["total"]
    click.echo(f"{report['from']} to {report['to']}")
    if not total["complete"]:
        click.echo("  INCOMPLETE: records of this time are missing; --json lists the gaps")
    rows = [
        ("requests", f"{total['requests']:,}"),
        ("duplicates", f"{total['duplicates']:,}"),
        ("tokens", f"{total['tokens']['total']:,}"),
        ("cache hit", _percent(total.get("cache_hit_ratio"))),
        ("available", _percent(total.get("availability_ratio"))),
    ]
    for name in ("ttft", "tpot", "duration"):
        latency = total.get(f"{name}_seconds", {"count": 0})
        value = "unknown"
        if latency["count"]:
            value = f"P95 {latency['p95'] * 1_000:,.1f} ms of {latency['count']:,}"
        rows.append((name, value))
    for name, value in rows:
        click.echo(f"  {name:<12}{value}")


def _percent(ratio: float | None) -> str:
    return "unknown" if ratio is None else f"{100 * ratio:.3f} %"
