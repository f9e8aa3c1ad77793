"""`tokenpulse report`: query the state."""

import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from exporters.daily.day.facts import BoardTargets
from exporters.daily.day.metrics import board_targets
from exporters.formatting import UNKNOWN, count, counted, known_for, known_tokens, latency, percent
from exporters.reference.customers import Customers, follow_tokens, load_directory
from slo.policy.loading import load_policies
from slo.policy.targets import targets_of
from streams.config.settings import Settings
from streams.query.hdr_log import write_hdr_log
from streams.query.report import Question, build, query
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.option_types import Instant, TimeSpan
from tokenpulse.output_files import check_output, write_output
from tokenpulse.redis_call import run_with_redis
from tokenpulse.report_tables import report_table

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--from", "from_s", type=Instant(), help="Start; default: oldest data."),
    click.option("--to", "to_s", type=Instant(), help="End; default: newest data up to now."),
    click.option(
        *("--step", "step_s"),
        type=TimeSpan(),
        default="5m",
        show_default=True,
        help="Length of a step, 10s to 1d; if given, the text has a table of the steps.",
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
    # Reversed, as each decorator goes before those applied earlier: `--help` keeps the order.
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def parse_question(
    settings: Settings,
    from_s: int | None,
    to_s: int | None,
    step_s: int,
    by: str,
    as_of_s: int | None,
) -> Question:
    """Return the question of some options. Raises RequestError."""
    dimensions = tuple(part.strip() for part in by.split(",") if part.strip())
    return Question(from_s, to_s, step_s, dimensions, as_of_s, settings.latency.apart_tiers)


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
    settings = load_client_settings(ctx.obj)
    question = parse_question(settings, **options)
    if hdr is not None:
        # Before the query, which may take long.
        check_output("--hdr", hdr)
    # Without customers in the answer, a client needs neither the directory nor the key of its ids.
    with_names = "customer" in question.by and not as_json
    directory = load_directory(settings) if with_names else {}
    kafka = settings.kafka
    answer = run_with_redis(
        settings, lambda client: query(client, kafka.group, kafka.topic, question)
    )
    follow_tokens(directory, answer.tokens)
    for line in answer.damage:
        click.echo(
            f"tokenpulse: left out, as it is damaged: {line}; see `tokenpulse state check`",
            err=True,
        )
    if hdr is not None:
        log = StringIO()
        write_hdr_log(answer, log)
        write_output("--hdr", hdr, log.getvalue())
    measures = build(answer)
    if as_json:
        click.echo(json.dumps(measures, indent=1))
    else:
        targets = report_targets(settings)
        print_measures(measures, targets)
        print_table(measures, targets, is_step_given(ctx), Customers(directory).name_of)


def is_step_given(ctx: click.Context) -> bool:
    """Return whether the command line gives `--step`."""
    return ctx.get_parameter_source("step_s") is not ParameterSource.DEFAULT


def print_table(
    report: dict[str, Any],
    targets: BoardTargets,
    by_step: bool,
    name_of: Callable[[str], str] = str,
) -> None:
    """Print the table of a report below its total, if it has groups or `--step` was given."""
    for at, line in enumerate(report_table(report, targets, by_step, name_of)):
        click.echo(line if at else f"\n{line}")


def report_targets(settings: Settings) -> BoardTargets:
    """Return the fleet's targets: a number that misses its target never reads as if it met it."""
    return board_targets(targets_of(load_policies(settings.exporter.policies)))


def print_measures(report: dict[str, Any], targets: BoardTargets) -> None:
    """Print the total of a report as a short table."""
    total = report["total"]
    click.echo(f"{report['from']} to {report['to']}")
    settled_until = report["settled_until"]
    # Later steps may still grow, which the next line tells.
    settled = [step for step in report["steps"] if step["start"] < settled_until]
    if not all(step["measures"]["complete"] for step in settled):
        click.echo("  INCOMPLETE: records of this time are missing; --json lists the gaps")
    if [step["start"] for step in report["steps"][-1:]] == [settled_until]:
        # The usual case while events arrive, so it is no warning.
        click.echo(f"  the step from {settled_until} is not over, or not all of it is read yet")
    elif settled_until != report["to"]:
        click.echo(
            f"  NOT COMPLETE after {settled_until}: a worker is behind, or too few events came to "
            "confirm the time of the newest; what was counted is shown, and more may follow"
        )
    if later := report["later"]:
        click.echo(
            f"  NOT INCLUDED: {counted(later['requests'], 'request')} after {report['to']}, up to "
            f"{later['until']} (a clock far ahead); --to shows them"
        )
    rows = [
        ("requests", count(total["requests"])),
        ("duplicates", count(total["duplicates"])),
        ("tokens", _tokens(total)),
        (
            "cache hit",
            percent(total.get("cache_hit_ratio"), targets.cache_hit_ratio)
            + _known_note(total, "cached_input", "input tokens"),
        ),
        ("available", percent(total.get("availability_ratio"), targets.availability_ratio)),
    ]
    latency_targets = {"ttft": targets.ttft_p95_s, "tpot": targets.tpot_p95_s, "duration": None}
    if total.get("first_visible_seconds", {}).get("count"):  # few models have it
        latency_targets["first_visible"] = None
    for name, target_s in latency_targets.items():
        quantiles = total.get(f"{name}_seconds", {"count": 0})
        samples = quantiles["count"]
        value = (
            f"P95 {latency(quantiles['p95'], target_s)} of {count(samples)}" if samples else UNKNOWN
        )
        rows.append((name.replace("_", " "), value))
    rows += _counted_apart(total)
    for name, value in rows:
        click.echo(f"  {name:<{max(12, len(name) + 2)}}{value}")


def _tokens(total: dict[str, Any]) -> str:
    """Return the tokens, and for which share of the requests they are known if not for all."""
    ratio = total["known_ratio"].get("tokens")
    text = known_tokens(total["tokens"]["total"], ratio)
    if ratio == 0:
        return f"{text}, known for 0 % of requests"
    return text + _known_note(total, "tokens", "requests")


def _known_note(total: dict[str, Any], measure: str, of: str) -> str:
    """Return for which share of `of` a measure is known; empty if it is for all or for none."""
    share = total["known_ratio"].get(measure)
    # A value that is known for none is unknown itself.
    words = known_for(share, of) if share else ""
    return f", {words}" if words else ""


def _counted_apart(total: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield rows for what many services never have: attempts, client errors, endings, faults."""
    provider = total["provider"]
    ratio = provider.get("availability_ratio")
    # Equal if each request had one attempt, and none was answered from a response cache.
    if (provider["attempts"], ratio) != (total["requests"], total.get("availability_ratio")):
        available = percent(ratio)
        yield "attempts", f"{count(provider['attempts'])}, {available} available of the provider"
    if streams := {name: n for name, n in total["failures"].items() if n}:
        # `unknown 3` alone would read as if the number were unknown.
        parts = [
            f"{count(n)} {'with unknown stream' if name == UNKNOWN else name}"
            for name, n in streams.items()
        ]
        yield "failed", f"{count(sum(streams.values()))}: {', '.join(parts)}"
    if errors := total["client_errors"]:
        yield "client", ", ".join(f"{name} {count(errors[name])}" for name in errors)
    if ends := total["endings"]:
        yield "endings", ", ".join(f"{name} {count(ends[name]['requests'])}" for name in ends)
    if changed := total["tier_changed"]:
        yield "tiers", f"{counted(changed, 'request')} served at another tier than requested"
    faults = [
        f"{field} {reason} {count(records)}"
        for field, by_reason in total["field_faults"].items()
        for reason, records in by_reason.items()
    ]
    if faults:
        yield "faults", ", ".join(faults)
