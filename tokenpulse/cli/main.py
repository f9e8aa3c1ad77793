"""The `tokenpulse` command. Parses, loads the settings, calls; errors become one line.

The one place that knows both sides: commands import what they run only when they run it.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from streams.config.settings import Settings, load_settings
from streams.errors import ConfigError, TokenpulseError
from tokenpulse.cli.health import health
from tokenpulse.cli.partitions import partitions
from tokenpulse.cli.scenario import scenario
from tokenpulse.cli.types import Instant, Span

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class OneLineErrors(click.Group):
    """Turns the errors a person can do something about into one line and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """See click."""
        try:
            return super().invoke(ctx)
        except TokenpulseError as error:
            for line in str(error).splitlines():
                click.echo(f"tokenpulse: {line}", err=True)
            sys.exit(2)


class Commands(OneLineErrors):
    """Knows the commands of `alerts` and `exporters` too, whose code is loaded when one is asked
    for: they come after streams."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click."""
        from tokenpulse.cli.daily import commands as daily_commands
        from tokenpulse.cli.policy import commands

        return sorted([*super().list_commands(ctx), *commands, *daily_commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click."""
        if (own := super().get_command(ctx, cmd_name)) is not None:
            return own
        from tokenpulse.cli.daily import commands as daily_commands
        from tokenpulse.cli.policy import commands

        return {**commands, **daily_commands}.get(cmd_name)


@click.group(cls=Commands, context_settings=CONTEXT)
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings.")
@click.version_option(package_name="tokenpulse", prog_name="tokenpulse")
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Real-time reliability monitor for companies that serve LLMs over an API."""
    ctx.obj = config


def _settings(ctx: click.Context, overrides: dict[str, Any] | None = None) -> Settings:
    return load_settings(ctx.obj, overrides)


@main.command()
@click.pass_context
def up(ctx: click.Context) -> None:
    """Run everything on this machine: broker, Redis, worker, exporter, simulated traffic."""
    from tokenpulse.local.up import run_up

    sys.exit(run_up(_settings(ctx)))


@main.command()
@click.pass_context
def worker(ctx: click.Context) -> None:
    """Consume events and keep the state in Redis."""
    from streams.worker.app import run_worker

    run_worker(_settings(ctx))


@main.command()
@click.pass_context
def exporter(ctx: click.Context) -> None:
    """Serve the state as Prometheus metrics."""
    from exporters.server.http import run_exporter

    sys.exit(run_exporter(_settings(ctx)))


def _question_options(command: Any) -> Any:
    for option in reversed(
        (
            click.option("--from", "from_s", type=Instant(), help="Begin; default: oldest data."),
            click.option("--to", "to_s", type=Instant(), help="End; default: newest data."),
            click.option(
                "--step", "step_s", type=Span(), default="5m", show_default=True,
                help="Length of a step, 10s to 1d.",
            ),
            click.option(
                "--by", default="",
                help="Groups: model, region, channel, service_tier; or customer[,model].",
            ),
            click.option(
                "--as-of", "as_of_s", type=Instant(),
                help="Answer as at this instant; default: the newest event.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def _question(
    from_s: int | None, to_s: int | None, step_s: int, by: str, as_of_s: int | None
) -> Any:
    from streams.query.report import Question

    dimensions = tuple(part.strip() for part in by.split(",") if part.strip())
    return Question(from_s, to_s, step_s, dimensions, as_of_s)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--mapping", required=True, help="Mapping file, or the name of a shipped one.")
@click.option("--as-recorded", is_flag=True, help="Keep the file's times; default: end now.")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Times real time.")
@click.option("--base", type=Instant(), help="Instant that relative times count from.")
@click.option("--bootstrap", help="Use this Kafka and running workers, not an embedded stack.")
@click.option("--redis-url", help="The Redis of those workers.", envvar="TOKENPULSE_REDIS__URL")
@click.option("--report-json", type=click.Path(path_type=Path), help="Write the report here.")
@_question_options
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
    **question: Any,
) -> None:
    """Send recorded requests through the whole path; exit when all are counted.

    Exit status 0: every row was counted or reported. 1: some were neither. 2: it could not run.
    """
    from streams.sources.mapping import load_mapping
    from tokenpulse.local.replay import Replay, run_replay

    overrides: dict[str, Any] = {}
    if bootstrap:
        overrides["kafka"] = {"bootstrap": bootstrap}
    if redis_url:
        overrides["redis"] = {"url": redis_url}
    settings = _settings(ctx, overrides)
    external = "bootstrap" in settings.kafka.model_fields_set
    what = Replay(
        file,
        load_mapping(mapping),
        as_recorded,
        speed,
        None if base is None else base * 1_000,
        _question(**question),
    )
    outcome = run_replay(settings, what, external, lambda line: click.echo(line, err=True))
    if report_json is not None:
        report_json.write_text(json.dumps(outcome.report, indent=1) + "\n")
    refused = {} if outcome.report is None else outcome.report["total"]["refused"]
    click.echo(
        f"{outcome.rows} rows: {outcome.counted} counted, {outcome.refused} refused"
        + (f" ({_listed(refused)})" if outcome.refused else "")
        + f", {outcome.unmapped} could not be mapped"
    )
    if outcome.report is not None:
        _print_measures(outcome.report)
    if not outcome.complete:
        click.echo("tokenpulse: some rows were neither counted nor reported", err=True)
        sys.exit(1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON (docs/report.schema.json).")
@_question_options
@click.pass_context
def report(ctx: click.Context, /, as_json: bool, **question: Any) -> None:
    """Answer from the state: requests, tokens, cache hits, latencies, availability."""
    from streams.query.report import make_report
    from streams.store.redis import connected

    settings = _settings(ctx)

    async def ask() -> dict[str, Any]:
        client = connected(settings.redis)
        try:
            return await make_report(
                client, settings.kafka.group, settings.kafka.topic, _question(**question)
            )
        finally:
            await client.aclose()

    answer = asyncio.run(ask())
    if as_json:
        click.echo(json.dumps(answer, indent=1))
    else:
        _print_measures(answer)


def _print_measures(answer: dict[str, Any]) -> None:
    total = answer["total"]
    click.echo(f"{answer['from']} to {answer['to']}")
    if not total["complete"]:
        click.echo("  INCOMPLETE: records of this time are missing; --json lists the gaps")
    rows = [
        ("requests", f"{total['requests']:,}"),
        ("duplicates", f"{total['duplicates']:,}"),
        ("tokens", f"{total['tokens']['total']:,}"),
        ("cache hit", _share(total.get("cache_hit_ratio"))),
        ("available", _share(total.get("availability_ratio"))),
    ]
    for name in ("ttft", "tpot", "duration"):
        found = total.get(f"{name}_seconds", {"count": 0})
        shown = "unknown"
        if found["count"]:
            shown = f"P95 {found['p95'] * 1_000:,.1f} ms of {found['count']:,}"
        rows.append((name, shown))
    for name, shown in rows:
        click.echo(f"  {name:<12}{shown}")


def _share(ratio: float | None) -> str:
    return "unknown" if ratio is None else f"{100 * ratio:.3f} %"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


@main.command()
@click.argument("file", type=click.Path(path_type=Path), default="-")
@click.pass_context
def produce(ctx: click.Context, file: Path) -> None:
    """Send version-1 events, one JSON object a line, to Kafka as they are. `-`: standard input."""
    from streams.simulator.runner import open_events
    from streams.simulator.runner import produce as send

    try:
        with open_events(file) as source:
            sent = asyncio.run(send(_settings(ctx), source))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; check the path") from error
    click.echo(f"{sent} events sent")


@main.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same traffic.")
@click.option("--scenarios", help="Timeline file, or the name of a shipped one.")
@click.option("--for", "for_s", type=Span(), help="Stop after this long; default: never.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Mean events a second.")
@click.option("--ending-now", is_flag=True, help="Send the last --for at once, as fast as it goes.")
@click.option(
    "--past", "past_s", type=Span(), default="0s",
    help="Send this much of the past first, but for what this --seed has sent before.",
)  # fmt: skip
@click.pass_context
def simulate(
    ctx: click.Context,
    seed: int,
    scenarios: str | None,
    for_s: int | None,
    rate: float | None,
    ending_now: bool,
    past_s: int,
) -> None:
    """Send simulated traffic that looks real, with faults on request (see `scenario`)."""
    from streams.simulator.generator import NOTHING_PLANNED
    from streams.simulator.runner import simulate as send
    from streams.simulator.runner import simulate_past
    from streams.simulator.timeline import load_timeline

    if ending_now and (for_s is None or past_s):
        raise click.UsageError("--ending-now needs --for, and takes no --past")
    settings = _settings(ctx, {"local": {"events_per_s": rate}} if rate else None)
    timeline = load_timeline(scenarios) if scenarios else NOTHING_PLANNED
    if ending_now and for_s is not None:
        sending = simulate_past(settings, seed, timeline, for_s)
    else:
        sending = send(settings, seed, timeline, for_s, past_s)
    click.echo(f"{asyncio.run(sending)} records sent")


@main.group()
def topics() -> None:
    """Kafka topics."""


@topics.command("create")
@click.pass_context
def topics_create(ctx: click.Context) -> None:
    """Make the event topic and the dead-letter topic, with partitions, retention and sizes."""
    from streams.kafka.topics import create_topics

    for topic in asyncio.run(create_topics(_settings(ctx))):
        click.echo(str(topic))


main.add_command(health)
main.add_command(partitions)
main.add_command(scenario)


@main.group()
def config() -> None:
    """Settings."""


@config.command("check")
@click.pass_context
def config_check(ctx: click.Context) -> None:
    """Read the settings, ask Kafka and Redis, and show what is in force, without secrets."""
    import yaml

    from streams.config.security import client_kwargs, redis_kwargs
    from streams.config.settings import shown
    from streams.kafka.topics import check_broker
    from streams.store.server_check import check_redis

    settings = _settings(ctx)
    click.echo(yaml.safe_dump(shown(settings), sort_keys=False).rstrip())
    settings.worker.customer_secret()
    asyncio.run(check_broker(settings.kafka.bootstrap, **client_kwargs(settings.kafka)))
    asyncio.run(check_redis(settings.redis.url, **redis_kwargs(settings.redis)))
    click.echo("settings, Kafka and Redis are fine")


if __name__ == "__main__":
    main()
