"""The `tokenpulse` command. Parses, loads the settings, calls; errors become one line.

The one place that knows both sides: commands import what they run only when they run it.
"""

import sys
from pathlib import Path
from typing import Any

import click

from streams.config import ConfigError, Settings, load_settings


class OneLineErrors(click.Group):
    """Turns the errors a person can do something about into one line and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """See click."""
        try:
            return super().invoke(ctx)
        except (ConfigError, UserError) as error:
            for line in str(error).splitlines():
                click.echo(f"tokenpulse: {line}", err=True)
            sys.exit(2)


class UserError(RuntimeError):
    """Something the person at the terminal can mend; the message is one line and says how."""


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", type=click.Path(path_type=Path), help="YAML file with settings.")
@click.version_option(package_name="tokenpulse", prog_name="tokenpulse")
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Real-time reliability monitor for companies that serve LLMs over an API."""
    ctx.obj = config


def _settings(ctx: click.Context, **overrides: Any) -> Settings:
    return load_settings(ctx.obj, overrides)


@main.command()
@click.pass_context
def worker(ctx: click.Context) -> None:
    """Consume events and keep the state in Redis."""
    from streams.app import run_worker

    run_worker(_settings(ctx))


if __name__ == "__main__":
    main()
