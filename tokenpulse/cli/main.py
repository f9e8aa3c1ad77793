"""The `tokenpulse` command.

A command's module is imported when that command runs, so that `tokenpulse --help` and the health
checks of containers start fast, and a worker loads no code of the exporter. Errors that a person
can fix become one line and exit status 2.
"""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from streams.errors import TokenpulseError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

# Name of a command: `module:attribute` below tokenpulse.cli, and the first line of its help.
COMMANDS = {
    "backtest": ("backtest:backtest", "Replay recorded events against policies."),
    "business": (
        "business.revenue:business",
        "Compute revenue of accounts over time (docs/business.md).",
    ),
    "config": ("servers:config", "Show and check the settings."),
    "daily": ("daily:daily", "Show the daily reliability board, or deliver it."),
    "exporter": (
        "processes.exporter:exporter",
        "Serve the state as Prometheus metrics and boards.",
    ),
    "incident": (
        "announcements.incident:incident",
        "Write incidents on the public status page (docs/status.md).",
    ),
    "intake": ("processes.intake:intake", "Take events of producers over HTTP (docs/intake.md)."),
    "maintenance": ("sla:maintenance", "Manage windows whose minutes do not count (docs/sla.md)."),
    "mapping": ("mapping:mapping", "Move mappings from YAML to SQL."),
    "partitions": (
        "operator.partitions:partitions",
        "List partitions, resume halted ones, and set a watermark back.",
    ),
    "policy": ("policy:policy", "Check policies, and import them from OpenSLO."),
    "prices": (
        "business.prices:prices",
        "Import and check price lists, and compute costs of requests (docs/price-lists.md).",
    ),
    "produce": ("traffic:produce", "Send events from a file to Kafka unchanged."),
    "rejected": (
        "rejected:rejected",
        "Show rejected records and fields, why they were rejected, and the fix.",
    ),
    "replay": ("replay:replay", "Send recorded requests through the whole pipeline."),
    "report": ("report:report", "Query the state: requests, tokens, latencies, availability."),
    "rules": ("rules:rules", "Compile policies to alerting rules (docs/alerting.md)."),
    "scenario": ("scenario:scenario", "Cause faults in running simulated traffic."),
    "simulate": ("traffic:simulate", "Send simulated traffic, with faults on request."),
    "sla": (
        "sla:sla",
        "Show every objective with an error budget: its status, credits and adjustments.",
    ),
    "state": ("operator.state:state", "Check the stored state for damage, and repair it."),
    "topics": ("servers:topics", "Create Kafka topics."),
    "try": (
        "attempt:try_",
        "Show which mapping reads a file, and ten events as they would be counted.",
    ),
    "up": ("up:up", "Run the whole stack on this machine, with simulated traffic."),
    "worker": ("processes.worker:worker", "Consume events and keep the state in Redis."),
}
HEALTH_COMMANDS = {
    "events": ("health.events:events", "Check that Kafka received an event recently."),
    "exporter": ("health.exporter:exporter", "Check that the exporter on this host is ready."),
    "intake": ("health.intake:intake", "Check that the intake on this host is ready."),
    "worker": ("health.worker:worker", "Check that the worker on this host makes progress."),
}


class LazyGroup(click.Group):
    """A group that imports the module of a command on demand.

    Listing the commands imports none of them.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*self.lazy, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        # Groups below this one, such as `health`, are commands already.
        if cmd_name not in self.lazy:
            return self.commands.get(cmd_name)
        module, attribute = self.lazy[cmd_name][0].split(":")
        command = getattr(importlib.import_module(f"tokenpulse.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands for `--help`."""
        lines = {name: line for name, (_, line) in self.lazy.items()}
        lines |= {name: command.get_short_help_str(80) for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(lines.items()))


class OneLineErrors(click.Group):
    """Print an error that a person can fix as one line, and exit with status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        # Any other exception is a defect and keeps its traceback.
        except TokenpulseError as error:
            for line in str(error).splitlines():
                click.echo(f"tokenpulse: {_printable(line)}", err=True)
            # As click exits for wrong usage; 1 is the answer of a check that failed.
            sys.exit(2)
        except click.UsageError as error:
            _exit_with_usage(error, f"{ctx.command_path} {ctx.invoked_subcommand or ''}".strip())

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the options of the root command."""
        try:
            return super().make_context(*args, **options)
        except click.UsageError as error:
            _exit_with_usage(error, "tokenpulse")


def _exit_with_usage(error: click.UsageError, command: str) -> NoReturn:
    """Print a wrong argument as one line that names the help, and exit with its status.

    `command`: the command whose help is named if the error has none.
    """
    # Without arguments a group shows its help, which is the message of this error.
    if isinstance(error, NoArgsIsHelpError):
        raise error
    if error.ctx is not None:
        command = error.ctx.command_path
    # Click lists the choices of a missing argument on lines of their own.
    problem = " ".join(error.format_message().split()).removesuffix(".")
    problem += "" if problem.endswith("?") else ";"
    click.echo(f"Error: {_printable(problem)} see `{command} --help`", err=True)
    sys.exit(error.exit_code)


def _printable(line: str) -> str:
    """Return a line with its control characters escaped: a file's name may contain some."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in line
    )


class _Main(OneLineErrors, LazyGroup):
    """The root command."""


@click.group(cls=_Main, lazy=COMMANDS, context_settings=CONTEXT)
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings.")
@click.version_option(package_name="tokenpulse", prog_name="tokenpulse")
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Real-time reliability monitor for companies that serve LLMs over an API."""
    ctx.obj = config


@main.group(cls=LazyGroup, lazy=HEALTH_COMMANDS)
def health() -> None:
    """Check that a part of Tokenpulse works (for containers).

    Exit status 1 with the reason if it does not. Each check asks for progress, not for an open
    port.
    """


if __name__ == "__main__":
    main()
